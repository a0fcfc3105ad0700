"""Query expansion against loops."""

import numpy as np
import pytest
import torch

import reference
from aaformer_lit.errors import ConfigError
from aaformer_lit.metrics import expand_features

FEATURES = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0))
QUERY, GALLERY = FEATURES[0, :11], FEATURES[1]


@pytest.mark.parametrize(("k", "alpha"), [(1, 0.0), (5, 0.0), (5, 3.0), (40, 2.0)])
def test_queries_join_their_neighbors(k, alpha):
    expected = reference.expand(QUERY.numpy(), GALLERY.numpy(), k, alpha)
    np.testing.assert_allclose(expand_features(QUERY, GALLERY, k=k, alpha=alpha, chunk_size=4), expected, atol=1e-5)


def test_database_side_augmentation_leaves_the_image_itself_out():
    for i in range(len(GALLERY)):
        others = torch.cat([GALLERY[:i], GALLERY[i + 1 :]])
        expected = reference.expand(GALLERY[i : i + 1].numpy(), others.numpy(), 3, 1.0)
        got = expand_features(GALLERY, k=3, alpha=1.0, chunk_size=7)[i : i + 1]
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_k_must_fit():
    with pytest.raises(ConfigError, match=r"k=40 neighbors.*got 39"):
        expand_features(GALLERY, k=40)
