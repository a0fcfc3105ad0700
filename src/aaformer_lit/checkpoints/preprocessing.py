"""What a checkpoint knows of its images: how they are prepared for its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict


def prepare_like_training(cfg: DictConfig, preprocessing: dict[str, Any]) -> None:
    """Images are resized and normalized as the network saw them in training, whatever the data config says."""
    with open_dict(cfg):
        cfg.data.image_size = preprocessing["image_size"]
        cfg.data.transforms.mean, cfg.data.transforms.std = preprocessing["mean"], preprocessing["std"]


def preprocessing(data: DictConfig) -> dict[str, Any]:
    """What a checkpoint must know of the data to be used on other images; `config` is all that its training knew of them."""
    mask_parts = data.get("mask_parts")
    config = OmegaConf.to_container(data, resolve=True)
    assert isinstance(config, dict)
    if "root" in config:
        config["root"] = str(Path(config["root"]).expanduser().absolute())
    return {
        "image_size": list(data.image_size),
        "mean": list(data.transforms.mean),
        "std": list(data.transforms.std),
        "part_names": list(mask_parts) if mask_parts else [],
        "config": config,
    }
