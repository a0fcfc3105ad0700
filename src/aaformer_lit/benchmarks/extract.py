"""From JPEGs on disk to descriptors against the network alone, on images that lie in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from aaformer_lit.benchmarks.measure import Measurement, check, compare

SIZE = (256, 128)


def extract(full: bool, repeats: int) -> list[Measurement]:
    """Decoding and resizing should hide behind the network: ViT-B/16 (small: ViT-T), parts [2,3], loader processes on."""
    from PIL import Image

    from aaformer_lit.data.synthetic import SyntheticSpec, render
    from aaformer_lit.gallery import Extractor
    from aaformer_lit.models import AAformer, build_backbone

    name, count, batch = ("vit_base_patch16_224", 256, 32) if full else ("vit_tiny_patch16_224", 48, 8)
    network = AAformer(build_backbone(name, SIZE), parts=[2, 3]).eval()
    about = {"model": {}, "data": {"image_size": SIZE, "mean": [0.5] * 3, "std": [0.5] * 3}}
    extractor = Extractor(network, about, batch_size=batch)
    spec = SyntheticSpec(num_train_ids=count, num_test_ids=1)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{pid}.jpg") for pid in spec.train_pids]
        for pid, path in zip(spec.train_pids, paths, strict=True):
            Image.fromarray(render(spec, pid, 1, 0)[0]).save(path, quality=95)
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
    return [Measurement("extract", what, against, *seconds, min(seconds[1]), against)]
