"""AAformer (Zhu et al., TNNLS 2023): person re-identification with parts aligned by optimal transport."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from aaformer_lit.utils.moved import find_moved_modules

try:
    __version__ = version("aaformer-lit")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__", "load_model"]
find_moved_modules()


def __getattr__(name: str) -> Any:
    if name == "load_model":  # imported on demand: torch takes seconds, and --help does not need it
        from aaformer_lit.checkpoints.load import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
