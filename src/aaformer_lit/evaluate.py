"""Test a checkpoint on any data set: `python -m aaformer_lit.evaluate ckpt=RUN/checkpoints/last.ckpt data=market1501`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from aaformer_lit.checkpoints.preprocessing import prepare_like_training
from aaformer_lit.cli.console import choices, print_results
from aaformer_lit.cli.run import run
from aaformer_lit.utils.lean_imports import networks_are_enough
from aaformer_lit.utils.sequences import listed

if TYPE_CHECKING:
    from aaformer_lit.engine.module import ReIDModule
    from aaformer_lit.models import ReIDViT


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Test as configured; returns what it wrote to `metrics.json`."""
    from hydra.utils import instantiate

    from aaformer_lit.checkpoints.load import load
    from aaformer_lit.engine.callbacks.alignment import AlignmentTest
    from aaformer_lit.engine.callbacks.compression import CompressionTest
    from aaformer_lit.engine.callbacks.stability import StabilityTest
    from aaformer_lit.engine.fsdp import unsharded
    from aaformer_lit.engine.module import ReIDModule
    from aaformer_lit.engine.testing import run_test
    from aaformer_lit.engine.training_data import use_training_data
    from aaformer_lit.utils.environment import metadata
    from aaformer_lit.utils.files import write_json

    run_dir = Path(cfg.run_dir)
    network, about = load(cfg.ckpt)
    compression = CompressionTest(network, listed(cfg.compress))
    use_training_data(cfg, cfg.ckpt, about)
    prepare_like_training(cfg, about["data"])
    data = instantiate(cfg.data)
    retrieval = {"expansion": instantiate(cfg.expand)} | ({"rerank": instantiate(cfg.rerank)} if cfg.rerank else {})
    module = ReIDModule(network, about=about, retrieval=retrieval, flip_test=cfg.flip_test)
    trainer = instantiate(
        cfg.trainer,
        callbacks=[
            *([AlignmentTest(cfg.alignment_images)] if cfg.alignment else []),
            *([StabilityTest(cfg.stability)] if cfg.stability else []),
            *([compression] if compression.sizes else []),
        ],
        logger=False,
        enable_checkpointing=False,
        default_root_dir=cfg.run_dir,
    )
    data.prepare_data()
    data.setup("test")
    if trainer.is_global_zero:
        write_json(run_dir / "metadata.json", metadata(cfg, data.fingerprint, choices()))
    metrics = run_test(trainer, module, data, run_dir)
    if cfg.save_features:
        module.share_features()
    alone = unsharded(network, about) if compression.sizes else network
    if alone is not None and trainer.is_global_zero:
        if cfg.save_features:
            _save_features(module, run_dir)
        for size in compression.sizes:
            with compression.compressed(alone, size):
                _save_model(alone, compression.description(about, size), run_dir / f"compressed_{size}")
        print_results(metrics, run_dir)
    return metrics


def _save_features(module: ReIDModule, run_dir: Path) -> None:
    from aaformer_lit.utils.files import write_tensors

    tensors: dict[str, Any] = {}
    for name, metric in module.feature_metrics.items():
        for role, features in zip(("query", "gallery"), metric.feature_sets(), strict=True):
            columns = {key: getattr(features, key) for key in ("features", "pids", "camids", "sequences")}
            tensors |= {f"{name}/{role}/{key}": value for key, value in columns.items() if value is not None}
    write_tensors(run_dir / "features.safetensors", tensors)


def _save_model(network: ReIDViT, about: dict[str, Any], folder: Path) -> None:
    from aaformer_lit.deploy import SafetensorsFormat
    from aaformer_lit.utils.files import replace_whole, scratch_folder

    form = SafetensorsFormat()
    with scratch_folder(folder) as scratch:
        form.write(form.deployed(network, about["data"]), about, scratch / folder.name)
        if folder.exists():  # of an earlier test; no folder can be renamed onto one that holds files
            folder.rename(scratch / "before")
        replace_whole(scratch / folder.name, folder)


def main() -> None:
    networks_are_enough()
    run(evaluate, "evaluate")


if __name__ == "__main__":
    main()
