"""The folder layouts and file names of the re-ID benchmarks, filled with synthetic people.

A layout says where a picture goes and which lists lie beside the pictures. Every file a data set's loader needs is there in
its real form, so a loader that reads these folders reads the real ones. CUHK03's raw archive is in `cuhk03_raw`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from aaformer_lit.data.synthetic.render import Labels, render
from aaformer_lit.data.synthetic.spec import Shot, Split, SyntheticSpec
from aaformer_lit.errors import ConfigError
from aaformer_lit.structures import Pixels

MASKS = "masks"  # the folder of part labels in every layout: masks/<path of the image>.png


class Layout:
    """Market-1501's layout; other layouts override the facts."""

    name: ClassVar[str] = "market1501"
    folder: ClassVar[str] = "Market-1501-v15.09.15"
    splits: ClassVar[dict[Split, str]] = {
        "train": "bounding_box_train",
        "query": "query",
        "gallery": "bounding_box_test",
    }
    max_cameras: ClassVar[int] = 6
    max_pid: ClassVar[int] = 9999

    def folder_name(self, spec: SyntheticSpec) -> str:
        return self.folder

    def adapt(self, spec: SyntheticSpec) -> SyntheticSpec:
        """The spec as this data set can hold it. Raises `ConfigError` where its file names cannot say it."""
        if spec.num_cameras > self.max_cameras:
            raise ConfigError(
                f"the {self.name} layout has at most {self.max_cameras} cameras; got num_cameras={spec.num_cameras}."
            )
        if spec.test_pids[-1] > self.max_pid:
            raise ConfigError(
                f"the {self.name} layout numbers people up to {self.max_pid}; got num_train_ids={spec.num_train_ids} and "
                f"num_test_ids={spec.num_test_ids}."
            )
        return spec

    def path(self, spec: SyntheticSpec, shot: Shot) -> str:
        """Where a picture goes, relative to the data set's folder."""
        return f"{self.splits[shot.split]}/{self.inner_path(spec, shot)}"

    def inner_path(self, spec: SyntheticSpec, shot: Shot) -> str:
        """The part of it below the folder of the split."""
        frame = (shot.pid * 131 + shot.index * 25) % 1_000_000
        return f"{shot.pid:04d}_c{shot.camid}s1_{frame:06d}_{shot.index % 100:02d}.jpg"

    def pictures(self, spec: SyntheticSpec) -> Iterator[tuple[str, Shot, SyntheticSpec]]:
        """(path, shot, the spec to draw it by) of every picture."""
        for shot in spec.shots():
            yield self.path(spec, shot), shot, spec

    def write(self, folder: Path, spec: SyntheticSpec, advance: Callable[[], None]) -> None:
        """Draw everything into `folder`, calling `advance` after each picture of the spec."""
        for path, shot, how in self.pictures(spec):
            image, labels = render(how, shot.pid, shot.camid, shot.index)
            save(folder, path, image, labels)
            advance()
        self.write_lists(folder, spec)

    def count(self, spec: SyntheticSpec) -> int:
        """How often `write` calls `advance`."""
        return sum(1 for _ in self.pictures(spec))

    def write_lists(self, folder: Path, spec: SyntheticSpec) -> None:
        """Write the list files of the data set; Market-1501 has none."""


class Synthetic(Layout):
    """The project's own data set: Market-1501's layout in a folder named after the spec, up to 99 cameras."""

    name = "synthetic"
    max_cameras = 99

    def folder_name(self, spec: SyntheticSpec) -> str:
        return f"synthetic-{spec.short_hash}"


class DukeMTMC(Layout):
    name = "dukemtmc"
    folder = "DukeMTMC-reID"
    max_cameras = 8

    def inner_path(self, spec: SyntheticSpec, shot: Shot) -> str:
        return f"{shot.pid:04d}_c{shot.camid}_f{shot.pid * 131 + shot.index * 120:07d}.jpg"


class OccludedDuke(DukeMTMC):
    """Every query is occluded, as in the original."""

    name = "occluded_duke"
    folder = "Occluded_Duke"

    def pictures(self, spec: SyntheticSpec) -> Iterator[tuple[str, Shot, SyntheticSpec]]:
        occluded = replace(spec, occlusion=1.0)
        for path, shot, how in super().pictures(spec):
            yield path, shot, occluded if shot.split == "query" else how


class OccludedREID(Layout):
    """Test people alone: the first picture by each camera is an occluded query, the others show them whole."""

    name = "occluded_reid"
    folder = "Occluded_REID"
    splits: ClassVar[dict[Split, str]] = {"query": "occluded_body_images", "gallery": "whole_body_images"}
    max_cameras = 9
    max_pid = 999
    form: ClassVar[str] = "{pid:03d}/{pid:03d}_{number:02d}.tif"
    first: ClassVar[dict[str, Any]] = {"occlusion": 1.0}  # how the first picture by each camera differs from the spec
    others: ClassVar[dict[str, Any]] = {"occlusion": 0.0}

    def inner_path(self, spec: SyntheticSpec, shot: Shot) -> str:
        return self.form.format(pid=shot.pid, number=(shot.camid - 1) * spec.images_per_camera + shot.index + 1)

    def pictures(self, spec: SyntheticSpec) -> Iterator[tuple[str, Shot, SyntheticSpec]]:
        first, others = replace(spec, **self.first), replace(spec, **self.others)
        for shot in spec.shots():
            if shot.split in self.splits:
                yield self.path(spec, shot), shot, first if shot.index == 0 else others


