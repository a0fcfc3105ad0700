"""The fused kernel: its cases in Triton's interpreter and on a CUDA device, and compiled for GPUs that are not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction, driver

from aaformer_lit.ops.fused import INTERPRETED, fused_auto_alignment
from aaformer_lit.ops.triton_steps import SHARED_BYTES


def run_cases(**environment):
    """`kernel_cases.py` in a process of its own: Triton reads TRITON_INTERPRET when it is first imported."""
    cases = Path(__file__).with_name("kernel_cases.py")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", cases]
    # no worker of this run: what counts lines for `make coverage` would change the code that TorchDynamo compiles
    inherited = {name: value for name, value in os.environ.items() if name != "SLIPCOVER_ENABLED"}
    result = subprocess.run(command, env=inherited | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.timeout(900)  # half a minute of one core, and cores may be shared
def test_in_the_interpreter():
    run_cases(TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_cuda_device():
    run_cases(TRITON_INTERPRET="0")


class AbsentGPU:
    """Enough of a driver to compile for a GPU, and too little to launch on it."""

    def __init__(self, architecture):
        self.architecture = architecture

    def get_current_target(self):
        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


@pytest.fixture
def compile_for(monkeypatch, tmp_path):
    """Launches compile for the architecture, and are kept instead of run."""
    compiled = {}
    launch = JITFunction.run

    def compile_only(kernel, *arguments, grid, warmup, **options):
        compiled[kernel.fn.__name__] = launch(kernel, *arguments, grid=grid, warmup=True, **options)

    def select(architecture):
        monkeypatch.setattr(driver, "_active", AbsentGPU(architecture))
        return compiled

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(JITFunction, "run", compile_only)
    return select


@pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET is set")
@pytest.mark.skipif(torch.cuda.is_available(), reason="a real device would be handed these kernels later")
@pytest.mark.parametrize(
    ("architecture", "dtype", "patches", "heads", "rounding", "images"),
    [
        (80, torch.float16, 100, 1, "argmax", ()),
        (90, torch.bfloat16, 128, 12, "argmax", ()),
        (90, torch.float32, 576, 12, "argmax", ()),
        (80, torch.float16, 100, 1, "soft", ()),
        (90, torch.bfloat16, 128, 12, "soft", ()),
        (90, torch.bfloat16, 128, 12, "soft", (2, 1)),
    ],
    ids=str,
)
def test_compiles_for_gpus(compile_for, architecture, dtype, patches, heads, rounding, images):
    """To machine code that fits an SM, on tensor cores in half precision and never in TF32."""
    compiled = compile_for(architecture)
    qkv = torch.zeros(2, 6 + patches, 3, heads, 64, dtype=dtype, requires_grad=True)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    options = {"parts": [2, 3], "rounding": rounding, "cost": torch.zeros(*images, 5, patches)}
    fused_auto_alignment(q[:, :, 1:6], k[:, :, 6:], v[:, :, 6:], **options)[0].sum().backward()
    backward = "soft_backward_kernel" if rounding == "soft" else "backward_kernel"
    assert set(compiled) == {"forward_kernel", backward}
    for kernel in compiled.values():
        assert len(kernel.asm["cubin"]) > 1000
        assert kernel.metadata.shared <= SHARED_BYTES + 3072  # 99 KB, what a small Ampere GPU has
        assert "tf32" not in kernel.asm["ptx"]
        assert ("mma" in kernel.asm["ptx"]) == (dtype != torch.float32)
