"""A sweep that is started twice: each job in its own place, a failure told and passed over, finished jobs left alone."""

from pathlib import Path

from cli_tools import TINY, only, run_cli


def test_a_failed_job_is_told_the_others_finish_and_are_not_run_again(tmp_path, data_dir, capsys):
    # 64x32 images in patches of 16 have four rows, too few for PCB's six stripes
    overrides = [*TINY, "model.backbone.patch_size=16", f"paths.data={data_dir}", f"paths.runs={tmp_path}"]
    sweep = ["-m", "sweep=table4", "ablation=pcb_pool,vit_baseline,mgn_pool", "seed=0", *overrides]
    assert run_cli("train", *sweep) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot cut 6 stripes" in said
    assert "1 of 3 jobs in" in said
    folder = tmp_path / "sweeps" / "table4-synthetic"
    jobs = {path.parent for path in folder.glob("*/config.yaml")}
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("*/metrics.json")}
    (failed,) = jobs - {path.parent for path in finished}
    assert len(jobs) == 3
    assert "cannot cut 6 stripes" in (failed / "failure.txt").read_text()

    assert run_cli("train", *sweep) == 2  # started again: only what failed is tried
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/metrics.json")} == finished
    capsys.readouterr()

    reported = [f"runs={folder}", f"paths.runs={tmp_path}", "formats=[csv]", "bootstrap.samples=50"]
    assert run_cli("report", "table=table4", *reported) == 0
    printed = capsys.readouterr().out
    assert "failed: +PCB, pooling, seed 0" in printed
    assert "cannot cut 6 stripes" in printed
    table = only(Path(tmp_path, "report").glob("*/table4.csv")).read_text().splitlines()
    assert sum(",mAP,0," in line for line in table) == 2


def test_a_sweep_ends_with_the_number_of_its_failures(tmp_path, data_dir, capsys):
    overrides = [*TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}", "model.parts=[0]"]
    assert run_cli("train", "-m", "seed=0,1", *overrides) == 2
    last = " ".join(capsys.readouterr().err.split())
    assert "2 of 2 jobs in" in last
    assert "failed; failure.txt in the folder of each says why. One of them: parts must be" in last
