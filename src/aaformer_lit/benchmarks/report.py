"""One page about one machine: `python -m aaformer_lit.benchmarks.report`, or `make gpu-report` in a checkout.

Each step runs in a process of its own with a time limit, so that none can take another with it. What held, what did not and
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
from pathlib import Path
from typing import Any

from rich.console import Console

from aaformer_lit.utils.environment import machine
from aaformer_lit.utils.files import write_json
from aaformer_lit.utils.text import markdown_table

SUITES = ("assignment", "attention", "train_step", "extract", "evaluate", "data")
_LIMIT = 240  # seconds that a step may take
_CHECKOUT = Path(__file__).parents[3]
_CLOSE_CURVES = 0.15  # relative distance of the losses of CPU and GPU, epoch by epoch


@dataclass
class Step:
    """What came of a step: `held` is None where it was not run."""

    name: str
    held: bool | None
    says: str
    seconds: float = 0.0
    rows: Sequence[Mapping[str, Any]] = ()


def report(device: str, size: str, out: Path, only: Sequence[str] = ()) -> list[Step]:
    """Run the steps on `device` (cuda, cpu) at `size` (full, small), and write the page into `out`.

    Args:
        only: names of steps; all where it is empty.
    """
    console = Console()
    steps: list[Step] = []
    for name, run in STEPS.items():
        if only and name not in only:
            continue
        started = time.monotonic()
        with console.status(f"{name} ..."):
            try:
                step = run(device, size)
            except Exception as error:  # whatever it is, the other steps go on
                step = Step(name, False, f"{type(error).__name__}: {str(error).strip()[-600:]}")
        step.name, step.seconds = name, time.monotonic() - started
        steps.append(step)
        console.print(
            f"{_SIGNS[step.held]}  {name}: {step.says.splitlines()[0]} ({step.seconds:.0f} s)", highlight=False
        )
        _write(out, device, size, steps)  # after each step: a machine that stops leaves what was found
    console.print(f"{out / 'report.md'}\n{out / 'report.json'}", highlight=False)
    return steps


def tests(device: str, size: str) -> Step:
    """The tests that need a GPU."""
    if not (_CHECKOUT / "tests").is_dir():
        return Step("", None, "not run: an installed package has no tests; run this in a checkout")
    if device != "cuda":
        return Step("", None, "not run: needs a CUDA device")
    done = _python("-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", cwd=_CHECKOUT, check=False)
    return Step("", done.returncode == 0, (done.stdout.strip().splitlines() or ["no output"])[-1])


def parity(device: str, size: str) -> Step:
    """The fused kernel beside plain torch, over shapes and dtypes: values, gradients, groupings, time."""
    if device != "cuda":
        return Step("", None, "not run: the fused kernel needs a CUDA device")
    rows = json.loads(_python("-m", __spec__.name, "rows=parity", f"device={device}").stdout)
    bad = [row for row in rows if row["kernel"] != "triton"]
    says = f"{len(rows) - len(bad)} of {len(rows)} shapes equal and not slower"
    return Step("", not bad, says + "".join(f"; {row['shape']}: {row['reason']}" for row in bad), rows=rows)


def speed(device: str, size: str) -> Step:
    """The benchmark suites: ratios to baselines and floors of the same run."""
    rows: list[Mapping[str, Any]] = []
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for suite in SUITES:
            options = [f"suite={suite}", f"size={size}", f"paths.runs={folder}/{suite}"]
            try:
                _python("-m", "aaformer_lit.benchmark", *options)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                failed.append(f"{suite}: {str(error).splitlines()[-1]}")
                continue
            for row in json.loads(next(Path(folder, suite).rglob("benchmark.json")).read_text())["rows"]:
                kept = ("suite", "what", "against", "ratio", "floor_is", "floor_ratio", "memory_bytes")
                rows.append({key: row[key] for key in kept})
    says = f"{len(SUITES) - len(failed)} of {len(SUITES)} suites ran and were right"
    return Step("", not failed, "\n".join([says, *failed]), rows=rows)


def memory(device: str, size: str) -> Step:
    """Peak memory of a training step, with and without gradient checkpointing."""
    rows = json.loads(_python("-m", __spec__.name, "rows=memory", f"device={device}", f"size={size}").stdout)
    plain, saved = (row["peak_bytes"] for row in rows)
    if plain is None:
        return Step("", None, "not measured: the system does not say")
    return Step("", saved < plain, f"{plain / 2**20:,.0f} MiB, with checkpointing {saved / 2**20:,.0f}", rows=rows)


def processes(device: str, size: str) -> Step:
    """A short training by two processes, replicated (ddp) and sharded (fsdp)."""
    import torch

    if device == "cuda" and torch.cuda.device_count() < 2:
        return Step("", None, "not run: needs two GPUs")
    accelerator = "gpu" if device == "cuda" else "cpu"
    rows = []
    for trainer in ("ddp", "fsdp"):
        options = (f"trainer={trainer}", f"trainer.accelerator={accelerator}", "trainer.devices=2")
        rows.append({"trainer": trainer, "loss": _losses(*options)})
    same = _distance(rows[0]["loss"], rows[1]["loss"]) < _CLOSE_CURVES  # type: ignore[arg-type]
    return Step("", same, "ddp and fsdp train alike" if same else "ddp and fsdp train differently", rows=rows)


def curve(device: str, size: str) -> Step:
    """The loss of a small training on this device beside that on the CPU."""
    here = _losses("trainer.accelerator=gpu" if device == "cuda" else "trainer.accelerator=cpu", "trainer.devices=1")
    there = _losses("trainer.accelerator=cpu", "trainer.devices=1")
    apart = _distance(here, there)
    rows = [{"epoch": i + 1, device: a, "cpu": b} for i, (a, b) in enumerate(zip(here, there, strict=True))]
    return Step("", apart < _CLOSE_CURVES, f"losses at most {100 * apart:.1f}% apart", rows=rows)


STEPS: dict[str, Callable[[str, str], Step]] = {
    one.__name__: one for one in (tests, parity, speed, memory, processes, curve)
}
_SIGNS = {True: "held    ", False: "FAILED  ", None: "not run "}


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


def _losses(*options: str) -> list[float]:
    """Training loss by epoch of a small run on synthetic people."""
    people = "data.spec.num_train_ids=16 data.spec.num_test_ids=8 data.ids_per_batch=4"
    with tempfile.TemporaryDirectory() as folder:
        quiet = ("pictures=[]", "trainer.enable_progress_bar=false", "test_untrained=false")
        _python(
            "-m",
            "aaformer_lit.train",
            "experiment=quickstart",
            "trainer.max_epochs=3",
            *people.split(),
            *quiet,
            *options,
            f"paths.runs={folder}",
            f"paths.data={folder}",
        )
        with next(Path(folder).rglob("metrics.csv")).open() as file:
            return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


def _distance(ones: Sequence[float], others: Sequence[float]) -> float:
    return max(abs(a - b) / abs(b) for a, b in zip(ones, others, strict=True))


def _python(*arguments: str, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A Python process of its own. Raises `RuntimeError` with its last words where it fails and `check` is true."""
    environment = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        cwd=cwd,
        env=environment,
        check=False,
    )
    if check and done.returncode:
        raise RuntimeError(done.stderr.strip()[-600:] or done.stdout.strip()[-600:])
    return done


