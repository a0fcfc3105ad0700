"""A new network from a whole one: what fits is taken, what does not starts anew, and both are said."""

import json

import pytest
import torch
from safetensors.torch import save_file

import weight_nets as nets
from aaformer_lit import load_model
from aaformer_lit.assign import Placed
from aaformer_lit.checkpoints.init_from import find, init_from
from aaformer_lit.checkpoints.load import describe, description
from aaformer_lit.errors import CheckpointError
from aaformer_lit.models import AAformer, PooledViT, ViTBaseline, build_backbone
from aaformer_lit.models.weights import load_network_weights
from aaformer_lit.models.weights.file import open_file
from aaformer_lit.models.weights.network import part_recipes
from cli_tools import TINY, TINY_DATA, only, read_json, run_cli
from weight_cases import jpm_shapes, pass_shapes

SHAPE = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


def backbone(size=(64, 32)):
    return build_backbone("vit_tiny_patch16_224", size, drop_path=0.0, **SHAPE)


def randomize(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.1)
    return network


def saved(network, path, **model):
    """The network as a training checkpoint."""
    config = {"_target_": f"aaformer_lit.models.{type(network).__name__}"} | model
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "aaformer_lit": describe(config, network.num_classes, {})}, path)
    return path


def test_the_same_network_is_taken_whole(tmp_path):
    source = randomize(AAformer(backbone(), [2, 3], num_classes=5))
    made = AAformer(backbone(), [2, 3], num_classes=5)
    report = init_from(made, saved(source, tmp_path / "a.ckpt", parts=[2, 3]))
    for name, value in source.state_dict().items():
        assert torch.equal(made.state_dict()[name], value), name
    assert (report.new, report.dropped, report.resampled) == ([], {}, {})


def test_other_people_get_new_classifiers_and_the_rest_is_taken(tmp_path):
    source = randomize(AAformer(backbone(), [2, 3], num_classes=5))
    made = AAformer(backbone(), [2, 3], num_classes=7)
    before = made.heads.classifier.detach().clone()
    report = init_from(made, saved(source, tmp_path / "a.ckpt", parts=[2, 3]))
    assert torch.equal(made.heads.classifier, before)
    assert torch.equal(made.heads.neck.running_var, source.heads.neck.running_var)
    assert torch.equal(made.part_tokens, source.part_tokens)
    assert report.new == ["classifiers of 7 people (the file has classifiers of 5 people)"]


def test_other_granularities_start_from_what_fits(tmp_path):
    source = randomize(AAformer(backbone(), [3], num_classes=5))
    made = AAformer(backbone(), [2, 3, 5], num_classes=5)
    report = init_from(made, saved(source, tmp_path / "a.ckpt", parts=[3]))
    one, two, three = source.part_tokens[0].detach()
    expected = [one, three, one, two, three, one, (one + two) / 2, two, (two + three) / 2, three]
    torch.testing.assert_close(made.part_tokens[0].detach(), torch.stack(expected))
    necks, theirs = made.heads.neck.running_mean.view(11, 24), source.heads.neck.running_mean.view(4, 24)
    for token, origin in {0: 0, 1: 1, 2: 3, 3: 1, 4: 2, 5: 3, 6: 1, 8: 2, 10: 3}.items():
        assert torch.equal(necks[token], theirs[origin])
        assert torch.equal(made.heads.classifier[token], source.heads.classifier[origin])
    assert not necks[[7, 9]].any(), "between two tokens: as made"
    assert report.new == ["necks of 2 part features"]
    assert report.resampled["part_tokens"] == "[3] to [2, 3, 5]"


def test_heads_of_cls_and_the_mean_of_the_parts(tmp_path):
    source = randomize(AAformer(backbone(), [2, 3], num_classes=5, descriptor="cls_mean"))
    path = saved(source, tmp_path / "a.ckpt", parts=[2, 3], descriptor="cls_mean")
    same = AAformer(backbone(), [2, 3], num_classes=5, descriptor="cls_mean")
    assert init_from(same, path).new == []
    for name, value in source.state_dict().items():
        assert torch.equal(same.state_dict()[name], value), name
    other = AAformer(backbone(), [2, 3], num_classes=5)
    report = init_from(other, path)
    necks = "necks of 5 part features"
    kind = "classifiers of 5 people (the file has classifiers of 5 people for another descriptor)"
    assert report.new == [necks, kind]
    assert torch.equal(other.heads.neck.running_var[:24], source.heads.neck.running_var[:24])


