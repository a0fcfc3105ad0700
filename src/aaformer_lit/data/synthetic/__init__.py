"""Procedurally drawn pedestrians: a re-ID data set out of a seed, to try everything without a download.

People, poses, places and cameras are drawn by `render`; `generate` writes them to disk in the layout of Market-1501 or any
other benchmark, with the true body-part label of every pixel beside each picture.
"""

from aaformer_lit.data.synthetic.datamodule import SyntheticDataModule, SyntheticPeople
from aaformer_lit.data.synthetic.generate import LAYOUTS, generate
from aaformer_lit.data.synthetic.render import contact_sheet, render
from aaformer_lit.data.synthetic.spec import SyntheticSpec

__all__ = [
    "LAYOUTS",
    "SyntheticDataModule",
    "SyntheticPeople",
    "SyntheticSpec",
    "contact_sheet",
    "generate",
    "render",
]
