"""What a user reads when something is wrong: one message for each error that is theirs to fix."""

from __future__ import annotations

import difflib
import re

from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from aaformer_lit.cli.paths import CONF_DIR
from aaformer_lit.errors import AAformerError, first_line
from aaformer_lit.utils.files import CURES


def user_message(error: BaseException) -> str | None:
    """The one message of an error that is the user's to fix, or None for a defect."""
    known = _known(error)
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


def _known(error: BaseException) -> AAformerError | None:
    """The error of ours behind an error: Hydra and Lightning wrap what they pass on."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, AAformerError):
        cause = cause.__cause__ or cause.__context__
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
    if key:
        message = f"unknown config key '{key.group(1) or key.group(2)}'."
    missing = re.search(r"Could not find '([^']+)'", message)
    if missing:
        group, _, option = missing.group(1).rpartition("/")
        options = sorted(p.stem for p in (CONF_DIR / group).glob("*.yaml") if not p.stem.startswith("_"))
        close = difflib.get_close_matches(option, options, n=1)
        hint = f" Did you mean {group}={close[0]}?" if close else ""
        message = f"there is no {group}={option}.{hint} Options: {', '.join(options)}."
    return f"{message} See --help for the groups and --cfg job for the composed config."