def following(size=(64, 32)):
    placed = Placed(0.3, rounding="soft")
    return AAformer(backbone(size), [2, 3], placed, num_classes=5, visibility="isolated", follow_body=1)


def test_heights_on_the_body_are_taken_for_as_many_rows(tmp_path):
    source = randomize(following())
    path = saved(source, tmp_path / "a.ckpt", parts=[2, 3])
    made, taller, plain = following(), following((128, 32)), AAformer(backbone(), [2, 3], num_classes=5)
    assert init_from(made, path).new == []
    assert torch.equal(made.heights.edges.weight, source.heights.edges.weight)
    report = init_from(taller, path, source_grid=[8, 4])
    assert report.new == ["heights on the body"]
    assert report.dropped["network.heights.edges.weight"] == "not for as many rows of patches as here"
    assert not taller.heights.edges.weight.any()
    assert init_from(plain, path).dropped["network.heights.edges.bias"] == "AAformer here has nothing for it"
    missing = init_from(following(), saved(randomize(plain), tmp_path / "b.ckpt", parts=[2, 3]))
    assert missing.new == ["heights on the body"]


def test_recipes_by_hand():
    assert part_recipes([3], [2]) == [[(0, 1.0)], [(2, 1.0)]]
    assert part_recipes([2, 3], [3, 2]) == [[(2, 1.0)], [(3, 1.0)], [(4, 1.0)], [(0, 1.0)], [(1, 1.0)]]
    assert part_recipes([3], [1]) == [[(1, 1.0)]]
    assert part_recipes([2, 2], [2, 2]) == [[(0, 1.0)], [(1, 1.0)], [(2, 1.0)], [(3, 1.0)]]
    assert part_recipes([], [2]) == part_recipes([1], [2]) == [[], []]  # two copies of one token would stay one


@pytest.mark.parametrize("positions", [True, False])
def test_the_three_tokens_of_pass_start_a_pair_and_three(tmp_path, positions):
    state = nets.draw(pass_shapes(8))
    torch.save(state, tmp_path / "pass.pth")
    small = {"embed_dim": nets.DIM, "num_heads": nets.HEADS, "depth": nets.DEPTH}
    made = AAformer(build_backbone("vit_tiny_patch16_224", (64, 32), **small), [2, 3], part_pos_embed=positions)
    report = init_from(made, tmp_path / "pass.pth")
    tokens = [state[f"part_token{n}"] + (0 if positions else state[f"part{n}_pos"]) for n in (1, 3, 1, 2, 3)]
    torch.testing.assert_close(made.part_tokens.detach(), torch.cat(tokens, dim=1))
    if positions:
        places = [state[f"part{n}_pos"] for n in (1, 3, 1, 2, 3)]
        torch.testing.assert_close(made.part_pos_embed.detach(), torch.cat(places, dim=1))
    assert report.layout == "PASS"
    assert report.new == ["necks"]


def test_another_image_size_is_resampled(tmp_path):
    source = randomize(ViTBaseline(backbone((64, 32)), num_classes=5))
    made = ViTBaseline(backbone((64, 64)), num_classes=5)
    config = {"name": "vit_tiny_patch16_224", "image_size": [64, 32], "stride": None}
    report = init_from(made, saved(source, tmp_path / "a.ckpt", backbone=config))
    assert report.resampled == {"pos_embed": "8x4 to 8x8"}


