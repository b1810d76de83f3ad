"""`xraylab doctor` says what would stop or spoil a run, each in a sentence with what to do."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xraylab import cli
from xraylab.doctor import examine, text, versions
from xraylab.doctor.finding import Finding, Subject


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["xraylab", "doctor", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def findings_of(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    monkeypatch.setattr(examine, "CHECKS", {"space": lambda subject: iter(findings)})


def test_findings_fit_80_columns_and_end_with_a_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings_of(
        monkeypatch,
        Finding("space", "ok", "12 GB are free"),
        Finding("space", "error", "no inodes are left " * 8, "delete small files " * 8),
        Finding("space", "warning", "little room"),
    )
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(monkeypatch, tmp_path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["space", "  ok       12 GB are free"]
    assert lines[2] == "  ERROR    no inodes are left no inodes are left no inodes are left no inodes"
    assert max(map(len, lines)) <= 80
    assert lines[5].startswith("           -> delete small files delete small")
    assert lines[-1] == "1 error, 1 warning"


def test_another_program_gets_a_line_for_each_finding_with_whole_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "two  spaces " + "long/" * 60 + "\u202e\udcff\x1b[2J.png"
    findings_of(monkeypatch, Finding("space", "warning", f"{name} is absent", f"rm '{name}'"))
    assert run(monkeypatch, tmp_path) == 0
    shown = name.replace("\u202e\udcff\x1b", "\\u202e\\udcff\\u001b")
    assert capsys.readouterr().out.splitlines()[1:3] == [
        f"  warning  {shown} is absent", f"           -> rm '{shown}'"
    ]  # fmt: skip
    assert run(monkeypatch, tmp_path, "--json") == 0
    written = capsys.readouterr().out
    assert (written.isascii(), json.loads(written)[0]["text"]) == (True, f"{name} is absent")


def test_warnings_alone_exit_with_0_and_json_has_every_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings_of(monkeypatch, Finding("space", "warning", "little room", "make some"))
    assert run(monkeypatch, tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {"check": "space", "level": "warning", "text": "little room", "advice": "make some"}
    ]


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(subject: Subject) -> Iterator[Finding]:
        yield Finding("a", "ok", "first")
        raise ValueError("no such thing")

    monkeypatch.setattr(
        examine, "CHECKS", {"a": broken, "b": lambda subject: iter([Finding("b", "ok", str(subject.paths))])}
    )
    assert list(examine.examine(tmp_path, deep=False)) == [
        Finding("a", "ok", "first"),
        Finding("a", "error", "this check failed: ValueError: no such thing"),
        Finding("b", "ok", "None"),
    ]


def test_only_deep_reads_what_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings_of(monkeypatch)
    monkeypatch.setattr(examine, "DEEP", {"cache": lambda subject: iter([Finding("cache", "ok", "read")])})
    assert list(examine.examine(tmp_path, deep=False)) == []
    assert [finding.check for finding in examine.examine(tmp_path, deep=True)] == ["cache"]


def test_other_versions_than_pinned_are_named(tmp_path: Path) -> None:
    installed = versions._version("numpy")
    (tmp_path / "constraints.txt").write_text(
        f"# pinned\nnumpy==0.1\nPillow=={versions._version('pillow')}\nabsent==1\n"
    )
    last = list(versions.check(Subject.at(tmp_path)))[-1]
    assert last == Finding(
        "versions",
        "warning",
        f"other versions than tested: numpy {installed} (constraints.txt: 0.1)",
        "pip install --constraint constraints.txt xraylab",
    )
    (tmp_path / "constraints.txt").write_text(f"numpy=={installed}\n")
    assert list(versions.check(Subject.at(tmp_path)))[-1].text == "1 installed packages are as in constraints.txt"


def test_nothing_wrong_is_said_too() -> None:
    assert text.summary([Finding("space", "ok", "fine")]) == "all is well"
