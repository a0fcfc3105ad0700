"""Options of evaluate, against direct calls on the features that it saves."""

import pytest
import torch
from safetensors.torch import load_file

import reference
from aaformer_lit.checkpoints.load import load
from aaformer_lit.evaluate import _save_model
from aaformer_lit.gallery import Extractor
from aaformer_lit.metrics import evaluate_retrieval, expand_features
from aaformer_lit.models.compression import Compression
from aaformer_lit.structures import FeatureSet
from cli_tools import TINY, TINY_DATA, only, read_json, run_cli


def evaluated(ckpt, data_dir, runs, *options):
    common = (*TINY_DATA, f"paths.data={data_dir}", f"paths.runs={runs}", "trainer=cpu", "alignment=false")
    assert run_cli("evaluate", f"ckpt={ckpt}", *common, "trainer.enable_progress_bar=false", *options) == 0
    return only(runs.rglob("metrics.json")).parent


def feature_sets(run, data="synthetic"):
    saved = load_file(run / "features.safetensors")
    names = ("features", "pids", "camids")
    return [FeatureSet(*(saved[f"{data}/{role}/{name}"] for name in names)) for role in ("query", "gallery")]


@pytest.mark.parametrize(("queries", "gallery", "alpha"), [(2, 0, 0.0), (0, 1, 3.0), (2, 3, 1.0)])
def test_expansion_is_what_direct_calls_give(trained, data_dir, tmp_path, queries, gallery, alpha):
    options = (f"expand.queries={queries}", f"expand.gallery={gallery}", f"expand.alpha={alpha}", "save_features=true")
    run = evaluated(trained, data_dir, tmp_path, *options)
    query, pool = feature_sets(run)
    features, database = query.features, pool.features
    if gallery:
        database = expand_features(database, k=gallery, alpha=alpha)
    if queries:
        features = expand_features(features, database, k=queries, alpha=alpha)
    expected = evaluate_retrieval(
        FeatureSet(features, query.pids, query.camids), FeatureSet(database, pool.pids, pool.camids)
    )
    written = read_json(run / "metrics.json")
    assert written["test/mAP"] == pytest.approx(expected.mAP, abs=1e-6)
    assert written["test/rank1"] == pytest.approx(expected.cmc[1], abs=1e-6)
    assert written["test/mAP"] != read_json(trained / "metrics.json")["test/mAP"], "a test of nothing"


def slow(query, gallery, distances):
    """mAP and Rank-1 by the obvious loop."""
    found = reference.retrieval(distances, query.pids, query.camids, gallery.pids, gallery.camids)
    return pytest.approx([found.mAP, found.cmc[1]], abs=1e-6)


def headline(run):
    metrics = read_json(run / "metrics.json")
    return [metrics["test/mAP"], metrics["test/rank1"]]


def test_re_ranking_is_what_the_authors_code_gives(trained, data_dir, tmp_path):
    run = evaluated(
        trained, data_dir, tmp_path, "rerank=k_reciprocal", "rerank.k1=5", "rerank.k2=2", "save_features=true"
    )
    query, gallery = feature_sets(run)
    distances = reference.k_reciprocal_rerank(query.features.numpy(), gallery.features.numpy(), k1=5, k2=2)
    assert headline(run) == slow(query, gallery, distances)
    assert headline(run) != headline(trained), "a test of nothing"


def test_the_mirror_image_counts_half(trained, data_dir, people, tmp_path):
    run = evaluated(trained, data_dir, tmp_path, "flip_test=true", "save_features=true")
    query, _ = feature_sets(run)
    extractor = Extractor.from_checkpoint(trained / "checkpoints" / "last.ckpt", flip_test=True, num_workers=0)
    files = sorted((people / "query").glob("*.jpg"))
    torch.testing.assert_close(query.features, extractor.layout.select(extractor.features(files)), atol=1e-5, rtol=0)
    plain = Extractor.from_checkpoint(trained / "checkpoints" / "last.ckpt", num_workers=0)
    assert (plain.layout.select(plain.features(files)) - query.features).abs().max() > 1e-3, "a test of nothing"


def test_an_image_is_no_answer_to_itself(trained, people, tmp_path):
    """Queries that lie in the gallery too, by unknown cameras: their own file is left out of their rankings."""
    files = sorted((people / "bounding_box_test").glob("[0-9]*.jpg"))
    rows = [f"{path},{path.name.split('_')[0]},{split}" for path in files for split in ("query", "gallery")]
    (tmp_path / "own.csv").write_text("\n".join(["path,pid,split", *rows]))
    options = ("data=folder", f"data.table={tmp_path}/own.csv", f"paths.runs={tmp_path}", "save_features=true")
    quiet = ("trainer=cpu", "trainer.enable_progress_bar=false", "alignment=false", "data.num_workers=0")
    assert run_cli("evaluate", f"ckpt={trained}", f"paths.data={tmp_path}", *options, *quiet) == 0
    run = only(tmp_path.rglob("metrics.json")).parent
    query, gallery = feature_sets(run, "folder")
    distances = torch.cdist(query.features.double(), gallery.features.double())
    itself = torch.eye(len(files), dtype=torch.bool)
    assert distances[itself].max() < 1e-3
    assert slow(query, gallery, distances.masked_fill(itself, 0)) != headline(run), "a test of nothing"
    alone = [(distances[i][~itself[i]].argsort(), i) for i in range(len(files))]
    first, precisions = [], []
    for order, i in alone:
        hits = (gallery.pids[~itself[i]] == query.pids[i])[order].nonzero().flatten() + 1
        precisions.append(float((torch.arange(1, len(hits) + 1) / hits).mean()))
        first.append(float(hits[0] == 1))
    assert headline(run) == pytest.approx([sum(precisions) / len(files), sum(first) / len(files)], abs=1e-6)


