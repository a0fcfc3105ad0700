"""One page about one machine: `python -m aaformer_lit.benchmarks.report`, or `make gpu-report` in a checkout.

Each step runs in a process of its own with a time limit, so that none can take another with it. What failed, what held and
what was not run stands first on the page; the numbers follow. It writes `report.json` and `report.md`.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from aaformer_lit.utils.environment import git_commit, machine, package_version
from aaformer_lit.utils.files import write_json, write_text
from aaformer_lit.utils.text import markdown_table, significant

SUITES = ("assignment", "attention", "train_step", "extract", "evaluate", "data")
_LIMIT = 600  # seconds that a process may take; a kernel is compiled for each shape and dtype
_CHECKOUT = Path(__file__).parents[3]
_SMALL = (
    "experiment=quickstart", "trainer.max_epochs=3", "data.spec.num_train_ids=16", "data.spec.num_test_ids=8",
    "data.ids_per_batch=4", "pictures=[]", "trainer.enable_progress_bar=false", "test_untrained=false",
)  # fmt: skip
_CLOSE_CURVES = 0.15  # relative distance of the losses of CPU and GPU, epoch by epoch
_RESULTS = {False: "FAILED", True: "held", None: "not run"}


@dataclass
class Step:
    """What came of a step: `held` is None where it was not run. `words` are the last ones of a process that failed."""

    held: bool | None
    says: str
    rows: Sequence[Mapping[str, Any]] = ()
    words: str = ""
    seconds: float = 0.0


def report(device: str, size: str, out: Path, only: Sequence[str] = ()) -> dict[str, Step]:
    """Run the steps on `device` (cuda, cpu) at `size` (full, small), and write the page into `out`.

    Args:
        only: names of steps; all where it is empty.
    """
    console, about = Console(), {"size": size, **_about()}
    steps = {name: Step(None, "not reached") for name in STEPS if name in (only or STEPS)}
    for name in steps:
        started = time.monotonic()
        with console.status(f"{name} ..."):
            try:
                step = STEPS[name](device, size)
            except Exception as error:  # whatever it is, the other steps go on
                says, words = _last_words(error)
                step = Step(False, says, words=words)
        step.seconds = time.monotonic() - started
        steps[name] = step
        console.print(f"{_RESULTS[step.held]:8} {name}: {step.says} ({step.seconds:.0f} s)", highlight=False)
        # after each step: a machine that stops leaves what was found
        write_json(out / "report.json", about | {"steps": {name: asdict(step) for name, step in steps.items()}})
        write_text(out / "report.md", page(about, steps))
    console.print(f"{out / 'report.md'}\n{out / 'report.json'}", highlight=False)
    return steps


def tests(device: str, size: str) -> Step:
    """The tests that need a GPU."""
    if not (_CHECKOUT / "tests").is_dir():
        return Step(None, "an installed package has no tests; run this in a checkout")
    if device != "cuda":
        return Step(None, "needs a CUDA device")
    done = _python("-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", cwd=_CHECKOUT, check=False)
    held, lines = done.returncode == 0, done.stdout.strip().splitlines()
    return Step(held, (lines or ["no output"])[-1], words="" if held else "\n".join(lines[-40:]))


def parity(device: str, size: str) -> Step:
    """The fused kernel beside plain torch, over shapes and dtypes: values, gradients, groupings, time. `kernel` is the one
    that trainings use; one that is merely slower is no failure, as plain torch then takes its place."""
    if device != "cuda":
        return Step(None, "the fused kernel needs a CUDA device")
    rows = _rows("parity_rows", device)
    earned = [row for row in rows if row["kernel"] == "triton"]
    slower = [row for row in rows if row["kernel"] != "triton" and row["triton_ms"] is not None]
    wrong = [row for row in rows if row["triton_ms"] is None]
    says = f"{len(earned)} of {len(rows)} shapes equal and not slower"
    if wrong or slower:
        says += f"; {len(wrong)} wrong or failing, {len(slower)} slower: plain torch computes these"
    return Step(not wrong, says, wrong + slower + earned)


def speed(device: str, size: str) -> Step:
    """The benchmark suites: `ratio` is our time over that of `against` (below 1: ours is faster), `floor_ratio` our time over
    that of `floor_is`."""
    rows: list[Mapping[str, Any]] = []
    failed, words = [], []
    suites = [suite for suite in SUITES if suite != "assignment" or find_spec("ot")]
    with tempfile.TemporaryDirectory() as folder:
        for suite in suites:
            options = [f"suite={suite}", f"size={size}", f"paths.runs={folder}/{suite}"]
            try:
                _python("-m", "aaformer_lit.benchmark", *options)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                says, more = _last_words(error)
                failed.append(f"; {suite}: {says}")
                words.append(more)
            for found in Path(folder, suite).rglob("benchmark.json"):  # of a suite that failed, the rows before
                kept = ("suite", "what", "against", "ratio", "floor_is", "floor_ratio", "memory_bytes")
                rows += [{key: row[key] for key in kept} for row in json.loads(found.read_text())["rows"]]
    says = f"{len(suites) - len(failed)} of {len(suites)} suites ran and were right{''.join(failed)}"
    if len(suites) < len(SUITES):
        says += "; assignment was left out, as it compares with POT (pip install POT)"
    return Step(not failed, says, rows, "\n\n".join(filter(None, words)))


def memory(device: str, size: str) -> Step:
    """Peak memory of a training step, with and without gradient checkpointing."""
    rows = _rows("memory_rows", device, size)
    plain, saved = (row["peak_bytes"] for row in rows)
    if plain is None:
        return Step(None, "the system does not say how much memory a process holds")
    return Step(saved < plain, f"{plain / 2**20:,.0f} MiB, with checkpointing {saved / 2**20:,.0f}", rows)


def processes(device: str, size: str) -> Step:
    """A short training by two processes, replicated (ddp) and sharded (fsdp)."""
    import torch

    if device == "cuda" and torch.cuda.device_count() < 2:
        return Step(None, "needs two GPUs")
    accelerator = "gpu" if device == "cuda" else "cpu"
    losses = {
        trainer: _losses(f"trainer={trainer}", f"trainer.accelerator={accelerator}", "trainer.devices=2")
        for trainer in ("ddp", "fsdp")
    }
    return _beside(losses)


def curve(device: str, size: str) -> Step:
    """The loss of a small training on the GPU beside that on the CPU."""
    if device != "cuda":
        return Step(None, "needs a CUDA device to compare with the CPU")
    return _beside({one: _losses(f"trainer.accelerator={one}", "trainer.devices=1") for one in ("gpu", "cpu")})


STEPS: dict[str, Callable[[str, str], Step]] = {
    one.__name__: one for one in (tests, parity, speed, memory, processes, curve)
}


def page(about: Mapping[str, Any], steps: Mapping[str, Step]) -> str:
    """Markdown: what failed, what held and what was not run in one line; a table of the steps; the numbers of each."""
    named = {result: [name for name, step in steps.items() if step.held is held] for held, result in _RESULTS.items()}
    verdict = ". ".join(f"**{result}**: {', '.join(names)}" for result, names in named.items() if names)
    table = [("step", "result", "what was found", "seconds")]
    table += [(name, _RESULTS[step.held], step.says, f"{step.seconds:.0f}") for name, step in steps.items()]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    blocks = [f"# aaformer_lit on {about['device']}", f"{verdict}.", markdown_table(table)]
    blocks.append(f"Size {about['size']}; {versions}.")
    for name, step in steps.items():
        if step.rows or step.words:
            blocks += [f"## {name}: {_RESULTS[step.held]}", " ".join((STEPS[name].__doc__ or "").split())]
        if step.words:
            blocks.append(f"```text\n{step.words}\n```")
        if step.rows:
            cells = [[_cell(name, value) for name, value in row.items()] for row in step.rows]
            heads = [name.replace("_bytes", ", MiB") for name in step.rows[0]]
            blocks.append(markdown_table([heads, *cells]))
    return "\n\n".join(blocks) + "\n"


def parity_rows(device: str) -> list[dict[str, Any]]:
    """A verdict for each shape, dtype and form of transport that people train with."""
    import torch

    from aaformer_lit.ops import Rounding
    from aaformer_lit.ops.trust import Problem, compare_with_torch

    rows = []
    shapes = (((2, 3), 128, 64), ((2, 3), 32, 64), ((6,), 210, 64), ((2, 3, 4), 192, 64))
    forms: tuple[tuple[Rounding, int], ...] = (("argmax", 0), ("soft", 2), ("soft", 4))
    for dtype, (parts, patches, dim), (rounding, cost) in itertools.product(
        (torch.bfloat16, torch.float16, torch.float32), shapes, forms
    ):
        problem = Problem(device, dtype, dtype, parts, patches, dim, 0.05, 3, rounding, "cosine", cost)
        form = rounding + {0: "", 2: " with a cost", 4: " with a cost of each image"}[cost]
        shape = f"{form}, parts {list(parts)}, {patches} patches of {dim}, {str(dtype).removeprefix('torch.')}"
        rows.append({"shape": shape, **asdict(compare_with_torch(problem, 768))})
    return rows


def memory_rows(device: str, size: str) -> list[dict[str, Any]]:
    """Peak bytes of a step of AAformer, plain and with checkpointing."""
    import torch

    from aaformer_lit.benchmarks.measure import peak_memory
    from aaformer_lit.models import AAformer

    name, batch = ("vit_base_patch16_224", 64) if size == "full" else ("vit_tiny_patch16_224", 16)
    rows = []
    for checkpointing in (False, True):
        network = AAformer(name, parts=[2, 3], grad_checkpointing=checkpointing).to(device)
        images = torch.randn(batch, 3, 256, 128, device=device)

        def step(network: AAformer = network, images: torch.Tensor = images) -> None:
            with torch.autocast(device, torch.bfloat16):
                output = network(images)
            (output.global_feat.float().sum() + output.part_feats.float().sum()).backward()

        step()
        network.zero_grad()
        rows.append({"model": name, "batch": batch, "checkpointing": checkpointing, "peak_bytes": peak_memory(step)})
    return rows


def _rows(function: str, *arguments: str) -> list[dict[str, Any]]:
    """What a function of this module finds in a process of its own."""
    call = f"import json; from {__spec__.name} import {function}; print(json.dumps({function}(*{arguments!r})))"
    rows: list[dict[str, Any]] = json.loads(_python("-c", call).stdout)
    return rows


def _losses(*options: str) -> list[float]:
    """Training loss by epoch of a small run on synthetic people."""
    with tempfile.TemporaryDirectory() as folder:
        _python("-m", "aaformer_lit.train", *_SMALL, *options, f"paths.runs={folder}", f"paths.data={folder}")
        with next(Path(folder).rglob("metrics.csv")).open() as file:
            return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


def _beside(losses: Mapping[str, Sequence[float]]) -> Step:
    """Whether two trainings went alike."""
    (one, ours), (other, theirs) = losses.items()
    pairs = list(zip(ours, theirs, strict=True))
    apart = [abs(a - b) / abs(b) for a, b in pairs]
    alike = bool(apart) and all(distance < _CLOSE_CURVES for distance in apart)  # NaN is not; `max` may pass over it
    says = f"losses of {one} and {other}, epoch by epoch: {', '.join(f'{distance:.1%}' for distance in apart)} apart"
    return Step(alike, says, [{"epoch": i, one: a, other: b} for i, (a, b) in enumerate(pairs, start=1)])


def _python(*arguments: str, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A Python process of its own. Raises `RuntimeError` with its last words where it fails and `check` is true."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        cwd=cwd,
        env=os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"},
        check=False,
    )
    if check and done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError("\n".join(lines[-20:]) or f"exit code {done.returncode}")
    return done


def _last_words(error: Exception) -> tuple[str, str]:
    """An error in one line, and all of it where that is more."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"did not end within {error.timeout:.0f} s", ""
    words = str(error).strip()
    last = words.splitlines()[-1] if words else type(error).__name__
    return last, words if words != last else ""


