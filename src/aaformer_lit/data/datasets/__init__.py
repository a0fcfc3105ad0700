"""The data sets, one file each: this is where one adds a data set.

Every file here is imported, and the synthetic people, so that `DATASETS`, and with it `data=joint`, knows all by name.
"""

from importlib import import_module
from pkgutil import iter_modules

from aaformer_lit.data.dataset import DATASETS

__all__ = ["DATASETS"]
for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
import_module("aaformer_lit.data.synthetic")
