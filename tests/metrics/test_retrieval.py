"""ReIDRetrieval: any order, padded copies and several processes give the one result of the features put together at once."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import multiprocessing
from torch.nn import functional as F

import reference
from aaformer_lit.data.test_set import TestSet
from aaformer_lit.engine.testing import per_query_table
from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.metrics import Expansion, KReciprocal, ReIDRetrieval, evaluate_retrieval, single_shot
from aaformer_lit.metrics.draws import mean_of_draws
from aaformer_lit.metrics.retrieval import gather_in_blocks
from aaformer_lit.structures import FeatureSet, PerQuery, Record, RetrievalMetrics

QUERIES, IMAGES, TOKENS, DIM = 10, 57, 4, 5
SUBSETS = {"global": [0], "parts": [1, 2, 3], "parts_2": [2, 1]}


def world():
    rng = torch.Generator().manual_seed(0)
    descriptor = torch.randn(IMAGES, TOKENS, DIM, generator=rng)
    return descriptor, torch.randint(0, 7, (IMAGES,), generator=rng), torch.randint(0, 3, (IMAGES,), generator=rng)


def feed(metric, order, batch=8):
    descriptor, pids, camids = world()
    for index in torch.as_tensor(order, dtype=torch.int64).split(batch) if len(order) else ():
        metric.update(descriptor[index], pids[index], camids[index], index)
    return metric


def expected(tokens=(0, 1, 2, 3), normalize=True, descriptor=None, **kwargs):
    given, pids, camids = world()
    descriptor = given if descriptor is None else descriptor
    features = torch.cat([descriptor[:, t] for t in tokens], dim=1)
    features = F.normalize(features) if normalize else features
    sets = [FeatureSet(features[s], pids[s], camids[s]) for s in (slice(QUERIES), slice(QUERIES, None))]
    return evaluate_retrieval(*sets, **kwargs)


def assert_equal(got, want):
    assert got.as_dict() == want.as_dict()
    for field in ("index", "average_precision", "first_hit_rank"):
        assert torch.equal(getattr(got.per_query, field), getattr(want.per_query, field))


def test_every_subset_is_its_tokens_concatenated_then_normalized():
    results = feed(ReIDRetrieval(QUERIES, SUBSETS), range(IMAGES)).compute()
    assert list(results) == ["", *SUBSETS]
    assert_equal(results[""], expected())
    for name, tokens in SUBSETS.items():
        assert_equal(results[name], expected(tokens))
    assert len({r.mAP for r in results.values()}) > 2


def test_tokens_in_a_list_of_their_own_are_averaged():
    descriptor = world()[0]
    joined = torch.stack([descriptor[:, 0], descriptor[:, 1:].mean(dim=1)], dim=1)
    given = feed(ReIDRetrieval(QUERIES, {"cls_mean": (0, tuple(range(1, descriptor.shape[1])))}), range(IMAGES))
    assert_equal(given.compute()["cls_mean"], expected((0, 1), descriptor=joined))
    with pytest.raises(ConfigError, match="99"):
        feed(ReIDRetrieval(QUERIES, {"odd": (0, (1, 99))}), range(IMAGES)).compute()


def test_order_and_copies_do_not_matter():
    shuffled = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(1)).tolist()
    metric = feed(ReIDRetrieval(QUERIES, SUBSETS, num_gallery=IMAGES - QUERIES), [*shuffled, *shuffled[:9]], batch=5)
    assert_equal(metric.compute()[""], expected())


def test_options_reach_the_evaluation():
    plain = feed(ReIDRetrieval(QUERIES, normalize=False, ranks=(2,)), range(IMAGES)).compute()
    assert list(plain) == [""]
    assert_equal(plain[""], expected(normalize=False, ranks=(2,)))
    assert list(plain[""].cmc) == [2]
    rerank = KReciprocal(k1=6, k2=3)
    assert_equal(feed(ReIDRetrieval(QUERIES, rerank=rerank), range(IMAGES)).compute()[""], expected(rerank=rerank))


@pytest.mark.parametrize("draws", [0, 3])
def test_junk_is_dropped_before_it_can_join_a_feature(draws):
    descriptor, pids, camids = world()
    junk = torch.arange(IMAGES) >= 40
    results = []
    for kept in (slice(None), ~junk):
        metric = ReIDRetrieval(QUERIES, expansion=Expansion(queries=3, gallery=3), draws=draws)
        metric.update(descriptor[kept], pids.masked_fill(junk, -1)[kept], camids[kept])
        results.append(metric.compute()[""].as_dict())
    assert results[0] == results[1]


def test_draws_in_which_no_query_has_a_match_are_skipped():
    """One query and two gallery images of its person, of which the camera rule hides one: half of the draws say nothing."""
    descriptor, pids, camids = world()[0][:5], torch.tensor([1, 1, 1, 2, 2]), torch.tensor([0, 0, 1, 0, 1])
    metric = ReIDRetrieval(1, draws=8)
    metric.update(descriptor, pids, camids)
    found = metric.compute()[""]
    matched = [rows for rows in single_shot(pids[1:], 8) if camids[1:][rows[0]] == 1]
    assert 0 < len(matched) == len(found.single) < 8
    query, gallery = metric.feature_sets()
    each = [evaluate_retrieval(query, gallery.select(rows)).mAP for rows in matched]
    assert found.mAP == pytest.approx(sum(each) / len(each))
    alone = ReIDRetrieval(1, draws=8)
    alone.update(descriptor, pids, torch.zeros(5).long())
    with pytest.raises(ProtocolError, match="none of the 1 queries has a match"):
        alone.compute()


def test_against_the_loop():
    descriptor, pids, camids = world()
    features = F.normalize(descriptor.flatten(1)).numpy()
    distances = reference.squared_euclidean(features[:QUERIES], features[QUERIES:])
    labels = [x.tolist() for x in (pids[:QUERIES], camids[:QUERIES], pids[QUERIES:], camids[QUERIES:])]
    slow = reference.retrieval(distances, *labels)
    got = feed(ReIDRetrieval(QUERIES), range(IMAGES)).compute()[""]
    assert got.mAP == pytest.approx(slow.mAP, rel=1e-12)
    assert got.cmc == pytest.approx(slow.cmc)


def test_feature_sets_for_saving():
    metric = feed(ReIDRetrieval(QUERIES, SUBSETS), range(IMAGES)[::-1])
    descriptor, pids, camids = world()
    query, gallery = metric.feature_sets("parts")
    torch.testing.assert_close(torch.cat([query.features, gallery.features]), F.normalize(descriptor[:, 1:].flatten(1)))
    assert torch.equal(torch.cat([query.pids, gallery.pids]), pids)
    assert torch.equal(torch.cat([query.camids, gallery.camids]), camids)
    assert len(query) == QUERIES
    assert metric.feature_sets()[0].features.shape == (QUERIES, TOKENS * DIM)
    with pytest.raises(ConfigError, match=r"no subset 'part' .*'global', 'parts', 'parts_2'"):
        metric.feature_sets("part")


def test_half_precision_descriptors_are_normalized_in_float32():
    descriptor, pids, camids = world()
    metric = ReIDRetrieval(QUERIES)
    metric.update((descriptor * 1000).half(), pids, camids, torch.arange(IMAGES))
    assert metric.descriptors[0].dtype == torch.float16
    query, _ = metric.feature_sets()
    assert query.features.dtype == torch.float32
    torch.testing.assert_close(query.features.norm(dim=1), torch.ones(QUERIES))


def test_reset_copy_and_pickle():
    metric = feed(ReIDRetrieval(QUERIES, SUBSETS), range(IMAGES))
    for twin in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric)), metric):
        assert_equal(twin.compute()[""], expected())
    assert metric.compute() is metric.compute()  # kept until the next update
    metric.reset()
    feed(metric, range(IMAGES))
    assert_equal(metric.compute()[""], expected())


def test_inference_mode_as_in_a_lightning_test_loop():
    rerank = KReciprocal(k1=6, k2=3)
    with torch.inference_mode():
        metric = feed(ReIDRetrieval(QUERIES, rerank=rerank), range(IMAGES))
        assert_equal(metric.compute()[""], expected(rerank=rerank))
        inside = metric.feature_sets()
    assert torch.equal(metric.feature_sets()[0].features, inside[0].features)
    assert_equal(evaluate_retrieval(*inside, rerank=rerank), expected(rerank=rerank))


def test_errors_name_what_is_missing():
    without = [i for i in range(IMAGES) if i not in (5, 30)]
    with pytest.raises(ProtocolError, match=r"2 of 57 .* \(first: index 5\).*limit_test_batches"):
        feed(ReIDRetrieval(QUERIES), without).compute()
    with pytest.raises(ProtocolError, match=r"3 of 57 .*first: index 54"):
        feed(ReIDRetrieval(QUERIES, num_gallery=IMAGES - QUERIES), range(54)).compute()
    with pytest.raises(ProtocolError, match=r"index 56.*hold 20 images"):
        feed(ReIDRetrieval(QUERIES, num_gallery=10), range(IMAGES)).compute()
    with pytest.raises(ConfigError, match=r"'odd' asks for the tokens \[0, 4\].*4 tokens"):
        feed(ReIDRetrieval(QUERIES, {"odd": [0, 4]}), range(IMAGES)).compute()
    descriptor, pids, camids = world()
    with pytest.raises(ValueError, match="batch, tokens, dim"):
        ReIDRetrieval(QUERIES).update(descriptor[None], pids, camids, torch.arange(IMAGES))


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")  # what this test provokes
def test_no_update_at_all():
    with pytest.raises(ProtocolError, match="10 of 10"):
        ReIDRetrieval(QUERIES).compute()


def test_states_of_two_processes_put_together():
    """What a gather does, without processes: rank r of 2 sees every second image, the last batch padded with a copy."""
    ranks = [feed(ReIDRetrieval(QUERIES), [*range(r, IMAGES, 2), 0]) for r in range(2)]

    def fake_gather(tensor, group=None):
        name = next(n for n in ("descriptors", "pids", "camids", "index") if torch.equal(joined(ranks[0], n), tensor))
        return [tensor, joined(ranks[1], name)]

    metric = copy.deepcopy(ranks[0])
    metric.dist_sync_fn, metric.distributed_available_fn = fake_gather, lambda: True
    assert_equal(metric.compute()[""], expected())
    assert sum(len(i) for i in metric.index) == len(range(0, IMAGES, 2)) + 1  # its own state is back


def joined(metric, name):
    return torch.cat(getattr(metric, name))


def _one_process(rank, store, results):
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    metric = feed(ReIDRetrieval(QUERIES, SUBSETS), range(rank, IMAGES, 2))  # 29 and 28 images
    query, gallery = metric.feature_sets("parts")
    ragged = gather_in_blocks(torch.arange(5 + rank)[:, None].expand(-1, 2) + 100 * rank, torch.device("cpu"), rows=2)
    alone = feed(ReIDRetrieval(QUERIES), range(IMAGES) if rank == 0 else [])  # the other process has none
    torch.save((metric.compute(), query.features, len(gallery), ragged, alone.compute()), f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings(
    "ignore:The ``compute`` method of metric:UserWarning"
)  # one process has no image of its own
def test_two_real_processes(tmp_path):
    multiprocessing.start_processes(_one_process, (tmp_path / "store", tmp_path), nprocs=2, start_method="fork")
    for rank in range(2):
        results, query, gallery, ragged, alone = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert_equal(results[""], expected())
        assert_equal(alone[""], expected())
        assert_equal(results["parts"], expected(SUBSETS["parts"]))
        torch.testing.assert_close(query, F.normalize(world()[0][:QUERIES, 1:].flatten(1)))
        assert gallery == IMAGES - QUERIES
        assert [part[:, 1].tolist() for part in ragged] == [list(range(5)), list(range(100, 106))]


def test_a_query_has_the_mean_of_the_draws_in_which_it_has_a_match():
    answered = [{0: (0.5, 2), 2: (1.0, 1)}, {0: (1.0, 1), 3: (0.25, 4)}, {0: (0.2, 5), 3: (0.5, 2)}]  # query 1: never
    results = []
    for one in answered:
        precisions, ranks = zip(*one.values(), strict=True)
        per_query = PerQuery(torch.tensor([*one]), torch.tensor(precisions), torch.tensor(ranks))
        results.append(RetrievalMetrics(sum(precisions) / len(one), 0.1, 0.2, len(one), {1: 0.5}, per_query))
    found = mean_of_draws(results)
    assert found.per_query.index.tolist() == [0, 2, 3]
    assert found.per_query.average_precision.tolist() == pytest.approx([1.7 / 3, 1.0, 0.375])
    assert found.per_query.first_hit_rank.tolist() == [2, 1, 2]
    assert found.num_valid_queries == 3
    query = [Record(Path(f"{name}.jpg"), pid, 1) for pid, name in enumerate("abcd")]
    table = per_query_table({"market": {"": found}}, {"market": TestSet("market", query, [])})
    assert table["query"].tolist() == ["a.jpg", "c.jpg", "d.jpg"]
    assert table["pid"].tolist() == [0, 2, 3]
