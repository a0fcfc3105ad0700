"""Test a checkpoint on any data set: `python -m aaformer_lit.evaluate ckpt=RUN/checkpoints/last.ckpt data=market1501`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from aaformer_lit import cli


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Test as configured; returns what it wrote to `metrics.json`."""
    from hydra.utils import instantiate

    from aaformer_lit.alignment import AlignmentTest
    from aaformer_lit.checkpoint import description, load_model
    from aaformer_lit.module import ReIDModule
    from aaformer_lit.runs import metadata, run_test, write_json
    from aaformer_lit.stability import StabilityTest

    run_dir = Path(cfg.run_dir)
    network: Any = load_model(cfg.ckpt)
    prepare_like_training(cfg, description(cfg.ckpt)["data"])
    data = instantiate(cfg.data)
    retrieval = {"expansion": instantiate(cfg.expand)} | ({"rerank": instantiate(cfg.rerank)} if cfg.rerank else {})
    module = ReIDModule(network, retrieval=retrieval, flip_test=cfg.flip_test)
    trainer = instantiate(
        cfg.trainer,
        callbacks=[
            *([AlignmentTest()] if cfg.alignment else []),
            *([StabilityTest(cfg.stability)] if cfg.stability else []),
        ],
        logger=False,
        enable_checkpointing=False,
        default_root_dir=cfg.run_dir,
    )
    data.prepare_data()
    data.setup("test")
    if trainer.is_global_zero:
        write_json(run_dir / "metadata.json", metadata(cfg, data.fingerprint, cli.choices()))
    metrics = run_test(trainer, module, data, run_dir)
    if cfg.save_features:
        module.share_features()
    if trainer.is_global_zero:
        if cfg.save_features:
            _save_features(module, run_dir)
        cli.print_results(metrics, run_dir)
    return metrics


def prepare_like_training(cfg: DictConfig, preprocessing: dict[str, Any]) -> None:
    """Images are resized and normalised as the network saw them in training, whatever the data config says."""
    with open_dict(cfg):
        cfg.data.image_size = preprocessing["image_size"]
        cfg.data.transforms.mean, cfg.data.transforms.std = preprocessing["mean"], preprocessing["std"]


def _save_features(module: Any, run_dir: Path) -> None:
    from safetensors.torch import save_file

    from aaformer_lit.runs import write_atomically

    tensors: dict[str, Any] = {}
    for name, metric in module.feature_metrics.items():
        for role, features in zip(("query", "gallery"), metric.feature_sets(), strict=True):
            tensors |= {f"{name}/{role}/{key}": getattr(features, key) for key in ("features", "pids", "camids")}
    write_atomically(run_dir / "features.safetensors", lambda path: save_file(tensors, path))


def main() -> None:
    cli.run(evaluate, "evaluate")


if __name__ == "__main__":
    main()
