"""Losses against small cases worked by hand and slow loops (Eq. 6-8)."""

import math

import pytest
import torch
from torch.nn import functional as F

from aaformer_lit.errors import ConfigError
from aaformer_lit.losses import ReIDLoss, TripletLoss, batch_hard, pairwise_distances
from aaformer_lit.structures import ReIDOutput


def output(batch: int = 6, parts: int = 2, dim: int = 4, ids: int = 3, seed: int = 0) -> ReIDOutput:
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, 1 + parts, dim, generator=g, requires_grad=True)
    logits = torch.randn(batch, 1 + parts, ids, generator=g)
    return ReIDOutput(tokens[:, 0], tokens[:, 1:], tokens, logits)


PIDS = torch.tensor([0, 0, 1, 1, 2, 2])


def test_distances_on_a_triangle():
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    expected = torch.tensor([[0.0, 5.0, 1.0], [5.0, 0.0, math.sqrt(18)], [1.0, math.sqrt(18), 0.0]])
    torch.testing.assert_close(pairwise_distances(points, points), expected, atol=1e-5, rtol=1e-5)


def test_batch_hard_by_hand():
    # on a line: id 0 at 0 and 2, id 1 at 3 and 10
    points = torch.tensor([[0.0], [2.0], [3.0], [10.0]])
    pids = torch.tensor([0, 0, 1, 1])
    positive, negative = batch_hard(pairwise_distances(points, points), pids, pids)
    torch.testing.assert_close(positive, torch.tensor([2.0, 2.0, 7.0, 7.0]))
    torch.testing.assert_close(negative, torch.tensor([3.0, 1.0, 1.0, 8.0]))
    hinge = [max(p - n + 0.3, 0.0) for p, n in ((2, 3), (2, 1), (7, 1), (7, 8))]
    assert TripletLoss(0.3)(points, pids).item() == pytest.approx(sum(hinge) / 4, rel=1e-5)
    soft = [math.log1p(math.exp(p - n)) for p, n in ((2, 3), (2, 1), (7, 1), (7, 8))]
    assert TripletLoss(None)(points, pids).item() == pytest.approx(sum(soft) / 4, rel=1e-5)


def test_triplets_are_mined_apart_for_global_and_parts():
    out = output()
    terms = ReIDLoss(margin=0.3)(out, PIDS)
    for name, features in (("triplet_global", out.global_feat), ("triplet_parts", out.part_feats.flatten(1))):
        total = 0.0
        for i in range(6):
            distances = [(features[i] - features[j]).norm().item() for j in range(6)]
            hardest_positive = max(d for j, d in enumerate(distances) if PIDS[j] == PIDS[i])
            hardest_negative = min(d for j, d in enumerate(distances) if PIDS[j] != PIDS[i])
            total += max(hardest_positive - hardest_negative + 0.3, 0.0)
        assert terms[name].item() == pytest.approx(total / 6, rel=1e-4)


def test_eq_6_to_8():
    out = output(ids=5)
    terms = ReIDLoss(label_smoothing=0.1)(out, PIDS)
    log_probabilities = F.log_softmax(out.logits, dim=-1)
    per_token = []
    for token in range(3):
        value = 0.0
        for i in range(6):
            target = torch.full((5,), 0.1 / 5)
            target[PIDS[i]] += 0.9
            value -= (target * log_probabilities[i, token]).sum().item()
        per_token.append(value / 6)
    assert terms["id"].item() == pytest.approx(sum(per_token) / 3, rel=1e-5)
    assert terms["triplet"].item() == pytest.approx(
        (terms["triplet_global"] + terms["triplet_parts"]).item() / 2, rel=1e-5
    )
    assert terms["loss"].item() == pytest.approx((terms["id"] + terms["triplet"]).item(), rel=1e-6)


def test_without_parts_cls_has_all_the_weight():
    terms = ReIDLoss(global_weight=0.2)(output(parts=0), PIDS)
    torch.testing.assert_close(terms["id"], terms["id_global"])
    torch.testing.assert_close(terms["triplet"], terms["triplet_global"])
    assert not any("parts" in name for name in terms)


def test_transreid_weights_are_half_and_half():
    terms = ReIDLoss(global_weight=0.5)(output(), PIDS)
    torch.testing.assert_close(terms["id"], 0.5 * (terms["id_global"] + terms["id_parts"]))


def test_gathered_candidates_give_the_loss_of_the_whole_batch():
    out = output()
    whole = TripletLoss()(out.global_feat, PIDS)
    halves = [
        TripletLoss()(out.global_feat[rows], PIDS[rows], out.global_feat, PIDS) for rows in (slice(0, 3), slice(3, 6))
    ]
    torch.testing.assert_close(whole, sum(halves) / 2)


