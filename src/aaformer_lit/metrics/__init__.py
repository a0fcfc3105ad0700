"""How good is the retrieval: distances, ranking, re-ranking, verification, and how well parts match body parts."""

from aaformer_lit.metrics.distance import Cosine, SquaredEuclidean
from aaformer_lit.metrics.neighbours import nearest_neighbours
from aaformer_lit.metrics.ranking import evaluate_retrieval
from aaformer_lit.metrics.rerank import KReciprocal, k_reciprocal_rerank

__all__ = [
    "Cosine",
    "KReciprocal",
    "SquaredEuclidean",
    "evaluate_retrieval",
    "k_reciprocal_rerank",
    "nearest_neighbours",
]
