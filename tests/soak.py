"""Everything that can befall a training, done to one: `make soak`.

Runs the kill-and-resume campaign, the deaths of ranks and the catalog of bad input, and prints what was tried, survived
and lost.
"""

import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS / "faults")]

import campaign  # noqa: E402 found only now


def cases(name: str, path: str) -> dict[str, tuple[int, int]]:
    """(tried, lost) of the tests in a file, the slow ones among them, under `name`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", str(TESTS / path)]
        subprocess.run(command, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=TESTS.parent)
        suite = next(ElementTree.parse(report).iter("testsuite"))
    count = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    return {name: (count["tests"] - count["skipped"], count["failures"] + count["errors"])}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        outcome = Path(folder, "campaign.json")
        campaign.main(["--json", str(outcome), *sys.argv[1:]])
        trials = json.loads(outcome.read_text())
    tried = Counter(trial["kind"] for trial in trials)
    lost = Counter(trial["kind"] for trial in trials if trial["wrong"])
    outcomes = {kind: (tried[kind], lost[kind]) for kind in tried}
    outcomes |= cases("death of a rank", "cli/test_processes.py") | cases("bad input", "test_bad_input.py")
    campaign.say(f"\n{datetime.date.today()}, {os.cpu_count()} CPU cores\n{campaign.summary(outcomes)}")
    return int(any(bad for _, bad in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
