"""The report entry point on made-up runs, and that rows, sweeps and tables speak of the same configs."""

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aaformer_lit.cli.messages import user_message
from aaformer_lit.cli.options import ablation_pins, options_of
from aaformer_lit.cli.paths import CONF_DIR
from aaformer_lit.cli.resolvers import config_hash
from aaformer_lit.data import DATASETS
from aaformer_lit.tables.collect import Run
from aaformer_lit.tables.compare import query_scores
from aaformer_lit.tables.join import merge, place
from cli_tools import only, run_cli
from table_tools import AAFORMER, BASELINE, NEAREST, SINKHORN, paper_table, write_run


def composed(*overrides: str, name: str = "train"):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose(name, [*overrides, "run_dir=RUN"], return_hydra_config=True)


def swept(name: str) -> list[str]:
    """The overrides of one seed's jobs of a sweep."""
    params = dict(composed(f"sweep={name}").hydra.sweeper.params)
    assert params.pop("seed") == "0,1,2"
    ((key, values),) = params.items()
    (override,) = OverridesParser.create().parse_overrides([f"{key}={values}"])
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


@pytest.mark.parametrize("name", options_of("sweep"))
def test_each_job_of_a_sweep_is_one_row_of_its_table(name):
    table = paper_table(name)
    rows, settings = [], []
    for job in swept(name):
        cfg = composed(f"sweep={name}", job)
        trained = ("model", "optim", "loss", "place_loss")
        plain = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in trained if cfg[key]}
        plain["data"] = {"transforms": OmegaConf.to_container(cfg.data.transforms)}
        row, setting = place(table, Run(CONF_DIR, "finished", plain | {"part_start": cfg.part_start}))
        assert row is not None, job
        rows.append(row.key)
        settings.append(setting)
        if job.startswith("ablation="):
            assert row.key == job.removeprefix("ablation=")
    assert len(set(rows)) == len(rows)
    assert len(merge(settings)) == 1, "rows of one sweep stand in one column"
    started_apart = {row.key for row in table.rows} - set(rows)  # with values of their own, as the sweep's file says
    header = (CONF_DIR / "sweep" / f"{name}.yaml").read_text()
    assert all(f"-m sweep={name} ablation={row} " in header for row in started_apart)
    assert (cfg.sweep, cfg.resume) == (name, "auto")


@pytest.mark.parametrize("ablation", options_of("ablation"))
def test_every_ablation_builds(ablation):
    cfg = composed(
        f"ablation={ablation}", "model/backbone=small_scratch", "model.backbone.patch_size=8", "data.image_size=[64,32]"
    )
    network = instantiate(cfg.model, num_classes=3)
    parts = {"vit_baseline": (), "transreid": (4,), "six_cls": (5,)}
    default = (6,) if ablation.startswith(("pcb", "spreid")) else (2, 3)
    assert network.granularities == parts.get(ablation, default)


def test_parsing_ablations_have_a_part_per_mask_or_say_that_there_are_none():
    assert composed("ablation=spreid_pool", "~data.mask_parts.arms").model.parts == [5]
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.to_container(composed("ablation=spreid_pool", "data=market1501").model, resolve=True)
    assert "Give masks of your images with data.masks=DIR" in (user_message(caught.value) or "")


def test_the_hash_is_about_what_is_run_not_about_the_sweep():
    plain, swept_over = composed(), composed("sweep=table5", "ablation=aaformer")
    for cfg in (plain, swept_over):
        OmegaConf.set_struct(cfg, False)
    assert config_hash(plain) == config_hash(swept_over)
    assert config_hash(plain) != config_hash(composed("callbacks=ema"))
    assert config_hash(plain) != config_hash(composed("ablation=nearest"))


def test_the_report_is_printed_and_written_in_every_format(tmp_path, capsys):
    write_run(tmp_path / "runs" / "a", AAFORMER, 0, queries=[0.75, 1.0])
    write_run(tmp_path / "runs" / "b", NEAREST, 0, queries=[0.5, 0.75])
    overrides = ["table=table5", f"runs={tmp_path}/runs", f"paths.runs={tmp_path}/out", "bootstrap.samples=20"]
    assert run_cli("report", *overrides) == 0
    printed = capsys.readouterr().out
    folder = only((tmp_path / "out" / "report").iterdir())
    assert (folder / "table5.txt").read_text().strip() in printed
    names = {path.name for path in folder.iterdir() if path.name.startswith("table5")}
    assert names == {"table5.txt", "table5.md", "table5.tex", "table5.csv", "table5-cuhk03_labeled.png"}


