"""Weights that others have trained: which layout a file has, what of it a network takes, and a report of both."""

from aaformer_lit.models.weights.load import load_backbone_weights
from aaformer_lit.models.weights.network import load_network_weights
from aaformer_lit.models.weights.report import WeightsReport

__all__ = ["WeightsReport", "load_backbone_weights", "load_network_weights"]
