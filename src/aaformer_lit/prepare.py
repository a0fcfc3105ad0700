"""Check, unpack or draw a data set, or look into a file of weights: `python -m aaformer_lit.prepare data=market1501
action=check|extract|synthesize`, `python -m aaformer_lit.prepare weights=FILE`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.markup import escape

from aaformer_lit.cli.console import choices, console
from aaformer_lit.cli.run import run
from aaformer_lit.errors import ConfigError, DatasetNotFoundError, check_choice
from aaformer_lit.utils.text import plural, some

if TYPE_CHECKING:
    from aaformer_lit.data.check import Findings
    from aaformer_lit.data.dataset import ReIDDataset


def prepare(cfg: DictConfig) -> Any:
    """Do `cfg.action`, or look into `cfg.weights`; returns what was found or made."""
    if cfg.weights:
        return weights(cfg)
    actions = {"check": check, "extract": extract, "synthesize": synthesize}
    check_choice("action", cfg.action, actions)
    return actions[cfg.action](cfg)


def check(cfg: DictConfig) -> dict[str, Findings | None]:
    """Print counts beside the published ones and, with `decode`, what is wrong with the files. Findings by data set."""
    from hydra.utils import instantiate
    from rich.progress import Progress

    from aaformer_lit.data.check import inspect

    with _quiet("aaformer_lit.data.dataset"):  # the report says it
        data = instantiate(cfg.data)
        train, test = data.sources()
    results: dict[str, Findings | None] = {}
    for dataset in dict.fromkeys([*train, *test]):
        _print_counts(dataset)
        _print_remarks(dataset)
        results[dataset.name] = None
        if cfg.decode:
            with Progress(console=console, transient=True) as progress:
                task = progress.add_task("Decoding", total=sum(counts.images for counts in dataset.counts().values()))
                results[dataset.name] = findings = inspect(dataset, partial(progress.advance, task))
            _print_findings(findings)
        _print_account(dataset, data.masks)
    return results


def extract(cfg: DictConfig) -> Path:
    """Unpack a downloaded archive into `paths.data`; returns the folder it became."""
    from rich.progress import Progress

    from aaformer_lit.data.archives import unpack

    dataset, root = _dataset_class(cfg), Path(cfg.paths.data).expanduser()
    if not dataset.folders:
        raise ConfigError(
            f"{dataset.title} are in no archive: action=extract is for data sets that are handed out as one."
        )
    archive = Path(cfg.archive).expanduser() if cfg.archive else _only_archive(root, dataset)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"Unpacking {archive.name}", total=None)
        folder = unpack(
            archive, root, dataset.folders[0], lambda done, of: progress.update(task, completed=done, total=of)
        )
    console.print(f"unpacked to {folder}\nnow: python -m aaformer_lit.prepare data={dataset.name} paths.data={root}")
    return folder


def synthesize(cfg: DictConfig) -> Path:
    """Draw synthetic people in the data set's layout under `paths.data`; returns the folder."""
    from hydra.utils import instantiate

    from aaformer_lit.data.synthetic import LAYOUTS, generate

    layout = cfg.layout or _dataset_class(cfg).name
    if layout not in LAYOUTS:
        raise ConfigError(f"there are no synthetic people in the layout {layout}. Use layout={'|'.join(LAYOUTS)}.")
    folder = generate(cfg.paths.data, instantiate(cfg.spec), layout)
    console.print(f"drawn in {folder}")
    return folder


def weights(cfg: DictConfig) -> dict[str, str]:
    """Print what a file of weights is, what would be taken of it, and which backbones it fits. Verdicts by backbone."""
    from aaformer_lit.checkpoints.init_from import find
    from aaformer_lit.models.weights.inspect import inspect_weights

    found = inspect_weights(find(cfg.weights), _backbones(), tuple(cfg.data.image_size), cfg.source_grid)
    console.print(f"{found.path}\nlayout: {found.layout}\nsha256: {found.sha256}\nholds: {found.what}", highlight=False)
    for title, names in (("beside the backbone", found.beside), ("left out", found.dropped)):
        console.print(f"{title}: {some(names, 6) if names else 'nothing'}", highlight=False, markup=False)
    for warning in found.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}", highlight=False)
    height, width = cfg.data.image_size
    console.print(f"as model.backbone.weights, for {height}x{width} images:", highlight=False)
    for name, verdict in found.fits.items():
        console.print(f"  [green]model/backbone={name}[/] {escape(verdict)}", highlight=False)
    if not found.fits:
        nearest = "".join(f"\n  {name}: {reason}" for name, reason in list(found.misfits.items())[:3])
        none = f"fits none of the {len(found.misfits)} in conf/model/backbone; the nearest:"
        console.print(f"  [yellow]{none}[/]{escape(nearest)}", highlight=False)
    return dict(found.fits)