def _write(out: Path, device: str, size: str, steps: Sequence[Step]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    about = {"device": device, "size": size, **machine()}
    write_json(out / "report.json", {**about, "steps": [asdict(step) for step in steps]})
    lines = [f"# aaformer_lit on {about['device'] if device == 'cpu' else machine()['device']}", "", f"Size {size}. "]
    lines[-1] += ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    found = [
        (step.name, _SIGNS[step.held].strip(), step.says.replace("\n", "; "), f"{step.seconds:.0f}") for step in steps
    ]
    lines += ["", markdown_table([("step", "", "what was found", "seconds"), *found])]
    for step in steps:
        if step.rows:
            cells = [[_cell(row[name]) for name in step.rows[0]] for row in step.rows]
            lines += ["", f"## {step.name}", "", markdown_table([list(step.rows[0]), *cells])]
    (out / "report.md").write_text("\n".join(lines) + "\n")


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_cell(one) for one in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    """`device=cuda|cpu size=full|small out=FOLDER only=STEP,...`; `rows=parity|memory` is for its own processes."""
    parser = argparse.ArgumentParser(prog="aaformer_lit.benchmarks.report", description=__doc__)
    parser.add_argument("options", nargs="*", metavar="name=value", help=main.__doc__)
    given = dict(option.partition("=")[::2] for option in parser.parse_args().options)
    chosen = {"device": "cuda", "size": "full", "out": "runs/gpu-report", "only": "", "rows": ""}
    odd = [name for name in given if name not in chosen]
    chosen |= given
    wrong = chosen["device"] not in ("cuda", "cpu") or chosen["size"] not in ("full", "small")
    only = [name for name in chosen["only"].split(",") if name]
    if odd or wrong or set(only) - STEPS.keys():
        parser.error(f"{main.__doc__} Steps: {', '.join(STEPS)}.")
    if chosen["rows"]:
        rows = (
            parity_rows(chosen["device"])
            if chosen["rows"] == "parity"
            else memory_rows(chosen["device"], chosen["size"])
        )
        sys.stdout.write(json.dumps(rows))
        return
    steps = report(chosen["device"], chosen["size"], Path(chosen["out"]), only)
    sys.exit(any(step.held is False for step in steps))


if __name__ == "__main__":
    main()