class PartialREID(OccludedREID):
    """Side by side in one folder. Partial people are drawn as badly cropped ones; there are no occluded ones."""

    name = "partial_reid"
    folder = "Partial_REID"
    splits: ClassVar[dict[Split, str]] = {"query": "partial_body_images", "gallery": "whole_body_images"}
    form = "{pid:03d}_{number:03d}.jpg"
    first: ClassVar[dict[str, Any]] = {"occlusion": 0.0, "misalignment": 1.0}
    others: ClassVar[dict[str, Any]] = {"occlusion": 0.0, "misalignment": 0.0}


class PDukeMTMC(OccludedREID):
    """The training people have occluded and whole pictures too."""

    name = "p_dukemtmc"
    folder = "P-DukeMTMC-reid"
    splits: ClassVar[dict[Split, str]] = {"train": "train", "query": "test", "gallery": "test"}
    max_cameras = 8
    max_pid = 9999

    def inner_path(self, spec: SyntheticSpec, shot: Shot) -> str:
        kind = "occluded" if shot.index == 0 else "whole"
        return f"{kind}_body_images/{shot.pid:04d}/{DukeMTMC().inner_path(spec, shot)}"


class MSMT17(Layout):
    """Version 1: a folder per person, both sets numbered from 0, list files; every tenth training image is "val"."""

    name = "msmt17"
    folder = "MSMT17_V1"
    splits: ClassVar[dict[Split, str]] = {"train": "train", "query": "test", "gallery": "test"}
    max_cameras = 15

    def inner_path(self, spec: SyntheticSpec, shot: Shot) -> str:
        pid = self.label(spec, shot)
        running = ((shot.camid - 1) * spec.images_per_camera + shot.index) % 1000
        time = ("morning", "noon", "afternoon")[shot.camid % 3]
        return f"{pid:04d}/{pid:04d}_{running:03d}_{shot.camid:02d}_0303{time}_{shot.index:04d}_0.jpg"

    def label(self, spec: SyntheticSpec, shot: Shot) -> int:
        return shot.pid - (spec.train_pids if shot.split == "train" else spec.test_pids)[0]

    def write_lists(self, folder: Path, spec: SyntheticSpec) -> None:
        lines: dict[str, list[str]] = {"train": [], "val": [], "query": [], "gallery": []}
        for number, shot in enumerate(spec.shots()):
            listed = "val" if shot.split == "train" and number % 10 == 9 else shot.split
            lines[listed].append(f"{self.inner_path(spec, shot)} {self.label(spec, shot)}\n")
        for name, content in lines.items():
            (folder / f"list_{name}.txt").write_text("".join(content))


class MSMT17V2(MSMT17):
    name = "msmt17_v2"
    folder = "MSMT17_V2"
    splits: ClassVar[dict[Split, str]] = {"train": "mask_train_v2", "query": "mask_test_v2", "gallery": "mask_test_v2"}


class CUHK03Cut(Layout):
    """CUHK03 cut into images, as the new protocol's authors hand it out: hand-drawn boxes and detected, misaligned ones."""

    name = "cuhk03_np"
    folder = "cuhk03-np"

    def adapt(self, spec: SyntheticSpec) -> SyntheticSpec:
        # each person passes one pair of cameras
        return super().adapt(replace(spec, num_cameras=2))

    def inner_path(self, spec: SyntheticSpec, shot: Shot) -> str:
        return f"{shot.pid:04d}_c{shot.camid}_{shot.index + 1}.png"

    def pictures(self, spec: SyntheticSpec) -> Iterator[tuple[str, Shot, SyntheticSpec]]:
        aligned = replace(spec, misalignment=0.0)
        for path, shot, how in super().pictures(spec):
            yield f"labeled/{path}", shot, aligned
            yield f"detected/{path}", shot, how


def save(folder: Path, path: str, image: Pixels, labels: Labels) -> None:
    """Write an image and its mask."""
    for target, pixels in ((folder / path, image[..., ::-1]), ((folder / MASKS / path).with_suffix(".png"), labels)):
        target.parent.mkdir(parents=True, exist_ok=True)
        quality = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, 92], ".png": [cv2.IMWRITE_PNG_COMPRESSION, 3]}
        settings = quality.get(target.suffix, [])
        _, encoded = cv2.imencode(target.suffix, np.ascontiguousarray(pixels), settings)
        target.write_bytes(encoded.tobytes())
