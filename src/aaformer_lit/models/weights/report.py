"""What became of each tensor of a file, in one line for the log and in full for `metadata.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from numpy import allclose

from aaformer_lit.utils.text import plural, some


@dataclass
class WeightsReport:
    """Tensors by name in the file.

    Attributes:
        path, sha256, layout, wrapper: of the file.
        taken: names that are the network's own.
        mapped: name in the network and the names in the file that it comes from.
        resampled: tensor and the sizes between which it was resampled.
        dropped: names left out, and why.
        new: parts of the network that the file has nothing for, and that start as they were made.
        warnings: what the user must know.
        mean, std: of each channel (RGB) of the pre-training's normalization, where it is known.
    """

    path: str
    sha256: str
    layout: str
    wrapper: str = ""
    taken: list[str] = field(default_factory=list)
    mapped: dict[str, list[str]] = field(default_factory=dict)
    resampled: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)

    def took(self, name: str, sources: Sequence[str]) -> None:
        """The network's tensor `name` was filled from `sources`."""
        if list(sources) == [name]:
            self.taken.append(name)
        else:
            self.mapped[name] = list(sources)

    def other_normalization(self, mean: Sequence[float], std: Sequence[float]) -> str | None:
        """A sentence where the pre-training is known to have normalized in another way than by `mean` and `std`."""
        if not self.mean or allclose((*mean, *std), (*self.mean, *self.std), atol=1e-3):
            return None
        theirs, ours = (
            " ".join(f"data.transforms.{name}=[{','.join(f'{v:.3g}' for v in values)}]" for name, values in both)
            for both in ((("mean", self.mean), ("std", self.std)), (("mean", mean), ("std", std)))
        )
        return (
            f"weights of {self.path} were trained on images normalized by {theirs}, this training has {ours}. "
            "Use theirs, unless the recipe means it otherwise (TransReID's has 0.5 with all weights)."
        )

    def line(self) -> str:
        """One line for people."""
        parts = [f"{plural(len(self.taken) + len(self.mapped), 'tensor')} taken"]
        if self.resampled:
            parts.append("resampled " + ", ".join(f"{name} {sizes}" for name, sizes in self.resampled.items()))
        if self.dropped:
            parts.append(f"{len(self.dropped)} left out ({some(self.dropped, 3)})")
        if self.new:
            parts.append(f"newly made: {some(self.new)}")
        under = f" under {self.wrapper}" if self.wrapper else ""
        return f"weights of {self.path} ({self.layout}{under}, sha256 {self.sha256[:12]}): {'; '.join(parts)}"
