"""Plain ViTs from timm, at any image size, patch and stride, with weights from timm, a local file, or none.

Position embeddings are resampled to the patch grid. How files of others are read is `models/weights`: what does not fit is
an error, never a silently random layer.
"""

from __future__ import annotations

import logging
import math
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import timm
import torch
from jaxtyping import Float
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from aaformer_lit.errors import CheckpointError, ConfigError, check_choice, first_line
from aaformer_lit.models.stem import ICSPatchEmbed
from aaformer_lit.models.weights.file import THREE_WAYS
from aaformer_lit.models.weights.load import load_backbone_weights
from aaformer_lit.models.weights.positions import check_source_grid, patch_grid
from aaformer_lit.models.weights.report import WeightsReport
from aaformer_lit.utils.text import some

logger = logging.getLogger(__name__)

Stem = Literal["patch", "ics"]
Init = Literal["timm", "nearby"]
_TIMM_MODULES = ("vision_transformer", "deit")


def build_backbone(
    name: str = "vit_base_patch16_224",
    image_size: Sequence[int] = (256, 128),
    weights: str | Path | None = None,
    stride: int | None = None,
    drop_path: float = 0.1,
    source_grid: Sequence[int] | None = None,
    stem: Stem = "patch",
    init: Init = "timm",
    **overrides: object,
) -> VisionTransformer:
    """A timm plain ViT without its classifier.

    Args:
        name: timm model name, with or without a pre-training tag.
        image_size: (height, width) in pixels.
        weights: `timm` for the pre-trained weights of that name, a path to .safetensors/.pth/.pt, or None for none.
        stride: of the patch embedding; None is the patch size, smaller makes patches overlap (TransReID uses 12 of 16).
        drop_path: stochastic depth rate of the last block, growing linearly over depth.
        source_grid: patch rows and columns that a local file was made with, where it does not say them.
        stem: `patch` cuts the image into patches; `ics` sees it through TransReID-SSL's convolutions first.
        init: how a network without weights starts: `timm`, or `nearby`, where tokens that are alike attend to each other
            from the first step on (`start_nearby`).
        overrides: further arguments of timm's VisionTransformer, such as `depth`, `embed_dim`, `patch_size`.

    Raises:
        ConfigError: the name is no timm plain ViT, or image, patch and stride do not fit.
        CheckpointError: the weights cannot be had or do not fit.
    """
    if not any(name.split(".")[0] in timm.list_models(module=module) for module in _TIMM_MODULES):
        raise ConfigError(
            f"{name!r} is not a plain ViT of timm. Names are listed by timm.list_models('vit_*') and 'deit*'; "
            "for example vit_small_patch16_224 or deit_tiny_patch16_224."
        )
    check_choice("init", init, get_args(Init))
    if not 0 <= drop_path < 1:
        raise ConfigError(f"drop_path={drop_path} is the share of paths dropped. Use 0 or more, below 1; ViT-B: 0.1.")
    if not isinstance(image_size, Sequence) or len(image_size) != 2:
        raise ConfigError(f"image_size={image_size} must be (height, width) in pixels, such as (256, 128).")
    check_source_grid(source_grid)
    check_choice("stem", stem, get_args(Stem))
    if stem == "ics":
        if weights == "timm" or stride is not None:
            raise ConfigError(
                "the ICS stem has weights of its own, which timm does not have, and the stride of its patches. Use "
                "model.backbone.weights=FILE (TransReID-SSL's) or null, and model.backbone.stride=null."
            )
        overrides["embed_layer"] = ICSPatchEmbed
    elif stride is not None:
        overrides["embed_layer"] = partial(OverlappingPatchEmbed, stride=stride)
    height, width = image_size
    shape = {key: value for key, value in overrides.items() if key != "embed_layer"}
    wrong = f"timm cannot build {name} for {height}x{width} images with {shape}"
    try:
        with no_hub_if_unreachable() if weights == "timm" else nullcontext():
            backbone = timm.create_model(
                name,
                pretrained=weights == "timm",
                img_size=(height, width),
                num_classes=0,
                drop_path_rate=drop_path,
                **overrides,
            )
        check_plain_vit(backbone)
    except (AssertionError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(f"{wrong}: {error}.") from error
    except RuntimeError as error:
        if weights != "timm":
            raise ConfigError(f"{wrong}: {first_line(error)}.") from error
        raise CheckpointError(
            f"timm's pre-trained weights of {name} cannot be taken for {height}x{width} images with {shape}: "
            f"{first_line(error)}. Leave the shape of the pre-trained network as it is, or use model.backbone.weights=null."
        ) from error
    except OSError as error:
        reason = first_line(error)
        raise CheckpointError(f"cannot fetch timm's pre-trained weights of {name}: {reason}. {THREE_WAYS}") from error
    if min(patch_grid(backbone)) < 1:
        patch = "x".join(map(str, backbone.patch_embed.patch_size))
        raise ConfigError(f"{height}x{width} images are smaller than a patch of {patch}. Use a larger data.image_size.")
    if init == "nearby":
        if weights == "timm":
            raise ConfigError(
                "init=nearby starts a network without weights, and would replace some of timm's. Use model.backbone.init=timm, "
                "or model.backbone.weights=null."
            )
        start_nearby(backbone)
    if weights == "timm":
        _check_pretrained_whole(backbone, name)
        backbone.weights_report = WeightsReport(f"timm {name}", "", "timm", taken=list(backbone.state_dict()))
    elif weights is not None:
        backbone.weights_report = load_backbone_weights(backbone, Path(str(weights)).expanduser(), source_grid)
    _say_what_is_not_seen(backbone)
    return backbone


def _check_pretrained_whole(backbone: VisionTransformer, name: str) -> None:
    """timm leaves what its weights have nothing for as it was drawn, and says nothing."""
    with torch.device("meta"):
        own = timm.create_model(name, num_classes=0)
    new = [key for key in backbone.state_dict() if key not in own.state_dict()]
    if new:
        raise CheckpointError(
            f"timm's pre-trained weights of {name} have nothing for {some(new, 3)}. Leave out what adds to the pre-trained "
            "network, or use model.backbone.weights=null."
        )


class OverlappingPatchEmbed(PatchEmbed):  # type: ignore[misc]
    """timm's patch embedding with a stride of its own. The network around it has a position per patch from the start, so that
    pre-trained ones are resampled once.
    """

    def __init__(self, *args: object, stride: int, **options: object) -> None:
        super().__init__(*args, **options)
        if not isinstance(stride, int) or not 0 < stride <= min(self.patch_size):
            raise ConfigError(
                f"stride must be a whole number between 1 and the patch size {min(self.patch_size)}; got {stride}."
            )
        self.proj.stride = (stride, stride)
        sides = zip(self.img_size, self.patch_size, strict=True)
        self.grid_size = tuple((size - patch) // stride + 1 for size, patch in sides)
        self.num_patches = math.prod(self.grid_size)


@contextmanager
def no_hub_if_unreachable(timeout: float = 5.0) -> Iterator[None]:
    """Without a connection, only the cache is asked inside: the hub's client would first retry for most of a minute."""
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=timeout).close()
    except urllib.error.HTTPError:
        pass  # an answer, if not a friendly one
    except (OSError, ValueError):
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline


def check_plain_vit(backbone: nn.Module) -> None:
    """Raise `ConfigError` unless the network is a timm ViT of pre-norm blocks with a class token."""
    blocks = list(backbone.blocks) if isinstance(backbone, VisionTransformer) else []
    plain = bool(blocks) and all(type(b) is Block for b in blocks)
    if not plain or not backbone.has_class_token or isinstance(backbone.norm, nn.Identity):
        raise ConfigError(
            f"{type(backbone).__name__} is not a plain ViT: parts need timm's VisionTransformer with pre-norm blocks, "
            "a class token and a final norm, such as vit_*, deit_* or vit_*_dinov2."
        )


@torch.no_grad()
def start_nearby(backbone: VisionTransformer) -> None:
    """Start positions as 2-D sine-cosine waves, and the keys' projection as the queries'.

    With projections drawn apart, q.k of two tokens is chance, and so is a grouping by it. With the same one it is their
    likeness, of place and look, as Trockman and Kolter (ICML 2023) found attention of trained ViTs to be.
    """
    if backbone.pos_embed is not None:
        rows, columns = patch_grid(backbone)
        prefix = 0 if backbone.no_embed_class else backbone.num_prefix_tokens
        backbone.pos_embed[:, prefix:] = sincos_positions(rows, columns, backbone.embed_dim)
    for block in backbone.blocks:
        queries, keys, _ = block.attn.qkv.weight.chunk(3)
        keys.copy_(queries)


def sincos_positions(rows: int, columns: int, dim: int) -> Float[Tensor, "patches dim"]:
    """Sine and cosine of each patch's row, then of its column, at wave lengths from 4 to 32 patches."""
    turns = 1 / torch.logspace(2, 5, dim // 4, base=2)
    row, column = torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)
    angles = 2 * math.pi * torch.stack([row, column])[..., None] * turns
    return torch.cat([angles.sin(), angles.cos()], dim=-1).transpose(0, 1).flatten(1)


def _say_what_is_not_seen(backbone: VisionTransformer) -> None:
    embed = backbone.patch_embed
    strides = embed.patch_size if isinstance(embed, ICSPatchEmbed) else embed.proj.stride
    sides = zip(embed.img_size, embed.patch_size, strides, strict=True)
    rows, columns = ((side - patch) % stride for side, patch, stride in sides)
    if rows or columns:
        logger.warning(
            "%dx%d images are not whole patches: the last %d rows and %d columns of pixels are not seen",
            *embed.img_size,
            rows,
            columns,
        )
