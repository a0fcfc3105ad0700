"""Compression: it is PCA, and a network with it in gives short descriptors wherever descriptors are asked for."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from aaformer_lit.checkpoints.load import load_model
from aaformer_lit.data import ImageTransform
from aaformer_lit.deploy import SafetensorsFormat
from aaformer_lit.errors import ConfigError
from aaformer_lit.gallery import Layout
from aaformer_lit.models import AAformer, TransReID
from aaformer_lit.models.compression import Compression


def features(count=40, dim=12):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(count, 4)) @ rng.normal(size=(4, dim)) + 3).float()


def test_it_is_the_projection_on_the_largest_singular_vectors():
    data = features()
    fit = Compression.fit(data, 3)
    centered = data.double().numpy() - data.double().numpy().mean(axis=0)
    directions = np.linalg.svd(centered, full_matrices=False)[2][:3]
    # a principal direction has no sign
    np.testing.assert_allclose(np.abs(fit(data).numpy()), np.abs(centered @ directions.T), atol=1e-4)
    assert torch.equal(fit.shortened(2)(data), fit(data)[:, :2])


def test_four_components_keep_the_distances_of_features_of_rank_four():
    data = features()
    short, whole = (torch.cdist(x.double(), x.double()) for x in (Compression.fit(data, 4)(data), data))
    torch.testing.assert_close(short, whole, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("network", [AAformer, TransReID])
def test_what_is_compressed_is_what_is_compared(network):
    """TransReID's local features count a quarter each: in the fit, and so before it."""
    torch.manual_seed(0)
    made = network("vit_tiny_patch16_224", image_size=(64, 32)).eval()
    images = torch.randn(12, 3, 64, 32)
    with torch.no_grad():
        whole = made.embed(images)
        made.compression = fit = Compression.fit(whole, 5)
        assert made(images).descriptor.shape == (12, *made.descriptor_shape)
        torch.testing.assert_close(made.embed(images), F.normalize(fit(whole), dim=1), atol=1e-5, rtol=0)


def test_half_precision_rounds_the_network_and_not_the_projection():
    fit, data = Compression.fit(features(), 3), features()
    plain = fit(data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fit(data), plain)
    assert fit.bfloat16()(data).dtype == torch.float32, "a network in half precision has it so, too"


def test_sizes_that_cannot_be():
    for size in (0, 12, 13):
        with pytest.raises(ConfigError, match=f"compress={size} must be 1 or more, and less than the 12 numbers"):
            Compression(12, size)
    with pytest.raises(ConfigError, match=r"needs more than 8 training images .* there are 8\. Use compress=7"):
        Compression.fit(features(8), 8)


def test_a_compressed_network_is_short_everywhere_and_comes_back_from_its_folder(tmp_path):
    model = {
        "_target_": "aaformer_lit.models.AAformer", "parts": [2, 3], "image_size": [64, 32],
        "backbone": "vit_tiny_patch16_224",
    }  # fmt: skip
    torch.manual_seed(0)
    network = AAformer("vit_tiny_patch16_224", parts=[2, 3], image_size=(64, 32)).eval()
    images = torch.randn(20, 3, 64, 32)
    whole = network.embed(images).detach()
    network.compression = fit = Compression.fit(whole, 5)
    network.transform = ImageTransform(network.image_size)
    short = network.embed(images).detach()
    torch.testing.assert_close(short, F.normalize(fit(whole), dim=1), atol=1e-6, rtol=0)
    assert network(images).descriptor.shape == (20, 1, 5)
    assert network.embed_images([]).shape == (0, 5)
    layout = Layout.of(network)
    assert (layout.tokens, layout.dim, dict(layout.groups)) == (1, 5, {"all": (0,)})
    about = {"format": 1, "model": model, "num_classes": 0, "compress": 5}
    about["data"] = {"image_size": [64, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
    form = SafetensorsFormat()
    form.write(form.deployed(network, about["data"]), about, tmp_path / "short")
    assert json.loads((tmp_path / "short" / "config.json").read_text())["aaformer_lit"]["compress"] == 5
    torch.testing.assert_close(load_model(tmp_path / "short").embed(images).detach(), short, atol=1e-6, rtol=0)
