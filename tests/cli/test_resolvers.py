"""Names of runs."""

from pathlib import Path

from hydra import compose, initialize_config_dir

from aaformer_lit.cli import resolvers  # noqa: F401  # known to OmegaConf from here on
from aaformer_lit.cli.paths import CONF_DIR


def test_what_is_trained_twice_in_one_slurm_job_has_two_directories(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")

    def run_dir() -> Path:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            cfg = compose("train", ["run_dir=RUN", f"paths.runs={tmp_path}"], return_hydra_config=True)
            return Path(cfg.hydra.run.dir)

    first = run_dir()
    assert first.name == "77"
    first.mkdir(parents=True)
    assert run_dir() == first, "another rank, or the job after it was put back into the queue"
    (first / "metrics.json").touch()
    assert run_dir() == first.with_name("77-2")
