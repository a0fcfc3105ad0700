"""One descriptor for a track: the mean of its frames, weighted by how much of the person they show, or the medoid.

A track has frames in which the person is cut off by the picture's edge, far away or blurred by motion. They are of one person
all the same, so they are weighted down and not thrown out: a track of bad frames alone has a descriptor too.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aaformer_lit.errors import ConfigError, check_choice

Method = Literal["mean", "medoid"]


def tracklet_descriptor(
    features: Float[Tensor, "frames dim"],
    quality: Float[Tensor, " frames"] | None = None,
    method: Method = "mean",
) -> Float[Tensor, " dim"]:
    """The L2-normalized descriptor of a track.

    Args:
        features: of its frames.
        quality: weights, 0 or more; None: all alike. Frames of weight 0 do not count.
        method: `mean`; or `medoid`, the frame with the smallest weighted sum of distances to the others, which is a descriptor
            that was seen.

    Raises:
        ConfigError: an unknown method, weights that are negative or do not fit the frames, or no frame that counts.
    """
    check_choice("method", method, get_args(Method))
    weights = (
        torch.ones(len(features), device=features.device) if quality is None else quality.to(features.device).float()
    )
    if features.ndim != 2 or weights.shape != features.shape[:1] or (weights < 0).any() or not (weights > 0).any():
        raise ConfigError(
            "a track needs features (frames, dim) and for each frame a quality of 0 or more, one of them above 0; got features "
            f"{tuple(features.shape)} and quality {weights.tolist()}."
        )
    features = features.float()
    if method == "mean":
        return F.normalize(weights @ features, dim=0)
    seen = weights > 0
    to_others = torch.cdist(features[seen], features[seen]) @ weights[seen]
    return F.normalize(features[seen][to_others.argmin()], dim=0)


class Tracklet:
    """The frames of one track, as they come.

    Args:
        frames: so many are kept, the best ones by quality.
        method: as of `tracklet_descriptor`.

    Raises:
        ConfigError: an unknown method, or frames below 1.
    """

    def __init__(self, frames: int = 50, method: Method = "mean") -> None:
        check_choice("method", method, get_args(Method))
        if frames < 1:
            raise ConfigError(f"frames={frames} must be 1 or more.")
        self.frames, self.method = frames, method
        self._kept: list[tuple[float, Tensor]] = []

    def add(self, feature: Float[Tensor, " dim"], quality: float | Tensor = 1.0) -> None:
        """Take in a frame; one of quality 0 (a box without pixels) is passed over."""
        if quality > 0:
            self._kept.append((float(quality), feature))
            if len(self._kept) > self.frames:  # of equal ones the oldest goes
                self._kept.pop(min(range(len(self._kept)), key=lambda i: self._kept[i][0]))

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def descriptor(self) -> Float[Tensor, " dim"]:
        """Of the track up to now. Raises `ConfigError` before its first frame."""
        if not self._kept:
            raise ConfigError("the track has no frame with pixels yet, so it has no descriptor.")
        quality, features = zip(*self._kept, strict=True)
        return tracklet_descriptor(torch.stack(features), torch.tensor(quality), self.method)
