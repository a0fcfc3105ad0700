"""The service answers as the gallery ranks, keeps and forgets what it says it does, and refuses in words what is wrong."""

import http.client
import json
import shutil
import socket
import struct
import threading
import zlib
from contextlib import ExitStack, contextmanager
from functools import partial

import cv2
import numpy as np
import pytest
import torch

import load
from aaformer_lit.checkpoints.calibration import CalibrationRecord
from aaformer_lit.gallery import Crop, Extractor, FaissFlat, Gallery, Qdrant, create_for, rank, update
from aaformer_lit.gallery.digests import digest, digest_of
from aaformer_lit.metrics.calibration import Calibration, Threshold
from cli_tools import run_cli

pytest.importorskip("fastapi")
pytest.importorskip("faiss")

from aaformer_lit.web.api import build, serving
from aaformer_lit.web.front import Door, Limits
from aaformer_lit.web.service import Refusal, Service, check_name
from qdrant_server import qdrant_server

TOKEN = "a-token-of-the-tests"
LIMITS = Limits(max_bytes=100_000, max_pixels=10_000, max_requests=8, batch=4, window=0.05)


def picture(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (12, 6, 3), dtype=np.uint8)
    return cv2.resize(noise, (48, 96), interpolation=cv2.INTER_CUBIC)


def png(seed):
    return cv2.imencode(".png", picture(seed)[..., ::-1])[1].tobytes()


@pytest.fixture(scope="module")
def extractor():
    return Extractor.from_checkpoint("synthetic-small", num_workers=0, device="cpu")


def test_a_packaged_model_goes_by_its_name(extractor):
    assert extractor.ckpt == "synthetic-small"  # what a message or a gallery says of it