def test_queries_of_one_file_name_are_told_apart_by_whom_they_show(tmp_path):
    scores = [0.9, 0.2, 0.6, 0.4]
    folder = write_run(tmp_path / "one", AAFORMER, queries=scores)
    table = pd.read_parquet(folder / "per_query.parquet")
    names = table["query"].map({f"{i}.jpg": f"{i % 2}.jpg" for i in range(4)})
    people = table["query"].map({f"{i}.jpg": 7 - i // 2 for i in range(4)})
    table.assign(query=names, pid=people).to_parquet(folder / "per_query.parquet")
    found = query_scores(Run(folder, "finished", {}, {}, {}), "mAP")
    assert (found.index.is_unique, found.tolist()) == (True, [60, 90, 40, 20])  # by name, then pid


def test_an_ablations_pins_are_what_its_config_says():
    assert ablation_pins("balanced") == {
        "model": {
            "_target_": "aaformer_lit.models.AAformer",
            "parts": [2, 3],
            "assigner": SINKHORN | {"rounding": "balanced"},
        }
    }
    assert ablation_pins("vit_baseline") == {"model": BASELINE}
    assert ablation_pins("from_cls") == ablation_pins("aaformer") | {"part_start": "cls"}
    parsing = {"_target_": "aaformer_lit.assign.Parsing"}
    assert ablation_pins("spreid_pool") == {"model": {"_target_": "aaformer_lit.models.PooledViT", "assigner": parsing}}


def test_a_table_says_ablation_where_there_is_one():
    for name in options_of("table"):
        path = CONF_DIR / "table" / f"{name}.yaml"
        assert "_target_" not in path.read_text(), name
        content = OmegaConf.load(path)
        assert content.get("reference") in (None, *content.rows), name


@pytest.mark.parametrize("name", options_of("table"))
def test_tables_name_data_sets_and_variants_as_the_data_sets_do(name):
    for column, wanted in (composed(f"table={name}", name="report").table.data or {}).items():
        published = DATASETS[wanted.name].published
        assert set(wanted.get("variants", [])) <= published.keys(), column
        for variant in wanted.get("variants") or published:
            fingerprint = {"name": wanted.name, "variant": variant, "as_published": True}
            assert paper_table(name).paper_column(fingerprint) == column


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("runs=/nowhere", "no folder /nowhere"),
        ("formats=[doc]", "formats must be one of txt, md, tex, html, csv, png; got 'doc'"),
        ("reference=x", "no row 'x'"),
        ("bootstrap.samples=0", "bootstrap.samples=0 is too small. Use 1 or more"),
    ],
)
def test_a_mistake_is_one_message(override, message, tmp_path, capsys):
    write_run(tmp_path / "runs", AAFORMER)
    overrides = ["table=table5", f"paths.runs={tmp_path}", "formats=[]", override]
    assert run_cli("report", *overrides) == 2
    assert message in capsys.readouterr().err


def test_kept_runs_give_the_same_table_and_no_path_of_this_machine(tmp_path):
    scores = np.linspace(0, 1, 20)
    weights = {"model__backbone": {"name": "vit", "weights": str(tmp_path / "vit.safetensors")}}
    for seed in (0, 1):
        write_run(tmp_path / "runs" / f"a{seed}", {**AAFORMER}, seed, queries=scores**0.9, **weights)
        write_run(tmp_path / "runs" / f"n{seed}", {**NEAREST}, seed, queries=scores, **weights)
    (tmp_path / "runs" / "a0" / "last.ckpt").write_bytes(b"large")
    kept = tmp_path / "kept"
    common = ("table=table5", "formats=md", "reference=nearest", "bootstrap.samples=200")
    for runs, out, extra in ((tmp_path / "runs", "first", [f"keep={kept}"]), (kept, "second", [])):
        assert run_cli("report", *common, f"runs={runs}", f"run_dir={tmp_path / out}", *extra) == 0
    tables = [(tmp_path / out / "table5.md").read_text() for out in ("first", "second")]
    assert tables[0] == tables[1]
    assert "95% interval" in tables[0]
    files = sorted(path for path in kept.rglob("*") if path.is_file())
    assert {path.name for path in files} == {"metadata.json", "metrics.json", "per_query.parquet"}
    assert len(files) == 12
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in files)
