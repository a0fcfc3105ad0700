"""Export from the command line: files that other programs run, kept only if they compute what the network does."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from aaformer_lit import load_model
from aaformer_lit.data.images import read_image
from aaformer_lit.data.transforms import resize
from aaformer_lit.deploy import SafetensorsFormat, export_checked
from aaformer_lit.deploy.compare import flipped_share, token_deviation
from aaformer_lit.errors import ExportError
from cli_tools import read_json, run_cli

CHECK = "check.images=16"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def ckpt(trained):
    return trained / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def onnx(ckpt, folder):
    assert (
        run_cli("export", f"ckpt={ckpt}", f"output={folder}/model.onnx", "check.images=256", f"paths.runs={folder}")
        == 0
    )
    return folder / "model.onnx"


def test_onnx_against_torch_on_256_images(onnx, ckpt):
    """With code of its own, and images that the export did not see."""
    network = load_model(ckpt)
    images = torch.rand(256, 3, 64, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    found = [torch.from_numpy(x) for x in session.run(["features", "assignments"], {"images": images.numpy()})]
    with torch.no_grad():
        wanted = network.embed(images), torch.stack(network.assignments(images))
    flipped = flipped_share(found[1], wanted[1], network.parts)
    assert flipped.mean() < 1e-3
    deviation = token_deviation(found[0], wanted[0], network.num_tokens)
    assert deviation[flipped == 0].max() < 1e-4
    assert (found[0] - wanted[0])[flipped == 0].abs().max() < 1e-4


def test_onnx_takes_any_batch_and_says_what_it_is(onnx):
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, 64, 32]
    assert [output.shape[:2] for output in session.get_outputs()] == [["batch", 144], [2, "batch"]]
    images = np.random.default_rng(0).standard_normal((9, 3, 64, 32), np.float32)
    together = session.run(["features"], {"images": images})[0]
    alone = np.concatenate([session.run(["features"], {"images": image[None]})[0] for image in images])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    about = json.loads(session.get_modelmeta().custom_metadata_map["aaformer_lit"])
    assert about["data"]["image_size"] == [64, 32]
    assert about["model"]["parts"] == [2, 3]


def test_the_report_beside_it(onnx):
    report = read_json(onnx.with_name("model.onnx.report.json"))
    assert report["all"]["images"] == 256
    assert set(report["kinds"]) == {"black", "white", "constant", "saturated", "noise", "people"}
    for summary in (report["all"], *report["kinds"].values()):
        assert 0 <= summary["deviation_at_equal_assignments"]["cls"] <= 1e-4
        assert 0 <= summary["deviation_at_equal_assignments"]["parts"] <= 1e-4
    assert report["all"]["flipped_assignments"] <= 1e-3
    assert report["rank_lists"]["queries"] == 64
    assert report["rank_lists"]["same_first"] > 0.9


def test_onnx_with_the_preprocessing_inside(ckpt, folder, data_dir):
    images = sorted(data_dir.rglob("query/*.jpg"))[:3]
    own = f"check.own_images=[{','.join(map(str, images))}]"
    output = folder / "uint8.onnx"
    code = run_cli(
        "export", f"ckpt={ckpt}", "format.preprocess=true", CHECK, own, f"output={output}", f"paths.runs={folder}"
    )
    assert code == 0
    report = read_json(folder / "uint8.onnx.report.json")
    assert report["preprocessing"] == {"largest_difference_in_gray_levels": 0, "share_of_pixels_that_differ": 0}
    assert report["kinds"]["own images"]["images"] == 3

    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", "rows", "columns", 3]
    network = load_model(ckpt)
    for path in images:
        pixels = read_image(path)
        loaded = torch.from_numpy(resize(pixels, network.image_size)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            wanted = network.embed((loaded - 0.5) / 0.5)
        found = torch.from_numpy(session.run(["features"], {"images": pixels[None]})[0])
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_torch_export(ckpt, folder):
    output = folder / "model.pt2"
    assert (
        run_cli("export", f"ckpt={ckpt}", "format=torch_export", CHECK, f"output={output}", f"paths.runs={folder}") == 0
    )
    images = torch.randn(5, 3, 64, 32)
    with torch.no_grad():
        features, _ = torch.export.load(output).module()(images)
        torch.testing.assert_close(features, load_model(ckpt).embed(images), atol=1e-5, rtol=0)


def test_a_folder_for_the_hub(ckpt, folder):
    output = folder / "hub"
    assert (
        run_cli("export", f"ckpt={ckpt}", "format=safetensors", CHECK, f"output={output}", f"paths.runs={folder}") == 0
    )
    assert {path.name for path in output.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        assert torch.equal(load_model(output).embed(images), load_model(ckpt).embed(images))
    map_in_percent = f"{100 * read_json(ckpt.parent.parent / 'metrics.json')['test/mAP']:.1f}"
    assert f"| CLS and parts | {map_in_percent} |" in (output / "README.md").read_text()
    # and again, into the folder that is there, from the folder itself
    (output / ".gitattributes").touch()
    assert (
        run_cli("export", f"ckpt={output}", "format=safetensors", CHECK, f"output={output}", f"paths.runs={folder}")
        == 0
    )
    assert (output / ".gitattributes").exists()
    assert "Unknown" in (output / "README.md").read_text()


def test_half_the_size_with_rounded_weights(ckpt, folder):
    output = folder / "half"
    wanted = ["format=safetensors", "format.half=true", CHECK, f"output={output}", f"paths.runs={folder}"]
    assert run_cli("export", f"ckpt={ckpt}", *wanted) == 0
    ours, kept = load_model(ckpt), load_model(output)
    for name, tensor in ours.state_dict().items():
        rounded = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(kept.state_dict()[name], rounded), name
    whole = sum(t.numel() * t.element_size() for t in ours.state_dict().values())
    assert (output / "model.safetensors").stat().st_size < 0.6 * whole + 20_000  # names and shapes


def test_what_differs_is_not_kept(ckpt, tmp_path):
    class Lossy(SafetensorsFormat):
        def write(self, deployed, about, path):
            state = {
                k: v.half().float() if v.is_floating_point() else v for k, v in deployed.network.state_dict().items()
            }
            before = {k: v.clone() for k, v in deployed.network.state_dict().items()}
            deployed.network.load_state_dict(state)
            super().write(deployed, about, path)
            deployed.network.load_state_dict(before)

    target = tmp_path / "new" / "model"
    with pytest.raises(ExportError, match=r"does not compute what .*last\.ckpt does: at equal assignments .* not kept"):
        export_checked(ckpt, Lossy(), target, images=16)
    assert not any((tmp_path / "new").iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["format=onnx", "format.opset=11"], "format.opset must be 18 to 23"),
        (["format=safetensors", "check.images=3"], "8 images or more"),
        (["format=safetensors", "check.own_images=/nonexistent"], "no image at /nonexistent"),
        (["format=tensorrt"], "there is no format=tensorrt."),
    ],
)
def test_mistakes(ckpt, tmp_path, capsys, overrides, message):
    assert run_cli("export", f"ckpt={ckpt}", f"paths.runs={tmp_path}", f"output={tmp_path}/out", *overrides) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
