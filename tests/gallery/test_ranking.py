"""Re-ranking of a search's candidates, against the slow reference on the same images."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

import reference
from aaformer_lit.gallery import NO_ROW, Crop, Neighbors, reranked, verdicts
from aaformer_lit.metrics import KReciprocal


def test_the_candidates_of_each_query_are_reranked_among_themselves():
    """With all of the gallery as candidates that is the full re-ranking of the query; with fewer, of these alone."""
    rng = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(60, 8, generator=rng), dim=1)
    queries = torch.nn.functional.normalize(torch.randn(3, 8, generator=rng), dim=1)
    plain = torch.cdist(queries.double(), features.double())
    method = KReciprocal(k1=5, k2=2)
    for count in (60, 20):
        nearest = plain.argsort(dim=1)[:, :count]
        found = Neighbors(plain.gather(1, nearest).numpy(), nearest.numpy())
        best = reranked(found, queries, features, method, k=10)
        assert best.rows.shape == (3, 10)
        for number in range(3):
            among = nearest[number].sort().values
            expected = reference.k_reciprocal_rerank(queries[[number]].numpy(), features[among].numpy(), 5, 2)[0]
            order = np.argsort(expected, kind="stable")[:10]
            np.testing.assert_allclose(best.distances[number], expected[order], atol=1e-5)
            apart = np.diff(np.sort(expected)[:11]).min() > 1e-5
            assert not apart or best.rows[number].tolist() == among[order].tolist()
    lonely = Neighbors(np.array([[0.5, np.inf]]), np.array([[7, -1]]))
    assert reranked(lonely, queries[:1], features, method, k=2).rows.tolist() == [[7, -1]]


def test_whose_image_an_answer_is_is_unknown_of_nobody_and_of_junk():
    gallery = SimpleNamespace(table=pd.DataFrame({"pid": ["1", "-1", "", "2"]}))
    rows = np.array([[0, 1, 2, 3, NO_ROW]] * 3)
    queries = [Crop(Path("a.jpg"), None, pid) for pid in ("1", "-1", "")]
    assert verdicts(gallery, queries, Neighbors(np.zeros(rows.shape), rows)) == [
        [True, False, None, False],
        [None] * 4,
        [None] * 4,
    ]
