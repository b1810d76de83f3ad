"""What reaches a terminal: text that comes from outside cannot steer it, hide in it, or end the program."""

import io
import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from rich.live import Live
from rich.table import Table
from strategies import HOSTILE, any_text

from xraylab import cli, errors, progress, text
from xraylab.cli.common import print_lines
from xraylab.terminal import Console
from xraylab.text import printable

ESCAPED = {
    "\x1b[31mred": r"\u001b[31mred",
    "a\rb": r"a\u000db",
    "\x00\x07\x7f\x9b": r"\u0000\u0007\u007f\u009b",
    "xray\u202egnp.exe": r"xray\u202egnp.exe",
    "\udcff.png": r"\udcff.png",
    "\u2028\ufeff\u200b": r"\u2028\ufeff\u200b",
    "\U000e0041": r"\udb40\udc41",
}
READABLE = ("two\nlines\tand a tab", "é 肺 👩\u200d⚕️ می\u200cخواهم", "a\u00a0b", r"C:\new <b> 'x'", "")


@pytest.mark.parametrize(("raw", "escaped"), ESCAPED.items())
def test_what_steers_or_reorders_is_escaped(raw: str, escaped: str) -> None:
    assert printable(raw) == escaped


@pytest.mark.parametrize("readable", READABLE)
def test_what_people_write_stays(readable: str) -> None:
    assert printable(readable) == readable


@given(any_text)
def test_printable_text_has_no_controls_and_stays_as_it_is(raw: str) -> None:
    shown = printable(raw)
    categories = {unicodedata.category(char) for char in shown if char not in "\n\t\u200c\u200d"}
    assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert printable(shown) == shown
    shown.encode()


@given(any_text)
def test_json_stays_json_of_the_same_value(raw: str) -> None:
    assert json.loads(printable(json.dumps(raw, ensure_ascii=False))) == raw


def test_the_middle_of_a_long_text_is_left_out() -> None:
    shown = printable("where: " + "x" * 1_000_000 + " what to do")
    assert text.LONGEST - 1 <= len(shown) <= text.LONGEST
    assert re.fullmatch(r"where: x+ \[\.\.\.\] x+ what to do", shown)


def test_an_error_shows_names_escaped() -> None:
    error = errors.DataError("\x1b[2Jscan\r.png is damaged", ["a\u202eb"])
    assert str(error) == "\\u001b[2Jscan\\u000d.png is damaged\n  - a\\u202eb"


def test_a_line_of_progress_is_printable(capsys: pytest.CaptureFixture[str]) -> None:
    progress.say("reading \x1b]0;title\x07.png")
    assert capsys.readouterr().err == "reading \\u001b]0;title\\u0007.png\n"


def test_whatever_a_command_prints_is_printable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(prog_name: str) -> None:
        print_lines(["\x1b[2J\udcff"])
        sys.stderr.write("a\rb\n")
        raise errors.DataError("\x9b31m")

    monkeypatch.setattr(cli, "app", command)
    streams = sys.stdout, sys.stderr
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert out == "\\u001b[2J\\udcff\n"
    assert err == "a\\u000db\nerror: \\u009b31m\n"
    assert (sys.stdout, sys.stderr) == streams


def test_an_unknown_command_with_controls_in_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["xraylab", "\x9b2Jnone"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "\x9b" not in capsys.readouterr().err


class Screen(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def test_a_bar_moves_and_what_is_printed_beside_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich's own codes reach the terminal, also while it catches the standard streams."""
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    table = Table("name of a file")
    table.add_row("scan\x1b[2J\r")
    with text.printable_streams():
        console = Console()
        with Live(table, console=console, auto_refresh=False):
            print_lines(["beside \x1b[2J\x9b2J"])
        console.print("[bold]done\udcff")
    written = screen.getvalue()
    assert "\x1b[1mdone" in written, "bold is rich's"
    assert [shown for shown in (r"scan\u001b[2J", r"beside \u009b2J", r"\udcff") if shown not in written] == []
    assert [raw for raw in ("scan\x1b", "beside \x1b", "\x9b", "\udcff") if raw in written] == []


def test_a_download_bar_moves(capsys: pytest.CaptureFixture[str]) -> None:
    with text.printable_streams():
        sys.stderr.write("\r 50% of a\x1b[2J")
    assert capsys.readouterr().err == "\r 50% of a\\u001b[2J"


def test_a_table_that_another_program_reads_is_exact(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with text.printable_streams():
        text.exact(sys.stdout).write("a\x1b\n")
    assert capsys.readouterr().out == "a\x1b\n"
    monkeypatch.setattr(sys, "stdout", Screen())
    with text.printable_streams():
        assert text.exact(sys.stdout) is sys.stdout, "a terminal"


def test_names_of_files_keep_their_bytes(tmp_path: Path) -> None:
    """The strategies' hostile pieces are names that this file system holds, so that tests can write them."""
    names = [piece for piece in HOSTILE if "/" not in piece and "\0" not in piece]
    for name in names:
        (tmp_path / name).touch()
    assert {path.name for path in tmp_path.iterdir()} == set(names)
