"""The training pipeline (decode, resize, flip, pad-crop, erase, normalize) against torchvision's on Pillow images."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aaformer_lit.benchmarks.measure import Measurement, check, compare, fastest

SIZE = (256, 128)


def data(full: bool, repeats: int) -> list[Measurement]:
    """JPEGs of synthetic people, 128x64 as Market-1501's, in one process."""
    from PIL import Image
    from torchvision import transforms as T

    from aaformer_lit.data.images import read_image
    from aaformer_lit.data.person_images import PersonImages
    from aaformer_lit.data.sampler import Draw
    from aaformer_lit.data.synthetic import SyntheticSpec, render
    from aaformer_lit.data.transforms import Transforms
    from aaformer_lit.structures import Record

    count, settings = (256 if full else 48), Transforms()
    spec = SyntheticSpec(num_train_ids=count, num_test_ids=1)
    normalize = [T.ToTensor(), T.Normalize(settings.mean, settings.std)]
    resize = T.Resize(SIZE, T.InterpolationMode.BICUBIC)
    augment = [T.RandomHorizontalFlip(), T.Pad(10), T.RandomCrop(SIZE)]
    train = T.Compose([resize, *augment, *normalize, T.RandomErasing(0.5, value="random")])
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{pid:04d}_c1s1_000001_00.jpg") for pid in spec.train_pids]
        for pid, path in zip(spec.train_pids, paths, strict=True):
            Image.fromarray(render(spec, pid, 1, 0)[0]).save(path, quality=95)
        records = [Record(path, pid, 1) for pid, path in zip(spec.train_pids, paths, strict=True)]
        plain = PersonImages(records, SIZE, settings.test())[0]["image"]
        with Image.open(paths[0]) as image:
            check("data", plain.mean(), T.Compose([resize, *normalize])(image.convert("RGB")).mean(), 0.01)
        images = PersonImages(records, SIZE, settings.train(SIZE), labels={r.pid: i for i, r in enumerate(records)})

        def ours() -> None:
            for index in range(count):
                images[Draw(index)]

        def theirs() -> None:
            for path in paths:
                with Image.open(path) as image:
                    train(image.convert("RGB"))

        def decode() -> None:
            for path in paths:
                read_image(path)

        what, against = f"{count} JPEGs 128x64 -> 256x128", "torchvision and Pillow"
        seconds = compare(ours, theirs, repeats)
        return [Measurement("data", what, against, *seconds, fastest(decode, repeats), "decoding alone")]
