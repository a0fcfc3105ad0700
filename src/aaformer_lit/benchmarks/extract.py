"""From JPEGs on disk, and from boxes in a video frame, to descriptors: what is added to the network's own time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from aaformer_lit.benchmarks.measure import Measurement, check, compare, fastest, in_turns, people_on_disk

if TYPE_CHECKING:
    from aaformer_lit.models import ReIDViT

SIZE = (256, 128)


def extract(full: bool, repeats: int) -> Iterator[Measurement]:
    """Decoding and resizing should hide behind the network: ViT-B/16 (small: ViT-T), parts [2,3], loader processes on."""
    from aaformer_lit.gallery import Extractor
    from aaformer_lit.models import AAformer, build_backbone

    name, count, batch = ("vit_base_patch16_224", 256, 32) if full else ("vit_tiny_patch16_224", 48, 8)
    network = AAformer(build_backbone(name, SIZE), parts=[2, 3]).eval()
    about = {"model": {}, "data": {"image_size": SIZE, "mean": [0.5] * 3, "std": [0.5] * 3}}
    extractor = Extractor(network, about, batch_size=batch)
    with tempfile.TemporaryDirectory() as folder:
        paths = people_on_disk(folder, count)
        few = paths[:3]
        check("extract", extractor.features(few), torch.cat([extractor.features([path]) for path in few]), 1e-4)
        images = torch.randn(batch, 3, *SIZE, device=extractor.device)

        @torch.inference_mode()
        def alone() -> None:
            for _ in range(0, count, batch):
                network(images)

        seconds = compare(lambda: extractor.features(paths), alone, repeats)
    what = f"{count} JPEGs 128x64 -> {SIZE[0]}x{SIZE[1]}, {name}"
    against = "the network alone"
    yield Measurement("extract", what, against, *seconds, min(seconds[1]), against)
    yield from _boxes(network, name, count, batch, repeats)


def _boxes(network: ReIDViT, name: str, count: int, batch: int, repeats: int) -> Iterator[Measurement]:
    """People in a frame of 1080 lines, against the loop that trackers have (OpenCV's linear resize, one normalization, the
    network in batches), and against the same ViT without parts."""
    from aaformer_lit.data import ImageTransform
    from aaformer_lit.models import ViTBaseline, build_backbone
    from aaformer_lit.tracking import Embedder

    network.transform = transform = ImageTransform(SIZE)
    embedder, device = Embedder(network, batch_size=batch), next(network.parameters()).device
    baseline = ViTBaseline(build_backbone(name, SIZE)).to(device)
    baseline.transform = transform
    without_parts = Embedder(baseline, batch_size=batch)
    rng = np.random.default_rng(0)
    frame = cv2.resize(rng.integers(0, 256, (135, 240, 3), dtype=np.uint8), (1920, 1080))
    heights = rng.uniform(80, 500, count)
    corners = rng.uniform(0, 1, (count, 2)) * np.stack([1920 - 0.4 * heights, 1080 - heights], axis=1)
    boxes = np.concatenate([corners, corners + np.stack([0.4 * heights, heights], axis=1)], axis=1).round()

    def crops() -> list[np.ndarray]:
        return [frame[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes.astype(int)]

    @torch.inference_mode()
    def plain() -> torch.Tensor:
        resized = [cv2.cvtColor(cv2.resize(crop, SIZE[::-1]), cv2.COLOR_BGR2RGB) for crop in crops()]
        pixels = torch.from_numpy(np.stack(resized)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        return torch.cat([network.embed(part) for part in pixels.split(batch)])

    @torch.inference_mode()
    def alone() -> None:
        for _ in range(0, count, batch):
            network.embed(images)

    images = torch.randn(batch, 3, *SIZE, device=device)
    wanted = network.embed(transform.batch([crop[..., ::-1] for crop in crops()[:batch]]).to(device)).detach()
    check("extract", embedder(frame, boxes[:batch]).features, wanted, 1e-4)
    runs = (lambda: embedder(frame, boxes), plain, lambda: without_parts(frame, boxes))
    ours, *others = in_turns(runs, repeats)
    floor = fastest(alone, repeats)
    what = f"{count} boxes of a 1920x1080 frame -> {SIZE[0]}x{SIZE[1]}, {name}"
    for against, seconds in zip(("a tracker's own loop", "the same ViT without parts"), others, strict=True):
        yield Measurement("extract", what, against, ours, seconds, floor, "the network alone")
