"""Shared by all tests: a tiny trained run, made once for each worker."""

import logging
import os
import resource
import signal
import sys

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("WANDB_MODE", "offline")

import pytest
from hydra._internal.hydra import Hydra
from hypothesis import settings

from cli_tools import TINY, only, read_json, run_cli

# the same examples in every run, so that `make test` never fails by chance; `make fuzz` draws new ones
settings.register_profile("test", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None)
settings.load_profile("fuzz" if "AAFORMER_FUZZ" in os.environ else "test")


# the longest files, and one worker runs a file: first, so that none is left alone with one at the end
LONG = (
    "test_notebooks", "test_distributed", "test_processes", "test_campaign", "test_demo", "test_docs", "test_train",
    "test_triton_kernel",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def composed_once():
    """Hydra composes a command's config for `hydra.mode`, which no config of ours sets, and then once more to use it: 0.3 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hydra, "get_mode", lambda *args, **kwargs: None)
        yield


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """`paths.data` with the tiny synthetic people in it, once the first run has drawn them."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data_dir):
    """The run directory of a tiny AAformer that was trained for an epoch."""
    runs = tmp_path_factory.mktemp("runs")
    assert (
        run_cli("train", *TINY, f"paths.data={data_dir}", f"paths.runs={runs}", "pictures=[curves,rankings,assignment]")
        == 0
    )
    return only(runs.glob("*/*/*/metrics.json")).parent


@pytest.fixture(scope="session")
def people(data_dir, trained):
    """The folder of the people that `trained` was trained and tested on."""
    return data_dir / f"synthetic-{read_json(trained / 'metadata.json')['data']['variant']}"


@pytest.fixture
def no_bytecode(monkeypatch):
    """Where files may not grow, Python would keep half of what it compiles, and every later process would stumble over it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.fixture
def small_files(no_bytecode):
    """No file of this process may grow beyond 1 kB: writing fails in its middle, as on a full disk."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture(autouse=True)
def close_log_files():
    """Hydra leaves the log file of its last job open; a program ends then, the tests go on."""
    yield
    for handler in list(logging.root.handlers):
        if isinstance(handler, logging.FileHandler):
            handler.close()
            logging.root.removeHandler(handler)
