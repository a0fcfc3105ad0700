"""The training pipeline (decode, resize, flip, pad-crop, erase, normalize) against torchvision's on Pillow images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from aaformer_lit.benchmarks.measure import Measurement, check, compare, fastest, people_on_disk

SIZE = (256, 128)


def data(full: bool, repeats: int) -> Iterator[Measurement]:
    """JPEGs of synthetic people, 128x64 as Market-1501's, in one process."""
    from PIL import Image
    from torchvision import transforms as T

    from aaformer_lit.data.images import read_image
    from aaformer_lit.data.person_images import PersonImages
    from aaformer_lit.data.sampler import Draw
    from aaformer_lit.data.transforms import Transforms
    from aaformer_lit.structures import Record

    count, settings = (256 if full else 48), Transforms()
    normalize = [T.ToTensor(), T.Normalize(settings.mean, settings.std)]
    resize = T.Resize(SIZE, T.InterpolationMode.BICUBIC)
    augment = [T.RandomHorizontalFlip(), T.Pad(10), T.RandomCrop(SIZE)]
    train = T.Compose([resize, *augment, *normalize, T.RandomErasing(0.5, value="random")])
    with tempfile.TemporaryDirectory() as folder:
        paths = people_on_disk(folder, count)
        records = [Record(path, pid, 1) for pid, path in enumerate(paths)]
        plain = PersonImages(records, SIZE, settings.test())[0]["image"]
        with Image.open(paths[0]) as image:
            check("data", plain.mean(), T.Compose([resize, *normalize])(image.convert("RGB")).mean(), 0.01)
        images = PersonImages(records, SIZE, settings.train(SIZE), labels={pid: pid for pid in range(count)})

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
        yield Measurement("data", what, against, *seconds, fastest(decode, repeats), "decoding alone")
