"""How good is the retrieval: distances, ranking, re-ranking, verification; how well parts match body parts; stability."""

from aaformer_lit.metrics.alignment import (
    AlignmentMeter,
    PartAlignment,
    assignment_statistics,
    empty_share,
    largest_share,
    nmi,
    patch_labels,
    purity,
    subset_entropy,
)
from aaformer_lit.metrics.calibration import Calibration, calibrate_thresholds
from aaformer_lit.metrics.distance import Cosine, SquaredEuclidean
from aaformer_lit.metrics.draws import DrawnMetrics, mean_of_draws, single_shot
from aaformer_lit.metrics.expansion import Expansion, expand_features
from aaformer_lit.metrics.neighbors import nearest_neighbors
from aaformer_lit.metrics.ranking import evaluate_retrieval
from aaformer_lit.metrics.rerank import KReciprocal, k_reciprocal_rerank
from aaformer_lit.metrics.retrieval import ReIDRetrieval
from aaformer_lit.metrics.stability import between_people, movement
from aaformer_lit.metrics.verification import VerificationMetrics, evaluate_verification
from aaformer_lit.metrics.visibility import VisibleParts, visible_features
from aaformer_lit.utils.moved import renamed

__all__ = [
    "AlignmentMeter",
    "Calibration",
    "Cosine",
    "DrawnMetrics",
    "Expansion",
    "KReciprocal",
    "PartAlignment",
    "ReIDRetrieval",
    "SquaredEuclidean",
    "VerificationMetrics",
    "VisibleParts",
    "assignment_statistics",
    "between_people",
    "calibrate_thresholds",
    "empty_share",
    "evaluate_retrieval",
    "evaluate_verification",
    "expand_features",
    "k_reciprocal_rerank",
    "largest_share",
    "mean_of_draws",
    "movement",
    "nearest_neighbors",
    "nmi",
    "patch_labels",
    "purity",
    "single_shot",
    "subset_entropy",
    "visible_features",
]
__getattr__ = renamed(__name__, nearest_neighbours="nearest_neighbors")