def test_equal_features_have_finite_gradients():
    features = torch.ones(4, 3, requires_grad=True)
    TripletLoss()(features, torch.tensor([0, 0, 1, 1])).backward()
    assert torch.isfinite(features.grad).all()


def test_a_batch_of_one_identity_has_no_triplet_loss():
    for margin in (0.3, None):
        features = torch.randn(4, 3, requires_grad=True)
        loss = TripletLoss(margin)(features, torch.zeros(4, dtype=torch.long))
        loss.backward()
        assert loss.item() == 0
        assert torch.equal(features.grad, torch.zeros(4, 3))


def test_candidates_come_from_all_ranks():
    """Two ranks of three images each, the other's features and pids through `gather`."""
    out = output()
    mine = slice(0, 3)
    here = ReIDOutput(out.global_feat[mine], out.part_feats[mine], out.descriptor[mine], out.logits[mine])
    whole = (out.global_feat, out.part_feats.flatten(1), PIDS)
    terms = ReIDLoss()(here, PIDS[mine], lambda part: next(all_ for all_ in whole if torch.equal(all_[mine], part)))
    for name, features in (("global", out.global_feat), ("parts", out.part_feats.flatten(1))):
        torch.testing.assert_close(terms[f"triplet_{name}"], TripletLoss()(features[mine], PIDS[mine], features, PIDS))
        assert terms[f"triplet_{name}"] != TripletLoss()(features[mine], PIDS[mine]), (
            "or the other rank does not matter"
        )


def test_one_part_token_has_its_share():
    terms = ReIDLoss(global_weight=0.25)(output(parts=1), PIDS)
    for name in ("id", "triplet"):
        torch.testing.assert_close(terms[name], 0.25 * terms[f"{name}_global"] + 0.75 * terms[f"{name}_parts"])


def test_defaults_are_the_papers():
    out = output()
    torch.testing.assert_close(ReIDLoss()(out, PIDS), ReIDLoss(0.1, 0.3, 1.0, 1.0, None, 0)(out, PIDS))
    plain = ReIDLoss(label_smoothing=0)(out, PIDS)["id_global"]
    torch.testing.assert_close(plain, F.cross_entropy(out.logits[:, 0], PIDS))


def test_double_precision_stays():
    out = output()
    fields = (out.global_feat, out.part_feats, out.descriptor, out.logits)
    assert ReIDLoss()(ReIDOutput(*(t.double() for t in fields)), PIDS)["loss"].dtype == torch.float64


def test_half_precision_features_are_computed_in_float32():
    out = output()
    half = ReIDOutput(out.global_feat.half(), out.part_feats.half(), out.descriptor.half(), out.logits.half())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = ReIDLoss()(half, PIDS)
    assert all(value.dtype == torch.float32 for value in terms.values())
    torch.testing.assert_close(terms["loss"], ReIDLoss()(out, PIDS)["loss"], atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("global_weight", [None, 0.5])
def test_the_parts_share_grows_over_the_warm_up(global_weight):
    out = output()
    warming, whole = ReIDLoss(global_weight=global_weight, part_warmup=4), ReIDLoss(global_weight=global_weight)
    final = whole(out, PIDS)
    alone = final["id_global"] + final["triplet_global"]
    torch.testing.assert_close(warming(out, PIDS)["loss"], alone)
    for epoch, grown in ((1, 0.25), (3, 0.75), (4, 1.0), (9, 1.0)):
        warming.epoch = epoch
        torch.testing.assert_close(warming(out, PIDS)["loss"], grown * final["loss"] + (1 - grown) * alone)


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
        ("margin", -0.1),
        ("id_weight", -0.1),
        ("triplet_weight", -0.1),
        ("global_weight", 1.5),
        ("global_weight", -0.1),
        ("part_warmup", -1),
    ],
)
def test_bad_options_are_config_errors(option, wrong):
    with pytest.raises(ConfigError, match=f"{option.split('_')[0]}.*{wrong}"):
        ReIDLoss(**{option: wrong})


@pytest.mark.parametrize("limits", [{"id_weight": 0, "triplet_weight": 0.5}, {"id_weight": 0.5, "triplet_weight": 0}])
@pytest.mark.parametrize("share", [0, 1])
def test_weights_may_be_zero_and_shares_whole(limits, share):
    terms = ReIDLoss(**limits, global_weight=share, margin=0)(output(), PIDS)
    (name,) = [key.removesuffix("_weight") for key, weight in limits.items() if weight]
    torch.testing.assert_close(terms["loss"], 0.5 * terms[f"{name}_{'global' if share else 'parts'}"])


def test_eval_mode_output_is_refused():
    out = output()
    with pytest.raises(ConfigError, match="logits"):
        ReIDLoss()(ReIDOutput(out.global_feat, out.part_feats, out.descriptor), PIDS)
