"""Part-wise distances against the formula in a loop, and what hidden parts may not do."""

import pytest
import torch
from torch.nn import functional as F

from aaformer_lit.errors import ConfigError, NumericsError
from aaformer_lit.metrics import evaluate_retrieval
from aaformer_lit.metrics.visibility import VisibleParts, visible_features
from aaformer_lit.structures import FeatureSet

TOKENS, DIM = 4, 6


def world(images, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, TOKENS, DIM, generator=generator), torch.rand(images, TOKENS, generator=generator)


def distances(query, gallery):
    features = (visible_features(*query), visible_features(*gallery))
    return VisibleParts(TOKENS).prepare(*features).rows(slice(None))


def test_it_is_the_formula():
    query, gallery = world(5, 0), world(7, 1)
    found = distances(query, gallery)
    for i in range(5):
        for j in range(7):
            weights = [float(query[1][i, p] * gallery[1][j, p]) for p in range(TOKENS)]
            apart = [
                float((F.normalize(query[0][i, p], dim=0) - F.normalize(gallery[0][j, p], dim=0)).square().sum())
                for p in range(TOKENS)
            ]
            wanted = sum(w * d for w, d in zip(weights, apart, strict=True)) / sum(weights)
            assert found[i, j].item() == pytest.approx(wanted, abs=1e-5)


def test_a_hidden_part_may_be_anything():
    (tokens, visibility), gallery = world(5, 0), world(7, 1)
    visibility[:, 2] = 0
    other = tokens.clone()
    other[:, 2] = torch.randn(5, DIM, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(distances((tokens, visibility), gallery), distances((other, visibility), gallery))
    visibility[0] = 0  # nothing of the first query is seen
    assert distances((tokens, visibility), gallery)[0].tolist() == [4] * 7


def test_with_all_parts_seen_the_ranking_is_that_of_normalized_tokens():
    (query, _), (gallery, _) = world(10, 0), world(40, 1)
    pids, cams = [torch.arange(n) % 5 for n in (10, 40)], [torch.zeros(10).long(), torch.ones(40).long()]
    plain = [
        FeatureSet(F.normalize(t, dim=-1).flatten(1), *x) for t, *x in zip((query, gallery), pids, cams, strict=True)
    ]
    seen = [
        FeatureSet(visible_features(t, torch.ones(len(t), TOKENS)), *x)
        for t, *x in zip((query, gallery), pids, cams, strict=True)
    ]
    assert evaluate_retrieval(*seen, rerank=VisibleParts(TOKENS)).as_dict() == evaluate_retrieval(*plain).as_dict()


def test_mistakes_are_told_in_words():
    tokens, visibility = world(3, 0)
    for wrong in (visibility[:, 1:], visibility - 1):
        with pytest.raises(ConfigError, match="one number of 0 or more for each image and token"):
            visible_features(tokens, wrong)
    visibility[0, 0] = torch.nan
    with pytest.raises(NumericsError, match="1 of 3 query features"):
        VisibleParts(TOKENS).prepare(visible_features(tokens, visibility), visible_features(*world(2, 1)))
