"""Alignment of parts with body parts against scikit-learn and loops; assignment statistics by hand."""

import copy
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from aaformer_lit.metrics import (
    AlignmentMeter,
    assignment_statistics,
    empty_share,
    largest_share,
    nmi,
    patch_labels,
    purity,
    subset_entropy,
)
from aaformer_lit.structures import NO_PART

PARTS, LABELS, LAYERS, HEADS, PATCHES = (2, 3), 4, 2, 3, 20


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), parts=st.integers(1, 4), labels=st.integers(1, 5), patches=st.integers(1, 60))
def test_nmi_and_purity_of_random_labelings(seed, parts, labels, patches):
    rng = np.random.default_rng(seed)
    part, label = rng.integers(0, parts, patches), rng.integers(0, labels, patches)
    table = torch.zeros(parts, labels, dtype=torch.int64)
    for p, c in zip(part, label, strict=True):
        table[p, c] += 1
    assert nmi(table).item() == pytest.approx(normalized_mutual_info_score(label, part), abs=1e-9)
    best = sum(max((label[part == p] == c).sum() for c in range(labels)) for p in range(parts))
    assert purity(table).item() == pytest.approx(best / patches)


def test_nmi_of_extremes():
    one_to_one, independent, nothing = torch.eye(3) * 7, torch.ones(3, 4), torch.zeros(2, 2)
    assert nmi(one_to_one).item() == pytest.approx(1)
    assert nmi(independent).item() == pytest.approx(0, abs=1e-12)
    assert nmi(nothing).item() == purity(nothing).item() == 0
    assert purity(independent).item() == pytest.approx(1 / 4)
    assert nmi(torch.stack([one_to_one, one_to_one.flip(0)])).tolist() == pytest.approx([1, 1])


def batch(seed, images=5):
    rng = np.random.default_rng(seed)
    choices = {p: rng.integers(0, p, (LAYERS, images, HEADS, PATCHES)) for p in PARTS}
    onehot = [torch.from_numpy(np.stack([choices[p] == i for i in range(p)], axis=3)) for p in PARTS]
    assignments = list(torch.cat(onehot, dim=3))
    labels = torch.from_numpy(rng.choice([0, 1, 2, 3, NO_PART], (images, PATCHES)).astype(np.uint8))
    attention = [torch.from_numpy(rng.random((images, HEADS, sum(PARTS), PATCHES))).float() for _ in range(LAYERS)]
    return assignments, labels, attention, choices


def test_the_meter_pools_images_per_layer_head_and_granularity():
    meter = AlignmentMeter(PARTS, LABELS, LAYERS, HEADS)
    batches = [batch(seed) for seed in range(3)]
    for assignments, labels, attention, _ in batches:
        meter.update(assignments, labels, attention)
    labels = torch.cat([b[1] for b in batches]).numpy()
    shown = labels != NO_PART
    first = 0
    for parts, got in zip(PARTS, meter.compute(), strict=True):
        last = defaultdict(list)  # of the last layer, by the loops below
        choice = np.concatenate([b[3][parts] for b in batches], axis=1)
        for layer in range(LAYERS):
            weights = torch.cat([b[2][layer] for b in batches]).numpy()
            for head in range(HEADS):
                chosen = choice[layer, :, head]
                expected = normalized_mutual_info_score(labels[shown], chosen[shown])
                assert got.nmi[layer, head].item() == pytest.approx(expected, abs=1e-9)
                shares = np.array([(chosen == p).mean() for p in range(parts)])
                np.testing.assert_allclose(got.subset_share[layer, head], shares)
                entropy = -(shares * np.log(shares)).sum() / np.log(parts)
                assert got.subset_entropy[layer, head].item() == pytest.approx(entropy)
                best = sum(np.bincount(labels[shown & (chosen == p)]).max() for p in range(parts))
                assert got.purity[layer, head].item() == pytest.approx(best / shown.sum())
                if layer == LAYERS - 1:
                    for name, value in (("nmi", expected), ("purity", best / shown.sum()), ("subset_entropy", entropy)):
                        last[name].append(value)
                for p in range(parts):
                    assert got.background[layer, head, p].item() == pytest.approx((~shown)[chosen == p].mean())
                    mass = weights[:, head, first + p]
                    fraction = mass[~shown].sum() / mass.sum()
                    assert got.background_attention[layer, head, p].item() == pytest.approx(fraction, rel=1e-6)
                    if layer == LAYERS - 1:
                        last["background_patches"].append((~shown)[chosen == p].mean())
                        last["background_share"].append(fraction)
        means = {name: np.mean(values) for name, values in last.items()}
        assert got.last_layer() == pytest.approx(means | {"nmi_best_head": max(last["nmi"])}, rel=1e-6)
        first += parts


