"""Thresholds from the command line: true of the data they were found on, of one model alone, and used by a search."""

import json
import re
import shutil

import pytest
import torch

from aaformer_lit.checkpoints.calibration import CalibrationRecord
from aaformer_lit.checkpoints.load import load_model, read_checkpoint
from aaformer_lit.deploy import SafetensorsFormat, export_checked
from aaformer_lit.gallery import Extractor, Gallery, find_crops
from cli_tools import read_json, run_cli

PATTERN = "(?P<pid>-?[0-9]+)_c(?P<camid>[0-9]+).*"
RATES = ("far=0.4", "miss=0.4", "confidence=0.5")  # what four people can promise


def calibrate(ckpt, data_dir, out, *overrides):
    return run_cli("calibrate", f"ckpt={ckpt}", f"paths.data={data_dir}", f"paths.runs={out}", f"run_dir={out}/run",
                   "data.num_workers=0", *overrides)  # fmt: skip


def search(gallery, query, out, *overrides):
    return run_cli("search", f"gallery={gallery}", f"query={query}", f"paths.runs={out}", f"run_dir={out}/found",
                   "data.num_workers=0", f'data.pattern="{PATTERN}"', *overrides)  # fmt: skip


@pytest.fixture(scope="module")
def copied(trained, tmp_path_factory):
    """A checkpoint without thresholds, and a gallery of it."""
    folder = tmp_path_factory.mktemp("plain")
    shutil.copy(trained / "checkpoints" / "last.ckpt", folder)
    return folder / "last.ckpt"


@pytest.fixture(scope="module")
def gallery(copied, people):
    out = copied.parent / "gallery"
    arguments = (f"ckpt={copied}", f"images={people / 'bounding_box_test'}", f"out={out}", "data.num_workers=0")
    assert run_cli("extract", *arguments, f'data.pattern="{PATTERN}"') == 0
    return out


@pytest.fixture(scope="module")
def calibrated(copied, data_dir, gallery, tmp_path_factory):
    """The same model in a folder with its thresholds, and a copy of the gallery that has them, too."""
    folder = tmp_path_factory.mktemp("calibrated")
    shutil.copy(copied, folder)
    shutil.copytree(gallery, folder / "gallery")
    assert calibrate(folder / "last.ckpt", data_dir, folder, *RATES, f"gallery={folder}/gallery") == 0
    return folder


def test_rates_are_those_of_the_pairs(calibrated, people):
    record = CalibrationRecord.read(calibrated / "last.calibration.json")
    extractor = Extractor.from_checkpoint(calibrated / "last.ckpt", num_workers=0, device="cpu")
    crops = [crop for split in ("query", "bounding_box_test") for crop in find_crops(people / split, pattern=PATTERN)]
    features = extractor.layout.select(extractor.features(crops)).double()
    distances = (features[:, None] - features[None]).norm(dim=2)
    pids, camids = (torch.tensor([int(getattr(crop, name)) for crop in crops]) for name in ("pid", "camid"))
    same, apart = pids[:, None] == pids, camids[:, None] != camids
    thresholds = record.thresholds
    # everybody has as many pictures in each camera, so that pairs count alike
    accepted = (distances[~same] <= thresholds.accept.distance).double().mean()
    assert thresholds.accept.measured == pytest.approx(
        float(accepted), abs=1 / 96
    )  # a bin of distances ends at one pair
    hits = (distances[same & apart] <= thresholds.accept.distance).double().mean()
    assert thresholds.true_accepts == pytest.approx(float(hits), abs=1e-9)
    assert thresholds.accept.bound <= 0.4
    assert record.data == "synthetic"
    assert record.fingerprint == extractor.fingerprint == Gallery.open(calibrated / "gallery").about["fingerprint"]