def _about() -> dict[str, Any]:
    """Machine and versions; of a GPU also what decides which kernels it can run."""
    import torch

    found = machine()
    found["versions"] = {"aaformer_lit": git_commit() or package_version("aaformer-lit"), **found["versions"]}
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        found["device"] += (
            f" (sm_{gpu.major}{gpu.minor}, {gpu.total_memory / 2**30:.0f} GiB) x {torch.cuda.device_count()}"
        )
        found["versions"] |= {"CUDA": torch.version.cuda, "triton": package_version("triton")}
    return found


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if name.endswith("_bytes"):
        return f"{int(str(value)) / 2**20:,.0f}"
    return significant(value) if isinstance(value, float) else str(value)


def main() -> None:
    """`device=cuda|cpu size=full|small out=FOLDER only=STEP,...`"""
    parser = argparse.ArgumentParser(prog="aaformer_lit.benchmarks.report", description=__doc__)
    parser.add_argument("options", nargs="*", metavar="name=value", help=main.__doc__)
    given = dict(option.partition("=")[::2] for option in parser.parse_args().options)
    chosen = {"device": "cuda", "size": "full", "out": "runs/gpu-report", "only": ""} | given
    device, size, out, names, *odd = chosen.values()
    only = [name for name in names.split(",") if name]
    wrong = device not in ("cuda", "cpu") or size not in ("full", "small")
    if odd or wrong or set(only) - STEPS.keys():
        parser.error(f"{main.__doc__} Steps: {', '.join(STEPS)}.")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # or the suites, which ask for no device, would take a GPU
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        parser.error(f"torch {torch.__version__} finds no CUDA device. With device=cpu all steps run that need none.")
    steps = report(device, size, Path(out), only)
    sys.exit(any(step.held is False for step in steps.values()))


if __name__ == "__main__":
    main()
