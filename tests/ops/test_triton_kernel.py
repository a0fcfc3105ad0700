"""The fused kernel: its cases in Triton's interpreter and on a CUDA device, and compiled for GPUs that are not there."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from triton import JITFunction
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as compile_kernel

from aaformer_lit.ops.triton_kernel import SHARED_BYTES, backward_kernel, backward_tile, forward_kernel, forward_tile


def run_cases(**environment):
    """`kernel_cases.py` in a process of its own: Triton reads TRITON_INTERPRET when it is first imported."""
    cases = Path(__file__).with_name("kernel_cases.py")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", cases]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_in_the_interpreter():
    run_cases(TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_cuda_device():
    run_cases(TRITON_INTERPRET="0")


def compile_for(architecture, kernel, tile, parts, patches, dim, element):
    """The kernel for a layer's strided qkv, compiled without the GPU."""
    tile = dict(tile)
    options = {name: tile.pop(name) for name in ("num_warps", "num_stages")}
    constants = tile | {"COSINE": True, "ITERATIONS": 3, "PATCHES": patches, "DIM": dim, "INTERPRETED": False}
    constants |= {"BOUNDS": (0, *itertools.accumulate(parts)), "PARTS": sum(parts)}
    types = {"words": "*u8", "normalisers": "*fp32", "sharpness": "fp32", "scale": "fp32", "heads": "i32"}
    signature, values, hints = {}, {}, {}
    for place, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name], values[place,] = "constexpr", constants[name]
            continue
        stride = name.endswith(("_batch", "_head", "_row"))
        signature[name] = types.get(name, "i32" if stride else f"*{element}")
        if name not in ("sharpness", "scale", "heads"):
            hints[place,] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, values, hints)
    return compile_kernel(source, target=GPUTarget("cuda", architecture, 32), options=options)


@pytest.mark.skipif(not isinstance(forward_kernel, JITFunction), reason="TRITON_INTERPRET is set")
@pytest.mark.parametrize(
    ("architecture", "element", "kernel", "patches"),
    [
        (80, "bf16", forward_kernel, 128),
        (80, "fp16", backward_kernel, 128),
        (90, "bf16", forward_kernel, 576),
        (90, "bf16", backward_kernel, 128),
        (90, "fp32", forward_kernel, 576),
        (90, "fp32", backward_kernel, 128),
    ],
)
def test_compiles_for_gpus(architecture, element, kernel, patches, tmp_path, monkeypatch):
    """To machine code that fits an SM, on tensor cores in half precision and never in TF32."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    parts, dim, size = [2, 3], 64, 4 if element == "fp32" else 2
    tile = forward_tile(5, patches, dim, size) if kernel is forward_kernel else backward_tile(5, dim, size)
    compiled = compile_for(architecture, kernel, tile, parts, patches, dim, element)
    assert len(compiled.asm["cubin"]) > 1000
    assert compiled.metadata.shared <= SHARED_BYTES + 3072  # 99 KB, what a small Ampere GPU has
    assembly = compiled.asm["ptx"]
    assert "tf32" not in assembly
    assert ("mma" in assembly) == (element != "fp32")
