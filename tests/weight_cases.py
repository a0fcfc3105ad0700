"""Files of every layout, at several grids: the tensors, the network that they are of, and the backbone for them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import weight_nets as nets

PLAIN = "vit_tiny_patch16_224"
GRIDS = {(256, 128): (16, 8), (256, 64): (16, 4), (224, 224): (14, 14)}


@dataclass
class Case:
    """A layout: `shapes(patches)` of its file, `net(tensors, images)`, and how timm's backbone is built for it."""

    shapes: Callable[[int], dict[str, tuple[int, ...]]]
    net: Callable[[nets.State, Tensor], Tensor]
    name: str = PLAIN
    options: dict[str, Any] = field(default_factory=dict)
    wrap: Callable[[nets.State], Any] = lambda state: state
    unused: tuple[str, ...] = ()  # prefixes of tensors that the network does not read
    alone: tuple[str, ...] = ()  # of those, the ones without companions: a file without them is a whole file


def head(prefix: str = "head.") -> dict[str, tuple[int, ...]]:
    return {f"{prefix}weight": (5, nets.DIM), f"{prefix}bias": (5,)}


def heads(*tokens: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for token in tokens:
        kinds = ("weight", "bias", "running_mean", "running_var")
        shapes |= {f"bottleneck{token}.{kind}": (nets.DIM,) for kind in kinds}
        shapes |= {f"bottleneck{token}.num_batches_tracked": (), f"classifier{token}.weight": (9, nets.DIM)}
    return shapes


def scaled(shapes: dict[str, tuple[int, ...]], *names: str) -> dict[str, tuple[int, ...]]:
    return shapes | {f"blocks.{n}.{name}": (nets.DIM,) for n in range(nets.DEPTH) for name in names}


def dino_head(prefix: str) -> dict[str, tuple[int, ...]]:
    shapes = {f"{prefix}mlp.{n}.{k}": (4, 4) if k == "weight" else (4,) for n in (0, 2, 4) for k in ("weight", "bias")}
    return shapes | {f"{prefix}last_layer.weight_g": (4, 1), f"{prefix}last_layer.weight_v": (4, 4)}


def jpm_shapes(patches: int) -> dict[str, tuple[int, ...]]:
    shapes = nets.vit_shapes(1 + patches, "base.") | head("base.fc.") | heads("", "_1", "_2", "_3", "_4")
    for branch in ("b1", "b2"):
        shapes |= nets.block_shapes(f"{branch}.0.") | {f"{branch}.1.{kind}": (nets.DIM,) for kind in ("weight", "bias")}
    return shapes


def pass_shapes(patches: int, prefix: str = "") -> dict[str, tuple[int, ...]]:
    tokens = ("cls_pos", *(f"part{n}_pos" for n in (1, 2, 3)), *(f"part_token{n}" for n in (1, 2, 3)))
    return nets.vit_shapes(patches, prefix) | {prefix + token: (1, 1, nets.DIM) for token in tokens}


def fine_tuned_pass_shapes(patches: int, one_neck: bool) -> dict[str, tuple[int, ...]]:
    shapes = pass_shapes(patches, "base.") | head("base.fc.") | {"classifier.weight": (9, 2 * nets.DIM)}
    for token in ("",) if one_neck else ("", "_1", "_2", "_3"):
        kinds = ("weight", "bias", "running_mean", "running_var")
        shapes |= {f"bottleneck{token}.{kind}": ((1 + one_neck) * nets.DIM,) for kind in kinds}
        shapes[f"bottleneck{token}.num_batches_tracked"] = ()
    return shapes


def mae_shapes(patches: int) -> dict[str, tuple[int, ...]]:
    shapes = nets.vit_shapes(1 + patches) | {"mask_token": (1, 1, 8), "decoder_pos_embed": (1, 1 + patches, 8)}
    for name, out in (("decoder_embed", 8), ("decoder_norm", 8), ("decoder_pred", 48)):
        shapes |= {f"{name}.weight": (out, 8), f"{name}.bias": (out,)}
    return shapes | {
        name.replace("blocks.", "decoder_blocks."): s for name, s in nets.block_shapes("blocks.0.").items()
    }


def chunked(state: nets.State) -> nets.State:
    return {name.replace("blocks.", "blocks.0."): value for name, value in state.items()}


ARGS = {"args": argparse.Namespace(arch="vit_small", lr=0.1, nested=argparse.Namespace(a=[1, 2])), "epoch": 3}
OPTIMIZER = {"optimizer": {"param_groups": [{"lr": np.float64(1e-3)}]}}  # of a schedule in numpy
DINOV2 = scaled({}, "ls1.gamma", "ls2.gamma")
CASES = {
    "timm": Case(lambda n: nets.vit_shapes(1 + n) | head(), nets.timm, unused=("head.",)),
    "DeiT": Case(
        lambda n: nets.vit_shapes(1 + n) | head(), nets.timm, wrap=lambda s: {"model": s}, unused=("head.",)
    ),
    "DeiT, distilled": Case(
        lambda n: nets.vit_shapes(2 + n) | {"dist_token": (1, 1, nets.DIM)} | head() | head("head_dist."),
        nets.deit_distilled, "deit_tiny_distilled_patch16_224", wrap=lambda s: {"model": s}, unused=("head",),
    ),
    "DeiT-III": Case(
        lambda n: scaled(nets.vit_shapes(n), "gamma_1", "gamma_2") | head(), nets.deit3,
        "deit3_small_patch16_224", wrap=lambda s: {"model": s}, unused=("head.",),
    ),
    "DINO / LUPerson, whole checkpoint": Case(
        lambda n: nets.vit_shapes(1 + n, "backbone.") | dino_head("head."),
        lambda w, x: nets.timm(w, x, "backbone."),
        wrap=lambda s: {"student": {f"module.{k}": v for k, v in s.items()}, "teacher": s} | ARGS | OPTIMIZER,
        unused=("head.",),
    ),
    "iBOT": Case(
        lambda n: nets.vit_shapes(1 + n) | {"masked_embed": (1, nets.DIM)}, nets.timm,
        wrap=lambda s: {"state_dict": s}, unused=("masked_embed",), alone=("masked_embed",),
    ),
    "MAE": Case(
        mae_shapes, nets.timm, wrap=lambda s: {"model": s} | ARGS, unused=("decoder_", "mask_token"),
    ),
    "DINOv2": Case(
        lambda n: nets.vit_shapes(1 + n) | DINOV2 | {"mask_token": (1, nets.DIM)}, nets.dinov2,
        "vit_small_patch14_dinov2", {"patch_size": 16}, unused=("mask_token",), alone=("mask_token",),
    ),
    "DINOv2 with registers": Case(
        lambda n: nets.vit_shapes(1 + n) | DINOV2 | {"mask_token": (1, nets.DIM), "register_tokens": (1, 4, nets.DIM)},
        nets.dinov2, "vit_small_patch14_reg4_dinov2", {"patch_size": 16}, unused=("mask_token",), alone=("mask_token",),
    ),
    "DINOv2, chunked": Case(
        lambda n: nets.vit_shapes(1 + n) | DINOV2 | {"mask_token": (1, nets.DIM)},
        nets.dinov2, "vit_small_patch14_dinov2", {"patch_size": 16},
        wrap=lambda s: {"teacher": {f"backbone.{k}": v for k, v in chunked(s).items()}},
        unused=("mask_token",), alone=("mask_token",),
    ),
    "CLIP": Case(
        lambda n: nets.clip_shapes(1 + n) | {"logit_scale": (), "text_projection": (4, 4)}, nets.clip,
        "vit_base_patch16_clip_quickgelu_224", unused=("visual.proj", "logit_scale", "text_projection"),
        alone=("logit_scale", "text_projection"),
    ),
    "CLIP-ReID": Case(
        lambda n: nets.clip_shapes(1 + n, "image_encoder."), lambda w, x: nets.clip(w, x, "image_encoder."),
        "vit_base_patch16_clip_quickgelu_224", unused=("image_encoder.proj",),
    ),
    "TransReID": Case(
        lambda n: nets.vit_shapes(1 + n, "base.") | head("base.fc.") | heads(""),
        lambda w, x: nets.timm(w, x, "base."), unused=("base.fc.", "bottleneck", "classifier"),
    ),
    "TransReID with SIE": Case(
        lambda n: nets.vit_shapes(1 + n, "base.") | head("base.fc.") | heads("") | {"base.sie_embed": (6, 1, nets.DIM)},
        lambda w, x: nets.timm(w, x, "base."), unused=("base.fc.", "bottleneck", "classifier", "base.sie_embed"),
        alone=("base.sie_embed",),
    ),
    "TransReID with JPM": Case(
        jpm_shapes, lambda w, x: nets.transreid_jpm(w, x)[:, : nets.DIM],
        unused=("base.fc.", "bottleneck", "classifier", "b2.", f"base.blocks.{nets.DEPTH - 1}.", "base.norm."),
    ),
    "LUPerson with ICS": Case(lambda n: nets.ics_shapes(1 + n), nets.ics, options={"stem": "ics"}),
}  # fmt: skip
# whose CLS also sees part tokens, which a backbone alone has not
PASS_CASES = {
    "PASS": Case(pass_shapes, nets.pass_tokens),
    "PASS, fine-tuned": Case(
        lambda n: fine_tuned_pass_shapes(n, one_neck=False), nets.fine_tuned_pass,
        unused=("base.fc.", "bottleneck", "classifier"),
    ),
    "PASS, fine-tuned with one neck": Case(
        lambda n: fine_tuned_pass_shapes(n, one_neck=True), nets.fine_tuned_pass,
        unused=("base.fc.", "bottleneck", "classifier"),
    ),
}  # fmt: skip


def images(size: tuple[int, int], batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))
