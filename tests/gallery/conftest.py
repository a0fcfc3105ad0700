"""A tiny untrained network, an extractor of it, and a folder of noise that passes for people."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from aaformer_lit.gallery import Extractor
from aaformer_lit.models import AAformer, ViTBaseline

SIZE = (32, 16)
ABOUT = {"model": {"_target_": "aaformer_lit.models.AAformer", "parts": [2, 3]},
         "data": {"image_size": list(SIZE), "mean": [0.5] * 3, "std": [0.5] * 3}}  # fmt: skip


def network(seed=0, parts=(2, 3), dim=24):
    torch.manual_seed(seed)
    backbone = VisionTransformer(img_size=SIZE, patch_size=8, embed_dim=dim, depth=2, num_heads=2, num_classes=0)
    built = AAformer(backbone, parts) if parts else ViTBaseline(backbone)
    return built.eval()


def person(seed, height=64, width=32):
    """Blurred noise: a picture that stays itself when it is resized."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def write(path, seed, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), person(seed, **how)[..., ::-1])
    return path


@pytest.fixture(scope="session")
def world():
    """What the tests make things with."""
    return SimpleNamespace(network=network, person=person, write=write, about=ABOUT)


@pytest.fixture(scope="session")
def extractor():
    return Extractor(network(), ABOUT, num_workers=0, device="cpu")


@pytest.fixture
def images(tmp_path):
    """Eight images of four people by two cameras, in two folders."""
    folder = tmp_path / "images"
    for number in range(8):
        write(folder / f"c{number % 2}" / f"{number // 2:04d}_c{number % 2}.png", number)
    return folder
