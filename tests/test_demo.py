"""The web page ranks as the gallery's features say, shows what the network assigns, and serves nothing else.

The page itself is a process of its own here, as it is for its users, and a real browser looks at it.
"""

import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from aaformer_lit.checkpoints.calibration import CalibrationRecord
from aaformer_lit.checkpoints.load import read_checkpoint
from aaformer_lit.data.images import read_image
from aaformer_lit.data.preparation import resize
from aaformer_lit.data.transforms import Transforms
from aaformer_lit.errors import ConfigError, GalleryError
from aaformer_lit.gallery import Extractor, FaissFlat, Gallery, create_for, find_crops, update
from aaformer_lit.metrics.calibration import Calibration, Threshold
from aaformer_lit.models import AAformer, PooledViT, TransReID, ViTBaseline
from aaformer_lit.viz.palette import part_color
from aaformer_lit.viz.patches import TINT
from aaformer_lit.web.guard import WINDOW, Guard
from aaformer_lit.web.viewer import FRAME, HEIGHT, Viewer
from cli_tools import run_cli

PATTERN = "(?P<pid>-?[0-9]+)_c(?P<camid>[0-9]+).*"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ABOUT = {"model": {}, "data": {"image_size": [32, 16], "mean": [0.5] * 3, "std": [0.5] * 3}}
PATIENCE = 120  # seconds that a busy machine may take


@pytest.fixture(scope="module")
def extractor(trained):
    return Extractor.from_checkpoint(trained / "checkpoints" / "last.ckpt", num_workers=0, device="cpu")


@pytest.fixture(scope="module")
def gallery(extractor, people, tmp_path_factory):
    images = people / "bounding_box_test"
    new = create_for(extractor, tmp_path_factory.mktemp("demo") / "gallery", images)
    return update(new, extractor, find_crops(images, pattern=PATTERN))[0]


@pytest.fixture(scope="module")
def viewer(extractor, gallery):
    return Viewer(extractor, gallery, FaissFlat, examples=3)


@pytest.mark.parametrize("group", ["all", "global", "parts", "parts_2", "part_4"])
def test_ranking_is_the_order_of_distances_of_that_group(viewer, gallery, extractor, people, group):
    path = sorted((people / "query").glob("*.jpg"))[0]
    query, _ = viewer.look(read_image(path))
    features = gallery.layout.select(extractor.features([path]), group)
    distances = torch.cdist(features.double(), gallery.features(group).double())[0]
    answers = viewer.rank(query, group, k=len(gallery))
    assert sorted(answer.row for answer in answers) == list(range(len(gallery)))
    found = distances[[answer.row for answer in answers]]
    assert (found.diff() > -1e-5).all()
    told = [float(answer.caption.split()[1]) for answer in answers]
    assert told == pytest.approx(found.tolist(), abs=6e-4)


def test_answers_are_decided_by_thresholds_of_all_tokens(extractor, gallery, people):
    rows = sorted((people / "query").glob("*.jpg"))[:1]
    distances = torch.cdist(gallery.layout.select(extractor.features(rows)), gallery.features())[0].sort().values
    accept, reject = (Threshold(float(distances[place]) + 1e-5, 0.1, 0.2, 40) for place in (2, 5))
    thresholds = Calibration(0.2, 0.2, 0.95, True, accept, reject, 0.9)
    record = CalibrationRecord(thresholds, extractor.fingerprint, False, "people")
    folder = Gallery(
        gallery.folder, gallery.about | {"calibration": record.as_dict()}, gallery.table, gallery.descriptors
    )
    judged = Viewer(extractor, folder, FaissFlat, examples=3)
    query, _ = judged.look(read_image(rows[0]))
    answers = judged.rank(query, k=8)
    expected = ["accepted"] * 3 + ["unsure"] * 3 + ["rejected"] * 2
    assert [answer.decision for answer in answers] == [a.caption.splitlines()[1] for a in answers] == expected
    bars = [tuple(answer.picture[-1, 0]) for answer in answers]
    assert bars == [(0, 114, 178)] * 3 + [(230, 159, 0)] * 3 + [(140, 140, 140)] * 2
    assert {answer.decision for answer in judged.rank(query, "part_1")} == {None}


