"""The study under the real dvc: what runs, what does not, and what survives."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import injuries
import pytest
import small
from under_dvc import committed, dvc, environment, only, ran, succeed, wait_for

from xraylab import files, running, tables, template
from xraylab.params import config
from xraylab.studies import watch

STAGES = template.stages()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments of the shipped study on the demo data, shrunk, run and committed; the tag is from before that."""
    study = committed(tmp_path_factory.mktemp("finished"), only("baseline", "dropout"))
    small.git(study, "tag", "begun")
    output, watched = _repro_watched(study)
    assert len(ran(output)) == len(set(ran(output))) == 8 + 2 + 2 + 3
    (study / ".xraylab/watched.txt").write_text(watched, encoding="utf-8")
    small.commit(study)
    return study


def _repro_watched(study: Path) -> tuple[str, str]:
    """What `dvc repro` prints, and what `xraylab watch` prints that begins after it, once both have ended well."""
    how: dict[str, Any] = {"cwd": study, "env": environment(), "text": True, "stdout": PIPE, "stderr": STDOUT}
    with subprocess.Popen([sys.executable, "-m", "dvc", "repro"], **how) as repro:
        wait_for(lambda: running.read(study / ".xraylab/running"))
        with subprocess.Popen([sys.executable, "src", "watch"], **how) as watching:
            output, watched = repro.communicate()[0], watching.communicate()[0]
    assert (repro.returncode, watching.returncode) == (0, 0), output + watched
    return output, watched


@pytest.mark.slow
def test_the_study_is_watched_from_another_terminal(finished: Path) -> None:
    lines = (finished / ".xraylab/watched.txt").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == "the study is finished: 15 stages are up to date"
    for run in ("baseline-0", "dropout-0"):
        epoch = re.compile(rf"\[train@{run}\] epoch [12]/2, train_loss \d.\d{{4}}, valid_f1 \d.\d{{4}}")
        assert any(epoch.fullmatch(line) for line in lines), lines
    assert "[evaluate] finished" in lines


@pytest.mark.slow
def test_one_command_makes_everything_to_the_report(finished: Path) -> None:
    assert set(files.read_json(finished / "reports/metrics.json")) == {"baseline", "dropout", "test.auroc"}
    assert "dropout" in (finished / "reports/index.html").read_text()
    comparison = tables.read(finished / "reports/comparison.csv")
    assert len(comparison) == 2 * 2 * 2  # experiments, best and last, validation and test
    status = subprocess.run(["git", "status", "--short"], cwd=finished, capture_output=True, text=True, check=True)
    assert status.stdout == ""


KILLS = [
    ("dvc", "caller", "SIGKILL"),
    ("dvc", "stage", "SIGTERM"),
    ("repro --jobs", "caller", "SIGTERM"),
    ("dvc", "group", "SIGINT"),
]


@pytest.mark.slow
def test_the_same_study_in_another_folder_has_the_same_bits_although_it_is_killed_on_its_way(
    finished: Path, tmp_path: Path
) -> None:
    again = injuries.study(tmp_path / "again", "baseline", "dropout")
    for seconds, (caller, target, name) in enumerate(KILLS):  # a stage imports for some seconds
        result = injuries.attempt(again, caller, target, name, seconds, importing=True)
        assert result.killed, result
        assert result.returncode is not None, result
        assert result.orphans == (), result
    succeed(again, "repro", "evaluate")
    assert injuries.left_behind(again) == []
    assert injuries.outcome(again) == injuries.outcome(finished)


@pytest.mark.slow
def test_nothing_runs_again_when_nothing_changed(finished: Path) -> None:
    assert ran(succeed(finished, "repro")) == []
    assert succeed(finished, "status") == "Data and pipelines are up to date.\n"