def _backbones() -> dict[str, dict[str, Any]]:
    """The options of `model/backbone`, as plain values."""
    from omegaconf import OmegaConf

    from aaformer_lit.cli.options import composed, options_of

    backbones = {}
    for name in options_of("model/backbone"):
        config = OmegaConf.to_container(composed(f"model/backbone/{name}", []).model.backbone)
        assert isinstance(config, dict)
        backbones[name] = {
            str(key): value for key, value in config.items() if key not in ("_target_", "image_size", "weights")
        }
    return backbones


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)  # of its children too
    try:
        yield
    finally:
        logger.setLevel(level)


def _dataset_class(cfg: DictConfig) -> type[ReIDDataset]:
    from hydra.utils import get_class

    dataset: type[ReIDDataset] | None = get_class(cfg.data._target_).dataset_class  # type: ignore[attr-defined]
    if dataset is None:
        raise ConfigError(
            f"action={cfg.action} is for one data set at a time, data={choices().get('data')} is several."
        )
    return dataset


def _only_archive(root: Path, dataset: type[ReIDDataset]) -> Path:
    from aaformer_lit.data.locate import archives_in, contents

    archives: list[Path] = archives_in(root)
    if len(archives) == 1:
        return archives[0]
    names = ", ".join(archive.name for archive in archives)
    found = f"{len(archives)} archives: {names}" if archives else f"no archive; it {contents(root)}"
    raise DatasetNotFoundError(
        f"{root} has {found}. Name the one of {dataset.title}: archive=FILE.\nWhere to get it: {dataset.source}."
    )


def _print_counts(dataset: ReIDDataset) -> None:
    from rich.table import Table

    published = dataset.published.get(dataset.variant, {})
    table = Table(title=f"{dataset.title} ({dataset.variant}) in {dataset.folder}", title_justify="left")
    table.add_column("split")
    for column in ("images", "ids", "cameras"):
        table.add_column(column, justify="right")
        if published:
            table.add_column("published", justify="right", style="dim")
    for split, counts in dataset.counts().items():
        cells = []
        for column, value in counts._asdict().items():
            expected = getattr(published[split], column) if split in published else None
            color = "default" if expected is None else "green" if value == expected else "yellow"
            cells.append(f"[{color}]{value:,}[/]")
            if published:
                cells.append("-" if expected is None else f"{expected:,}")
        table.add_row(split, *cells)
    console.print(table)
    if dataset.as_published:
        console.print("[green]as published[/]")
    elif published:
        twins = dataset.looks_like()
        meaning = f"these are the counts of {' and '.join(twins)}" if twins else "results do not compare with others"
        console.print(f"[yellow]not as published[/]: {meaning}", highlight=False)
    console.print(f"origin: {dataset.source}", highlight=False)


def _print_remarks(dataset: ReIDDataset) -> None:
    """What is odd about the data, numbered, each with what it does to the result."""
    if not dataset.remarks:
        return
    console.print(f"[yellow]{plural(len(dataset.remarks), 'remark')} on these data[/]", highlight=False)
    for number, remark in enumerate(dataset.remarks, start=1):
        console.print(f"  {number}. {remark.says[0].upper()}{remark.says[1:]}.", highlight=False, markup=False)
        if remark.items:
            console.print(f"     {some(remark.items)}", highlight=False, markup=False)
        if remark.effect:
            console.print(f"     {remark.effect}", highlight=False, markup=False)


def _print_account(dataset: ReIDDataset, masks: str | Path | None) -> None:
    """The last lines of the report: every file of the folder, used or why not."""
    from aaformer_lit.data.account import account

    found = account(dataset, masks)
    console.print(f"{plural(found.files, 'file')} in {dataset.folder}, {found.used:,} used", highlight=False)
    for reason, paths in found.unused.items():
        console.print(f"  {len(paths):,} not used: {reason} ({some(paths, 3)})", highlight=False, markup=False)


def _print_findings(findings: Findings, limit: int = 10) -> None:
    problems = {
        "cannot be decoded": findings.unreadable,
        "of the test images are training images, byte for byte": [
            f"{test} = {train}" for train, test in findings.leaks
        ],
        "of the gallery images are a query, byte for byte, and count as its answer: results come out higher than they are": [
            f"{gallery} = {query}" for query, gallery in findings.echoes
        ],
        "of the gallery images are there twice, byte for byte: mAP is not what it is without the copies": [
            f"{later} = {earlier}" for earlier, later in findings.copies
        ],
        "decode with damaged pixels (replace them, or take them out)": findings.damaged,
    }
    console.print(f"{findings.files:,} files decoded")
    for what, items in problems.items():
        console.print(f"[{'yellow' if items else 'green'}]{len(items):,}[/] {what}", highlight=False)
        for item in items[:limit]:
            console.print(f"  {item}", highlight=False, markup=False)
        if len(items) > limit:
            console.print(f"  and {len(items) - limit:,} more")


def main() -> None:
    run(prepare, "prepare")


if __name__ == "__main__":
    main()
