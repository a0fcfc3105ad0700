"""From person images to descriptors: what the evaluation does with a test image, for any images, in batches.

Files are decoded, resized and normalized by the functions of the test loader, in worker processes that work ahead of the
network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aaformer_lit.checkpoints.calibration import CalibrationRecord
from aaformer_lit.checkpoints.fingerprint import fingerprint
from aaformer_lit.checkpoints.hub import PACKAGED, local_path
from aaformer_lit.checkpoints.load import load
from aaformer_lit.data.image_transform import ImageTransform
from aaformer_lit.data.workers import default_workers
from aaformer_lit.errors import ConfigError, GalleryError, ImageError, NumericsError, check_choice
from aaformer_lit.gallery.layout import Layout
from aaformer_lit.gallery.sources import Crop, Frames
from aaformer_lit.gallery.store import Gallery
from aaformer_lit.models import ReIDViT
from aaformer_lit.models.base import descriptors
from aaformer_lit.structures import Pixels

log = logging.getLogger(__name__)
Progress = Callable[[int, int], object]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
AUTOCAST: dict[Precision, torch.dtype | None] = {
    "32-true": None,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}


class Extractor:
    """A network ready for images.

    Args:
        network: in eval mode.
        about: what its checkpoint says of itself (`aaformer_lit.checkpoints.load.description`): model and preprocessing.
        ckpt: where it came from, for the record.
        flip_test: average the descriptor with that of the mirrored image.
        precision: `32-true`, `bf16-mixed` or `16-mixed`, as of a Lightning trainer.
        batch_size: images that pass through the network at once.
        num_workers: loader processes; None: the CPUs this process may use, 8 at most.
        device: None: a GPU if there is one.

    Raises:
        ConfigError: an unknown precision.
    """

    def __init__(
        self,
        network: ReIDViT,
        about: Mapping[str, Any],
        *,
        ckpt: str | Path | None = None,
        flip_test: bool = False,
        precision: Precision = "32-true",
        batch_size: int = 128,
        num_workers: int | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        check_choice("precision", precision, AUTOCAST)
        if batch_size < 1:
            raise ConfigError(f"data.eval_batch_size={batch_size} must be 1 or more.")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.fingerprint = fingerprint(network, about)
        self.network = network.to(self.device).eval()
        self.layout = Layout.of(network)
        # the name of a packaged or hub model is none of a file
        self.ckpt = Path(ckpt).absolute() if ckpt is not None and Path(ckpt).exists() else ckpt
        self.flip_test, self.precision, self.batch_size = flip_test, precision, batch_size
        self.calibration = self._calibration(CalibrationRecord.of(about))
        self.num_workers = default_workers() if num_workers is None else num_workers
        self.transform = ImageTransform.from_description(about["data"])

    @classmethod
    def from_checkpoint(cls, ckpt: str | Path, **options: Any) -> Extractor:
        """The extractor of what `load_model` takes. Raises `CheckpointError`."""
        path = local_path(ckpt)  # a hub id stands for a file, which a gallery remembers; a packaged model moves with us
        return cls(*load(path), ckpt=path.name if path.parent == PACKAGED else path, **options)

    @classmethod
    def for_gallery(cls, gallery: Gallery, ckpt: str | Path | None = None, **options: Any) -> Extractor:
        """The extractor of a gallery's queries, from `ckpt` or what made the gallery. Raises `GalleryError` if that is gone."""
        if ckpt is None:
            ckpt = gallery.about.get("ckpt")
            if ckpt is None or not local_path(ckpt).exists():
                raise GalleryError(
                    f"the checkpoint that made {gallery.folder} is not at {ckpt} any more. Give it as ckpt=."
                )
        return cls.from_checkpoint(ckpt, flip_test=gallery.about.get("flip_test", False), **options)

    def _calibration(self, record: CalibrationRecord | None) -> CalibrationRecord | None:
        """The model's own thresholds, unless they are for the other descriptor of image and mirror image."""
        if record is None or record.flip_test == self.flip_test:
            return record
        log.warning(
            "the thresholds of %s are for flip_test=%s, and are left aside: descriptors here have flip_test=%s.",
            self.ckpt or "the model",
            str(record.flip_test).lower(),
            str(self.flip_test).lower(),
        )
        return None

    def features(
        self, images: Sequence[Crop | Path | Pixels], progress: Progress | None = None
    ) -> Float[Tensor, "images tokens dim"]:
        """The descriptors of files, boxes in them, or RGB pixels, in their order, float32 in main memory.

        They are not normalized, and keep the tokens apart; `self.layout.select` makes features of a token group of them.

        Raises:
            ImageError: the first image that cannot be read.
        """
        descriptors, problems = self.try_features(images, progress, stop=True)
        if problems:
            raise next(iter(problems.values()))
        return descriptors

    @torch.inference_mode()
    def try_features(
        self, images: Sequence[Crop | Path | Pixels], progress: Progress | None = None, stop: bool = False
    ) -> tuple[Float[Tensor, "images tokens dim"], dict[int, ImageError]]:
        """As `features`, but images that cannot be read get zeros, and their error by number; `stop` ends at the first."""
        out = torch.zeros(len(images), self.layout.tokens, self.layout.dim)
        problems: dict[int, ImageError] = {}
        done = 0
        for rows, pixels, bad in self._loader(images):
            problems |= bad
            if bad and stop:
                break
            if rows:
                out[rows] = self._descriptors(pixels)
            done += len(rows) + len(bad)
            if progress is not None:
                progress(done, len(images))
        broken = [
            row for row in (~out.flatten(1).isfinite().all(1)).nonzero().flatten().tolist() if row not in problems
        ]
        if broken:
            raise NumericsError(
                f"{len(broken)} descriptors are not finite (first: image {broken[0]}). Use precision=bf16-mixed or 32-true."
            )
        return out, problems

    def _descriptors(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch tokens dim"]:
        pixels = pixels.to(self.device, non_blocking=True)
        dtype = AUTOCAST[self.precision]
        with torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            return descriptors(self.network, pixels, flip=self.flip_test).cpu()

    def _loader(
        self, images: Sequence[Crop | Path | Pixels]
    ) -> Iterator[tuple[list[int], Tensor, dict[int, ImageError]]]:
        # starting workers takes longer than a batch or two
        workers = self.num_workers if len(images) > 2 * self.batch_size else 0
        generator = torch.Generator().manual_seed(0)  # the loader draws a seed, but not from the global generator
        return iter(
            DataLoader(
                _Inputs(images, self.transform),
                batch_size=self.batch_size,
                num_workers=workers,
                collate_fn=_collate,
                pin_memory=self.device.type == "cuda",
                generator=generator,
            )
        )


class _Inputs(Dataset[tuple[int, Tensor | ImageError]]):
    """What the test loader makes of an image, or the error that says why it cannot."""

    def __init__(self, images: Sequence[Crop | Path | Pixels], transform: ImageTransform) -> None:
        self.images, self.transform, self.frames = images, transform, Frames()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int, Tensor | ImageError]:
        image = self.images[index]
        try:
            if not isinstance(image, np.ndarray):
                image = self.frames(image if isinstance(image, Crop) else Crop(Path(image)))
        except ImageError as error:
            # as a value: an error raised in a worker process comes back as a traceback in words
            return index, error
        return index, self.transform(image)


def _collate(
    samples: Sequence[tuple[int, Tensor | ImageError]],
) -> tuple[list[int], Tensor, dict[int, ImageError]]:
    good = [(index, pixels) for index, pixels in samples if isinstance(pixels, Tensor)]
    bad = {index: error for index, error in samples if isinstance(error, ImageError)}
    pixels = torch.stack([pixels for _, pixels in good]) if good else torch.zeros(0)
    return [index for index, _ in good], pixels, bad
