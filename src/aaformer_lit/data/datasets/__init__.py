"""The data sets, one file each: this is where one adds a data set.

Every file here is imported, so that `DATASETS`, and with it `data=joint`, knows all by name.
"""

from importlib import import_module
from pkgutil import iter_modules

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
