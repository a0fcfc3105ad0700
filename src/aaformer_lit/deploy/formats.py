"""The formats: each writes a network to a path and reads it back as a function from images to outputs."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from aaformer_lit.checkpoints.load import load_model
from aaformer_lit.deploy.bounds import DType
from aaformer_lit.deploy.compare import Exported
from aaformer_lit.deploy.deployed import Deployed, Outputs, check_traceable
from aaformer_lit.deploy.preprocess import BoxmotCrops, Preprocess
from aaformer_lit.errors import ExportError, check_choice, first_line
from aaformer_lit.models import ReIDViT

Intake = bool | Literal["boxmot"]


class Format:
    """One way to keep a network. `file_name` is the name it has in a run directory; `is_folder`, whether that is a folder's.

    Args:
        preprocess: True: take uint8 NHWC images of any size, and resize and normalize them inside; "boxmot": take what the
            tracker boxmot feeds; False: take what the network does.
        dtype: numbers that the file computes with.
    """

    file_name: ClassVar[str]
    is_folder: ClassVar[bool] = False

    def __init__(self, preprocess: Intake = False, dtype: DType = "fp32") -> None:
        check_choice("format.preprocess", preprocess, (True, False, "boxmot"))
        check_choice("format.dtype", dtype, get_args(DType))
        self.preprocess, self.dtype = preprocess, dtype

    def check_target(self, target: Path) -> None:
        """Raise `ExportError` where the format cannot be written to this path: before the work, which takes a minute."""
        if target.exists() and target.is_dir() != self.is_folder:
            there, wanted = ("a file", "a folder") if self.is_folder else ("a folder", "a file")
            raise ExportError(f"output={target} is {there}, and this format writes {wanted}. Give another output=.")

    def deployed(self, network: ReIDViT, data: Mapping[str, Any]) -> Deployed:
        """What the file is to compute; `data` is the checkpoint's preprocessing (image size, mean, std)."""
        check_traceable(network)
        kind = BoxmotCrops if self.preprocess == "boxmot" else Preprocess
        preprocess = kind(data["image_size"], data["mean"], data["std"]) if self.preprocess else None
        return Deployed(network, preprocess).eval()

    def write(
        self, deployed: Deployed, about: Mapping[str, Any], path: Path, calibration: Sequence[Tensor] = ()
    ) -> None:
        """Write the file.

        Args:
            deployed: what it is to compute.
            about: the network's description (`checkpoint.describe`).
            path: where.
            calibration: inputs of one image each, for int8.
        """
        raise NotImplementedError

    def read(self, path: Path) -> Exported:
        """The written file as a function."""
        raise NotImplementedError

    def trace(self, deployed: Deployed) -> torch.export.ExportedProgram:
        batch = torch.export.Dim("batch", min=1, max=1 << 16)
        preprocess = deployed.preprocess
        height, width = (preprocess and preprocess.input_size) or deployed.network.image_size
        if preprocess is not None and not preprocess.input_size:
            example = torch.zeros(2, height + 3, width + 5, 3, dtype=torch.uint8)
            rows, columns = (torch.export.Dim(name, min=1, max=1 << 15) for name in ("rows", "columns"))
            sizes = {0: batch, 1: rows, 2: columns}
        else:
            example, sizes = torch.zeros(2, 3, height, width), {0: batch}
        with torch.no_grad(), quiet(), one_message("trace this network"):
            return torch.export.export(deployed, (example,), dynamic_shapes=(sizes,), strict=False)


class TorchExportFormat(Format):
    """A `.pt2` file: loads with `torch.export.load(path).module()`, without this package."""

    file_name = "model.pt2"

    def __init__(self, preprocess: Intake = False) -> None:
        super().__init__(preprocess)

    def write(
        self, deployed: Deployed, about: Mapping[str, Any], path: Path, calibration: Sequence[Tensor] = ()
    ) -> None:
        content = io.BytesIO()  # torch's own writer ends the process where the disk is full
        with quiet():
            torch.export.save(self.trace(deployed), content, extra_files={"aaformer_lit.json": json.dumps(about)})
        path.write_bytes(content.getvalue())

    def read(self, path: Path) -> Exported:
        with quiet():
            module = torch.export.load(path).module()

        @torch.no_grad()
        def run(images: Tensor) -> Outputs:
            return Outputs(*module(images))

        return run


class SafetensorsFormat(Format):
    """A folder as the Hugging Face hub holds them: `config.json`, `model.safetensors`, and a model card beside.

    `aaformer_lit.load_model` builds the network from it.

    Args:
        half: keep the weights in float16, half the size. The network still computes in float32, with rounded weights.
    """

    file_name = "model"
    is_folder = True

    def __init__(self, half: bool = False) -> None:
        super().__init__()
        self.half = half

    def deployed(self, network: ReIDViT, data: Mapping[str, Any]) -> Deployed:
        if self.half:
            for tensor in network.state_dict().values():  # they share the network's memory
                tensor.copy_(tensor.half() if tensor.is_floating_point() else tensor)
        return Deployed(network).eval()

    def write(
        self, deployed: Deployed, about: Mapping[str, Any], path: Path, calibration: Sequence[Tensor] = ()
    ) -> None:
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


def need(name: str, extra: str, *packages: str) -> None:
    """Raise `ExportError` unless the packages of a format can be imported."""
    for package in packages:
        try:
            __import__(package)
        except ImportError as error:
            raise ExportError(
                f"format={name} needs the package {package} ({first_line(error)}). pip install 'aaformer-lit[{extra}]'"
            ) from error


@contextlib.contextmanager
def one_message(what: str) -> Iterator[None]:
    """What fails inside torch's exporters, under many class names, depends on backbone and versions."""
    try:
        yield
    except Exception as error:
        raise ExportError(
            f"torch {torch.__version__} cannot {what}: {type(error).__name__}, {first_line(error).rstrip('.')}. "
            "Use the versions of requirements.lock, or format=safetensors, which needs no graph."
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters and quantizers tell their developers how far they got, on stdout, in logs and in warnings."""
    loggers = [logging.getLogger(name) for name in ("", "torch.onnx", "torch.export", "onnxscript", "onnx_ir", "nncf")]
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
