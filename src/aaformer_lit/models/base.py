"""What every network here is made of: a timm ViT whose tokens are trained and compared as BoT does it.

The networks add tokens or blocks, and inherit the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol, TypedDict, get_args

import torch
from jaxtyping import Float
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn

from aaformer_lit.errors import ConfigError, check_choice
from aaformer_lit.models.backbone import build_backbone, check_plain_vit
from aaformer_lit.models.compression import Compression
from aaformer_lit.models.evaluating import evaluating
from aaformer_lit.models.head import TokenHeads
from aaformer_lit.models.plain_attention import PlainAttention
from aaformer_lit.models.weights.positions import patch_grid
from aaformer_lit.structures import Picture, Pictures, ReIDOutput, Tokens, compared_features
from aaformer_lit.utils.text import granularity_names

NeckFeature = Literal["after", "before"]
Descriptor = Literal["tokens", "cls_mean"]


class Options(TypedDict, total=False):
    """Arguments of `ReIDViT` that networks pass on."""

    num_classes: int
    image_size: Sequence[int]
    neck_feature: NeckFeature
    normalize: bool
    grad_checkpointing: bool


class Preparation(Protocol):
    """How pictures become a network's input: `aaformer_lit.data.ImageTransform`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def listed(self, pictures: Pictures) -> list[Picture]:
        """One picture or several, as a list."""

    def batch(self, pictures: Sequence[Picture]) -> Float[Tensor, "images 3 height width"]:
        """Several pictures, ready for the network."""


class Decider(Protocol):
    """How a distance becomes a decision: `aaformer_lit.metrics.Calibration`."""

    def decide(self, distance: float, cameras: tuple[str, str] = ("", "")) -> Literal["accepted", "unsure", "rejected"]:
        """About two pictures at a distance, of these cameras where they are known."""


class Encoding(NamedTuple):
    """Descriptor tokens before the neck; each layer's membership and scores (B, h, P, N), where they were asked for.

    `heights`: where on the body each patch is, of a network that estimates it.
    """

    tokens: Float[Tensor, "batch tokens dim"]
    assignments: tuple[Tensor, ...] = ()
    scores: tuple[Tensor, ...] = ()
    heights: Float[Tensor, "batch patches"] | None = None