def test_the_thresholds_travel_with_the_model(calibrated, tmp_path, caplog):
    expected = CalibrationRecord.read(calibrated / "last.calibration.json").thresholds
    assert load_model(calibrated / "last.ckpt").calibration == expected
    export_checked(calibrated / "last.ckpt", SafetensorsFormat(), tmp_path / "model", images=8)
    assert load_model(tmp_path / "model").calibration == expected
    export_checked(calibrated / "last.ckpt", SafetensorsFormat(half=True), tmp_path / "half", images=8)
    assert "calibrated for another model" in caplog.text  # rounded weights are other weights
    assert load_model(tmp_path / "half").calibration is None
    assert "calibration" not in read_json(tmp_path / "half" / "config.json")["aaformer_lit"]


def test_thresholds_of_the_model_before_do_not_hide_those_in_the_folder(calibrated, tmp_path, caplog):
    export_checked(calibrated / "last.ckpt", SafetensorsFormat(), tmp_path / "model", images=8)
    expected = load_model(tmp_path / "model").calibration
    stale = read_json(calibrated / "last.calibration.json") | {"fingerprint": "another"}
    for left in (json.dumps(stale), "{"):
        (tmp_path / "model" / "calibration.json").write_text(left)
        assert load_model(tmp_path / "model").calibration == expected is not None
    assert caplog.text.count("left aside") == 2


def test_a_training_that_goes_on_leaves_its_thresholds_behind(calibrated, tmp_path, caplog):
    content = read_checkpoint(calibrated / "last.ckpt")
    content["state_dict"]["network.part_tokens"] += 0.1
    torch.save(content, tmp_path / "last.ckpt")
    shutil.copy(calibrated / "last.calibration.json", tmp_path)
    assert load_model(tmp_path / "last.ckpt").calibration is None
    assert re.search(r"last.calibration.json was calibrated for another model.* left aside", caplog.text)


def test_a_search_decides(calibrated, copied, people, tmp_path):
    thresholds = CalibrationRecord.read(calibrated / "last.calibration.json").thresholds
    assert (
        search(calibrated / "gallery", people / "query", tmp_path, "k=8", f"ckpt={copied}", "formats=[json,html]") == 0
    )
    found = read_json(tmp_path / "found" / "ranking.json")
    for result in found["results"]:
        decided = [answer["decision"] for answer in result["answers"]]
        limits = thresholds.accept.distance, max(thresholds.accept.distance, thresholds.reject.distance)
        expected = [
            ("accepted", "unsure", "rejected")[sum(answer["distance"] > limit for limit in limits)]
            for answer in result["answers"]
        ]
        assert decided == expected
        assert result["nobody"] == ("accepted" not in decided)
    page = (tmp_path / "found" / "ranking.html").read_text()
    for word in ("accepted", "unsure", "rejected"):
        answers = [answer for result in found["results"] for answer in result["answers"]]
        assert page.count(f"</b> {word}\n") == sum(answer["decision"] == word for answer in answers)


def test_nobody_is_here_where_no_answer_is_accepted(calibrated, people, tmp_path, capsys):
    strict = read_json(calibrated / "last.calibration.json")
    strict["thresholds"]["accept"]["distance"] = strict["thresholds"]["reject"]["distance"] = 0.0
    strict["thresholds"]["cameras"] = {"1-2": strict["thresholds"]["accept"] | {"distance": 9.0}}
    (tmp_path / "strict.json").write_text(json.dumps(strict))
    query = sorted((people / "query").glob("*_c1*.jpg"))[0]
    common = ("k=16", f"calibration={tmp_path}/strict.json")
    assert search(calibrated / "gallery", query, tmp_path, *common) == 0
    assert f"{query.name}: nobody here; nearest" in capsys.readouterr().out
    assert read_json(tmp_path / "found" / "ranking.json")["results"][0]["nobody"] is True
    assert "nobody here" in (tmp_path / "found" / "ranking.html").read_text()
    # the cameras of the calibration have thresholds of their own, for those who say that they are the same
    assert search(calibrated / "gallery", query, tmp_path, *common, "same_cameras=true", "formats=json") == 0
    (result,) = read_json(tmp_path / "found" / "ranking.json")["results"]
    assert {(answer["camid"], answer["decision"]) for answer in result["answers"]} == {
        ("1", "rejected"),
        ("2", "accepted"),
    }


