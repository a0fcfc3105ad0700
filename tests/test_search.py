"""Searching from the command line answers as the evaluation ranks, and refuses what does not compare."""

import base64
import json
import re

import cv2
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from safetensors.torch import load_file

import reference
from aaformer_lit.checkpoints.load import read_checkpoint
from aaformer_lit.gallery import Extractor, Gallery
from aaformer_lit.gallery.pages import thumbnail
from aaformer_lit.metrics import evaluate_retrieval
from aaformer_lit.structures import FeatureSet
from cli_tools import TINY_DATA, TINY_TRAINER, only, read_json, run_cli

PATTERN = 'data.pattern="(?P<pid>-?[0-9]+)_c(?P<camid>[0-9]+).*"'


@pytest.fixture(scope="module")
def gallery(trained, people, tmp_path_factory):
    out = tmp_path_factory.mktemp("extracted") / "gallery"
    arguments = [f"ckpt={trained}/checkpoints/last.ckpt", f"images={people / 'bounding_box_test'}", f"out={out}"]
    assert run_cli("extract", *arguments, "data.num_workers=0", PATTERN) == 0
    return out


def search(gallery, tmp_path, *overrides):
    return run_cli("search", f"gallery={gallery}", f"run_dir={tmp_path}/found", f"paths.runs={tmp_path}",
                   "data.num_workers=0", PATTERN, *overrides)  # fmt: skip


def test_answers_are_re_ranked_among_the_candidates(gallery, people, tmp_path):
    query = f"query={people / 'query'}"
    options = (query, "formats=json", "rerank=k_reciprocal", "rerank.k1=3", "rerank.k2=2", "candidates=6", "k=4")
    assert search(gallery, tmp_path / "again", *options) == 0
    assert search(gallery, tmp_path / "plain", query, "formats=json", "k=6") == 0
    again, plain = (read_json(tmp_path / n / "found" / "ranking.json")["results"] for n in ("again", "plain"))
    stored = Gallery.open(gallery)
    extractor = Extractor.for_gallery(stored, num_workers=0)
    rows = {path: row for row, path in enumerate(stored.table["path"])}
    moved = 0
    for asked, first, then in zip(sorted((people / "query").glob("*.jpg")), plain, again, strict=True):
        candidates = [rows[answer["path"]] for answer in first["answers"]]
        feature = stored.layout.select(extractor.features([asked])).numpy()
        distances = reference.k_reciprocal_rerank(feature, stored.features()[candidates].numpy(), k1=3, k2=2)[0]
        expected = [candidates[i] for i in np.argsort(distances, kind="stable")[:4]]
        assert [rows[answer["path"]] for answer in then["answers"]] == expected
        moved += expected != candidates[:4]
    assert moved, "a test of nothing"
    (tmp_path / "c.json").write_text("{}")
    assert search(gallery, tmp_path / "no", query, "rerank=k_reciprocal", f"calibration={tmp_path}/c.json") == 2


@pytest.fixture(scope="module")
def evaluated(trained, data_dir, tmp_path_factory):
    """What `evaluate` writes for the same checkpoint and images."""
    runs = tmp_path_factory.mktemp("evaluated")
    trainer = ("trainer=cpu", "trainer.enable_progress_bar=false", "save_features=true")
    places = (f"paths.data={data_dir}", f"paths.runs={runs}", f"ckpt={trained}/checkpoints/last.ckpt")
    code = run_cli("evaluate", *TINY_DATA, *trainer, *places)
    assert code == 0
    run = only(runs.rglob("metrics.json")).parent
    return read_json(run / "metrics.json"), load_file(run / "features.safetensors")


def test_extract_and_search_equal_evaluate(gallery, people, evaluated, tmp_path):
    metrics, saved = evaluated
    count = len(Gallery.open(gallery))
    assert (
        search(gallery, tmp_path, f"query={people / 'query'}", f"k={count}", "like_evaluation=true", "formats=json")
        == 0
    )
    found = read_json(tmp_path / "found" / "ranking.json")
    theirs = {key.split("/", 1)[1]: value for key, value in saved.items()}
    stored = Gallery.open(gallery)
    torch.testing.assert_close(stored.features(), theirs["gallery/features"], rtol=0, atol=1e-5)
    assert stored.table["pid"].astype(int).tolist() == theirs["gallery/pids"].tolist()
    # the answers, as a ranking of the evaluation: hits per query must give its AP and Rank-1 exactly
    rows = {path: row for row, path in enumerate(stored.table["path"])}
    distances = torch.cdist(theirs["query/features"].double(), theirs["gallery/features"].double())
    precisions = []
    for query, result in enumerate(found["results"]):
        answers = [rows[answer["path"]] for answer in result["answers"]]
        same = (theirs["gallery/pids"] == theirs["query/pids"][query]) & (
            theirs["gallery/camids"] == theirs["query/camids"][query]
        )
        assert sorted(answers) == (~same).nonzero().flatten().tolist()
        expected = distances[query, answers]
        assert (expected.diff() > -1e-5).all(), "not in the evaluation's order"
        assert expected.tolist() == pytest.approx([answer["distance"] for answer in result["answers"]], abs=1e-5)
        hits = [place for place, answer in enumerate(result["answers"], start=1) if answer["match"]]
        if hits:
            precisions.append(sum(n / place for n, place in enumerate(hits, start=1)) / len(hits))
    assert sum(precisions) / len(precisions) == pytest.approx(metrics["test/mAP"], abs=1e-9)


