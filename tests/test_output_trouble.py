"""Output that cannot be written: one message that names the place, exit code 2, nothing left, whatever the command."""

import contextlib
import re
import resource
import signal
from pathlib import Path

import pytest

from aaformer_lit.cli import processes
from cli_tools import TINY, TINY_DATA, run_cli
from table_tools import NEAREST, write_run

QUIET = ("trainer=cpu", "trainer.enable_progress_bar=false")
COMMANDS = {  # {out} is where it writes; the others are inputs
    "train": (*TINY, "paths.data={data}", "paths.runs={out}"),
    "evaluate": ("ckpt={ckpt}", *TINY_DATA, *QUIET, "paths.data={data}", "paths.runs={out}"),
    "compare": ("ckpt=[{ckpt}]", *TINY_DATA, *QUIET, "speed.repeats=1", "paths.data={data}", "paths.runs={out}"),
    "visualize": ("ckpt={ckpt}", "kind=assignment", "images={query}", "paths.runs={out}"),
    "extract": ("ckpt={ckpt}", "images={query}", "out={out}", "data.num_workers=0"),
    "search": ("gallery={gallery}", "query={query}", "data.num_workers=0", "paths.runs={out}"),
    "export safetensors": ("ckpt={ckpt}", "format=safetensors", "check.images=8", "output={out}/model", "paths.runs={runs}"),
    "export torch_export": ("ckpt={ckpt}", "format=torch_export", "check.images=8", "output={out}/m.pt2", "paths.runs={runs}"),
    "export onnx": ("ckpt={ckpt}", "format=onnx", "check.images=8", "output={out}/model.onnx", "paths.runs={runs}"),
    "report": ("table=table5", "runs={trained}", "paths.runs={out}"),
    "report keep": ("table=table5", "runs={made}", "paths.runs={runs}", "formats=[]", "keep={out}"),
    "prepare": ("action=synthesize", "spec.num_train_ids=2", "spec.num_test_ids=1", "paths.data={out}"),
}  # fmt: skip
LOGS = {".lock", "config.yaml", "failure.txt", "overrides.yaml", "hydra.yaml"}


@pytest.fixture(scope="session")
def places(trained, people, data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    places = {
        "ckpt": trained / "checkpoints" / "last.ckpt",
        "trained": trained,
        "data": data_dir,
        "runs": folder / "runs",
    }
    places |= {"query": people / "query", "gallery": folder / "gallery"}
    arguments = [f"ckpt={places['ckpt']}", f"images={places['query']}", f"out={places['gallery']}"]
    assert run_cli("extract", *arguments, "data.num_workers=0") == 0
    write_run(folder / "made" / "a", NEAREST, queries=[0.5, 1.0])
    return places | {"made": folder / "made"}


def run(command, places, out, capsys):
    capsys.readouterr()
    fill = {**places, "out": out}
    arguments = [re.sub(r"\{(\w+)\}", lambda m: str(fill[m[1]]), argument) for argument in COMMANDS[command]]
    code = run_cli(command.split()[0], *arguments)
    return code, " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("parent is a file", "Give another name: a file is where a folder should be, or the reverse"),
        ("no such drive", "Give a drive and a folder that are there"),
        ("read-only", "Make the folder writable"),
    ],
)
def test_a_place_that_cannot_be(command, trouble, says, places, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    out = {"parent is a file": tmp_path / "file" / "out", "no such drive": "/proc/nodrive/out", "read-only": "/sys/out"}
    code, error = run(command, places, out[trouble], capsys)
    assert (code, error.count("error:")) == (2, 1), error
    assert says in error
    assert str(Path(out[trouble]).parent) in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def full_disk(monkeypatch, no_bytecode):
    """Once a command has started, the kernel lets no file of this process grow beyond 100 bytes."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    job_processes = processes.job_processes

    @contextlib.contextmanager
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            with job_processes():
                yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(processes, "job_processes", limited)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(command, places, tmp_path, full_disk, capsys):
    code, error = run(command, places, tmp_path / "out", capsys)
    assert (code, error.count("error:")) == (2, 1), error
    assert "File too large" in error
    assert "MiB are free there. Free some space" in error
    assert str(tmp_path / "out") in error
    assert "Traceback" not in error
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not {name for name in left if not name.endswith(".log")} - LOGS
    assert not list(tmp_path.rglob(".*.tmp")) + list(tmp_path.rglob(".*-*"))