@pytest.mark.parametrize(
    ("option", "message"),
    [("expand.queries=-1", "expand.queries=-1"), ("expand.queries=99", "k=99 neighbors")],
)
def test_expansions_that_cannot_be(trained, data_dir, tmp_path, capsys, option, message):
    code = run_cli(
        "evaluate", f"ckpt={trained}/checkpoints/last.ckpt", *TINY_DATA, f"paths.data={data_dir}",
        f"paths.runs={tmp_path}", "trainer=cpu", "trainer.enable_progress_bar=false", option,
    )  # fmt: skip
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.rglob("metrics.json"))


def test_short_descriptors_are_tested_beside_the_whole_ones_and_kept_as_models(trained, data_dir, tmp_path):
    run = evaluated(trained, data_dir, tmp_path / "whole", "compress=[4,8]")
    written = read_json(run / "metrics.json")
    for size in (4, 8):
        other = evaluated(run / f"compressed_{size}", data_dir, tmp_path / str(size))
        again = read_json(other / "metrics.json")
        assert again["test/mAP"] == pytest.approx(written[f"test/mAP_pca_{size}"], abs=1e-3)
        assert not [key for key in again if key.endswith(("_parts", "_global"))]
    assert written["test/mAP"] == read_json(trained / "metrics.json")["test/mAP"]
    names = [key for key in written if key.startswith("test/") and f"{key}_pca_4" in written]
    assert any(written[f"{name}_pca_{size}"] != written[name] for name in names for size in (4, 8)), "a test of nothing"


def test_short_descriptors_of_cls_and_the_mean_of_the_parts_on_crops_that_are_cut_off(data_dir, tmp_path):
    """All three together: the test of a compressed model is the row of the one that it was made from."""
    options = (
        *TINY,
        f"paths.data={data_dir}",
        f"paths.runs={tmp_path / 'train'}",
        "pictures=[]",
        "test_untrained=false",
    )
    assert run_cli("train", *options, "model.descriptor=cls_mean") == 0
    ckpt = only((tmp_path / "train").rglob("last.ckpt"))
    whole = read_json(evaluated(ckpt, data_dir, tmp_path / "whole") / "metrics.json")
    run = evaluated(ckpt, data_dir, tmp_path / "cut", "compress=[8]", "data.cut=0.3", "save_features=true")
    cut = read_json(run / "metrics.json")
    saved = load_file(run / "features.safetensors")
    assert saved["synthetic/query/features"].shape[1] == 48, "CLS and the mean of five parts, 24 numbers each"
    assert cut["test/mAP"] != whole["test/mAP"], "nothing was cut off"
    again = evaluated(run / "compressed_8", data_dir, tmp_path / "short", "data.cut=0.3", "save_features=true")
    assert load_file(again / "features.safetensors")["synthetic/query/features"].shape[1] == 8
    assert read_json(again / "metrics.json")["test/mAP"] == pytest.approx(cut["test/mAP_pca_8"], abs=1e-3)
    for name in ("_global", "_parts", "_concat", "_pca_8"):
        assert 0 < cut[f"test/mAP{name}"] <= 1


def test_a_short_model_takes_the_place_of_an_earlier_test_s(trained, tmp_path):
    network, about = load(trained)
    for size in (4, 8):
        network.compression = Compression(network.num_tokens * network.dim, size)
        _save_model(network, about | {"compress": size}, tmp_path / "compressed")
    assert [path.name for path in tmp_path.iterdir()] == ["compressed"]
    assert load(tmp_path / "compressed")[0].descriptor_shape == (1, 8)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (144, "less than the 144 numbers"),
        (64, "compress=64 needs more than 64"),
        ("all", "must be lengths of descriptors"),
        ("[true]", "must be lengths of descriptors"),
    ],
)
def test_lengths_that_cannot_be(trained, data_dir, tmp_path, capsys, size, message):
    code = run_cli(
        "evaluate", f"ckpt={trained}/checkpoints/last.ckpt", *TINY_DATA, f"paths.data={data_dir}",
        f"paths.runs={tmp_path}", "trainer=cpu", "trainer.enable_progress_bar=false", f"compress={size}",
    )  # fmt: skip
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not [*tmp_path.rglob("metrics.json"), *tmp_path.rglob("compressed_*")]
