"""Known vulnerabilities of the pinned dependencies, by pip-audit: `make audit`.

pip-audit calls a package that it could not look up "skipped" and exits with 0. Here a package counts as audited only if a
service answered for it: exit code 1 where vulnerabilities are known, 2 where the audit could not be made or not for all.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[1] / "requirements.lock"
SERVICES = ("pypi", "osv")


def verdict(dependencies: list[dict[str, Any]], pinned: int) -> tuple[int, str]:
    """Exit code and what to print, from pip-audit's answers."""
    audited = [d for d in dependencies if "vulns" in d]
    known = [
        f"  {d['name']} {d['version']}: {v['id']}, fixed in {', '.join(v['fix_versions']) or 'no version yet'}"
        for d in audited
        for v in d["vulns"]
    ]
    lines = [f"{len(audited)} of {pinned} pinned packages audited, {len(known)} known vulnerabilities", *known]
    if not audited:
        return 2, "NOT AUDITED: no vulnerability service could be reached. Nothing is known."
    if len(audited) < pinned:
        names = sorted(d["name"] for d in dependencies if "vulns" not in d)
        lines.append(f"NOT ALL AUDITED: no answer for {', '.join(names) or 'some'}")
    return (1 if known else 2 if len(audited) < pinned else 0), "\n".join(lines)


def ask(service: str) -> list[dict[str, Any]]:
    """pip-audit's answers from one service; none where it cannot be reached."""
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder, "audit.json")
        command = [sys.executable, "-m", "pip_audit", "-r", str(LOCK), "--no-deps", "--disable-pip", "-s", service]
        subprocess.run(
            [*command, "--timeout", "10", "-f", "json", "-o", str(answers)], capture_output=True, check=False
        )
        return json.loads(answers.read_text())["dependencies"] if answers.exists() else []


def main() -> int:
    pinned = sum("==" in line for line in LOCK.read_text().splitlines() if not line.lstrip().startswith("#"))
    best = max((ask(service) for service in SERVICES), key=lambda answers: sum("vulns" in d for d in answers))
    code, text = verdict(best, pinned)
    print(text)  # noqa: T201 (a command's result)
    return code


if __name__ == "__main__":
    sys.exit(main())
