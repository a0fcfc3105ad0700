"""What is done with networks of any kind."""

from __future__ import annotations

import torch


class evaluating:
    """Eval mode for a while, then each module's own mode again."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.modes = {module: module.training for module in network.modules()}
        self.network = network

    def __enter__(self) -> None:
        self.network.eval()

    def __exit__(self, *_: object) -> None:
        for module, training in self.modes.items():
            module.training = training
