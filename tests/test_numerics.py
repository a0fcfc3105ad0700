"""Numbers at their limits: whatever shape, dtype, range or repetition, losses and gradients are finite or the error is typed.

What other tests hold is not repeated: values against slow loops are in test_losses.py, tests/ops and tests/assign.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aaformer_lit.assign import Assigner, Everyone, Gumbel, Nearest, Sinkhorn, Stripes
from aaformer_lit.errors import ConfigError, NumericsError, ProtocolError
from aaformer_lit.losses import ReIDLoss, TripletLoss
from aaformer_lit.metrics import Cosine, KReciprocal, SquaredEuclidean, evaluate_retrieval
from aaformer_lit.models import AAformer, ViTBaseline, build_backbone
from aaformer_lit.ops import auto_alignment, log_sinkhorn
from aaformer_lit.structures import FeatureSet, ReIDOutput

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ASSIGNERS: list[Assigner] = [Sinkhorn(), Sinkhorn(rounding="balanced"), Nearest(), Stripes(), Everyone(), Gumbel()]
quick = settings(max_examples=25, deadline=None)


def tensor(shape: tuple[int, ...], seed: int, kind: str, scale: float, dtype: torch.dtype) -> torch.Tensor:
    """Random values, one value everywhere, rows that repeat, or zeros; as large as the dtype lets them be."""
    g = torch.Generator().manual_seed(seed)
    values = {
        "random": lambda: torch.randn(shape, generator=g),
        "constant": lambda: torch.ones(shape),
        "repeated": lambda: torch.randn((*shape[:-2], 1, shape[-1]), generator=g).expand(shape),
        "zero": lambda: torch.zeros(shape),
    }[kind]()
    return (values * scale).clamp(-6e4, 6e4).to(dtype)


kinds = st.sampled_from(["random", "constant", "repeated", "zero"])
scales = st.sampled_from([1e-8, 1e-3, 1.0, 1e2, 1e4])
dtypes = st.sampled_from(DTYPES)


@quick
@given(
    parts=st.integers(1, 6), patches=st.integers(1, 30), iterations=st.integers(0, 4), kind=kinds, scale=scales,
    dtype=dtypes, seed=st.integers(0, 999),
)  # fmt: skip
@example(parts=3, patches=1, iterations=3, kind="random", scale=1e4, dtype=torch.float16, seed=0)
def test_sinkhorn_has_columns_of_mass_1_over_n(
    parts: int, patches: int, iterations: int, kind: str, scale: float, dtype: torch.dtype, seed: int
) -> None:
    log_plan = log_sinkhorn(tensor((2, parts, patches), seed, kind, scale, dtype), iterations=iterations)
    assert log_plan.dtype == torch.float32
    assert not log_plan.isnan().any()
    columns = log_plan.exp().sum(dim=-2) * patches
    torch.testing.assert_close(columns, torch.ones_like(columns), atol=1e-4, rtol=0)


@quick
@example(  # a sampled subset that is empty
    parts=[2], patches=4, kind="random", scale=100.0, dtype=torch.float32, similarity="cosine", which=5, seed=0
)
@given(
    parts=st.lists(st.integers(1, 4), min_size=1, max_size=3), patches=st.integers(4, 20), kind=kinds, scale=scales,
    dtype=dtypes, similarity=st.sampled_from(["cosine", "dot", "scaled"]), which=st.integers(0, len(ASSIGNERS) - 1),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_every_assigner_gives_finite_outputs_and_gradients(
    parts: list[int], patches: int, kind: str, scale: float, dtype: torch.dtype, similarity: str, which: int, seed: int
) -> None:
    q, k, v = (
        tensor((2, 2, count, 8), seed + i, kind, scale, dtype).requires_grad_()
        for i, count in enumerate((sum(parts), patches, patches))
    )
    with torch.random.fork_rng():
        result = (
            ASSIGNERS[which]
            .train()
            .attend(q, k, v, parts=parts, similarity=similarity, grid=(patches, 1), return_membership=True)
        )
    assert result.output.dtype == dtype
    if not ASSIGNERS[which].differentiable:  # a sampled choice may leave a part without a patch: its output is zero
        assert result.membership.any(dim=-1).all(), "no subset is empty"
    # outputs are means of the values, so they may reach the dtype's limit but not pass it
    assert result.output.isfinite().all()
    result.output.float().mean().backward()
    for t in (q, k, v):
        assert t.grad is None or t.grad.isfinite().all()
    assert v.grad is not None


def test_one_patch_goes_to_every_part() -> None:
    q, k, v = (torch.randn(1, 1, count, 8) for count in (3, 1, 1))
    result = auto_alignment(q, k, v, parts=[3], return_membership=True)
    assert result.membership.all()
    torch.testing.assert_close(result.output, v.expand(1, 1, 3, 8))


def test_more_parts_than_patches_is_refused_when_the_network_is_built() -> None:
    with pytest.raises(ConfigError, match=r"asks for 5 parts of 4 patches \(grid 2x2\)"):
        AAformer(tiny(), parts=[2, 5])


def tiny() -> Any:
    return build_backbone(
        "vit_tiny_patch16_224", (16, 16), depth=2, embed_dim=16, num_heads=2, patch_size=8, drop_path=0.0
    )


@pytest.mark.parametrize("image", ["random", "constant", "zero", "identical", "huge"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("margin", [0.3, None])
def test_a_training_step_is_finite(image: str, dtype: torch.dtype, margin: float | None) -> None:
    torch.manual_seed(0)
    network = AAformer(tiny(), parts=[1, 2, 4], num_classes=2).train()
    images = {
        "random": torch.randn(4, 3, 16, 16),
        "constant": torch.full((4, 3, 16, 16), 2.0),
        "zero": torch.zeros(4, 3, 16, 16),
        "identical": torch.randn(1, 3, 16, 16).expand(4, -1, -1, -1),
        "huge": torch.randn(4, 3, 16, 16) * 1e4,
    }[image]
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        output = network(images)
        terms = ReIDLoss(margin=margin)(output, torch.tensor([0, 0, 1, 1]))
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    terms["loss"].backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["part_tokens"].abs().sum() > 0 or image != "random"


@quick
@given(
    ids=st.lists(st.integers(0, 3), min_size=1, max_size=8), dim=st.integers(1, 9), parts=st.integers(0, 3), kind=kinds,
    scale=scales, dtype=dtypes, margin=st.sampled_from([0.0, 0.3, None]), seed=st.integers(0, 999),
)  # fmt: skip
@example(ids=[0, 0, 0], dim=3, parts=2, kind="random", scale=1.0, dtype=torch.float32, margin=0.3, seed=0)
@example(ids=[0, 0, 1, 1], dim=3, parts=2, kind="repeated", scale=1e4, dtype=torch.float16, margin=None, seed=0)
def test_losses_are_finite_in_float32(
    ids: list[int], dim: int, parts: int, kind: str, scale: float, dtype: torch.dtype, margin: float | None, seed: int
) -> None:
    """Identical images (zero distances) and batches of one identity among them."""
    tokens = tensor((len(ids), 1 + parts, dim), seed, kind, scale, dtype).requires_grad_()
    logits = tensor((len(ids), 1 + parts, 4), seed + 1, kind, scale, dtype).requires_grad_()
    output = ReIDOutput(tokens[:, 0], tokens[:, 1:], tokens, logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = ReIDLoss(margin=margin)(output, torch.tensor(ids))
    for name, term in terms.items():
        assert term.dtype == torch.float32, name
        assert term.isfinite(), name
        assert term >= 0, name
    terms["loss"].backward()
    assert tokens.grad.isfinite().all()
    assert logits.grad.isfinite().all()
    if len(set(ids)) == 1:
        assert terms["triplet"] == 0, "without negatives there is no triplet"


@pytest.mark.parametrize("dtype", DTYPES)
def test_autocast_changes_neither_grouping_nor_losses(dtype: torch.dtype) -> None:
    """Given half-precision inputs, what is computed from them is float32's result, bit for bit."""
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, n, 8, generator=g).to(dtype) for n in (5, 12, 12))
    tokens = torch.randn(6, 3, 8, generator=g).to(dtype)
    pids = torch.tensor([0, 0, 1, 1, 2, 2])

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        membership = (
            Sinkhorn()
            .attend(q, k, v, parts=[2, 3], similarity="cosine", grid=(12, 1), return_membership=True)
            .membership
        )
        return membership, ReIDLoss()(ReIDOutput(tokens[:, 0], tokens[:, 1:], tokens, tokens), pids)["loss"]

    plain = both()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = both()
    assert torch.equal(plain[0], mixed[0])
    assert torch.equal(plain[1], mixed[1])


