"""timm, imported before any network here: without what plain ViTs do not need, in a command that says so."""

from aaformer_lit.utils.lean_imports import timm_as_needed

with timm_as_needed():
    import timm

__all__ = ["timm"]
