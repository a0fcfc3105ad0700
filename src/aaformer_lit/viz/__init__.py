"""Pictures of what the network sees and answers: each function takes plain results and returns a matplotlib Figure.

Nothing here runs a network or touches pyplot's global state. Images are uint8 RGB (`denormalize` brings a network's
input back), part p of granularity g has the same color in every picture, and `save` writes a file whole or not at all.
"""

from aaformer_lit.utils.moved import renamed
from aaformer_lit.viz.assignment import assignment_maps, assignment_through_layers
from aaformer_lit.viz.attention import attention_maps
from aaformer_lit.viz.contact_sheet import contact_sheet
from aaformer_lit.viz.curves import (
    CHANCE,
    alignment_over_depth,
    cmc_curves,
    misalignment_curves,
    read_metrics_csv,
    training_curves,
)
from aaformer_lit.viz.embedding import embedding_map, project
from aaformer_lit.viz.figure import save
from aaformer_lit.viz.images import denormalize
from aaformer_lit.viz.palette import part_color
from aaformer_lit.viz.rankings import Ranking, rank_gallery, ranking_lists
from aaformer_lit.viz.tables import Dot, table_plot
from aaformer_lit.viz.verification import (
    PairDistances,
    Verification,
    distance_histogram,
    eer_threshold,
    verification_pairs,
    verification_roc,
)

__all__ = [
    "CHANCE",
    "Dot",
    "PairDistances",
    "Ranking",
    "Verification",
    "alignment_over_depth",
    "assignment_maps",
    "assignment_through_layers",
    "attention_maps",
    "cmc_curves",
    "contact_sheet",
    "denormalize",
    "distance_histogram",
    "eer_threshold",
    "embedding_map",
    "misalignment_curves",
    "part_color",
    "project",
    "rank_gallery",
    "ranking_lists",
    "read_metrics_csv",
    "save",
    "table_plot",
    "training_curves",
    "verification_pairs",
    "verification_roc",
]
__getattr__ = renamed(__name__, denormalise="denormalize")
