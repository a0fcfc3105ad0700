"""From a file into a whole network: backbone, part tokens, jigsaw branch, necks, and classifiers of the same people.

What the file has for a part of the network is taken, what it has not starts as it was made, and the report says which is
which. Other granularities start from what fits: a pair of parts from the first and last of three, in their order
from head to foot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from aaformer_lit.errors import CheckpointError
from aaformer_lit.models.weights.file import WeightsFile
from aaformer_lit.models.weights.layout import Translation
from aaformer_lit.models.weights.load import fill_backbone, say, translate
from aaformer_lit.models.weights.report import WeightsReport

NECK = ("weight", "bias", "running_mean", "running_var")
Recipe = list[tuple[int, float]]  # tokens of the file and their weights; empty: nothing there to start from


class Network(Protocol):
    """What is filled, as far as it is looked at: a `ReIDViT`."""

    backbone: VisionTransformer
    dim: int
    num_classes: int
    joined: bool

    @property
    def granularities(self) -> tuple[int, ...]: ...

    @property
    def num_tokens(self) -> int: ...

    def state_dict(self) -> dict[str, Tensor]: ...


@torch.no_grad()
def load_network_weights(
    network: Network, file: WeightsFile, source_grid: Sequence[int] | None = None
) -> WeightsReport:
    """Start a `ReIDViT` from a file, in place.

    Args:
        network: whose backbone must fit whole; the rest takes what fits.
        file: as `open_file` reads it.
        source_grid: patch rows and columns of the file, where it does not say them.

    Raises:
        CheckpointError: the file is refused, or its backbone does not fit.
    """
    source = translate(file)
    report = WeightsReport(str(file.path), file.sha256, source.layout, file.wrapper)
    fill_backbone(network.backbone, source, report, source_grid)
    report.taken, report.mapped = [], {}
    for name in network.backbone.state_dict():
        report.took(f"backbone.{name}", source.sources.get(name, (name,)))
    own = {name: value for name, value in network.state_dict().items() if not name.startswith("backbone.")}
    parts = part_recipes(source.granularities, network.granularities)
    used = _fill_parts(network.granularities, own, source, parts, report)
    used |= _fill_branch(own, source, report) | _fill_heights(own, source, report)
    used |= _fill_heads(network, own, source, parts, report)
    for name in sorted(source.network.keys() - used):
        reason = f"{type(network).__name__} here has nothing for it"
        report.dropped |= dict.fromkeys(source.sources[name], reason)
        report.warnings.append(f"{name} of the file is left out: {reason}")
    say(report)
    return report


def part_recipes(source: Sequence[int], target: Sequence[int]) -> list[Recipe]:
    """For each part token of the network, the file's part tokens that it starts from.

    A granularity that the file has is taken as it is. Another is spread over the nearest one of the file from first to last,
    between two tokens where it falls between them.
    """
    if list(source) == list(target):  # with two equal granularities, each is its own
        return [[(token, 1.0)] for token in range(sum(source))]
    recipes: list[Recipe] = []
    for parts in target:
        nearest = min((s for s in source if s > 1 or parts == 1), key=lambda s: (abs(s - parts), -s), default=None)
        if nearest is None:
            recipes += [[] for _ in range(parts)]
            continue
        first = sum(source[: list(source).index(nearest)])
        for part in range(parts):
            place = (nearest - 1) / 2 if parts == 1 else part * (nearest - 1) / (parts - 1)
            low, share = int(place), place - int(place)
            recipes.append([(first + low, 1 - share)] + ([(first + low + 1, share)] if share > 1e-9 else []))
    return recipes


def _fill_parts(
    granularities: Sequence[int],
    own: dict[str, Tensor],
    source: Translation,
    parts: list[Recipe],
    report: WeightsReport,
) -> set[str]:
    tokens, positions = source.network.get("part_tokens"), source.network.get("part_pos_embed")
    target, own_positions = own.get("part_tokens"), own.get("part_pos_embed")
    if target is None:
        return set()
    if tokens is None or not parts or not all(parts):
        report.new.append(f"part tokens ({target.shape[1]})")
        return set()
    if tokens.shape[-1] != target.shape[-1] or tokens.shape[1] != sum(source.granularities):
        raise CheckpointError(
            f"{report.path} has part tokens of shape {tuple(tokens.shape)} for the granularities {list(source.granularities)}, "
            f"and this network's have {target.shape[-1]} channels: the file is not whole, or of another model."
        )
    names = ["part_tokens"] + ["part_pos_embed"] * (positions is not None)
    if own_positions is None:
        target.copy_(_mix(tokens if positions is None else tokens + positions, parts))
    else:
        target.copy_(_mix(tokens, parts))
        own_positions.zero_()
        if positions is not None:
            own_positions.copy_(_mix(positions, parts))
            report.took("part_pos_embed", source.sources["part_pos_embed"])
    report.took("part_tokens", [name for key in names for name in source.sources[key]])
    if list(source.granularities) != list(granularities):
        report.resampled["part_tokens"] = f"{list(source.granularities)} to {list(granularities)}"
    return set(names)


def _mix(tokens: Float[Tensor, "1 old dim"], recipes: list[Recipe]) -> Float[Tensor, "1 new dim"]:
    weights = tokens.new_zeros(len(recipes), tokens.shape[1])
    for row, recipe in zip(weights, recipes, strict=True):
        for token, share in recipe:
            row[token] = share
    return weights @ tokens


def _fill_branch(own: dict[str, Tensor], source: Translation, report: WeightsReport) -> set[str]:
    """TransReID's second last block: whole, or as it was made."""
    names = [name for name in own if name.startswith(("local_block.", "local_norm."))]
    there = [name for name in names if name in source.network]
    if not names:
        return set()
    if not there:
        report.new.append("the local branch")
        return set()
    missing = sorted(set(names) - set(there))
    unlike = [name for name in there if own[name].shape != source.network[name].shape]
    if missing or unlike:
        raise CheckpointError(
            f"{report.path} has a local branch that is not whole: {(missing or unlike)[0]} is missing or of another shape."
        )
    return _take(names, own, source, report)


