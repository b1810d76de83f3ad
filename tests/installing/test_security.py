"""SECURITY.md's lowest versions, in pyproject.toml and constraints.txt; and what the audit of versions prints."""

import importlib.util
import itertools
import re
import tomllib
from types import ModuleType
from typing import Any

import pytest
import small
from packaging.requirements import Requirement
from packaging.version import Version

ROWS = re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", (small.REPOSITORY / "SECURITY.md").read_text(), re.MULTILINE)
PINS = dict(line.split("==") for line in (small.REPOSITORY / "constraints.txt").read_text().lower().splitlines())
PROJECT = tomllib.loads((small.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", small.REPOSITORY / ".ci/audit.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("package", "lowest"), ROWS)
def test_no_vulnerable_version_can_be_installed(package: str, lowest: str) -> None:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    bounds = [
        Version(each.version)
        for line in itertools.chain(*groups)
        if (requirement := Requirement(line)).name == package
        for each in requirement.specifier
        if each.operator == ">="
    ]
    assert bounds
    assert min(bounds) >= Version(lowest)
    assert Version(PINS[package]) >= Version(lowest)


def answer(package: str, version: str, *fixed: str) -> dict[str, Any]:
    vulnerabilities = [{"id": "PYSEC-0", "fix_versions": list(fixed)}] if fixed else []
    return {"name": package, "version": version, "vulns": vulnerabilities}


def test_a_known_vulnerability_fails_and_names_the_mend(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "audit", lambda text: [answer("good", "1"), answer("bad", "1", "1.1", "2.0")])
    assert audit.main() == 1
    assert capsys.readouterr().out.splitlines() == [
        "bad 1: PYSEC-0, fixed in 1.1, 2.0",
        "2 of 2 packages audited, 1 known vulnerabilities",
    ]


def test_without_advisories_it_is_said(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "audit", lambda text: [{"name": "pip", "skip_reason": "not found"}])
    assert audit.main() == 0
    assert capsys.readouterr().out == "not audited: PyPI's advisories cannot be reached from here\n"
