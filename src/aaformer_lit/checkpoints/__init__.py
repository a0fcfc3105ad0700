"""From a file to a network, and from a training to a file that survives."""
