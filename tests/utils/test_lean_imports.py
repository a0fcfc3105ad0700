import subprocess
import sys

CODE = """
import sys
from aaformer_lit.utils.lean_imports import networks_are_enough
networks_are_enough()
import aaformer_lit.search
assert "torch" not in sys.modules, "--help would wait for it"
import aaformer_lit.gallery
print(sorted(name for name in {heavy} if name in sys.modules))
import timm
assert timm.is_model("deit_tiny_patch16_224")
from importlib.util import find_spec
print(all(find_spec(name).origin.endswith("__init__.py") for name in ("torchvision", "timm.data")))
"""
HEAVY = ("lightning", "torchmetrics", "torchvision", "torch._dynamo", "sympy", "wandb", "matplotlib", "timm.data")


def test_a_search_starts_without_what_it_never_calls_and_leaves_the_real_modules_to_be_found():
    run = subprocess.run([sys.executable, "-c", CODE.format(heavy=HEAVY)], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[]", "True"]
