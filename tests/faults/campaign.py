"""Kill a training, start it again, and compare with one that was never interrupted, bit for bit.

    PYTHONPATH=tests python tests/faults/campaign.py            # the whole campaign: minutes
    PYTHONPATH=tests python tests/faults/campaign.py --quick    # a few kill points

One process imports everything and forks a child for each start, so that a trial costs seconds. A fault is either a signal
from outside after a random time, or planted in the child at a point of the code that time would hardly hit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import pandas as pd
import torch

import aaformer_lit.data
import aaformer_lit.engine.testing
import aaformer_lit.train
from aaformer_lit.checkpoints import io
from aaformer_lit.cli.console import console
from aaformer_lit.engine.module import ReIDModule
from aaformer_lit.utils import files
from cli_tools import TINY_DATA, only, run_cli

EPOCHS = 5
MODEL = ("model/backbone=small_scratch", "model.backbone.depth=1", "model.backbone.embed_dim=24",
         "model.backbone.patch_size=8", "model.backbone.drop_path=0.3", "model.parts=[2]")  # fmt: skip
TRAINER = ("trainer=cpu", f"trainer.max_epochs={EPOCHS}", "trainer.enable_progress_bar=false",
           "trainer.check_val_every_n_epoch=1", "resume=auto")  # fmt: skip
VARIANTS = {
    "plain": (),
    "workers": ("data.num_workers=2",),
    "ema, held-out ids": ("callbacks=ema", "data.val_ids=0.25", "data.ids_per_batch=2"),
    "adamw, accumulation": ("optim=adamw", "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1.0"),
}
Fault = Callable[[], None]


@dataclass(frozen=True)
class Trial:
    """One training that is hit by each of `faults` in turn and then left alone."""

    kind: str
    name: str
    variant: str = "plain"
    faults: tuple[Fault, ...] = ()  # planted in the child before it trains
    signals: tuple[tuple[float, int], ...] = ()  # (share of a whole run's time, signal), sent from outside
    group: bool = False  # whether the signals go to the loader's workers too, as a scheduler sends them
    between: Callable[[Path], None] | None = None  # what happens to the run's directory while nothing runs
    codes: tuple[int, ...] = (-signal.SIGKILL, 0)  # exit codes a hit child may have
    says: str = ""  # what the log of the hit child, or of the one after, must say


# -- faults that a child carries ------------------------------------------------------------------------------------------


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Half:
    """A file of which only half is written when the process dies."""

    def __init__(self, file) -> None:
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content) -> None:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        kill()


def while_writing(nth: int, name: str = "last.ckpt") -> Fault:
    """SIGKILL when half of the `nth` checkpoint is in its temporary file."""

    def plant() -> None:
        seen = Counter()

        def opened(path, mode):
            seen[path.name] += 1
            file = open(path, mode)  # noqa: SIM115 the code under test closes it
            return Half(file) if (path.name, seen[path.name]) == (f".{name}.tmp", nth) else file

        files.open = opened

    return plant


def at_rename(nth: int, target: str, after: bool = False) -> Fault:
    """SIGKILL right before (or after) the `nth` rename to `target`."""

    def plant() -> None:
        replace, seen = os.replace, Counter()

        def killing(source, to, **options):
            seen[Path(to).name] += 1
            hit = (Path(to).name, seen[Path(to).name]) == (target, nth)
            if hit and not after:
                kill()
            replace(source, to, **options)
            if hit:
                kill()

        os.replace = killing

    return plant


def at_method(owner: type, method: str, nth: int = 1) -> Fault:
    """SIGKILL when `method` is entered for the `nth` time."""

    def plant() -> None:
        original, calls = getattr(owner, method), Counter()

        def killing(*args, **options):
            calls[method] += 1
            if calls[method] == nth:
                kill()
            return original(*args, **options)

        setattr(owner, method, killing)

    return plant


def at_writing_json(name: str) -> Fault:
    def plant() -> None:
        write = aaformer_lit.utils.files.write_json

        def killing(path, content):
            if path.name == name:
                kill()
            write(path, content)

        aaformer_lit.utils.files.write_json = killing

    return plant


def disk_full(nth: int) -> Fault:
    """From the `nth` checkpoint on, no file may grow beyond 20 kB: as on a full disk, a write fails in its middle."""

    def plant() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        sys.dont_write_bytecode = True  # half a compiled module would break the children that come after
        serialized, seen = io.serialized, Counter()

        def limited(content):
            seen["saves"] += 1
            if seen["saves"] == nth:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
            return serialized(content)

        io.serialized = limited

    return plant


# -- what happens while nothing runs --------------------------------------------------------------------------------------


def truncate(run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    os.truncate(last, last.stat().st_size * 2 // 3)


def flip_a_bit(run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 16
    last.write_bytes(content)


def lose(run: Path) -> None:
    (run / "checkpoints" / "last.ckpt").unlink()


def lose_log(run: Path) -> None:
    (run / "metrics.csv").unlink()


# -- running and comparing ------------------------------------------------------------------------------------------------


class Bench:
    """Starts trainings in forked children and compares what they leave."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.whole: dict[str, tuple[Path, float]] = {}

    def reference(self, variant: str) -> tuple[Path, float]:
        """The run directory of an unbroken training, and how long it took."""
        if variant not in self.whole:
            runs = self.folder / f"whole{len(self.whole)}"
            started = time.monotonic()
            code = self.wait(self.start(runs, variant))
            assert code == 0, log_of(runs)
            self.whole[variant] = only(runs.rglob("metrics.json")).parent, time.monotonic() - started
        return self.whole[variant]

    def start(self, runs: Path, variant: str, fault: Fault | None = None) -> int:
        """Fork a child that trains as `python -m aaformer_lit.train` would; returns its pid."""
        runs.mkdir(exist_ok=True)
        options = (*TINY_DATA, *MODEL, *TRAINER, *VARIANTS[variant], f"paths.data={self.data}", f"paths.runs={runs}")
        sys.stdout.flush()
        if pid := os.fork():
            return pid
        code = 1
        try:
            os.setsid()
            log = os.open(runs / "log.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            console.file = sys.stdout
            note_batches(runs / "batches.txt")
            if fault is not None:
                fault()
            code = run_cli("train", *options)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def wait(self, pid: int, after: float | None = None, number: int = signal.SIGKILL, group: bool = False) -> int:
        """Exit code of the child as `subprocess` gives it, after sending it (or its whole group) a signal at a time."""
        if after is not None:
            time.sleep(after)
            (os.killpg if group else os.kill)(pid, number)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def run(self, trial: Trial, index: int) -> list[str]:
        """What went wrong in a trial: nothing, if the training ended as an unbroken one."""
        whole, duration = self.reference(trial.variant)
        runs = self.folder / f"trial{index}"
        codes = [self.wait(self.start(runs, trial.variant, fault)) for fault in trial.faults]
        for share, number in trial.signals:
            codes.append(self.wait(self.start(runs, trial.variant), share * duration, number, trial.group))
        wrong = [f"exit code {code}" for code in codes if code not in trial.codes]
        if trial.between is not None:
            trial.between(only(runs.rglob("metadata.json")).parent)
        code = self.wait(self.start(runs, trial.variant))
        if code:
            return [*wrong, f"the continued training ended with {code}: {log_of(runs)[-2000:]}"]
        if trial.says not in " ".join(log_of(runs).split()):
            wrong.append(f"nothing says {trial.says!r}: {log_of(runs)[-2000:]}")
        finished = [path.parent for path in runs.rglob("metrics.json")]
        # killed right before the end's last breath, the run was finished, and the next start is a run of its own
        for run in finished:
            wrong += differences(whole, run)
        if set(batches(whole.parents[2])) != set(batches(runs)):
            wrong.append("other batches were drawn")
        if not wrong:
            shutil.rmtree(runs)
        return wrong


def note_batches(path: Path) -> None:
    """Let the module write down the images of each batch it trains on."""
    step = ReIDModule.training_step

    def noting(self, batch, batch_idx):
        with path.open("a") as file:
            file.write(
                f"{self.current_epoch} {batch_idx} {batch['index'].tolist()} {batch['image'].double().sum():.17g}\n"
            )
        return step(self, batch, batch_idx)

    ReIDModule.training_step = noting


def batches(runs: Path) -> list[str]:
    return (runs / "batches.txt").read_text().splitlines()


def log_of(runs: Path) -> str:
    return (runs / "log.txt").read_text()


def differences(whole: Path, run: Path) -> list[str]:
    """What of two runs is not equal to the bit: weights, optimizer, schedule, random state, metrics, features' ranking."""
    found = []
    for name in ("last.ckpt", "last.previous.ckpt", "best.ckpt"):
        paths = [one / "checkpoints" / name for one in (whole, run)]
        if paths[0].exists() != paths[1].exists():
            found.append(f"{name} is in one of the two only")
        elif paths[0].exists():
            contents = [torch.load(path, weights_only=True) for path in paths]
            found += [f"{name}: {where}" for where in unequal(*contents, str(whole), str(run))]
    for name in ("metrics.csv", "metrics.json"):
        if (whole / name).read_bytes() != (run / name).read_bytes():
            found.append(f"{name}: {(whole / name).read_text()}\n-----\n{(run / name).read_text()}")
    if not pd.read_parquet(whole / "per_query.parquet").equals(pd.read_parquet(run / "per_query.parquet")):
        found.append("per_query.parquet")
    return found + [f"left behind: {path}" for path in run.rglob("*.tmp")]


def unequal(one, two, whole: str, run: str, where: str = "") -> list[str]:
    """Paths into two nested structures at which they differ; each holds its own run directory in its strings."""
    if isinstance(one, torch.Tensor):
        same = isinstance(two, torch.Tensor) and one.dtype == two.dtype and torch.equal(one, two)
        return [] if same else [where]
    if isinstance(one, dict):
        one = {plain(key, whole): value for key, value in one.items()}
        two = {plain(key, run): value for key, value in two.items()} if isinstance(two, dict) else {}
        if one.keys() != two.keys():
            return [f"{where}: keys {sorted(map(str, one.keys() ^ two.keys()))}"]
        one.pop("current_score", None)  # of a ModelCheckpoint: written, never read, and not restored when continued
        return [at for key in one for at in unequal(one[key], two[key], whole, run, f"{where}/{key}")]
    if isinstance(one, list | tuple):
        if not isinstance(two, list | tuple) or len(one) != len(two):
            return [f"{where}: lengths"]
        return [
            at for i, pair in enumerate(zip(one, two, strict=True)) for at in unequal(*pair, whole, run, f"{where}/{i}")
        ]
    return [] if plain(one, whole) == plain(two, run) else [f"{where}: {one!r} and {two!r}"]


def plain(value, folder: str):
    return value.replace(folder, "RUN") if isinstance(value, str) else value


# -- the campaign ---------------------------------------------------------------------------------------------------------


def quick() -> list[Trial]:
    return [
        Trial("SIGKILL at a point", "half a checkpoint written", "ema, held-out ids", (while_writing(3),)),
        Trial("SIGKILL at a point", "between the two renames", faults=(at_rename(2, "last.ckpt"),)),
        Trial("damaged checkpoint", "truncated", faults=(at_method(ReIDModule, "training_step", 10),), between=truncate,
              says="Trying the one before"),
        Trial("disk full", "third checkpoint", faults=(disk_full(3),), codes=(2,), says="MiB are free there"),
    ]  # fmt: skip


def campaign(seed: int, kills: int) -> list[Trial]:
    rng = random.Random(seed)
    variants = list(VARIANTS)
    trials = []
    for i in range(kills):
        share = rng.uniform(0.05, 1.0)
        trials.append(
            Trial("SIGKILL at a random time", f"at {share:.0%}", variants[i % 4], signals=((share, signal.SIGKILL),))
        )
    for i in range(3):
        shares = sorted(rng.uniform(0.1, 0.9) for _ in range(3))
        name = f"three times, after {', '.join(f'{share:.0%}' for share in shares)}"
        hits = tuple((share, signal.SIGKILL) for share in shares)
        trials.append(Trial("SIGKILL at a random time", name, variants[i], signals=hits))
    points = {
        "half of the first checkpoint written": while_writing(1),
        "half of the last checkpoint written": while_writing(EPOCHS),
        "checkpoint written, not renamed": at_rename(3, "last.previous.ckpt"),
        "between the two renames": at_rename(3, "last.ckpt"),
        "right after the rename": at_rename(3, "last.ckpt", after=True),
        "in the first batch": at_method(ReIDModule, "training_step", 1),
        "at the end of an epoch, before saving": at_method(ReIDModule, "on_save_checkpoint", 2),
        "a row of metrics.csv not renamed": at_rename(5, "metrics.csv"),
        "as the test begins": at_method(ReIDModule, "on_test_epoch_start"),
        "before metrics.json": at_writing_json("metrics.json"),
    }
    for i, (name, fault) in enumerate(points.items()):
        trials.append(Trial("SIGKILL at a point", name, variants[i % 4], (fault,)))
    best = "ema, held-out ids"
    trials += [
        Trial("SIGKILL at a point", "half of best.ckpt written", best, (while_writing(1, "best.ckpt"),)),
        Trial("SIGKILL at a point", "best.ckpt written, last.ckpt not", best, (at_rename(1, "best.ckpt", after=True),)),
        Trial("SIGKILL at a point", "as the test of the average begins", best, (at_method(ReIDModule, "on_test_epoch_start"),)),
        Trial("SIGKILL at a point", "twice while writing", faults=(while_writing(2), while_writing(1))),
    ]  # fmt: skip
    for i in range(6):
        share = rng.uniform(0.3, 1.0)
        # before the training the signal ends the process at once, as it ends any
        trials.append(Trial("SIGTERM at a random time", f"at {share:.0%}", variants[i % 4],
                            signals=((share, signal.SIGTERM),), codes=(143, -signal.SIGTERM, 0)))  # fmt: skip
    for share in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
        trials.append(Trial("SIGTERM at a random time", f"to all processes, at {share:.0%}", "workers", group=True,
                            signals=((share, signal.SIGTERM),), codes=(143, -signal.SIGTERM, 0)))  # fmt: skip
    stop = at_method(ReIDModule, "training_step", 12)
    for name, damage, says in (
        ("truncated", truncate, "Trying the one before"),
        ("a bit flipped", flip_a_bit, "Trying the one before"),
        ("deleted", lose, "continuing after epoch"),
        ("metrics.csv deleted", lose_log, "continuing after epoch"),
    ):
        trials.append(Trial("damaged checkpoint", name, faults=(stop,), between=damage, says=says))
    trials.append(Trial("damaged checkpoint", "truncated, then killed between the renames", between=None,
                        faults=(stop, truncating(at_rename(1, "last.ckpt"))), says="Trying the one before"))  # fmt: skip
    for nth in (1, 3, EPOCHS):
        says = "MiB are free there"
        trials.append(Trial("disk full", f"checkpoint {nth}", faults=(disk_full(nth),), codes=(2,), says=says))
    return trials


def truncating(fault: Fault) -> Fault:
    """The checkpoint of the run so far is cut before the fault is planted."""

    def plant() -> None:
        truncate(only(Path(f"/proc/{os.getpid()}/fd/1").resolve().parent.rglob("metadata.json")).parent)
        fault()

    return plant


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def summary(outcomes: dict[str, tuple[int, int]]) -> str:
    """A table from the (tried, lost) of each kind."""
    total = sum(tried for tried, _ in outcomes.values()), sum(lost for _, lost in outcomes.values())
    rows = [
        f"{kind:26} {tried:5} {tried - lost:9} {lost:5}" for kind, (tried, lost) in (outcomes | {"all": total}).items()
    ]
    return "\n".join([f"{'':26} tried  survived  lost", *rows])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few kill points only")
    parser.add_argument("--seed", type=int, default=0, help="of the random times")
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs at random times")
    parser.add_argument("--only", default="", help="trials whose description has this in it")
    parser.add_argument("--json", type=Path, help="also write the outcome of each trial to this file")
    args = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    bench, tried, lost, outcomes = Bench(folder), Counter(), Counter(), []
    for number, trial in enumerate(quick() if args.quick else campaign(args.seed, args.kills)):
        if args.only not in f"{trial.kind}: {trial.name}":
            continue
        started = time.monotonic()
        wrong = bench.run(trial, number)
        tried[trial.kind] += 1
        lost[trial.kind] += bool(wrong)
        state = "LOST" if wrong else "survived"
        say(f"{state:9} {trial.kind}: {trial.name} ({trial.variant}), {time.monotonic() - started:.1f} s")
        for what in wrong:
            say(f"          {what}")
        outcomes.append({"kind": trial.kind, "name": trial.name, "variant": trial.variant, "wrong": wrong})
    say("\n" + summary({kind: (tried[kind], lost[kind]) for kind in tried}))
    if args.json:
        args.json.write_text(json.dumps(outcomes, indent=2))
    if not lost.total():
        shutil.rmtree(folder)
    else:
        say(f"the lost runs are in {folder}")
    return min(lost.total(), 1)


if __name__ == "__main__":
    sys.exit(main())
