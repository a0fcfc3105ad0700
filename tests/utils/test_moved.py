"""Names that were public before the package was divided into rooms still import, with a word on where they are now."""

import importlib
import sys

import pytest

import aaformer_lit.gallery
import aaformer_lit.metrics
import aaformer_lit.viz


@pytest.mark.parametrize(
    ("earlier", "today", "name"),
    [
        ("checkpoint", "checkpoints.load", "load_model"),
        ("module", "engine.module", "ReIDModule"),
        ("callbacks", "engine.callbacks.ema", "EMA"),
        ("sharding", "engine.fsdp", "Sharded"),
        ("exporting", "deploy", "OnnxFormat"),
        ("hub", "checkpoints.hub", "local_path"),
        ("resolvers", "cli.resolvers", "config_hash"),
        ("data.base", "data.datamodule", "ReIDDataModule"),
        ("data.folder", "data.datasets.folder", "FolderDataModule"),
        ("data.market1501", "data.datasets.market1501", "Market1501DataModule"),
        ("metrics.neighbours", "metrics.neighbors", "nearest_neighbors"),
    ],
)
def test_modules_that_have_moved(earlier, today, name):
    sys.modules.pop(f"aaformer_lit.{earlier}", None)
    with pytest.warns(DeprecationWarning, match=f"aaformer_lit.{earlier} is aaformer_lit.{today} now"):
        found = importlib.import_module(f"aaformer_lit.{earlier}")
    there = importlib.import_module(f"aaformer_lit.{today}")
    assert found is there
    assert there.__spec__.name == there.__name__ == f"aaformer_lit.{today}"
    assert getattr(found, name).__module__.startswith(f"aaformer_lit.{today}")


def test_names_that_have_changed():
    for module, earlier, today in (
        (aaformer_lit.gallery, "NOWHERE", "NO_ROW"),
        (aaformer_lit.gallery, "Neighbours", "Neighbors"),
        (aaformer_lit.metrics, "nearest_neighbours", "nearest_neighbors"),
        (aaformer_lit.viz, "denormalise", "denormalize"),
    ):
        with pytest.warns(DeprecationWarning, match=f"{earlier} is {today} now"):
            assert getattr(module, earlier) is getattr(module, today)


def test_what_never_was_there_is_not_there():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'aaformer_lit\.checkpoint_'"):
        importlib.import_module("aaformer_lit.checkpoint_")
    with pytest.raises(AttributeError, match="has no attribute 'NOWHERE_'"):
        _ = aaformer_lit.gallery.NOWHERE_
