"""The ViT baseline (AAformer, Sec. IV-B): a plain ViT whose CLS is trained and compared as BoT does it."""

from __future__ import annotations

from aaformer_lit.models.base import ReIDViT


class ViTBaseline(ReIDViT):
    """CLS of a plain ViT with one re-ID head; the arguments are those of `ReIDViT`."""
