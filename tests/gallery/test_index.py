"""Approximate indexes find what the exact one finds, filters hold, and nothing stale is left behind."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from aaformer_lit.errors import ConfigError, GalleryError
from aaformer_lit.gallery import NO_ROW, FaissFlat, FaissIVFPQ, Gallery, Layout, Qdrant
from aaformer_lit.gallery.index import faiss as index_module
from aaformer_lit.gallery.index import qdrant as qdrant_module
from aaformer_lit.gallery.index.base import IndexStorage
from aaformer_lit.gallery.sources import Crop
from aaformer_lit.gallery.store import copies
from qdrant_server import qdrant_server


def clustered(images=3000, people=150, dim=32, seed=0):
    """Unit features around as many centers as there are people."""
    random = torch.Generator().manual_seed(seed)
    centers = torch.randn(people, dim, generator=random)
    pids = torch.arange(images) % people
    return F.normalize(centers[pids] + 0.6 * torch.randn(images, dim, generator=random))


def nearest(features, queries, k, mask=None):
    """The slow way, in float64."""
    distances = torch.cdist(queries.double(), features.double(), compute_mode="donot_use_mm_for_euclid_dist").numpy()
    if mask is not None:
        distances[:, ~mask] = np.inf
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, rows, 1), rows


def recall(found, rows):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, rows, strict=True)])


@pytest.fixture(scope="module")
def features():
    return clustered()


@pytest.fixture(scope="module")
def queries():
    return clustered(40, 40, seed=1)


@pytest.fixture
def shelf(tmp_path):
    return IndexStorage(tmp_path / "index-000001", "gallery-all")


def test_flat_is_exact(features, queries, shelf):
    index = FaissFlat()
    index.fit(features, np.arange(len(features)), shelf)
    distances, rows = nearest(features, queries, 10)
    found = index.search(queries, 10)
    assert np.array_equal(found.rows, rows)
    np.testing.assert_allclose(found.distances, distances, atol=1e-5)
    assert not shelf.folder.exists()


def test_equal_distances_keep_gallery_order(shelf):
    index = FaissFlat()
    index.fit(torch.ones(6, 4), np.arange(6), shelf)
    assert index.search(torch.zeros(1, 4), 6).rows.tolist() == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("make", "images"),
    [(FaissFlat, 300), (lambda: FaissIVFPQ(m=2, nprobe=1000, refine=300), 300), (lambda: Qdrant(exact=True), 60)],
)
def test_filters_leave_only_what_is_kept(features, queries, shelf, make, images):
    queries, features = queries[:8], features[:images]
    index = make()
    index.fit(features, np.arange(images) + 1000, shelf)
    for share in (0.2, 0.9):
        mask = np.random.default_rng(0).random(images) < share
        expected = nearest(features, queries, 5, mask)
        found = index.search(queries, 5, mask)
        assert np.array_equal(found.rows, expected[1])
        np.testing.assert_allclose(found.distances, expected[0], atol=1e-5)
    few = np.zeros(images, dtype=bool)
    few[[7, 9]] = True
    found = index.search(queries, 5, few)
    assert (np.sort(found.rows, axis=1) == [NO_ROW, NO_ROW, NO_ROW, 7, 9]).all()
    assert np.isinf(found.distances[:, 2:]).all()


def test_ivf_pq_finds_nearly_all_and_probing_and_refining_help(features, queries, shelf):
    rows = nearest(features, queries, 10)[1]
    found = {}
    for nprobe, refine in ((1, 0), (16, 0), (16, 10)):
        index = FaissIVFPQ(m=8, nprobe=nprobe, refine=refine)
        index.fit(features, np.arange(len(features)), shelf)
        found[nprobe, refine] = recall(index.search(queries, 10).rows[:, :10], rows)
    assert found[1, 0] < found[16, 0] < found[16, 10]
    assert found[16, 10] > 0.95
    exact = index.search(queries[:1], 1)
    np.testing.assert_allclose(exact.distances, nearest(features, queries[:1], 1)[0], atol=1e-5)


def test_ivf_pq_is_trained_once_per_version(features, queries, shelf, monkeypatch):
    features = features[:600]
    first = FaissIVFPQ(m=4)
    first.fit(features, np.arange(len(features)), shelf)
    assert [path.name for path in shelf.folder.iterdir()] == ["gallery-all-15-4-0.faiss"]
    monkeypatch.setattr(index_module, "tiles", lambda *_: pytest.fail("filled again"))
    second = FaissIVFPQ(m=4)
    second.fit(features, np.arange(len(features)), shelf)
    assert np.array_equal(first.search(queries, 10).rows, second.search(queries, 10).rows)


def test_ivf_pq_compares_few_images_exactly(features, queries, shelf, caplog):
    """A gallery that was large enough may lose images, and is searched on."""
    index, mask = FaissIVFPQ(m=4), np.arange(255) % 2 == 0
    index.fit(features[:300], np.arange(300), shelf)
    index.fit(features[:255], np.arange(255), shelf)
    assert "these 255 are compared exactly" in caplog.text
    for allowed in (None, mask):
        assert np.array_equal(index.search(queries, 5, allowed).rows, nearest(features[:255], queries, 5, allowed)[1])


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [(600, {"m": 7}, "index.m=7 a divisor of the 32"), (600, {"nlist": 601}, "601")],
)
def test_ivf_pq_mistakes(features, shelf, images, settings, message):
    with pytest.raises(ConfigError, match=message):
        FaissIVFPQ(**settings).fit(features[:images], np.arange(images), shelf)


def test_qdrant_equals_flat(features, queries, shelf):
    flat, qdrant = FaissFlat(), Qdrant()
    for index in (flat, qdrant):
        index.fit(features[:150], np.arange(150) * 3, shelf)
    expected, found = flat.search(queries, 10), qdrant.search(queries, 10)
    assert np.array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-5)


def test_a_missing_engine_says_what_to_install():
    with pytest.raises(ConfigError, match=r"pip install 'aaformer-lit\[search\]'"):
        index_module.engine("no_such_engine", "no-such-engine")
    with pytest.raises(GalleryError, match="a copy in milvus"):
        copies({"engine": "milvus"})


class Server(NamedTuple):
    url: str
    held: Any

    def ids(self):
        """Of the points in each collection, by the token group."""
        names = [collection.name for collection in self.held.get_collections().collections]
        return {name.rpartition("-")[2]: set(qdrant_module._all_ids(self.held, name)) for name in names}


@pytest.fixture
def server():
    """Stands for a server (`qdrant_server`)."""
    with qdrant_server() as running:
        yield Server(*running)


@pytest.fixture
def gallery(tmp_path, world):
    """Twenty images of ten people, with random descriptors."""
    layout = Layout.of(world.network())
    made = Gallery.create(tmp_path / "gallery", fingerprint="x", layout=layout, root=tmp_path, network="AAformer")
    crops = [Crop(tmp_path / f"{number}.png", None, str(number % 10), "1") for number in range(20)]
    return made.add(
        crops, torch.randn(20, 6, 24, generator=torch.Generator().manual_seed(0)), [c.path.name for c in crops]
    )


def test_a_servers_collection_follows_the_gallery(gallery, server, tmp_path):
    qdrant = Qdrant(server.url)
    gallery.indexed(qdrant)
    gallery.indexed(qdrant, "part_2")
    assert server.ids() == {"all": set(range(20)), "part_2": set(range(20))}
    # what a person was is gone there before it is gone here
    smaller = Gallery.open(gallery.folder).remove(pid=3)
    assert server.ids()["all"] == server.ids()["part_2"] == set(range(20)) - {3, 13}
    changed = smaller.add([Crop(tmp_path / "5.png", None, "5", "1")], torch.randn(1, 6, 24), ["new"])
    assert server.ids()["all"] == set(range(20)) - {3, 13, 5}
    changed.indexed(qdrant)
    assert server.ids()["all"] == set(range(21)) - {3, 13, 5}
    flat = changed.indexed(FaissFlat())
    expected, found = (index.search(changed.features(), 5) for index in (flat, qdrant))
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-3)
    assert np.array_equal(found.rows, expected.rows)


def test_a_copy_that_another_process_has_made_loses_the_rows_too(gallery, server):
    Gallery.open(gallery.folder).indexed(Qdrant(server.url))
    smaller = gallery.remove(pid=3)
    assert server.ids()["all"] == set(range(20)) - {3, 13}
    assert smaller.about["copies"] == [{"engine": "qdrant", "url": server.url}]


def test_an_old_version_sends_nothing_and_keeps_no_files(gallery, server):
    gallery.indexed(Qdrant(server.url))
    Gallery.open(gallery.folder).remove(pid=3)
    for index in (Qdrant(server.url), Qdrant()):
        with pytest.raises(GalleryError, match="changed by another process"):
            gallery.indexed(index)
    assert server.ids()["all"] == set(range(20)) - {3, 13}
    assert not list(gallery.folder.glob("index-*"))
    assert len(gallery.indexed(FaissFlat()).search(gallery.features(), 5).rows) == 20


def test_a_search_in_an_old_version_passes_over_what_is_new(gallery, server, tmp_path):
    old = gallery.indexed(Qdrant(server.url))
    new = gallery.add([Crop(tmp_path / "new.png")], gallery.descriptors[:1], ["new"])
    new.indexed(Qdrant(server.url))
    assert old.search(gallery.features()[:1], 3).rows[0, 0] == 0


def test_nothing_is_removed_while_a_copy_cannot_be(gallery, server, monkeypatch):
    gallery.indexed(Qdrant(server.url))
    monkeypatch.setattr(qdrant_module, "connect", lambda *_: (_ for _ in ()).throw(ConnectionError("refused")))
    with pytest.raises(GalleryError, match=f"Qdrant at {server.url} failed: refused"):
        gallery.remove(pid=3)
    assert len(Gallery.open(gallery.folder)) == 20


def test_a_server_that_is_not_there(tmp_path):
    qdrant = Qdrant("http://127.0.0.1:9")
    with pytest.raises(GalleryError, match="Is the server running"):
        qdrant.fit(torch.ones(3, 2), np.arange(3), IndexStorage(tmp_path, "x/y"))


@pytest.mark.parametrize(("make", "images"), [(lambda: FaissIVFPQ(m=4), 300), (Qdrant, 20)])
def test_files_of_an_index_go_with_the_version(tmp_path, world, make, images):
    layout = Layout.of(world.network())
    empty = Gallery.create(tmp_path / "g", fingerprint="x", layout=layout, root=tmp_path)
    crops = [Crop(tmp_path / f"{number}.png", None, str(number)) for number in range(images)]
    made = empty.add(crops, torch.randn(images, 6, 24), [""] * images)
    made.indexed(make())
    assert any((made.folder / "index-000001").rglob("*"))
    smaller = made.remove(pid=3)
    assert not list(made.folder.glob("index-*"))
    index = smaller.indexed(make())
    assert 3 not in smaller.ids[index.search(smaller.features(), 5).rows]
