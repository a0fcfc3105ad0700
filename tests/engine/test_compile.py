"""torch.compile is used where it computes the same and pays, and left out where it fails, differs or is slow."""

import logging
import time

import pytest
import torch

from aaformer_lit.assign import Parsing
from aaformer_lit.engine.compile import compile_if_it_pays
from aaformer_lit.models import AAformer, PooledViT, build_backbone


@pytest.fixture
def network():
    torch.manual_seed(0)
    return AAformer(build_backbone("vit_tiny_patch16_224", (32, 16)), parts=[2])


def compiled_as(monkeypatch, change):
    """`network.compile()` puts this in the place of the compiled call."""

    def compile(self):
        self._compiled_call_impl = lambda images, _mask=None: change(self, images)

    monkeypatch.setattr(torch.nn.Module, "compile", compile)


def fails(network, images):
    raise RuntimeError("no C++ compiler")


def differs(network, images):
    return network.forward(2 * images)


def slow(network, images):
    time.sleep(0.5)
    return network.forward(images)


@pytest.mark.parametrize(
    ("change", "reason"),
    [(fails, "it failed with RuntimeError: no C++ compiler"), (differs, "its CLS differs"), (slow, "where eager")],
)
def test_what_does_not_hold_is_left_out(monkeypatch, network, caplog, change, reason):
    compiled_as(monkeypatch, change)
    with caplog.at_level(logging.WARNING):
        found = compile_if_it_pays(network, 2, "cpu")
    assert not found["compiled"]
    assert reason in found["reason"]
    assert reason in caplog.text
    assert network._compiled_call_impl is None
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network.training
    assert torch.isfinite(network(torch.randn(2, 3, 32, 16)).global_feat).all()


def test_a_network_that_needs_masks_is_compared_too(monkeypatch):
    network = PooledViT(build_backbone("vit_tiny_patch16_224", (32, 16)), assigner=Parsing(), parts=[2])
    compiled_as(monkeypatch, fails)
    assert "no C++ compiler" in compile_if_it_pays(network, 2, "cpu")["reason"]


def test_what_holds_is_kept(monkeypatch, network, caplog):
    compiled_as(monkeypatch, lambda network, images: network.forward(images))
    monkeypatch.setattr(
        "aaformer_lit.engine.compile._measured", lambda network, images: (network(images).global_feat.detach(), 1.0)
    )
    assert compile_if_it_pays(network, 2, "cpu") == {
        "compiled": True, "reason": "equal and not slower", "compiled_ms": 1.0, "eager_ms": 1.0,
    }  # fmt: skip
    assert network._compiled_call_impl is not None
    assert not caplog.records
