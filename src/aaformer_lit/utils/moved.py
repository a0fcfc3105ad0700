"""Public names that are called otherwise today: the earlier ones work, and a warning says which to use."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_DATA_SETS = ("cuhk03", "dukemtmc", "folder", "joint", "market1501", "msmt17", "occluded_duke")
_MODULES = {
    "checkpoint": "checkpoints.load",
    "module": "engine.module",
    "callbacks": "engine.callbacks.ema",
    "sharding": "engine.fsdp",
    "exporting": "deploy",
    "hub": "checkpoints.hub",
    "paths": "cli.paths",
    "resolvers": "cli.resolvers",
    "data.base": "data.datamodule",
    "metrics.neighbours": "metrics.neighbors",
    **{f"data.{name}": f"data.datasets.{name}" for name in _DATA_SETS},
}


class _Finder:
    """Finds a module of today by its earlier name."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        moved = name.removeprefix("aaformer_lit.") in _MODULES
        return ModuleSpec(name, self) if moved else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Python makes an empty one, which `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        today = f"aaformer_lit.{_MODULES[module.__name__.removeprefix('aaformer_lit.')]}"
        warnings.warn(f"{module.__name__} is {today} now.", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(today)


def find_moved_modules() -> None:
    """Let `import` find them."""
    sys.meta_path.append(_Finder())


def renamed(module: str, **names: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module that has renamed some of its names (earlier="today")."""

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is {names[name]} now.", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], names[name])

    return get
