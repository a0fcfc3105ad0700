"""Plain ViTs from timm, at any image size, patch and stride, with weights from timm, a local file, or none.

Position embeddings are resampled to the patch grid. Local files may carry the key names of timm, DeiT, DINO/DINOv2,
TransReID and LUPerson (TransReID-SSL): wrappers and prefixes are peeled off, heads are left behind, and what then does
not fit is an error, never a silently random layer.
"""

from __future__ import annotations

import logging
import math
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from aaformer_lit.errors import CheckpointError, ConfigError, first_line

logger = logging.getLogger(__name__)

_CONTAINERS = ("teacher", "student", "state_dict", "model", "model_state_dict", "state_dict_ema")
_PREFIXES = ("module.", "network.", "backbone.", "base.", "encoder.", "model.", "visual.trunk.")
_TIMM_MODULES = ("vision_transformer", "deit")
_HEAD_KEYS = ("head", "fc_norm", "pre_logits", "mask_token", "classifier", "bottleneck", "dist_token", "b1.", "b2.")
THREE_WAYS = (
    "Give the weights as model.backbone.weights=timm (downloads once, then cached), "
    "model.backbone.weights=FILE.safetensors or FILE.pth (a local file), or model.backbone.weights=null (none)."
)


def build_backbone(
    name: str = "vit_base_patch16_224",
    image_size: Sequence[int] = (256, 128),
    weights: str | Path | None = None,
    stride: int | None = None,
    drop_path: float = 0.1,
    **overrides: Any,
) -> VisionTransformer:
    """A timm plain ViT without its classifier.

    Args:
        name: timm model name, with or without a pre-training tag.
        image_size: (height, width) in pixels.
        weights: `timm` for the pre-trained weights of that name, a path to .safetensors/.pth/.pt, or None for none.
        stride: of the patch embedding; None is the patch size, smaller makes patches overlap (TransReID uses 12 of 16).
        drop_path: stochastic depth rate of the last block, growing linearly over depth.
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
    if not 0 <= drop_path < 1:
        raise ConfigError(f"drop_path={drop_path} is the share of paths dropped. Use 0 or more, below 1; ViT-B: 0.1.")
    height, width = image_size
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
    except (AssertionError, TypeError) as error:
        raise ConfigError(f"timm cannot build {name} for {height}x{width} images with {overrides}: {error}.") from error
    except (OSError, RuntimeError) as error:
        reason = first_line(error)
        raise CheckpointError(f"cannot fetch timm's pre-trained weights of {name}: {reason}. {THREE_WAYS}") from error
    if stride is not None:
        _set_stride(backbone, stride)
    if weights not in (None, "timm"):
        load_backbone_weights(backbone, Path(str(weights)))
    _say_what_is_not_seen(backbone)
    return backbone


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


def patch_grid(backbone: VisionTransformer) -> tuple[int, int]:
    """Patch rows and columns."""
    rows, columns = backbone.patch_embed.grid_size
    return int(rows), int(columns)


def _say_what_is_not_seen(backbone: VisionTransformer) -> None:
    embed = backbone.patch_embed
    sides = zip(embed.img_size, embed.patch_size, embed.proj.stride, strict=True)
    rows, columns = ((side - patch) % stride for side, patch, stride in sides)
    if rows or columns:
        logger.warning(
            "%dx%d images are not whole patches: the last %d rows and %d columns of pixels are not seen",
            *embed.img_size,
            rows,
            columns,
        )


def _set_stride(backbone: VisionTransformer, stride: int) -> None:
    embed = backbone.patch_embed
    patch, image = embed.patch_size, embed.img_size
    if not 0 < stride <= min(patch):
        raise ConfigError(f"stride must be between 1 and the patch size {min(patch)}; got {stride}.")
    before = patch_grid(backbone)
    embed.proj.stride = (stride, stride)
    embed.grid_size = tuple((size - p) // stride + 1 for size, p in zip(image, patch, strict=True))
    embed.num_patches = math.prod(embed.grid_size)
    embed.strict_img_size = False  # timm insists on whole patches, which overlapping ones are not
    if backbone.pos_embed is not None:
        backbone.pos_embed = nn.Parameter(_resample_positions(backbone, backbone.pos_embed.data, before))


def _resample_positions(backbone: VisionTransformer, positions: Tensor, old_grid: tuple[int, int]) -> Tensor:
    prefix = 0 if backbone.no_embed_class else backbone.num_prefix_tokens
    if old_grid == patch_grid(backbone):
        return positions
    return resample_abs_pos_embed(positions, patch_grid(backbone), old_grid, num_prefix_tokens=prefix)  # type: ignore[no-any-return]


def load_backbone_weights(backbone: VisionTransformer, path: Path) -> None:
    """Load a local file into the backbone; positions and patches are resampled where sizes differ."""
    state = _peel(read_weights(path))
    wanted = backbone.state_dict()
    state = {key: value for key, value in state.items() if key in wanted or not key.startswith(_HEAD_KEYS)}
    if "pos_embed" in state and "pos_embed" in wanted:
        prefix = 0 if backbone.no_embed_class else backbone.num_prefix_tokens
        grid = _guess_grid(state["pos_embed"].shape[1] - prefix, patch_grid(backbone), path)
        state["pos_embed"] = _resample_positions(backbone, state["pos_embed"].float(), grid)
    kernel = "patch_embed.proj.weight"
    if kernel in state and state[kernel].ndim == 4 and state[kernel].shape[2:] != wanted[kernel].shape[2:]:
        state[kernel] = resample_patch_embed(state[kernel].float(), list(wanted[kernel].shape[2:]))
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    wrong = [k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape]
    if missing or unexpected or wrong:
        details = [
            f"{len(keys)} {what} (such as {keys[0]})"
            for what, keys in (("missing", missing), ("unknown", unexpected), ("of another shape", sorted(wrong)))
            if keys
        ]
        raise CheckpointError(
            f"{path} does not fit this backbone: {', '.join(details)} of {len(wanted)} tensors. "
            f"Choose the model.backbone that the file was made with. {THREE_WAYS}"
        )
    backbone.load_state_dict(state)
    logger.info("loaded %d tensors of the backbone from %s", len(state), path)


def read_weights(path: Path) -> dict[str, Any]:
    """Tensors by name from .safetensors or a torch file, without running code from it."""
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}. {THREE_WAYS}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own exceptions for a broken file
        raise CheckpointError(
            f"{path} cannot be read as weights ({first_line(error)}). "
            "It must be a whole .safetensors or torch file of tensors; files that need code to load are refused."
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not named tensors. {THREE_WAYS}")
    return dict(content)


def _peel(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Take off wrappers (DeiT's `model`, DINO's `teacher`) and prefixes (TransReID's `base.`, DDP's `module.`)."""
    for container in _CONTAINERS:
        if isinstance(content.get(container), Mapping):
            return _peel(content[container])
    state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    for prefix in _PREFIXES:
        if f"{prefix}cls_token" in state or any(key.startswith(f"{prefix}blocks.") for key in state):
            return _peel({key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)})
        nested = [key for key in state if key.startswith(prefix) and ".blocks." in key]
        if nested:
            return _peel({key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)})
    return state


def _guess_grid(patches: int, target: tuple[int, int], path: Path) -> tuple[int, int]:
    """The patch grid a file was made with: square as in pre-training, or the target's aspect as in re-ID training."""
    side = math.isqrt(patches)
    if side * side == patches:
        return side, side
    aspect = target[0] / target[1]
    columns = [c for c in range(1, patches + 1) if patches % c == 0]
    if not columns:
        raise CheckpointError(f"{path} holds position embeddings for {patches} patches.")
    best = min(columns, key=lambda c: abs(math.log(patches / c / c / aspect)))
    return patches // best, best