def test_equal_features_are_at_distance_zero_from_each_other() -> None:
    features = torch.full((3, 4), 7.0)
    for distance in (SquaredEuclidean, Cosine):
        torch.testing.assert_close(distance(features, features).rows(slice(None)), torch.zeros(3, 3), atol=1e-6, rtol=0)
    loss = TripletLoss(0.3)(features, torch.tensor([0, 0, 1]))
    assert loss.item() == pytest.approx(0.3, abs=1e-5), "no distance tells anyone apart: the margin is what is lost"


@pytest.mark.parametrize("rerank", [None, KReciprocal(k1=3, k2=2)])
@pytest.mark.parametrize("kind", ["random", "constant", "zero"])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e4])
def test_retrieval_is_finite_whatever_the_features(rerank: Any, kind: str, scale: float) -> None:
    features = tensor((12, 4), 0, kind, scale, torch.float32)
    pids, camids = torch.arange(12) % 3, torch.arange(12) % 2
    metrics = evaluate_retrieval(
        FeatureSet(features[:4], pids[:4], camids[:4]), FeatureSet(features, pids, camids), rerank=rerank
    )
    assert 0 < metrics.mAP <= 1
    assert 0 < metrics.mINP <= 1
    assert metrics.per_query.average_precision.isfinite().all()
    if kind != "random":  # all at one distance: the gallery's order decides, by hand for query 0 (pid 0, camera 0)
        hits = [rank for rank, i in enumerate([i for i in range(12) if i not in (0, 6)], 1) if i % 3 == 0]
        expected = sum(n / rank for n, rank in enumerate(hits, 1)) / len(hits)
        assert metrics.per_query.average_precision[0].item() == pytest.approx(expected)


def test_features_that_are_not_finite_are_named() -> None:
    features = torch.ones(3, 4)
    features[1, 2] = torch.nan
    pids, camids = torch.zeros(3, dtype=torch.int64), torch.arange(3)
    with pytest.raises(NumericsError, match=r"1 of 3 gallery features are NaN or infinite \(first: row 1\)"):
        evaluate_retrieval(FeatureSet(torch.ones(3, 4), pids, camids), FeatureSet(features, pids, camids))
    with pytest.raises(ProtocolError, match="none of the 1 queries has a match"):
        evaluate_retrieval(
            FeatureSet(torch.ones(1, 4), pids[:1], camids[:1]), FeatureSet(features[:1], pids[:1], camids[:1])
        )


@pytest.mark.parametrize("size", [(16, 16), (8, 8), (64, 8)])
def test_small_and_odd_images_embed(size: tuple[int, int]) -> None:
    backbone = build_backbone("vit_tiny_patch16_224", size, depth=1, embed_dim=16, num_heads=2, patch_size=8)
    network = ViTBaseline(backbone).eval()
    descriptor = network.embed(torch.zeros(2, 3, *size))
    assert descriptor.isfinite().all()
    torch.testing.assert_close(descriptor.norm(dim=1), torch.ones(2))
