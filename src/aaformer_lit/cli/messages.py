"""What a user reads when something is wrong: one message for each error that is theirs to fix."""

from __future__ import annotations

import re
from typing import Any

from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from aaformer_lit.cli.options import options_of
from aaformer_lit.cli.suggestions import RENAMED, did_you_mean_key, did_you_mean_option, options_with, passed_on
from aaformer_lit.errors import AAformerError, first_line
from aaformer_lit.utils.files import CURES

_INSIDE_MODEL = ("model/assigner", "model/backbone")  # groups that some models have


def user_message(error: BaseException) -> str | None:
    """The one message of an error that is the user's to fix, or None for a defect."""
    known = known_error(error)
    if known is not None:
        return str(known)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _config_message(error)
    if isinstance(error, ValueError) and str(error).startswith("Config group override"):  # data=null, in Hydra's words
        return "a config group that is needed was set to null. See --help for the groups and their options."
    if isinstance(error, OSError) and error.errno in CURES:  # of Hydra, which makes the run's folder
        where = error.filename or "the run's folder"
        return f"{where} cannot be used: {error.strerror}. {CURES[error.errno]}; check paths.runs and paths.data."
    return None


def known_error(error: BaseException) -> AAformerError | None:
    """The error of ours behind an error: Hydra and Lightning wrap what they pass on."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, AAformerError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None and str(cause).startswith(f"Caught {type(cause).__name__} in "):
        # torch passes on what a loader's worker process raised, as the same error with the traceback before its words
        cause.args = (str(cause).rpartition(f"{type(cause).__name__}: ")[2].strip(),)
    return cause


def _config_message(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    key = re.search(r"Could not override '([^']+)'|full_key: (\S+)", str(error))
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return f"{key.group(2) if key else 'a config'} cannot be built: {first_line(error.__cause__)}"
    if isinstance(error, MissingMandatoryValue) and key:
        return f"{key.group(2)} is needed and was not given: add {key.group(2)}=VALUE. --help has examples."
    if isinstance(error, InterpolationResolutionError) and key:
        return (
            f"{key.group(2)}: {message[0].lower()}{message[1:]}. Use the full name of a key, as --cfg job shows them."
        )
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override, lines[1] if lines[0].startswith("Error parsing") else lines[0])
    if key:
        message = _unknown_key(key.group(1) or key.group(2), error.__cause__ or error)
    missing = re.search(r"Could not find '([^']+)'", message)
    if missing:
        group, _, option = missing.group(1).rpartition("/")
        options = ", ".join(options_of(group))
        message = f"there is no {group}={option}.{did_you_mean_option(group, option)} Options: {options}."
    return f"{message} See --help for the groups and --cfg job for the composed config."


def _unknown_key(given: str, cause: BaseException) -> str:
    if given in RENAMED:
        return f"the config group '{given}' is called {RENAMED[given]} now: use {RENAMED[given]}=OPTION."
    if given in _INSIDE_MODEL:
        return (
            f"the model that is chosen has no {given}, which the command line, an experiment, a sweep or an ablation sets. To "
            "train another network in an experiment or sweep, choose it by ablation= in place of model=, for example "
            "ablation=vit_baseline."
        )
    node, unknown = getattr(cause, "parent_node", None), str(getattr(cause, "key", ""))
    plain: Any = OmegaConf.to_container(node) if OmegaConf.is_dict(node) else None
    hint = options_with(given, unknown)
    if plain and not hint:
        hint = did_you_mean_key(given, unknown, plain) or passed_on(given, plain)
    return f"unknown config key '{given}'.{hint}"


def _unreadable(override: str, why: str) -> str:
    key, _, value = override.partition("=")
    if value.startswith("~/"):
        return (
            f"{override} cannot be read: ~ is the shell's, and only at the start of a word. Use {key}=$HOME{value[1:]}"
        )
    key, text = key.lstrip("'\""), value.strip("'\"")  # which may have reached us with quotes meant for the shell
    return (
        f"{override} cannot be read: {why.partition(' expecting ')[0]}. Close what is opened; text with brackets, spaces or "
        f"signs in it, such as a regular expression, needs quotes inside those of the shell: '{key}=\"{text or 'TEXT'}\"'"
    )
