import pytest

from aaformer_lit.cli.data_sets import several_data


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        ("data=[a,b]", "data_sets=[a,b]"),
        ("data.cut=[0,0.2]", "cuts=[0,0.2]"),
        ("data.masks=DIR", "+data_options.masks=DIR"),
        ("+data.mask_parts={head: [1]}", "+data_options.mask_parts={head: [1]}"),
        ("data_sets=a", "data_sets=a"),
        ("ckpt=data.ckpt", "ckpt=data.ckpt"),
    ],
)
def test_data_arguments_keep_clear_of_hydras_group(given, passed_on):
    assert several_data(given) == passed_on