def test_a_part_alone_is_the_evaluations_part(gallery, people, evaluated, tmp_path):
    stored = Gallery.open(gallery)
    assert search(gallery, tmp_path, f"query={people / 'query'}", "k=1000", "tokens=parts_2", "like_evaluation=true",
                  "formats=json") == 0  # fmt: skip
    found = read_json(tmp_path / "found" / "ranking.json")
    pids = torch.tensor([int(r["query"]["pid"]) for r in found["results"]])
    camids = torch.tensor([int(r["query"]["camid"]) for r in found["results"]])
    rows = {path: row for row, path in enumerate(stored.table["path"])}
    distances = torch.full((len(pids), len(stored)), 9.0)
    for query, result in enumerate(found["results"]):
        for answer in result["answers"]:
            distances[query, rows[answer["path"]]] = answer["distance"]
    # one-dimensional features at the found distances cannot exist for all queries at once, so each is ranked by itself
    values = []
    theirs = [torch.tensor(stored.table[name].astype(int).to_numpy()) for name in ("pid", "camid")]
    for query in range(len(pids)):
        one = FeatureSet(torch.zeros(1, 1), pids[[query]], camids[[query]])
        metrics = evaluate_retrieval(one, FeatureSet(distances[query][:, None], *theirs))
        values.append(metrics.mAP)
    assert sum(values) / len(values) == pytest.approx(evaluated[0]["test/mAP_parts_2"], abs=1e-6)


def test_the_rule_of_the_benchmarks_needs_to_know_who_the_queries_are(gallery, people, tmp_path, capsys):
    query = sorted((people / "query").glob("*.jpg"))[0]
    for pattern, said in ((PATTERN, False), ("data.pattern=null", True)):
        assert search(gallery, tmp_path, f"query={query}", "like_evaluation=true", "formats=json", pattern) == 0
        output = " ".join("".join(capsys.readouterr()).split())
        assert ("of 1 query without pid or camid, like_evaluation=true leaves no" in output) is said


def test_picture_json_and_page(gallery, people, tmp_path):
    query = sorted((people / "query").glob("*.jpg"))[0]
    assert search(gallery, tmp_path, f"query={query}", "k=3", "tokens=part_4") == 0
    found = read_json(tmp_path / "found" / "ranking.json")
    assert found["tokens"] == "part_4"
    assert [answer["rank"] for answer in found["results"][0]["answers"]] == [1, 2, 3]
    assert imread(tmp_path / "found" / "ranking.png")[..., :3].std() > 0.03
    page = (tmp_path / "found" / "ranking.html").read_text()
    assert page.count('src="data:image/jpeg;base64,') == 4
    assert not re.search(r'(src|href)="(?!data:)', page), "the page needs other files"
    assert found["results"][0]["answers"][0]["path"] in page
    assert "<h1>1 query," in page
    assert '<meta name="viewport" content="width=device-width' in page


