"""Models side by side: what is ahead by how much, query by query, and the cells that say it."""

import numpy as np
import pytest
import torch

from aaformer_lit.metrics.draws import mean_of_draws
from aaformer_lit.structures import PerQuery, RetrievalMetrics
from aaformer_lit.tables.document import FORMATS
from aaformer_lit.tables.models import ModelComparison, ModelFacts, ModelTest, differences, short_names


def result(precisions, ranks, index=None):
    index = torch.arange(len(ranks)) if index is None else torch.tensor(index)
    per_query = PerQuery(index, torch.tensor(precisions), torch.tensor(ranks))
    rank1 = float(np.mean([rank == 1 for rank in ranks]))
    return RetrievalMetrics(float(np.mean(precisions)), 0.1, 0.2, len(ranks), {1: rank1, 5: 1.0}, per_query)


FIRST, SECOND = result([0.5, 0.2, 0.9, 0.4], [1, 3, 1, 2]), result([0.7, 0.4, 1.0, 0.6], [1, 1, 1, 2])


def facts(name, speed):
    return ModelFacts(name, f"runs/{name}", "AAformer", "Market1501", 1_250_000, 5_000_000, 1536, 20 * speed, speed)


def test_differences_are_in_points_and_paired():
    found = differences(SECOND, FIRST, samples=2000, seed=0)
    assert found["mAP"].mean == pytest.approx(17.5)
    # every query gains 10 or 20 points, so that no draw of queries says anything else
    assert 9.999 < found["mAP"].low < found["mAP"].high < 20.001
    assert (found["rank1"].mean, found["rank1"].low, found["rank1"].high) == pytest.approx((25, 0, 75))
    assert (found["mAP"].queries, found["mAP"].seeds) == (4, 1)


def test_of_draws_rank_1_is_the_share_of_the_draws_as_in_the_table():
    def drawn(hits):
        return mean_of_draws([result([0.5, 0.5], [1 if hit else 2, 3], [4, 7]) for hit in hits])

    often, seldom = drawn([True] * 6 + [False] * 4), drawn([True] * 4 + [False] * 6)
    assert differences(often, seldom, 100, 0)["rank1"].mean == pytest.approx(100 * (often.cmc[1] - seldom.cmc[1]))
    assert often.cmc[1] - seldom.cmc[1] == pytest.approx(0.1)  # 60 and 40% of one of two queries


def test_models_that_answered_other_queries_are_not_compared():
    assert differences(result([0.7], [1], [0]), result([0.7], [1], [1]), 100, 0) == {"mAP": None, "rank1": None}


def test_all_formats_hold_the_cells():
    ahead = differences(SECOND, FIRST, 100, 0)
    tests = [ModelTest("a", "cuhk03", 0.0, FIRST), ModelTest("b", "cuhk03", 0.0, SECOND, difference=ahead)]
    comparison = ModelComparison([facts("a", 1.0), facts("b", 0.5)], tests, "16 at once")
    document = comparison.document()
    markdown, page = FORMATS["md"](document), FORMATS["html"](document)
    assert "| model | trained on | cuhk03 mAP | cuhk03 Rank-1 |" in markdown
    assert "| b | Market1501 | 67.5 | 75.0 |" in markdown
    assert "| b | AAformer | 1.25 | 5.0 | 1,536 | 10 (0.50x) |" in markdown
    assert "| b | cuhk03 | mAP | +17.5 |" in markdown
    assert "<tr><td>b</td><td>Market1501</td><td>67.5</td><td>75.0</td></tr>" in page
    cells = comparison.as_dict()["results"]
    assert [(cell["model"], cell["data"], cell["mAP"]) for cell in cells] == [
        ("a", "cuhk03", pytest.approx(0.5)),
        ("b", "cuhk03", pytest.approx(0.675)),
    ]
    assert cells[0]["difference"] == {}
    assert cells[1]["difference"]["mAP"]["mean"] == pytest.approx(17.5)


def test_each_cut_has_a_line_per_model_and_alignment_where_it_is_known():
    ahead = differences(SECOND, FIRST, 100, 0)
    tests = [
        *(ModelTest("a", "cuhk03", cut, FIRST) for cut in (0.0, 0.2)),
        *(ModelTest("b", "cuhk03", cut, SECOND, 0.3 - cut, ahead) for cut in (0.0, 0.2)),
    ]
    comparison = ModelComparison([facts("a", 1.0), facts("b", 0.5)], tests, "")
    markdown = FORMATS["md"](comparison.document())
    assert "| model | trained on | cut off | cuhk03 mAP | cuhk03 Rank-1 | cuhk03 NMI |" in markdown
    assert "| a | Market1501 | 20% | 50.0 | 50.0 | - |" in markdown
    assert "| b | Market1501 | 0% | 67.5 | 75.0 | 30.0 |" in markdown
    assert "| b | Market1501 | 20% | 67.5 | 75.0 | 10.0 |" in markdown
    assert "| b | cuhk03, 20% cut off | mAP | +17.5 |" in markdown
    assert comparison.over_cuts("cuhk03") == {
        "mAP": {"a": pytest.approx([0.5, 0.5]), "b": pytest.approx([0.675, 0.675])},
        "NMI of parts and body parts": {"b": pytest.approx([0.3, 0.1])},
    }
    assert [cell["cut"] for cell in comparison.as_dict()["results"]] == [0.0, 0.2, 0.0, 0.2]


def test_a_page_shows_names_as_text():
    comparison = ModelComparison([facts("<b>", 1.0)], [ModelTest("<b>", "a&b", 0.0, FIRST)], "")
    page = FORMATS["html"](comparison.document())
    assert "&lt;b&gt;" in page
    assert "a&amp;b mAP" in page


@pytest.mark.parametrize(
    ("ckpts", "names"),
    [
        (["runs/a/checkpoints/last.ckpt", "runs/b/checkpoints/last.ckpt"], ["a", "b"]),
        (["/x/runs/a/1", "/x/runs/b/1"], ["a", "b"]),
        (["/x/runs/a", "synthetic-small"], ["/x/runs/a", "synthetic-small"]),
        (["/x/runs/a/"], ["/x/runs/a"]),
        (["./a", "OWNER/NAME"], ["a", "OWNER/NAME"]),
        (["runs/a", "runs/a/checkpoints/best.ckpt"], ["a", "a/checkpoints/best.ckpt"]),
        (["runs/a"], ["runs/a"]),
    ],
)
def test_names_are_what_tells_the_checkpoints_apart(ckpts, names):
    assert short_names(ckpts) == names
