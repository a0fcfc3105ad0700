"""What a checkpoint knows of its images: how they are prepared for its network."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, open_dict


def prepare_like_training(cfg: DictConfig, preprocessing: dict[str, Any]) -> None:
    """Images are resized and normalized as the network saw them in training, whatever the data config says."""
    with open_dict(cfg):
        cfg.data.image_size = preprocessing["image_size"]
        cfg.data.transforms.mean, cfg.data.transforms.std = preprocessing["mean"], preprocessing["std"]


def preprocessing(data: DictConfig) -> dict[str, Any]:
    """What a checkpoint must know of the data to be used on other images."""
    mask_parts = data.get("mask_parts")
    return {
        "image_size": list(data.image_size),
        "mean": list(data.transforms.mean),
        "std": list(data.transforms.std),
        "part_names": list(mask_parts) if mask_parts else [],
    }
