"""What the documentation shows works: its links lead somewhere, and the examples of extending.md train."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cli_tools import TINY, run_cli

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
FILES = re.findall(r'```(?:python|yaml) title="([^"]+)"\n(.*?)```', EXTENDING, re.DOTALL)
COMMANDS = [
    line.removeprefix("python -m aaformer_lit.")
    for block in re.findall(r"```sh\n(.*?)```", EXTENDING, re.DOTALL)
    for line in block.splitlines()
]
RUN = """
import sys
sys.path.insert(0, {tests!r})
from cli_tools import run_cli
for entry, *options in {commands!r}:
    code = run_cli(entry, *options)
    assert code == 0, (entry, options, code)
"""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_local_links_and_pictures_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [link.partition("#") for link in links if not link.startswith(("http://", "https://", "mailto:"))]
    for target, _, anchor in local:
        path = (page.parent / target) if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_in_commands_exist(page):
    for module in set(re.findall(r"python -m aaformer_lit\.([\w.]*\w)", page.read_text())):
        assert (ROOT / "src" / "aaformer_lit" / f"{module.replace('.', '/')}.py").exists(), module


def test_the_tests_behind_the_guarantees_exist():
    text = (ROOT / "docs" / "reliability.md").read_text()
    path = None
    for file, name in re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", text):
        path = ROOT / file if file else path
        assert path is None or path.exists(), file
        assert not name or f"def {name}(" in path.read_text(), name


def test_the_method_page_says_what_the_code_does():
    """Its code runs (and compares itself with the package), its files exist, and its values are those of a training."""
    page = (ROOT / "docs" / "method.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    world: dict = {}
    exec(code, world)  # the page's code
    torch.testing.assert_close(world["output"], world["expected"])
    files = set(re.findall(r"`(\w+/\w+\.py|\w+\.py)`", page))
    assert len(files) > 15
    assert [file for file in sorted(files) if not (ROOT / "src" / "aaformer_lit" / file).exists()] == []

    section = page.partition("## Where it stands")[2].partition("\n## ")[0]
    values = re.findall(r"`([a-z]+\.[\w.]+)=([^`\s]+)`", section)
    assert len(values) > 20
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        settings = compose("train", ["data=market1501"])
    differ = [(key, value) for key, value in values if OmegaConf.select(settings, key) != yaml.safe_load(value)]
    assert differ == []


def test_the_published_table_is_what_report_prints(tmp_path):
    kept = ROOT / "docs" / "results" / "laptop"
    assert run_cli("report", "table=laptop", f"runs={kept}", "formats=[md]", f"run_dir={tmp_path}") == 0
    tables = re.findall(r"(?:^\|.*\n)+", (tmp_path / "laptop.md").read_text(), re.MULTILINE)
    assert [len(table.splitlines()) for table in tables] == [2 + 7, 2 + 12]
    published = (ROOT / "docs" / "reproduction.md").read_text()
    assert all(table in published for table in tables)


def test_the_examples_of_extending_are_short_and_work(tmp_path):
    for part in ("src", "conf"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    assert len(FILES) == 9
    for name, content in FILES:
        assert not (tmp_path / name).exists()
        assert len(content.splitlines()) < 40
        (tmp_path / name).write_text(content)
    _draw_campus(tmp_path / "datasets" / "campus")
    common = ("paths.data=" + str(tmp_path / "datasets"), "paths.runs=" + str(tmp_path / "runs"))
    commands = [tuple(command.split()) + common + _small(command) for command in COMMANDS]
    assert len(commands) == 7
    script = RUN.format(tests=str(ROOT / "tests"), commands=commands)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "runs").rglob("metrics.json"))) == 6


def _small(command: str) -> tuple[str, ...]:
    """What makes a documented training take a second."""
    if command.startswith("prepare"):
        return ()
    options = [option for option in TINY if "data.spec" not in option or " data=" not in command]
    if "model.backbone.weights" in command:  # a network of its own, made small
        options = [option for option in options if "backbone" not in option]
        options += ["+model.backbone.depth=1", "+model.backbone.embed_dim=24"]
    return (*options, "trainer.limit_train_batches=1", "data.val_ids=0", "pictures=[]", "test_untrained=false")


def _draw_campus(folder: Path) -> None:
    """Eight people of noise before two cameras."""
    rng = np.random.default_rng(0)
    for split, frames in (("train", (1, 2)), ("probe", (3,)), ("gallery", (4,))):
        (folder / split).mkdir(parents=True)
        for pid in range(1, 9):
            for camera in (1, 2):
                for frame in frames:
                    image = rng.integers(0, 255, (64, 32, 3), dtype=np.uint8)
                    assert cv2.imwrite(str(folder / split / f"p{pid:04d}_cam{camera}_{frame:06d}.png"), image)
