"""From answers to decisions: each is accepted, unsure or rejected, and where none is accepted nobody is here.

A search always has a nearest answer. Whether that is the query's person is another question, to which the thresholds of
`aaformer_lit.calibrate` have an answer whose errors are bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aaformer_lit.checkpoints.calibration import CalibrationRecord
from aaformer_lit.errors import ConfigError
from aaformer_lit.gallery.extractor import Extractor
from aaformer_lit.gallery.index.base import NO_ROW, Neighbors
from aaformer_lit.gallery.layout import ALL
from aaformer_lit.gallery.sources import Crop
from aaformer_lit.gallery.store import Gallery

if TYPE_CHECKING:
    from aaformer_lit.metrics.calibration import Decision

HOW_TO = "No thresholds: python -m aaformer_lit.calibrate ckpt={} data=NAME finds them, and answers are accepted or rejected."


def find_calibration(
    given: str | Path | None, gallery: Gallery, extractor: Extractor, tokens: str = ALL
) -> CalibrationRecord | None:
    """The thresholds of a file, else the gallery's own, else the checkpoint's; None where there are none.

    Raises:
        CalibrationError: they cannot be read, or are of another descriptor.
        ConfigError: a file is given, and only some tokens are compared: thresholds are for all of them.
    """
    if tokens != ALL:
        if given is not None:
            raise ConfigError(f"thresholds are for tokens={ALL}, and tokens={tokens} was asked for. Leave one away.")
        return None
    own = CalibrationRecord.of(gallery.about, gallery.folder) if given is None else CalibrationRecord.read(given)
    record = own or extractor.calibration
    if record is not None:
        source = given or (gallery.folder if own else extractor.ckpt)
        record.check(extractor.fingerprint, source, extractor.flip_test)
    return record


def decide(
    calibration: CalibrationRecord,
    gallery: Gallery,
    queries: Sequence[Crop],
    found: Neighbors,
    same_cameras: bool = False,
) -> list[list[Decision]]:
    """About each answer to each query, nearest first.

    `same_cameras`: the gallery's cameras are those of the calibration, so camera pairs have thresholds of their own.
    """
    camids = gallery.table["camid"].tolist() if same_cameras else None
    return [
        [
            calibration.thresholds.decide(float(distance), ("", "") if camids is None else (query.camid, camids[row]))
            for row, distance in zip(rows, distances, strict=True)
            if row != NO_ROW
        ]
        for query, rows, distances in zip(queries, found.rows, found.distances, strict=True)
    ]
