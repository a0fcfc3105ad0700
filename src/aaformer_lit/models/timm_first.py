"""timm, imported before any network here: without what plain ViTs do not need, in a command that says so."""

import sys

from aaformer_lit.utils.lean_imports import timm_as_needed

try:
    with timm_as_needed():
        import timm
except (ImportError, AttributeError):  # a timm that needs more than ours: all of it
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        del sys.modules[name]
    import timm

__all__ = ["timm"]
