"""The command line answers, and a user's mistake is no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import small

from xraylab import files

MAIN = Path(small.REPOSITORY / "src")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, MAIN, *arguments], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )


def test_help_names_every_stage_and_imports_no_heavy_package() -> None:
    code = (
        "import sys; sys.argv = ['xraylab', '--help']\n"
        "from xraylab.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'fastai', 'pandas', 'numpy', 'sklearn') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for stage in (
        "source",
        "fetch",
        "index",
        "split",
        "cache",
        "plan",
        "train",
        "predict",
        "evaluate",
        "explain",
        "report",
    ):
        assert f" {stage} " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_outside_a_study_the_remedy_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "split")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: no params.yaml in {tmp_path}: run this command in the top folder of a study\n"


def test_a_stage_without_its_input_names_what_makes_it(tmp_path: Path) -> None:
    study = small.study(tmp_path)
    done = run(study, "split")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {study}/data/index.csv does not exist: `dvc repro` makes it\n"


def test_a_bad_source_leaves_no_half_written_output(tmp_path: Path) -> None:
    images = small.two_classes(tmp_path / "images")
    (images / "TB/tb0003.png").write_bytes(b"no picture")
    study = small.study(tmp_path / "study", small.use(images, ["Healthy", "TB"], "TB"))
    for stage in ("source", "fetch"):
        assert run(study, stage).returncode == 0
    done = run(study, "index")
    assert done.returncode == 1
    assert done.stderr == (
        "error: 1 of 60 images cannot be read; mend or remove them in the source, "
        "or set data.on_bad_image to skip:\n"
        f"  - {study}/data/raw/TB/tb0003.png: cannot identify image file\n"
    )
    assert sorted(path.name for path in (study / "data").iterdir()) == ["raw", "sides.csv", "source.json"]


def test_a_score_of_an_untrained_experiment_says_so(tmp_path: Path) -> None:
    study = small.study(tmp_path)
    done = run(study, "score", "baseline")
    assert done.returncode == 1
    assert done.stderr == f"error: {study}/models/baseline/0/model.json does not exist: `dvc repro` makes it\n"


def test_any_folder_is_audited_without_a_study(tmp_path: Path) -> None:
    images = small.two_classes(tmp_path / "images", healthy=6, tb=4)
    (images / "TB/again.png").write_bytes((images / "TB/tb0001.png").read_bytes())
    done = run(tmp_path, "audit", "images", "--json", "audit.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:6] == [
        "layout: class-folders (images lie in folders, and no other layout fits)",
        "11 images; patients: unknown",
        "    Healthy: 6 images",
        "    TB: 5 images",
        "warning: 11 images are smaller than 64 pixels",
        "    Healthy/h0001.png",
    ]
    assert (
        "warning: 1 group of images that are the same pixel for pixel\n    TB/again.png = TB/tb0001.png\n"
        in done.stdout
    )
    assert files.read_json(tmp_path / "audit.json")["images"] == 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a folder: name the folder that holds the images"),
        (["images", "--patient", "(x"], "--patient '(x' not a regular expression: missing ), "
            "unterminated subpattern at position 0"),
        (["images", "--patient", "x"], "--patient 'x' has no group (?P<patient>...)"),
        (["images", "--layout", "nhi"], "there is no layout 'nhi': there is auto, tbx11k, covid-radiography, "
            "covidx, kermany, acse4, nih, shenzhen, table, class-folders"),
    ],
)  # fmt: skip
def test_a_wrong_audit_is_an_error_without_a_traceback(arguments: list[str], message: str, tmp_path: Path) -> None:
    small.two_classes(tmp_path / "images", healthy=2, tb=2)
    done = run(tmp_path, "audit", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {message}\n")
