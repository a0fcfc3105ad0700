"""Comparing models says of each what evaluating it says, and tells what is wrong before anything is tested."""

import pandas as pd
import pytest

from cli_tools import TINY_DATA, only, read_json, run_cli

QUIET = (
    "trainer=cpu",
    "trainer.enable_progress_bar=false",
    "speed.repeats=1",
    "speed.batch=2",
    "bootstrap.samples=200",
)
SPEC = tuple(option for option in TINY_DATA if "image_size" not in option)


def compare(data_dir, runs, *options):
    return run_cli("compare", *SPEC, *QUIET, f"paths.data={data_dir}", f"paths.runs={runs}", *options)


def test_each_model_has_its_own_results_and_its_difference_to_the_first(trained, data_dir, tmp_path):
    assert (
        compare(data_dir, tmp_path, f"ckpt=[{trained},synthetic-small]", "data=[synthetic]", "formats=[md,html]") == 0
    )
    folder = only(tmp_path.rglob("comparison.json")).parent
    found = read_json(folder / "comparison.json")
    first, second = found["results"]
    evaluated = read_json(trained / "metrics.json")
    assert [first["mAP"], first["rank1"]] == pytest.approx([evaluated["test/mAP"], evaluated["test/rank1"]], abs=1e-9)

    scores = [pd.read_parquet(folder / f"synthetic-{n}" / "per_query.parquet").query("subset == ''") for n in (1, 2)]
    gain = 100 * (scores[1].average_precision.to_numpy() - scores[0].average_precision.to_numpy()).mean()
    assert second["difference"]["mAP"]["mean"] == pytest.approx(gain, abs=1e-4)
    assert gain == pytest.approx(100 * (second["mAP"] - first["mAP"]), abs=1e-4)
    assert first["difference"] == {}

    models = {model["network"]: model for model in found["models"]}
    assert [model["descriptor"] for model in found["models"]] == [6 * 24, 6 * 128]
    assert [model["trained_on"] for model in found["models"]] == ["Synthetic", "Synthetic"]
    assert list(models) == ["AAformer"]
    assert found["models"][0]["speed"] == 1.0
    assert f"| {100 * second['mAP']:.1f} | {100 * second['rank1']:.1f} |" in (folder / "comparison.md").read_text()
    assert (folder / "comparison.html").read_text().count("<table>") == 3


def test_cut_off_crops_are_tested_as_evaluate_tests_them(trained, data_dir, tmp_path):
    options = (f"ckpt=[{trained}]", "data=[synthetic]", "data.cut=[0.4,0]", "formats=md")
    assert compare(data_dir, tmp_path, *options) == 0
    folder = only(tmp_path.rglob("comparison.json")).parent
    whole, cut = read_json(folder / "comparison.json")["results"]
    assert (whole["cut"], cut["cut"]) == (0, 0.4)
    assert whole["mAP"] == pytest.approx(read_json(trained / "metrics.json")["test/mAP"], abs=1e-9)
    assert whole["nmi"] != cut["nmi"]
    assert (folder / "misalignment.png").stat().st_size > 10_000

    options = (f"ckpt={trained}", "data.cut=0.4", "stability=0", f"paths.runs={tmp_path}", "trainer=cpu")
    assert run_cli("evaluate", *options, "data.num_workers=0", "trainer.enable_progress_bar=false") == 0
    evaluated = read_json(only(tmp_path.glob("**/evaluate/**/metrics.json")))
    assert evaluated["test/mAP"] == pytest.approx(cut["mAP"], abs=1e-9)
    assert evaluated["test/mAP"] != pytest.approx(whole["mAP"], abs=1e-3)


def test_tables_of_ones_own_are_data_sets_of_their_own(trained, people, tmp_path):
    for site, pids in (("north", 3), ("south 2", 4)):
        rows = [
            {"path": str(path), "pid": path.name.split("_")[0], "camid": path.name.split("_")[1][:2], "split": split}
            for split, folder in (("query", "query"), ("gallery", "bounding_box_test"))
            for path in sorted((people / folder).glob("*.jpg"))
        ]
        frame = pd.DataFrame(rows)
        frame[frame.pid.isin(sorted(frame.pid.unique())[:pids])].to_csv(tmp_path / f"{site}.csv", index=False)
    tables = f"data=[{tmp_path}/north.csv,'{tmp_path}/south 2.csv']"
    options = (*QUIET, "data.num_workers=0", f"paths.runs={tmp_path}", "formats=md")
    assert run_cli("compare", f"ckpt=[{trained}]", tables, *options) == 0
    found = read_json(only(tmp_path.rglob("comparison.json")))
    assert [result["data"] for result in found["results"]] == ["north", "south 2"]
    assert [len(set(pd.read_csv(tmp_path / f"{site}.csv").pid)) for site in ("north", "south 2")] == [3, 4]
    assert found["results"][0]["mAP"] != found["results"][1]["mAP"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["ckpt=[TRAINED]", "data=[a/site.csv,b/site.csv]"], "two that are called site"),
        (["ckpt=[TRAINED]", "data=[none.csv]"], "none.csv"),
        (["ckpt=[TRAINED,none.ckpt]"], "no checkpoint at none.ckpt"),
        (["ckpt=[TRAINED,TRAINED]"], "is given twice"),
        (["ckpt=[]"], "no model is given"),
        (["ckpt=[TRAINED]", "data=[synthetic,market1501]"], "Market-1501 was not found"),
        (
            ["ckpt=[TRAINED]", "data=[synthetic,marked1501]"],
            "there is no data=marked1501. Did you mean data=market1501?",
        ),
        (["ckpt=[TRAINED]", "formats=[xls]"], "formats must be one of txt, md, tex, html; got 'xls'"),
        (["ckpt=[TRAINED]", "speed.repeats=0"], "speed.repeats=0 is too small. Use 1 or more"),
        (["ckpt=[TRAINED]", "data.cut=[0,1]"], "data.cut=[0, 1] must be shares of the height"),
        (["ckpt=[TRAINED]", "data.cut=[0.2,0.2]"], "each once"),
        (["ckpt=[TRAINED]", "trainer.devices=2"], "models are compared on one device"),
    ],
)
def test_mistakes_are_told_before_anything_is_tested(trained, data_dir, tmp_path, capsys, options, message):
    assert compare(data_dir, tmp_path, *(option.replace("TRAINED", str(trained)) for option in options)) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.rglob("metrics.json"))
    assert not list(tmp_path.rglob("comparison.*"))