def test_a_baseline_gives_no_parts_and_parts_have_no_place_in_it(tmp_path, caplog):
    plain, parts = ViTBaseline(backbone(), num_classes=5), AAformer(backbone(), [2], num_classes=5)
    report = init_from(parts, saved(randomize(plain), tmp_path / "plain.ckpt"))
    assert report.new == ["part tokens (2)", "necks of 2 part features"]
    report = init_from(plain, saved(randomize(parts), tmp_path / "parts.ckpt", parts=[2]))
    assert "network.part_tokens" in report.dropped
    assert "part_tokens of the file is left out" in caplog.text


def test_pooled_parts_are_no_part_tokens(tmp_path):
    pooled = randomize(PooledViT(backbone(), [2], num_classes=5))
    made = AAformer(backbone(), [2], num_classes=5)
    report = init_from(made, saved(pooled, tmp_path / "pooled.ckpt", parts=[2]))
    assert report.new == ["part tokens (2)", "necks of 2 part features"]
    assert torch.equal(made.heads.neck.running_mean[:24], pooled.heads.neck.running_mean[:24])


@pytest.mark.parametrize("change", ["removed", "renamed"])
def test_no_tensor_of_ours_is_lost_in_silence(tmp_path, caplog, change):
    source = randomize(AAformer(backbone(), [2], num_classes=5, part_pos_embed=True))
    path = saved(source, tmp_path / "a.ckpt", parts=[2])
    content = torch.load(path, weights_only=True)
    for name in list(content["state_dict"]):
        changed = {k: v for k, v in content["state_dict"].items() if k != name}
        if change == "renamed":
            changed[f"{name}_x"] = content["state_dict"][name]
        torch.save(content | {"state_dict": changed}, path)
        made = AAformer(backbone(), [2], num_classes=5, part_pos_embed=True)
        caplog.clear()
        try:
            report = init_from(made, path)
        except CheckpointError:
            continue
        said = " ".join((*caplog.messages, *report.new))
        short = name.removeprefix("network.")
        assert short in said or (short == "part_tokens" and "part tokens" in said) or "classifiers" in said, name


def test_runs_folders_and_files_are_found(trained, tmp_path):
    checkpoint = trained / "checkpoints" / "last.ckpt"
    network = load_model(checkpoint)
    folder = tmp_path / "exported"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"aaformer_lit": description(checkpoint)}))
    for source in (checkpoint, trained, folder):
        made = AAformer(backbone(), [2, 3], num_classes=network.num_classes)
        torch.nn.init.zeros_(made.part_tokens)
        shape = {name: value.shape for name, value in network.backbone.state_dict().items()}
        if shape == {name: value.shape for name, value in made.backbone.state_dict().items()}:
            load_network_weights(made, find(source))
            assert torch.equal(made.part_tokens, network.part_tokens), source
        else:
            assert open_file(checkpoint).about["num_classes"] == network.num_classes
    with pytest.raises(CheckpointError, match="no run"):
        find(tmp_path)


def test_train_from_a_run_on_other_people(trained, data_dir, tmp_path):
    common = [*TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}", "pictures=[]"]
    people = ("data.spec.num_train_ids=6", "data.spec.seed=5", "trainer.limit_train_batches=1")
    assert run_cli("train", *common, *people, f"init_from={trained}") == 0
    run = only(tmp_path.rglob("metadata.json")).parent
    weights = read_json(run / "metadata.json")["weights"]
    assert weights["layout"] == "aaformer_lit"
    assert weights["new"] == ["classifiers of 6 people (the file has classifiers of 8 people)"]
    assert {"backbone.cls_token", "part_tokens"} <= {*weights["taken"], *weights["mapped"]}
    assert len(weights["sha256"]) == 64
    load_model(run / "checkpoints" / "last.ckpt")


THEIRS = (
    "model=transreid", "model.shift=4", "model.neck_feature=before", "model/backbone=vit_tiny",
    f"+model.backbone.embed_dim={nets.DIM}", f"+model.backbone.depth={nets.DEPTH}",
    f"+model.backbone.num_heads={nets.HEADS}", "data.image_size=[64,32]",
)  # fmt: skip


