"""The Trainer's side of Lightning: module, callbacks, loggers, and the only place that touches its private parts."""
