"""The formats: each writes a network to a path and reads it back as a function from images to outputs."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from aaformer_lit.checkpoints.load import load_model
from aaformer_lit.deploy.compare import Exported
from aaformer_lit.deploy.deployed import Deployed, Outputs, check_traceable
from aaformer_lit.deploy.preprocess import Preprocess
from aaformer_lit.errors import ExportError, first_line
from aaformer_lit.models import ReIDViT

NAMES = ("features", "assignments")


class Format:
    """One way to keep a network. `file_name` is the name it has in a run directory.

    Args:
        preprocess: take uint8 NHWC images of any size, and resize and normalize them inside.
    """

    file_name: ClassVar[str]

    def __init__(self, preprocess: bool = False) -> None:
        self.preprocess = preprocess

    def deployed(self, network: ReIDViT, data: Mapping[str, Any]) -> Deployed:
        """What the file is to compute; `data` is the checkpoint's preprocessing (image size, mean, std)."""
        check_traceable(network)
        preprocess = Preprocess(data["image_size"], data["mean"], data["std"]) if self.preprocess else None
        return Deployed(network, preprocess).eval()

    def write(self, deployed: Deployed, about: Mapping[str, Any], path: Path) -> None:
        """Write the file; `about` is the network's description (`checkpoint.describe`)."""
        raise NotImplementedError

    def read(self, path: Path) -> Exported:
        """The written file as a function."""
        raise NotImplementedError

    def _trace(self, deployed: Deployed) -> torch.export.ExportedProgram:
        batch: Any = torch.export.Dim("batch", min=1, max=1 << 16)
        height, width = deployed.network.image_size
        if self.preprocess:
            example = torch.zeros(2, height + 3, width + 5, 3, dtype=torch.uint8)
            rows, columns = (torch.export.Dim(name, min=2, max=1 << 15) for name in ("rows", "columns"))
            sizes = {0: batch, 1: rows, 2: columns}
        else:
            example, sizes = torch.zeros(2, 3, height, width), {0: batch}
        with torch.no_grad(), _quiet(), _one_message("trace this network"):
            return torch.export.export(deployed, (example,), dynamic_shapes=(sizes,), strict=False)


class TorchExportFormat(Format):
    """A `.pt2` file: loads with `torch.export.load(path).module()`, without this package."""

    file_name = "model.pt2"

    def write(self, deployed: Deployed, about: Mapping[str, Any], path: Path) -> None:
        content = io.BytesIO()  # torch's own writer ends the process where the disk is full
        with _quiet():
            torch.export.save(self._trace(deployed), content, extra_files={"aaformer_lit.json": json.dumps(about)})
        path.write_bytes(content.getbuffer())

    def read(self, path: Path) -> Exported:
        with _quiet():
            module = torch.export.load(path).module()

        @torch.no_grad()
        def run(images: Tensor) -> Outputs:
            return Outputs(*module(images))

        return run


class OnnxFormat(Format):
    """An ONNX file for ONNX Runtime.

    Args:
        opset: 18 runs on every ONNX Runtime since 1.14 (2023) and has all that these networks need.
        preprocess: as in `Format`.
    """

    file_name = "model.onnx"

    def __init__(self, opset: int = 18, preprocess: bool = False) -> None:
        super().__init__(preprocess)
        if not 18 <= opset <= 23:
            raise ExportError(f"format.opset must be 18 to 23, which torch writes and ONNX Runtime reads; got {opset}.")
        self.opset = opset

    def write(self, deployed: Deployed, about: Mapping[str, Any], path: Path) -> None:
        _need("onnx", "onnxscript", "onnxruntime")
        names = list(NAMES[: 1 + deployed.assigns])
        traced = self._trace(deployed)
        with torch.no_grad(), _quiet(), _one_message("write this network as ONNX"):
            program = torch.onnx.export(
                traced,
                dynamo=True,
                opset_version=self.opset,
                input_names=["images"],
                output_names=names,
                verbose=False,
            )
        assert program is not None
        _name_dimensions(program.model, self.preprocess)
        program.model.metadata_props["aaformer_lit"] = json.dumps(about)
        program.save(str(path))

    def read(self, path: Path) -> Exported:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def run(images: Tensor) -> Outputs:
            return Outputs(*map(torch.from_numpy, session.run(None, {"images": images.numpy()})))

        return run


class SafetensorsFormat(Format):
    """A folder as the Hugging Face hub holds them: `config.json`, `model.safetensors`, and a model card beside.

    `aaformer_lit.load_model` builds the network from it.

    Args:
        half: keep the weights in float16, half the size. The network still computes in float32, with rounded weights.
    """

    file_name = "model"

    def __init__(self, half: bool = False) -> None:
        super().__init__()
        self.half = half

    def deployed(self, network: ReIDViT, data: Mapping[str, Any]) -> Deployed:
        if self.half:
            for tensor in network.state_dict().values():  # they share the network's memory
                tensor.copy_(tensor.half() if tensor.is_floating_point() else tensor)
        return Deployed(network).eval()

    def write(self, deployed: Deployed, about: Mapping[str, Any], path: Path) -> None:
        from safetensors.torch import save

        path.mkdir()
        tensors = {name: tensor.contiguous() for name, tensor in deployed.network.state_dict().items()}
        if self.half:
            tensors = {n: tensor.half() if tensor.is_floating_point() else tensor for n, tensor in tensors.items()}
        # as bytes: safetensors' own writer makes files that only their owner may read
        (path / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
        config = {"library_name": "aaformer_lit", "aaformer_lit": dict(about)}
        (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    def read(self, path: Path) -> Exported:
        network = load_model(path)
        assert isinstance(network, ReIDViT)
        return Deployed(network).eval().outputs


def portable(about: Mapping[str, Any]) -> dict[str, Any]:
    """A description without what is only true on this machine: where the backbone's weights and the training's data lay."""
    copied: dict[str, Any] = copy.deepcopy(dict(about))
    if isinstance(copied["model"].get("backbone"), dict):
        copied["model"]["backbone"]["weights"] = None
    copied.get("data", {}).pop("config", None)
    return copied


def _name_dimensions(model: Any, preprocess: bool) -> None:
    """Torch calls them s77 and the like."""
    image = model.graph.inputs[0]
    names = {str(image.shape[0]): "batch"}
    if preprocess:
        names |= {str(image.shape[1]): "rows", str(image.shape[2]): "columns"}
    for value in (*model.graph.inputs, *model.graph.outputs):
        for axis, size in enumerate(value.shape):
            if str(size) in names:
                value.shape[axis] = names[str(size)]


def _need(*packages: str) -> None:
    for package in packages:
        try:
            __import__(package)
        except ImportError as error:
            raise ExportError(
                f"format=onnx needs the package {package} ({first_line(error)}). pip install 'aaformer-lit[export]'"
            ) from error


@contextlib.contextmanager
def _one_message(what: str) -> Iterator[None]:
    """What fails inside torch's exporters, under many class names, depends on backbone and versions."""
    try:
        yield
    except Exception as error:
        raise ExportError(
            f"torch {torch.__version__} cannot {what}: {type(error).__name__}, {first_line(error).rstrip('.')}. "
            "Use the versions of requirements.lock, or format=safetensors, which needs no graph."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporters tell their developers how far they got, on stdout, in logs and in warnings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
