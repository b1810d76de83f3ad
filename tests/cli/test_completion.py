"""Tab completes commands, experiments and trained runs, from light imports, and is silent where there is no study."""

import subprocess
import sys
from pathlib import Path

import pytest
import small
from under_dvc import environment

HEAVY = ("torch", "fastai", "timm", "dvc", "pandas", "numpy", "sklearn", "matplotlib")
CODE = f"""
import sys
from xraylab.cli import main
try: main()
except SystemExit as ended: print("exit", ended.code or 0)
print([name for name in {HEAVY} if name in sys.modules])
"""


def complete(folder: Path, line: str) -> list[str]:
    """What bash would offer after `line`."""
    words = line.split(" ")
    asking = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_XRAYLAB_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=folder, env=environment(**asking), capture_output=True, text=True, check=True
    )
    *offered, ended, heavy = done.stdout.splitlines()
    assert (ended, heavy, done.stderr) == ("exit 0", "[]", "")
    return [name for name in offered if name]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "params.yaml").write_text("experiments:\n  baseline: {}\n  bigger: {}\n  l2: {}\n")
    for run in ("baseline/0", "baseline/1", "baseline/notes"):
        (folder / "models" / run).mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("xraylab train b", ["baseline", "bigger"]),
        ("xraylab predict-images ba", ["baseline", "baseline/0", "baseline/1"]),
        ("xraylab evaluate-checkpoint baseline/1", ["baseline/1"]),
        ("xraylab lr-f", ["lr-find"]),
    ],
)
def test_names_of_the_study_are_offered(study: Path, line: str, offered: list[str]) -> None:
    assert complete(study, line) == offered


@pytest.mark.parametrize("text", [None, "a: [", "experiments: 3\n", "- 1\n", "\x00"])
def test_a_missing_or_broken_study_offers_nothing(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "params.yaml").write_text(text)
    assert complete(tmp_path, "xraylab train ") == []


def test_the_script_for_bash_is_valid_and_completes_xraylab() -> None:
    shown = subprocess.run(
        [sys.executable, str(small.REPOSITORY / "src"), "--show-completion", "bash"],
        env=environment(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "complete -o default -F _xraylab_completion xraylab" in shown
    subprocess.run(["bash", "-n"], input=shown, text=True, check=True)