def test_a_published_network_is_exported_and_tested_without_training(data_dir, tmp_path):
    """A fine-tuned TransReID's file becomes a folder, whose metrics are those of a training of no epochs from the file."""
    state = nets.draw(jpm_shapes(8))
    torch.save(state, tmp_path / "theirs.pth")
    file, folder, runs = f"init_from={tmp_path / 'theirs.pth'}", tmp_path / "folder", f"paths.runs={tmp_path}"
    wanted = ("format=safetensors", "check.images=8", f"output={folder}")
    assert run_cli("export", file, *THEIRS, *wanted, runs) == 0
    images = torch.rand(3, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = torch.nn.functional.normalize(nets.transreid_jpm(state, images), dim=1)
        torch.testing.assert_close(load_model(folder).embed(images), expected, atol=1e-5, rtol=1e-5)
    card = (folder / "README.md").read_text()
    assert "the weights of theirs.pth (TransReID, sha256" in card
    assert "which others trained" in card
    data = (*TINY_DATA, f"paths.data={data_dir}", "trainer=cpu", "trainer.enable_progress_bar=false")
    assert run_cli("evaluate", f"ckpt={folder}", "data=synthetic", *data, f"paths.runs={tmp_path / 'a'}") == 0
    untrained = ("trainer.max_epochs=0", "callbacks.progress=null", f"paths.runs={tmp_path / 'b'}")
    assert run_cli("train", file, *THEIRS, *data, *untrained) == 0
    tested, trained = (read_json(only((tmp_path / name).rglob("metrics.json"))) for name in "ab")
    assert tested == pytest.approx(trained, abs=1e-6)
    assert 0 < tested["test/mAP"] < 1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([], "say what to export: ckpt="),
        (["ckpt=synthetic-small", "init_from=FILE"], "say what to export: ckpt="),
        (["init_from=FILE"], "as in init_from=FILE model=transreid"),
        (["init_from=FILE", *(o.replace("before", "after") for o in THEIRS)], "it has nothing for heads.neck.weight"),
    ],
)
def test_only_a_whole_network_is_exported(tmp_path, capsys, overrides, says):
    state = nets.draw({name: shape for name, shape in jpm_shapes(8).items() if not name.startswith("bottleneck")})
    torch.save(state, tmp_path / "theirs.pth")
    given = [option.replace("FILE", str(tmp_path / "theirs.pth")) for option in overrides]
    assert run_cli("export", *given, f"output={tmp_path / 'x.onnx'}", f"paths.runs={tmp_path}") == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "x.onnx").exists()


def test_a_checkpoint_of_ours_is_read_as_such(tmp_path):
    """Damage that torch reads past, and a newer format, are refused here as everywhere."""
    path = saved(ViTBaseline(backbone(), num_classes=5), tmp_path / "a.ckpt")
    content = torch.load(path, weights_only=True)
    content["aaformer_lit"]["format"] = 99
    torch.save(content, tmp_path / "newer.ckpt")
    with pytest.raises(CheckpointError, match="newer than this version"):
        find(tmp_path / "newer.ckpt")
    broken = bytearray(path.read_bytes())
    at = broken.index(content["state_dict"]["network.backbone.pos_embed"].numpy().tobytes())
    broken[at + 5] ^= 1
    path.write_bytes(broken)
    with pytest.raises(CheckpointError, match="damaged"):
        find(path)
    # a word of ours in another project's file makes it no checkpoint of ours
    torch.save({"model": nets.draw(nets.vit_shapes(9)), "output": "runs/aaformer_lit/x"}, tmp_path / "theirs.pth")
    assert not find(tmp_path / "theirs.pth").about


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["init_from=RUN", "part_start=cls"], "brings part tokens, which part_start=cls would replace"),
        (["init_from=RUN", "model.backbone.weights=F.pth"], "Give one of them"),
        (["init_from=absent.pth"], "no weights at absent.pth"),
    ],
)
def test_mistakes_are_one_message(trained, data_dir, tmp_path, capsys, overrides, says):
    overrides = [option.replace("RUN", str(trained)) for option in overrides]
    assert run_cli("train", *TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}", *overrides) == 2
    assert says in " ".join(capsys.readouterr().err.split())
