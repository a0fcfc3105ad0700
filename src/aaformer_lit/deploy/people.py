"""The people that a file is judged on, and those that int8 is calibrated with: never the same images.

Of a data set, its training images calibrate and people of its query and gallery judge. Of images of one's own, every second
one calibrates.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.test_set import TestSet
from aaformer_lit.errors import ConfigError, ProtocolError

_FEWEST = 16  # images that say what range a layer's inputs have


@dataclass(frozen=True)
class People:
    """Files: `own` without names, `test` with names, and those that calibrate."""

    own: Sequence[Path] = ()
    test: TestSet | None = None
    calibration: Sequence[Path] = ()


def choose_people(
    own: Sequence[Path], data: ReIDDataModule | None, *, test_images: int, calibration_images: int, seed: int = 0
) -> People:
    """Some of what is there.

    Args:
        own: images of one's own.
        data: a data set that has been set up.
        test_images: of the data set's query and gallery, about; people are taken with all their images.
        calibration_images: at most; 0: none are needed.
        seed: of the choice.

    Raises:
        ConfigError: too few images to calibrate with.
    """
    test = None if data is None else whole_people(next(iter(data.test_sets.values())), test_images, seed)
    if not calibration_images:
        return People(own, test)
    files = [record.path for record in data.train_records] if data is not None else list(own[::2])
    calibration = sorted(random.Random(seed).sample(files, min(calibration_images, len(files))))
    if len(calibration) < _FEWEST:
        raise ConfigError(
            f"format.dtype=int8 needs {_FEWEST} images or more to calibrate with; got {len(calibration)}. Give a folder of at "
            f"least {2 * _FEWEST} as check.own_images, a data set with training images as data=NAME, or a larger "
            "check.calibration_images."
        )
    return People(own if data is not None else own[1::2], test, calibration)


def whole_people(test: TestSet, images: int, seed: int) -> TestSet:
    """People of query and gallery with all their images, until there are as many images as wanted.

    Raises:
        ProtocolError: nobody is in both.
    """
    pids = sorted({record.pid for record in test.query} & {record.pid for record in test.gallery})
    if not pids:
        raise ProtocolError(
            f"nobody in the query images of {test.name} is in its gallery; compare on others (data=...)."
        )
    random.Random(seed).shuffle(pids)
    chosen: set[int] = set()
    count = 0
    for pid in pids:
        if count >= images:
            break
        chosen.add(pid)
        count += sum(record.pid == pid for record in test.records)
    return TestSet(
        test.name,
        [record for record in test.query if record.pid in chosen],
        [record for record in test.gallery if record.pid in chosen],
    )
