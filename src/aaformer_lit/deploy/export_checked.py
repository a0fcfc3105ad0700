"""Write, compare, keep: an exported file takes its name only after it was found to compute what the network does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from aaformer_lit.checkpoints.calibration import checked_calibration
from aaformer_lit.checkpoints.hub import local_path
from aaformer_lit.checkpoints.load import load
from aaformer_lit.data.image_transform import ImageTransform
from aaformer_lit.data.preparation import resize
from aaformer_lit.deploy.bounds import Bounds, DType
from aaformer_lit.deploy.card import model_card
from aaformer_lit.deploy.compare import OWN, TEST, Exported, batches, compare
from aaformer_lit.deploy.formats import Format, SafetensorsFormat, portable
from aaformer_lit.deploy.people import People
from aaformer_lit.deploy.preprocess import Preprocess
from aaformer_lit.deploy.test_images import own_images, probe_images
from aaformer_lit.errors import ExportError
from aaformer_lit.models import ReIDViT
from aaformer_lit.utils.environment import machine
from aaformer_lit.utils.files import replace_whole, scratch_folder, write_json

_EXACT = "Another opset or version of the exporting packages may do better; format=safetensors is exact."
_CURE: Mapping[DType, str] = {
    "fp32": _EXACT,
    "fp16": "Use format.dtype=fp32.",
    "int8": "Calibrate with more images like those that it will see (check.calibration_images), or use format.dtype=fp16.",
}


def export_checked(ckpt: str | Path, form: Format, target: Path, **options: Any) -> dict[str, Any]:
    """`export_network` of a checkpoint, an exported folder or a hub id."""
    return export_network(*load(ckpt), form, target, source=ckpt, **options)


def export_network(
    network: ReIDViT,
    about: Mapping[str, Any],
    form: Format,
    target: Path,
    *,
    source: str | Path,
    images: int = 256,
    people: People | None = None,
    bounds: Bounds | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write a network to `target`, and the comparison to `<target>.report.json`; returns the report.

    Args:
        network: in eval mode.
        about: its description (`checkpoints.load.describe`).
        form: how to keep it.
        target: a file, or a folder for formats that are folders; replaced if it is there.
        source: where the network comes from, for the model card and the messages.
        images: how many drawn images to compare on.
        people: photos to compare on as well, and those that int8 is calibrated with.
        bounds: None: those of the format's dtype.
        seed: of the drawn images.

    Raises:
        ExportError: the target is of the wrong kind, the format cannot hold the network, or the file computes something
            else; then nothing is left behind.
    """
    form.check_target(target)
    about = portable(about)
    deployed = form.deployed(network, about["data"])
    about = checked_calibration(network, about, source)  # rounded weights have thresholds of their own
    people, bounds = people or People(), bounds or Bounds.of(form.dtype)
    preprocess = deployed.preprocess
    any_size = preprocess is not None and not preprocess.input_size
    size = (preprocess and preprocess.input_size) or network.image_size
    photos = {OWN: people.own, TEST: [record.path for record in people.test.records] if people.test else []}
    test_images = probe_images(images, size, seed, any_size)
    test_images |= {kind: own_images(paths, size, any_size) for kind, paths in photos.items() if paths}
    transform = ImageTransform.from_description(about["data"])

    def as_input(image: UInt8[Tensor, "rows columns 3"]) -> Tensor:
        return transform(image.numpy()) if preprocess is None else preprocess.inputs(image)

    with scratch_folder(target) as folder:
        written = folder / target.name
        form.write(deployed, about, written, [*map(as_input, own_images(people.calibration, size, any_size))])
        inputs, exported = {kind: [*map(as_input, some)] for kind, some in test_images.items()}, form.read(written)
        comparison = compare(deployed, exported, inputs, people.test)
        problem = comparison.problem(bounds)
        if problem is not None:
            raise ExportError(
                f"the exported {target.name} does not compute what {source} does: {problem}. It was not kept. "
                f"{_CURE[form.dtype]}"
            )
        report = {
            "file": target.name,
            "format": type(form).__name__,
            **vars(form),
            "parameters": sum(p.numel() for p in network.parameters()),
            "megabytes": round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6, 1),
            "bounds": asdict(bounds),
            "calibration_images": len(people.calibration),
            "images_per_second": {
                "network": images_per_second(deployed.outputs, inputs["people"]),
                "file": images_per_second(exported, inputs["people"]),
            },
            **comparison.as_dict(),
            **({"preprocessing": against_loader(preprocess, test_images)} if preprocess else {}),
            **machine(),
        }
        if isinstance(form, SafetensorsFormat):
            ckpt = local_path(source) if Path(source).exists() else None  # RUN stands for its last checkpoint
            (written / "README.md").write_text(model_card(about, ckpt))
        write_json(folder / f"{target.name}.report.json", report)
        _put(folder, target.parent)
    return report


def images_per_second(run: Exported, images: Sequence[Tensor], size: int = 32) -> float:
    """The best of three runs over up to `size` images: in one batch if they are of one size, else one by one."""
    work = list(batches({"": images[:size]}, size))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        for batch in work:
            run(batch)
        seconds.append(time.perf_counter() - start)
    return round(len(images[:size]) / min(seconds), 1)


def against_loader(preprocess: Preprocess, test_images: Mapping[str, Sequence[Tensor]]) -> dict[str, Any]:
    """How far the resizing inside the graph is from the loader's, which the network was trained and tested with."""
    inside, loader = [], []
    for image in (image for images in test_images.values() for image in images):
        inside.append(preprocess.resize(image[None])[0])
        resized = resize(image.numpy(), preprocess.loader.image_size)
        loader.append(torch.from_numpy(resized).permute(2, 0, 1).float())
    levels = (torch.stack(inside) - torch.stack(loader)).abs()
    return {
        "largest_difference_in_gray_levels": int(levels.max()),
        "share_of_pixels_that_differ": float((levels > 0).float().mean()),
    }


def _put(source: Path, target: Path) -> None:
    """Move all files to another folder; an existing one (a clone of a hub repository, say) keeps its other files."""
    target.mkdir(exist_ok=True)
    for path in sorted(source.iterdir()):
        (_put if path.is_dir() else replace_whole)(path, target / path.name)
