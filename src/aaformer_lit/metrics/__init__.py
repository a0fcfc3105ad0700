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
from aaformer_lit.metrics.distance import Cosine, SquaredEuclidean
from aaformer_lit.metrics.expansion import Expansion, expand_features
from aaformer_lit.metrics.neighbours import nearest_neighbours
from aaformer_lit.metrics.ranking import evaluate_retrieval
from aaformer_lit.metrics.rerank import KReciprocal, k_reciprocal_rerank
from aaformer_lit.metrics.retrieval import ReIDRetrieval
from aaformer_lit.metrics.stability import between_people, movement
from aaformer_lit.metrics.verification import VerificationMetrics, evaluate_verification

__all__ = [
    "AlignmentMeter",
    "Cosine",
    "Expansion",
    "KReciprocal",
    "PartAlignment",
    "ReIDRetrieval",
    "SquaredEuclidean",
    "VerificationMetrics",
    "assignment_statistics",
    "between_people",
    "empty_share",
    "evaluate_retrieval",
    "evaluate_verification",
    "expand_features",
    "k_reciprocal_rerank",
    "largest_share",
    "movement",
    "nearest_neighbours",
    "nmi",
    "patch_labels",
    "purity",
    "subset_entropy",
]
