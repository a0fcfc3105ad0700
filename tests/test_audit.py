"""The audit of dependencies never passes for want of an answer."""

import importlib.util
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("audit", Path(__file__).parents[1] / ".ci" / "audit.py")
assert SPEC is not None
audit = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit)

CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (3)"}


@pytest.mark.parametrize(
    ("answers", "pinned", "code", "says"),
    [
        ([CLEAN], 1, 0, "1 of 1 pinned packages audited, 0 known vulnerabilities"),
        ([CLEAN, BAD], 2, 1, "b 2: CVE-1, fixed in 2.1"),
        ([SKIPPED, SKIPPED], 2, 2, "NOT AUDITED: no vulnerability service could be reached"),
        ([], 2, 2, "NOT AUDITED"),
        ([CLEAN, SKIPPED], 2, 2, "NOT ALL AUDITED: no answer for c"),
        ([BAD, SKIPPED], 2, 1, "NOT ALL AUDITED: no answer for c"),
    ],
)
def test_verdict(answers, pinned, code, says):
    got, text = audit.verdict(answers, pinned)
    assert got == code
    assert says in text
