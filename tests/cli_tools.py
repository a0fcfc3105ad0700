"""Entry points run in process, on synthetic people small enough for seconds."""

import importlib
import json
import sys
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra

TINY_DATA = (
    "data.spec.num_train_ids=8", "data.spec.num_test_ids=4", "data.spec.num_cameras=2", "data.spec.images_per_camera=2",
    "data.image_size=[64,32]", "data.ids_per_batch=4", "data.images_per_id=2", "data.num_workers=0",
)  # fmt: skip
TINY_MODEL = (
    "model/backbone=small_scratch",
    "model.backbone.depth=2",
    "model.backbone.embed_dim=24",
    "model.backbone.patch_size=8",
)
TINY_TRAINER = ("trainer=cpu", "trainer.max_epochs=1", "callbacks.progress=null", "trainer.enable_progress_bar=false")
TINY = (*TINY_DATA, *TINY_MODEL, *TINY_TRAINER)


def run_cli(entry: str, *overrides: str) -> int:
    """`python -m aaformer_lit.<entry> overrides...`; returns the exit code."""
    argv, sys.argv = sys.argv, [entry, *overrides]
    try:
        importlib.import_module(f"aaformer_lit.{entry}").main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = argv
        GlobalHydra.instance().clear()
    return 0


def only(paths) -> Path:
    """The one path there is."""
    found = list(paths)
    assert len(found) == 1, found
    return found[0]


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())
