"""AAformer (Zhu et al., TNNLS 2023): person re-identification with parts aligned by optimal transport."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from aaformer_lit.utils.moved import find_moved_modules

try:
    __version__ = version("aaformer-lit")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

_HOME = {
    "AAformer": "models",
    "FeatureSet": "structures",
    "FolderDataModule": "data",
    "ReIDRetrieval": "metrics",
    "ViTBaseline": "models",
    "evaluate_retrieval": "metrics",
    "load_model": "checkpoints.load",
}
__all__ = ["__version__", *sorted(_HOME)]
find_moved_modules()


def __getattr__(name: str) -> Any:
    if name in _HOME:  # imported on demand: torch takes seconds, and --help does not need it
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}. Its names: {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
