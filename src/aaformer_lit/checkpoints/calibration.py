"""Thresholds on disk: found for one descriptor, beside its checkpoint, and refused for any other.

    last.calibration.json       beside last.ckpt
    model/calibration.json      in an exported folder

A distance means something for one function from pixels to descriptor only, so the fingerprint of that function stands in
the file. What a checkpoint says of itself has the content as `calibration`; so exports carry it in their metadata.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aaformer_lit.checkpoints.fingerprint import fingerprint
from aaformer_lit.checkpoints.hub import local_path
from aaformer_lit.errors import AAformerError, CalibrationError, first_line
from aaformer_lit.models import ReIDViT
from aaformer_lit.utils.files import write_json

if TYPE_CHECKING:
    from aaformer_lit.metrics.calibration import Calibration

log = logging.getLogger(__name__)
FORMAT = 1
KEY = "calibration"
FILE = "calibration.json"


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """Thresholds with the descriptor that they are for.

    `data` names the data set of the people whom they were found on; `flip_test` is whether the descriptors of image and
    mirror image were averaged.
    """

    thresholds: Calibration
    fingerprint: str
    flip_test: bool
    data: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: object) -> CalibrationRecord:
        """The inverse of `as_dict`. Raises `CalibrationError`, which names the source."""
        from aaformer_lit.metrics.calibration import Calibration  # most models have none

        try:
            if content["format"] > FORMAT:
                raise CalibrationError(f"format {content['format']} is newer than this version reads ({FORMAT})")
            thresholds = Calibration.from_dict(content["thresholds"])
            return cls(thresholds, str(content["fingerprint"]), bool(content["flip_test"]), str(content["data"]))
        except (AAformerError, KeyError, TypeError, AttributeError) as error:
            raise CalibrationError(
                f"{source} is no calibration that can be read: {first_line(error)}. Make one with aaformer_lit.calibrate."
            ) from error

    @classmethod
    def read(cls, path: str | Path) -> CalibrationRecord:
        """From a file. Raises `CalibrationError`."""
        try:
            content = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise CalibrationError(
                f"{path} is no calibration that can be read: {first_line(error)}. Make one with aaformer_lit.calibrate."
            ) from error
        return cls.from_dict(content, path)

    @classmethod
    def of(cls, about: Mapping[str, Any], source: object = "the model") -> CalibrationRecord | None:
        """What a description or a `gallery.json` holds. Raises `CalibrationError`."""
        return cls.from_dict(about[KEY], source) if about.get(KEY) else None

    def write(self, path: Path) -> None:
        """To a file, whole or not at all. Raises `StorageError`."""
        write_json(path, self.as_dict())

    def check(self, descriptor: str, source: object, flip_test: bool | None = None) -> None:
        """Raise `CalibrationError` unless it is for the descriptor of this fingerprint.

        `flip_test`: that of the descriptors that are compared; None where it is not known.
        """
        if self.fingerprint != descriptor:
            raise CalibrationError(
                f"{source} was calibrated for another model: for fingerprint {self.fingerprint}, and this one has "
                f"{descriptor}. The same distance means something else here; run aaformer_lit.calibrate for this model."
            )
        if flip_test is not None and self.flip_test != flip_test:
            raise CalibrationError(
                f"{source} was calibrated with flip_test={str(self.flip_test).lower()}, and descriptors here have "
                f"flip_test={str(flip_test).lower()}. Run aaformer_lit.calibrate with that."
            )


def calibration_path(ckpt: str | Path) -> Path | None:
    """Where the calibration of a checkpoint, run or exported folder lies; None for a model that is no file of the user's."""
    return _beside(local_path(ckpt)) if Path(ckpt).expanduser().exists() else None


def with_calibration(network: ReIDViT, about: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A model's description with the calibration that lies beside its file, else the one that it holds, once checked.

    One beside it that is of another model hides none: a folder that was exported again may have that of the model before.
    """
    beside = _beside(path)
    if beside.is_file():
        try:
            found = checked_calibration(network, {**about, KEY: CalibrationRecord.read(beside).as_dict()}, beside)
            if KEY in found:
                return found
        except CalibrationError as error:
            log.warning("%s It is left aside.", error)
    return checked_calibration(network, about, path)


def checked_calibration(network: ReIDViT, about: Mapping[str, Any], source: object) -> dict[str, Any]:
    """A description without a calibration that is not this network's; the network gets the thresholds of one that is.

    One of another model is a warning and no error: a training that has gone on has changed the descriptor.
    """
    described = {key: value for key, value in about.items() if key != KEY}
    try:
        record = CalibrationRecord.of(about, source)
        if record is None:
            return described
        record.check(fingerprint(network, about), source)
    except CalibrationError as error:
        log.warning("%s It is left aside.", error)
        return described
    network.calibration = None if record.flip_test else record.thresholds
    return described | {KEY: record.as_dict()}


def _beside(path: Path) -> Path:
    return path / FILE if path.is_dir() else path.with_suffix(f".{FILE}")
