"""From a network, its test results and some images to figures: what each `kind` of picture is made from.

`aaformer_lit.viz` draws; here the network is asked for what is drawn. A kind is one function from a `Scene` to a Figure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from matplotlib.figure import Figure
from torch import Tensor

from aaformer_lit import viz
from aaformer_lit.data.images import read_image
from aaformer_lit.errors import ConfigError
from aaformer_lit.metrics import ReIDRetrieval, SquaredEuclidean, evaluate_verification
from aaformer_lit.models import AAformer, ReIDViT
from aaformer_lit.pictures.scene import NEEDS_MASKS, Scene
from aaformer_lit.structures import Record, nobody
from aaformer_lit.utils.sequences import spread


def assignment(scene: Scene) -> Figure:
    """Which patches belong to which part (Figure 1d), and where the part tokens look, in the mean over the layers."""
    return _assignment(scene, range(len(scene.network.backbone.blocks)))


def cut_off(scene: Scene) -> Figure:
    """Whether the parts follow the body: two images whole, without the upper and without the lower 30% of their height."""
    cuts = {"whole": (0.0, 0.0), "without top": (0.3, 0.0), "without bottom": (0.0, 0.3)}
    scene = replace(scene, records=spread(scene.records, 2), cuts=tuple(cuts.values()))
    return _assignment(scene, [scene.layer], tuple(cuts))


def _assignment(scene: Scene, attended: Sequence[int], lines: Sequence[str] = ("",)) -> Figure:
    network, batch, masks, weights = scene.network, scene.batch(), scene.masks(), None
    if isinstance(network, AAformer):
        weights = torch.stack([network.part_attention_maps(batch, layer, masks)[0] for layer in attended]).mean(dim=0)
    # what pools groups its patches once, after the last layer
    membership = network.assignments(batch, masks)[scene.layer if isinstance(network, AAformer) else -1]
    return viz.assignment_maps(
        scene.images(), membership, network.grid, network.granularities, head=scene.head, attention=weights, lines=lines
    )


def layers(scene: Scene) -> Figure:
    """How the subsets move through the layers."""
    network = scene.network
    memberships = network.assignments(scene.batch(), scene.masks())
    return viz.assignment_through_layers(
        scene.images(), memberships, network.grid, network.granularities, head=scene.head
    )


def attention(scene: Scene) -> Figure:
    """Where in its subset each part token looks (Figure 5)."""
    network = scene.network
    assert isinstance(network, AAformer), "see check_drawable"
    weights, membership = network.part_attention_maps(scene.batch(), scene.layer, scene.masks())
    return viz.attention_maps(scene.images(), weights, membership, network.grid, network.granularities, head=scene.head)


def rankings(scene: Scene) -> Figure:
    """Nearest gallery images of some queries (Figure 4), spread over the query set; of several models side by side."""
    metrics, unknown = {scene.name: scene.tested(), **scene.rivals}, nobody(scene.query)
    rows = torch.tensor(spread(range(len(scene.query)), scene.queries))
    lists = {name: _ranking(metric, rows, scene.answers) for name, metric in metrics.items()}
    return viz.ranking_lists(
        lambda index: read_image(scene.query[int(rows[index])].path),
        lambda row: read_image(scene.gallery[row].path),
        lists if scene.rivals else lists[scene.name],
        labels=[_who(scene.query[int(row)], unknown) for row in rows],
        captions=lambda row: _who(scene.gallery[row], unknown),
    )


def _who(record: Record, unknown: Collection[int]) -> str:
    """Person and camera, as far as they are known; `unknown`: pids that are no one person."""
    person = [] if record.pid in unknown else [f"pid {record.pid}"]
    return "\n".join(person + [f"camera {record.camid}"] * (record.camid >= 0))


def _ranking(metric: ReIDRetrieval, rows: Int[Tensor, " chosen"], answers: int) -> viz.Ranking:
    query, gallery = metric.feature_sets()
    chosen = query.select(rows)
    distances = SquaredEuclidean(chosen.features, gallery.features).rows(slice(None)).sqrt()
    return viz.rank_gallery(distances.cpu(), chosen, gallery, answers)


def alignment(scene: Scene) -> Figure:
    """How well the subsets match true body parts, layer by layer."""
    if not scene.alignments:
        raise ConfigError(NEEDS_MASKS)
    scores: dict[str, dict[str, Any]] = {"NMI": {}, "purity": {}, "share of attention on background": {}}
    for one in scene.alignments:
        share = one.background if one.background_attention is None else one.background_attention
        for score, values in zip(scores.values(), (one.nmi, one.purity, share.mean(dim=-1)), strict=True):
            # what pools has no depth: a level to compare with
            score[f"{one.parts} parts"] = values.cpu() if len(values) > 1 else values.mean().item()
    # parts that know nothing of the body: independent of it, named after its most frequent part, spread over the image
    patches, shown = (table[0, 0].sum(dim=0) for table in (scene.alignments[0].counts, scene.alignments[0].compared))
    scores["NMI"][viz.CHANCE] = 0.0
    scores["purity"][viz.CHANCE] = (shown.max() / shown.sum().clamp(min=1)).item()
    scores["share of attention on background"][viz.CHANCE] = (patches[-1] / patches.sum().clamp(min=1)).item()
    return viz.alignment_over_depth(scores)


def curves(scene: Scene) -> Figure:
    """Loss and mAP over the training."""
    assert scene.run_dir is not None, "see check_drawable"
    return viz.training_curves(scene.run_dir / "metrics.csv")


def cmc(scene: Scene) -> Figure:
    """CMC of all tokens, and of the subsets."""
    scene.tested()
    return viz.cmc_curves({name or "all tokens": metrics for name, metrics in scene.metrics.items()})


def roc(scene: Scene) -> Figure:
    """Verification: true against false accepts."""
    return viz.verification_roc(evaluate_verification(*scene.tested().feature_sets()))


def distances(scene: Scene) -> Figure:
    """Distances of genuine and impostor pairs, and the threshold where errors are equal."""
    sets = scene.tested().feature_sets()
    return viz.distance_histogram(viz.verification_pairs(*sets), viz.eer_threshold(evaluate_verification(*sets)))


def embedding(scene: Scene) -> Figure:
    """The gallery's descriptors as a map colored by identity."""
    _, gallery = scene.tested().feature_sets()
    known = [pid for pid in gallery.pids.unique().tolist() if pid not in nobody(scene.query)]
    chosen = torch.isin(gallery.pids, torch.tensor(known[:20])).nonzero().flatten()[:1000]
    points = viz.project(gallery.features[chosen].cpu())
    return viz.embedding_map(points, gallery.pids[chosen].cpu(), title="Gallery descriptors by t-SNE, colored by pid")


