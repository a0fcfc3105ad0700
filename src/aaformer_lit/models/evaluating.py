"""Networks in eval mode for a while, whatever mode their modules are in."""

from __future__ import annotations

import torch


class evaluating:
    """Eval mode inside the `with`, each module's own mode again after it."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.modes = {module: module.training for module in network.modules()}
        self.network = network

    def __enter__(self) -> None:
        self.network.eval()

    def __exit__(self, *_: object) -> None:
        for module, training in self.modes.items():
            module.training = training
