"""The one way from a file of weights into a backbone: find the layout, translate, fit, report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from timm.layers import resample_patch_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from aaformer_lit.errors import CheckpointError
from aaformer_lit.models.weights.file import THREE_WAYS, WeightsFile, open_file
from aaformer_lit.models.weights.layout import TOKENS, Translation
from aaformer_lit.models.weights.layouts import LAYOUTS
from aaformer_lit.models.weights.positions import patch_grid, place_positions, split_positions
from aaformer_lit.models.weights.report import WeightsReport
from aaformer_lit.utils.text import some

logger = logging.getLogger(__name__)
KERNEL = "patch_embed.proj.weight"


def translate(file: WeightsFile) -> Translation:
    """The tensors of a file under our names, by the first layout that it is of.

    Raises:
        CheckpointError: it is of no known layout, or of one that is refused.
    """
    layout = next((layout for layout in LAYOUTS if layout.matches(file)), None)
    if layout is None:
        raise CheckpointError(
            f"{file.path} is of no layout that is known. Tried: {', '.join(layout.title for layout in LAYOUTS)}. Its first "
            f"names: {some(sorted(file.state))}. {THREE_WAYS}"
        )
    return layout.translate(file)


def load_backbone_weights(
    backbone: VisionTransformer, path: Path, source_grid: Sequence[int] | None = None
) -> WeightsReport:
    """Load a local file into the backbone; positions and patches are resampled where sizes differ.

    Args:
        backbone: filled in place.
        path: of the file.
        source_grid: patch rows and columns of the file, where it does not say them.

    Raises:
        CheckpointError: the file cannot be read, is refused, or does not fit this backbone whole.
    """
    file = open_file(path)
    translation = translate(file)
    report = WeightsReport(str(path), file.sha256, translation.layout, file.wrapper)
    fill_backbone(backbone, translation, report, source_grid)
    for name in translation.network:
        reason = "of a whole network: init_from=FILE takes it"
        report.dropped |= dict.fromkeys(translation.sources[name], reason)
    if translation.network:
        report.warnings.append(
            f"{path} holds more than a backbone: {some(translation.network)}. As backbone weights these are left out; "
            "init_from=FILE takes the whole network"
        )
    say(report)
    return report


class Misfit(CheckpointError):
    """A file and a backbone that do not fit; `tensors` is the number of those that are not alike."""

    def __init__(self, message: str, tensors: int) -> None:
        super().__init__(message)
        self.tensors = tensors


def fill_backbone(
    backbone: VisionTransformer,
    file: Translation,
    report: WeightsReport,
    source_grid: Sequence[int] | None = None,
    prefix: str = "",
) -> None:
    """Fill a backbone whole from a translated file, or raise `CheckpointError` and leave it as it is.

    `prefix`: of the backbone's names in the report.
    """
    wanted = backbone.state_dict()
    state = dict(file.backbone)
    report.dropped |= file.dropped
    report.warnings += file.warnings
    if "pos_embed" in state and "pos_embed" in wanted:
        _fit_positions(backbone, file, state, report, source_grid)
    _fit_tokens(backbone, file, state, report)
    kernel, goal = state.get(KERNEL), wanted[KERNEL]
    if kernel is not None and kernel.ndim == 4 and kernel.shape[1] == goal.shape[1] and kernel.shape != goal.shape:
        state[KERNEL] = resample_patch_embed(kernel.float(), list(goal.shape[2:]))
        report.resampled[KERNEL] = f"{_x(kernel.shape[2:])} to {_x(goal.shape[2:])}"
    _check_fit(wanted, state, file, report.path)
    backbone.load_state_dict(state)
    for name in wanted:
        report.took(prefix + name, file.sources.get(name, (name,)))
    if file.layout in ("CLIP", "CLIP-ReID") and not _is_quick_gelu(backbone):
        report.warnings.append(
            "OpenAI's CLIP was trained with QuickGELU, and this backbone has another activation: use model/backbone=clip_base"
        )


def say(report: WeightsReport) -> None:
    """The report in the log: one line, and one for each warning."""
    logger.info("%s", report.line())
    for warning in report.warnings:
        logger.warning("%s: %s", report.path, warning)


def _fit_positions(
    backbone: VisionTransformer,
    file: Translation,
    state: dict[str, Tensor],
    report: WeightsReport,
    source_grid: Sequence[int] | None,
) -> None:
    positions = split_positions(file, patch_grid(backbone), source_grid, report.path)
    added, state["pos_embed"] = place_positions(positions, backbone)
    for token, rows in added.items():
        state[token] = state[token].float() + rows
        file.sources[token] = (*file.sources[token], *file.sources["pos_embed"])
    if positions.grid != patch_grid(backbone):
        report.resampled["pos_embed"] = f"{_x(positions.grid)} to {_x(patch_grid(backbone))}"


def _fit_tokens(
    backbone: VisionTransformer, file: Translation, state: dict[str, Tensor], report: WeightsReport
) -> None:
    """Tokens that the backbone lacks: the distillation token can go, registers cannot, for every patch reads them."""
    if "dist_token" in state and not hasattr(backbone, "dist_token"):
        del state["dist_token"]
        report.dropped |= dict.fromkeys(file.sources["dist_token"], "the backbone has no distillation token")
        report.warnings.append(
            "dist_token is left out, for this backbone has none; its network computes slightly differently. "
            "model.backbone.name=deit_base_distilled_patch16_224 keeps it"
        )
    if "reg_token" in state and getattr(backbone, "reg_token", None) is None:
        raise CheckpointError(
            f"{report.path} has {state['reg_token'].shape[1]} register tokens, which its patches read in every layer, and this "
            "backbone has none. Use one with registers, such as model/backbone=dinov2_base_reg, or weights without."
        )


def _check_fit(wanted: dict[str, Tensor], state: dict[str, Tensor], file: Translation, path: str) -> None:
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    wrong = sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
    if not (missing or unexpected or wrong):
        return
    details = [
        f"{len(names)} {what} (such as {names[0]})"
        for what, names in (
            ("missing", missing),
            ("unknown", [_named(file, name) for name in unexpected]),
            ("of another shape", [f"{_named(file, k)}, {_x(state[k].shape)} for {_x(wanted[k].shape)}" for k in wrong]),
        )
        if names
    ]
    raise Misfit(
        f"{path} ({file.layout}) does not fit this backbone: {', '.join(details)} of {len(wanted)} tensors. "
        f"The file is {describe(state)}. Choose the model.backbone that it was made with: python -m aaformer_lit.prepare "
        f"weights=FILE names those that it fits. {THREE_WAYS}",
        len(missing) + len(unexpected) + len(wrong),
    )


def _named(file: Translation, name: str) -> str:
    return file.sources.get(name, (name,))[0]


def describe(state: dict[str, Tensor]) -> str:
    """What ViT a translated file holds, in words."""
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    words = [f"a ViT of {len(blocks)} blocks"]
    if "cls_token" in state:
        words.append(f"{state['cls_token'].shape[-1]} channels")
    kernel = state.get(KERNEL)
    if any(name.startswith("patch_embed.conv.") for name in state):
        words.append("a convolution stem (ICS)")
    elif kernel is not None and kernel.ndim == 4:
        words.append(f"patches of {_x(kernel.shape[2:])}")
    for name, text in (("blocks.0.ls1.gamma", "LayerScale"), ("norm_pre.weight", "a norm before its blocks")):
        words += [text] if name in state else []
    words += [f"{state[token].shape[1]} {token}" for token in TOKENS[1:] if token in state]
    return ", ".join(words)


def _is_quick_gelu(backbone: VisionTransformer) -> bool:
    activation: nn.Module = backbone.blocks[0].mlp.act
    x = torch.ones(1)
    return bool((activation(x) - x * torch.sigmoid(1.702 * x)).abs() < 1e-4)


def _x(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
