"""Descriptors for a tracker: of the boxes in a video frame, and of the frames of a track.

embedder = Embedder(load_model("last.ckpt"))
found = embedder(frame_bgr, boxes)
tracklet.add(found.features[0], found.quality[0])
"""

from aaformer_lit.tracking.embedder import Embedded, Embedder
from aaformer_lit.tracking.tracklet import Tracklet, tracklet_descriptor

__all__ = ["Embedded", "Embedder", "Tracklet", "tracklet_descriptor"]
