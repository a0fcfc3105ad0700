"""Each assigner by the property that only it has."""

import pytest
import torch

from aaformer_lit.assign import Everyone, Gumbel, Nearest, Parsing, Placed, Sinkhorn, Stripes
from aaformer_lit.errors import ConfigError
from aaformer_lit.ops import compare, part_attention, similarity_scores, subset_softmax
from aaformer_lit.structures import NO_PART

GRID = (6, 4)


def scores(parts: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, parts, 24, generator=torch.Generator().manual_seed(seed))


def qkv(parts: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 3, n, 8, generator=g, dtype=torch.float64) for n in (parts, 24, 24))


def test_sinkhorn_shares_what_nearest_lets_one_part_take():
    attractive = scores(3) * 0.1 + torch.tensor([1.0, 0.0, 0.0])[:, None]  # every patch is closest to the first part
    assert Nearest()(attractive, GRID)[:, :, 0].all()
    sizes = Sinkhorn(epsilon=0.05, iterations=50)(attractive, GRID).sum(dim=-1)
    assert sizes.max() <= 12


def test_nearest_is_sinkhorn_without_iterations():
    assert torch.equal(Nearest()(scores(3), GRID), Sinkhorn(epsilon=0.7, iterations=0)(scores(3), GRID))


def test_sinkhorn_hands_its_settings_to_the_front_door():
    """What `attend` gives is made from the membership that the assigner itself gives."""
    for settings in ({"epsilon": 1.5}, {"iterations": 0}, {"iterations": 9}, {"rounding": "balanced"}):
        assigner = Sinkhorn(**settings)
        q, k, v = qkv(3)
        output, membership = assigner.attend(q, k, v, parts=[3], similarity="cosine", grid=GRID, return_membership=True)
        assert torch.equal(membership, assigner(similarity_scores(q, k), GRID))
        assert not torch.equal(membership, Sinkhorn()(similarity_scores(q, k), GRID))
        torch.testing.assert_close(output, part_attention(q, k, v, membership))


def test_sinkhorn_has_the_papers_settings():
    assert (Sinkhorn().epsilon, Sinkhorn().iterations, Sinkhorn().rounding) == (0.05, 3, "argmax")
    with pytest.raises(ConfigError, match=r"argmax, balanced, soft; got 'best'"):
        Sinkhorn(rounding="best")
    with pytest.raises(ConfigError, match=r"got epsilon=0, iterations=3"):
        Sinkhorn(epsilon=0)


@pytest.mark.parametrize(("parts", "edges"), [(2, [0, 3, 6]), (4, [0, 1, 3, 4, 6]), (6, [0, 1, 2, 3, 4, 5, 6])])
def test_stripes_cut_rows_at_floor_of_i_rows_over_parts(parts, edges):
    membership = Stripes()(scores(parts), GRID).view(2, 3, parts, *GRID)
    for part in range(parts):
        expected = torch.zeros(GRID, dtype=torch.bool)
        expected[edges[part] : edges[part + 1]] = True
        assert torch.equal(membership[1, 2, part], expected)


def test_parsing_gives_a_patch_to_every_part_it_shows():
    mask = torch.full((2, 12, 8), NO_PART, dtype=torch.uint8)
    mask[:, 0:2, 0:2] = 0  # first patch: part 0 and, in one pixel, part 1
    mask[:, 1, 1] = 1
    mask[:, 10:, 6:] = 1  # last patch
    membership = Parsing()(scores(3), GRID, mask)[0, 0]
    assert membership[0].nonzero().flatten().tolist() == [0]
    assert membership[1].nonzero().flatten().tolist() == [0, 23]
    assert membership[2].nonzero().flatten().tolist() == [int(scores(3)[0, 0, 2].argmax())]  # not shown anywhere


def test_everyone_sees_everything():
    assert Everyone()(scores(5), GRID).all()
    assert Everyone.whole_sequence


def test_gumbel_lets_a_gradient_through_to_the_scores():
    values = scores(3).requires_grad_()
    weights = Gumbel()(values, GRID)
    assert torch.equal(weights.sum(dim=-2).round(), torch.ones(2, 3, 24))
    (weights * torch.randn_like(weights)).sum().backward()
    assert values.grad is not None
    assert values.grad.abs().sum() > 0
    assert Gumbel().eval()(values, GRID).dtype == torch.bool


