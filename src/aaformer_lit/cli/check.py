"""What a config value may be, read off whatever takes it: the constructor is the config, so its annotations are the schema.

Without this, a word in place of a number fails wherever it is first compared, and `flip_test=maybe` counts as true. Values
that other libraries take unchecked, and later divide by, have their bounds here.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from hydra.utils import get_object

from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.sequences import listed

MISSING = "???"
AT_LEAST: Mapping[str, float] = {
    "seed": 0,
    "trainer.max_epochs": 0,  # Lightning reads -1 as training without end
    "trainer.accumulate_grad_batches": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.log_every_n_steps": 0,
    "trainer.gradient_clip_val": 0,  # with less, every gradient changes its sign
    "callbacks.assignment.every_n_epochs": 1,
    "callbacks.probe.every_n_epochs": 1,
    "callbacks.probe.images": 1,
    "callbacks.stability.images": 1,
    "data.num_workers": 0,  # where few images are read, nothing else looks at it
    "count": 1,
    "answers": 1,
    "candidates": 1,
    "stability": 0,
    "alignment_images": 1,
    "examples": 0,
    "bootstrap.samples": 1,
    "speed.batch": 1,
    "speed.repeats": 1,
    "repeats": 1,
}
# keys of the entry points that have no meaning without a value
NEEDED = (
    "runs", "formats", "kind", "count", "answers", "bootstrap.samples", "speed.batch", "speed.repeats", "suite", "repeats",
)  # fmt: skip
# keys that name a file or folder, or several
PATHS = (
    "data.root", "run_dir", "ckpt", "ckpt_path", "init_from", "other", "images", "query", "gallery", "boxes",
    "calibration", "runs", "keep", "out", "output",
)  # fmt: skip
AT_MOST: Mapping[str, float] = {"seed": 2**32 - 1}  # numpy takes no larger one
ONE_OF: Mapping[str, Sequence[str]] = {"resume": ("auto",), "ops.kernel": ("auto", "triton", "torch")}
_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    type(None): "null",
}


def check_config(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for the first value that cannot be what it is taken for.

    Args:
        config: the composed config as plain values.
        defaults: the entry point's own file: where its default is a number, text or true or false, so must the value be.
    """
    for key in PATHS:
        for value in listed(_lookup(config, key)):
            if isinstance(value, int | float) and not isinstance(value, bool):
                raise ConfigError(
                    f"{key}={value} is a number to Hydra. Write a file or folder of that name as ./{value}"
                )
    _check_defaults(config, defaults, "")
    _check_targets(config, "")
    for key in NEEDED:
        if _lookup(defaults, key) is not None and _lookup(config, key) is None:
            raise ConfigError(f"{key}=null leaves nothing to go by. Leave it out for its default, or give a value.")
    for key, low in AT_LEAST.items():
        value = _lookup(config, key)
        if isinstance(value, int | float) and value < low:
            raise ConfigError(f"{key}={value} is too small. Use {low:g} or more, or null where it may be left out.")
    for key, high in AT_MOST.items():
        value = _lookup(config, key)
        if isinstance(value, int | float) and value > high:
            raise ConfigError(f"{key}={value} is too large. Use {high} or less.")
    for key, options in ONE_OF.items():
        if (value := _lookup(config, key)) is not None and value not in options:
            raise ConfigError(f"{key}={value} is unknown. Use {', '.join(options)} or null.")


def matches(value: object, hint: object) -> bool:
    """Whether a plain config value fits an annotation. Objects still to be built (`_target_`) fit everything."""
    origin = get_origin(hint)
    if value == MISSING or (isinstance(value, Mapping) and "_target_" in value):
        return True
    if origin in (Union, types.UnionType):
        return any(matches(value, option) for option in get_args(hint))
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is None or hint in (bool, str, type(None)):
        return isinstance(value, type(None) if hint is None else hint)
    if hint is Path:
        return isinstance(value, str)
    kind = origin or hint
    if not isinstance(kind, type):
        return True  # Any, a type variable: no promise
    if issubclass(kind, Mapping):
        _, *inner = get_args(hint) or (None,)
        return isinstance(value, Mapping) and all(matches(item, h) for h in inner for item in value.values())
    if issubclass(kind, Sequence):
        inner = [h for h in get_args(hint) if h is not Ellipsis][:1]
        return isinstance(value, list) and all(matches(item, h) for h in inner for item in value)
    return kind.__module__ in ("collections.abc", "typing")  # a callable may be many things, an object is none of these


