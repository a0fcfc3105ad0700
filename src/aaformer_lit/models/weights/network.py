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

Recipe = list[tuple[int, float]]  # tokens of the file and their weights; empty: nothing there to start from


class Network(Protocol):
    """What is filled, as far as it is looked at: a `ReIDViT`."""

    backbone: VisionTransformer
    dim: int
    num_classes: int
    joined: bool
    granularities: tuple[int, ...]

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
    fill_backbone(network.backbone, source, report, source_grid, prefix="backbone.")
    filling = _Filling(network, source, report)
    filling.fill_parts()
    filling.fill_branch()
    filling.fill_heights()
    filling.fill_heads()
    for name in sorted(source.network.keys() - filling.used):
        reason = f"{type(network).__name__} here has nothing for it"
        filling.drop(name, reason)
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


class _Filling:
    """What of a file goes into a network beside its backbone; `used` are the file's tensors that have been decided on."""

    def __init__(self, network: Network, source: Translation, report: WeightsReport) -> None:
        self.network, self.source, self.report = network, source, report
        self.own = {name: value for name, value in network.state_dict().items() if not name.startswith("backbone.")}
        self.parts = part_recipes(source.granularities, network.granularities)
        self.used: set[str] = set()

    def take(self, *names: str) -> None:
        """Tensors as the file has them."""
        for name in names:
            self.own[name].copy_(self.source.network[name])
            self.took(name, name)

    def took(self, name: str, *names: str) -> None:
        """The network's tensor `name` was filled from `names` of the file."""
        self.report.took(name, [source for one in names for source in self.source.sources[one]])
        self.used.update(names)

    def drop(self, name: str, reason: str) -> None:
        self.report.dropped |= dict.fromkeys(self.source.sources[name], reason)
        self.used.add(name)

    def fill_parts(self) -> None:
        tokens, positions = (self.source.network.get(name) for name in ("part_tokens", "part_pos_embed"))
        target, own_positions = self.own.get("part_tokens"), self.own.get("part_pos_embed")
        if target is None:
            return
        if tokens is None or not self.parts or not all(self.parts):
            self.report.new.append(f"part tokens ({target.shape[1]})")
            return
        theirs, ours = list(self.source.granularities), list(self.network.granularities)
        if tokens.shape[-1] != target.shape[-1] or tokens.shape[1] != sum(theirs):
            raise CheckpointError(
                f"{self.report.path} has part tokens of shape {tuple(tokens.shape)} for the granularities {theirs}, "
                f"and this network's have {target.shape[-1]} channels: the file is not whole, or of another model."
            )
        if own_positions is None:
            target.copy_(_mix(tokens if positions is None else tokens + positions, self.parts))
        else:
            target.copy_(_mix(tokens, self.parts))
            own_positions.zero_()
            if positions is not None:
                own_positions.copy_(_mix(positions, self.parts))
                self.took("part_pos_embed", "part_pos_embed")
        self.took("part_tokens", "part_tokens", *([] if positions is None else ["part_pos_embed"]))
        if theirs != ours:
            self.report.resampled["part_tokens"] = f"{theirs} to {ours}"

    def fill_branch(self) -> None:
        """TransReID's second last block: whole, or as it was made."""
        names = [name for name in self.own if name.startswith(("local_block.", "local_norm."))]
        there = [name for name in names if name in self.source.network]
        if names and not there:
            self.report.new.append("the local branch")
            return
        missing = sorted(set(names) - set(there))
        unlike = [name for name in there if self.own[name].shape != self.source.network[name].shape]
        if missing or unlike:
            raise CheckpointError(
                f"{self.report.path} has a local branch that is not whole: {(missing or unlike)[0]} is missing or of "
                "another shape."
            )
        self.take(*names)
        grids = [sizes for name, sizes in self.report.resampled.items() if name.endswith("pos_embed")]
        if names and grids:
            self.report.warnings.append(
                f"its positions lie in another grid ({grids[0]}), so that its groups of patches are others here; for images of "
                "the same size say its model.backbone.stride (12 in TransReID's best files)"
            )

    def fill_heights(self) -> None:
        """Where on the body patches are: as the file has it for as many rows of patches, else as it was made."""
        names = [name for name in self.own if name.startswith("heights.")]
        there = [name for name in names if name in self.source.network]
        if all(name in there and self.source.network[name].shape == self.own[name].shape for name in names):
            self.take(*names)
            return
        self.report.new.append("heights on the body")
        for name in there:
            self.drop(name, "not for as many rows of patches as here")

    def fill_heads(self) -> None:
        """Necks and classifiers, token by token: of CLS, and of each part that is one of the file's."""
        network, source, report = self.network, self.source, self.report
        if not any(name.startswith("heads.") for name in source.network):
            report.new.append("necks and classifiers" if network.num_classes else "necks")
            return
        same_kind = all((name in self.own) == (name in source.network) for name in ("part_tokens", "local_norm.weight"))
        tokens = {0: 0}  # of the network, of the file
        if network.joined and source.joined:
            tokens[1] = 1
        elif not network.joined and not source.joined and same_kind:
            tokens |= {token: 1 + recipe[0][0] for token, recipe in enumerate(self.parts, start=1) if len(recipe) == 1}
        necks = [name for name in self.own if name.startswith("heads.neck.")]
        for name in necks:
            theirs, mine = source.network.get(name), self.own[name]
            if theirs is None:
                continue
            if mine.ndim == 0:  # the count of batches
                mine.copy_(theirs.reshape(()))
            elif theirs.numel() != network.dim * source.num_heads:
                raise CheckpointError(
                    f"{report.path} has {name} of {theirs.numel()} channels; {source.num_heads} tokens of {network.dim} "
                    f"channels have {network.dim * source.num_heads}: the file is not whole, or of another model."
                )
            else:
                for token, their_token in tokens.items():
                    mine.view(-1, network.dim)[token] = theirs.view(-1, network.dim)[their_token]
            self.took(name, name)
        if len(tokens) < network.num_tokens:
            report.new.append(f"necks of {network.num_tokens - len(tokens)} part features")
        missing = [name for name in necks if name not in self.used]
        if missing:
            report.warnings.append(f"the file lacks {', '.join(missing)}: newly made")
        self._fill_classifiers(tokens)

    def _fill_classifiers(self, tokens: dict[int, int]) -> None:
        name, joined = "heads.classifier", self.source.joined
        theirs, mine = self.source.network.get(name), self.own.get(name)
        if mine is None:
            if theirs is not None:
                self.drop(name, "this network only embeds")
            return
        ids = mine.shape[1]
        if theirs is None:
            self.report.new.append(f"classifiers of {ids} people (the file has no classifiers)")
            return
        same_use = self.network.joined == joined
        if theirs.shape[1:] != mine.shape[1:] or len(theirs) != self.source.num_heads or not same_use:
            has = f"classifiers of {theirs.shape[1]} people{'' if same_use else ' for another descriptor'}"
            self.report.new.append(f"classifiers of {ids} people (the file has {has})")
            self.drop(name, f"{has}, here are {ids}")
            return
        for token, their_token in tokens.items():
            mine[token] = theirs[their_token]
        self.took(name, name)
        self.report.warnings.append(
            f"classifiers are taken, because both know {ids} people: they are right if these are the same people"
        )


def _mix(tokens: Float[Tensor, "1 old dim"], recipes: list[Recipe]) -> Float[Tensor, "1 new dim"]:
    weights = tokens.new_zeros(len(recipes), tokens.shape[1])
    for row, recipe in zip(weights, recipes, strict=True):
        for token, share in recipe:
            row[token] = share
    return weights @ tokens
