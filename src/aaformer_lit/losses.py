"""The paper's objective (AAformer, Eq. 6-8): a classifier per token, and triplets mined apart for CLS and parts.

Everything is computed in float32: in half precision the distance of two equal features has no finite gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from aaformer_lit.errors import ConfigError
from aaformer_lit.structures import ReIDOutput

Gather = Callable[[Tensor], Tensor]


class Loss(Protocol):
    """What a training minimizes; `loss=NAME` chooses one. It has no weights of its own: the optimizer knows the network's.

    `epoch` is set at the start of each epoch, for losses that change in the course of the training.
    """

    epoch: int

    def __call__(
        self, output: ReIDOutput, pids: Int[Tensor, " batch"], gather: Gather | None = None
    ) -> dict[str, Tensor]:
        """The terms by name, all of which are logged, and what to minimize as `loss`.

        Args:
            output: of a network in training mode.
            pids: labels 0..n-1.
            gather: collects a tensor from all ranks, keeping the gradient of this rank's share; None on one device.
        """
        ...


def pairwise_distances(
    anchors: Float[Tensor, "anchors dim"], others: Float[Tensor, "others dim"]
) -> Float[Tensor, "anchors others"]:
    """Euclidean distances, with a gradient of zero rather than NaN where two features are equal."""
    squared = anchors.square().sum(1)[:, None] + others.square().sum(1) - 2 * anchors @ others.t()
    return squared.clamp_min(1e-12).sqrt()


def batch_hard(
    distances: Float[Tensor, "anchors others"], anchor_pids: Int[Tensor, " anchors"], pids: Int[Tensor, " others"]
) -> tuple[Float[Tensor, " anchors"], Float[Tensor, " anchors"]]:
    """Distance to the farthest image of the same identity and to the nearest of another (Hermans et al., 2017).

    The anchor itself is among the candidates for its positive, which only matters where it is the only one.
    """
    same = anchor_pids[:, None] == pids
    hardest_positive = distances.masked_fill(~same, -torch.inf).amax(dim=1)
    hardest_negative = distances.masked_fill(same, torch.inf).amin(dim=1)
    return hardest_positive, hardest_negative


class TripletLoss(nn.Module):
    """Batch-hard triplet loss on Euclidean distances.

    Args:
        margin: alpha of Eq. 7; None is the soft margin log(1 + exp(d_p - d_n)) of TransReID.
    """

    def __init__(self, margin: float | None = 0.3) -> None:
        super().__init__()
        if margin is not None and margin < 0:
            raise ConfigError(f"the triplet margin must be 0 or more, or null for the soft margin; got {margin}.")
        self.margin = margin

    def forward(
        self,
        features: Float[Tensor, "anchors dim"],
        pids: Int[Tensor, " anchors"],
        all_features: Float[Tensor, "others dim"] | None = None,
        all_pids: Int[Tensor, " others"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean over anchors; candidates are `all_features` (gathered over ranks) or the anchors themselves.
        An anchor without any negative (a batch of one identity) has loss 0.
        """
        all_features = features if all_features is None else all_features
        all_pids = pids if all_pids is None else all_pids
        positive, negative = batch_hard(pairwise_distances(features, all_features), pids, all_pids)
        if self.margin is None:
            return F.softplus(positive - negative).mean()
        return F.relu(positive - negative + self.margin).mean()


def _full(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


class ReIDLoss(nn.Module):
    """Eq. 8: identity loss over all tokens plus triplet loss over the global and the concatenated part features.

    Args:
        label_smoothing: of the cross entropy (BoT: 0.1).
        margin: of the triplet loss; None for the soft margin.
        id_weight: of the identity loss (the paper: 1).
        triplet_weight: of the triplet loss (the paper: 1).
        global_weight: share of the global token in both terms. None is the printed equations: 1 / (1 + P) in Eq. 6, 1/2
            in Eq. 7; TransReID's is 0.5. Without parts the global token has all of it.
        part_warmup: epochs over which the parts' share grows from nothing to what it is to be; 0 as in the paper.
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        margin: float | None = 0.3,
        id_weight: float = 1.0,
        triplet_weight: float = 1.0,
        global_weight: float | None = None,
        part_warmup: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be in [0, 1); got {label_smoothing}.")
        if id_weight < 0 or triplet_weight < 0:
            raise ConfigError(
                f"the weights of the losses must be 0 or more; got id_weight={id_weight}, triplet_weight={triplet_weight}."
            )
        if global_weight is not None and not 0 <= global_weight <= 1:
            raise ConfigError(f"global_weight is a share between 0 and 1, or null for Eq. 6-7; got {global_weight}.")
        if part_warmup < 0:
            raise ConfigError(f"part_warmup is a number of epochs, 0 or more; got {part_warmup}.")
        self.label_smoothing = label_smoothing
        self.id_weight, self.triplet_weight, self.global_weight = id_weight, triplet_weight, global_weight
        self.part_warmup, self.epoch = part_warmup, 0
        self.triplet = TripletLoss(margin)

    def forward(
        self, output: ReIDOutput, pids: Int[Tensor, " batch"], gather: Gather | None = None
    ) -> dict[str, Tensor]:
        """The terms by name and their weighted sum as `loss`; see `Loss`."""
        if output.logits is None:
            raise ConfigError("the identity loss needs logits: build the network with num_classes and train mode on.")
        with torch.autocast(pids.device.type, enabled=False):
            terms = self._identity_terms(_full(output.logits), pids)
            terms |= self._triplet_terms(output, pids, gather)
        has_parts = output.part_feats.shape[1] > 0
        for name, printed in (("id", 1 / output.logits.shape[1]), ("triplet", 0.5)):
            share = self._share(printed, has_parts)
            terms[name] = share * terms[f"{name}_global"] + (1 - share) * terms.get(f"{name}_parts", 0.0)
        terms["loss"] = self.id_weight * terms["id"] + self.triplet_weight * terms["triplet"]
        return terms

    def _share(self, printed: float, has_parts: bool) -> float:
        if not has_parts:
            return 1.0
        share = printed if self.global_weight is None else self.global_weight
        waiting = max(0.0, 1 - self.epoch / self.part_warmup) if self.part_warmup else 0.0
        return share + waiting * (1 - share)

    def _identity_terms(self, logits: Float[Tensor, "batch tokens ids"], pids: Tensor) -> dict[str, Tensor]:
        tokens = logits.shape[1]
        per_token = F.cross_entropy(
            logits.flatten(0, 1), pids.repeat_interleave(tokens), label_smoothing=self.label_smoothing, reduction="none"
        )
        per_token = per_token.view(-1, tokens).mean(dim=0)
        terms = {"id_global": per_token[0]}
        return terms | ({"id_parts": per_token[1:].mean()} if tokens > 1 else {})

    def _triplet_terms(self, output: ReIDOutput, pids: Tensor, gather: Gather | None) -> dict[str, Tensor]:
        features = {"triplet_global": output.global_feat}
        if output.part_feats.shape[1]:
            features["triplet_parts"] = output.part_feats.flatten(1)
        all_pids = pids if gather is None else gather(pids)
        terms = {}
        for name, feature in features.items():
            feature = _full(feature)
            terms[name] = self.triplet(feature, pids, feature if gather is None else gather(feature), all_pids)
        return terms
