"""Did you mean: the config key, group or option that a word on the command line may stand for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from aaformer_lit.cli.options import options_of
from aaformer_lit.cli.paths import CONF_DIR

RENAMED: Mapping[str, str] = {"row": "ablation"}  # config groups by their former names
_SHORT = 3  # letters of an abbreviation, at least


def did_you_mean_option(group: str, option: str) -> str:
    """` Did you mean data=market1501?`, or nothing."""
    return _question([f"{group}={one}" for one in _close(option, options_of(group))])


def did_you_mean_key(given: str, unknown: str, node: Mapping[str, Any]) -> str:
    """` Did you mean model.parts?`, or nothing.

    Args:
        given: the dotted key on the command line.
        unknown: the first of its words that the config does not have.
        node: where that word was looked for.
    """
    if "/" in given:
        groups = [str(path.relative_to(CONF_DIR)) for path in sorted(CONF_DIR.rglob("*/")) if path != CONF_DIR]
        return _question(_close(given, groups))
    words = given.split(".")
    before, after = words[: words.index(unknown)], words[words.index(unknown) + 1 :]
    names = {key: key.rpartition(".")[2] for key in _keys_below(node)}
    found = (
        [key for key, name in names.items() if name == unknown]
        or _close(unknown, list(node))
        or [key for key in node if _abbreviates(str(key), unknown)]
        or [key for key, name in names.items() if name in _close(unknown, list(names.values()))]
    )
    return _question([_as_group(".".join([*before, key, *after])) for key in found[:2]])


def options_with(given: str, unknown: str) -> str:
    """` It is a key of model=aaformer and model=pooled, ...` of one that other options of its group have, or nothing."""
    words = given.split(".")
    name = "/".join(words[: words.index(unknown)]) if unknown in words else ""
    having = (
        [one for one in options_of(name) if unknown in OmegaConf.load(CONF_DIR / name / f"{one}.yaml")] if name else []
    )
    named = " and ".join(f"{name}={one}" for one in having)
    return f" It is a key of {named}, not of the {name} that is chosen." if having else ""


def passed_on(given: str, node: Mapping[str, Any]) -> str:
    """How to hand a further argument to what others made and the config builds, such as the optimizer; or nothing."""
    target = str(node.get("_target_", "aaformer_lit."))
    return "" if target.startswith("aaformer_lit.") else f" {target} is given it with a plus: +{given}=VALUE."


def _keys_below(node: object, prefix: str = "") -> Iterator[str]:
    """The dotted keys of all values, without what builds objects (`_target_`)."""
    if isinstance(node, Mapping):
        for key in node:
            if key != "hydra" and not str(key).startswith("_"):
                yield f"{prefix}{key}"
                yield from _keys_below(node[key], f"{prefix}{key}.")


def _close(word: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(word, [one for one in known if not str(one).startswith("_")], n=1)


def _abbreviates(key: str, word: str) -> bool:
    """Whether a part of the key is the word shortened: `ckpt` of `checkpoint`."""
    for part in key.split("_"):
        letters = iter(word)
        if len(part) >= _SHORT and part[0] == word[0] and all(letter in letters for letter in part):
            return True
    return False


def _as_group(key: str) -> str:
    """A key that a config group fills is chosen as `model/assigner=...`."""
    path = key.replace(".", "/")
    return path if (CONF_DIR / path).is_dir() else key


def _question(found: Sequence[str]) -> str:
    meant = " or ".join(found)
    return f" Did you mean {meant}?" if meant else ""
