"""Export from the command line: files that other programs run, kept only if they compute what the network does."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from aaformer_lit import load_model
from aaformer_lit.data.images import read_image
from aaformer_lit.data.preparation import resize
from aaformer_lit.deploy import SafetensorsFormat, export_checked
from aaformer_lit.deploy.compare import flipped_share, token_deviation
from aaformer_lit.errors import ExportError
from cli_tools import TINY_DATA, read_json, run_cli

CHECK = "check.images=16"
PAGE = (Path(__file__).parents[1] / "docs" / "export.md").read_text()
SNIPPETS = dict(re.findall(r'```\w+ title="([^"]+)"\n(.*?)```', PAGE, re.DOTALL))
needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")


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


@pytest.fixture(scope="module")
def images(data_dir, ckpt):
    return sorted(data_dir.rglob("query/*.jpg"))[:3]


@pytest.fixture(scope="module")
def uint8(ckpt, folder, images):
    own = f"check.own_images=[{','.join(map(str, images))}]"
    output = folder / "uint8.onnx"
    code = run_cli(
        "export", f"ckpt={ckpt}", "format.preprocess=true", CHECK, own, f"output={output}", f"paths.runs={folder}"
    )
    assert code == 0
    return output


def test_onnx_with_the_preprocessing_inside(uint8, ckpt, images):
    report = read_json(uint8.with_name("uint8.onnx.report.json"))
    assert report["preprocessing"] == {"largest_difference_in_gray_levels": 0, "share_of_pixels_that_differ": 0}
    assert report["kinds"]["own images"]["images"] == 3

    session = onnxruntime.InferenceSession(uint8, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", "rows", "columns", 3]
    network = load_model(ckpt)
    for path in images:
        pixels = read_image(path)
        loaded = torch.from_numpy(resize(pixels, network.image_size)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            wanted = network.embed((loaded - 0.5) / 0.5)
        found = torch.from_numpy(session.run(["features"], {"images": pixels[None]})[0])
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_the_python_of_the_page(uint8, ckpt, images, tmp_path, monkeypatch):
    for name, image in zip(("person.jpg", "other.jpg"), images, strict=False):
        shutil.copy(image, tmp_path / name)
    shutil.copy(uint8, tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(SNIPPETS["describe.py"], names)
    a, b = load_model(ckpt).embed_images(images[:2])
    assert names["distance"] == pytest.approx(float((a - b).norm()), abs=1e-4)
    assert names["same"] is None


@needs_compiler
def test_the_cpp_of_the_page_decides(tmp_path):
    (tmp_path / "descriptors.hpp").write_text(SNIPPETS["descriptors.hpp"])
    (tmp_path / "main.cpp").write_text(
        """#include <iostream>
        #include "descriptors.hpp"
        int main() {
          std::cout << numbers("0.485 0.456 0.5")[2] << ' ' << distance({3, 0, 1}, {0, 4, 1}) << ' '
                    << (decide(0.75, "0.75") == Verdict::same) << (decide(0.76, "0.75") == Verdict::different)
                    << (decide(0, "") == Verdict::unknown);
        }"""
    )
    assert compile_and_run(tmp_path, "main.cpp") == "0.5 5 111"


@needs_compiler
@pytest.mark.skipif("ONNXRUNTIME_INCLUDE" not in os.environ, reason="ONNXRUNTIME_INCLUDE names no headers")
def test_the_cpp_of_the_page_describes(uint8, ckpt, images, tmp_path):
    for name in ("descriptors.hpp", "describe.cpp"):
        (tmp_path / name).write_text(SNIPPETS[name])
    pixels = read_image(images[0])
    library = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))
    (tmp_path / "libonnxruntime.so.1").symlink_to(library)
    options = [f"-I{os.environ['ONNXRUNTIME_INCLUDE']}", str(library), f"-Wl,-rpath,{library.parent}:{tmp_path}"]
    arguments = [str(uint8), *map(str, pixels.shape[:2])]
    first, *features = compile_and_run(tmp_path, "describe.cpp", options, arguments, pixels.tobytes()).splitlines()
    assert first == "threshold:"
    wanted = load_model(ckpt).embed_images(images[0])[0]
    torch.testing.assert_close(torch.tensor(list(map(float, features))), wanted, atol=1e-4, rtol=0)


def compile_and_run(folder, source, options=(), arguments=(), given=b""):
    command = ["c++", "-std=c++17", "-Wall", "-Werror", source, *options, "-o", "program"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    ran = subprocess.run([folder / "program", *arguments], input=given, capture_output=True, check=True, timeout=60)
    return ran.stdout.decode()


def test_int8_is_calibrated_with_training_images_and_judged_on_the_test(ckpt, folder):
    """On the people of the network's own training, whom after one epoch it hardly tells apart."""
    output = folder / "int8.onnx"
    options = ["format.dtype=int8", "check.min_top_k=0.5", "check.max_mAP_change=0.2", CHECK]
    assert run_cli("export", f"ckpt={ckpt}", *options, f"output={output}", f"paths.runs={folder}") == 0
    report = read_json(folder / "int8.onnx.report.json")
    assert report["calibration_images"] >= 16
    agreement = report["agreement"]["test images"]
    assert agreement["queries"] + agreement["gallery"] == report["kinds"]["test images"]["images"] == 16
    assert abs(agreement["file_mAP"] - agreement["network_mAP"]) <= 0.2
    assert 0.5 <= agreement["top_k"] <= 1
    assert report["bounds"]["tolerance"] == 0.2
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["dtype"] == "int8"


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
    output, run = folder / "hub", ckpt.parent.parent  # a run stands for its last checkpoint, on the model card too
    assert (
        run_cli("export", f"ckpt={run}", "format=safetensors", CHECK, f"output={output}", f"paths.runs={folder}") == 0
    )
    assert {path.name for path in output.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        assert torch.equal(load_model(output).embed(images), load_model(ckpt).embed(images))
    map_in_percent = f"{100 * read_json(run / 'metrics.json')['test/mAP']:.1f}"
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
        def write(self, deployed, about, path, *samples):
            state = {
                k: v.half().float() if v.is_floating_point() else v for k, v in deployed.network.state_dict().items()
            }
            before = {k: v.clone() for k, v in deployed.network.state_dict().items()}
            deployed.network.load_state_dict(state)
            super().write(deployed, about, path, *samples)
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
        (["format.dtype=fp8"], "format.dtype=fp8 must be one of fp32, fp16, int8"),
        (["format.preprocess=yolo"], "format.preprocess=yolo must be one of boxmot or true or false"),
        (["format.dtype=int8", "data=synthetic", "check.calibration_images=3", *TINY_DATA], "16 images or more"),
        (["format=tensorrt"], "there is no format=tensorrt."),
    ],
)
def test_mistakes(ckpt, tmp_path, capsys, overrides, message):
    assert run_cli("export", f"ckpt={ckpt}", f"paths.runs={tmp_path}", f"output={tmp_path}/out", *overrides) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
