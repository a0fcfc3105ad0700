"""ONNX: one file for ONNX Runtime in any language, for TensorRT, and for OpenVINO to convert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aaformer_lit.deploy.bounds import DType
from aaformer_lit.deploy.compare import Exported
from aaformer_lit.deploy.deployed import Deployed, Outputs
from aaformer_lit.deploy.formats import Format, Intake, need, one_message, quiet
from aaformer_lit.deploy.metadata import metadata
from aaformer_lit.deploy.narrow import to_float16, to_int8
from aaformer_lit.errors import ExportError

_NAMES = ("features", "assignments")


class OnnxFormat(Format):
    """An ONNX file for ONNX Runtime.

    Args:
        opset: 18 has all that these networks need; the files that torch writes of it (IR 10) run on every ONNX Runtime since
            1.18 (2024).
        preprocess: as in `Format`.
        dtype: of the linear layers; all else stays in float32.
    """

    file_name = "model.onnx"

    def __init__(self, opset: int = 18, preprocess: Intake = False, dtype: DType = "fp32") -> None:
        super().__init__(preprocess, dtype)
        if not 18 <= opset <= 23:
            raise ExportError(f"format.opset must be 18 to 23, which torch writes and ONNX Runtime reads; got {opset}.")
        self.opset = opset

    def write(
        self, deployed: Deployed, about: Mapping[str, Any], path: Path, calibration: Sequence[Tensor] = ()
    ) -> None:
        need("onnx", "export", "onnx", "onnxscript", "onnxruntime")
        names = list(_NAMES[: 1 + deployed.assigns])
        traced = self.trace(deployed)
        with torch.no_grad(), quiet(), one_message("write this network as ONNX"):
            program = torch.onnx.export(
                traced,
                dynamo=True,
                opset_version=self.opset,
                input_names=["images"],
                output_names=names,
                verbose=False,
            )
        assert program is not None
        _name_dimensions(program.model)
        program.model.metadata_props.update(metadata(deployed, about, self.dtype))
        program.save(str(path))
        if self.dtype == "fp16":
            to_float16(path)
        elif self.dtype == "int8":
            to_int8(path, calibration)

    def read(self, path: Path) -> Exported:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def run(images: Tensor) -> Outputs:
            return Outputs(*map(torch.from_numpy, session.run(None, {"images": images.numpy()})))

        return run


def _name_dimensions(model: Any) -> None:
    """Torch calls them s77 and the like."""
    image = model.graph.inputs[0]
    names = {str(image.shape[0]): "batch"}
    if not isinstance(image.shape[1], int):
        names |= {str(image.shape[1]): "rows", str(image.shape[2]): "columns"}
    for value in (*model.graph.inputs, *model.graph.outputs):
        for axis, size in enumerate(value.shape):
            if str(size) in names:
                value.shape[axis] = names[str(size)]
