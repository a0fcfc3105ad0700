"""StabilityTest: how far the descriptor moves where nobody would see a difference (`test/stability/*`).

Retrieval cannot be better than its descriptor is steady: a hard assignment that turns over with one gray level moves a part's
feature by as much as two people differ. So a fixed sample of the test images is described again after a change that means
nothing, and the median movement of the normalized descriptor is reported beside the median distance between people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import cv2
import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from torch.utils.data import DataLoader

from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.metrics import between_people, movement
from aaformer_lit.models import ReIDViT
from aaformer_lit.structures import Pixels, ReIDBatch


def jpeg95(image: Pixels) -> Pixels:
    """Saved as a JPEG of quality 95 and read again."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)).astype(np.uint8)


def grey1(image: Pixels) -> Pixels:
    """Each pixel one gray level lighter or darker, drawn alike for images of equal size."""
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.int16), (*image.shape[:2], 1))
    changed: Pixels = (image + signs).clip(0, 255).astype(np.uint8)
    return changed


def shift1(image: Pixels) -> Pixels:
    """Moved to the right by one pixel; the first column stands twice."""
    return np.concatenate([image[:, :1], image[:, :-1]], axis=1)


CHANGES: Mapping[str, Callable[[Pixels], Pixels]] = {"jpeg95": jpeg95, "grey1": grey1, "shift1": shift1}


class StabilityTest(Callback):
    """Measures the movement after `trainer.test`, on the file's pixels before the resize and in float32 where it can be.

    `results` holds `jpeg95`, `grey1`, `shift1` and `people` (the distance between people, for scale): medians. The
    descriptor is the network's own, without a flip test.

    Args:
        images: of the test sets, drawn by `seed`; all where they have fewer. Each is described four times.
        seed: of the sample.
    """

    def __init__(self, images: int = 64, seed: int = 0) -> None:
        self.images, self.seed = images, seed
        self.results: dict[str, float] = {}

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: ReIDDataModule = trainer.datamodule  # type: ignore[attr-defined]
        records = [record for one in data.test_sets.values() for record in (*one.query, *one.gallery)]
        order = np.random.default_rng(self.seed).permutation(len(records))[: self.images]
        sample = [records[i] for i in sorted(order.tolist())]

        def describe(change: Callable[[Pixels], Pixels] | None = None) -> torch.Tensor:
            loader = DataLoader(data.test_images(sample, change), data.eval_batch_size)
            return torch.cat([self._embed(trainer, pl_module, batch) for batch in loader])

        before = describe()
        self.results = {name: movement(before, describe(change)) for name, change in CHANGES.items()}
        # two test sets number their people separately, but seldom is a pair of equal numbers drawn
        people = between_people(before, torch.tensor([record.pid for record in sample]))
        self.results |= {} if people is None else {"people": people}
        # equal on all ranks already, which Lightning cannot know
        pl_module.log_dict(self.metrics(), sync_dist=True)

    def metrics(self) -> dict[str, float]:
        """Names as in `metrics.json`."""
        return {f"test/stability/{name}": value for name, value in self.results.items()}

    @staticmethod
    @torch.no_grad()
    def _embed(trainer: Trainer, pl_module: LightningModule, batch: ReIDBatch) -> torch.Tensor:
        batch = move_data_to_device(trainer.precision_plugin.convert_input(batch), pl_module.device)
        # half precision would add its own rounding to the movement
        with trainer.precision_plugin.forward_context(), torch.autocast(pl_module.device.type, enabled=False):
            return cast(ReIDViT, pl_module.network).embed(batch["image"], batch.get("part_mask")).cpu()
