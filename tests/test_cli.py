"""The command line answers, and a user's mistake is no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import small

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
    for stage in ("source", "fetch", "index", "split", "cache", "plan", "train", "predict", "evaluate", "report"):
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
        "error: 1 of 60 images cannot be read; mend or remove them in the source:\n"
        f"  - {study}/data/raw/TB/tb0003.png: cannot identify image file\n"
    )
    assert sorted(path.name for path in (study / "data").iterdir()) == ["raw", "source.json"]


def test_a_score_of_an_untrained_experiment_says_so(tmp_path: Path) -> None:
    study = small.study(tmp_path)
    done = run(study, "score", "baseline")
    assert done.returncode == 1
    assert done.stderr == f"error: {study}/models/baseline/0/model.json does not exist: `dvc repro` makes it\n"
