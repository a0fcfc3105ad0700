"""What a dashboard shows beside numbers: pictures, a table of the hardest queries, the best mAP, and the run's files.

The same content goes to every logger that can take it, W&B and TensorBoard; the others (CSV) are passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure

from aaformer_lit.structures import Record
from aaformer_lit.utils.text import markdown_table
from aaformer_lit.viz.figure import rasterise

log = logging.getLogger(__name__)
COLUMNS = ("set", "query", "pid", "camid", "average_precision", "first_hit_rank")


def takes_pictures(loggers: Iterable[Logger]) -> bool:
    """Whether any of them can show images."""
    return any(isinstance(logger, WandbLogger | TensorBoardLogger) for logger in loggers)


def log_picture(loggers: Iterable[Logger], name: str, figure: Figure, step: int) -> None:
    """The figure as an image of that name, such as `pictures/assignment`."""
    pixels = rasterise(figure)
    for logger in loggers:
        with _not_at_any_price(name):
            if isinstance(logger, WandbLogger):
                logger.log_image(name, [pixels], step=step)
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name, pixels, step, dataformats="HWC")


@contextmanager
def _not_at_any_price(name: str) -> Iterator[None]:
    """A picture that cannot be written, as W&B does by way of a temporary folder, costs a warning and not the training."""
    try:
        yield
    except OSError as error:
        log.warning("%s is missing on the dashboard: %s", name, error)


def hardest(per_query: pd.DataFrame, count: int = 20) -> pd.DataFrame:
    """The queries with the lowest AP, all tokens together; of equal ones that whose first hit comes last."""
    table = per_query[per_query.subset == ""].sort_values(
        ["average_precision", "first_hit_rank", "set", "query"], ascending=[True, False, True, True]
    )
    return table.head(count)[list(COLUMNS)].reset_index(drop=True)


def log_hardest(
    loggers: Iterable[Logger], per_query: pd.DataFrame, queries: dict[str, Sequence[Record]], step: int
) -> None:
    """`test/hardest`: a table with the query images in W&B, as text in TensorBoard.

    Args:
        per_query: of `engine.testing.per_query_table`.
        queries: the query records of each test set, for their images.
    """
    table = hardest(per_query)
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            paths = {  # several people may have a 001.jpg
                (name, record.path.name, record.pid, record.camid): record.path
                for name, records in queries.items()
                for record in records
            }
            which = ("set", "query", "pid", "camid")
            with _not_at_any_price("test/hardest"):
                rows = [
                    [wandb.Image(str(paths[tuple(row[key] for key in which)])), *(row[name] for name in COLUMNS)]
                    for row in table.to_dict("records")
                ]
                logger.log_table("test/hardest", columns=["image", *COLUMNS], data=rows, step=step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("test/hardest", _markdown(table), step)
            logger.experiment.flush()


def _markdown(table: pd.DataFrame) -> str:
    rows = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row] for row in table.to_numpy()]
    return markdown_table([list(table.columns), *rows])


def log_best(loggers: Iterable[Logger], best: float, step: int) -> None:
    """`best_mAP` in the summary: one number by which the runs of a sweep are ordered."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_metrics({"best_mAP": best}, step=step)


def log_run_files(loggers: Iterable[Logger], run_dir: Path) -> None:
    """The last checkpoint and the run's JSON files as an artifact, for W&B loggers with `log_artifacts`."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and getattr(logger, "log_artifacts", False):
            import wandb

            artifact = wandb.Artifact(f"run-{logger.experiment.id}", type="model")
            for name in ("checkpoints/last.ckpt", "metadata.json", "metrics.json", "alignment.json", "config.yaml"):
                if (run_dir / name).exists():
                    artifact.add_file(str(run_dir / name), name=name)
            logger.experiment.log_artifact(artifact)