class ReIDViT(nn.Module):
    """A ViT with a re-ID head for each token of its descriptor: CLS, and the parts that a network adds.

    Args:
        backbone: timm name (built without weights) or a built timm ViT.
        num_classes: training identities; 0 for a network that only embeds.
        image_size: (height, width) in pixels, used when `backbone` is a name.
        neck_feature: what is compared at test, `after` the BNNeck or `before` it.
        normalize: whether `embed` L2-normalizes the concatenated tokens.
        grad_checkpointing: recompute blocks in the backward pass, for less memory.
        descriptor: what is trained and compared: all `tokens`, each with a head of its own, or CLS and the mean of the
            parts (`cls_mean`) as one feature with one head (PASS). The same without parts.

    `transform` is how the pictures of `embed_images` are prepared; `load_model` sets it to that of the training, and
    `calibration` to the thresholds that `aaformer_lit.calibrate` has stored for this descriptor, if any.
    `compression`, if any, makes one short token of the descriptor (`evaluate compress=256` fits it).
    """

    transform: Preparation | None = None
    calibration: Decider | None = None
    compression: Compression | None
    granularities: tuple[int, ...] = ()
    """Part tokens per granularity, in token order; a network with parts sets it before it calls this constructor."""

    def __init__(
        self,
        backbone: str | VisionTransformer = "vit_base_patch16_224",
        num_classes: int = 0,
        image_size: Sequence[int] = (256, 128),
        neck_feature: NeckFeature = "after",
        normalize: bool = True,
        grad_checkpointing: bool = False,
        descriptor: Descriptor = "tokens",
    ) -> None:
        super().__init__()
        check_choice("descriptor", descriptor, get_args(Descriptor))
        check_choice("neck_feature", neck_feature, get_args(NeckFeature))
        self.backbone = build_backbone(backbone, image_size) if isinstance(backbone, str) else backbone
        check_plain_vit(self.backbone)
        self.backbone.head = nn.Identity()
        for block in self.backbone.blocks:
            if type(block.attn) is Attention:  # another kind stays as it is; part tokens refuse it
                block.attn = PlainAttention(block.attn)
        self.grid = patch_grid(self.backbone)
        height, width = self.backbone.patch_embed.img_size
        self.image_size = (int(height), int(width))
        self.dim = int(self.backbone.embed_dim)
        self.neck_feature, self.normalize = neck_feature, normalize
        self.grad_checkpointing = grad_checkpointing
        self.num_classes = num_classes
        self.joined = descriptor == "cls_mean" and bool(self.granularities)
        self.heads = TokenHeads(self.num_tokens, self.dim, num_classes, self.joined)
        self.compression = None

    @property
    def num_tokens(self) -> int:
        """Tokens with a head: the global one and the parts, or their mean."""
        return 2 if self.joined else 1 + sum(self.granularities)

    @property
    def descriptor_shape(self) -> tuple[int, int]:
        """(tokens, dim) of the descriptor: all tokens, or the one that they are compressed to."""
        return (self.num_tokens, self.dim) if self.compression is None else (1, self.compression.size)

    @property
    def token_groups(self) -> dict[str, tuple[int, ...]]:
        """Descriptor tokens that are also evaluated alone: `global`, `parts`, and each granularity by its name."""
        if self.descriptor_shape[0] == 1:
            return {}
        if self.joined:
            return {"global": (0,), "parts": (1,)}
        groups = {"global": (0,), "parts": tuple(range(1, self.num_tokens))}
        if len(self.granularities) > 1:
            first = 1
            for name, parts in zip(granularity_names(self.granularities), self.granularities, strict=True):
                groups[name] = tuple(range(first, first + parts))
                first += parts
        return groups

    @property
    def evaluated_groups(self) -> dict[str, Tokens]:
        """What a test compares of `descriptors(..., apart=True)`: the descriptor (""), `token_groups`, and the other way to
        put CLS and the parts together, by the mean of the parts (`cls_mean`) or with each of them (`concat`).
        """
        groups = self.token_groups
        if not groups:
            return {}
        if not self.joined:
            return {**groups, "cls_mean": (0, groups["parts"])}
        return {"": (0, 1), **groups, "concat": (0, *range(2, 2 + sum(self.granularities)))}

    def encode(
        self, images: Tensor, part_mask: Tensor | None, return_assignments: bool, return_scores: bool = False
    ) -> Encoding:
        """The descriptor's tokens; what else is asked for a network without parts does not have."""
        self.backbone.set_grad_checkpointing(self.grad_checkpointing and self.training)
        return Encoding(self.backbone.forward_features(images)[:, :1])

    def forward(
        self,
        images: Float[Tensor, "batch 3 height width"],
        part_mask: Tensor | None = None,
        return_assignments: bool = False,
        return_scores: bool = False,
    ) -> ReIDOutput:
        """All that training, evaluation and pictures need of one pass.

        Args:
            images: normalized images of this network's `image_size`.
            part_mask: (B, H, W) part of each pixel, for the parsing assigner.
            return_assignments: keep each layer's membership (B, h, P, N).
            return_scores: keep each layer's scores (B, h, P, N), from which an AAformer's assigner groups the patches.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ConfigError(
                f"a network takes normalized RGB images (batch, 3, height, width) in floating point; got {images.dtype} of "
                f"shape {tuple(images.shape)}. A single image is a batch of one, image[None]; paths, Pillow images and "
                "uint8 pixels go to embed_images."
            )
        if tuple(images.shape[-2:]) != self.image_size:
            raise ConfigError(
                f"this network was built for {self.image_size[0]}x{self.image_size[1]} images; got "
                f"{images.shape[-2]}x{images.shape[-1]}. Resize the images, or build it with that image_size."
            )
        tokens, assignments, scores, heights = self.encode(images, part_mask, return_assignments, return_scores)
        joined_parts = None
        if self.joined:
            parts = tokens[:, 1:]
            tokens = torch.stack([tokens[:, 0], parts.mean(dim=1)], dim=1)
            joined_parts = None if self.training or self.compression is not None else self._through_neck(parts)
        after, logits = self.heads(tokens)
        descriptor = self.weighed(after if self.neck_feature == "after" else tokens)
        if self.compression is not None:
            descriptor = self.compression(compared_features(descriptor, self.normalize))[:, None]
        return ReIDOutput(
            global_feat=tokens.flatten(1) if self.joined else tokens[:, 0],
            part_feats=tokens[:, :0] if self.joined else tokens[:, 1:],
            descriptor=descriptor,
            logits=logits,
            assignments=assignments,
            scores=scores,
            joined_parts=joined_parts,
            heights=heights,
        )

    def weighed(self, descriptor: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """The descriptor's tokens by how much each counts in a distance; here all count alike."""
        return descriptor

    def _through_neck(self, parts: Float[Tensor, "batch parts dim"]) -> Float[Tensor, "batch parts dim"]:
        """Each part as what is compared, in the place of their mean; the neck is affine, so their mean is the descriptor's."""
        if self.neck_feature == "before":
            return parts
        alone = parts.flatten(0, 1)
        after: Tensor = self.heads(torch.stack([alone, alone], dim=1))[0]
        return after[:, 1].view_as(parts)

    def embed(
        self, images: Float[Tensor, "batch 3 height width"], part_mask: Tensor | None = None
    ) -> Float[Tensor, "batch features"]:
        """The descriptor of each image: all tokens side by side, L2-normalized as configured (float32).

        Computed as in eval mode whatever the mode is, so that it does not depend on the other images of the batch; gradients
        flow. Images are RGB, prepared as `transform` does.
        """
        with evaluating(self):
            return compared_features(self.forward(images, part_mask).descriptor, self.normalize)

    @torch.no_grad()
    def embed_images(self, pictures: Pictures, batch_size: int = 64) -> Float[Tensor, "images features"]:
        """`embed` of pictures of any size: a path, a Pillow image or an RGB array (height, width, 3) uint8, or several.

        They are prepared as in training (`transform`). One picture is answered like a list of one. The descriptors are in
        main memory.

        Raises:
            ConfigError: the network was not loaded from a checkpoint, so nobody knows how its images are prepared.
            ImageError: something that is no picture, or a file that cannot be read.
        """
        if self.transform is None:
            raise ConfigError(
                "this network does not know how its images are prepared. Load it with load_model(path), or say it: "
                "network.transform = ImageTransform(network.image_size, mean, std), from aaformer_lit.data."
            )
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size} must be 1 or more.")
        listed = self.transform.listed(pictures)
        device = next(self.parameters()).device
        batches = [listed[start : start + batch_size] for start in range(0, len(listed), batch_size)]
        features = [self.embed(self.transform.batch(batch).to(device)).cpu() for batch in batches]
        return torch.cat(features) if features else torch.zeros(0, math.prod(self.descriptor_shape))

    @property
    def mean(self) -> tuple[float, ...] | None:
        """Of the RGB channels in [0, 1], as `transform` subtracts it; None where that is not known."""
        return None if self.transform is None else self.transform.mean

    @property
    def std(self) -> tuple[float, ...] | None:
        """Of the RGB channels in [0, 1], as `transform` divides by it; None where that is not known."""
        return None if self.transform is None else self.transform.std

    @torch.no_grad()
    def assignments(self, images: Tensor, part_mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Membership (B, h, P, N) of every layer; empty for a network without part tokens."""
        return self.forward(images, part_mask, return_assignments=True).assignments


def descriptors(
    network: Callable[..., ReIDOutput],
    images: Float[Tensor, "batch 3 height width"],
    part_mask: Tensor | None = None,
    flip: bool = False,
    apart: bool = False,
) -> Float[Tensor, "batch tokens dim"]:
    """The descriptors in float32; with `flip`, their means with those of the mirrored images (test-time augmentation).

    With `apart` the parts that a descriptor has joined stand behind it one by one (`ReIDViT.evaluated_groups`).
    """

    def described(images: Tensor, part_mask: Tensor | None) -> Tensor:
        output = network(images, part_mask)
        if not apart or output.joined_parts is None:
            return output.descriptor.float()
        return torch.cat([output.descriptor, output.joined_parts], dim=1).float()

    plain = described(images, part_mask)
    if not flip:
        return plain
    return (plain + described(images.flip(-1), None if part_mask is None else part_mask.flip(-1))) / 2
