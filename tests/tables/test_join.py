"""Runs to rows and columns: what belongs together, what must never be averaged, and what is said to be missing."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from aaformer_lit.cli.options import ablation_pins
from aaformer_lit.cli.paths import CONF_DIR
from aaformer_lit.errors import ConfigError
from aaformer_lit.tables.collect import collect
from aaformer_lit.tables.compare import compare_rows
from aaformer_lit.tables.join import agree, join, merge, setting_of
from aaformer_lit.tables.paper import PaperTable
from table_tools import AAFORMER, BASELINE, LABELED, NEAREST, SINKHORN, config, paper_table, write_run


def joined(folder: Path, name: str = "table5"):
    return join(paper_table(name), collect([folder]))


def test_mean_and_deviation_over_seeds_whatever_the_folders_are_called(tmp_path):
    for seed, mAP in enumerate((0.60, 0.70, 0.80)):
        write_run(tmp_path / "x" / f"nearest-{seed}", AAFORMER, seed, (0.5, mAP))  # a name that lies
    write_run(tmp_path / "y", NEAREST, 0, (0.4, 0.3), trainer__devices=8, run_dir="elsewhere")
    (column,), remarks = joined(tmp_path)
    nearest, transport = column.cells
    assert (transport.mean("mAP"), transport.std("mAP")) == pytest.approx((70.0, 10.0))
    assert (nearest.mean("mAP"), nearest.std("mAP")) == (pytest.approx(30.0), None)
    assert column.paper == "cuhk03_labeled"
    assert column.notes == ("Nearest Neighbor: no result of seed 1, 2, which other rows have",)
    assert remarks == []


@pytest.mark.parametrize(
    "other",
    [
        {"data": LABELED | {"variant": "detected"}},
        {"data": LABELED | {"counts": {"query": {"images": 1399}}}},
        {"data": {"name": "msmt17", "variant": "V1", "as_published": True}},
        {"recipe": "transreid"},
        {"optim__lr": 0.1},
        {"trainer__max_epochs": 60},
        {"callbacks": {"ema": {"decay": 0.99}}},
        {"data__image_size": [384, 128]},
    ],
)
def test_other_data_variants_counts_and_recipes_are_other_columns(tmp_path, other):
    write_run(tmp_path / "a", AAFORMER, 0, (0.5, 0.5))
    write_run(tmp_path / "b", AAFORMER, 1, (0.9, 0.9), **other)
    columns, _ = joined(tmp_path)
    assert sorted(column.cells[1].mean("mAP") for column in columns) == pytest.approx([50.0, 90.0])
    assert all(column.differs for column in columns)


def test_seeds_and_masks_are_no_setting():
    masks = {"masks": "masks", "mask_parts": {"head": [1]}, "seed": 1, "image_size": [256, 128], "num_workers": 4}
    assert setting_of({"seed": 1, "data": masks, "flip_test": True}) == {
        "data.image_size": (256, 128),
        "flip_test": True,
    }


def test_a_similarity_of_its_own_is_a_column_of_its_own_and_the_baseline_stands_in_both(tmp_path):
    write_run(tmp_path / "a", AAFORMER, 0, (0.5, 0.5))
    write_run(tmp_path / "b", AAFORMER | {"similarity": "dot"}, 0, (0.6, 0.6))
    write_run(tmp_path / "c", BASELINE, 0, (0.4, 0.4))
    write_run(tmp_path / "d", BASELINE, 0, (0.1, 0.1), optim__lr=1.0)
    columns, _ = joined(tmp_path, "table4")
    (alone,) = (column for column in columns if column.setting["optim.lr"] == 1.0)
    assert dict(alone.differs) == {"optim.lr": 1.0}  # it has no similarity to differ in
    columns.remove(alone)
    assert [column.differs["model.similarity"] for column in columns] == ["cosine", "dot"]
    assert [column.cells[0].mean("mAP") for column in columns] == pytest.approx([40.0, 40.0])
    assert [column.cells[-1].mean("mAP") for column in columns] == pytest.approx([50.0, 60.0])


def test_failed_unfinished_unreadable_and_foreign_runs_are_named_and_never_counted(tmp_path):
    write_run(tmp_path / "good", AAFORMER, 0, (0.5, 0.5))
    failed = write_run(tmp_path / "failed", AAFORMER, 1)
    (failed / "metrics.json").unlink()
    (failed / "failure.txt").write_text("CUDA error: out of memory\n\nTraceback ...\n")
    early = tmp_path / "early"
    early.mkdir()
    (early / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config(NEAREST, 2))))
    nan = write_run(tmp_path / "nan", AAFORMER, 3)
    (nan / "metrics.json").write_text('{"test/rank1": 0.5, "test/mAP": NaN}')
    percent = write_run(tmp_path / "percent", AAFORMER, 4, (0.5, 65.6))
    cut = write_run(tmp_path / "cut", AAFORMER, 5)
    (cut / "metrics.json").write_text('{"test/mAP": 0.')
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "metadata.json").write_text("{")
    write_run(tmp_path / "other", AAFORMER | {"assigner": SINKHORN | {"epsilon": 0.1}}, 0)
    (column,), remarks = joined(tmp_path)
    assert list(column.cells[1].runs) == [0]
    assert column.cells[1].mean("mAP") == pytest.approx(50.0)
    assert column.cells[0].runs == {}
    said = "\n".join(remarks)
    assert f"failed: Optimal Transport, seed 1 ({failed}): CUDA error: out of memory" in said
    assert "unfinished: Nearest Neighbor, seed 2" in said
    assert f"seed 3 ({nan}): test/mAP is not a number" in said
    assert f"seed 4 ({percent}): test/mAP = 65.6 is no fraction of 1" in said
    assert f"seed 5 ({cut}): what came out cannot be read" in said
    assert f"unreadable: a run ({broken})" in said
    assert "1 run is no row of this table" in said
    assert len(remarks) == 7


def test_a_share_may_pass_1_by_rounding(tmp_path):
    write_run(tmp_path / "a", AAFORMER, 0, (1.0000001, 0.7))
    assert [run.status for run in collect([tmp_path])] == ["finished"]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("2024-01-01", "2025-01-01"),
        ("sweeps/market1501/1a2b3c4d", "market1501-aaformer/1a2b3c4d/2025"),
        ("9999", "10000"),
    ],
)
def test_the_newest_of_two_runs_of_one_seed_stands_and_is_told(tmp_path, older, newer):
    for age, (name, scores, commit) in enumerate([(newer, (0.6, 0.6), "def"), (older, (0.5, 0.5), "abc")]):
        folder = write_run(tmp_path / name, AAFORMER, 0, scores, commit=commit)
        os.utime(folder / "metrics.json", (1e9 - age, 1e9 - age))
    write_run(tmp_path / "x", NEAREST, 0)
    (column,), _ = joined(tmp_path)
    assert column.cells[1].values("mAP") == pytest.approx([60.0])
    assert column.notes == (
        "Optimal Transport: 1 older run(s) of the same seed not used",
        "made by 2 versions of the code: abc, def",
    )


@pytest.mark.parametrize(
    ("data", "paper"),
    [
        (LABELED, "cuhk03_labeled"),
        (LABELED | {"as_published": False}, None),
        (LABELED | {"variant": "detected"}, None),
        ({"name": "msmt17", "variant": "v2", "as_published": True}, "msmt17"),
        ({"name": "msmt17", "variant": "v1 without val", "as_published": True}, None),
        ({"name": "synthetic", "variant": "efbaf78b83", "as_published": False}, None),
    ],
)
def test_the_papers_numbers_stand_beside_its_own_data_only(tmp_path, data, paper):
    write_run(tmp_path / "a", AAFORMER, data=data)
    (column,), _ = joined(tmp_path)
    assert column.paper == paper


def test_other_entry_points_folders_are_passed_over_and_a_missing_folder_is_an_error(tmp_path):
    folder = tmp_path / "evaluate"
    folder.mkdir()
    (folder / "metadata.json").write_text(json.dumps({"config": {"ckpt": "x"}, "data": LABELED}))
    assert collect([tmp_path]) == []
    with pytest.raises(ConfigError, match="no folder"):
        collect([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        {"config": None},
        {"config": {}, "data": "x"},
        {"config": {"model": {}, "optim": {}, "seed": None}, "data": LABELED},
    ],
)
def test_metadata_of_another_shape_is_told_and_not_a_traceback(tmp_path, metadata):
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    (run,) = collect([tmp_path])
    assert (run.status, run.seed) == ("unreadable", 0)
    assert "what it was cannot be read" in run.problem


def test_a_run_without_a_metric_is_not_in_its_mean(tmp_path):
    write_run(tmp_path / "a", AAFORMER, 0, (0.5, 0.5))
    other = write_run(tmp_path / "b", AAFORMER, 1)
    (other / "metrics.json").write_text('{"test/rank1": 0.7}')
    (column,), _ = joined(tmp_path)
    assert column.cells[1].mean("mAP") == pytest.approx(50.0)
    assert column.notes == ("Optimal Transport: mAP of 1 of 2 runs only",)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(["model.a", "model.b", "model.c", "d"]), st.integers(0, 2)), max_size=8)
)
def test_every_setting_has_a_column_and_none_holds_two_that_disagree(given_settings):
    columns = merge(given_settings)
    for setting in given_settings:
        assert any(agree(column, setting) for column in columns)
    for column in columns:
        members = [setting for setting in given_settings if agree(column, setting)]
        assert members
        assert all(agree(one, other) for one in members for other in members)


def test_rows_are_compared_over_common_seeds_and_the_same_queries(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path / f"a{seed}", AAFORMER, seed, queries=[0.5, 0.75, 1.0, 0.25])
    for seed in (1, 2, 3):
        write_run(tmp_path / f"n{seed}", NEAREST, seed, queries=[0.25, 0.5, 0.75, 0.0])
    (column,), _ = joined(tmp_path)
    rank1, mAP = compare_rows(column, "nearest", ["rank1", "mAP"], samples=50)
    assert (mAP.row, mAP.reference, mAP.difference.seeds) == ("Optimal Transport", "Nearest Neighbor", 2)
    assert (mAP.difference.mean, mAP.difference.low) == pytest.approx((25.0, 25.0))
    assert rank1.difference.mean == pytest.approx(25.0)  # 3 of 4 against 2 of 4
    with pytest.raises(ConfigError, match="no row 'x'"):
        compare_rows(column, "x", ["mAP"])


@pytest.mark.parametrize(
    ("queries", "problem"), [([0.5, 0.5, 0.5], "the same queries"), (None, "no per-query results of seed 0")]
)
def test_what_cannot_be_compared_says_why(tmp_path, queries, problem):
    write_run(tmp_path / "a", AAFORMER, 0, queries=[0.5, 0.75])
    write_run(tmp_path / "b", NEAREST, 0, queries=queries)
    (column,), _ = joined(tmp_path)
    (comparison,) = compare_rows(column, "nearest", ["mAP"])
    assert comparison.difference is None
    assert problem in comparison.problem


def test_a_table_with_a_wrong_column_or_metric_is_refused():
    content = OmegaConf.to_container(OmegaConf.load(CONF_DIR / "table" / "table5.yaml"))
    with pytest.raises(ConfigError, match="with 1 values"):
        PaperTable.from_config(content | {"metrics": ["mAP"]}, ablation_pins)
    with pytest.raises(ConfigError, match="known are"):
        PaperTable.from_config(content | {"metrics": ["accuracy"]}, ablation_pins)
