import itertools

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from aaformer_lit.errors import ConfigError
from aaformer_lit.viz import embedding_map, project
from aaformer_lit.viz.palette import UNKNOWN


def test_tsne_keeps_two_clusters_apart_and_is_repeatable() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(24, 8, generator=generator) * 0.1
    features[12:] += 5
    points = project(features, seed=3)
    assert points.shape == (24, 2)
    centers = points[:12].mean(0), points[12:].mean(0)
    spread = max(
        np.linalg.norm(points[:12] - centers[0], axis=1).max(), np.linalg.norm(points[12:] - centers[1], axis=1).max()
    )
    assert np.linalg.norm(centers[0] - centers[1]) > spread
    assert np.array_equal(points, project(features, seed=3))


def test_too_few_images() -> None:
    with pytest.raises(ConfigError, match="at least 4 images; got 3"):
        project(np.zeros((3, 3)))


def test_descriptors_that_are_all_equal_are_an_error_and_not_the_end_of_the_process() -> None:
    with pytest.raises(ConfigError, match="the 8 descriptors are all equal"):
        project(np.ones((8, 4)))


def test_people_are_points_of_one_color_and_the_rest_gray() -> None:
    pids = torch.tensor([7, 7, 7, 3, 3, 9, 5, 5])
    points = np.arange(16, dtype=np.float32).reshape(8, 2)
    figure = embedding_map(points, pids, max_ids=2)
    rest, three, seven = figure.axes[0].collections  # 7 has most images; of 3 and 5 the lower pid is shown
    assert np.array_equal(np.asarray(three.get_offsets()), points[3:5])
    assert np.array_equal(np.asarray(seven.get_offsets()), points[:3])
    assert np.array_equal(np.asarray(rest.get_offsets()), points[5:])
    assert to_rgb(rest.get_facecolor()[0]) == to_rgb(UNKNOWN)
    assert to_rgb(three.get_facecolor()[0]) != to_rgb(seven.get_facecolor()[0])
    assert {text.get_text(): tuple(text.xy) for text in figure.axes[0].texts} == {"3": (7, 8), "7": (2, 3)}
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "2 other people"


def test_the_pids_of_look_alikes_do_not_overlap() -> None:
    places = np.random.default_rng(0).normal(size=(20, 2)) * 0.05
    figure = embedding_map(np.concatenate([places, [[-1, -1], [1, 1]]]), np.arange(100, 122), max_ids=22)
    figure.canvas.draw()
    labels = figure.axes[0].texts
    assert [text.get_text() for text in labels] == [str(pid) for pid in range(100, 122)]
    boxes = [text.get_bbox_patch().get_window_extent() for text in labels]
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_sixty_people_have_looks_of_their_own() -> None:
    figure = embedding_map(np.random.default_rng(0).normal(size=(60, 2)), np.arange(60), max_ids=60)
    looks = {(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in figure.axes[0].collections}
    assert len(looks) == 60
    with pytest.raises(ValueError, match="61 people cannot be told apart"):
        embedding_map(np.zeros((1, 2)), np.zeros(1), max_ids=61)
