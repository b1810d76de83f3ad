"""The command line answers, and a user's mistake is no traceback."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import small

from xraylab import cli, files
from xraylab.studies import scaffold

MAIN = Path(small.REPOSITORY / "src")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `xraylab` with arguments in a folder: its exit status, and what it says on both streams."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["xraylab", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


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
        "code",
        "source",
        "fetch",
        "index",
        "split",
        "cache",
        "configure",
        "train",
        "predict",
        "evaluate",
        "explain",
        "report",
    ):
        assert f" {stage} " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("evaluate-checkpoint", "score"),
        ("external-test", "external"),
        ("predict-images", "classify"),
        ("repro", "run"),
        ("configure", "plan"),
    ],
)
def test_a_command_answers_to_its_old_name_which_the_help_leaves_out(
    name: str, old: str, tmp_path: Path, run: Run
) -> None:
    code, text, _ = run(tmp_path, name, "--help")
    assert (code, run(tmp_path, old, "--help")[1].split()) == (
        0,
        text.replace(f"xraylab {name}", f"xraylab {old}").split(),
    )
    commands = [line.split()[1] for line in run(tmp_path, "--help")[1].splitlines() if line.startswith("│ ")]
    assert (name in commands, old in commands) == (True, False)


def test_no_command_takes_the_name_of_another() -> None:
    every = [
        command
        for group in cli.app.registered_groups
        for command in (group.typer_instance or cli.app).registered_commands
    ]
    names = [each.name or each.callback.__name__.replace("_", "-") for each in every if each.callback]
    assert len(names) > 30
    assert sorted(names) == sorted(set(names))


def test_help_is_grouped_in_the_order_of_work(tmp_path: Path, run: Run) -> None:
    panels = [line.strip("╭╮─ ") for line in run(tmp_path, "--help")[1].splitlines() if line.startswith("╭")]
    assert panels == [
        "Options", "Start a study", "Stages, in the order of dvc.yaml", "Run and search", "Results",
        "Use trained models", "Share models", "Health",
    ]  # fmt: skip


def test_outside_a_study_the_remedy_is_named(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, MAIN, "split"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: no params.yaml in {tmp_path}: run this command in the top folder of a study\n"


def test_a_stage_without_its_input_names_what_makes_it(tmp_path: Path, run: Run) -> None:
    study = small.study(tmp_path)
    error = f"split: starting\nerror: {study}/data/index.csv does not exist: `dvc repro` makes it\n"
    assert run(study, "split") == (1, "", error)


def test_a_bad_source_leaves_no_half_written_output(tmp_path: Path, run: Run) -> None:
    images = small.two_classes(tmp_path / "images")
    (images / "TB/tb0003.png").write_bytes(b"no picture")
    study = small.study(tmp_path / "study", small.use(images, ["Healthy", "TB"], "TB"))
    for stage in ("source", "fetch"):
        assert run(study, stage)[0] == 0
    code, _, error = run(study, "index")
    assert code == 1
    assert error == (
        "index: starting\nerror: 1 of 60 images cannot be read; mend or remove them in the source, "
        "or set data.on_bad_image to skip:\n"
        f"  - {study}/data/raw/TB/tb0003.png: cannot identify image file\n"
    )
    assert sorted(path.name for path in (study / "data").iterdir()) == ["given_splits.csv", "raw", "source.json"]


def test_a_refused_value_leaves_a_params_yaml_that_git_sees_as_changed(tmp_path: Path, run: Run) -> None:
    """`dvc exp run -S` writes it in the second, and in the size, of the one that git knows."""
    study = small.study(tmp_path)
    params = study / "params.yaml"
    params.write_text(params.read_text().replace("lr: 1e-3", "lr:  0.1"))
    os.utime(params, (1e9, 1e9))
    small.commit(study)
    small.git(study, "config", "core.trustctime", "false")  # else git sees the change where a second ends in between
    params.write_text(params.read_text().replace("lr:  0.1", "lr: -0.1"))
    os.utime(params, (1e9, 1e9 + 0.5))
    status = ["git", "-C", str(study), "status", "--short"]
    assert subprocess.check_output(status, text=True) == ""
    code, _, error = run(study, "configure")
    assert (code, "train.lr" in error) == (1, True)
    assert subprocess.check_output(status, text=True) == " M params.yaml\n"


def test_a_stage_of_another_version_is_not_run(tmp_path: Path, run: Run) -> None:
    scaffold.new(tmp_path / "new", None, [], published=False)
    assert run(tmp_path / "new", "code")[0] == 0
    noted = tmp_path / "new/code/configure.txt"
    noted.write_text(noted.read_text().replace("torch ", "torch 0."))
    code, _, error = run(tmp_path / "new", "configure")
    assert (code, (tmp_path / "new/configs").exists()) == (1, False)
    assert "error: code/configure.txt is the fingerprint of another version (torch differs): run" in error


def test_a_score_of_an_untrained_experiment_says_so(tmp_path: Path, run: Run) -> None:
    study = small.study(tmp_path)
    advice = "`dvc repro` trains what params.yaml names under experiments and study.repeats"
    assert run(study, "evaluate-checkpoint", "baseline") == (1, "", f"error: baseline/0 is not trained. {advice}\n")
    for name in ("baseline/0", "dropout/1"):
        files.write_json({}, study / "models" / name / "model.json")
    near = "did you mean baseline/0? Trained: baseline/0, dropout/1"
    assert run(study, "evaluate-checkpoint", "baselin/0") == (
        1,
        "",
        f"error: baselin/0 is not trained; {near}. {advice}\n",
    )
    assert run(study, "evaluate-checkpoint", "baseline/x")[2].startswith(
        "error: 'baseline/x' names no run: write experiment or"
    )


def test_the_version_is_told(tmp_path: Path, run: Run) -> None:
    assert run(tmp_path, "--version") == (0, f"xraylab {version('xraylab')}\n", "")


def test_showing_no_study_lists_them_all(tmp_path: Path, run: Run) -> None:
    assert run(tmp_path, "study", "show") == run(tmp_path, "study", "list")
    assert run(tmp_path, "study", "list")[1].startswith("covid4 ")


@pytest.mark.parametrize("how", [["study", "tb"], ["study", "use", "tb"]])
def test_a_study_is_taken_with_and_without_the_word_use(how: list[str], tmp_path: Path, run: Run) -> None:
    study = small.study(tmp_path / "study")
    assert run(study, *how, "--force")[1].startswith("params.yaml is the study tb now")
    assert files.read_yaml(study / "params.yaml")["study"]["preset"] == "tb"


def test_any_folder_is_audited_without_a_study(tmp_path: Path, run: Run) -> None:
    images = small.two_classes(tmp_path / "images", healthy=6, tb=4)
    (images / "TB/again.png").write_bytes((images / "TB/tb0001.png").read_bytes())
    code, said, error = run(tmp_path, "audit", "images", "--json", "audit.json")
    assert (code, error) == (0, "")
    assert said.splitlines()[:6] == [
        "layout: class-folders (images lie in folders, and no other layout fits)",
        "11 images; patients: unknown",
        "    Healthy: 6 images",
        "    TB: 5 images",
        "warning: 11 images are smaller than 64 pixels",
        "    Healthy/h0001.png",
    ]
    assert "warning: 1 group of images that are the same pixel for pixel\n    TB/again.png = TB/tb0001.png\n" in said
    assert files.read_json(tmp_path / "audit.json")["images"] == 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a folder: name the folder that holds the images"),
        (["images", "--patient", "(x"], "--patient '(x' not a regular expression: missing ) at position 2"),
        (["images", "--patient", "x"], "--patient 'x' has no group (?P<patient>...)"),
        (["images", "--layout", "nhi"], "there is no layout 'nhi': there is auto, tbx11k, covid-radiography, "
            "covidx, kermany, acse4, nih, chexpert, "
            "mimic-cxr, vindr, padchest, shenzhen, table, class-folders"),
    ],
)  # fmt: skip
def test_a_wrong_audit_is_an_error_without_a_traceback(
    arguments: list[str], message: str, tmp_path: Path, run: Run
) -> None:
    small.two_classes(tmp_path / "images", healthy=2, tb=2)
    assert run(tmp_path, "audit", *arguments) == (1, "", f"error: {message}\n")


@pytest.mark.parametrize("flag", ["--attach", "--commit", "--time=9"])
def test_flags_of_a_cluster_are_refused_without_one(flag: str, tmp_path: Path, run: Run) -> None:
    code, _, err = run(small.study(tmp_path), "repro", flag)
    assert (code, f"{flag.partition('=')[0]} is for a cluster: add --on slurm or --on ray" in err) == (1, True)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left", "raw"),
            "raw: No space left: free some room there",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "models"),
            "models: Permission denied: change its",
        ),
        (OSError("1000 requested and 262 written"), "1000 requested and 262 written"),
        (MemoryError("Unable to allocate 9 GiB"), "memory ran out: Unable to allocate 9 GiB: close other programs"),
        (EOFError(), "a file ends early"),
        (RecursionError("maximum recursion depth exceeded"), "a file is nested too deeply"),
        (
            RuntimeError("CUDA error: unspecified launch failure\nCompile with"),
            "the GPU failed: CUDA error: unspecified",
        ),
        (RuntimeError("No CUDA GPUs are available"), "the GPU failed: No CUDA GPUs are available: see `nvidia-smi`"),
    ],
)
def test_a_failure_of_the_system_is_a_sentence(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("xraylab.paths.Paths.here", fail)
    status, _, said = run(tmp_path, "evaluate")
    assert (status, said.startswith(f"error: {message}")) == (1, True)
    monkeypatch.setenv("XRAYLAB_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["xraylab", "evaluate"])
    with pytest.raises((type(error), SystemExit)):
        cli.main()


def test_a_fault_of_ours_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xraylab.paths.Paths.here", lambda: {}["no such key"])
    monkeypatch.setattr(sys, "argv", ["xraylab", "evaluate"])
    with pytest.raises(KeyError):
        cli.main()
