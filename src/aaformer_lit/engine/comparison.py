"""Several models on the same data: all are loaded and tried on one image first, then tested one after another.

Each is tested as `evaluate` tests it: images prepared as in its own training, all its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from aaformer_lit.checkpoints.hub import PACKAGED, local_path
from aaformer_lit.checkpoints.load import load
from aaformer_lit.checkpoints.preprocessing import prepare_like_training
from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.engine.callbacks.alignment import AlignmentTest
from aaformer_lit.engine.module import ReIDModule
from aaformer_lit.engine.results import mean_nmi
from aaformer_lit.engine.testing import callback_of, run_test
from aaformer_lit.errors import AAformerError, ConfigError
from aaformer_lit.models import ReIDViT
from aaformer_lit.models.base import descriptors
from aaformer_lit.structures import RetrievalMetrics

_FOR_TRAINING = "heads.classifier"


@dataclass(frozen=True)
class Contestant:
    """A model that is compared; `about` is what its checkpoint says of itself."""

    ckpt: str
    network: ReIDViT
    about: Mapping[str, Any]

    @property
    def trained_on(self) -> str:
        """The kind of its training data; `unknown` where the checkpoint does not say."""
        config = self.about["data"].get("config")
        target = str(config.get("_target_", "")) if isinstance(config, Mapping) else ""
        if not target and local_path(self.ckpt).parent == PACKAGED:
            return "Synthetic"
        return target.rpartition(".")[2].removesuffix("DataModule") or "unknown"

    @property
    def parameters(self) -> int:
        """Without the classifiers, which are for training only."""
        return sum(weight.numel() for name, weight in self.network.named_parameters() if name != _FOR_TRAINING)

    @property
    def weight_bytes(self) -> int:
        """Of the parameters and running statistics, without the classifiers."""
        return sum(tensor.nbytes for name, tensor in self.network.state_dict().items() if name != _FOR_TRAINING)

    @property
    def descriptor(self) -> int:
        """Numbers that describe an image."""
        return math.prod(self.network.descriptor_shape)


def load_contestants(ckpts: Sequence[str]) -> list[Contestant]:
    """All models. Raises `ConfigError` for one that is given twice, `CheckpointError` for one that cannot be loaded."""
    if twice := [ckpt for ckpt in ckpts if ckpts.count(ckpt) > 1]:
        raise ConfigError(f"ckpt={twice[0]} is given twice. Give each model once: ckpt=[A,B].")
    if not ckpts:
        raise ConfigError("no model is given. Give one or more, the first to compare the others with: ckpt=[A,B].")
    return [Contestant(ckpt, *load(ckpt)) for ckpt in ckpts]


def open_data(config: DictConfig, contestant: Contestant) -> ReIDDataModule:
    """The data, found, indexed, and tried with an image for this network.

    Raises:
        AAformerError: the data are not there, hold no queries, or do not fit the network; the message names both.
    """
    own = OmegaConf.create({"data": config})
    prepare_like_training(own, dict(contestant.about["data"]))
    data: ReIDDataModule = instantiate(own.data)
    data.prepare_data()
    data.setup("test")
    for loader in data.test_dataloader():
        assert loader.collate_fn is not None
        batch = loader.collate_fn([loader.dataset[0]])
        try:
            with torch.inference_mode():
                descriptors(contestant.network, batch["image"], batch.get("part_mask"))
        except AAformerError as error:
            raise type(error)(f"{contestant.ckpt} cannot be tested on {data.fingerprint['name']}: {error}") from error
    return data


def tested(
    contestant: Contestant, data: ReIDDataModule, trainer: Trainer, folder: Path, flip_test: bool
) -> dict[str, tuple[RetrievalMetrics, float | None]]:
    """By test set, what the model finds with all its tokens, and the NMI of its parts with body parts where it is measured.

    The NMI is the mean over layers, heads and granularities. `metrics.json` and `per_query.parquet` go into the folder.
    """
    module = ReIDModule(contestant.network, flip_test=flip_test)
    run_test(trainer, module, data, folder)
    alignment = callback_of(AlignmentTest, trainer)
    return {
        name: (subsets[""], mean_nmi(alignment.results.get(name, ())) if alignment else None)
        for name, subsets in module.results.items()
    }
