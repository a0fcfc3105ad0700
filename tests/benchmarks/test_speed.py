"""The speed of networks beside each other."""

from __future__ import annotations

from aaformer_lit.assign import Parsing
from aaformer_lit.benchmarks.speed import images_per_second
from aaformer_lit.models import AAformer, ReIDViT, ViTBaseline, build_backbone


def test_networks_that_go_by_body_parts_are_measured_beside_those_that_do_not() -> None:
    def backbone():
        return build_backbone("vit_tiny_patch16_224", (64, 32), depth=1)

    networks: list[ReIDViT] = [ViTBaseline(backbone()).eval(), AAformer(backbone(), [5], assigner=Parsing()).eval()]
    assert all(speed > 0 for speed in images_per_second(networks, batch=2, repeats=1))
