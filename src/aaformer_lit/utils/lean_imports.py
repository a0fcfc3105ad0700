"""For commands that use timm's networks and nothing else of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

_process = {"lean": False}


def networks_are_enough() -> None:
    """This process is a command that needs no more of timm than plain ViTs."""
    _process["lean"] = True


@contextmanager
def timm_as_needed() -> Iterator[None]:
    """Inside, `import timm` brings its networks without its data loaders, torchvision and the hub's client, where the
    networks are enough.

    These bring torch's compiler, sympy, W&B and an HTTP client: more than half of the seconds that a search takes to start.
    The networks need constants of `timm.data`, a class of torchvision to tell layers apart that plain ViTs do not have, and a
    mark for the compiler. timm itself goes on without the hub's client. What was imported before stays as it was.
    """
    stand_ins = _stand_ins() if _process["lean"] else {}
    instead = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(instead)  # type: ignore[arg-type]  # None is allowed there
    try:
        yield
    finally:
        for name in instead:
            del sys.modules[name]


def _stand_ins() -> dict[str, ModuleType | None]:
    timm = find_spec("timm")
    assert timm is not None
    assert timm.origin is not None
    spec = spec_from_file_location("timm.data", Path(timm.origin).with_name("data") / "constants.py")
    assert spec is not None
    assert spec.loader is not None
    constants = module_from_spec(spec)
    spec.loader.exec_module(constants)
    torchvision = [ModuleType(name) for name in ("torchvision", "torchvision.ops", "torchvision.ops.misc")]
    for module in torchvision:
        module.__path__ = []  # a package: what else is asked of it is not found
    vars(torchvision[-1])["FrozenBatchNorm2d"] = type("FrozenBatchNorm2d", (), {})
    compiler = ModuleType("torch._dynamo")
    vars(compiler)["disable"] = lambda function, *_, **_options: function
    # None: as if it were not installed
    return {module.__name__: module for module in (constants, *torchvision, compiler)} | {"huggingface_hub": None}
