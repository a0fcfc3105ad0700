"""A gallery through its life: made, extended, changed, emptied; interrupted at every step."""

import errno
import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from aaformer_lit.errors import ConfigError, GalleryError, ImageError, NumericsError, StorageError
from aaformer_lit.gallery import (
    Changes,
    Crop,
    Extractor,
    FaissFlat,
    Gallery,
    create_for,
    find_crops,
    rank,
    update,
    versions,
)

PATTERN = r"(?P<pid>\d+)_c(?P<camid>\d+)\.png"


@pytest.fixture
def gallery(extractor, images, tmp_path):
    made, changes = update(
        create_for(extractor, tmp_path / "gallery", images), extractor, find_crops(images, pattern=PATTERN)
    )
    assert changes == Changes(added=8)
    return made


def contents(gallery):
    """All that is on disk, but the lock."""
    files = (path.relative_to(gallery.folder).as_posix() for path in gallery.folder.rglob("*") if path.is_file())
    return set(files) - {versions.LOCK}


def on_disk(folder, needle: bytes) -> bool:
    return any(needle in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_what_is_written_comes_back(gallery, extractor, images):
    again = Gallery.open(gallery.folder)
    pd.testing.assert_frame_equal(again.table, gallery.table)
    assert torch.equal(again.descriptors, extractor.features(find_crops(images)))
    assert again.table["path"].tolist()[:2] == ["c0/0000_c0.png", "c0/0001_c0.png"]
    assert again.table[["pid", "camid"]].iloc[5].tolist() == ["1", "1"]
    assert again.crop(5) == Crop(images / "c1" / "0001_c1.png", None, "1", "1")
    assert contents(gallery) == {"gallery.json", "table-000001.parquet", "features-000001.safetensors"}


def test_again_adds_only_what_is_new(gallery, extractor, images, world, monkeypatch):
    world.write(images / "c2" / "0009_c2.png", 9)
    world.write(images / "c0" / "0001_c0.png", 77)
    asked = []
    original = Extractor.try_features
    monkeypatch.setattr(
        Extractor, "try_features", lambda self, todo, *a, **k: asked.extend(todo) or original(self, todo, *a, **k)
    )
    crops = find_crops(images, pattern=PATTERN)
    grown, changes = update(gallery, extractor, crops)
    assert [crop.path.name for crop in asked] == ["0009_c2.png", "0001_c0.png"]
    assert changes == Changes(added=1, changed=1, unchanged=7)
    assert sorted(grown.ids.tolist()) == [0, *range(2, 10)]  # the changed image has a new number
    expected = dict(zip([c.path.name for c in crops], original(extractor, crops)[0], strict=True))
    for row, path in enumerate(grown.table["path"]):
        torch.testing.assert_close(grown.descriptors[row], expected[Path(path).name], rtol=1e-5, atol=1e-5)
    assert contents(grown) == {"gallery.json", "table-000002.parquet", "features-000002.safetensors"}
    same, changes = update(grown, extractor, crops)
    assert (changes, same.version) == (Changes(unchanged=9), 2)


def test_new_labels_need_no_network(gallery, extractor, images, monkeypatch):
    monkeypatch.setattr(Extractor, "_descriptors", lambda *_: pytest.fail("extracted"))
    named, changes = update(gallery, extractor, [Crop(c.path, pid="anna") for c in find_crops(images / "c0")])
    assert changes == Changes(relabeled=4)
    assert Gallery.open(named.folder).table["pid"].tolist() == ["anna"] * 4 + ["0", "1", "2", "3"]
    # images that come without names keep those they had
    assert update(named, extractor, find_crops(images))[1] == Changes(unchanged=8)


def test_removed_is_gone_and_stays_gone(gallery, extractor, images):
    crops = find_crops(images, pattern=PATTERN)
    gone = gallery.descriptors[1].numpy().tobytes()
    assert on_disk(gallery.folder, gone)
    one = gallery.remove(paths=["c0/0001_c0.png"])
    assert "c0/0001_c0.png" not in Gallery.open(one.folder).table["path"].tolist()
    assert not on_disk(one.folder, gone)
    assert not on_disk(one.folder, b"0001_c0")
    person = one.remove(pid="0002").remove(paths=[images / "c1" / "0003_c1.png"])
    assert person.table["pid"].tolist() == ["0", "3", "0", "1"]
    assert torch.equal(person.descriptors, gallery.descriptors[[0, 3, 4, 5]])
    back, changes = update(person, extractor, crops)
    assert (len(back), changes) == (4, Changes(unchanged=4, removed_before=4))
    for mistake, message in (({"paths": ["c0/0001_c0.png"]}, "no image"), ({"pid": 2}, "nobody")):
        with pytest.raises(GalleryError, match=message):
            person.remove(**mistake)


def test_removing_takes_the_index_along(gallery):
    folder = gallery.folder / "index-000001"
    folder.mkdir()
    (folder / "x.faiss").write_bytes(b"features")
    smaller = gallery.remove(pid=1)
    assert contents(smaller) == {"gallery.json", "table-000002.parquet", "features-000002.safetensors"}


def test_boxes_are_images_of_their_own(extractor, tmp_path, world):
    frame = world.write(tmp_path / "f" / "frame.png", 3, height=96, width=80)
    boxes = [(0, 0, 20, 40), (20, 0, 20, 40), (40, 0, 20, 40)]
    crops = [Crop(frame, box, str(pid)) for pid, box in enumerate(boxes)]
    made, _ = update(create_for(extractor, tmp_path / "g", tmp_path / "f"), extractor, crops)
    reopened = Gallery.open(made.folder)
    assert [reopened.crop(row) for row in range(3)] == crops
    assert np.array_equal(reopened.image(1), world.person(3, 96, 80)[:40, 20:40])
    without = made.remove(pid=1)
    assert [without.crop(row).box for row in range(2)] == [boxes[0], boxes[2]]
    assert update(without, extractor, crops)[1] == Changes(unchanged=2, removed_before=1)
    assert len(without.remove(paths=["frame.png"])) == 0


@pytest.mark.parametrize("step", ["to_parquet", "save_file", "fsync", "replace", "write_switch"])
def test_killed_at_any_step_the_old_gallery_is_whole(gallery, extractor, images, world, monkeypatch, step):
    world.write(images / "c0" / "0099_c0.png", 99)
    crops = find_crops(images, pattern=PATTERN)
    before = gallery.table.copy()

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        owner = {"to_parquet": pd.DataFrame, "save_file": safetensors.torch, "write_switch": versions}.get(step, os)
        patched.setattr(owner, step, die)
        with pytest.raises(KeyboardInterrupt):
            update(gallery, extractor, crops)
    (gallery.folder / ".features-000002.safetensors.tmp").touch()  # as a kill leaves it
    survived = Gallery.open(gallery.folder)
    pd.testing.assert_frame_equal(survived.table, before)
    assert torch.equal(survived.descriptors, gallery.descriptors)
    grown, changes = update(survived, extractor, crops)
    assert changes == Changes(added=1, unchanged=8)
    assert contents(grown) == {"gallery.json", "table-000002.parquet", "features-000002.safetensors"}


def test_an_unreadable_image_leaves_nothing_behind(extractor, images, tmp_path, gallery, world):
    (images / "c0" / "zz.png").write_bytes(b"no image")
    crops = find_crops(images, pattern=None)
    with pytest.raises(ImageError, match=r"zz\.png"):
        update(create_for(extractor, tmp_path / "new", images), extractor, crops)
    assert not (tmp_path / "new").exists()
    world.write(images / "c0" / "aa.png", 50)
    with pytest.raises(ImageError, match=r"zz\.png"):
        update(gallery, extractor, find_crops(images, pattern=PATTERN))
    assert len(Gallery.open(gallery.folder)) == 8
    grown, changes = update(gallery, extractor, find_crops(images, pattern=PATTERN), skip_bad_images=True)
    assert changes == Changes(added=1, unchanged=8, unreadable=1)
    assert len(grown) == 9


def test_portions_before_an_interruption_stay(extractor, images, tmp_path):
    crops = find_crops(images, pattern=PATTERN)
    broken = crops[7].path
    whole, data = broken.read_bytes(), broken.read_bytes()[:40]
    broken.write_bytes(data)
    seen = []
    with pytest.raises(ImageError, match="is no image"):
        update(
            create_for(extractor, tmp_path / "g", images), extractor, crops, portion=3,
            progress=lambda *done: seen.append(done),
        )  # fmt: skip
    assert seen == [(3, 8), (6, 8)]
    kept = Gallery.open(tmp_path / "g")
    assert len(kept) == 6
    broken.write_bytes(whole)
    full, changes = update(kept, extractor, crops, portion=1)
    assert changes == Changes(added=2, unchanged=6)
    torch.testing.assert_close(full.descriptors, extractor.features(crops), rtol=1e-5, atol=1e-5)


def test_another_model_is_refused(gallery, images, world):
    for other, about in (
        (Extractor(world.network(seed=1), world.about, num_workers=0, device="cpu"), "another model"),
        (Extractor(world.network(parts=(4,)), world.about, num_workers=0, device="cpu"), "with 5 x 24"),
        (Extractor(world.network(), world.about, flip_test=True, num_workers=0, device="cpu"), "flip_test=false"),
    ):
        with pytest.raises(GalleryError, match=about):
            update(gallery, other, find_crops(images))


def test_two_at_once_lose_nothing(gallery):
    other = Gallery.open(gallery.folder)
    gallery.remove(pid=1)
    with pytest.raises(GalleryError, match="changed by another process"):
        other.remove(pid=2)


def test_writers_take_turns(gallery, monkeypatch):
    """The first one is in the middle of writing when the second one begins."""
    busy, write = threading.Event(), versions.write_tensors

    def slowly(*given):
        busy.set()
        time.sleep(0.5)
        write(*given)

    monkeypatch.setattr(versions, "write_tensors", slowly)
    other = Gallery.open(gallery.folder)
    first = threading.Thread(target=gallery.remove, kwargs={"pid": 1})
    first.start()
    assert busy.wait(60)
    with pytest.raises(GalleryError, match="changed by another process"):
        other.remove(pid=2)
    first.join()
    assert Gallery.open(gallery.folder).table["pid"].tolist() == ["0", "2", "3"] * 2


def test_the_lock_is_nothing_foreign_and_is_not_swept_away(gallery, extractor, tmp_path, images):
    assert (gallery.remove(pid=1).folder / versions.LOCK).is_file()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / versions.LOCK).touch()
    create_for(extractor, tmp_path / "new", images)