def test_a_part_that_changes_its_meaning_between_images_scores_nothing():
    label = torch.arange(2).repeat_interleave(10)[None]
    same = torch.stack([label == 0, label == 1], dim=1)[:, None]
    steady, swapped = AlignmentMeter([2], 2, 1, 1), AlignmentMeter([2], 2, 1, 1)
    for meter, second in ((steady, same), (swapped, same.flip(2))):
        meter.update([same], label)
        meter.update([second], label)
    assert steady.compute()[0].last_layer()["nmi"] == pytest.approx(1)
    assert swapped.compute()[0].last_layer()["nmi"] == pytest.approx(0, abs=1e-12)
    assert steady.compute()[0].background_attention is None
    assert "background_share" not in steady.compute()[0].last_layer()


def test_masks_of_one_class_are_compared_with_the_background():
    meter = AlignmentMeter([2], 1, layers=1, heads=1)
    first_half = torch.arange(8) < 4
    assignment = torch.stack([first_half, ~first_half]).expand(1, 1, 2, 8)
    labels = torch.full((1, 8), NO_PART, dtype=torch.uint8)
    labels[0, [0, 1, 2, 6]] = 0  # three patches of the person in the first part, one in the second
    meter.update([assignment], labels)
    (found,) = meter.compute()
    part, label = [0] * 4 + [1] * 4, [1, 1, 1, 0, 0, 0, 1, 0]
    assert found.nmi.item() == pytest.approx(normalized_mutual_info_score(label, part))
    assert found.purity.item() == pytest.approx(6 / 8)
    assert found.background[0, 0].tolist() == pytest.approx([1 / 4, 3 / 4])
    assert found.counts[0, 0].tolist() == [[3, 1], [1, 3]]


def test_two_processes_add_their_tables():
    halves = [AlignmentMeter(PARTS, LABELS, LAYERS, HEADS) for _ in range(2)]
    whole = AlignmentMeter(PARTS, LABELS, LAYERS, HEADS)
    for seed, half in enumerate(halves):
        half.update(*batch(seed)[:3])
        whole.update(*batch(seed)[:3])
    other = [halves[1].table, halves[1].attention]

    def fake_gather(tensor, group=None):
        return [tensor, next(t for t in other if t.shape == tensor.shape)]

    synced = copy.deepcopy(halves[0])
    synced.dist_sync_fn, synced.distributed_available_fn = fake_gather, lambda: True
    for got, want in zip(synced.compute(), whole.compute(), strict=True):
        assert got.last_layer() == pytest.approx(want.last_layer())


def test_wrong_shapes_and_labels_are_refused():
    meter = AlignmentMeter(PARTS, LABELS, LAYERS, HEADS)
    assignments, labels, _, _ = batch(0)
    with pytest.raises(ValueError, match="2 layers with 3 heads and 5 parts"):
        meter.update(assignments[:1], labels)
    with pytest.raises(ValueError, match="label 4 found, but num_labels=4"):
        meter.update(assignments, torch.full_like(labels, 4))


@pytest.mark.parametrize(("size", "grid"), [((16, 8), (4, 2)), ((16, 8), (16, 8)), ((7, 5), (3, 2))])
def test_patch_labels_take_the_majority(size, grid):
    rng = np.random.default_rng(0)
    mask = rng.choice([0, 2, 3, NO_PART], (3, *size)).astype(np.uint8)
    got = patch_labels(torch.from_numpy(mask), grid)
    assert got.dtype == torch.uint8
    rows, cols = grid
    for b, r, c in np.ndindex(3, rows, cols):
        top, bottom = r * size[0] // rows, -(-(r + 1) * size[0] // rows)
        left, right = c * size[1] // cols, -(-(c + 1) * size[1] // cols)
        counts = np.bincount(mask[b, top:bottom, left:right].ravel(), minlength=256)
        assert got[b, r * cols + c] == counts.argmax()


def membership(*rows):
    return torch.tensor(rows, dtype=torch.bool)[None, None]


def test_assignment_statistics_by_hand():
    equal = membership([1, 1, 0, 0], [0, 0, 1, 1])
    collapsed = membership([1, 1, 1, 1], [0, 1, 0, 0])  # the second part was empty and was lent a patch
    single = membership([1, 1, 1, 0], [0, 0, 0, 1])
    assert [largest_share(m) for m in (equal, collapsed, single)] == [0.5, 1.0, 0.75]
    assert [empty_share(m) for m in (equal, collapsed, single)] == [0.0, 0.5, 0.0]
    assert empty_share(membership([1, 1], [0, 0])) == 0.5
    assert subset_entropy(equal) == pytest.approx(1)
    assert subset_entropy(membership([1, 1], [0, 0])) == 0
    assert subset_entropy(single) == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(2))
    assert subset_entropy(membership([1, 1, 1])) == 1
    both = assignment_statistics([torch.cat([equal, single], dim=2), torch.cat([collapsed, equal], dim=2)], [2, 2])
    assert both == {
        "largest_share": pytest.approx((0.5 + 0.75 + 1 + 0.5) / 4),
        "empty_share": pytest.approx(0.5 / 4),
        "entropy": pytest.approx(np.mean([subset_entropy(m) for m in (equal, single, collapsed, equal)])),
    }
    weights = [equal.float() + 1e-8, collapsed.float() * (1 - 1e-7)]  # straight-through weights
    assert assignment_statistics(weights, [2]) == assignment_statistics([equal, collapsed], [2])
