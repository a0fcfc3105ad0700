"""Who and which camera a file's name says, by a regular expression (`data.pattern`)."""

from __future__ import annotations

import re

from aaformer_lit.errors import ConfigError

_GROUPS = ("pid", "camid", "sequence")


def name_pattern(pattern: str | None) -> re.Pattern[str] | None:
    """The compiled `data.pattern`. Raises `ConfigError` for one that does not compile, or whose groups are not those read."""
    if not pattern:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as cause:
        raise ConfigError(f"data.pattern={pattern!r} is no regular expression: {cause}.") from cause
    if not set(_GROUPS) & set(compiled.groupindex):
        raise ConfigError(f"data.pattern={pattern!r} has no group named pid or camid, e.g. (?P<pid>[0-9]+)_.*")
    unread = [group for group in compiled.groupindex if group not in _GROUPS]
    if unread:
        raise ConfigError(
            f"data.pattern={pattern!r} has a group {', '.join(unread)}, which nothing reads: pid, camid and sequence are. "
            "Call it one of these, or leave out its name: (?:...)."
        )
    return compiled


def identify(pattern: re.Pattern[str] | None, name: str, folder: str = "") -> tuple[str, str, str] | None:
    """(pid, camid, sequence) that a file's name says, "" where it does not; None where it is not of the pattern's form.

    `folder` stands for the pid where the pattern has none.
    """
    groups: dict[str, str] = {}
    if pattern is not None:
        match = pattern.fullmatch(name)
        if match is None:
            return None
        groups = match.groupdict(default="")
    return groups.get("pid", folder), groups.get("camid", ""), groups.get("sequence", "")
