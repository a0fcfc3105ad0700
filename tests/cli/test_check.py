"""What a class takes: its own arguments, and those that it passes on."""

from inspect import signature

import pytest

from aaformer_lit.cli.check import strange
from aaformer_lit.data.datamodule import Common, ReIDDataModule
from aaformer_lit.data.datasets.market1501 import Market1501DataModule
from aaformer_lit.data.synthetic.datamodule import SyntheticDataModule
from aaformer_lit.models import AAformer, PooledViT, TransReID
from aaformer_lit.models.base import Options, ReIDViT


@pytest.mark.parametrize("kind", [Market1501DataModule, SyntheticDataModule])
def test_data_modules_take_what_all_of_them_take(kind: type) -> None:
    assert strange(kind, {"root": "d", "cut": 0.2, "cache": True, "cutt": 0.2, "_target_": "x"}) == ["cutt"]


@pytest.mark.parametrize("kind", [PooledViT, TransReID])
def test_networks_without_attending_parts_take_no_descriptor(kind: type) -> None:
    given = {"backbone": "b", "num_classes": 3, "descriptor": "cls_mean"}
    assert strange(kind, given) == ["descriptor"]
    assert strange(AAformer, given) == []


def test_what_is_passed_on_is_all_that_the_base_takes() -> None:
    """Else an option of the base would be refused where a class passes its arguments on."""
    own = {"self", "root", "sources", "spec"}
    assert set(Common.__annotations__) == set(signature(ReIDDataModule.__init__).parameters) - own
    assert set(Options.__annotations__) == set(signature(ReIDViT.__init__).parameters) - {
        "self",
        "backbone",
        "descriptor",
    }


def test_nothing_is_known_of_functions_that_take_anything() -> None:
    assert strange(dict, {"anything": 1}) == []
    assert strange(lambda **options: options, {"anything": 1}) == []
