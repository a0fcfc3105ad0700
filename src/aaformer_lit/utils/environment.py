"""What was run, on what, with which versions: `metadata.json`."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

_PACKAGES = ("torch", "lightning", "timm", "torchmetrics", "albumentations", "hydra-core", "numpy")


def metadata(cfg: DictConfig, fingerprint: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """What was run, on what, with which versions.

    Args:
        cfg: the composed config.
        fingerprint: of the data (name, variant, counts).
        choices: option of each config group.
    """
    config = OmegaConf.to_container(cfg, resolve=True)
    return {
        "aaformer_lit": package_version("aaformer-lit") or "0+unknown",
        "git_commit": git_commit(),
        "config": config,
        "choices": dict(choices),
        "data": dict(fingerprint),
        **machine(),
    }


def machine() -> dict[str, Any]:
    """Versions and device."""
    import torch

    return {
        "versions": {"python": platform.python_version(), **{name: package_version(name) for name in _PACKAGES}},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
    }


def package_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Commit of the checkout this package runs from, marked if it has changes; None for an installed wheel."""
    folder = Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() or None
