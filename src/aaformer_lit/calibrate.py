"""Which distance is the same person: `python -m aaformer_lit.calibrate ckpt=RUN/checkpoints/last.ckpt data=NAME far=0.01`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.table import Table

from aaformer_lit.cli.console import console, progress_bar
from aaformer_lit.cli.run import run
from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.lean_imports import networks_are_enough
from aaformer_lit.utils.sequences import listed
from aaformer_lit.utils.text import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aaformer_lit.checkpoints.calibration import CalibrationRecord
    from aaformer_lit.data.test_set import TestSet
    from aaformer_lit.gallery import Extractor
    from aaformer_lit.metrics import Calibration
    from aaformer_lit.structures import FeatureSet, Record


def calibrate(cfg: DictConfig) -> CalibrationRecord:
    """Find thresholds as configured, and store them; returns what was stored."""
    from aaformer_lit.checkpoints.calibration import FILE, KEY, CalibrationRecord, calibration_path
    from aaformer_lit.checkpoints.load import load
    from aaformer_lit.engine.training_data import use_training_data
    from aaformer_lit.gallery import Extractor, Gallery, check_same_model
    from aaformer_lit.gallery.sources import identity
    from aaformer_lit.metrics.calibration import calibrate_thresholds, check_enough, check_rates
    from aaformer_lit.pictures.scene import prepared_data
    from aaformer_lit.viz import save

    check_rates(cfg.far, cfg.miss, cfg.confidence)
    galleries = [Gallery.open(folder) for folder in listed(cfg.gallery)]
    network, about = load(cfg.ckpt)
    use_training_data(cfg, cfg.ckpt, about)
    if cfg.data.get("cut"):
        raise ConfigError(
            f"data.cut={cfg.data.cut}: thresholds are found on whole pictures. Leave it out (data.cut=0)."
        )
    test_set = _only(prepared_data(cfg, about["data"]).test_sets)
    query, others = _held_out(test_set)
    people = len({record.pid for record in (*query, *others)})
    if cfg.promise:
        check_enough(people, cfg.far, cfg.miss, cfg.confidence)
    about = {key: value for key, value in about.items() if key != KEY}  # earlier thresholds
    extractor = Extractor(
        network,
        about,
        ckpt=cfg.ckpt,
        flip_test=cfg.flip_test,
        precision=cfg.precision,
        batch_size=cfg.data.eval_batch_size,
        num_workers=cfg.data.num_workers,
    )
    for gallery in galleries:
        check_same_model(gallery, extractor)
    features = _described(extractor, [*query, *others])
    rates = {"far": cfg.far, "miss": cfg.miss, "confidence": cfg.confidence, "promise": cfg.promise}
    names = {camid: identity(name) for camid, name in test_set.camera_names.items()}
    thresholds = calibrate_thresholds(features, **rates, camera_names=names)
    record = CalibrationRecord(thresholds, extractor.fingerprint, cfg.flip_test, test_set.name)
    target = Path(cfg.output) if cfg.output else calibration_path(cfg.ckpt) or Path(cfg.run_dir, FILE)
    record.write(target)
    for gallery in galleries:
        gallery.with_calibration(record.as_dict())
    picture = save(_picture(features, len(query), thresholds), Path(cfg.run_dir) / "distances.png")
    console.print(f"{test_set.name}: {people:,} people, {len(features):,} pictures", highlight=False)
    console.print(_table(thresholds))
    console.print(_in_words(thresholds, len(features.camids[features.camids >= 0].unique())), highlight=False)
    for path in (target, picture, *(gallery.folder for gallery in galleries)):
        console.print(str(path), highlight=False)
    return record


def _only(test_sets: dict[str, TestSet]) -> TestSet:
    if len(test_sets) != 1:
        raise ConfigError(
            f"thresholds are found on one data set; this one tests on {', '.join(test_sets)}. Choose it with data=NAME."
        )
    return next(iter(test_sets.values()))


def _held_out(test_set: TestSet) -> tuple[list[Record], list[Record]]:
    """The pictures of known people, of query and gallery, each file once.

    Nobody knows how many people junk and distractors are.
    """
    from aaformer_lit.structures import nobody

    unknown = nobody(test_set.query)
    query = {record.path: record for record in test_set.query if record.pid not in unknown}
    others = {r.path: r for r in test_set.gallery if r.pid not in unknown and r.path not in query}
    return list(query.values()), list(others.values())


def _described(extractor: Extractor, records: list[Record]) -> FeatureSet:
    import torch

    from aaformer_lit.structures import FeatureSet

    with progress_bar("describing pictures") as progress:
        descriptors = extractor.features([record.path for record in records], progress)
    pids, camids = (torch.tensor([getattr(record, name) for record in records]) for name in ("pid", "camid"))
    return FeatureSet(extractor.layout.select(descriptors), pids, camids)


def _picture(features: FeatureSet, queries: int, thresholds: Calibration) -> Figure:
    """The queries beside all pictures but themselves."""
    import torch

    from aaformer_lit.viz import distance_histogram, verification_pairs

    everything = replace(features, sequences=torch.arange(len(features)))
    pairs = verification_pairs(everything.select(slice(queries)), everything)
    return distance_histogram(
        pairs, {"accepted up to": thresholds.accept.distance, "rejected beyond": thresholds.reject.distance}
    )


def _table(thresholds: Calibration) -> Table:
    """A row for each threshold: the distance, and how often it is wrong."""
    table = Table(caption=f"each bound holds with confidence {thresholds.confidence:g}")
    for column in ("", "cameras", "distance", "wrong", "at most", "people"):
        table.add_column(column, justify="left" if column in ("", "cameras") else "right")
    rows = [("accepted up to", "all", thresholds.accept)]
    rows += [("accepted up to", name, one) for name, one in thresholds.cameras.items()]
    rows += [("rejected beyond", "all", thresholds.reject)]
    for what, cameras, one in rows:
        table.add_row(
            what, cameras, f"{one.distance:.3f}", percent(one.measured), percent(one.bound), f"{one.people:,}"
        )
    return table


def _in_words(thresholds: Calibration, cameras: int) -> str:
    """What the distances mean; `cameras`: how many are known."""
    from aaformer_lit.metrics.calibration import people_needed

    accept, reject = thresholds.accept, thresholds.reject
    between = "nothing is unsure" if reject.distance <= accept.distance else "the distances in between are unsure"
    lines = [
        f"Of pairs of different people like these {accept.people:,}, {percent(accept.measured)} were accepted, and at most "
        f"{percent(accept.bound)} are.",
        f"Of one person's pictures{' in different cameras' if cameras else ''}, {percent(thresholds.true_accepts)} were "
        f"accepted and {percent(reject.measured)} rejected, and at most {percent(reject.bound)} are; {between}.",
    ]
    if cameras:
        needed = people_needed(thresholds.far, 1 - thresholds.confidence)
        lines.append(
            f"{len(thresholds.cameras)} of {cameras * (cameras + 1) // 2} camera pairs have a threshold of their own, which "
            f"takes {needed:,} people in both."
        )
    if not thresholds.promised:
        lines.append(f"Nothing is promised: far={thresholds.far:g} and miss={thresholds.miss:g} were measured.")
    return "\n".join(lines)


def main() -> None:
    networks_are_enough()
    run(calibrate, "calibrate")


if __name__ == "__main__":
    main()
