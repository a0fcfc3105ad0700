"""An ONNX file with its linear layers in fewer bits. Their weights are nearly all of the file, and most of the work.

All else stays in float32, as under autocast: the assignment's exponentials leave float16's range, and norms and softmax lose
most. In int8 the weights and the inputs of linear layers are whole numbers whose ranges were seen on calibration images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from aaformer_lit.deploy.formats import quiet


def to_float16(path: Path) -> None:
    """Rewrite an ONNX file with linear layers in float16; what goes into them and comes out is cast."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    linear = set(linear_layers(model.graph))
    matrices = {node.input[1] for node in model.graph.node if node.name in linear}
    for tensor in model.graph.initializer:
        if tensor.name in matrices:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    nodes = []
    for node in model.graph.node:
        if node.name not in linear:
            nodes.append(node)
            continue
        wide_in, wide_out = node.input[0], node.output[0]
        narrow_in, narrow_out = f"{node.name}_in_float16", f"{node.name}_out_float16"
        node.input[0], node.output[0] = narrow_in, narrow_out
        before = helper.make_node("Cast", [wide_in], [narrow_in], to=TensorProto.FLOAT16)
        nodes += [before, node, helper.make_node("Cast", [narrow_out], [wide_out], to=TensorProto.FLOAT)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


def to_int8(path: Path, calibration: Sequence[Tensor]) -> None:
    """Rewrite an ONNX file with linear layers in int8, statically quantized (QDQ).

    Args:
        path: of the file.
        calibration: inputs as the file takes them, of one image each.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped here
        def __init__(self) -> None:
            self.images = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {"images": image[None].numpy()}

    with quiet():
        quantize_static(
            path,
            path,
            Reader(),
            nodes_to_quantize=linear_layers(onnx.load(path).graph),
            op_types_to_quantize=["MatMul"],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
            reduce_range=True,  # 7 bits of a weight: with 8, sums overflow on x86 CPUs without VNNI, and only there
        )


def linear_layers(graph: Any) -> list[str]:
    """Names of the products with a constant matrix."""
    constants = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in constants]
