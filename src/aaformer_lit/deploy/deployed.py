"""What an exported file computes: images in; descriptors, and who belonged to which part, out.

The assignments are an output of every exported AAformer. They cost the graph nothing (they are computed anyway), and they
make it comparable: two programs that round differently may give a patch to another part where two are equally close, so
features are compared at equal assignments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from aaformer_lit.assign import Assigner, Parsing
from aaformer_lit.deploy.preprocess import Preprocess
from aaformer_lit.errors import ExportError
from aaformer_lit.models import AAformer, ReIDViT
from aaformer_lit.ops import PartAttention, part_attention
from aaformer_lit.structures import compared_features


class Outputs(NamedTuple):
    """Descriptors as `embed` gives them, and for networks that assign the membership in every layer."""

    features: Float[Tensor, "batch features"]
    assignments: Bool[Tensor, "layers batch heads parts patches"] | None = None


class Deployed(nn.Module):
    """A network in eval mode on the CPU, with or without its preprocessing.

    Args:
        network: an `AAformer` or another of `aaformer_lit.models`.
        preprocess: None for a graph that takes normalized images of the network's size.
    """

    def __init__(self, network: ReIDViT, preprocess: Preprocess | None = None) -> None:
        super().__init__()
        # plain torch operators are traced on a CPU; a CUDA tensor would take the fused kernel, which no other program has
        self.network, self.preprocess = network.cpu().eval(), preprocess

    @property
    def assigns(self) -> bool:
        """Whether patches are assigned to parts by what the image shows."""
        return isinstance(self.network, AAformer) and not self.network.assigner.whole_sequence

    @property
    def parts(self) -> Sequence[int]:
        return self.network.granularities

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self._described(images if self.preprocess is None else self.preprocess(images))

    def _described(self, images: Float[Tensor, "batch 3 height width"]) -> tuple[Tensor, ...]:
        output = self.network(images, None, self.assigns)
        features = compared_features(output.descriptor, self.network.normalize)
        return (features, torch.stack(output.assignments)) if self.assigns else (features,)

    @torch.no_grad()
    def outputs(
        self, images: Tensor, assignments: Bool[Tensor, "layers batch heads parts patches"] | None = None
    ) -> Outputs:
        """What the file should give; with `assignments`, what it should give if patches are assigned like this.

        Soft assignments are only shown, and change nothing: the attention is continuous without them. Where the file
        resizes, the loader does so here: a graph that resizes otherwise is found out.
        """
        images = images if self.preprocess is None else self.preprocess.by_loader(images)
        if assignments is None or getattr(self.network.assigner, "rounding", None) == "soft":
            return Outputs(*self._described(images))
        assert isinstance(self.network, AAformer)
        attentions = [block.attn for block in self.network.backbone.blocks]
        try:
            for attention, membership in zip(attentions, assignments, strict=True):
                attention.assigner = Given(membership)
            return Outputs(*self._described(images))
        finally:
            for attention in attentions:
                attention.assigner = self.network.assigner


class Given(Assigner):
    """The assignment of another program, taken as it is."""

    def __init__(self, membership: Bool[Tensor, "batch heads parts patches"]) -> None:
        super().__init__()
        self.membership = membership

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, **_: object) -> PartAttention:
        return PartAttention(part_attention(queries, keys, values, self.membership), self.membership)


def check_traceable(network: ReIDViT) -> None:
    """Raise `ExportError` for a network that is not a fixed graph from images alone."""
    assigner = getattr(network, "assigner", None)
    if isinstance(assigner, Parsing):
        raise ExportError(
            "the parsing assigner needs the body-part mask of every image, and an exported graph takes images alone. "
            "Use format=safetensors, or train with another model/assigner."
        )
    if getattr(assigner, "rounding", "argmax") == "balanced":
        raise ExportError(
            "rounding=balanced repeats its steps until no patch moves, which is not a fixed graph. "
            "Use format=safetensors, or model.assigner.rounding=argmax."
        )