def test_without_thresholds_one_line_says_how_to_get_them(gallery, copied, people, tmp_path, capsys):
    assert search(gallery, people / "query", tmp_path, "formats=json") == 0
    assert f"python -m aaformer_lit.calibrate ckpt={copied}" in capsys.readouterr().out
    found = read_json(tmp_path / "found" / "ranking.json")
    assert "nobody" not in found["results"][0]
    assert "decision" not in found["results"][0]["answers"][0]


@pytest.mark.parametrize(
    ("edit", "overrides", "message"),
    [
        ({"fingerprint": "0" * 16}, [], "was calibrated for another model: for fingerprint 0000000000000000"),
        ({"flip_test": True}, [], "was calibrated with flip_test=true"),
        ({"format": 2}, [], "format 2 is newer than this version reads"),
        ({"thresholds": {}}, [], "is no calibration that can be read"),
        ({}, ["tokens=part_1"], "thresholds are for tokens=all"),
    ],
)
def test_thresholds_of_others_are_refused(calibrated, people, tmp_path, capsys, edit, overrides, message):
    (tmp_path / "other.json").write_text(json.dumps(read_json(calibrated / "last.calibration.json") | edit))
    given = f"calibration={tmp_path}/other.json"
    assert search(calibrated / "gallery", people / "query", tmp_path, given, *overrides) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.rglob("ranking.*"))


def test_thresholds_for_mirrored_descriptors_are_left_aside_by_those_that_are_not(
    calibrated, gallery, people, tmp_path, capsys
):
    shutil.copy(calibrated / "last.ckpt", tmp_path)
    mirrored = read_json(calibrated / "last.calibration.json") | {"flip_test": True}
    (tmp_path / "last.calibration.json").write_text(json.dumps(mirrored))
    assert search(gallery, people / "query", tmp_path, f"ckpt={tmp_path}/last.ckpt", "formats=json") == 0
    assert "are for flip_test=true, and are left aside" in " ".join(capsys.readouterr().out.split())
    assert "decision" not in read_json(tmp_path / "found" / "ranking.json")["results"][0]["answers"][0]


def test_pictures_that_are_query_and_gallery_at_once_and_cameras_that_have_names(copied, people, tmp_path):
    shutil.copy(copied, tmp_path)
    rows = ["path,pid,camid,split"]
    for path in sorted((people / "bounding_box_test").glob("*.jpg")):
        pid, camid = re.match(PATTERN, path.name).groups()
        names = [f"{path},{pid},{('door', 'yard')[int(camid) % 2]},{split}" for split in ("query", "gallery")]
        rows += names if int(pid) > 0 else []
    (tmp_path / "people.csv").write_text("\n".join(rows))
    table = ("data=folder", f"data.table={tmp_path}/people.csv", "data.image_size=[64,32]")
    assert calibrate(tmp_path / "last.ckpt", tmp_path, tmp_path, *table, "far=0.6", "miss=0.6", "confidence=0.5") == 0
    assert (tmp_path / "run" / "distances.png").is_file()
    cameras = CalibrationRecord.read(tmp_path / "last.calibration.json").thresholds.cameras
    assert cameras.keys() == {"door-door", "door-yard", "yard-yard"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.cut=0.2"], "data.cut=0.2: thresholds are found on whole pictures"),
        ([], "far=0.01 cannot be promised from 4 people: .* It takes 598 people"),
        (["far=0.4", "confidence=0.5"], "miss=0.05 cannot be promised from 4 people: .* It takes 14 people"),
        (["far=1.5"], "far=1.5 must lie between 0 and 1"),
        ([*RATES, "gallery=/nonexistent"], "there is no gallery at /nonexistent"),
    ],
)
def test_what_cannot_be_promised_writes_nothing(copied, data_dir, tmp_path, capsys, overrides, message):
    assert calibrate(copied, data_dir, tmp_path, *overrides) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not list(copied.parent.glob("*.json"))
    assert not list(tmp_path.rglob("distances.png"))
