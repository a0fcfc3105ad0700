"""Pictures are pure functions of (spec, pid, camid, shot), and as often occluded and misaligned as the spec says."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from aaformer_lit.data.synthetic import SyntheticSpec, contact_sheet, render
from aaformer_lit.data.synthetic.canvas import PART_COLORS, Part
from aaformer_lit.data.synthetic.occluders import OCCLUDERS
from aaformer_lit.data.synthetic.render import circumstances, compose
from aaformer_lit.data.synthetic.scene import street
from aaformer_lit.errors import ConfigError

SPEC = SyntheticSpec(num_train_ids=4, num_test_ids=2, num_cameras=2, images_per_camera=2)
DIGEST = """
import hashlib
from aaformer_lit.data.synthetic import SyntheticSpec, render
spec = SyntheticSpec(num_train_ids=4, num_test_ids=2, num_cameras=2, images_per_camera=2)
whole = hashlib.sha256()
for s in spec.shots():
    for array in render(spec, s.pid, s.camid, s.index):
        whole.update(array.tobytes())
print(whole.hexdigest())
"""


def test_same_seed_same_bytes_in_any_order_and_process() -> None:
    shots = list(SPEC.shots())
    shuffled = random.Random(3).sample(shots, len(shots))
    drawn = {s: render(SPEC, s.pid, s.camid, s.index) for s in shuffled}
    whole = hashlib.sha256()
    for shot in shots:
        for array in drawn[shot]:
            whole.update(array.tobytes())
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    other = subprocess.run(
        [sys.executable, "-c", DIGEST], capture_output=True, text=True, env=environment, check=True
    ).stdout
    assert whole.hexdigest() == other.strip()


def test_every_argument_matters() -> None:
    first = render(SPEC, 1, 1, 0)[0]
    others = [
        render(SPEC, 2, 1, 0),
        render(SPEC, 1, 2, 0),
        render(SPEC, 1, 1, 1),
        render(replace(SPEC, seed=1), 1, 1, 0),
    ]
    assert all((first != other).any() for other, _ in others)


@pytest.mark.parametrize(("height", "width"), [(128, 64), (256, 128), (96, 48), (160, 64)])
def test_pictures_have_the_size_asked_for(height: int, width: int) -> None:
    image, labels = render(replace(SPEC, height=height, width=width), 1, 1, 0)
    assert (image.shape, image.dtype, labels.shape, labels.dtype) == (
        (height, width, 3),
        np.uint8,
        (height, width),
        np.uint8,
    )


def test_a_larger_picture_shows_the_same() -> None:
    spec = replace(SPEC, difficulty=0.0, occlusion=0.0)
    small, large = render(spec, 1, 1, 0)[1], render(replace(spec, height=256, width=128), 1, 1, 0)[1]
    assert (small == large[1::2, 1::2]).mean() > 0.96


def test_behind_the_person_there_is_the_background_and_nothing_else() -> None:
    spec = replace(SPEC, occlusion=0.0)
    for shot in range(8):
        pictures = []
        for gray in (0.0, 250.0):
            how = circumstances(spec, 1, 1, shot)
            scene, labels = compose(spec, 1, how, np.full((128, 64, 3), gray, np.float32))
            pictures.append(scene)
        change = np.abs(pictures[1] - pictures[0]).mean(-1)
        assert change[labels == Part.BACKGROUND].min() > 0
        person = change[labels != Part.BACKGROUND]
        # only edges, of which the background shines through
        assert (person == 0).mean() > 0.7
        assert person.max() < 0.75 * change.max()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_occluders_and_bad_crops_come_as_often_as_asked(share: float) -> None:
    spec = replace(SPEC, occlusion=share, misalignment=share)
    draws = [circumstances(spec, pid, 1, shot) for pid in range(1, 51) for shot in range(10)]
    tolerance = 4 * (share * (1 - share) / len(draws)) ** 0.5
    assert np.mean([how.occluder is not None for how in draws]) == pytest.approx(share, abs=tolerance)
    assert np.mean([how.misaligned for how in draws]) == pytest.approx(share, abs=tolerance)
    if share:
        assert {how.occluder for how in draws} - {None} == set(OCCLUDERS)


def test_an_occluder_hides_part_of_the_same_picture() -> None:
    free, hidden = replace(SPEC, occlusion=0.0, misalignment=0.0), replace(SPEC, occlusion=1.0, misalignment=0.0)
    shares: dict[str, list[float]] = {kind: [] for kind in OCCLUDERS}
    for shot in range(60):
        kind = circumstances(hidden, 1, 1, shot).occluder
        assert kind is not None
        whole, visible = render(free, 1, 1, shot)[1], render(hidden, 1, 1, shot)[1]
        seen = visible != Part.BACKGROUND
        # along an occluder's edge a pixel may go either way; elsewhere what is seen is as it was
        assert (visible[seen] == whole[seen]).mean() > 0.97
        shares[kind].append(1 - seen.sum() / (whole != Part.BACKGROUND).sum())
    for kind, hidden_shares in shares.items():
        assert 0.08 < np.mean(hidden_shares) < 0.75, kind


def test_a_misaligned_crop_moves_the_same_person() -> None:
    good, bad = replace(SPEC, occlusion=0.0, misalignment=0.0), replace(SPEC, occlusion=0.0, misalignment=1.0)
    sizes: dict[bool, list[int]] = {False: [], True: []}
    for shot in range(60):
        assert circumstances(good, 1, 1, shot).pose == circumstances(bad, 1, 1, shot).pose
        for spec in (good, bad):
            sizes[spec is bad].append(int((render(spec, 1, 1, shot)[1] != Part.BACKGROUND).sum()))
    assert np.std(sizes[True]) > 1.5 * np.std(sizes[False])


def test_a_well_aligned_crop_holds_the_whole_person() -> None:
    spec = replace(SPEC, occlusion=0.0, misalignment=0.0)
    for shot in range(40):
        labels = render(spec, 3, 1, shot)[1]
        rows = np.nonzero(labels.any(1))[0]
        assert rows[0] > 0
        assert rows[-1] < 127
        assert rows[-1] - rows[0] > 0.8 * 128


def test_a_narrower_box_shows_the_middle_wider() -> None:
    wide = replace(SPEC, occlusion=0.0, misalignment=0.0)
    narrow = replace(wide, box_width=0.75)
    shares = []
    for shot in range(20):
        one, other = render(wide, 1, 1, shot)[1] > 0, render(narrow, 1, 1, shot)[1] > 0
        assert (np.nonzero(one.any(1))[0][[0, -1]] == np.nonzero(other.any(1))[0][[0, -1]]).all()  # no taller
        shares.append((one.mean(), other.mean()))
    before, after = np.mean(shares, axis=0)
    assert 1.2 < after / before < 1.36  # 1 / 0.75, less what arms reach out of the box
    with pytest.raises(ConfigError, match=r"from 0\.5 to 1; got 1\.2"):
        SyntheticSpec(box_width=1.2)


def test_a_camera_looks_at_its_own_street() -> None:
    one, again, other = street(SPEC, 1), street(replace(SPEC, num_train_ids=9), 1), street(SPEC, 2)
    assert (one == again).all()
    assert np.abs(one - other).mean() > 10


def test_contact_sheet_has_a_row_for_each_person() -> None:
    sheet = contact_sheet(SPEC, [1, 2], columns=3, masks=True)
    assert sheet.shape == (4 * 128, 3 * 64, 3)
    image, labels = render(SPEC, 2, 1, 1)  # the third column: both cameras' first shots come before
    assert (sheet[256:384, 128:] == image).all()
    assert (sheet[384:, 128:] == PART_COLORS[labels]).all()