def contact_sheet(scene: Scene) -> Figure:
    """The images themselves."""
    labels = [_who(record, nobody(scene.query)) or record.path.stem for record in scene.records]
    return viz.contact_sheet(scene.images(), labels=labels)


KINDS: dict[str, Callable[[Scene], Figure]] = {
    function.__name__: function
    for function in (
        assignment, cut_off, layers, attention, rankings, alignment, curves, cmc, roc, distances, embedding, contact_sheet
    )
}  # fmt: skip
OF_PARTS = frozenset({"assignment", "cut_off", "layers", "attention", "alignment"})
FROM_A_TEST = frozenset({"rankings", "alignment", "cmc", "roc", "distances", "embedding"})


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise `ConfigError` for a picture that does not exist."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ConfigError(f"there is no picture kind={unknown[0]}. Kinds: {', '.join(KINDS)}.")


def check_drawable(kinds: Sequence[str], network: ReIDViT, run_dir: Path | None) -> None:
    """Raise `ConfigError` for a picture that cannot be drawn of this network, or of the training in `run_dir`.

    Whether the data have masks (kind=alignment) is not known here.
    """
    check_kinds(kinds)
    for kind in kinds:
        if kind in OF_PARTS and not network.granularities:
            raise ConfigError(
                f"kind={kind}: {type(network).__name__} has no parts to show. Leave it out, or use a checkpoint of "
                "model=aaformer."
            )
        if kind == "attention" and not isinstance(network, AAformer):
            raise ConfigError(
                f"kind={kind}: {type(network).__name__} has no part tokens that look at patches. Leave it out, or use a "
                "checkpoint of model=aaformer."
            )
        if kind == "curves" and (run_dir is None or not (run_dir / "metrics.csv").is_file()):
            raise ConfigError(
                f"kind={kind}: there is no metrics.csv in {run_dir}. Leave it out, or give a checkpoint in the run directory "
                "of a training with logger=csv."
            )


def check_place(network: ReIDViT, layer: int, head: int | None) -> None:
    """Raise `ConfigError` for a layer (from the last one if negative) or a head that the network does not have."""
    blocks = network.backbone.blocks
    if not -len(blocks) <= layer < len(blocks):
        raise ConfigError(f"layer must be between {-len(blocks)} and {len(blocks) - 1}; got {layer}.")
    heads = blocks[0].attn.num_heads
    if head is not None and not 0 <= head < heads:
        raise ConfigError(f"head={head} must be between 0 and {heads - 1}, or null for what most heads say.")


def draw(kinds: Sequence[str], scene: Scene, folder: Path) -> list[Path]:
    """Draw each kind into `folder/<kind>.png`.

    Raises:
        ConfigError: an unknown kind, or one that needs what the scene does not have.
    """
    check_drawable(kinds, scene.network, scene.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return [viz.save(KINDS[kind](scene), folder / f"{kind}.png") for kind in kinds]