def test_groups_rank_differently(viewer, people):
    query, _ = viewer.look(read_image(sorted((people / "query").glob("*.jpg"))[0]))
    orders = {tuple(answer.row for answer in viewer.rank(query, group, k=20)) for group in viewer.groups()}
    assert len(orders) > 5


def test_a_gallery_image_does_not_find_itself_and_knows_its_person(viewer, gallery):
    row = viewer.examples[0]
    query, _ = viewer.look_at(row)
    answers = viewer.rank(query, k=len(gallery))
    assert sorted(answer.row for answer in answers) == [other for other in range(len(gallery)) if other != row]
    right = [gallery.table["pid"].iat[answer.row] == gallery.table["pid"].iat[row] for answer in answers]
    assert [("✓" if same else "✗") in answer.caption for same, answer in zip(right, answers, strict=True)] == [
        True
    ] * len(right)
    borders = {
        same: {tuple(a.picture[0, 0]) for s, a in zip(right, answers, strict=True) if s == same} for same in right
    }
    assert borders == {True: {(0, 158, 115)}, False: {(204, 51, 17)}}


def test_cameras_and_number_of_answers(viewer, gallery, people):
    query, _ = viewer.look(read_image(sorted((people / "query").glob("*.jpg"))[0]))
    assert viewer.cameras == ("1", "2")
    answers = viewer.rank(query, "part_1", ["2"], k=3)
    everywhere = [answer.row for answer in viewer.rank(query, "part_1", k=len(gallery))]
    assert [a.row for a in answers] == [row for row in everywhere if gallery.table["camid"].iat[row] == "2"][:3]
    assert all("camera 2" in answer.caption for answer in answers)
    with pytest.raises(ConfigError, match="from camera 9"):
        viewer.rank(query, "all", ["9"])


def test_examples_are_different_people(viewer, gallery):
    pids = [gallery.table["pid"].iat[row] for row in viewer.examples]
    assert len(set(pids)) == 3
    assert not {"-1", "0", ""} & set(pids)
    assert viewer.person(viewer.examples[0]) == f"pid {pids[0]}\ncamera 1"


