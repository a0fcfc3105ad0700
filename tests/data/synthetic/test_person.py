"""Drawing: labels say what was drawn, and the viewpoint decides what can be seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aaformer_lit.data.synthetic import SyntheticSpec
from aaformer_lit.data.synthetic.attributes import Identity, identity
from aaformer_lit.data.synthetic.canvas import Canvas, Part, over
from aaformer_lit.data.synthetic.person import MATERIALS, draw_person
from aaformer_lit.data.synthetic.pose import FOOT, LEFT, RIGHT, VIEWPOINTS, Pose, skeleton

HEIGHT, WIDTH = 128, 64
PLAIN = replace(
    identity(SyntheticSpec(), 1),
    hair_style="short",
    upper="shirt",
    pattern="plain",
    lower="trousers",
    carried="none",
    carried_side=1,
    carried_color=(0, 255, 0),
    upper_color=(200, 0, 0),
    skin=(230, 190, 170),
    hair_color=(30, 20, 20),
)


def pose_of(view: str, seed: int = 0) -> Pose:
    return replace(Pose.draw(np.random.default_rng(seed)), yaw=VIEWPOINTS[view], head_turn=0.0, raised=0)


def drawn(who: Identity, pose: Pose, **how: object) -> Canvas:
    canvas = Canvas(HEIGHT, WIDTH)
    draw_person(canvas, who, pose, 115.0, (32.0, 122.0), **how)  # type: ignore[arg-type]
    return canvas


def labels_of(canvas: Canvas) -> np.ndarray:
    return canvas.part_labels(canvas.rgba()[..., 3])


def pixels(who: Identity, view: str, part: Part, seeds: int = 8) -> float:
    """Mean number of pixels of a part over some poses."""
    return float(np.mean([(labels_of(drawn(who, pose_of(view, seed))) == part).sum() for seed in range(seeds)]))


@settings(max_examples=40, deadline=None)
@given(pid=st.integers(1, 5000), seed=st.integers(0, 10_000), size=st.floats(30, 220), x=st.floats(-40, 100))
def test_a_pixel_has_a_part_exactly_where_most_of_it_is_drawn_on(pid: int, seed: int, size: float, x: float) -> None:
    canvas = Canvas(HEIGHT, WIDTH)
    draw_person(canvas, identity(SyntheticSpec(), pid), Pose.draw(np.random.default_rng(seed)), size, (x, 120.0))
    coverage = canvas.rgba()[..., 3]
    labels = canvas.part_labels(coverage)
    assert ((labels > 0) == (coverage >= 128)).all()
    assert labels.max() <= max(Part)


def test_another_background_changes_person_pixels_by_less_than_half() -> None:
    for seed in range(6):
        canvas = drawn(identity(SyntheticSpec(), seed + 1), Pose.draw(np.random.default_rng(seed)))
        rgba = canvas.rgba()
        labels = canvas.part_labels(rgba[..., 3])
        white, black = (over(rgba, np.full((HEIGHT, WIDTH, 3), value, np.float32)) for value in (255, 0))
        change = (white - black).mean(-1)
        assert change[labels > 0].max() <= 127.5
        assert (change[labels > 0] == 0).mean() > 0.75
        assert change[labels == 0].min() > 127.5 - 1


@pytest.mark.parametrize(
    ("attribute", "parts"),
    [
        ("lower_color", {Part.LEGS}),
        ("shoes_color", {Part.SHOES}),
        ("upper_color", {Part.TORSO, Part.ARMS}),
        ("carried_color", {Part.CARRIED}),
        ("hair_color", {Part.HAIR}),
        ("skin", {Part.HEAD, Part.ARMS}),
    ],
)
def test_labels_agree_with_the_colors_drawn(attribute: str, parts: set[Part]) -> None:
    """One attribute is pure blue and nothing else has any: pixels that are blue all over have its parts, and only they."""
    colors = ("skin", "hair_color", "upper_color", "lower_color", "shoes_color", "carried_color")
    who = replace(PLAIN, carried="handbag", **dict.fromkeys(colors, (160, 120, 0)))
    who = replace(who, **{attribute: (0, 0, 200)})
    found = set()
    for seed, view in enumerate(VIEWPOINTS):
        canvas = drawn(who, pose_of(view, seed))
        rgba, labels = canvas.rgba(), labels_of(canvas)
        only = (rgba[..., 3] == 255) & (rgba[..., :2] == 0).all(-1)
        assert set(labels[only].tolist()) <= parts
        found |= set(labels[only].tolist())
        if len(parts) == 1:
            assert (rgba[..., 2][np.isin(labels, list(parts))] > 0).all()
    assert found == parts


@pytest.mark.parametrize("view", list(VIEWPOINTS))
def test_every_viewpoint_shows_all_parts_from_head_to_shoe_in_this_order(view: str) -> None:
    labels = labels_of(drawn(PLAIN, pose_of(view)))
    height = {part: np.nonzero(labels == part)[0].mean() for part in Part if (labels == part).any()}
    assert set(height) == set(Part) - {Part.CARRIED}
    assert height[Part.HAIR] < height[Part.HEAD] < height[Part.TORSO] < height[Part.LEGS] < height[Part.SHOES]


def test_a_backpack_shows_from_behind() -> None:
    who = replace(PLAIN, carried="backpack")
    front, back, side = (pixels(who, view, Part.CARRIED) for view in ("front", "back", "left"))
    assert back > 2 * front
    assert back > side > front > 0  # the straps


def test_a_bag_shows_on_its_own_side() -> None:
    for carried in ("handbag", "shoulder bag"):
        left = pixels(replace(PLAIN, carried=carried, carried_side=1), "left", Part.CARRIED)
        right = pixels(replace(PLAIN, carried=carried, carried_side=1), "right", Part.CARRIED)
        # a person seen from their left side turns that bag to the camera
        assert left > right
        mirrored = pixels(replace(PLAIN, carried=carried, carried_side=-1), "right", Part.CARRIED)
        assert mirrored > right


def test_the_face_shows_from_the_front_only() -> None:
    assert pixels(PLAIN, "front", Part.HEAD) > 1.5 * pixels(PLAIN, "back", Part.HEAD)
    assert pixels(PLAIN, "back", Part.HAIR) > 1.5 * pixels(PLAIN, "front", Part.HAIR)
    assert pixels(replace(PLAIN, hair_style="bald"), "back", Part.HAIR) == 0


def test_a_print_shows_from_the_front_only() -> None:
    plain, printed = (
        replace(PLAIN, pattern_color=(0, 0, 255)),
        replace(PLAIN, pattern_color=(0, 0, 255), pattern="print"),
    )
    for view, differs in (("front", True), ("back", False)):
        pose = pose_of(view)
        assert (drawn(plain, pose).rgba() != drawn(printed, pose).rgba()).any() == differs
        assert (labels_of(drawn(plain, pose)) == labels_of(drawn(printed, pose))).all()


@pytest.mark.parametrize("pattern", ["stripes", "checks", "yoke"])
def test_woven_patterns_show_from_all_sides_and_leave_the_labels(pattern: str) -> None:
    for view in VIEWPOINTS:
        plain, woven = (
            drawn(replace(PLAIN, pattern=p, pattern_color=(0, 0, 255)), pose_of(view)) for p in ("plain", pattern)
        )
        changed = (plain.rgba() != woven.rgba()).any(-1)
        assert set(labels_of(plain)[changed].tolist()) - {Part.BACKGROUND, Part.HEAD} <= {
            Part.TORSO,
            Part.ARMS,
            Part.LEGS,
        }
        cloth = np.isin(labels_of(plain), (Part.TORSO, Part.ARMS))
        assert 0.12 < changed[cloth].mean() < 0.95
        assert (labels_of(plain) == labels_of(woven)).all()


def test_build_makes_people_wider() -> None:
    slim, broad = (labels_of(drawn(replace(PLAIN, build=build), pose_of("front"))) for build in ("slim", "broad"))
    assert (broad > 0).sum() > 1.12 * (slim > 0).sum()


def test_a_passer_by_is_background() -> None:
    canvas = drawn(replace(PLAIN, carried="suitcase"), pose_of("front"), as_background=True)
    assert (canvas.rgba()[..., 3] > 0).any()
    assert not labels_of(canvas).any()


def test_one_person_registers_no_more_materials_than_said() -> None:
    used = []
    for pid in range(1, 200):
        canvas = Canvas(32, 16)
        room = canvas.room
        draw_person(canvas, identity(SyntheticSpec(), pid), pose_of("front"), 30.0, (8.0, 30.0))
        used.append(room - canvas.room)
    assert max(used) == MATERIALS


def test_a_full_canvas_says_so() -> None:
    canvas = Canvas(32, 16)
    for _ in range(canvas.room):
        canvas.material((1, 2, 3), Part.HEAD)
    with pytest.raises(ValueError, match="63 materials"):
        canvas.material((1, 2, 3), Part.HEAD)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_skeletons_keep_their_bones_and_stand_on_the_ground(seed: int) -> None:
    bones = skeleton(Pose.draw(np.random.default_rng(seed)))
    for side in (LEFT, RIGHT):
        thigh = np.subtract(bones.hip[side][1:], bones.knee[side][1:])
        assert np.linalg.norm(thigh) == pytest.approx(0.24, abs=1e-9)
        assert np.linalg.norm(np.subtract(bones.elbow[side], bones.hand[side])) == pytest.approx(0.14, abs=1e-9)
    assert min(ankle[1] for ankle in bones.ankle.values()) == pytest.approx(FOOT)
