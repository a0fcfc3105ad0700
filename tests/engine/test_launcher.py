"""Ranks that do not end by themselves are ended, and the first goes on."""

import subprocess
import sys

from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver

from aaformer_lit.engine import launcher


def test_several_ranks_that_hang_are_ended_without_the_first(monkeypatch):
    monkeypatch.setattr(launcher, "_SHUTDOWN_TIMEOUT", 0.5)
    first, *others = (subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(3))
    observer = _ChildProcessObserver(main_pid=first.pid, child_processes=others.copy(), sleep_period=0.05)
    observer.start()
    try:
        launcher.end_started_ranks()
        observer.join(5)
        assert [process.wait(5) != 0 for process in others] == [True, True]
        assert first.poll() is None, "Lightning has ended it for the others' sake"
    finally:
        for process in (first, *others):
            process.kill()
            process.wait()
