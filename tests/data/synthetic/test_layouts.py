"""Each layout is the real one: names by the benchmark's own rules, and its loader finds the people that were drawn."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import scipy.io

from aaformer_lit.data import DATASETS
from aaformer_lit.data.synthetic import LAYOUTS, SyntheticSpec, generate, render
from aaformer_lit.data.synthetic.canvas import Part
from aaformer_lit.data.synthetic.cuhk03_raw import people
from aaformer_lit.errors import ConfigError

SPEC = SyntheticSpec(
    num_train_ids=5, num_test_ids=3, num_cameras=2, images_per_camera=2, misalignment=0.5, siblings=2, seed=3
)
# layout -> (folder, pattern of every image path in it), from the data sets' own descriptions
SPLIT = r"(bounding_box_train|query|bounding_box_test)"
EXPECTED = {
    "market1501": ("Market-1501-v15.09.15", SPLIT + r"/\d{4}_c[1-6]s[1-6]_\d{6}_\d{2}\.jpg"),
    "dukemtmc": ("DukeMTMC-reID", SPLIT + r"/\d{4}_c[1-8]_f\d{7}\.jpg"),
    "occluded_duke": ("Occluded_Duke", SPLIT + r"/\d{4}_c[1-8]_f\d{7}\.jpg"),
    "p_dukemtmc": (
        "P-DukeMTMC-reid",
        r"(train|test)/(occluded|whole)_body_images/(\d{4})/\3_c[1-8]_f\d{7}\.jpg",
    ),
    "msmt17": ("MSMT17_V1", r"(train|test)/(\d{4})/\2_\d{3}_\d{2}_\d{4}(morning|noon|afternoon)_\d{4}_\d(_ex)?\.jpg"),
    "msmt17_v2": (
        "MSMT17_V2",
        r"mask_(train|test)_v2/(\d{4})/\2_\d{3}_\d{2}_\d{4}(morning|noon|afternoon)_\d{4}_\d(_ex)?\.jpg",
    ),
    "cuhk03_np": ("cuhk03-np", r"(labeled|detected)/" + SPLIT + r"/\d{4}_c[12]_\d+\.png"),
}
# layout -> data set and its options
LOADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "market1501": ("market1501", {}),
    "dukemtmc": ("dukemtmc", {}),
    "occluded_duke": ("occluded_duke", {}),
    "msmt17": ("msmt17", {}),
    "msmt17_v2": ("msmt17", {}),
    "cuhk03_np": ("cuhk03", {"protocol": "detected"}),
    "cuhk03": ("cuhk03", {"protocol": "detected"}),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a layout, drawn once for all tests."""
    folders: dict[str, Path] = {}

    def make(layout: str) -> Path:
        if layout not in folders:
            folders[layout] = generate(tmp_path_factory.mktemp(layout), SPEC, layout, progress=False)
        return folders[layout]

    return make


def images(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in (".jpg", ".png") and path.relative_to(folder).parts[0] != "masks"
    )


@pytest.mark.parametrize("layout", list(EXPECTED))
def test_folder_and_file_names_are_the_benchmarks(made: Callable[[str], Path], layout: str) -> None:
    name, pattern = EXPECTED[layout]
    folder = made(layout)
    assert folder.name == name
    paths = images(folder)
    assert len(paths) == (5 + 3) * 2 * 2 * (2 if layout == "cuhk03_np" else 1)
    assert [path for path in paths if not re.fullmatch(pattern, path)] == []


@pytest.mark.parametrize("layout", list(EXPECTED))
def test_every_image_has_its_mask_with_the_true_labels(made: Callable[[str], Path], layout: str) -> None:
    folder = made(layout)
    masks = sorted(path.relative_to(folder / "masks").as_posix() for path in (folder / "masks").rglob("*.png"))
    assert masks == [re.sub(r"\.jpg$", ".png", path) for path in images(folder)]
    for path, shot, how in LAYOUTS[layout].pictures(LAYOUTS[layout].adapt(SPEC)):
        image, labels = render(how, shot.pid, shot.camid, shot.index)
        mask = cv2.imread(str((folder / "masks" / path).with_suffix(".png")), cv2.IMREAD_UNCHANGED)
        assert (mask == labels).all()
        stored = cv2.imread(str(folder / path))[..., ::-1]
        # JPEG loses fine color detail; PNG nothing
        assert np.abs(stored.astype(int) - image).mean() < (6 if path.endswith("jpg") else 1e-9)


@pytest.mark.parametrize("layout", list(LOADERS))
def test_the_data_sets_loader_finds_the_people(made: Callable[[str], Path], layout: str) -> None:
    name, options = LOADERS[layout]
    dataset = DATASETS[name](made(layout).parent, **options)
    for records, ids, per_camera in ((dataset.train, 5, 2), (dataset.query, 3, 1), (dataset.gallery, 3, 1)):
        seen = Counter((record.pid, record.camid) for record in records)
        assert set(seen.values()) == {per_camera}
        assert len(seen) == ids * 2
        assert len({pid for pid, _ in seen}) == ids
        assert len({camid for _, camid in seen}) == 2
    gallery = {(record.pid, record.camid) for record in dataset.gallery}
    for query in dataset.query:
        assert any(pid == query.pid and camid != query.camid for pid, camid in gallery)


