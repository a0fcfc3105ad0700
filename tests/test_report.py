"""The report entry point on made-up runs, and that rows, sweeps and tables speak of the same configs."""

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aaformer_lit.cli.messages import user_message
from aaformer_lit.cli.paths import CONF_DIR
from aaformer_lit.cli.resolvers import config_hash
from aaformer_lit.tables import PaperTable, Run
from aaformer_lit.tables.join import place
from cli_tools import only, run_cli
from table_tools import AAFORMER, NEAREST, write_run


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


def composed(*overrides: str, name: str = "train"):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose(name, [*overrides, "run_dir=RUN"], return_hydra_config=True)


def paper_table(name: str) -> PaperTable:
    return PaperTable.from_config(OmegaConf.to_container(composed(f"table={name}", name="report").table))


def swept(name: str) -> list[str]:
    """The overrides of one seed's jobs of a sweep."""
    params = dict(composed(f"sweep={name}").hydra.sweeper.params)
    assert params.pop("seed") == "0,1,2"
    ((key, values),) = params.items()
    (override,) = OverridesParser.create().parse_overrides([f"{key}={values}"])
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


@pytest.mark.parametrize("name", options("sweep"))
def test_each_job_of_a_sweep_is_one_row_of_its_table(name):
    table = paper_table(name)
    rows = []
    for job in swept(name):
        cfg = composed(f"sweep={name}", job)
        plain = OmegaConf.to_container(cfg.model, resolve=True)
        row, _ = place(table, Run(CONF_DIR, "finished", {"model": plain, "part_start": cfg.part_start}))
        assert row is not None, job
        rows.append(row.key)
        if job.startswith("row="):
            assert row.key == job.removeprefix("row=")
    assert sorted(rows) == sorted(row.key for row in table.rows)
    assert (cfg.sweep, cfg.resume) == (name, "auto")


@pytest.mark.parametrize("row", options("row"))
def test_every_row_builds(row):
    cfg = composed(
        f"row={row}", "model/backbone=small_scratch", "model.backbone.patch_size=8", "data.image_size=[64,32]"
    )
    network = instantiate(cfg.model, num_classes=3)
    parts = {"vit_baseline": (), "transreid": (4,), "six_cls": (5,)}
    default = (6,) if row.startswith(("pcb", "spreid")) else (2, 3)
    assert network.granularities == parts.get(row, default)


def test_parsing_rows_have_a_part_per_mask_or_say_that_there_are_none():
    assert composed("row=spreid_pool", "~data.mask_parts.arms").model.parts == [5]
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.to_container(composed("row=spreid_pool", "data=market1501").model, resolve=True)
    assert "Give masks of your images with data.masks=DIR" in (user_message(caught.value) or "")


def test_the_hash_is_about_what_is_run_not_about_the_sweep():
    plain, swept_over = composed(), composed("sweep=table5", "row=aaformer")
    for cfg in (plain, swept_over):
        OmegaConf.set_struct(cfg, False)
    assert config_hash(plain) == config_hash(swept_over)
    assert config_hash(plain) != config_hash(composed("callbacks=ema"))
    assert config_hash(plain) != config_hash(composed("row=nearest"))


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


@pytest.mark.parametrize(
    ("override", "message"),
    [("runs=/nowhere", "no folder /nowhere"), ("formats=[doc]", "no format 'doc'"), ("reference=x", "no row 'x'")],
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
    common = ("table=table5", "formats=[md]", "reference=nearest", "bootstrap.samples=200")
    for runs, out, extra in ((tmp_path / "runs", "first", [f"keep={kept}"]), (kept, "second", [])):
        assert run_cli("report", *common, f"runs={runs}", f"run_dir={tmp_path / out}", *extra) == 0
    tables = [(tmp_path / out / "table5.md").read_text() for out in ("first", "second")]
    assert tables[0] == tables[1]
    assert "95% interval" in tables[0]
    files = sorted(path for path in kept.rglob("*") if path.is_file())
    assert {path.name for path in files} == {"metadata.json", "metrics.json", "per_query.parquet"}
    assert len(files) == 12
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in files)
