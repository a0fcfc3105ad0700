"""`--help` of each command lists the groups that it uses, and no other."""

import re
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from aaformer_lit.cli.options import options_of
from aaformer_lit.cli.paths import CONF_DIR
from cli_tools import run_cli

COMMANDS = sorted(path.stem for path in CONF_DIR.glob("*.yaml"))


def used_groups(file: str, group: str = "") -> set[str]:
    """The groups in the defaults of a config file and of those that it names, read by hand."""
    found: set[str] = set()
    defaults = OmegaConf.to_container(OmegaConf.load(CONF_DIR / group / f"{file}.yaml")).get("defaults", [])
    for default in defaults:
        if isinstance(default, str):
            found |= used_groups(default, group) if default != "_self_" else set()
            continue
        ((name, option),) = default.items()
        if re.match("override |optional |hydra$", name):
            continue
        inner = f"{group}/{name}".lstrip("/")
        found.add(inner)
        for one in option if isinstance(option, list) else [option]:
            found |= used_groups(one, inner) if one is not None else set()
    return found


def test_every_command_has_a_page_of_help():
    pages = {path.stem for path in (CONF_DIR / "hydra" / "help").glob("[!_]*.yaml")}
    assert {"train", "evaluate", "search", "serve"} <= set(COMMANDS) <= pages


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_the_groups_that_the_command_uses(command, capsys):
    assert run_cli(command, "--help") == 0
    page = capsys.readouterr().out
    listed = {group: options.split(", ") for group, options in re.findall(r"^  ([a-z_/]+): (.+)$", page, re.MULTILINE)}
    assert listed == {group: options_of(group) for group in used_groups(command)}
    assert ("Groups" in page) == bool(listed)
    assert not re.search(r"\b_base", page)
    assert f"Examples:\n  python -m aaformer_lit.{command} " in page
    assert re.search(r"^Values.*:", page, re.MULTILINE)
    assert "${" not in page


def test_the_groups_are_what_one_expects_of_some_commands():
    assert {"model/assigner", "model/backbone", "data", "data/sampler", "ablation", "logger"} <= used_groups("train")
    assert used_groups("export") == {"paths", "format", "data", "model"}
    assert used_groups("extract") == set()


def test_help_imports_no_torch():
    code = "import sys; sys.argv = ['train', '--help']; from aaformer_lit.train import main; main(); assert 'torch' not in "
    code += "sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
