"""Which unfinished run `resume=auto` continues."""

import os

from omegaconf import OmegaConf

from aaformer_lit.cli.resolvers import _started
from aaformer_lit.cli.unfinished import same_run


def test_the_newest_run_is_the_one_started_last_whatever_it_is_called(tmp_path):
    names = ["99999", "2026-01-01_10-00-00", "100000"]  # of SLURM's jobs, and of a run outside them
    for seconds, name in enumerate(names):
        config = tmp_path / "hash" / name / "config.yaml"
        config.parent.mkdir(parents=True)
        OmegaConf.save({"seed": 0}, config)
        os.utime(config, (1_000 + seconds, 1_000 + seconds))
    assert same_run(tmp_path, {"seed": 0}).name == "100000"
    assert same_run(tmp_path, {"seed": 1}) is None


def test_ranks_of_a_launcher_agree_on_a_folder_and_calls_of_one_second_do_not(monkeypatch):
    first, second = "2026-01-01_10-00-00-000001", "2026-01-01_10-00-00-000002"
    for name in ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert _started(first) != _started(second)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "7")
    assert _started(first) == _started(second) == "2026-01-01_10-00-00"
