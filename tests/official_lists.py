"""File lists of the benchmarks with their published counts: the official ones where `AAFORMER_TEST_DATA` has them, else drawn.

A drawn list has the data set's form of names and its published numbers of images, people and cameras, with people of other
numbers of images as real ones are. The counts are typed from the data sets' papers, apart from the code under test.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io

MSMT17_VAL = 2_373  # images of list_val.txt, which belong to the training people


class Shown(NamedTuple):
    """The `number`th image of a person."""

    pid: int
    camid: int
    number: int


def official_lists(folder: Path) -> Path:
    """Where the lists are: those of `AAFORMER_TEST_DATA`, else drawn ones below `folder`."""
    if os.environ.get("AAFORMER_TEST_DATA"):
        return Path(os.environ["AAFORMER_TEST_DATA"]) / "lists"
    for draw in (draw_market1501, draw_duke, draw_msmt17, draw_cuhk03):
        draw(folder)
    return folder


def images(count: int, pids: range, cameras: int, first: int = 0) -> Iterator[Shown]:
    """`count` images of all `pids` in all `cameras`; the later people have one more where it does not divide."""
    for place, pid in enumerate(pids):
        share = count * (place + 1) // len(pids) - count * place // len(pids)
        for number in range(share):
            yield Shown(pid, (pid + number) % cameras + 1, first + number)


def write(path: Path, lines: Iterator[str] | list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def draw_market1501(folder: Path) -> None:
    """Zheng et al. 2015: 12,936 images of 751 people; 3,368 queries of 750; 19,732 in the gallery, 3,819 of them junk and
    2,798 distractors, which are named as person 0."""

    def named(shown: Iterator[Shown], box: str = "00") -> list[str]:
        return [f"{s.pid:04d}_c{s.camid}s1_{s.number:06d}_{box}.jpg" for s in shown]

    queried = range(800, 1_550)
    junk = [f"-1_c{n % 6 + 1}s2_{n:06d}_01.jpg" for n in range(3_819)]
    gallery = [*junk, *named(images(2_798, range(1), 6)), *named(images(13_115, queried, 6), "01")]
    for name, content in (
        ("train", named(images(12_936, range(2, 753), 6))),
        ("probe", named(images(3_368, queried, 6))),
        ("gallery", gallery),
    ):
        write(folder / "market1501" / f"{name}.txt", content)


def draw_duke(folder: Path) -> None:
    """Zheng et al. 2017: 16,522 images of 702 people; 2,228 queries of 702; 17,661 in the gallery, 408 of its 1,110 people
    never asked for. Miao et al. 2019 (Occluded-Duke) take 15,618 of the first, 2,210 queries of 519 people, and a gallery of
    the same size, from the same names."""

    def named(shown: Iterator[Shown]) -> list[str]:
        return [f"{s.pid:04d}_c{s.camid}_f{s.number:07d}.jpg" for s in shown]

    train = named(images(16_522, range(1, 703), 8))
    seldom, often = named(images(183, range(1_000, 1_183), 8)), named(images(2_045, range(1_183, 1_702), 8))
    gallery = named(images(17_661, range(1_000, 2_110), 8, first=100))
    asked = [name for name in gallery if "1183" <= name[:4] < "1702"][:: 7_000 // 165][:165]
    for name, content in (("train", train), ("probe", [*seldom, *often]), ("test", gallery)):
        write(folder / "duke" / f"{name}.list", content)
    for name, content in (
        ("train", sorted(set(train) - set(train[5::18][: 16_522 - 15_618]))),
        ("query", [*often, *asked]),
        ("gallery", [*sorted(set(gallery) - set(asked)), *seldom[:165]]),
    ):
        write(folder / "occluded_duke" / f"{name}.list", content)


def draw_msmt17(folder: Path) -> None:
    """Wei et al. 2018: 32,621 images of 1,041 people, in two lists; 11,659 queries and 82,161 gallery images of 3,060."""

    def line(s: Shown) -> str:
        path = f"{s.pid:04d}/{s.pid:04d}_{s.number:03d}_{s.camid:02d}_0303morning_{s.number:04d}_0.jpg"
        return f"{path} {s.pid}"

    train = [line(s) for s in images(32_621, range(1_041), 15)]
    step = len(train) // MSMT17_VAL
    val = train[step - 1 :: step][:MSMT17_VAL]
    for name, content in (
        ("train", sorted(set(train) - set(val))),
        ("val", val),
        ("query", [line(s) for s in images(11_659, range(3_060), 15)]),
        ("gallery", [line(s) for s in images(82_161, range(3_060), 15, first=100)]),
    ):
        write(folder / "msmt17_v1" / f"list_{name}.txt", content)


def draw_cuhk03(folder: Path) -> None:
    """Zhong et al. 2017: 1,467 people of five camera pairs; 767 to train on (7,368 images by hand, 7,365 by a detector), 700
    with 1,400 queries and 5,328 (5,332) gallery images."""
    pairs = [(pair, person) for pair, people in enumerate((843, 440, 77, 58, 49), 1) for person in range(1, people + 1)]
    for kind, trained, found in (("labeled", 7_368, 5_328), ("detected", 7_365, 5_332)):
        crops = {
            # of ten crops of a person those of a training share, and of the others one of each camera to ask with
            "train": [(s.pid, s.number + 1) for s in images(trained, range(767), 2)],
            "query": [(pid, number) for pid in range(767, 1_467) for number in (1, 6)],
            "gallery": [
                (s.pid, (2, 3, 4, 5, 7, 8, 9, 10)[(s.number + s.pid) % 8]) for s in images(found, range(767, 1_467), 2)
            ],
        }
        everything = sorted(crop for split in crops.values() for crop in split)
        row = {crop: n for n, crop in enumerate(everything, 1)}
        names = np.empty((len(everything), 1), object)
        cameras = [1 if number <= 5 else 2 for _, number in everything]
        names[:, 0] = [
            f"{pairs[pid][0]}_{pairs[pid][1]:03d}_{camera}_{number:02d}.png"
            for (pid, number), camera in zip(everything, cameras, strict=True)
        ]
        path = folder / "cuhk03_np" / f"cuhk03_new_protocol_config_{kind}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(
            path,
            {
                "filelist": names,
                "labels": np.array([pid + 1 for pid, _ in everything])[:, None],
                "camId": np.array(cameras)[:, None],
                **{f"{split}_idx": np.array([row[crop] for crop in part])[:, None] for split, part in crops.items()},
            },
        )
