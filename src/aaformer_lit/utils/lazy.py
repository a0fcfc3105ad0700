"""Public names of a package that are imported from their modules when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`.
        homes: the module, below the package, of each public name; a name that is a module is its own home.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}. Its names: {', '.join(sorted(homes))}."
            )
        module = import_module(f"{package}.{homes[name]}")
        return module if homes[name].split(".")[-1] == name else getattr(module, name)

    return get, lambda: sorted({*vars(import_module(package)), *homes})
