"""Assigners: how patches are grouped into parts; a loss that teaches their scores; `sinkhorn`, the function of Eq. 3-5."""

from aaformer_lit.assign.base import Assigner
from aaformer_lit.assign.everyone import Everyone
from aaformer_lit.assign.gumbel import Gumbel
from aaformer_lit.assign.nearest import Nearest
from aaformer_lit.assign.parsing import Parsing
from aaformer_lit.assign.place_loss import PlaceLoss
from aaformer_lit.assign.placed import Placed
from aaformer_lit.assign.sinkhorn import Sinkhorn
from aaformer_lit.assign.stripes import Stripes
from aaformer_lit.ops.sinkhorn import sinkhorn

__all__ = [
    "Assigner",
    "Everyone",
    "Gumbel",
    "Nearest",
    "Parsing",
    "PlaceLoss",
    "Placed",
    "Sinkhorn",
    "Stripes",
    "sinkhorn",
]