@pytest.mark.slow
def test_an_edit_of_the_code_runs_what_it_can_change(finished: Path) -> None:
    page = finished / "src/xraylab/report/templates/style.css"
    page.write_text(page.read_text() + "/* wider */\n")
    assert ran(succeed(finished, "repro")) == ["code", "report"]
    small.git(finished, "checkout", "--quiet", "--", ".")
    succeed(finished, "checkout")


@pytest.mark.slow
def test_another_rule_of_resolution_writes_the_configs_anew_and_retrains_where_one_changed(finished: Path) -> None:
    rules = finished / "src/xraylab/params/config.py"
    merging = "        overrides = merge(self.experiments[name], search.unflatten(values or {}))\n"
    for rule, changed in (("", set()), ('"model": {"dropout": 0.25}', {"train@dropout-0"})):
        other = f"        overrides = merge(overrides, {{{rule}}} if name == 'dropout' else {{}})\n"
        small.git(finished, "checkout", "--quiet", "--", ".")
        text = rules.read_text()
        assert merging in text
        rules.write_text(text.replace(merging, merging + other))
        assert ran(succeed(finished, "repro", "configure"))[-1] == "configure"
        stale = json.loads(succeed(finished, "status", "--json"))
        assert {name for name in stale if name.startswith("train@")} == changed
    small.git(finished, "checkout", "--quiet", "--", ".")
    succeed(finished, "checkout")


