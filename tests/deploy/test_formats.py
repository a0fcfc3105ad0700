"""Files with fewer bits, and files for other programs: what changes in them, what stays, and what they compute."""

import shutil

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from aaformer_lit.deploy import BoxmotCrops, Deployed, OnnxFormat, OpenVinoFormat, SafetensorsFormat, TorchExportFormat
from aaformer_lit.deploy.export_checked import export_network
from aaformer_lit.deploy.narrow import linear_layers, to_float16, to_int8
from aaformer_lit.errors import ConfigError, ExportError
from aaformer_lit.models import AAformer, build_backbone

SIZE = (32, 16)
ABOUT = {
    "data": {"image_size": SIZE, "mean": [0.5] * 3, "std": [0.5] * 3},
    "calibration": {"thresholds": {"accept": {"distance": 0.75}}, "flip_test": False},
}


@pytest.fixture(scope="module")
def deployed():
    torch.manual_seed(0)
    backbone = build_backbone("vit_tiny_patch16_224", SIZE, embed_dim=24, depth=2, num_heads=3, patch_size=8)
    network = AAformer(backbone, num_classes=3).eval()
    return OnnxFormat(preprocess="boxmot").deployed(network, ABOUT["data"])


@pytest.fixture(scope="module")
def path(deployed, tmp_path_factory):
    path = tmp_path_factory.mktemp("formats") / "boxmot.onnx"
    OnnxFormat(preprocess="boxmot").write(deployed, ABOUT, path)
    return path


@pytest.fixture(scope="module")
def crops():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 8, 3), np.uint8)  # coarse, so that resizing keeps some
    return [cv2.resize(image, (128, 256), interpolation=cv2.INTER_LINEAR) for image in pixels]


def described(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["features"], {"images": images})[0])


def as_boxmot(crops):
    """By its documentation: RGB in [0, 1], minus ImageNet's mean, by its standard deviation."""
    scaled = np.stack(crops).astype(np.float32) / 255
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return np.ascontiguousarray(((scaled - mean) / std).transpose(0, 3, 1, 2))


def by_loader(deployed, crops):
    with torch.no_grad():
        return deployed.network.embed(deployed.preprocess.loader.batch(crops))


def test_crops_of_boxmot_are_described_as_the_loader_prepares_them(deployed, path, crops):
    wanted = by_loader(deployed, crops)
    torch.testing.assert_close(described(path, as_boxmot(crops)), wanted, atol=1e-4, rtol=0)
    assert torch.pdist(wanted).min() > 1e-2  # no comparison of constants
    same_size = BoxmotCrops((256, 128), [0.5] * 3, [0.5] * 3)
    inputs = torch.from_numpy(as_boxmot(crops))
    torch.testing.assert_close(same_size(inputs), torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2) / 127.5 - 1)
    assert torch.equal(same_size.gray_levels(inputs), torch.from_numpy(np.stack(crops)))


def test_boxmots_own_backend_gives_the_same(deployed, path, crops):
    pytest.importorskip("boxmot", reason="boxmot is not installed")
    backend = pytest.importorskip("boxmot.reid.backends.onnx_backend").ONNXBackend(path, torch.device("cpu"), False)
    frame = np.concatenate(crops[:3], axis=1)[..., ::-1]  # BGR, three people side by side
    boxes = np.float32([[128 * i, 0, 128 * (i + 1), 256] for i in range(3)])
    found = torch.from_numpy(backend.get_features(boxes, np.ascontiguousarray(frame)))
    torch.testing.assert_close(found, by_loader(deployed, crops[:3]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_linear_layers_alone_have_fewer_bits(deployed, path, crops, tmp_path, dtype):
    narrow = tmp_path / "narrow.onnx"
    shutil.copy(path, narrow)
    inputs = as_boxmot(crops)
    to_float16(narrow) if dtype == "fp16" else to_int8(narrow, torch.from_numpy(inputs))
    before, after = onnx.load(path), onnx.load(narrow)
    wide = linear_layers(before.graph)
    assert len(wide) == 8  # attention and MLP of two blocks, two each
    if dtype == "fp16":
        half = {tensor.name for tensor in after.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
        assert {node.name for node in after.graph.node if half & set(node.input)} == set(wide)
    else:
        weights = [tensor for tensor in after.graph.initializer if len(tensor.dims) == 2 and min(tensor.dims) >= 24]
        arrays = [onnx.numpy_helper.to_array(tensor) for tensor in weights]
        assert [array.dtype for array in arrays] == [np.int8] * 8
        assert 60 <= max(np.abs(array).max() for array in arrays) <= 64  # of 127: seven bits
        assert (
            min(np.abs(array).max(axis=0).min() for array in arrays) >= 60
        )  # each output channel has a scale of its own
        ranges = {n.input[0] for n in after.graph.node if n.op_type == "QuantizeLinear"}
        assert ranges == {n.input[0] for n in before.graph.node if n.name in wide}
    found, wanted = described(narrow, inputs), described(path, inputs)
    assert 1e-6 < (found - wanted).norm(dim=1).median() < (0.02 if dtype == "fp16" else 0.2)
    told = onnxruntime.InferenceSession(narrow).get_modelmeta().custom_metadata_map
    assert told["color"] == "RGB"


def test_what_a_program_must_know_is_in_the_file(path):
    told = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert '"distance": 0.75' in told.pop("aaformer_lit")
    assert told == {
        "color": "RGB",
        "input": "float32 NCHW, normalized",
        "image_size": "256 128",
        "mean": "0.485 0.456 0.406",
        "std": "0.229 0.224 0.225",
        "descriptor": "length 1",
        "distance": "euclidean",
        "threshold": "0.75",
        "dtype": "fp32",
    }


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_openvino(deployed, crops, tmp_path, dtype):
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    if dtype == "int8":
        pytest.importorskip("nncf", reason="nncf is not installed")
    form = OpenVinoFormat(dtype=dtype)
    plain = Deployed(deployed.network)
    inputs = deployed.preprocess.loader.batch(crops)
    form.write(plain, ABOUT, tmp_path / "model.xml", inputs)
    assert {file.name for file in tmp_path.iterdir()} == {"model.xml", "model.bin"}
    wanted, found = plain.outputs(inputs), form.read(tmp_path / "model.xml")(inputs)
    assert found.assignments.shape == wanted.assignments.shape
    assert (found.features - wanted.features).norm(dim=1).median() < (0.02 if dtype == "fp16" else 0.2)
    about = openvino.Core().read_model(tmp_path / "model.xml").get_rt_info(["aaformer_lit", "threshold"])
    assert about.astype(str) == "0.75"


def test_a_target_of_the_wrong_kind_is_told_before_the_work(deployed, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.xml").mkdir()
    with pytest.raises(ExportError, match=r"writes NAME\.xml"):
        OpenVinoFormat().check_target(tmp_path / "model")
    for form in (OnnxFormat(), OpenVinoFormat(), TorchExportFormat()):
        with pytest.raises(ExportError, match=r"folder.xml is a folder, and this format writes a file"):
            form.check_target(tmp_path / "folder.xml")
    with pytest.raises(ExportError, match=r"file is a file, and this format writes a folder"):
        export_network(deployed.network, {"model": {}} | ABOUT, SafetensorsFormat(), tmp_path / "file", source="x")
    SafetensorsFormat().check_target(tmp_path)


def test_choices_are_named():
    with pytest.raises(ConfigError, match="fp32, fp16, int8; got 'float16'"):
        OnnxFormat(dtype="float16")
    with pytest.raises(ConfigError, match="True, False, boxmot; got 'yolo'"):
        OnnxFormat(preprocess="yolo")
