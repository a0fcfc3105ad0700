"""Train a network, then test it: `python -m aaformer_lit.train data=market1501 model.parts=[2,3]`; `--help` says more."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from omegaconf import DictConfig, OmegaConf

from aaformer_lit.checkpoints.preprocessing import preprocessing
from aaformer_lit.cli.console import choices, console, print_results
from aaformer_lit.cli.resolvers import is_sweep
from aaformer_lit.cli.run import run
from aaformer_lit.cli.unfinished import similar_run
from aaformer_lit.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from lightning import Trainer

    from aaformer_lit.data.datamodule import ReIDDataModule
    from aaformer_lit.engine.module import ReIDModule
    from aaformer_lit.models import ReIDViT

logger = logging.getLogger(__name__)


def train(cfg: DictConfig) -> dict[str, float]:
    """Train and test as configured; returns what it wrote to `metrics.json`."""
    from hydra.utils import instantiate
    from lightning import seed_everything

    from aaformer_lit.engine.compile import compile_if_it_pays
    from aaformer_lit.engine.fsdp import unsharded
    from aaformer_lit.engine.module import ReIDModule
    from aaformer_lit.engine.testing import run_test
    from aaformer_lit.models.part_start import PartStart
    from aaformer_lit.ops.trust import kernel_report
    from aaformer_lit.utils.environment import metadata
    from aaformer_lit.utils.files import write_json

    run_dir = Path(cfg.run_dir)
    check_choice("part_start", cfg.part_start, get_args(PartStart))
    if cfg.pictures:  # drawn hours from here
        from aaformer_lit.pictures.kinds import check_kinds

        check_kinds(cfg.pictures)
    seed_everything(cfg.seed, workers=True, verbose=False)
    data = instantiate(cfg.data)
    data.prepare_data()
    data.setup("fit")
    network, weights = _build(cfg, data.num_classes)
    _start_parts(cfg, network, data)
    about = {"model": OmegaConf.to_container(cfg.model, resolve=True), "data": preprocessing(cfg.data)}
    module = ReIDModule(
        network,
        instantiate(cfg.loss),
        instantiate(cfg.optim),
        about,
        flip_test=cfg.flip_test,
        place_loss=instantiate(cfg.place_loss),
    )
    trainer = make_trainer(cfg)
    _say_how_long(trainer, module, data)
    with _precision(trainer):
        compiled = compile_if_it_pays(network, 16, trainer.strategy.root_device) if cfg.compile else None
    said = metadata(cfg, data.fingerprint, choices()) | {"compile": compiled, "weights": weights}
    if trainer.is_global_zero:
        write_json(run_dir / "metadata.json", said)
    metrics: dict[str, float] = {}
    if cfg.test_untrained and data.test_sets:
        trainer.test(module, datamodule=data, verbose=False)
        metrics |= {key.replace("test/", "test/untrained/"): float(v) for key, v in trainer.callback_metrics.items()}
    trainer.fit(module, datamodule=data, ckpt_path=_continue_from(cfg, trainer.is_global_zero))
    if trainer.is_global_zero:  # which kernel ran is known only now
        write_json(run_dir / "metadata.json", said | {"ops": kernel_report()})
    if not data.test_sets:
        if trainer.is_global_zero:
            logger.warning("the data have no query images, so nothing is tested; checkpoints are in %s", run_dir)
            write_json(run_dir / "metrics.json", metrics)
        return metrics
    metrics |= run_test(trainer, module, data, run_dir, metrics, ckpt_path=_best(cfg, trainer))
    if cfg.pictures:
        module.share_features()
    alone = unsharded(network, module.description())
    if alone is not None and trainer.is_global_zero:
        module.network = alone
        _draw(cfg, module, data, run_dir)
        print_results(metrics, run_dir)
    return metrics


def _best(cfg: DictConfig, trainer: Trainer) -> str | None:
    """The checkpoint that is best on the held-out ids; None for the last weights, where there was no validation."""
    if not cfg.data.val_ids:
        return None
    best: str = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    if not best:
        logger.warning(
            "the held-out ids (data.val_ids) chose no weights, so the last are tested: in %s epochs there was no validation "
            "with trainer.check_val_every_n_epoch=%s.",
            trainer.current_epoch,
            trainer.check_val_every_n_epoch,
        )
    return best or None


def _build(cfg: DictConfig, num_classes: int) -> tuple[Any, dict[str, Any] | None]:
    """The network, and where its weights come from."""
    from hydra.utils import instantiate

    from aaformer_lit.checkpoints.init_from import init_from, without_weights

    if not cfg.init_from:
        network = instantiate(cfg.model, num_classes=num_classes)
        report = getattr(network.backbone, "weights_report", None)  # none of a new one's
    else:
        network = instantiate(without_weights(cfg.model, cfg.init_from), num_classes=num_classes)
        report = init_from(network, cfg.init_from, cfg.model.backbone.source_grid)
        if cfg.part_start != "normal" and "part_tokens" in (*report.taken, *report.mapped):
            raise ConfigError(
                f"init_from={cfg.init_from} brings part tokens, which part_start={cfg.part_start} would replace. "
                "Leave part_start=normal."
            )
    return network, None if report is None else asdict(report)


def _start_parts(cfg: DictConfig, network: ReIDViT, data: ReIDDataModule) -> None:
    if cfg.part_start == "normal":
        return
    from torch.utils.data import default_collate

    from aaformer_lit.data.person_images import PersonImages
    from aaformer_lit.models.part_start import start_parts
    from aaformer_lit.utils.sequences import spread

    images = PersonImages(
        spread(data.train_records, 128), data.image_size, data.transforms.test(), part_table=data.part_table
    )
    batch = default_collate([images[i] for i in range(len(images))])
    start_parts(network, cfg.part_start, batch["image"], batch.get("part_mask"))


def _draw(cfg: DictConfig, module: ReIDModule, data: ReIDDataModule, run_dir: Path) -> None:
    """The configured pictures; a picture that cannot be drawn costs a warning, not the run's results."""
    from aaformer_lit.errors import AAformerError
    from aaformer_lit.pictures.kinds import draw
    from aaformer_lit.pictures.scene import scene_of_test

    scene = scene_of_test(module, data, preprocessing(cfg.data), run_dir)
    for kind in cfg.pictures:
        try:
            draw([kind], scene, run_dir / "pictures")
        except AAformerError as error:
            logger.warning("no picture of %s: %s", kind, error)