def test_msmt17s_lists_name_every_image_once_with_labels_from_0(made: Callable[[str], Path]) -> None:
    folder = made("msmt17")
    lists = {
        name: [line.split(" ") for line in (folder / f"list_{name}.txt").read_text().splitlines()]
        for name in ("train", "val", "query", "gallery")
    }
    for split, parts in (("train", ("train", "val")), ("test", ("query", "gallery"))):
        rows = [row for part in parts for row in lists[part]]
        assert sorted(f"{split}/{path}" for path, _ in rows) == [p for p in images(folder) if p.startswith(split)]
        assert all(int(path[:4]) == int(label) for path, label in rows)
        assert {int(label) for _, label in rows} == set(range(5 if split == "train" else 3))
    assert lists["val"]


def test_msmt17s_names_keep_their_form_with_more_than_a_thousand_pictures_of_a_person() -> None:
    spec = SyntheticSpec(num_train_ids=1, num_test_ids=1, num_cameras=15, images_per_camera=67)
    paths = [path for path, _, _ in LAYOUTS["msmt17"].pictures(spec)]
    assert len(set(paths)) == 2 * 15 * 67
    assert [path for path in paths if not re.fullmatch(EXPECTED["msmt17"][1], path)] == []


def test_all_queries_of_occluded_duke_are_occluded(tmp_path: Path) -> None:
    spec = replace(SPEC, occlusion=0.0, num_test_ids=4)
    for path, shot, how in LAYOUTS["occluded_duke"].pictures(spec):
        assert (how.occlusion == 1.0) == path.startswith("query/")
        if shot.split == "query":
            hidden, free = (render(s, shot.pid, shot.camid, shot.index)[1] for s in (how, spec))
            assert (hidden != Part.BACKGROUND).sum() < (free != Part.BACKGROUND).sum()


def test_labeled_boxes_are_aligned_and_detected_ones_are_not() -> None:
    layout = LAYOUTS["cuhk03_np"]
    assert {(path.split("/")[0], how.misalignment) for path, _, how in layout.pictures(layout.adapt(SPEC))} == {
        ("labeled", 0.0),
        ("detected", 0.5),
    }


def test_cuhk03s_mat_files_have_the_real_structure(made: Callable[[str], Path]) -> None:
    folder = made("cuhk03")
    protocol = scipy.io.loadmat(folder / "cuhk03_new_protocol_config_detected.mat")
    assert {key: protocol[key].dtype.str for key in protocol if not key.startswith("__")} == {
        "filelist": "|O",
        "labels": "<u2",
        "camId": "|u1",
        "train_idx": "<u2",
        "query_idx": "<u2",
        "gallery_idx": "<u2",
    }
    names = [str(name.item()) for name in protocol["filelist"][:, 0]]
    assert names == sorted(names)
    assert all(re.fullmatch(r"[1-5]_\d{3}_[12]_(0[1-9]|10)\.png", name) for name in names)
    rows = [row for split in ("train", "query", "gallery") for row in protocol[f"{split}_idx"].ravel().tolist()]
    assert sorted(rows) == list(range(1, len(names) + 1))

    pid_of = {person.label: person.pid for person in people(LAYOUTS["cuhk03"].adapt(SPEC))}
    with h5py.File(folder / "cuhk-03.mat") as mat:
        assert mat["labeled"].shape == mat["detected"].shape == (1, 5)
        assert mat["testsets"].shape == (1, 20)
        for boxes, how in (("labeled", replace(SPEC, misalignment=0.0)), ("detected", SPEC)):
            for name, label, camera in zip(names, protocol["labels"][:, 0], protocol["camId"][:, 0], strict=True):
                pair, person, view, number = map(int, name[:-4].split("_"))
                assert view == camera == (1 if number <= 5 else 2)
                cell = mat[mat[boxes][0, pair - 1]]
                assert cell.shape[0] == 10
                pixels = mat[cell[number - 1, person - 1]][()].T
                assert (pixels == render(how, pid_of[int(label)], int(camera), (number - 1) % 5)[0]).all()
                blank = mat[cell[2, person - 1]]
                assert blank.ndim != 3
                assert blank.attrs["MATLAB_empty"] == 1
    assert (folder / "cuhk-03.mat").read_bytes()[:15] == b"MATLAB 7.3 MAT-"


@pytest.mark.parametrize(
    ("layout", "spec", "says"),
    [
        ("market1501", replace(SPEC, num_cameras=7), "at most 6 cameras; got num_cameras=7"),
        ("dukemtmc", replace(SPEC, num_train_ids=9_999), "numbers people up to 9999"),
        ("cuhk03", replace(SPEC, images_per_camera=6), "at most 5 images of a person and camera"),
    ],
)
def test_what_a_layout_cannot_hold_is_refused(tmp_path: Path, layout: str, spec: SyntheticSpec, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        generate(tmp_path, spec, layout, progress=False)
    assert list(tmp_path.iterdir()) == []