@pytest.mark.slow
def test_a_tried_change_retrains_what_it_touches_and_the_metrics_say_what_it_did(finished: Path) -> None:
    output = succeed(finished, "exp", "run", "-S", "model.dropout=0.5")
    trained = [name for name in ran(output) if name.startswith("train@")]
    assert trained == ["train@baseline-0"]
    assert not {"fetch", "index", "split", "cache"} & set(ran(output))
    diff = succeed(finished, "metrics", "diff", "--targets", "reports/evaluation/test_metrics.json")
    assert "baseline.test.auroc" in diff
    assert "dropout.test" not in diff
    columns = succeed(finished, "exp", "show", "--csv").splitlines()[0].split(",")
    assert columns[5 : columns.index("study.title")] == ["baseline", "dropout", "test.auroc", "baseline-0.f1"]
    code = [column for column in columns if column.startswith(("code/", "src/"))]
    assert code == [*sorted(f"code/{name}.txt" for name in STAGES if name != "code"), "src/xraylab"]
    told = subprocess.run(
        [sys.executable, "src", "experiments"], cwd=finished, env=environment(COLUMNS="120"),
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert {tuple(line.split()[:2]) for line in told[1:]} >= {("workspace", "baseline/0"), ("master", "dropout/0")}
    assert any(line.split()[-1] == "model.dropout=0.5" for line in told if line.startswith(" workspace"))
    succeed(finished, "plots", "diff")
    page = (finished / "dvc_plots/index.html").read_text()
    drawn = re.findall(r"vegaEmbed\('#reports_plots_(\w+)_csv', spec\)", page)
    assert drawn == ["loss", "monitor", "roc", "calibration"]
    assert all(f'"rev": "{version}"' in page for version in ("workspace", "HEAD"))
    assert {"workspace_reports_plots_confusion.svg", "HEAD_reports_plots_confusion.svg"} <= {
        path.name for path in (finished / "dvc_plots/static").iterdir()
    }
    small.git(finished, "checkout", "--quiet", "--", ".")
    succeed(finished, "checkout")


@pytest.mark.slow
def test_an_evaluation_does_not_train(finished: Path) -> None:
    small.edit(finished, lambda tree: tree["study"].update(baseline="dropout"))
    assert ran(succeed(finished, "repro")) == ["evaluate", "report"]
    small.git(finished, "checkout", "--quiet", "--", ".")


@pytest.mark.slow
def test_a_removed_experiment_leaves_nothing_behind(finished: Path) -> None:
    small.edit(finished, lambda tree: tree["experiments"].pop("dropout"))
    assert ran(succeed(finished, "repro")) == ["configure", "features", "evaluate", "explain", "report"]
    assert not (finished / "models/dropout").exists()
    assert "dropout" not in files.read_json(finished / "reports/metrics.json")
    small.git(finished, "checkout", "--quiet", "--", ".")
    succeed(finished, "checkout")


@pytest.mark.slow
def test_another_clones_finished_work_is_restored_without_training(finished: Path, tmp_path: Path) -> None:
    small.git(tmp_path, "clone", "--quiet", "--branch", "begun", str(finished), "ours")
    ours = tmp_path / "ours"
    for clone in (finished, ours):
        succeed(clone, "remote", "add", "--default", "--local", "shared", str(tmp_path / "remote"))
    succeed(finished, "push", "--run-cache")
    output = succeed(ours, "repro", "--pull")
    assert ran(output) == ["source"]
    assert "Stage 'train@baseline-0' is cached - skipping run" in output
    assert (ours / "reports/index.html").read_bytes() == (finished / "reports/index.html").read_bytes()


@pytest.mark.slow
def test_a_changed_folder_behind_an_unchanged_name_is_noticed(tmp_path: Path) -> None:
    images = small.two_classes(tmp_path / "images")
    study = committed(tmp_path / "study", small.use(images, ["Healthy", "TB"], "TB"))
    watch.write(config.read(study / "params.yaml"), study)
    assert ran(succeed(study, "repro", "split")) == ["code", "source", "fetch", "index", "split"]
    assert ran(succeed(study, "repro", "split")) == []
    assert succeed(study, "status", "source") == "Data and pipelines are up to date.\n"
    small.write_images(images, ["Healthy/h0003.png"], seed=99)
    assert f"modified:           {images}" in succeed(study, "status", "source")
    assert ran(succeed(study, "repro", "split")) == ["source", "fetch", "index", "split"]
    assert (study / "data/raw/Healthy/h0003.png").read_bytes() == (images / "Healthy/h0003.png").read_bytes()


@pytest.mark.slow
def test_a_queued_experiment_runs_the_code_of_its_own_checkout(tmp_path: Path) -> None:
    study = committed(tmp_path / "study", only("baseline"))
    succeed(study, "repro", "configure")
    small.commit(study)
    succeed(study, "exp", "run", "--queue", "-S", "train.epochs=3", "configure")
    code = study / "src/xraylab/stages/configure.py"
    code.write_text("raise SystemExit('this is the code of the workspace')\n")
    installed = {"PYTHONPATH": str(study / "src")}  # as an editable install of the workspace would have it
    workspace = subprocess.run(
        [sys.executable, "src", "configure"], cwd=study, env=environment(), capture_output=True, text=True, check=False
    )
    assert "this is the code of the workspace" in workspace.stderr
    succeed(study, "queue", "start", **installed)
    wait_for(lambda: re.search("Success|Failed", succeed(study, "queue", "status")) is not None)
    assert "Success" in succeed(study, "queue", "status")


def test_an_unknown_parameter_stops_dvc_before_anything_is_written(tmp_path: Path) -> None:
    study = committed(tmp_path / "study", lambda tree: tree["train"].update(lrr=1e-3))
    done = dvc(study, "repro")
    assert done.returncode != 0
    assert "error: params.yaml cannot be used:\n  - train.lrr: unknown key; did you mean train.lr?" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (study / "data").exists()


def test_an_experiments_name_is_never_run_by_the_shell(tmp_path: Path) -> None:
    study = committed(tmp_path / "study", lambda tree: tree["experiments"].update({"x; touch hacked": {}}))
    done = dvc(study, "repro")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(study.rglob("hacked"))


def test_an_interpreter_without_the_packages_is_told_to_activate_the_environment(tmp_path: Path) -> None:
    study = small.study(tmp_path / "study")
    bare = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    done = subprocess.run(
        [bare, "-S", "-I", "src", "source"], cwd=study, capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 1
    assert "which xraylab needs." in done.stderr
    assert "source .venv/bin/activate" in done.stderr
    assert "Traceback" not in done.stderr