def test_gumbel_gradient_reaches_queries_only_through_attend():
    q, k, v = (t.requires_grad_() for t in qkv(3))
    outputs = Gumbel().attend(q, k, v, parts=[3], similarity="dot", grid=GRID)
    outputs.output.sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in (q, k, v))


def test_a_part_that_was_not_chosen_learns_what_choosing_it_would_have_done():
    """The gradient of exp(l) m / sum exp(l) m in m, members or not, as long as no logit is above all members' ones."""
    torch.manual_seed(0)
    logits = torch.rand(1, 2, 6, dtype=torch.float64)
    chosen = torch.tensor([[[1.0, 0, 0, 1, 0, 1], [0, 1, 1, 0, 1, 0]]], dtype=torch.float64)
    logits += 2 * chosen
    values = torch.randn(1, 2, 6, dtype=torch.float64)
    gradients = []
    for formula in (subset_softmax, lambda x, m: x.exp() * m / (x.exp() * m).sum(dim=-1, keepdim=True)):
        membership = chosen.clone().requires_grad_()
        (formula(logits, membership) * values).sum().backward()
        gradients.append(membership.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0][chosen == 0].abs().min() > 0
    membership = chosen.clone().requires_grad_()
    (subset_softmax(1e3 * (1 - chosen), membership) * values).sum().backward()  # far larger where nobody chose
    assert membership.grad.isfinite().all()


@pytest.mark.parametrize(
    ("parts", "classes", "trained", "message"),
    [
        ([2, 3], ["head", "legs"], None, r"model.parts=\[2, 3\] are not the 2 body parts .*Use model.parts=\[2\]"),
        (
            [2],
            ["head", "legs"],
            ["legs", "head"],
            "was trained with the body parts legs, head, and data.mask_parts has head",
        ),
    ],
)
def test_parsing_has_a_part_for_each_class_of_the_masks(parts, classes, trained, message):
    with pytest.raises(ConfigError, match=message):
        Parsing().check_classes(parts, classes, trained)
    Parsing().check_classes([2], classes, classes)
    Parsing().check_classes(parts, [])  # without masks an image says so


@pytest.mark.parametrize(
    "assigner",
    [
        Sinkhorn(),
        Nearest(),
        Stripes(),
        Sinkhorn(rounding="balanced"),
        Sinkhorn(rounding="soft"),
        Placed(rounding="soft"),
    ],
)
def test_attend_solves_each_granularity_by_itself(assigner):
    q, k, v = qkv(5)
    both = assigner.attend(q, k, v, parts=[2, 3], similarity="cosine", grid=GRID, return_membership=True)
    for first, last in ((0, 2), (2, 5)):
        alone = assigner.attend(
            q[:, :, first:last], k, v, parts=[last - first], similarity="cosine", grid=GRID, return_membership=True
        )
        assert torch.equal(both.membership[:, :, first:last], alone.membership)
        torch.testing.assert_close(both.output[:, :, first:last], alone.output)


@pytest.mark.parametrize(
    "assigner",
    [
        Sinkhorn(),
        Stripes(),
        Gumbel().eval(),
        Placed(),
        Sinkhorn(rounding="soft"),
        Sinkhorn(0.5, 1, rounding="soft"),
        Placed(0.5, rounding="soft"),
    ],
)
def test_part_weights_make_the_output(assigner):
    q, k, v = qkv(5)
    how = {"parts": [2, 3], "similarity": "cosine", "grid": GRID}
    output, membership = assigner.attend(q, k, v, return_membership=True, **how)
    weights, known = assigner.weights(compare(q, k), parts=[2, 3], grid=GRID, return_membership=True)
    assert torch.equal(known, membership)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, 5, dtype=torch.float64))
    torch.testing.assert_close(weights @ v, output)


