"""What became of each tensor of a file, in one line for the log and in full for `metadata.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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

    def took(self, name: str, sources: Sequence[str]) -> None:
        """The network's tensor `name` was filled from `sources`."""
        if list(sources) == [name]:
            self.taken.append(name)
        else:
            self.mapped[name] = list(sources)

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
