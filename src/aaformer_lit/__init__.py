"""AAformer (Zhu et al., TNNLS 2023): person re-identification with parts aligned by optimal transport."""

from importlib.metadata import PackageNotFoundError, version

from aaformer_lit.utils.lazy import lazily
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
# torch takes seconds, and --help does not need it
__getattr__, __dir__ = lazily(__name__, _HOME)
find_moved_modules()
