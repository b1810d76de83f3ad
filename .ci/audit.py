"""Audit the versions of constraints.txt against PyPI's advisories; say so where these cannot be reached.

Exit status 1 where a version has a known vulnerability.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
PROBE = "pip==25.3\n"


def audit(requirements: str) -> list[dict[str, Any]]:
    """What pip-audit says of each package; nothing where it gets no answer at all."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--format", "json"]
        done = subprocess.run([*command, "--requirement", file.name], capture_output=True, text=True, check=False)
    return json.loads(done.stdout)["dependencies"] if done.stdout.startswith("{") else []


def vulnerabilities(packages: list[dict[str, Any]]) -> list[str]:
    """A line for each known vulnerability, with the versions that mend it."""
    return [
        f"{each['name']} {each['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'no version'}"
        for each in packages
        for found in each.get("vulns", [])
    ]


def main() -> int:
    if not any("vulns" in each for each in audit(PROBE)):
        print("not audited: PyPI's advisories cannot be reached from here")
        return 0
    packages = audit(CONSTRAINTS.read_text(encoding="utf-8"))
    lines = vulnerabilities(packages)
    checked = sum("vulns" in each for each in packages)
    print(*lines, f"{checked} of {len(packages)} packages audited, {len(lines)} known vulnerabilities", sep="\n")
    return 1 if lines or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
