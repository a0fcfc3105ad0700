"""Position embeddings from one patch grid to another, and which grid a file was made with.

A file holds positions as a plain list. How many of them belong to tokens is counted from the tokens that it has; which grid
the others form is known (equal count means the same grid), told (`model.backbone.source_grid`), or follows from what
the file is. Where more than one grid is possible, nothing is guessed: scrambled positions train without a word, and badly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from aaformer_lit.errors import CheckpointError, ConfigError
from aaformer_lit.models.weights.layout import TOKENS, Grid, Translation

SIMILAR = math.log(1.1)  # strides that overlap change an aspect by a few percent: 16x8 and 21x10
PERSON = (2.0, 3.0)  # rows per column of what this field trains on: 256x128 and 384x128


@dataclass(frozen=True)
class Positions:
    """A file's positions: one row set per prefix token (None where it has none), and the patches with their grid."""

    tokens: dict[str, Float[Tensor, "1 count dim"] | None]
    patches: Float[Tensor, "1 patches dim"]
    grid: Grid


def patch_grid(backbone: VisionTransformer) -> Grid:
    """Patch rows and columns."""
    rows, columns = backbone.patch_embed.grid_size
    return int(rows), int(columns)


def split_positions(file: Translation, target: Grid, source_grid: Sequence[int] | None, name: str) -> Positions:
    """The positions of a translated file by what they belong to.

    Args:
        file: with `pos_embed`.
        target: grid of the network that takes them.
        source_grid: the file's grid as the user knows it.
        name: of the file, for messages.

    Raises:
        CheckpointError: no grid, or more than one, is possible.
    """
    positions = file.backbone["pos_embed"].float()
    if positions.ndim != 3 or len(positions) != 1:
        raise CheckpointError(
            f"{name} has pos_embed of shape {tuple(positions.shape)}; a ViT's is (1, positions, channels)."
        )
    count = positions.shape[1]
    tokens = {token: file.backbone[token].shape[1] for token in TOKENS if token in file.backbone}
    prefix = sum(tokens.values())
    options = {True: (prefix,), False: (0,), None: (prefix, 0)}[file.positions_of_tokens]
    grids = {
        rows: _grids(count - rows, target, source_grid or file.grid, file.square) for rows in dict.fromkeys(options)
    }
    rows, grid = _choose(grids, target, count, name, source_grid)
    if not rows:
        return Positions(dict.fromkeys(tokens), positions, grid)
    parts = positions[:, :rows].split(list(tokens.values()), dim=1)
    return Positions(dict(zip(tokens, parts, strict=True)), positions[:, rows:], grid)


def _grids(patches: int, target: Grid, source: Sequence[int] | None, square: bool) -> list[Grid]:
    """The grids that so many patches can be, best first; one where there is no doubt."""
    if source is not None:
        rows, columns = source
        return [(rows, columns)] if rows * columns == patches else []
    if patches == target[0] * target[1]:
        return [target]
    side = math.isqrt(max(patches, 0))
    is_square = side > 1 and side * side == patches
    if is_square and square:
        return [(side, side)]
    pairs = [(patches // c, c) for c in range(2, patches // 2 + 1) if patches % c == 0]
    aspects = (target[0] / target[1], *PERSON)
    similar = [pair for pair in pairs if any(abs(math.log(pair[0] / pair[1] / a)) < SIMILAR for a in aspects)]
    return list(dict.fromkeys([(side, side)] * is_square + similar))


def _choose(
    grids: dict[int, list[Grid]], target: Grid, count: int, name: str, source: Sequence[int] | None
) -> tuple[int, Grid]:
    same = [(rows, target) for rows, options in grids.items() if options == [target]]
    possible = same or [(rows, grid) for rows, options in grids.items() for grid in options]
    if len(possible) == 1:
        return possible[0]
    if source is not None:
        tokens = " or ".join(str(rows) for rows in grids)
        raise CheckpointError(
            f"model.backbone.source_grid={list(source)} does not fit {name}: it holds {count} positions, {tokens} of them of "
            f"tokens, and {source[0]}x{source[1]} patches are {source[0] * source[1]}."
        )
    if possible:
        choices = " or ".join(f"[{rows},{columns}]" for _, (rows, columns) in possible)
        known = f"they could be the grid {choices}"
    else:
        all_pairs = [(c, n // c) for n in (count - rows for rows in grids) for c in range(2, n // 2 + 1) if n % c == 0]
        near = sorted(all_pairs, key=lambda pair: abs(math.log(pair[0] / pair[1] * target[1] / target[0])))[:4]
        choices = ", ".join(f"[{rows},{columns}]" for rows, columns in near)
        known = f"no square, and none with the aspect of {target[0]}x{target[1]} or of people"
        known += f"; for example {choices}" if choices else ""
    raise CheckpointError(
        f"{name} does not say which patch grid its {count} positions form: {known}. Say it: "
        "model.backbone.source_grid=[rows,columns], image size over stride, such as [16,8] for 256x128 images and stride 16."
    )


def place_positions(positions: Positions, backbone: VisionTransformer) -> tuple[dict[str, Tensor], Tensor]:
    """What is added to each token, and the `pos_embed`, so that the backbone computes what the file's network does.

    timm has backbones whose positions start with those of the tokens, and others (`no_embed_class`) where tokens have none.
    A token's position is added to the token there, and is zero here where the file has none.
    """
    target = patch_grid(backbone)
    patches = positions.patches
    if positions.grid != target:
        patches = resample_abs_pos_embed(patches, list(target), list(positions.grid), num_prefix_tokens=0)
    if backbone.no_embed_class:
        return {token: rows for token, rows in positions.tokens.items() if rows is not None}, patches
    rows = []
    for token in TOKENS:
        own, given = getattr(backbone, token, None), positions.tokens.get(token)
        if own is not None:
            rows.append(patches.new_zeros(1, own.shape[1], patches.shape[-1]) if given is None else given)
    return {}, torch.cat([*rows, patches], dim=1)


def check_source_grid(grid: Sequence[int] | None) -> None:
    """Raise `ConfigError` unless it is two positive numbers or None."""
    if grid is not None and (len(grid) != 2 or min(grid) < 1):
        raise ConfigError(f"source_grid={list(grid)} must be patch rows and columns, such as [16,8].")
