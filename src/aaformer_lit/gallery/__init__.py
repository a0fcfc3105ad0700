"""Own images, found again: features of many person images on disk, and who among them looks most like a query.

extractor = Extractor.from_checkpoint("last.ckpt")
gallery, changes = update(create_for(extractor, "gallery", "images"), extractor, find_crops("images"))
index = gallery.indexed(FaissFlat(), "part_1")
found = rank(gallery, index, gallery.layout.select(extractor.features([pixels]), "part_1"), k=10)
"""

from aaformer_lit.gallery.decisions import decide, find_calibration
from aaformer_lit.gallery.extractor import Extractor
from aaformer_lit.gallery.index.base import NO_ROW, Index, Neighbors
from aaformer_lit.gallery.index.faiss import FaissFlat, FaissIVFPQ
from aaformer_lit.gallery.index.qdrant import Qdrant
from aaformer_lit.gallery.layout import ALL, Layout
from aaformer_lit.gallery.ranking import rank, reranked, verdicts
from aaformer_lit.gallery.sources import Crop, find_crops
from aaformer_lit.gallery.store import Gallery
from aaformer_lit.gallery.update import Changes, check_same_model, create_for, update
from aaformer_lit.utils.moved import renamed

__all__ = [
    "ALL",
    "NO_ROW",
    "Changes",
    "Crop",
    "Extractor",
    "FaissFlat",
    "FaissIVFPQ",
    "Gallery",
    "Index",
    "Layout",
    "Neighbors",
    "Qdrant",
    "check_same_model",
    "create_for",
    "decide",
    "find_calibration",
    "find_crops",
    "rank",
    "reranked",
    "update",
    "verdicts",
]
__getattr__ = renamed(__name__, NOWHERE="NO_ROW", Neighbours="Neighbors")