def test_sinkhorn_attend_equals_the_generic_path():
    q, k, v = qkv(5)
    assigner = Sinkhorn()
    ours = assigner.attend(q, k, v, parts=[2, 3], similarity="cosine", grid=GRID, return_membership=True)
    values = similarity_scores(q, k, "cosine")
    membership = torch.cat([assigner(values[:, :, :2], GRID), assigner(values[:, :, 2:], GRID)], dim=2)
    assert torch.equal(ours.membership, membership)
    torch.testing.assert_close(ours.output, part_attention(q, k, v, membership))


@pytest.mark.parametrize("parts", [[], [0], [-2], [2, 0], [25]])
def test_impossible_granularities_are_named(parts):
    with pytest.raises(ConfigError, match="parts"):
        Sinkhorn().validate(parts, GRID)


def test_more_stripes_than_rows_is_an_error():
    with pytest.raises(
        ConfigError, match=r"6x4 has 6 rows; cannot cut 7 stripes\. Use parts of at most 6, or a taller image"
    ):
        Stripes().validate([7], GRID)
    Stripes().validate([6], GRID)


def test_one_part_and_one_part_per_patch_are_possible():
    for parts in ([1], [24], [1, 24]):
        Sinkhorn().validate(parts, GRID)
    with pytest.raises(ConfigError, match=r"asks for 25 parts of 24 patches \(grid 6x4\). Use at most 24"):
        Sinkhorn().validate([2, 25], GRID)


def test_hard_schemes_answer_with_booleans():
    for assigner in (Sinkhorn(), Nearest(), Stripes(), Everyone()):
        assert assigner(scores(5), GRID).dtype == torch.bool


def test_parsing_counts_parts_not_heads():
    mask = torch.full((2, 12, 8), NO_PART, dtype=torch.uint8)
    mask[:, 0:2, 0:2] = 4
    membership = Parsing()(scores(5), GRID, mask)
    assert membership.shape == (2, 3, 5, 24)
    assert membership[:, :, 4].nonzero()[:, -1].eq(0).all()
    with pytest.raises(ConfigError, match=r"these have none\. .* data=synthetic, or others with data\.masks=DIR"):
        Parsing()(scores(5), GRID)


def test_attend_hands_the_mask_on_and_the_membership_out_on_request():
    mask = torch.zeros(2, 12, 8, dtype=torch.uint8)
    mask[:, 6:] = 1
    q, k, v = qkv(2)
    options = {"parts": [2], "similarity": "dot", "grid": GRID, "part_mask": mask}
    given = Parsing().attend(q, k, v, **options, return_membership=True)
    assert torch.equal(given.membership, Stripes()(scores(2), GRID)), "the halves of the mask are two stripes"
    assert Parsing().attend(q, k, v, **options).membership is None


@pytest.mark.parametrize("similarity", ["cosine", "dot", "scaled"])
def test_attend_compares_what_it_is_told_to(similarity):
    q, k, v = qkv(3)
    got = Gumbel().eval().attend(q, k, v, parts=[3], similarity=similarity, grid=GRID, return_membership=True)
    products = torch.einsum("bhpd,bhnd->bhpn", q, k)
    expected = (
        torch.cosine_similarity(q[..., None, :], k[..., None, :, :], dim=-1) if similarity == "cosine" else products
    )
    assert torch.equal(got.membership[:, :, :, :].int().argmax(dim=2), expected.argmax(dim=2))


def test_gumbel_is_torchs_at_its_temperature():
    values = scores(3).requires_grad_()
    direction = scores(3, seed=1)
    results = []
    for sample in (Gumbel(0.3).train(), lambda s, _: torch.nn.functional.gumbel_softmax(s, tau=0.3, hard=True, dim=2)):
        torch.manual_seed(0)
        weights = sample(values, GRID)
        assert torch.isin(weights.detach().round(decimals=5), torch.tensor([0.0, 1.0])).all(), "a hard choice"
        results.append((weights.detach(), torch.autograd.grad(weights, values, direction)[0]))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert Gumbel().temperature == 1.0


def test_no_gradient_where_none_is_wanted():
    q, k, v = (t.requires_grad_() for t in qkv(3))
    with torch.no_grad():
        assert (
            not Gumbel()
            .attend(q, k, v, parts=[3], similarity="dot", grid=GRID, return_membership=True)
            .membership.requires_grad
        )


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_gumbel_refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ConfigError, match=f"must be positive; got {temperature}"):
        Gumbel(temperature)