def make_trainer(cfg: DictConfig) -> Trainer:
    """The Trainer with its callbacks and loggers."""
    from hydra.utils import instantiate

    from aaformer_lit.checkpoints.io import WholeCheckpointIO

    if cfg.trainer.max_epochs is None:
        raise ConfigError(
            "trainer.max_epochs=null leaves the schedule of the learning rate without an end. Give the number of epochs."
        )
    loggers = [instantiate(one) for one in (cfg.get("logger") or {}).values() if one]
    used = {"best": bool(cfg.data.val_ids), "progress": cfg.trainer.enable_progress_bar, "learning_rate": bool(loggers)}
    callbacks = [one for name, one in cfg.callbacks.items() if one and used.get(name, True)]
    return instantiate(  # type: ignore[no-any-return]
        cfg.trainer,
        callbacks=[instantiate(callback) for callback in callbacks],
        logger=loggers,
        plugins=[WholeCheckpointIO()],
        default_root_dir=cfg.run_dir,
    )


def _continue_from(cfg: DictConfig, first_process: bool) -> str | None:
    from aaformer_lit.checkpoints.io import newest_whole
    from aaformer_lit.checkpoints.load import read_checkpoint

    found = newest_whole(Path(cfg.run_dir, "checkpoints")) if cfg.resume == "auto" else None
    if found is None and cfg.ckpt_path:
        found = Path(cfg.ckpt_path), read_checkpoint(cfg.ckpt_path)
    if found is None:
        run_dir = Path(cfg.run_dir)
        in_its_place = Path(cfg.paths.runs).absolute() in run_dir.parents[2:]  # and not where hydra.run.dir says
        if cfg.resume == "auto" and first_process and in_its_place and not is_sweep():
            similar = similar_run(run_dir.parents[1], OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]
            if similar:
                logger.warning("%s", similar)
        return None
    path, checkpoint = found
    done, wanted = checkpoint["epoch"] + 1, cfg.trainer.max_epochs
    if done > wanted:
        raise ConfigError(
            f"{path} has been trained for {done} epochs, more than trainer.max_epochs={wanted}. Give at least {done}; to test "
            f"it, python -m aaformer_lit.evaluate ckpt={path}."
        )
    logger.info("continuing after epoch %d of %s", done, path)
    return str(path)


def _say_how_long(trainer: Trainer, module: ReIDModule, data: ReIDDataModule) -> None:
    import torch

    from aaformer_lit.engine.estimate import drawn_images, in_words, is_emulated, training_hours

    if trainer.accelerator.__class__.__name__ != "CPUAccelerator" or not trainer.is_global_zero:
        return
    if is_emulated(str(trainer.precision), torch.backends.cpu.get_cpu_capability()):
        logger.warning(
            "trainer.precision=%s: this CPU has no bf16 arithmetic, which takes many times as long as float32 here. "
            "Use trainer.precision=32-true.",
            trainer.precision,
        )
    images = drawn_images(len(data.train_records), data.ids_per_batch * data.images_per_id, trainer.limit_train_batches)
    with _precision(trainer):
        hours = training_hours(module.network, module.network.image_size, images * (trainer.max_epochs or 1))
    if hours > 1 and choices().get("experiment") != "quickstart":
        console.print(
            f"[yellow]No GPU in use: this training takes about {in_words(hours)} on this machine.[/] "
            "For a first look in minutes: python -m aaformer_lit.train experiment=quickstart"
        )


def _precision(trainer: Trainer) -> AbstractContextManager[None]:
    """That of the training, for what is measured before it."""
    # the network is in float32 until the training starts, which a context of half precision (bf16-true) would not fit
    return trainer.precision_plugin.forward_context() if str(trainer.precision).endswith("mixed") else nullcontext()


def main() -> None:
    run(train, "train")


if __name__ == "__main__":
    main()
