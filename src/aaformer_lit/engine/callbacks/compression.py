"""CompressionTest: what is lost by shorter descriptors (`evaluate compress=[128,256]`), in the same test as the whole ones.

A PCA is fitted on the training images' descriptors before the test. Every length is then a further row of the results,
`pca_128` beside `global` and `parts`, and a further model: the network with the fit in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.utils.data import DataLoader

from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.person_images import PersonImages
from aaformer_lit.engine.module import ReIDModule
from aaformer_lit.errors import ConfigError
from aaformer_lit.models import ReIDViT
from aaformer_lit.models.base import descriptors
from aaformer_lit.models.compression import Compression
from aaformer_lit.structures import compared_features
from aaformer_lit.utils.sequences import spread


class CompressionTest(Callback):
    """Fits a `Compression` when a test starts, and has the test rank by it too.

    Args:
        network: whose descriptors are shortened.
        sizes: numbers of the short descriptors.
        images: of the training set to fit on, evenly spread; all where there are fewer.

    Raises:
        ConfigError: a size that is too large for the descriptor, or a network that is compressed already; when the test
            starts, a size that is too large for the training images.
    """

    def __init__(self, network: ReIDViT, sizes: Sequence[int], images: int = 20_000) -> None:
        if not all(type(size) is int for size in sizes):  # true is an int, too
            raise ConfigError(f"compress={[*sizes]} must be lengths of descriptors, such as [128,256].")
        self.sizes, self.images = sorted(set(sizes)), images
        self.fitted: dict[int, Compression] = {}
        if network.compression is not None and self.sizes:
            raise ConfigError(
                f"the checkpoint's descriptors are compressed already, to {network.compression.size} numbers. "
                "Give the checkpoint that it was made from, or leave out compress=."
            )
        for size in self.sizes:
            Compression(network.num_tokens * network.dim, size)  # says at once what cannot be

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = cast(ReIDModule, pl_module)
        longest = Compression.fit(self._training_features(trainer, module), self.sizes[-1])
        self.fitted = {size: longest.shortened(size) for size in self.sizes}
        module.retrieval["projections"] = {f"pca_{size}": fit for size, fit in self.fitted.items()}

    @contextmanager
    def compressed(self, network: ReIDViT, size: int) -> Iterator[ReIDViT]:
        """The network with the fit of this size inside the `with`."""
        network.compression = self.fitted[size]
        try:
            yield network
        finally:
            network.compression = None

    def description(self, about: Mapping[str, Any], size: int) -> dict[str, Any]:
        """What a file with the fit of this size says of itself; thresholds were for the whole descriptor."""
        return {key: value for key, value in about.items() if key != "calibration"} | {"compress": size}

    @torch.no_grad()
    def _training_features(self, trainer: Trainer, module: ReIDModule) -> Float[Tensor, "images features"]:
        data: ReIDDataModule = trainer.datamodule  # type: ignore[attr-defined]
        records = spread(data.train_records, self.images)
        images = PersonImages(records, data.image_size, data.transforms.test(), part_table=data.part_table)
        loader = DataLoader(
            images, data.eval_batch_size, num_workers=data.workers, generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        features = [torch.zeros(0, module.network.num_tokens * module.network.dim)]
        with trainer.precision_plugin.forward_context():
            for batch in map(trainer.precision_plugin.convert_input, loader):
                batch = move_data_to_device(batch, module.device)
                tokens = descriptors(module.network, batch["image"], batch.get("part_mask"), module.flip_test)
                features.append(compared_features(tokens, module.network.normalize).cpu())
        return torch.cat(features)
