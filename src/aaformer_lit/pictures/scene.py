"""What there is to draw: a network, its images, and what a test of it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from omegaconf import DictConfig
from torch import Tensor

from aaformer_lit.data.cut_off import cut_rows
from aaformer_lit.data.image_transform import ImageTransform
from aaformer_lit.data.images import read_image, read_mask
from aaformer_lit.data.masks import PartTable
from aaformer_lit.data.preparation import resize, resize_mask
from aaformer_lit.errors import ConfigError
from aaformer_lit.metrics import PartAlignment, ReIDRetrieval
from aaformer_lit.structures import Record, RetrievalMetrics
from aaformer_lit.utils.sequences import spread

if TYPE_CHECKING:
    from aaformer_lit.data.datamodule import ReIDDataModule
    from aaformer_lit.engine.module import ReIDModule
    from aaformer_lit.models import ReIDViT


NEEDS_MASKS = (
    "kind=alignment needs a network with parts and data with body-part masks (data.masks, data.mask_parts); "
    "data=synthetic has them."
)


@dataclass(frozen=True)
class Scene:
    """All that a picture may need.

    Args:
        network: in eval mode.
        mean, std: of the images' normalization.
        records: images to look at, with their masks where the data have some.
        part_table: from the masks' labels to parts.
        cuts: shares of the height taken away at the top and at the bottom; each image is looked at with each of them.
        layer, head: of attention and assignment; `head=None` is the majority over heads.
        answers: gallery images per query in ranking lists.
        queries: of ranking lists.
        run_dir: of the training, for its curves.
        query, gallery: records of the test set that `metric` and `metrics` belong to, where a test was run.
        rivals: by name, the metrics of further models of which ranking lists are drawn, on the same records; then `name` is
            that of this one.
        alignments: of the parts with body parts, one per granularity, where the test measured them.
    """

    network: ReIDViT
    mean: Sequence[float]
    std: Sequence[float]
    records: Sequence[Record]
    part_table: PartTable | None = None
    cuts: Sequence[tuple[float, float]] = ((0.0, 0.0),)
    layer: int = -1
    head: int | None = None
    answers: int = 8
    queries: int = 6
    run_dir: Path | None = None
    query: Sequence[Record] = ()
    gallery: Sequence[Record] = ()
    metric: ReIDRetrieval | None = None
    metrics: Mapping[str, RetrievalMetrics] = field(default_factory=dict)
    name: str = ""
    rivals: Mapping[str, ReIDRetrieval] = field(default_factory=dict)
    alignments: Sequence[PartAlignment] = ()

    def images(self) -> UInt8[np.ndarray, "images height width 3"]:
        """The images at the network's size."""
        if not self.records:
            raise ConfigError("there are no images to look at; give images=FILE, images=FOLDER or a data set.")
        shown = (cut_rows(read_image(record.path), *cut) for record in self.records for cut in self.cuts)
        return np.stack([resize(image, self.network.image_size) for image in shown])

    def batch(self) -> Float[Tensor, "images 3 height width"]:
        """The images as the network takes them."""
        transform = ImageTransform(self.network.image_size, self.mean, self.std)
        return transform.batch(list(self.images())).to(next(self.network.parameters()).device)

    def masks(self) -> UInt8[Tensor, "images height width"] | None:
        """The part of each pixel of `images`; None where the images have no masks."""
        files = [record.mask for record in self.records if record.mask is not None]
        if self.part_table is None or len(files) < len(self.records):
            return None
        shown = (cut_rows(self.part_table(read_mask(file)), *cut) for file in files for cut in self.cuts)
        masks = np.stack([resize_mask(mask, self.network.image_size) for mask in shown])
        return torch.from_numpy(masks).to(next(self.network.parameters()).device)

    def tested(self) -> ReIDRetrieval:
        """The metric of the test, with the features."""
        assert self.metric is not None, "see FROM_A_TEST"
        return self.metric


def prepared_data(cfg: DictConfig, preprocessing: dict[str, Any]) -> Any:
    """The data module, with images as a checkpoint's network takes them."""
    from hydra.utils import instantiate

    from aaformer_lit.checkpoints.preprocessing import prepare_like_training

    prepare_like_training(cfg, preprocessing)
    data = instantiate(cfg.data)
    data.prepare_data()
    data.setup("test")
    return data


def tested(cfg: DictConfig, network: ReIDViT, preprocessing: dict[str, Any]) -> tuple[ReIDModule, Any]:
    """The module of a network after its test, and the data it was tested on."""
    from hydra.utils import instantiate

    from aaformer_lit.engine.callbacks.alignment import AlignmentTest
    from aaformer_lit.engine.module import ReIDModule

    data = prepared_data(cfg, preprocessing)
    if "alignment" in cfg.kind and not data.part_names:
        raise ConfigError(NEEDS_MASKS)
    module = ReIDModule(network)
    quiet = {"logger": False, "enable_checkpointing": False, "default_root_dir": cfg.run_dir}
    trainer = instantiate(cfg.trainer, callbacks=[AlignmentTest()] if "alignment" in cfg.kind else [], **quiet)
    trainer.test(module, datamodule=data, verbose=False)
    return module, data


def model_names(networks: Sequence[ReIDViT], checkpoints: Sequence[str]) -> list[str]:
    """What to call models that are compared: class and granularities, and where these are equal the checkpoint's run."""
    names = [f"{type(network).__name__} {list(network.granularities) or ''}" for network in networks]
    if len(set(names)) < len(names):
        folders = [Path(checkpoint).resolve().parts for checkpoint in checkpoints]
        # the first place where the paths differ: run, time of the run, or file
        place = next((i for i, several in enumerate(zip(*folders, strict=False)) if len(set(several)) > 1), None)
        if place is None:
            raise ConfigError(f"ckpt and other are the same file, {checkpoints[0]}; give two models to compare.")
        names = [f"{name.strip()} ({folder[place]})" for name, folder in zip(names, folders, strict=True)]
    return [name.strip() for name in names]


def scene_of_test(
    module: ReIDModule,
    data: ReIDDataModule,
    preprocessing: dict[str, Any],
    run_dir: Path,
    count: int = 6,
) -> Scene:
    """The scene of a run that has just been tested: its first test set, and queries spread over it."""
    from aaformer_lit.engine.callbacks.alignment import AlignmentTest
    from aaformer_lit.engine.testing import callback_of

    name = next(iter(module.results))
    query: Sequence[Record] = data.query_records
    alignment = callback_of(AlignmentTest, module.trainer)
    return Scene(
        module.network.eval(),
        preprocessing["mean"],
        preprocessing["std"],
        spread(query, count),
        data.part_table,
        run_dir=run_dir,
        query=query,
        gallery=data.gallery_records,
        metric=module.feature_metrics[name],
        metrics=module.results[name],
        alignments=() if alignment is None else alignment.results.get(name, ()),
    )
