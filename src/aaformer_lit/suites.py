"""The benchmark suites: each checks our result against a reference, then times ours and a baseline turn by turn."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aaformer_lit.errors import AAformerError, ConfigError
from aaformer_lit.structures import FeatureSet


@dataclass(frozen=True, slots=True)
class Measurement:
    """Seconds of each repeat, of ours and of what it is compared with."""

    suite: str
    what: str
    against: str
    ours: tuple[float, ...]
    baseline: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Ours over baseline, of the fastest repeats: what disturbs a machine only ever adds time."""
        return min(self.ours) / min(self.baseline)

    def as_dict(self) -> dict[str, Any]:
        seconds = {"ours_seconds": self.ours, "baseline_seconds": self.baseline}
        return {"suite": self.suite, "what": self.what, "against": self.against, "ratio": self.ratio, **seconds}


class WrongResult(AAformerError):
    """A suite's result differs from its reference; its time would be worthless."""


def compare(
    suite: str, what: str, against: str, ours: Callable[[], object], baseline: Callable[[], object], repeats: int
) -> Measurement:
    """Time both in turns, after one call of each to warm up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for function, times in zip((ours, baseline), seconds, strict=True):
            _synchronize()
            started = time.perf_counter()
            function()
            _synchronize()
            if repeat:
                times.append(time.perf_counter() - started)
    return Measurement(suite, what, against, tuple(seconds[0]), tuple(seconds[1]))


def check(suite: str, ours: torch.Tensor, reference: torch.Tensor, tolerance: float) -> None:
    """Raise `WrongResult` unless the two agree."""
    difference = (ours.double() - reference.double()).abs().max().item()
    if not difference <= tolerance:
        raise WrongResult(
            f"suite {suite}: the result differs from its reference by {difference:.3g} (> {tolerance:g})."
        )


def data(full: bool, repeats: int) -> list[Measurement]:
    """Decode, resize, flip, pad-crop, erase, normalise: our pipeline against torchvision's on Pillow images, one process."""
    from PIL import Image
    from torchvision import transforms as T

    from aaformer_lit.data.sampler import Draw
    from aaformer_lit.data.samples import PersonImages
    from aaformer_lit.data.synthetic import SyntheticSpec, render
    from aaformer_lit.data.transforms import Transforms
    from aaformer_lit.structures import Record

    count, size, settings = (256 if full else 48), (256, 128), Transforms()
    spec = SyntheticSpec(num_train_ids=count, num_test_ids=1)
    normalise = [T.ToTensor(), T.Normalize(settings.mean, settings.std)]
    resize = T.Resize(size, T.InterpolationMode.BICUBIC)
    train = T.Compose(
        [
            resize,
            T.RandomHorizontalFlip(),
            T.Pad(10),
            T.RandomCrop(size),
            *normalise,
            T.RandomErasing(0.5, value="random"),
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{pid:04d}_c1s1_000001_00.jpg") for pid in spec.train_pids]
        for pid, path in zip(spec.train_pids, paths, strict=True):
            Image.fromarray(render(spec, pid, 1, 0)[0]).save(path, quality=95)
        records = [Record(path, pid, 1) for pid, path in zip(spec.train_pids, paths, strict=True)]
        plain = PersonImages(records, size, settings.test())[0]["image"]
        with Image.open(paths[0]) as image:
            check("data", plain.mean(), T.Compose([resize, *normalise])(image.convert("RGB")).mean(), 0.01)
        images = PersonImages(records, size, settings.train(size), labels={r.pid: i for i, r in enumerate(records)})

        def ours() -> None:
            for index in range(count):
                images[Draw(index)]

        def theirs() -> None:
            for path in paths:
                with Image.open(path) as image:
                    train(image.convert("RGB"))

        what = f"{count} JPEGs 128x64 -> 256x128"
        return [compare("data", what, "torchvision and Pillow", ours, theirs, repeats)]


def assignment(full: bool, repeats: int) -> list[Measurement]:
    """Sinkhorn on all problems at once against POT's solver in a loop, both run to the same number of iterations."""
    from aaformer_lit.assign import sinkhorn

    try:
        import ot
    except ImportError as error:
        raise ConfigError("suite=assignment compares with POT: pip install POT.") from error
    problems, parts, patches, iterations = (768 if full else 96), 5, 576, 3
    scores = torch.rand(problems, parts, patches) * 2 - 1
    marginals = torch.full((parts,), 1 / parts).double().numpy(), torch.full((patches,), 1 / patches).double().numpy()

    def pot(matrix: torch.Tensor, steps: int) -> Any:
        return ot.sinkhorn(*marginals, -matrix.double().numpy(), 0.05, numItermax=steps, stopThr=0, warn=False)

    exact = sinkhorn(scores[0].double(), iterations=2000)
    check("assignment", exact, torch.from_numpy(pot(scores[0], 20_000)), 1e-6)

    def loop() -> None:
        for matrix in scores:
            pot(matrix, iterations)

    what = f"{problems} problems {parts}x{patches}, 3 iterations"
    return [compare("assignment", what, "POT in a loop", lambda: sinkhorn(scores), loop, repeats)]


def train_step(full: bool, repeats: int) -> list[Measurement]:
    """Forward and backward of AAformer against the ViT baseline on the same backbone."""
    from aaformer_lit.models import AAformer, ViTBaseline, build_backbone

    name, batch = ("vit_base_patch16_224", 8) if full else ("vit_tiny_patch16_224", 4)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.randn(batch, 3, 256, 128, device=device)
    backbones = [build_backbone(name, (256, 128), drop_path=0.0) for _ in range(3)]
    for backbone in backbones[1:]:
        backbone.load_state_dict(backbones[0].state_dict())
    baseline = ViTBaseline(backbones[0]).to(device)
    isolated = AAformer(backbones[1], visibility="isolated").to(device)
    with torch.no_grad():
        check("train_step", isolated.eval()(images).global_feat, baseline.eval()(images).global_feat, 1e-4)
    network = AAformer(backbones[2], parts=[2, 3]).to(device)

    def forward(net: torch.nn.Module) -> Callable[[], object]:
        return torch.no_grad()(lambda: net.eval()(images))

    def step(net: torch.nn.Module) -> Callable[[], object]:
        def run() -> None:
            output = net.train()(images)
            (output.global_feat.sum() + output.part_feats.sum()).backward()

        return run

    what = f"{name}, parts [2,3], batch {batch}"
    return [
        compare("train_step", f"{label}, {what}", "ViT baseline", make(network), make(baseline), repeats)
        for label, make in (("forward", forward), ("forward and backward", step))
    ]


def evaluate(full: bool, repeats: int) -> list[Measurement]:
    """CMC, mAP and mINP against the bare chunked matrix product."""
    from aaformer_lit.metrics import evaluate_retrieval

    query, gallery = _features(3368, 15913, 4608, 751) if full else _features(500, 3000, 512, 100)
    metrics = evaluate_retrieval(query, gallery)
    chosen = metrics.per_query.index[:5]
    reference = torch.tensor([_average_precision(query, gallery, int(i)) for i in chosen])
    check("evaluate", metrics.per_query.average_precision[:5], reference, 1e-6)
    what = f"{len(query)} x {len(gallery)}, {query.features.shape[1]}-d"
    product = _product(query.features, gallery.features)
    ours = lambda: evaluate_retrieval(query, gallery)  # noqa: E731
    return [compare("evaluate", what, "matrix product", ours, product, repeats)]


def rerank(full: bool, repeats: int) -> list[Measurement]:
    """Streaming k-reciprocal re-ranking with its metrics against the bare N x N product."""
    from aaformer_lit.metrics import KReciprocal, evaluate_retrieval, k_reciprocal_rerank

    query, gallery = _features(3368, 15913, 4608, 751) if full else _features(300, 1500, 512, 100)
    few = _features(20, 80, 16, 10)
    streamed = evaluate_retrieval(*few, rerank=KReciprocal())
    distances = k_reciprocal_rerank(few[0].features, few[1].features)
    reference = torch.tensor([_average_precision(*few, int(i), distances) for i in streamed.per_query.index])
    check("rerank", streamed.per_query.average_precision, reference, 1e-5)
    everything = torch.cat([query.features, gallery.features])
    what = f"{len(query)} + {len(gallery)}, {query.features.shape[1]}-d"
    ours = lambda: evaluate_retrieval(query, gallery, rerank=KReciprocal())  # noqa: E731
    return [compare("rerank", what, "N x N product", ours, _product(everything, everything), repeats)]


def _features(queries: int, images: int, dim: int, ids: int) -> tuple[FeatureSet, FeatureSet]:
    centres = torch.randn(ids, dim)

    def some(count: int) -> FeatureSet:
        pids = torch.randint(ids, (count,))
        features = torch.nn.functional.normalize(centres[pids] + 2 * torch.randn(count, dim), dim=1)
        return FeatureSet(features, pids + 1, torch.randint(6, (count,)))

    return some(queries), some(images)


def _product(rows: torch.Tensor, columns: torch.Tensor, chunk: int = 512) -> Callable[[], object]:
    return lambda: [part @ columns.t() for part in rows.split(chunk)][-1]


def _average_precision(
    query: FeatureSet, gallery: FeatureSet, index: int, distances: torch.Tensor | None = None
) -> float:
    """The obvious way, for one query."""
    if distances is None:
        row = (query.features[index].double() - gallery.features.double()).square().sum(dim=1)
    else:
        row = distances[index]
    same = gallery.pids == query.pids[index]
    keep = ~(same & (gallery.camids == query.camids[index]))
    hits = same[keep][row[keep].argsort(stable=True)].nonzero().flatten() + 1
    return float((torch.arange(1, len(hits) + 1) / hits).mean())


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


SUITES: dict[str, Callable[..., list[Measurement]]] = {
    function.__name__: function for function in (data, assignment, train_step, evaluate, rerank)
}
