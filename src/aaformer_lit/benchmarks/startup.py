"""What every command pays before it does anything, and every job of a sweep again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from aaformer_lit.benchmarks.measure import Measurement, compare, fastest
from aaformer_lit.errors import AAformerError

HELP = (sys.executable, "-m", "aaformer_lit.train", "--help")


def startup(full: bool, repeats: int) -> Iterator[Measurement]:
    """`train --help` against importing torch, lightning and timm, each in a new process."""
    if "Groups" not in _run(*HELP):
        raise AAformerError("python -m aaformer_lit.train --help did not print its groups.")
    seconds = compare(
        lambda: _run(*HELP), lambda: _run(sys.executable, "-c", "import torch, lightning, timm"), min(repeats, 3)
    )
    floor = fastest(lambda: _run(sys.executable, "-c", "import hydra.main, rich.table"), min(repeats, 3))
    what, against = "train --help", "import torch, lightning, timm"
    yield Measurement("startup", what, against, *seconds, floor, "importing hydra and rich")


def _run(*command: str) -> str:
    # without what tells the processes of a job that they belong to it
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AAFORMER_")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