def _fill_heights(own: dict[str, Tensor], source: Translation, report: WeightsReport) -> set[str]:
    """Where on the body patches are: as the file has it for as many rows of patches, else as it was made."""
    names = [name for name in own if name.startswith("heights.")]
    there = [name for name in names if name in source.network]
    if not all(name in there and source.network[name].shape == own[name].shape for name in names):
        report.new.append("heights on the body")
        for name in there:
            report.dropped |= dict.fromkeys(source.sources[name], "not for as many rows of patches as here")
        return set(there)
    return _take(names, own, source, report)


def _take(names: Sequence[str], own: dict[str, Tensor], source: Translation, report: WeightsReport) -> set[str]:
    for name in names:
        own[name].copy_(source.network[name])
        report.took(name, source.sources[name])
    return set(names)


def _fill_heads(
    network: Network, own: dict[str, Tensor], source: Translation, parts: list[Recipe], report: WeightsReport
) -> set[str]:
    """Necks and classifiers, token by token: of CLS, and of each part that is one of the file's."""
    heads = {name: value for name, value in source.network.items() if name.startswith("heads.")}
    if not heads:
        report.new.append("necks and classifiers" if network.num_classes else "necks")
        return set()
    same_kind = all((name in own) == (name in source.network) for name in ("part_tokens", "local_norm.weight"))
    tokens = {0: 0}  # of the network, of the file
    if network.joined and source.joined:
        tokens[1] = 1
    elif not network.joined and not source.joined and same_kind:
        tokens |= {token: 1 + recipe[0][0] for token, recipe in enumerate(parts, start=1) if len(recipe) == 1}
    count, dim = network.num_tokens, network.dim
    used = set()
    for kind in NECK:
        name = f"heads.neck.{kind}"
        if name not in heads or name not in own:
            continue
        _check_heads(heads[name].numel(), source, dim, name, report)
        rows, mine = heads[name].view(-1, dim), own[name].view(count, dim)
        for token, theirs in tokens.items():
            mine[token] = rows[theirs]
        report.took(name, source.sources[name])
        used.add(name)
    if "heads.neck.num_batches_tracked" in heads:
        own["heads.neck.num_batches_tracked"].copy_(heads["heads.neck.num_batches_tracked"].reshape(()))
        report.took("heads.neck.num_batches_tracked", source.sources["heads.neck.num_batches_tracked"])
        used.add("heads.neck.num_batches_tracked")
    if len(tokens) < count:
        report.new.append(f"necks of {count - len(tokens)} part features")
    missing = [name for name in own if name.startswith("heads.neck.") and name not in used]
    if missing:
        report.warnings.append(f"the file lacks {', '.join(missing)}: newly made")
    return used | _fill_classifiers(network.joined, own, heads, source, tokens, report)


def _check_heads(size: int, source: Translation, dim: int, name: str, report: WeightsReport) -> None:
    if size != dim * source.num_heads:
        raise CheckpointError(
            f"{report.path} has {name} of {size} channels; {source.num_heads} tokens of {dim} channels have "
            f"{dim * source.num_heads}: the file is not whole, or of another model."
        )


def _fill_classifiers(
    joined: bool,
    own: dict[str, Tensor],
    heads: dict[str, Tensor],
    source: Translation,
    tokens: dict[int, int],
    report: WeightsReport,
) -> set[str]:
    name = "heads.classifier"
    theirs, mine = heads.get(name), own.get(name)
    if mine is None:
        if theirs is not None:
            report.dropped |= dict.fromkeys(source.sources[name], "this network only embeds")
        return {name}
    if (
        theirs is None
        or theirs.shape[1:] != mine.shape[1:]
        or len(theirs) != source.num_heads
        or joined != source.joined
    ):
        has = "no classifiers" if theirs is None else f"classifiers of {theirs.shape[1]} people"
        has += " for another descriptor" if theirs is not None and joined != source.joined else ""
        report.new.append(f"classifiers of {mine.shape[1]} people (the file has {has})")
        if theirs is not None:
            report.dropped |= dict.fromkeys(source.sources[name], f"{has}, here are {mine.shape[1]}")
        return {name}
    for token, their_token in tokens.items():
        mine[token] = theirs[their_token]
    report.took(name, source.sources[name])
    report.warnings.append(
        f"classifiers are taken, because both know {mine.shape[1]} people: they are right if these are the same people"
    )
    return {name}
