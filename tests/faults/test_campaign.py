"""A few trials of the kill-and-resume campaign; `make soak` runs all of them."""

import os
import subprocess
import sys
from pathlib import Path

CAMPAIGN = Path(__file__).with_name("campaign.py")


def test_a_killed_training_ends_as_an_unbroken_one(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CAMPAIGN.parents[1]), "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(CAMPAIGN), "--quick"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].split() == ["all", "4", "4", "0"]
