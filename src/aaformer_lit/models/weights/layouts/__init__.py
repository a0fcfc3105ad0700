"""The layouts that are known, in the order in which a file is compared with them: the more particular first."""

from aaformer_lit.models.weights.layout import Layout
from aaformer_lit.models.weights.layouts.clip import Clip
from aaformer_lit.models.weights.layouts.deit import DeiT3, DistilledDeiT
from aaformer_lit.models.weights.layouts.dino import Dino
from aaformer_lit.models.weights.layouts.dinov2 import DinoV2
from aaformer_lit.models.weights.layouts.mae import Mae
from aaformer_lit.models.weights.layouts.ours import Ours
from aaformer_lit.models.weights.layouts.part_aware import PartAware
from aaformer_lit.models.weights.layouts.refused import REFUSED
from aaformer_lit.models.weights.layouts.timm import Timm
from aaformer_lit.models.weights.layouts.transreid import TransReIDLayout

LAYOUTS: tuple[Layout, ...] = (
    Ours(),
    *REFUSED,
    PartAware(),
    TransReIDLayout(),
    Clip(),
    Mae(),
    DinoV2(),
    DistilledDeiT(),
    DeiT3(),
    Dino(),
    Timm(),
)