def test_cost_of_place_leads_from_the_transport_to_equal_stripes():
    free, stripes = Sinkhorn()(scores(3), GRID), Stripes()(scores(3), GRID)
    assert torch.equal(Placed(weight=0.0)(scores(3), GRID), free)
    assert torch.equal(Placed(weight=100.0)(scores(3), GRID), stripes)
    overlap = [(Placed(weight=weight)(scores(3), GRID) & stripes).sum().item() for weight in (0.0, 0.5, 2.0, 8.0)]
    assert overlap == sorted(set(overlap))


@pytest.mark.parametrize(("difference", "rows"), [(0.0, 3), (0.12, 2), (0.28, 1)])
def test_a_border_moves_by_half_the_difference_of_scores_over_the_weight(difference, rows):
    likes_the_second = torch.stack([torch.zeros(24), torch.full((24,), difference)])[None, None]
    alone = Placed(weight=0.2, iterations=0)  # without iterations: no equal shares
    # of 6 rows, half are the first part's; a difference of 0.12 is 0.12 / (2 * 0.2) = 0.3 stripe heights of 3 rows
    assert alone(likes_the_second, GRID)[0, 0, 0].sum() == 4 * rows


def test_cost_of_place_is_counted_in_attend_too():
    q, k, v = qkv(2)
    scheme = Placed(weight=100.0)
    output, member = scheme.attend(
        q, k, v, parts=[2], similarity="cosine", grid=GRID, part_mask=None, return_membership=True
    )
    assert torch.equal(member, Stripes()(scores(2), GRID))
    assert torch.allclose(output, part_attention(q, k, v, member))
    with pytest.raises(ConfigError, match="must be 0 or more; got -1"):
        Placed(weight=-1)


@pytest.mark.parametrize("rounding", ["argmax", "soft"])
def test_a_cost_by_the_body_gives_each_part_what_the_image_shows_of_it(rounding):
    """Of these two images one shows all of the body, the other its lower 60 percent."""
    q, k, v = qkv(3)
    heights = torch.stack([torch.linspace(0, 1, 24), torch.linspace(0.4, 1, 24)])
    scheme = Placed(weight=100.0, rounding=rounding)
    member = scheme.attend(
        q, k, v, parts=[3], similarity="cosine", grid=GRID, heights=heights, return_membership=True
    ).membership
    expected = (heights[:, None] * 3).long().clamp_max(2) == torch.arange(3)[:, None]
    assert torch.equal(member[1, :, 1:], expected[1, 1:].expand(3, -1, -1))
    assert torch.equal(member[0], expected[0].expand(3, -1, -1))


def test_soft_attention_has_the_cost_of_place_in_its_plan_alone():
    """Softmax over the patches of q.k / sqrt(d) + log Y*, written out with a plan of plain exponentials."""
    q, k, v = qkv(2)
    scheme = Placed(0.3, epsilon=0.2, iterations=4, rounding="soft")
    output, _ = scheme.attend(q, k, v, parts=[2], similarity="cosine", grid=GRID)
    height = (torch.arange(6, dtype=torch.float64).repeat_interleave(4) + 0.5) / 3  # in stripes of three rows
    cost = 0.3 * (height - torch.tensor([[0.5], [1.5]])) ** 2
    plan = ((similarity_scores(q, k, "cosine") - cost) / 0.2).exp()
    for _ in range(4):
        plan = plan / plan.sum(-1, keepdim=True)
        plan = plan / plan.sum(-2, keepdim=True)
    torch.testing.assert_close(scheme.plan(similarity_scores(q, k, "cosine"), GRID), plan / 24)
    weights = (q @ k.mT / 8**0.5).exp() * plan
    torch.testing.assert_close(output, weights / weights.sum(-1, keepdim=True) @ v)
    assert not torch.allclose(
        output, Sinkhorn(0.2, 4, rounding="soft").attend(q, k, v, parts=[2], similarity="cosine", grid=GRID).output
    )