def test_a_folder_that_cannot_be_locked_is_searched_all_the_same(gallery):
    (gallery.folder / versions.LOCK).unlink()
    (gallery.folder / versions.LOCK).mkdir()  # cannot be opened, as in a folder that can only be read
    assert gallery.indexed(FaissFlat()).search(gallery.features()[:1], 1).rows[0, 0] == 0


def test_a_first_version_that_cannot_be_written_leaves_no_folder(extractor, tmp_path, images, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(StorageError, match="No space left on device"):
        update(create_for(extractor, tmp_path / "new", images), extractor, find_crops(images))
    assert not (tmp_path / "new").exists()


def test_a_gallery_made_anew_is_another_one(gallery, extractor, images):
    shutil.rmtree(gallery.folder)
    new, _ = update(create_for(extractor, gallery.folder, images), extractor, find_crops(images / "c0"))
    assert new.version == gallery.version
    assert new.is_current()
    assert not gallery.is_current()
    with pytest.raises(GalleryError, match="changed by another process"):
        gallery.remove(pid=1)


def test_what_is_recorded_without_a_new_version_is_kept_by_the_next_one(gallery):
    Gallery.open(gallery.folder).with_calibration({"format": 1})
    assert gallery.remove(pid=1).about["calibration"] == {"format": 1}


def test_a_removal_that_was_killed_is_finished_by_the_next_one(gallery, monkeypatch):
    gone = gallery.descriptors[1].numpy().tobytes()
    with monkeypatch.context() as patched:
        patched.setattr(versions, "sweep", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            gallery.remove(pid=1)
    assert on_disk(gallery.folder, gone)
    with pytest.raises(GalleryError, match=r"nobody in .* has pid '1'"):
        Gallery.open(gallery.folder).remove(pid=1)
    assert not on_disk(gallery.folder, gone)


def test_an_old_version_that_cannot_be_deleted_is_told(gallery, monkeypatch):
    (gallery.folder / "index-000001").mkdir()

    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", denied)
    with pytest.raises(
        StorageError, match=r"index-000001 belongs to an older version .*: Permission denied. Delete it"
    ):
        gallery.remove(pid=1)
    assert len(Gallery.open(gallery.folder)) == 6


def test_versions_beyond_a_million_are_swept(gallery):
    versions.write_switch(gallery.folder, gallery.about | {"version": 999_999})
    last = Gallery.open(gallery.folder).remove(pid=1).remove(pid=2)
    assert contents(last) == {"gallery.json", "table-1000001.parquet", "features-1000001.safetensors"}


def test_a_path_of_the_table_means_that_image_alone(gallery, extractor, images, world, monkeypatch):
    world.write(images / "0001_c0.png", 50)
    grown, _ = update(gallery, extractor, find_crops(images))
    monkeypatch.chdir(images / "c0")  # where that name is another file's
    smaller = grown.remove(paths=["0001_c0.png"])
    assert set(grown.table["path"]) - set(smaller.table["path"]) == {"0001_c0.png"}
    assert "c0/0001_c0.png" not in smaller.remove(paths=["0001_c0.png"]).table["path"].tolist()


def test_no_pid_is_nobodys(extractor, images, tmp_path):
    unknown, _ = update(create_for(extractor, tmp_path / "g", images), extractor, find_crops(images))
    with pytest.raises(GalleryError, match=r"nobody in .* has pid ''"):
        unknown.remove(pid="")


def test_half_precision(extractor, images, tmp_path):
    made = create_for(extractor, tmp_path / "half", images, "float16")
    made, _ = update(made, extractor, find_crops(images))
    reopened = Gallery.open(made.folder)
    assert reopened.descriptors.dtype == torch.float16
    assert reopened.features().dtype == torch.float32
    exact = extractor.layout.select(extractor.features(find_crops(images)))
    assert (reopened.features() - exact).abs().max() < 1e-3
    with pytest.raises(NumericsError, match="do not fit into float16"):
        made.add([Crop(images / "x.png")], torch.full((1, 6, 24), 1e6), ["x"])


def test_mistakes(gallery, extractor, tmp_path, images):
    with pytest.raises(GalleryError, match="there is no gallery at"):
        Gallery.open(tmp_path / "none")
    with pytest.raises(GalleryError, match="not empty"):
        create_for(extractor, images, images)
    with pytest.raises(GalleryError, match=r"0000_c0.png is a file, and a gallery is a folder. Give a new folder"):
        create_for(extractor, images / "c0" / "0000_c0.png", images)
    with pytest.raises(ConfigError, match="dtype must be one of float32, float16; got 'int8'"):
        create_for(extractor, tmp_path / "new", images, "int8")
    switch = gallery.folder / "gallery.json"
    about = json.loads(switch.read_text())
    switch.write_text(json.dumps(about | {"format": 2}))
    with pytest.raises(GalleryError, match="newer than this version"):
        Gallery.open(gallery.folder)
    for key in about.keys() & {"layout", "root", "removed", "copies", "version", "table"}:
        switch.write_text(json.dumps({name: value for name, value in about.items() if name != key}))
        with pytest.raises(GalleryError, match=rf"is damaged: it has no {key}\. Extract again"):
            Gallery.open(gallery.folder)
    switch.write_text("{")
    with pytest.raises(GalleryError, match="cannot be read"):
        Gallery.open(gallery.folder)
    switch.write_text(json.dumps(about))
    features = gallery.folder / about["features"]
    features.write_bytes(features.read_bytes()[:-8])
    with pytest.raises(GalleryError, match="is damaged"):
        Gallery.open(gallery.folder)


def test_images_that_have_moved(gallery, extractor, images, tmp_path):
    images.rename(tmp_path / "moved")
    with pytest.raises(ImageError):
        gallery.image(0)
    moved = Gallery.open(gallery.folder, tmp_path / "moved")
    assert moved.image(0).shape == (64, 32, 3)
    _, changes = update(moved, extractor, find_crops(tmp_path / "moved", pattern=PATTERN))
    assert changes == Changes(unchanged=8)


def test_rules_of_a_search(gallery, extractor):
    index = gallery.indexed(FaissFlat())
    query = gallery.crop(1)  # person 1, camera 0
    features = gallery.features()[[1]]
    assert rank(gallery, index, features, 3).rows[0, 0] == 1
    strict = rank(gallery, index, features, 20, queries=[query], like_evaluation=True)
    assert sorted(strict.rows[0].tolist()) == [-1, 0, 2, 3, 4, 5, 6, 7]
    assert strict.rows[0, -1] == -1
    assert strict.distances[0, -1] == np.inf
    camera = rank(gallery, index, features, 8, camids=[1])
    assert sorted(camera.rows[0].tolist()) == [-1] * 4 + [4, 5, 6, 7]
    for mistake, message in (({"k": 0}, "k=0"), ({"camids": [7]}, "camera 7. Its cameras: 0, 1")):
        with pytest.raises(ConfigError, match=message):
            rank(gallery, index, features, **{"k": 3} | mistake)
    emptied = gallery.remove(paths=gallery.table["path"].tolist())
    assert len(Gallery.open(emptied.folder)) == 0
    with pytest.raises(ConfigError, match="is empty"):
        rank(emptied, index, features)


def test_a_part_alone_ranks_by_that_part(gallery):
    index = gallery.indexed(FaissFlat(), "part_3")
    tokens = torch.nn.functional.normalize(gallery.descriptors[:, 3])
    expected = torch.cdist(tokens.double(), tokens.double()).argsort(stable=True)
    found = rank(gallery, index, gallery.features("part_3"), 8)
    assert np.array_equal(found.rows, expected.numpy())
