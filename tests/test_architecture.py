"""The package's import rules: what lies at its root, who may import whom, and who may touch Lightning's private parts.

The rules are read off the source, so that an import inside a function or for type checkers alone counts as well.
"""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
PACKAGE = "aaformer_lit"
COMMANDS = {
    "train", "evaluate", "compare", "visualize", "calibrate", "extract", "search", "export", "benchmark", "report",
    "prepare", "demo", "serve",
}  # fmt: skip
BASE = {"structures", "errors", "utils"}  # whatever any folder may import
MAY_IMPORT = {
    "structures": set(),
    "errors": set(),
    "utils": {"errors"},
    "cli": {"errors", "utils", "ops", "engine"},  # the latter two once a command is at work
    "ops": BASE,
    "assign": BASE | {"ops"},
    "models": BASE | {"ops", "assign"},
    "metrics": BASE,
    "viz": BASE,
    "losses": BASE,
    "optim": BASE,
    "data": BASE,
    "tables": BASE,
    "checkpoints": BASE | {"models", "data", "metrics"},  # a loaded network prepares pictures and knows its thresholds
    "engine": BASE | {"ops", "assign", "models", "losses", "optim", "metrics", "viz", "data", "checkpoints"},
    "pictures": BASE | {"models", "metrics", "viz", "data", "checkpoints", "engine"},
    "deploy": BASE | {"ops", "assign", "models", "metrics", "data", "checkpoints"},
    "gallery": BASE | {"models", "metrics", "viz", "data", "checkpoints"},
    "web": BASE | {"metrics", "viz", "data", "gallery"},
    "tracking": BASE | {"models", "data"},
    "benchmarks": BASE | {"ops", "assign", "models", "losses", "metrics", "data", "gallery", "tracking"},
    PACKAGE: {"checkpoints", "utils"},  # `aaformer_lit.load_model`, and modules under their earlier names
}


def module_name(path):
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(SRC.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def imported(tree):
    """What a module names in its import statements, wherever they stand: modules of the package, or other ones."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path"
            submodules = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {full if full in FILES else node.module for full in submodules.values()}
    return names


IMPORTS = {name: imported(tree) for name, tree in TREES.items()}
INSIDE = {name: names & FILES.keys() for name, names in IMPORTS.items()}


def folder(module):
    """The module's folder below the package, or its own name at the root."""
    return module.split(".")[1] if "." in module else module


def cycle(graph):
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return " -> ".join(error.args[1])
    return None


def test_the_root_holds_the_commands_and_what_all_share():
    at_root = {path.stem for path in (SRC / PACKAGE).glob("*.py")}
    assert at_root == COMMANDS | {"structures", "errors", "losses", "optim", "__init__"}
    folders = {path.parent.name for path in (SRC / PACKAGE).glob("*/__init__.py")}
    assert folders | {"structures", "errors", "losses", "optim", PACKAGE} == MAY_IMPORT.keys()


def test_what_is_imported_of_the_package_exists():
    missing = {name: names - FILES.keys() for name, names in IMPORTS.items()}
    assert not {(name, one) for name in missing for one in missing[name] if one.split(".")[0] == PACKAGE}


def test_imports_of_modules_and_of_folders_have_no_cycle():
    assert cycle(INSIDE) is None
    folders = {}
    for name, others in INSIDE.items():
        folders.setdefault(folder(name), set()).update({folder(other) for other in others} - {folder(name)})
    assert cycle(folders) is None


@pytest.mark.parametrize("where", MAY_IMPORT)
def test_a_folder_imports_only_what_its_rule_names(where):
    here = {name: {folder(other) for other in INSIDE[name]} for name in FILES if folder(name) == where}
    assert here
    assert not {(name, other) for name in here for other in here[name] - MAY_IMPORT[where] - {where}}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_no_command_imports_another(command):
    assert not {folder(other) for other in INSIDE[f"{PACKAGE}.{command}"]} & COMMANDS


@pytest.mark.parametrize("where", ["ops", "assign", "models", "metrics", "viz", "losses", "optim", "structures"])
def test_mathematics_and_pictures_know_no_lightning(where):
    frameworks = ("lightning", "hydra", "wandb")
    users = {name: names for name, names in IMPORTS.items() if folder(name) == where}
    assert not {(name, other) for name in users for other in users[name] if other.split(".")[0] in frameworks}


def test_commands_command_line_and_utils_come_up_without_torch():
    light = [name for name in FILES if folder(name) in {"cli", "utils", "errors"} | COMMANDS]  # --help needs no more
    heavy = ("torch", "lightning", "timm", "cv2", "matplotlib")
    code = f"import {', '.join(light)}, sys; sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def private_parts(tree):
    """`trainer._signal_connector` and the like: private attributes of what is neither `self` nor made in this file."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
            if isinstance(node.args[1], ast.Constant) and str(node.args[1].value).startswith("_"):
                yield f"{ast.unparse(node.args[0])}.{node.args[1].value}"
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = ast.unparse(node.value)
            named_tuple = node.attr in ("_asdict", "_replace")  # public, whatever the underscore says
            if owner not in ("self", "cls", "ctx") and node.attr not in own and not named_tuple:
                yield f"{owner}.{node.attr}"


def test_only_the_engine_touches_private_parts_of_lightning():
    uses_lightning = {
        name for name, names in IMPORTS.items() if any(other.split(".")[0] == "lightning" for other in names)
    }
    found = {name: list(private_parts(TREES[name])) for name in uses_lightning if folder(name) != "engine"}
    assert not {name: parts for name, parts in found.items() if parts}
    lightning = ("trainer.", "fit_loop", "_connector", "thread.")
    found = {name: list(private_parts(TREES[name])) for name in FILES if folder(name) != "engine"}
    assert not {(name, part) for name, parts in found.items() for part in parts if any(w in part for w in lightning)}


def test_the_rules_see_what_they_forbid():
    hidden = ast.parse("def f():\n    from aaformer_lit.data import images\n    import aaformer_lit.train")
    assert imported(hidden) == {"aaformer_lit.data.images", "aaformer_lit.train"}
    assert cycle({"a": {"b"}, "b": {"a"}}) is not None
    lines = "trainer._signal_connector", "self._own", "getattr(thread, '_child_processes')", "trainer.fit_loop._steps"
    reach = ast.parse("\n".join(lines))
    assert set(private_parts(reach)) == {
        "trainer._signal_connector",
        "thread._child_processes",
        "trainer.fit_loop._steps",
    }
