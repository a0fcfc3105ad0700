"""Networks: a ViT baseline, AAformer with any assigner, and the rivals of Table IV and Figure 4."""

from aaformer_lit.models import timm_first as timm_first  # sorts before all that imports timm
from aaformer_lit.models.aaformer import AAformer
from aaformer_lit.models.attention import AutoAlignedAttention
from aaformer_lit.models.backbone import build_backbone
from aaformer_lit.models.base import ReIDViT
from aaformer_lit.models.pooled import PooledViT
from aaformer_lit.models.transreid import TransReID
from aaformer_lit.models.vit import ViTBaseline

__all__ = ["AAformer", "AutoAlignedAttention", "PooledViT", "ReIDViT", "TransReID", "ViTBaseline", "build_backbone"]
