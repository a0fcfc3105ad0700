"""Pictures of a checkpoint from the command line."""

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from aaformer_lit import viz
from aaformer_lit.checkpoints.load import build_network
from cli_tools import TINY_DATA, run_cli

KINDS = "[assignment,cut_off,layers,attention,rankings,alignment,cmc,roc,distances,embedding,curves,contact_sheet]"


def test_every_kind_is_drawn(trained, data_dir, tmp_path):
    code = run_cli(
        "visualize", f"ckpt={trained}/checkpoints/last.ckpt", f"kind={KINDS}", *TINY_DATA, f"paths.data={data_dir}",
        f"paths.runs={tmp_path}", "count=2", "trainer=cpu", "trainer.enable_progress_bar=false",
    )  # fmt: skip
    assert code == 0
    drawn = {path.stem: imread(path) for path in tmp_path.rglob("*.png")}
    assert set(drawn) == set(KINDS.strip("[]").split(","))
    for name, pixels in drawn.items():
        assert pixels[..., :3].std() > 0.03, f"{name} is blank"


def test_own_images_need_no_data_set(trained, data_dir, tmp_path):
    images = sorted(data_dir.rglob("query/*.jpg"))[:2]
    code = run_cli(
        "visualize", f"ckpt={trained}/checkpoints/last.ckpt", f"images=[{images[0]},{images[1]}]", "kind=assignment",
        "paths.data=/nonexistent", f"paths.runs={tmp_path}",
    )  # fmt: skip
    assert code == 0
    assert list(tmp_path.rglob("assignment.png"))


def test_curves_of_a_training_need_no_images(trained, tmp_path):
    checkpoint = f"ckpt={trained}/checkpoints/last.ckpt"
    assert run_cli("visualize", checkpoint, "kind=curves", "paths.data=/nonexistent", f"paths.runs={tmp_path}") == 0
    assert list(tmp_path.rglob("curves.png"))


def test_a_broken_image_is_named_without_an_option_that_is_not_used_here(trained, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image, whatever its name")
    code = run_cli("visualize", f"ckpt={trained}/checkpoints/last.ckpt", f"images={broken}", f"paths.runs={tmp_path}")
    error = " ".join(capsys.readouterr().err.split())
    assert code == 2
    assert f"{broken} is no image" in error
    assert "Replace or remove the file." in error
    assert "on_bad_image" not in error


def test_two_models_rank_for_the_same_queries(trained, data_dir, tmp_path, monkeypatch):
    """What is handed to the drawing: both models' own rankings, by name, over the same queries."""
    drawn = {}
    draw = viz.ranking_lists

    def spy(queries, gallery, rankings, **options):
        drawn.update(rankings)
        return draw(queries, gallery, rankings, **options)

    monkeypatch.setattr(viz, "ranking_lists", spy)
    baseline = tmp_path / "baseline.ckpt"
    checkpoint = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    model = checkpoint["aaformer_lit"]["model"]
    model |= {"_target_": "aaformer_lit.models.ViTBaseline"}
    for key in ("parts", "assigner", "similarity", "visibility", "part_pos_embed", "follow_body"):
        model.pop(key, None)
    torch.manual_seed(0)
    network = build_network(checkpoint["aaformer_lit"])
    checkpoint["state_dict"] = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save(checkpoint, baseline)
    options = (*TINY_DATA, f"paths.data={data_dir}", f"paths.runs={tmp_path}", "trainer=cpu", "answers=4")
    options += ("kind=rankings", "trainer.enable_progress_bar=false")
    ours = trained / "checkpoints" / "last.ckpt"
    assert run_cli("visualize", f"ckpt={ours}", f"other={baseline}", *options) == 0
    assert list(drawn) == ["AAformer [2, 3]", "ViTBaseline"]
    both = dict(drawn)
    assert list(tmp_path.rglob("rankings.png"))
    assert run_cli("visualize", f"ckpt={baseline}", f"other={ours}", *options) == 0
    for name, ranking in both.items():
        np.testing.assert_array_equal(ranking.gallery, drawn[name].gallery)
    one, two = both.values()
    assert not np.allclose(one.distances, two.distances)
    drawn.clear()
    assert run_cli("visualize", f"ckpt={ours}", f"other={trained}/checkpoints/../checkpoints/last.ckpt", *options) == 2


def test_a_network_that_reads_masks_is_drawn_where_the_data_have_them(trained, data_dir, tmp_path, capsys):
    checkpoint = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    model = checkpoint["aaformer_lit"]["model"]
    model |= {"parts": [6], "assigner": {"_target_": "aaformer_lit.assign.Parsing"}}
    network = build_network(checkpoint["aaformer_lit"])
    checkpoint["state_dict"] = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save(checkpoint, tmp_path / "spreid.ckpt")
    options = (*TINY_DATA, f"paths.data={data_dir}", f"paths.runs={tmp_path}", "count=2", "trainer=cpu")
    kinds = "kind=[assignment,cut_off,layers,attention]"
    assert run_cli("visualize", f"ckpt={tmp_path}/spreid.ckpt", kinds, *options) == 0
    assert {path.stem for path in tmp_path.rglob("*.png")} == {"assignment", "cut_off", "layers", "attention"}
    image = next(data_dir.rglob("query/*.jpg"))
    assert run_cli("visualize", f"ckpt={tmp_path}/spreid.ckpt", kinds, *options, f"images={image}") == 2
    assert "Take images of a data set that has masks" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["other=last.ckpt"], "ask for kind=rankings"),
        (["kind=alignment", "data.masks=null", "data.mask_parts=null"], "body-part masks (data.masks"),
        (["kind=[cmc,curves]", "ckpt=synthetic-small"], "kind=curves: there is no metrics.csv in"),
        (["kind=portrait"], "there is no picture kind=portrait"),
        (["images=/nonexistent.jpg"], "no image at /nonexistent.jpg"),
        (["kind=assignment", "layer=9"], "layer must be between -2 and 1"),
        (["kind=assignment", "head=-7"], "head=-7 must be between 0 and"),
        (["kind=attention", "layer=9"], "layer must be between -2 and 1"),
    ],
)
def test_mistakes(trained, data_dir, tmp_path, capsys, overrides, message):
    checkpoint = f"ckpt={trained}/checkpoints/last.ckpt"
    code = run_cli("visualize", checkpoint, *TINY_DATA, f"paths.data={data_dir}", f"paths.runs={tmp_path}", *overrides)
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
