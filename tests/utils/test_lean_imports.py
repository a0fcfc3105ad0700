import subprocess
import sys

CODE = """
import sys
from aaformer_lit.utils.lean_imports import networks_are_enough
networks_are_enough()
import aaformer_lit.search
assert "torch" not in sys.modules, "--help would wait for it"
import aaformer_lit.gallery.report
print(sorted(name for name in {heavy} if name in sys.modules))
import timm
assert timm.is_model("deit_tiny_patch16_224")
from importlib.util import find_spec
print(all(find_spec(name).origin.endswith("__init__.py") for name in ("torchvision", "timm.data", "huggingface_hub")))
"""
HEAVY = (
    "lightning",
    "torchmetrics",
    "torchvision",
    "torch._dynamo",
    "sympy",
    "wandb",
    "matplotlib",
    "timm.data",
    "huggingface_hub",
    "httpx",
    "albumentations",
)


def test_a_search_starts_without_what_it_never_calls_and_leaves_the_real_modules_to_be_found():
    run = subprocess.run([sys.executable, "-c", CODE.format(heavy=HEAVY)], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[]", "True"]


def test_a_timm_that_needs_more_than_its_networks_is_imported_whole():
    code = """
import sys
from aaformer_lit.utils import lean_imports
lean_imports.networks_are_enough()
lean_imports._stand_ins = lambda: {"timm.data": type(sys)("timm.data")}  # without the constants that networks ask for
import aaformer_lit.models
import timm
print(timm.is_model("deit_tiny_patch16_224"), sys.modules["timm.data"].__file__.endswith("__init__.py"))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "True"]