def words(hint: object) -> str:
    """An annotation as a message says it: `a list of whole numbers or null`."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        options = get_args(hint)
        literals = [value for option in options if get_origin(option) is Literal for value in get_args(option)]
        others = [words(option) for option in options if get_origin(option) is not Literal]
        said = ([_listed(literals)] if literals else []) + [text for text in others if text]
        return " or ".join(dict.fromkeys(said))
    if origin is Literal:
        return _listed(get_args(hint))
    if hint in _WORDS:
        return _WORDS[hint]
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a mapping such as {name: value}"
    if isinstance(kind, type) and issubclass(kind, Sequence):
        inner = [words(h) for h in get_args(hint)[:1]]
        return f"a list, each entry {inner[0]}" if inner and inner[0] else "a list"
    return ""  # a class of objects, which nobody writes on a command line


def _listed(values: Sequence[Any]) -> str:
    return f"one of {', '.join(dict.fromkeys(map(str, values)))}"


def hints_of(target: object) -> dict[str, Any]:
    """Annotations of a function's, or a class's and its bases', arguments; none where they cannot be resolved."""
    if not inspect.isclass(target):
        return _hints(target)
    found: dict[str, Any] = {}
    for cls in reversed(target.__mro__):
        if "__init__" in vars(cls):
            found |= _hints(cls.__init__)  # type: ignore[misc]  # read, not called
    return found


def strange(target: object, arguments: Mapping[str, Any]) -> list[str]:
    """The names that a class or function does not take; none where that cannot be known."""
    try:
        taken = inspect.signature(target).parameters  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError):  # no callable, or one written in C
        return []
    names = set(taken)
    for rest in (name for name, one in taken.items() if one.kind is inspect.Parameter.VAR_KEYWORD):
        listed = get_args(hints_of(target).get(rest))  # of `**rest: Unpack[SomeTypedDict]`
        if not listed or not is_typeddict(listed[0]):
            return []
        names |= set(listed[0].__annotations__)
    return [name for name in arguments if name not in names and not name.startswith("_")]


def _hints(function: object) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except Exception:  # annotations for type checkers only, of whatever kind: nothing is known then
        return {}


def _check_targets(node: object, key: str) -> None:
    """Each object's arguments against the annotations of what builds it, outermost first."""
    if isinstance(node, Mapping):
        target = get_object(node["_target_"]) if isinstance(node.get("_target_"), str) else None
        hints = hints_of(target)
        for name in () if target is None else strange(target, node):
            kind = node["_target_"].rpartition(".")[2]
            raise ConfigError(
                f"{key}{name}={node[name]} is no option of {kind}. Leave it out; where a recipe, experiment or ablation sets "
                "it, choose another one, or a class that has the option (recipe=pass is for model=aaformer)."
            )
        for name, value in node.items():
            if name in hints and not matches(value, hints[name]):
                raise _wrong(f"{key}{name}", value, words(hints[name]))
        for name, value in node.items():
            _check_targets(value, f"{key}{name}.")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            _check_targets(value, f"{key}{number}.")


def _check_defaults(config: Mapping[str, Any], defaults: Mapping[str, Any], key: str) -> None:
    for name, default in defaults.items():
        value = config.get(name)
        if name == "_target_" or (isinstance(default, str) and (default == MISSING or "${" in default)):
            continue
        if isinstance(default, Mapping) and isinstance(value, Mapping):
            _check_defaults(value, default, f"{key}{name}.")
        elif isinstance(default, bool | int | float | str) and value is not None and not matches(value, type(default)):
            raise _wrong(f"{key}{name}", value, words(type(default)))


def _wrong(key: str, value: object, must_be: str) -> ConfigError:
    shown = "null" if value is None else value
    return ConfigError(f"{key}={shown} must be {must_be or 'an object'}. Add --cfg job to see its default.")


def _lookup(config: Mapping[str, Any], key: str) -> Any:
    node: object = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