def filled(extractor, folder):
    """Six images of three people by two cameras."""
    crops = []
    for number in range(6):
        path = folder / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(number))
        crops.append(Crop(path, None, str(number // 2), str(number % 2)))
    return update(create_for(extractor, folder / "gallery", folder / "images"), extractor, crops)[0]


@contextmanager
def running(extractor, gallery, token=TOKEN, index=FaissFlat, **options):
    """Requests to a running service: method, path, body, further headers; gives status and answer."""
    service = Service(extractor, gallery, index)
    with serving(build(service, host="127.0.0.1", token=token, limits=LIMITS, **options), "127.0.0.1", 0) as url:

        def ask(method, path, body=None, **headers):
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "image/png"} | given
            connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
            try:
                connection.request(method, path, body, {name: value for name, value in headers.items() if value})
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())
            finally:
                connection.close()

        yield ask


@pytest.fixture
def gallery(extractor, tmp_path):
    return filled(extractor, tmp_path)


@pytest.fixture
def call(extractor, gallery):
    with running(extractor, gallery) as ask:
        yield ask


@pytest.fixture(scope="module")
def unchanged(extractor, tmp_path_factory):
    """A gallery that the tests leave as it is, and requests to its service."""
    gallery = filled(extractor, tmp_path_factory.mktemp("unchanged"))
    with running(extractor, gallery) as ask:
        yield gallery, ask


def test_a_search_is_the_gallerys_ranking(unchanged, extractor):
    gallery, call = unchanged
    features = gallery.layout.select(extractor.features([picture(9)]), "parts")
    expected = rank(gallery, gallery.indexed(FaissFlat(), "parts"), features, 4, camids=["1"])
    status, found = call("POST", "/search?k=4&tokens=parts&camid=1", png(9))
    assert (status, found["images"], found["version"]) == (200, 6, 1)
    rows = expected.rows[0][expected.rows[0] >= 0]
    assert len(rows) == 3
    assert [answer["path"] for answer in found["answers"]] == gallery.table["path"].iloc[rows].tolist()
    assert [answer["distance"] for answer in found["answers"]] == pytest.approx(expected.distances[0][:3], abs=1e-5)
    assert {answer["camid"] for answer in found["answers"]} == {"1"}


def test_answers_are_decided_where_the_gallery_has_thresholds(unchanged, extractor):
    gallery, call = unchanged
    plain = call("POST", "/search?k=6", png(9))[1]["answers"]
    assert {answer["decision"] for answer in plain} == {None}
    accept, reject = (Threshold(plain[place]["distance"] + 1e-5, 0.1, 0.2, 40) for place in (1, 3))
    record = CalibrationRecord(
        Calibration(0.2, 0.2, 0.95, True, accept, reject, 0.9), extractor.fingerprint, False, "them"
    )
    about = gallery.about | {"calibration": record.as_dict()}
    service = Service(extractor, Gallery(gallery.folder, about, gallery.table, gallery.descriptors), FaissFlat)
    descriptor = extractor.features([picture(9)])[0]
    decided = [answer["decision"] for answer in service.search(descriptor, 6)[1]]
    assert decided == ["accepted"] * 2 + ["unsure"] * 2 + ["rejected"] * 2
    assert "decision" not in service.search(descriptor, 6, "part_1")[1][0]


def test_pictures_that_come_together_are_answered_as_if_alone(unchanged, extractor):
    call, seeds, answers = unchanged[1], range(10, 16), {}

    def one(seed):
        answers[seed] = call("POST", "/embed", png(seed))

    threads = [threading.Thread(target=one, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in seeds:
        status, answer = answers[seed]
        assert status == 200
        alone = extractor.network.embed_images(picture(seed))[0]
        torch.testing.assert_close(torch.tensor(answer["embedding"]), alone, rtol=0, atol=1e-5)


def test_what_is_added_is_found_and_what_is_removed_is_gone_from_the_disk_and_stays_out(call, gallery):
    status, added = call("POST", "/images?name=door/anna.png&pid=007&camid=3", png(20))
    assert (status, added) == (201, {"name": "door/anna.png", "images": 7, "version": 2})
    stored = Gallery.open(gallery.folder)
    assert stored.table.iloc[6][["path", "pid", "camid", "hash"]].tolist() == [
        "door/anna.png",
        "7",
        "3",
        digest_of(png(20)),
    ]
    best = call("POST", "/search?k=1", png(20))[1]["answers"][0]
    assert best["path"] == "door/anna.png"
    assert best["distance"] == pytest.approx(0, abs=1e-3)

    assert call("DELETE", "/people/7") == (200, {"removed": 1, "images": 6, "version": 3})
    assert "7" not in set(Gallery.open(gallery.folder).table["pid"])
    assert not list(gallery.folder.glob("*000002*"))
    assert all(answer["path"] != "door/anna.png" for answer in call("POST", "/search?k=9", png(20))[1]["answers"])
    status, refused = call("POST", "/images?name=other.png", png(20))
    assert (status, refused["what"]) == (410, "this picture was removed for good")
    assert call("DELETE", "/images?name=0.png")[1]["images"] == 5
    status, refused = call("DELETE", "/images?name=0.png")
    assert (status, refused["what"], refused["got"]) == (404, "there is no such image", "0.png")
    assert call("DELETE", "/people/7")[0] == 404
    assert len(Gallery.open(gallery.folder)) == 5
    assert call("POST", "/images?name=door/ben.png&pid=team/9", png(21))[0] == 201
    assert call("DELETE", "/people/team%2F9")[1]["removed"] == 1


def test_pictures_added_at_once_become_few_versions_and_each_is_on_the_disk(call, gallery):
    answers = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(call("POST", f"/images?name=n{n}.png", png(30 + n))))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status for status, _ in answers] == [201] * 6
    stored = Gallery.open(gallery.folder)
    assert set(stored.table["path"]) >= {f"n{n}.png" for n in range(6)}
    assert stored.version < 1 + 6


def test_what_another_process_removes_is_not_found_any_more(call, gallery):
    assert len(call("POST", "/search?k=9", png(0))[1]["answers"]) == 6
    Gallery.open(gallery.folder).remove(pid="0")
    found = call("POST", "/search?k=9", png(0))[1]
    assert {answer["pid"] for answer in found["answers"]} == {"1", "2"}
    assert (found["images"], call("GET", "/gallery")[1]["images"]) == (4, 4)


def test_replicas_share_a_folder_and_a_qdrant_server(extractor, gallery):
    """One writes, the other sees it with its next request; nobody is removed while the server cannot forget them."""

    def paths(replica):
        return [answer["path"] for answer in replica("POST", "/search?k=9", png(20))[1]["answers"]]

    with ExitStack() as server, ExitStack() as replicas:
        url, held = server.enter_context(qdrant_server())
        one, other = (
            replicas.enter_context(
                running(extractor, Gallery.open(gallery.folder), index=partial(Qdrant, url), **options)
            )
            for options in ({}, {"writable": False})
        )
        alone = rank(gallery, gallery.indexed(FaissFlat()), extractor.features([picture(20)]).flatten(1), 9)
        assert paths(one) == paths(other) == gallery.table["path"].iloc[alone.rows[0][:6]].tolist()

        assert one("POST", "/images?name=anna.png&pid=7", png(20))[0] == 201
        assert paths(one)[0] == paths(other)[0] == "anna.png"
        assert one("DELETE", "/people/7")[0] == 200
        (collection,) = held.get_collections().collections
        assert held.count(collection.name).count == 6
        assert "anna.png" not in paths(other)

        server.close()
        assert one("DELETE", "/people/0")[0] == other("POST", "/search?k=9", png(20))[0] == 503
        assert len(Gallery.open(gallery.folder)) == 6


def test_what_was_removed_while_the_network_was_loaded_is_not_found(extractor, gallery):
    Gallery.open(gallery.folder).remove(pid="0")
    service = Service(extractor, gallery, FaissFlat)
    found = service.search(extractor.features([picture(0)])[0], 9)[1]
    assert {answer["pid"] for answer in found} == {"1", "2"}


def test_a_gallery_made_anew_in_the_same_folder_is_searched_anew(extractor, gallery):
    service = Service(extractor, gallery, FaissFlat)
    shutil.rmtree(gallery.folder)
    images = [gallery.crop(row) for row in (5, 3)]
    new = create_for(extractor, gallery.folder, gallery.root)
    assert update(new, extractor, images)[0].version == gallery.version
    found = service.search(extractor.features([picture(3)])[0], 9)[1]
    assert [answer["path"] for answer in found] == ["3.png", "5.png"]


def test_images_that_have_moved_stay_where_the_caller_says(extractor, gallery, tmp_path):
    gallery.root.rename(tmp_path / "moved")
    service = Service(extractor, Gallery.open(gallery.folder, tmp_path / "moved"), FaissFlat)
    Gallery.open(gallery.folder).remove(pid="0")  # by another process, which is not told
    assert service.gallery().image(0).shape == (96, 48, 3)


def test_a_token_may_be_in_any_script(extractor, gallery):
    token = "ein langer Schlüssel"
    with running(extractor, gallery, token=token) as ask:
        assert ask("GET", "/gallery", Authorization=f"Bearer {token}".encode())[0] == 200
        assert ask("GET", "/gallery", Authorization="Bearer ein langer Schlussel")[0] == 401


def bomb(side):
    """A small PNG that claims many pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "what"),
    [
        ("POST", "/search", b"GOOD", {"Authorization": None}, 401, "this service wants its token"),
        ("POST", "/search", b"GOOD", {"Authorization": "Bearer another"}, 401, "this service wants its token"),
        ("GET", "/gallery", None, {"Authorization": None}, 401, "this service wants its token"),
        ("DELETE", "/people/0", None, {"Authorization": None}, 401, "this service wants its token"),
        ("POST", "/search", b"GOOD", {"Host": "evil.example"}, 421, "this service does not go by that name"),
        ("POST", "/search", b"GOOD", {"Origin": "https://evil.example"}, 403, "requests of other sites' pages"),
        ("DELETE", "/people/0", None, {"Origin": "http://127.0.0.1:1"}, 403, "requests of other sites' pages"),
        ("POST", "/search", b"GOOD", {"Content_Type": "text/plain"}, 415, "the body must be a picture"),
        ("POST", "/search", b"", {}, 422, "the body is empty"),
        ("POST", "/search", b"no picture", {}, 422, "the picture cannot be read"),
        ("POST", "/search", bomb(101), {}, 422, "the picture cannot be read"),
        ("POST", "/search", bytes(100_001), {}, 413, "the picture is too large"),
        ("POST", "/search?tokens=part_9", b"GOOD", {}, 422, "there is no such group of tokens"),
        ("POST", "/search?camid=9", b"GOOD", {}, 422, "no image is from that camera"),
        ("POST", "/search?k=0", b"GOOD", {}, 422, "k: "),
        ("POST", "/search?k=many", b"GOOD", {}, 422, "k: "),
        ("POST", "/images", b"GOOD", {}, 422, "name: "),
        ("POST", "/images?name=../a.png", b"GOOD", {}, 422, "that is no name of an image"),
        ("GET", "/search", None, {}, 405, "Method Not Allowed"),
        ("GET", "/etc/passwd", None, {}, 404, "Not Found"),
    ],
)
def test_what_is_wrong_is_said_in_json(unchanged, method, path, body, headers, status, what):
    gallery, call = unchanged
    code, told = call(method, path, png(0) if body == b"GOOD" else body, **headers)
    assert (code, told["what"][: len(what)]) == (status, what)
    assert set(told) == {"what", "got", "fix"}
    assert all(told.values())
    assert str(gallery.folder) not in json.dumps(told)
    assert len(Gallery.open(gallery.folder)) == 6


def test_health_needs_no_token_and_the_docs_list_the_requests(unchanged):
    call = unchanged[1]
    assert call("GET", "/health", Authorization=None) == (200, {"status": "ok"})
    paths = call("GET", "/openapi.json", Authorization=None)[1]["paths"]
    assert {path: sorted(methods) for path, methods in paths.items()} == {
        "/health": ["get"],
        "/gallery": ["get"],
        "/embed": ["post"],
        "/search": ["post"],
        "/images": ["delete", "post"],
        "/people/{pid}": ["delete"],
    }
    assert "image/*" in paths["/search"]["post"]["requestBody"]["content"]


def test_a_service_that_may_not_write_offers_no_change(extractor, gallery):
    with running(extractor, gallery, token=None, writable=False) as ask:
        assert ask("DELETE", "/people/0", Authorization=None)[0] == 404
        assert ask("POST", "/images?name=a.png", png(0), Authorization=None)[0] == 404
        assert ask("POST", "/search", png(0), Authorization=None)[0] == 200
    assert len(Gallery.open(gallery.folder)) == 6


def test_more_requests_than_are_taken_are_told_to_come_again():
    scope = {"type": "http", "path": "/search", "headers": [(b"host", b"localhost:8000")]}
    door = Door(None, ("localhost",), 2)
    assert door.refusal(scope) is None
    door._inside = 2
    assert door.refusal(scope).status == 503
    assert door.refusal({**scope, "path": "/health"}) is None


def test_a_digest_of_bytes_is_that_of_their_file(tmp_path):
    (tmp_path / "a.png").write_bytes(png(0))
    assert digest_of(png(0)) == digest(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["", ".", "..", "/a", "a/../b", "a//b", "a\\b", "a\nb", "./a", "a/", "x" * 201])
def test_names_stay_below_the_root(name):
    with pytest.raises(Refusal, match="that is no name of an image"):
        check_name(name)
    assert check_name("camera 1/änna.jpg")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["host=0.0.0.0"], "there is no token: anybody could look for people"),
        (["token=short"], "the token has 5 characters"),
        (["batch.size=0"], "batch.size=0 is too small"),
        (["port=TAKEN"], "Address already in use"),
        (["host=a..b", "token=long-enough-for-it"], "the server cannot listen on host=a..b"),
        ([], "there is no gallery at"),
        (["ckpt=none.ckpt"], "no checkpoint at none.ckpt"),
    ],
)
def test_mistakes_are_one_message(tmp_path, capsys, monkeypatch, overrides, message):
    monkeypatch.delenv("AAFORMER_TOKEN", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = [one.replace("TAKEN", str(taken.getsockname()[1])) for one in overrides]
        free = [] if any("port" in one for one in given) else ["port=0"]
        assert run_cli("serve", f"gallery={tmp_path / 'none'}", *given, *free) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run_cli("serve", "gallery=none") == 2
    assert "pip install 'aaformer-lit[serve]'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_service_of_its_own_answers_many_clients_and_survives_a_kill(capsys):
    assert load.main(["--seconds", "3", "--images", "500", "--clients", "4"]) == 0
    assert "0 of these lost" in capsys.readouterr().out