def test_pages_reach_all_queries_and_thumbnails_have_the_crops_aspect(gallery, people, tmp_path):
    queries = sorted((people / "query").glob("*.jpg"))
    assert search(gallery, tmp_path, f"query={people / 'query'}", "k=1", "count=3", "formats=html") == 0
    pages = sorted((tmp_path / "found").glob("ranking*.html"))
    assert len(pages) == -(-len(queries) // 3)
    everything = "".join(page.read_text() for page in pages)
    assert all(everything.count(f'title="{path.name}"') == 1 for path in queries)
    assert 'href="ranking-2.html"' in (tmp_path / "found" / "ranking.html").read_text()
    wide = np.zeros((100, 300, 3), np.uint8)
    encoded = np.frombuffer(base64.b64decode(thumbnail(wide).partition(",")[2]), np.uint8)
    assert cv2.imdecode(encoded, cv2.IMREAD_COLOR).shape == (100, 300, 3)


def test_cameras_engines_and_unknown_people(gallery, people, tmp_path):
    query = sorted((people / "query").glob("*.jpg"))[0]
    answers = {}
    for index in ("flat", "qdrant"):
        code = search(
            gallery,
            tmp_path,
            f"query={query}",
            "k=4",
            "camids=2",
            f"index={index}",
            "data.pattern=null",
            "formats=json",
        )
        assert code == 0
        (result,) = read_json(tmp_path / "found" / "ranking.json")["results"]
        assert {answer["camid"] for answer in result["answers"]} == {"2"}
        assert {answer["match"] for answer in result["answers"]} == {None}
        answers[index] = [answer["path"] for answer in result["answers"]]
    assert answers["flat"] == answers["qdrant"]


@pytest.fixture(scope="module")
def other_model(data_dir, trained, tmp_path_factory):
    """Checkpoints that did not make the gallery: other weights, and another shape."""
    folder = tmp_path_factory.mktemp("others")
    content = read_checkpoint(trained / "checkpoints" / "last.ckpt")
    content["state_dict"]["network.part_tokens"] += 0.1
    torch.save(content, folder / "weights.ckpt")
    content["aaformer_lit"]["model"]["parts"] = [4]
    torch.save(content, folder / "broken.ckpt")
    arguments = ["model.parts=[3]", "model/backbone=small_scratch", "model.backbone.depth=2",
                 "model.backbone.embed_dim=24", "model.backbone.patch_size=8"]  # fmt: skip
    assert run_cli("train", *TINY_DATA, *arguments, *TINY_TRAINER, f"paths.data={data_dir}", f"paths.runs={folder}",
                   "trainer.limit_train_batches=1", "pictures=[]") == 0  # fmt: skip
    only(folder.rglob("last.ckpt")).rename(folder / "shape.ckpt")
    return folder


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["ckpt=OTHER/weights.ckpt"], "was made by another model"),
        (["ckpt=OTHER/shape.ckpt"], r"descriptors of 6 x 24, .* AAformer with 4 x 24"),
        (["ckpt=OTHER/broken.ckpt"], "does not fit the model it names"),
        (["query=/nonexistent.jpg"], "no image at /nonexistent.jpg"),
        (["query=EMPTY"], "no image at .*empty"),
        (["query=CORRUPT"], "is no image"),
        (["gallery=EMPTY"], "there is no gallery at"),
        (["images=/nonexistent"], "there is no folder /nonexistent. Give the one in which the gallery's images lie"),
        (["tokens=hat"], "tokens must be one of all, global, parts, parts_2"),
        (["k=0"], "k=0 must be 1 or more"),
        (["camids=[9]"], "from camera 9. Its cameras: 1, 2"),
        (["formats=[pdf]"], "there is no formats=pdf"),
        (["index=annoy"], "there is no index=annoy"),
    ],
)
def test_mistakes_write_nothing(gallery, people, other_model, tmp_path, capsys, overrides, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "corrupt.jpg").write_bytes(b"\xff\xd8 no image")
    places = {"OTHER": other_model, "EMPTY": tmp_path / "empty", "CORRUPT": tmp_path / "corrupt.jpg"}
    for name, place in places.items():
        overrides = [override.replace(name, str(place)) for override in overrides]
    before = json.loads((gallery / "gallery.json").read_text())
    assert search(gallery, tmp_path, f"query={people / 'query'}", *overrides) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not list(tmp_path.rglob("ranking.*"))
    assert json.loads((gallery / "gallery.json").read_text()) == before


def test_a_region_is_ranked_by_its_parts(gallery, people, tmp_path, capsys):
    queries = sorted((people / "query").glob("*.jpg"))
    assert search(gallery, tmp_path, f"query={queries[0]}", "region=[10,0,40,40]", "formats=json") == 0
    assert re.search(r"region: parts by their overlap with it: part_1 \d+%, part_2 \d+%", capsys.readouterr().out)
    found = read_json(tmp_path / "found" / "ranking.json")
    answers, weights = found["results"][0]["answers"], torch.tensor(found["part_weights"])
    opened = Gallery.open(gallery)
    extractor = Extractor.from_checkpoint(opened.about["ckpt"], num_workers=0, device="cpu")
    query = extractor.features([queries[0]])[0, 1:] * weights[:, None]
    rows = opened.features("parts")
    distances = (torch.nn.functional.normalize(query.flatten(), dim=0) - rows).norm(dim=1)
    nearest = distances.sort()
    assert [one["path"] for one in answers] == opened.table["path"].iloc[nearest.indices[: len(answers)]].tolist()
    assert [one["distance"] for one in answers] == pytest.approx(nearest.values[: len(answers)].tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["region=[0,0,9,9]"], "region= chooses the tokens for one query; there are 8 queries"),
        (["region=[0,0,9,9]", "tokens=part_1", "one"], "and tokens=part_1"),
        (["region=[90,0,9,9]", "one"], "lies outside the query"),
        (["region=5", "one"], "must be [x,y,width,height]"),
        (["region=[a,b,c,d]", "one"], "must be [x,y,width,height]"),
    ],
)
def test_regions_that_cannot_be(gallery, people, tmp_path, capsys, overrides, message):
    queries = sorted((people / "query").glob("*.jpg"))
    query = queries[0] if overrides[-1] == "one" else people / "query"
    assert search(gallery, tmp_path, f"query={query}", *[o for o in overrides if o != "one"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.rglob("ranking.*"))
