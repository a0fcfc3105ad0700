"""Does the exported file compute what the network does? Features at equal assignments, and what flipped assignments do.

The hard assignment is discontinuous: a rounding error moves a patch that two parts hold almost equally, and that part's
feature then moves a little or a lot. So three questions are kept apart. Given the file's own assignments, does torch get
the same features (it must, everywhere)? How many assignments differ (few may)? Does it find the same people as things are?
The rest of the difference is reported, not judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from aaformer_lit.data.test_set import TestSet
from aaformer_lit.deploy.agreement import Agreement, among_themselves, on_test_set
from aaformer_lit.deploy.bounds import Bounds
from aaformer_lit.deploy.deployed import Deployed, Outputs

Exported = Callable[[Tensor], Outputs]
# on an image of one color patches differ by their position alone, and many are held equally: its flips say nothing
FLAT = ("black", "white", "constant")
OWN, TEST = "own images", "test images"
PHOTOS = (OWN, TEST)
PEOPLE = ("people", *PHOTOS)


@dataclass(frozen=True)
class Comparison:
    """What was found, per image and kind of image.

    Deviations are the largest difference of a channel after each token is scaled to length 1 (`tokens`; token 0 is CLS),
    so that they do not depend on how large a network's features happen to be; of `features`, as the file gives them,
    relative to their length.

    Args:
        kinds: the kind of each image.
        flipped: of each image, the share of patches (over layers, heads and granularities) assigned otherwise.
        tokens, features: deviation as things are.
        tokens_at_equal, features_at_equal: deviation if torch assigns as the file does.
        rank_lists: agreement of the ranking lists (see `rank_agreement`).
        agreement: of each kind of people, whether the file finds the same ones.
    """

    kinds: Sequence[str]
    flipped: Float[Tensor, " images"]
    tokens: Float[Tensor, "images tokens"]
    features: Float[Tensor, " images"]
    tokens_at_equal: Float[Tensor, "images tokens"]
    features_at_equal: Float[Tensor, " images"]
    rank_lists: Mapping[str, float]
    agreement: Mapping[str, Agreement]

    def problem(self, bounds: Bounds) -> str | None:
        """Why the file must not be kept, or None."""
        worst = torch.cat([self.tokens_at_equal, self.features_at_equal[:, None]], dim=1).amax(dim=1)
        if not worst.isfinite().all():
            kind = self.kinds[int((~worst.isfinite()).nonzero()[0])]
            return f"its features are not finite ({kind})"
        people = PEOPLE if bounds.any_image else self._seen_people()
        judged = torch.tensor([bounds.any_image or kind in people for kind in self.kinds])
        if (farthest := worst.where(judged, 0)).max() > bounds.tolerance:
            return (
                f"at equal assignments its features are {farthest.max():.1e} away "
                f"({self.kinds[int(farthest.argmax())]}); {bounds.tolerance:.0e} allowed"
            )
        share = float(self.flipped[judged & torch.tensor([kind not in FLAT for kind in self.kinds])].mean())
        if share > bounds.max_flipped:
            return f"it assigns {share:.2%} of the patches to another part; {bounds.max_flipped:.2%} allowed"
        for kind, found in ((kind, self.agreement[kind]) for kind in people if kind in self.agreement):
            if found.top_k < bounds.min_top_k:
                return (
                    f"of its first {found.k} answers only {found.top_k:.1%} are the network's ({kind}); "
                    f"{bounds.min_top_k:.1%} needed"
                )
            if abs(found.mAP_change) > bounds.max_mAP_change:
                return f"its mAP is {found.mAP_change:+.2%} off ({kind}); {bounds.max_mAP_change:.2%} allowed"
        return None

    def _seen_people(self) -> tuple[str, ...]:
        """Whom a file with fewer bits is judged on: photos like those that it will see, drawn people only without any."""
        return tuple(kind for kind in PHOTOS if kind in self.kinds) or PEOPLE

    def as_dict(self) -> dict[str, Any]:
        """For the report: over all images, and of each kind."""
        everything = self._summary(torch.ones(len(self.kinds), dtype=torch.bool))
        kinds = {
            kind: self._summary(torch.tensor([k == kind for k in self.kinds])) for kind in dict.fromkeys(self.kinds)
        }
        return {
            "all": everything,
            "rank_lists": dict(self.rank_lists),
            "agreement": {kind: asdict(found) for kind, found in self.agreement.items()},
            "kinds": kinds,
        }

    def _summary(self, chosen: Bool[Tensor, " images"]) -> dict[str, Any]:
        agree = chosen & (self.flipped == 0)
        return {
            "images": int(chosen.sum()),
            "flipped_assignments": float(self.flipped[chosen].mean()),
            "images_with_a_flip": int((chosen & ~agree).sum()),
            "deviation_where_assignments_agree": _largest(self.tokens[agree], self.features[agree]),
            "deviation_at_equal_assignments": _largest(self.tokens_at_equal[chosen], self.features_at_equal[chosen]),
            "deviation_as_they_are": _largest(self.tokens[chosen], self.features[chosen]),
        }


def compare(
    deployed: Deployed,
    exported: Exported,
    test_images: Mapping[str, Sequence[Tensor]],
    test: TestSet | None = None,
    batch_size: int = 32,
) -> Comparison:
    """Run the network and its exported file on the same images.

    Args:
        deployed: what the file was made from.
        exported: runs the file.
        test_images: inputs by kind, each as the file takes it.
        test: who is on those of the kind "test images".
        batch_size: at most so many at once; images of different sizes go one by one.
    """
    kinds = [kind for kind, images in test_images.items() for _ in images]
    found, wanted, at_equal = [], [], []
    for images in batches(test_images, batch_size):
        wanted.append(deployed.outputs(images))
        found.append(exported(images))
        assignments = found[-1].assignments
        at_equal.append(wanted[-1] if assignments is None else deployed.outputs(images, assignments))
    features, wanted_features, equal_features = (torch.cat([o.features for o in x]) for x in (found, wanted, at_equal))
    flipped = [
        torch.zeros(len(a.features))
        if a.assignments is None or b.assignments is None
        else flipped_share(a.assignments, b.assignments, deployed.parts)
        for a, b in zip(found, wanted, strict=True)
    ]
    agreement: dict[str, Agreement] = {}
    for kind in (kind for kind in PEOPLE if kind in test_images):
        rows = [k == kind for k in kinds]
        people = features[rows], wanted_features[rows]
        if (agrees := on_test_set(*people, test) if kind == TEST and test else among_themselves(*people)) is not None:
            agreement[kind] = agrees
    tokens, _ = deployed.network.descriptor_shape
    return Comparison(
        kinds,
        torch.cat(flipped),
        token_deviation(features, wanted_features, tokens),
        feature_deviation(features, wanted_features),
        token_deviation(features, equal_features, tokens),
        feature_deviation(features, equal_features),
        rank_agreement(features, wanted_features),
        agreement,
    )


def batches(test_images: Mapping[str, Sequence[Tensor]], size: int) -> Iterator[Tensor]:
    """Batches of images of one kind, which are of one size or go alone."""
    for images in test_images.values():
        step = size if len({image.shape for image in images}) == 1 else 1
        for first in range(0, len(images), step):
            yield torch.stack(list(images[first : first + step]))


def flipped_share(
    found: Bool[Tensor, "layers batch heads parts patches"],
    wanted: Bool[Tensor, "layers batch heads parts patches"],
    parts: Sequence[int],
) -> Float[Tensor, " batch"]:
    """Of each image, the share of patches whose parts differ; each layer, head and granularity counts."""
    if found.shape != wanted.shape:
        raise ValueError(f"assignments of shape {tuple(found.shape)} against {tuple(wanted.shape)}")
    moved = [group.any(dim=-2, keepdim=True) for group in (found != wanted).split(list(parts), dim=-2)]
    return torch.cat(moved, dim=-2).float().mean(dim=(0, 2, 3, 4))


def token_deviation(
    found: Float[Tensor, "batch features"], wanted: Float[Tensor, "batch features"], tokens: int
) -> Float[Tensor, "batch tokens"]:
    """Largest difference of a channel of each token, tokens scaled to length 1."""
    ours, theirs = (F.normalize(x.reshape(len(x), tokens, -1).double(), dim=-1) for x in (wanted, found))
    deviation: Tensor = (ours - theirs).abs().amax(dim=-1)
    return deviation


def feature_deviation(
    found: Float[Tensor, "batch features"], wanted: Float[Tensor, "batch features"]
) -> Float[Tensor, " batch"]:
    """Largest difference of a channel, relative to the length of what is wanted."""
    length: Tensor = wanted.double().norm(dim=1).clamp_min(1e-12)
    deviation: Tensor = (found.double() - wanted.double()).abs().amax(dim=1)
    return deviation / length


def rank_agreement(
    found: Float[Tensor, "batch features"], wanted: Float[Tensor, "batch features"], depth: int = 10
) -> dict[str, float]:
    """Every fourth image searches the others: how many lists agree, in their first answer, first ten, and throughout."""
    query = torch.arange(len(found)) % 4 == 0
    lists = [
        torch.cdist(x[query].double(), x[~query].double()).argsort(dim=1, stable=True)
        for x in (found.nan_to_num(), wanted)
    ]
    same = lists[0] == lists[1]
    return {
        "queries": int(query.sum()),
        "gallery": int((~query).sum()),
        "same_first": float(same[:, 0].float().mean()),
        f"same_first_{depth}": float(same[:, :depth].all(dim=1).float().mean()),
        "same_throughout": float(same.all(dim=1).float().mean()),
    }


def _largest(tokens: Float[Tensor, "images tokens"], features: Float[Tensor, " images"]) -> dict[str, float | None]:
    """None where there is no such image or token; a report of 0 would claim agreement."""

    def largest(values: Tensor) -> float | None:
        value = float(values.max()) if values.numel() else None
        return value if value is None or math.isfinite(value) else None

    return {"cls": largest(tokens[:, :1]), "parts": largest(tokens[:, 1:]), "features": largest(features)}
