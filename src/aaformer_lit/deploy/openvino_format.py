"""OpenVINO's own format, for Intel's and other x86 CPUs: `model.xml` with the graph, `model.bin` with the weights."""

from __future__ import annotations

import tempfile
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
from aaformer_lit.deploy.onnx_format import OnnxFormat
from aaformer_lit.errors import ExportError

# by default the CPU plugin computes in bfloat16 where the CPU has it, which gives many patches to other parts
PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}


class OpenVinoFormat(Format):
    """Two files for OpenVINO.

    Args:
        preprocess: as in `Format`.
        dtype: fp32, fp16 (weights are kept in float16 and computed with in float32) or int8 (by NNCF).
    """

    file_name = "model.xml"

    def __init__(self, preprocess: Intake = False, dtype: DType = "fp16") -> None:
        super().__init__(preprocess, dtype)

    def check_target(self, target: Path) -> None:
        if target.suffix != ".xml":
            raise ExportError(f"format=openvino writes NAME.xml, and NAME.bin beside it; got output={target.name}.")
        super().check_target(target)

    def write(
        self, deployed: Deployed, about: Mapping[str, Any], path: Path, calibration: Sequence[Tensor] = ()
    ) -> None:
        need("openvino", "openvino", "openvino", *(["nncf"] if self.dtype == "int8" else []))
        import openvino

        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            onnx = Path(folder, "model.onnx")
            OnnxFormat(preprocess=self.preprocess).write(deployed, about, onnx)
            with quiet(), one_message("convert this network to OpenVINO"):
                model = openvino.convert_model(onnx)
        if self.dtype == "int8":
            model = _int8(model, calibration)
        for name, value in metadata(deployed, about, self.dtype).items():
            model.set_rt_info(value, ["aaformer_lit", name] if name != "aaformer_lit" else ["aaformer_lit", "about"])
        openvino.save_model(model, path, compress_to_fp16=self.dtype != "fp32")

    def read(self, path: Path) -> Exported:
        import openvino

        options = {**PRECISION, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = openvino.Core().compile_model(path, "CPU", options)

        def run(images: Tensor) -> Outputs:
            results = compiled([images.numpy()])
            return Outputs(*(torch.from_numpy(results[output].copy()) for output in compiled.outputs))

        return run


def _int8(model: Any, calibration: Sequence[Tensor]) -> Any:
    """Weights and inputs of linear layers and products as whole numbers, by NNCF's scheme for transformers."""
    import nncf

    with quiet():
        dataset = nncf.Dataset([image[None].numpy() for image in calibration])
        return nncf.quantize(model, dataset, subset_size=len(calibration), model_type=nncf.ModelType.TRANSFORMER)
