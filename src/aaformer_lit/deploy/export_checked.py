"""Write, compare, keep: an exported file takes its name only after it was found to compute what the network does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aaformer_lit.checkpoints.calibration import checked_calibration
from aaformer_lit.checkpoints.load import load
from aaformer_lit.data.transforms import resize
from aaformer_lit.deploy.card import model_card
from aaformer_lit.deploy.compare import compare
from aaformer_lit.deploy.formats import Format, SafetensorsFormat, portable
from aaformer_lit.deploy.preprocess import Preprocess
from aaformer_lit.deploy.test_images import own_images, probe_images
from aaformer_lit.errors import ExportError
from aaformer_lit.models import ReIDViT
from aaformer_lit.utils.environment import machine
from aaformer_lit.utils.files import replace_whole, scratch_folder, write_json


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
    paths: Sequence[Path] = (),
    tolerance: float = 1e-4,
    max_flipped: float = 1e-3,
    seed: int = 0,
) -> dict[str, Any]:
    """Write a network to `target`, and the comparison to `<target>.report.json`; returns the report.

    Args:
        network: in eval mode.
        about: its description (`checkpoints.load.describe`).
        form: how to keep it.
        target: a file, or a folder for formats that are folders; replaced if it is there.
        source: where the network comes from, for the model card and the messages.
        images: how many images to compare on.
        paths: image files to compare on as well.
        tolerance, max_flipped: see `Comparison.problem`.
        seed: of the images.

    Raises:
        ExportError: the format cannot hold the network, or the file computes something else; then nothing is left behind.
    """
    about = portable(about)
    deployed = form.deployed(network, about["data"])
    about = checked_calibration(network, about, source)  # rounded weights have thresholds of their own
    test_images = probe_images(images, network.image_size, seed, any_size=form.preprocess)
    if paths:
        test_images["own images"] = own_images(paths, network.image_size, any_size=form.preprocess)
    inputs = test_images if form.preprocess else normalized(test_images, about["data"])
    with scratch_folder(target) as folder:
        written = folder / target.name
        form.write(deployed, about, written)
        comparison = compare(deployed, form.read(written), inputs)
        problem = comparison.problem(tolerance, max_flipped)
        if problem is not None:
            raise ExportError(
                f"the exported {target.name} does not compute what {source} does: {problem}. It was not kept. "
                "Another opset or version of the exporting packages may do better; format=safetensors is exact."
            )
        report = {
            "file": target.name,
            "format": type(form).__name__,
            **vars(form),
            "parameters": sum(p.numel() for p in network.parameters()),
            "megabytes": round(_size(written) / 1e6, 1),
            "tolerance": tolerance,
            "max_flipped": max_flipped,
            **comparison.as_dict(),
            **({"preprocessing": against_loader(deployed.preprocess, test_images)} if deployed.preprocess else {}),
            **machine(),
        }
        if isinstance(form, SafetensorsFormat):
            (written / "README.md").write_text(model_card(about, Path(source)))
        write_json(folder / f"{target.name}.report.json", report)
        _put(folder, target.parent)
    return report


def normalized(test_images: Mapping[str, Sequence[Tensor]], data: Mapping[str, Any]) -> dict[str, list[Tensor]]:
    """uint8 HWC images as a graph without preprocessing takes them."""
    mean, std = (torch.tensor(list(data[name]))[:, None, None] for name in ("mean", "std"))
    return {kind: [(x.permute(2, 0, 1) / 255 - mean) / std for x in images] for kind, images in test_images.items()}


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


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
