"""Several data sets at once: train on the union, test on each by itself (cross-domain evaluation).

    python -m aaformer_lit.train data=joint data.train=[market1501,msmt17] data.test=[cuhk03,occluded_duke]

People of different data sets are different people: their pids are shifted apart. Every test set is reported under its
own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from aaformer_lit.data.arguments import Common
from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.dataset import DATASETS, ReIDDataset
from aaformer_lit.errors import ConfigError


class JointDataModule(ReIDDataModule):
    """Train and test on several data sets under one root.

    `train` and `test` are names of data sets; `options` holds constructor arguments, e.g. {cuhk03: {protocol:
    detected}}.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        train: Sequence[str],
        test: Sequence[str],
        options: Mapping[str, Mapping[str, Any]] | None = None,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(root, **common)
        self.train_names, self.test_names = _checked("train", train), _checked("test", test)
        self.options = options or {}  # by the data set's name
        unused = set(self.options) - {*train, *test}
        if unused:
            raise ConfigError(
                f"data.options has {', '.join(sorted(unused))}, which is neither in data.train nor in data.test."
            )

    def sources(self) -> tuple[list[ReIDDataset], list[ReIDDataset]]:
        opened = {name: self._open(name) for name in dict.fromkeys([*self.train_names, *self.test_names])}
        return [opened[name] for name in self.train_names], [opened[name] for name in self.test_names]

    def _open(self, name: str) -> ReIDDataset:
        try:
            return DATASETS[name](self.root, **self.options.get(name, {}))
        except TypeError as cause:
            raise ConfigError(f"data.options.{name}={dict(self.options[name])} does not fit: {cause}.") from cause


def _checked(key: str, names: Sequence[str]) -> Sequence[str]:
    if isinstance(names, str) or not names or any(name not in DATASETS for name in names):
        raise ConfigError(f"data.{key}={names} must be a list of data sets out of {', '.join(sorted(DATASETS))}.")
    if len(set(names)) < len(names):
        raise ConfigError(f"data.{key}={list(names)} names a data set twice.")
    if key == "train":
        shown: dict[str, str] = {}
        for name in sorted(names, key=lambda name: DATASETS[name].images_of is not None):  # the originals first
            if (other := shown.setdefault(DATASETS[name].images_of or name, name)) != name:
                raise ConfigError(
                    f"data.train={list(names)}: {name} shows the same people as {other}, under other labels. Keep one."
                )
    return names