def test_tiles_show_subsets_and_partitions(viewer, extractor, people):
    pixels = read_image(sorted((people / "query").glob("*.jpg"))[1])
    _, tiles = viewer.look(pixels)
    assert [tile.group for tile in tiles] == ["all", "parts_2", "parts_3", *(f"part_{p}" for p in range(1, 6))]
    assert [tile.label for tile in tiles][:4] == ["query", "the 2 parts", "the 3 parts", "part 1 of 2"]
    assert np.array_equal(tiles[0].picture, resize(pixels, (HEIGHT, HEIGHT // 2)))
    batch = Transforms().test()(image=resize(pixels, extractor.transform.image_size))["image"][None]
    subsets = extractor.network.assignments(batch)[-1][0]  # (heads, parts, patches)
    rows, columns = extractor.network.grid
    step = HEIGHT // rows
    centers = [(step // 2 + step * (n // columns), step // 2 + step * (n % columns)) for n in range(rows * columns)]
    for number, tile in enumerate(tiles[3:]):
        inner = tile.picture[FRAME:-FRAME, FRAME:-FRAME]
        black = [bool((inner[center] == 0).all()) for center in centers]
        assert black == (~subsets[:, number].any(dim=0)).tolist()
    # gray has no difference of red and blue; a part's tint has its color's
    hue = np.array([tiles[1].picture[center].astype(int) @ [1, 0, -1] for center in centers])
    for number in range(2):
        red, _, blue = part_color(2, number)
        owned = subsets[:, number].all(dim=0).numpy()
        assert owned.any()
        assert hue[owned] == pytest.approx(255 * TINT * (red - blue), abs=2)


def backbone_of(depth):
    return VisionTransformer(img_size=(32, 16), patch_size=4, embed_dim=24, depth=depth, num_heads=2, num_classes=0)


def test_a_network_without_parts_ranks_but_has_no_tiles(gallery, people, tmp_path):
    torch.manual_seed(0)
    plain = Extractor(ViTBaseline(backbone_of(1)).eval(), ABOUT, num_workers=0, device="cpu")
    with pytest.raises(ConfigError, match="no parts to show, and there is no gallery"):
        Viewer(plain)
    with pytest.raises(GalleryError, match="made by another model"):
        Viewer(plain, gallery, FaissFlat)
    own, _ = update(create_for(plain, tmp_path / "own", people), plain, find_crops(people / "query"))
    viewer = Viewer(plain, own, FaissFlat)
    query, tiles = viewer.look_at(viewer.examples[0])
    assert [tile.group for tile in tiles] == ["all"]
    assert list(viewer.groups().values()) == ["all tokens"]
    assert len(viewer.rank(query, k=4)) == 4
    assert viewer.cameras == ("",)


@pytest.mark.parametrize("kind", [PooledViT, TransReID])
def test_networks_that_pool_show_their_subsets(kind):
    torch.manual_seed(0)
    network = kind(backbone_of(2)).eval()
    assert network.granularities
    viewer = Viewer(Extractor(network, ABOUT, num_workers=0, device="cpu"))
    _, tiles = viewer.look(np.full((32, 16, 3), 255, dtype=np.uint8))
    parts = [tile for tile in tiles if re.fullmatch(r"part_\d+", tile.group)]
    assert len(parts) == sum(network.granularities)
    step = HEIGHT // network.grid[0]
    subsets = network.assignments(torch.zeros(1, 3, 32, 16))[-1][0].any(dim=0)
    for tile, subset in zip(parts, subsets, strict=True):
        inner = tile.picture[FRAME:-FRAME, FRAME:-FRAME]
        bright = [int(inner[step // 2 + step * (n // network.grid[1]), step // 2 + step * (n % network.grid[1])].max())
                  for n in range(len(subset))]  # fmt: skip
        assert [value > 100 for value in bright] == subset.tolist()


def test_equal_granularities_are_ranked_by_apart():
    network = AAformer(backbone_of(1), parts=[2, 2]).eval()
    viewer = Viewer(Extractor(network, ABOUT, num_workers=0, device="cpu"))
    _, tiles = viewer.look(np.full((32, 16, 3), 255, dtype=np.uint8))
    assert [tile.group for tile in tiles[1:3]] == ["parts_2", "parts_2_2"]
    assert list(viewer.groups())[:4] == ["all", "global", "parts", "parts_2"]


def test_parts_that_the_descriptor_has_joined_rank_together(people, tmp_path):
    torch.manual_seed(0)
    joined = Extractor(
        AAformer(backbone_of(1), [2, 3], descriptor="cls_mean").eval(), ABOUT, num_workers=0, device="cpu"
    )
    own, _ = update(create_for(joined, tmp_path / "own", people), joined, find_crops(people / "query"))
    viewer = Viewer(joined, own, FaissFlat)
    query, tiles = viewer.look_at(viewer.examples[0])
    assert [tile.group for tile in tiles] == ["all", *["parts"] * 7]
    assert {tile.group for tile in tiles} <= viewer.groups().keys()
    assert all(len(viewer.rank(query, tile.group, k=4)) == 4 for tile in tiles)


def test_without_a_gallery_there_are_parts_and_no_ranking(extractor):
    viewer = Viewer(extractor)
    query, tiles = viewer.look(np.zeros((10, 5, 3), dtype=np.uint8))
    assert len(tiles) == 8
    with pytest.raises(ConfigError, match="no gallery to rank"):
        viewer.rank(query)


def request(method="GET", path="/", host="127.0.0.1:7860", **headers):
    pairs = {"host": host, **headers}
    encoded = [(name.replace("_", "-").encode(), str(value).encode()) for name, value in pairs.items()]
    return {"type": "http", "method": method, "path": path, "headers": encoded}


def guard(folder, clock=time.monotonic, hosts=("127.0.0.1", "localhost", "::1")):
    return Guard(None, folder=folder, hosts=hosts, max_bytes=1000, max_uploads=2, clock=clock)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, None),
        ({"path": "/assets/index-1.js"}, None),
        ({"path": "/gradio_api/queue/data"}, None),
        ({"method": "HEAD"}, None),
        ({"host": "localhost"}, None),
        ({"host": "[::1]:7860"}, None),
        ({"host": "evil.example:7860"}, 421),
        ({"host": ""}, 421),
        ({"path": "/gradio_api/file=FOLDER/a.webp"}, None),
        ({"path": "/gradio_api/file=FOLDER/../a.webp"}, 403),
        ({"path": "/gradio_api/file=FOLDER/link"}, 403),
        ({"path": "/gradio_api/file=/etc/hostname"}, 403),
        ({"path": "/gradio_api/file=a.webp"}, 403),
        ({"path": "/gradio_api/file=https://example.com/a.webp"}, 403),
        ({"path": "/gradio_api/file=FOLDER/\0"}, 403),
        ({"path": "/gradio_api/file/etc/hostname"}, 404),
        ({"path": "/gradio_api/proxy=https://example.com"}, 404),
        ({"path": "/monitoring"}, 404),
        ({"path": "/gradio_api/run/predict", "method": "POST", "content_length": 2}, 404),
        ({"path": "/gradio_api/vibe-edit", "method": "POST", "content_length": 2}, 404),
        ({"path": "/", "method": "DELETE"}, 404),
        ({"path": "/gradio_api/queue/join", "method": "POST", "content_length": 99}, None),
        ({"path": "/gradio_api/queue/join", "method": "POST"}, 411),
        ({"path": "/gradio_api/queue/join", "method": "POST", "content_length": "1e3"}, 411),
        ({"path": "/gradio_api/queue/join", "method": "POST", "content_length": 2 << 20}, 413),
        ({"path": "/gradio_api/upload", "method": "POST", "content_length": 1000}, None),
        ({"path": "/gradio_api/upload", "method": "POST", "content_length": 9, "transfer_encoding": "chunked"}, 411),
        ({"path": "/gradio_api/upload/", "method": "POST", "content_length": 99_999}, 413),
    ],
)
def test_guard_is_a_closed_list(tmp_path, asked, status):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "link").symlink_to("/etc/hostname")
    asked = {key: value.replace("FOLDER", str(folder)) if key == "path" else value for key, value in asked.items()}
    verdict = guard(folder).verdict(request(**asked))
    assert (verdict and verdict[0]) == status


def test_guard_counts_uploads_in_a_window(tmp_path):
    now = [0.0]
    door = guard(tmp_path, clock=lambda: now[0])
    upload = request("POST", "/gradio_api/upload", content_length=10)
    assert [door.verdict(upload) for _ in range(2)] == [None, None]
    assert door.verdict(upload)[0] == 429
    now[0] = WINDOW + 1
    assert door.verdict(upload) is None


def test_guard_takes_any_name_where_it_is_open_to_others(tmp_path):
    assert guard(tmp_path, hosts=()).verdict(request(host="demo.example")) is None


@pytest.fixture
def other_weights(trained, tmp_path):
    content = read_checkpoint(trained / "checkpoints" / "last.ckpt")
    content["state_dict"]["network.part_tokens"] += 0.1
    torch.save(content, tmp_path / "other.ckpt")
    return tmp_path / "other.ckpt"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "the page needs a model. Give ckpt="),
        (["gallery=EMPTY"], "there is no gallery at"),
        (["gallery=GALLERY", "ckpt=OTHER"], "was made by another model"),
        (["gallery=GALLERY", "images=/nowhere"], "there is no folder /nowhere"),
        (["gallery=GALLERY", "layer=7"], "layer must be between"),
        (["gallery=GALLERY", "k=0"], "k=0 between 1 and 50"),
        (["gallery=GALLERY", "max_file_mb=0"], "max_file_mb=0"),
        (["gallery=GALLERY", "port=TAKEN"], "Address already in use"),
        (["gallery=GALLERY", "host=no.such.host.invalid"], "cannot listen on host=no.such.host.invalid"),
        (["gallery=GALLERY", "share=true"], "unknown config key 'share'"),
        (["ckpt=EMPTY/none.ckpt"], "no checkpoint at"),
    ],
)
def test_mistakes_are_one_message(gallery, other_weights, tmp_path, capsys, overrides, message):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {"GALLERY": gallery.folder, "OTHER": other_weights, "EMPTY": tmp_path, "TAKEN": taken.getsockname()[1]}
        for name, place in places.items():
            overrides = [override.replace(name, str(place)) for override in overrides]
        free = [] if any("port" in override for override in overrides) else ["port=0"]
        assert run_cli("demo", *overrides, *free) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_missing_gradio_is_named(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run_cli("demo") == 2
    assert "pip install 'aaformer-lit[demo]'" in " ".join(capsys.readouterr().err.split())


def test_help_waits_for_no_library():
    code = "import sys, aaformer_lit.demo; print([m for m in ('torch', 'gradio', 'cv2', 'pandas') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.fixture(scope="module")
def page(gallery, tmp_path_factory):
    """The address of the page in a process of its own; what it keeps is gone when it has ended."""
    pytest.importorskip("gradio")
    temporary = tmp_path_factory.mktemp("page")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "aaformer_lit.demo",
        f"gallery={gallery.folder}",
        f"port={port}",
        "max_file_mb=1",
        "k=6",
    ]
    # what would open a tunnel or the whole disk, if the page listened to it
    unsafe = {"GRADIO_SHARE": "true", "GRADIO_ALLOWED_PATHS": "/", "GRADIO_SERVER_NAME": "0.0.0.0"}
    environment = os.environ | unsafe | {"TMPDIR": str(temporary), "COLUMNS": "200"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=temporary
    )
    told = ""
    until = time.monotonic() + PATIENCE
    while "Ctrl-C" not in told and process.poll() is None and time.monotonic() < until:
        if select.select([process.stdout], [], [], 1)[0]:
            told += os.read(process.stdout.fileno(), 65536).decode()
    assert f"http://127.0.0.1:{port}/" in told, told
    yield f"http://127.0.0.1:{port}"
    kept = list(temporary.glob("aaformer-demo-*"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    process.stdout.close()
    assert len(kept) == 1
    assert not list(temporary.glob("aaformer-demo-*"))
    assert not (temporary / ".gradio").exists()


def status(url, data=None, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=PATIENCE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_the_server_serves_the_page_and_no_other_file(page, gallery, trained):
    assert status(page) == 200
    image = next(gallery.root.glob("*.jpg"))
    for path in (
        "/etc/hostname",
        trained / "checkpoints" / "last.ckpt",
        gallery.folder / "gallery.json",
        image,
        __file__,
    ):
        assert status(f"{page}/gradio_api/file={path}") == 403, path
    assert status(f"{page}/gradio_api/file=http://127.0.0.1:1/") == 403
    assert status(f"{page}/gradio_api/call/look", b"{}") == 404
    assert status(page, Host="evil.example") == 421
    with pytest.raises(ConnectionRefusedError):  # another address of this machine
        socket.create_connection(("127.0.0.2", int(page.rpartition(":")[2])), timeout=5)


def test_uploads_are_bounded(page):
    body = (
        b"--x\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n"
        + b"0" * (1 << 20)
        + b"1\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert status(f"{page}/gradio_api/upload", body, **headers) == 413
    connection = http.client.HTTPConnection(page.removeprefix("http://"), timeout=PATIENCE)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Length", str(5 << 20))
    connection.endheaders()  # the answer comes before the body
    assert connection.getresponse().status == 413
    connection.close()


def test_an_address_instead_of_an_upload_is_refused(page):
    def call(path, content=None):
        data = None if content is None else json.dumps(content).encode()
        asked = urllib.request.Request(f"{page}{path}", data, {"Content-Type": "application/json"})
        return urllib.request.urlopen(asked, timeout=PATIENCE)

    with call("/config") as answer:
        config = json.load(answer)
    (number,) = [d["id"] for d in config["dependencies"] if any(event == "upload" for _, event in d["targets"])]
    forged = {"path": "http://127.0.0.1:1/a.png", "meta": {"_type": "gradio.FileData"}}
    call("/gradio_api/queue/join", {"data": [forged], "fn_index": number, "session_hash": "s"}).close()
    with call("/gradio_api/queue/data?session_hash=s") as events:
        told = events.read().decode()
    assert "pictures are uploaded, not fetched from an address" in told


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


def rows_shown(view):
    """pid and camera of the answers, once the ranking is there."""
    text = [caption.inner_text() for caption in view.locator("#ranking .caption-label").all()]
    return [tuple(re.search(r"(\d+): [\d.]+.*\npid (-?\d+)\ncamera (\d+)", caption).groups()) for caption in text]


def test_in_a_browser(page, browser, viewer, gallery, people, tmp_path):
    view = browser.new_page(viewport={"width": 1280, "height": 1000})
    view.set_default_timeout(1000 * PATIENCE)
    elsewhere, complaints = [], []
    view.on("request", lambda r: elsewhere.append(r.url) if not r.url.startswith((page, "data:", "blob:")) else None)
    view.on("pageerror", lambda error: complaints.append(str(error)))
    view.goto(page)
    chooser = view.locator("#query input[type=file]")
    chooser.wait_for(state="attached")

    def expected(query, group, cameras=None, k=6):
        crops = [gallery.crop(answer.row) for answer in viewer.rank(query, group, cameras, k)]
        return [(str(place), crop.pid, crop.camid) for place, crop in enumerate(crops, start=1)]

    def label_is(text):
        view.locator("#ranking > label", has_text=text).wait_for()

    path = sorted((people / "query").glob("*.jpg"))[0]
    query, tiles = viewer.look(read_image(path))
    chooser.set_input_files(path)
    label_is("ranking by all tokens")
    assert rows_shown(view) == expected(query, "all")
    assert [c.inner_text() for c in view.locator("#tiles .caption-label").all()] == [tile.label for tile in tiles]

    before = view.locator("#chart img").get_attribute("src")
    view.locator("#tiles button.thumbnail-item").nth(4).click()
    label_is("ranking by part 2 of 2")
    assert rows_shown(view) == expected(query, "part_2")
    assert expected(query, "part_2") != expected(query, "all")
    assert view.locator("#chart img").get_attribute("src") != before
    assert view.locator("#tokens input:checked").get_attribute("value") == "part_2"

    view.locator("#cameras label", has_text="camera 1").click()
    view.wait_for_function(
        "![...document.querySelectorAll('#ranking .caption-label')].some(c => /camera 1/.test(c.innerText))"
    )
    assert rows_shown(view) == expected(query, "part_2", ["2"])

    view.locator("#tokens label", has_text="CLS").click()
    label_is("ranking by CLS")
    assert rows_shown(view) == expected(query, "global", ["2"])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image, whatever its name")
    chooser.set_input_files(broken)
    toast = view.locator(".toast-body")
    toast.wait_for()
    assert "this file is no image" in toast.inner_text()
    assert "on_bad_image" not in toast.inner_text()
    view.wait_for_function("!document.querySelector('#ranking .caption-label, #tiles .caption-label')")
    assert elsewhere == []
    assert complaints == []
    view.close()
