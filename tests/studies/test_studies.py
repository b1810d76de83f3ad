"""Presets and new studies: whose values they are, that they can be read, and that the installed package runs them."""

import difflib
import itertools
import os
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import finished_study
import numpy as np
import pandas as pd
import pytest
import small
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML
from statsmodels.stats.contingency_tables import mcnemar

from xraylab import code, files, tables, targets, template
from xraylab.errors import DataError, MissingError, ParamsError
from xraylab.params import config
from xraylab.paths import Paths
from xraylab.report.records import Spread
from xraylab.stages import code as stages_code
from xraylab.stages import configure, evaluate, report
from xraylab.studies import comparison, describe, presets, scaffold, write

PRESETS = presets.names()
BOTH = pytest.mark.parametrize("published", [False, True], ids=["honest", "published"])


def written(tmp_path: Path, name: str | None, published: bool, data: str | None = None) -> Path:
    preset = presets.read(name) if name else None
    files.write_text(
        write.params_text(preset, published, {"data.source": data} if data else {}), tmp_path / "params.yaml"
    )
    return tmp_path / "params.yaml"


def test_without_a_preset_it_is_the_shipped_file(tmp_path: Path) -> None:
    shipped = small.REPOSITORY / "params.yaml"
    assert written(tmp_path, None, published=False).read_text() == shipped.read_text()


@BOTH
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_makes_parameters_that_hold_its_values(name: str, published: bool, tmp_path: Path) -> None:
    preset = presets.read(name)
    path = written(tmp_path, name, published)
    assert config.read(path).study.preset == name
    tree = files.read_yaml(path)
    for dotted, value in presets.leaves(preset.values(published)):
        place = tree
        for key in dotted.split("."):
            place = place[key]
        assert place == value, dotted


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_of_a_preset_belongs_to_one_of_two(name: str) -> None:
    preset = presets.read(name)
    theirs, ours = dict(presets.leaves(preset.published)), dict(presets.leaves(preset.ours))
    assert not set(theirs) & set(ours)
    assert set(dict(presets.leaves(preset.as_published))) in (set(), set(dict(presets.leaves(preset.honest))))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_never_chooses_on_test_data_unless_asked(name: str) -> None:
    assert presets.read(name).values(published=False)["train"]["monitor"].startswith("valid_")


def test_each_value_says_whose_it_is(tmp_path: Path) -> None:
    text = written(tmp_path, "tb", published=False).read_text()
    assert "  batch_size: 4               # published\n" in text
    assert "  size: 512                   # ours; height and width of the cached images, each decoded once\n" in text
    assert "  clahe:                      # clip limit of contrast-limited" in text


def test_the_published_metrics_of_tb_stand_in_its_preset() -> None:
    """760 + 160 test images: accuracies are whole images, and the confusions add up to them."""
    for row in presets.read("tb").results["rows"]:
        right = sum(int(part.split()[place]) for place, part in enumerate(str(row[4]).split(" / ")))
        assert round(right / 920, 6) == row[2]


def test_no_experiment_of_the_published_tb_table_is_shown_to_differ() -> None:
    sentences = comparison.published_tests(presets.read("tb").results)
    assert sentences[1] == (
        "dropout against baseline: 913 against 910 of 920 images right, p at least 0.38: not shown to differ."
    )
    assert len(sentences) == 4
    assert all("not shown to differ" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("first", "second"), [([[6, 6], [5, 7]], [[11, 1], [6, 6]]), ([[20, 5], [9, 6]], [[8, 17], [9, 6]])]
)
def test_no_pairing_of_the_images_has_a_smaller_p(first: list[list[int]], second: list[list[int]]) -> None:
    """Every number of images of each class that both got right is tried."""
    pairings = []
    shared = [
        range(max(0, a[label] + b[label] - sum(a)), min(a[label], b[label]) + 1)
        for label, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    for both in itertools.product(*shared):
        alone = [sum(m[label][label] - both[label] for label in range(2)) for m in (first, second)]
        pairings.append(mcnemar([[0, alone[0]], [alone[1], 0]], exact=True).pvalue)
    assert comparison.smallest_p(first, second) == pytest.approx(min(pairings))
    assert len(set(pairings)) > 1


def test_an_unknown_study_is_named_with_those_there_are() -> None:
    with pytest.raises(ParamsError) as caught:
        presets.read("tbx")
    assert str(caught.value) == f"there is no study 'tbx': there is {', '.join(PRESETS)}"


def test_a_wrong_preset_stops_configure(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path)
    wrong = given.model_copy(update={"study": given.study.model_copy(update={"preset": "tbx"})})
    with pytest.raises(ParamsError, match="there is no study 'tbx'"):
        configure.run(wrong, paths)


def test_an_edited_params_yaml_is_not_overwritten(tmp_path: Path) -> None:
    small.study(tmp_path)
    small.commit(tmp_path)
    (tmp_path / "params.yaml").write_text((tmp_path / "params.yaml").read_text() + "# mine\n")
    before = (tmp_path / "params.yaml").read_bytes()
    with pytest.raises(DataError) as caught:
        scaffold.use(tmp_path, "tb", None, published=False, force=False)
    assert str(caught.value) == (
        f"{tmp_path / 'params.yaml'} has changes that git does not know: commit them, or overwrite them with --force"
    )
    assert (tmp_path / "params.yaml").read_bytes() == before
    scaffold.use(tmp_path, "tb", None, published=False, force=True)
    assert config.read(tmp_path / "params.yaml").study.preset == "tb"


def test_a_study_needs_a_params_yaml(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"^no params\.yaml in"):
        scaffold.use(tmp_path, "tb", None, published=False, force=False)


def test_a_new_study_goes_to_a_new_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").touch()
    with pytest.raises(DataError) as caught:
        scaffold.new(tmp_path / "there", None, [], published=False)
    assert str(caught.value) == f"{tmp_path / 'there'} exists and is not empty: name a new folder"
    lines = scaffold.new(tmp_path / "new", "tb", [], published=False)
    assert "    set data.source in params.yaml (the study's own: kaggle:usmanshams/tbx-11)" in lines
    assert (tmp_path / "new/.git").is_dir()


def test_a_new_study_depends_on_the_installed_code_and_on_nothing_of_a_checkout(tmp_path: Path) -> None:
    scaffold.new(tmp_path / "new", None, [], published=False)
    stages = YAML(typ="safe").load(tmp_path / "new/dvc.yaml")["stages"]
    shipped = template.stages()
    assert list(stages) == list(shipped)
    assert "deps" not in stages["code"]
    for name, stage in stages.items():
        assert stage["cmd"] == shipped[name]["cmd"].replace("python src", "xraylab")
        kept = [dep for dep in shipped[name]["deps"] if dep not in ("src/xraylab", "constraints.txt")]
        assert stage.get("deps", []) == kept
    stages_code.run(config.read(tmp_path / "new/params.yaml"), Paths(tmp_path / "new"))
    written = {f"code/{path.name}" for path in (tmp_path / "new/code").iterdir()}
    assert written == {f"code/{name}.txt" for name in shipped if name != "code"}
    assert f"torch {code.metadata.version('torch')}\n" in (tmp_path / "new/code/train.txt").read_text()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose stage `a` imports room.b and reads a template beside it."""
    package = tmp_path / "xraylab"
    files.write_text("from xraylab import errors\nfrom xraylab.room.b import value\n", package / "stages/a.py")
    files.write_text("value = 1\n", package / "room/b.py")
    for name in ("room/page.j2", "room/c.py", "errors.py", "room/__pycache__/b.pyc"):
        files.write_text("as it was", package / name)
    monkeypatch.setattr(template, "PACKAGE", package)
    return package


def test_a_fingerprint_names_the_files_that_a_stage_runs_and_reads(package: Path) -> None:
    first = code.fingerprint("a", libraries=False)
    assert [line.split()[0] for line in first.splitlines()] == [
        "xraylab/room/b.py", "xraylab/room/page.j2", "xraylab/stages/a.py"
    ]  # fmt: skip
    for name in ("room/c.py", "errors.py", "room/__pycache__/b.pyc"):
        (package / name).write_text("another")
    assert code.fingerprint("a", libraries=False) == first
    (package / "room/page.j2").write_text("another")
    old, new = first.splitlines(), code.fingerprint("a", libraries=False).splitlines()
    assert [old[0], old[2]] == [new[0], new[2]]
    assert old[1] != new[1]


def test_how_params_are_resolved_is_part_of_the_fingerprint_of_configure_alone(package: Path) -> None:
    for stage in ("a", "configure"):
        files.write_text("from xraylab.params import config\n", package / f"stages/{stage}.py")
    files.write_text("from xraylab.params.model import Model\n", package / "params/config.py")
    files.write_text("Model = 1\n", package / "params/model.py")
    before = {stage: code.fingerprint(stage, libraries=False).splitlines() for stage in ("a", "configure")}
    (package / "params/model.py").write_text("Model = 2\n")
    after = {stage: code.fingerprint(stage, libraries=False).splitlines() for stage in ("a", "configure")}
    assert before["a"] == after["a"]
    changed = [line.split()[0] for line in after["configure"] if line not in before["configure"]]
    assert changed == ["xraylab/params/model.py"]


def test_a_stage_of_another_version_than_the_fingerprints_is_refused(package: Path, tmp_path: Path) -> None:
    code.check("a", tmp_path / "code")  # nothing was fingerprinted
    files.write_text(code.fingerprint("a", libraries=True), tmp_path / "code/a.txt")
    code.check("a", tmp_path / "code")
    (package / "room/b.py").write_text("value = 2\n")
    with pytest.raises(DataError) as caught:
        code.check("a", tmp_path / "code")
    assert str(caught.value) == (
        "code/a.txt is the fingerprint of another version (xraylab/room/b.py differs): run `dvc repro --force code`, "
        "then `dvc repro`, which runs again what the difference can change"
    )


def test_studies_are_told() -> None:
    assert any(line.startswith("tb") for line in describe.list_studies())
    shown = describe.show_study(presets.read("tb"))
    assert "  train.batch_size = 4  (published)" in shown
    assert "  images.size = 512  (ours)" in shown
    assert "  train.monitor = test_f1" in shown
    assert "  train.monitor = valid_f1  (ours)" in shown


def spread(experiment: str, class_: str, metric: str, mean: float | None, **other: str) -> Spread:
    known = {"split": "test", "checkpoint": "best", "kind": "repeat"} | other
    return Spread(**known, experiment=experiment, class_=class_, metric=metric, mean=mean, sd=None, n=1)


@pytest.mark.parametrize("images", [{"Healthy": 3800, "TB": 800}, {"Healthy": 40, "TB": 20}], ids=["theirs", "others"])
def test_published_metrics_stand_beside_the_measured_where_the_data_are_the_published(images: dict[str, int]) -> None:
    rows = [
        spread("baseline", "overall", "accuracy", 0.5),
        spread("baseline", "TB", "f1", 0.25),
        spread("baseline", "TB", "f1", 0.75, split="valid"),
        spread("baseline", "overall", "accuracy", 0.125, checkpoint="last"),
    ]
    found = comparison.published(presets.read("tb"), images, comparison.mean_metrics(rows), {})
    measured = [None, 0.5, 0.25, None, 0.125, None]
    assert [row["here"] for row in found["rows"][:2]] == [measured if images["TB"] == 800 else [], []]


@BOTH
def test_what_was_changed_since_is_named(published: bool, tmp_path: Path) -> None:
    tree = files.read_yaml(written(tmp_path, "tb", published))
    assert comparison.published(presets.read("tb"), {}, {}, tree)["changed"] == []
    tree["model"]["arch"] = "resnet18"
    del tree["experiments"]["l2"]
    changed = comparison.published(presets.read("tb"), {}, {}, tree)["changed"]
    assert changed == [("model.arch", "resnet50", "resnet18"), ("experiments.l2.loss.l2", 0.001, "nothing")]


def test_metrics_of_pooled_folds_and_of_each_class_are_found() -> None:
    rows = [
        spread("baseline", "pneumonia", "fpr", 0.5, kind="round"),
        spread("baseline", "pneumonia", "fpr", 0.25),
        spread("baseline", "pneumonia", "ppv", None, kind="round"),  # nothing was called pneumonia
        spread("adam", "covid", "fpr", 0.125),
    ]
    found = comparison.published(presets.read("covid4"), {}, comparison.mean_metrics(rows), {})
    here = {row["cells"][0]: row["here"] for row in found["rows"]}
    assert here == {"covid": [], "lung_opacity": [], "pneumonia": [None, 0.5, None, None, None], "normal": []}


def test_a_column_of_a_published_table_can_be_of_an_experiment_of_its_own() -> None:
    metrics = [["adam", "best", "row", "fpr"], ["best", "row", "fpr"], None, None, None]
    covid4 = presets.read("covid4")
    preset = replace(covid4, results=covid4.results | {"metrics": metrics})
    rows = [spread("baseline", "covid", "fpr", 0.25), spread("adam", "covid", "fpr", 0.125)]
    found = comparison.published(preset, {}, comparison.mean_metrics(rows), {})
    assert found["rows"][0]["here"] == [0.125, 0.25, None, None, None]


def test_published_aurocs_of_findings_stand_beside_the_measured() -> None:
    preset = presets.read("nih14")
    rows = [
        spread("densenet121", "Hernia", "auroc", 0.75),
        spread("resnet50", "Hernia", "auroc", 0.625),
        spread("resnet50", "macro", "auroc", 0.5),
        spread("resnet50", "Hernia", "auprc", 0.125),
    ]
    found = comparison.published(preset, preset.data["images"] | {"Hernia": 86}, comparison.mean_metrics(rows), {})
    here = {row["cells"][0]: row["here"] for row in found["rows"]}
    assert {name: metrics for name, metrics in here.items() if metrics} == {
        "Hernia": [0.625, 0.75], "macro": [0.5, None]
    }  # fmt: skip
    assert found["counts"] == (
        "The number of images per class in the test split matches the publication, but the published AUROCs are of "
        "other test patients, drawn at random, so that differences of a few hundredths say nothing."
    )


def test_images_of_a_study_are_counted_by_class_or_by_finding() -> None:
    labels = np.array([[1, 0, 1], [1, np.nan, -1], [0, 0, 0]])
    table = targets.to_columns(labels, ["Mass", "Hernia", "Edema"])
    assert comparison.image_counts(table, ["Mass", "Hernia", "Edema"]) == {"Mass": 2, "Hernia": 0, "Edema": 1}
    assert comparison.image_counts(pd.DataFrame({"label": ["TB", "TB", "Healthy"]}), []) == {"TB": 2, "Healthy": 1}


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_texts_and_tables_are_whole(name: str) -> None:
    preset = presets.read(name)
    assert all(isinstance(text, str) for text in preset.deviations)
    results = preset.results
    assert {len(row) for row in results["rows"]} == {len(results["columns"])}
    assert len(results.get("metrics", results["columns"][1:])) == len(results["columns"]) - 1
    classes, row_names = preset.published["data"]["classes"], {row[0] for row in results["rows"]}
    experiments = preset.values(published=False)["experiments"]
    for *experiment, checkpoint, of, _ in filter(None, results.get("metrics", [])):
        assert set(experiment) <= set(experiments)
        assert checkpoint in ("best", "last")
        assert of in ("overall", "row", *classes)
        assert of != "row" or row_names - {"macro"} == set(classes)
    assert results.get("experiment", "baseline") in {*experiments, "baseline"}


def test_the_means_of_nih14_are_those_of_its_columns() -> None:
    *findings, (name, *means) = presets.read("nih14").results["rows"]
    assert name == "macro"
    assert means == [round(float(np.mean(column)), 4) for column in list(zip(*findings, strict=True))[1:]]


def test_the_report_shows_the_published_study(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path, {"study": {"preset": "tb"}})
    evaluate.run(given, paths)
    report.run(given, paths)
    page = paths.report.read_text()
    assert "The published study" in page
    assert "These are different data, so the published results cannot be compared" in page
    assert "756 4 / 6 154" in page


def changed_lines(before: str, after: str) -> list[str]:
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


@pytest.mark.parametrize(
    ("override", "lines"),
    [
        ("model.dropout=0.3", ["- dropout: 0.0", "+ dropout: 0.3"]),
        ("train.ema_decay=0.99", ["- ema_decay:", "+ ema_decay: 0.99"]),
        ("data.positive=null", ["- positive: TB", "+ positive:"]),
        ("study.repeats=[0,1]", ["+ - 1"]),
        ("train.phases=[{epochs:2},{epochs:3,lr:0.01}]", ["+ - epochs: 2", "+ - epochs: 3", "+ lr: 0.01"]),
        ("++experiments.dropout.model.dropout=0.3", ["- dropout: 0.5", "+ dropout: 0.3"]),
        ("augment.scale=[0.9,1.1]", ["+ - 0.9", "+ - 1.1", "- - 1.0", "- - 1.0"]),
        ("data.source=/films", ["- source: demo", "+ source: /films"]),
    ],
)
def test_a_value_set_by_dvc_changes_its_own_line_of_params_yaml(
    override: str, lines: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    before = (small.REPOSITORY / "params.yaml").read_text()
    path.write_text(before)
    apply_overrides(str(path), [override])
    changed = [" ".join(line.split("#")[0].split()) for line in changed_lines(before, path.read_text())]
    assert sorted(changed) == sorted(lines)
    assert files.read_yaml(path)["train"]["phases"] in (None, [{"epochs": 2}, {"epochs": 3, "lr": 0.01}])


@BOTH
@pytest.mark.parametrize("name", [*PRESETS, None])
def test_params_yaml_is_written_as_dvc_writes_it(name: str | None, published: bool, tmp_path: Path) -> None:
    path = written(tmp_path, name, published, "/a folder/of films")
    before = path.read_text()
    apply_overrides(str(path), ["study.title=Another"])
    changed = changed_lines(before, path.read_text())
    assert [line[:9] for line in changed] == ["-   title", "+   title"]


def test_detected_values_are_written_as_dvc_writes_them(tmp_path: Path) -> None:
    images = small.two_classes(tmp_path / "images", healthy=4, tb=4)
    (images / "TB").rename(images / "Lungs: tuberculosis, with a name that is longer than a line of eighty characters")
    scaffold.new(tmp_path / "new", None, [str(images)], published=False)
    path = tmp_path / "new/params.yaml"
    before = path.read_text()
    apply_overrides(str(path), ["model.dropout=0.3"])
    assert len(changed_lines(before, path.read_text())) == 2
    scaffold.init(tmp_path / "new", [])
    again = path.read_text()
    apply_overrides(str(path), ["model.dropout=0.2"])
    assert len(changed_lines(again, path.read_text())) == 2


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment whose xraylab is a wheel, built from here, beside the libraries of this one."""
    folder = tmp_path_factory.mktemp("installed")
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*wheel, "--wheel-dir", folder, small.REPOSITORY], check=True)
    (found,) = folder.glob("xraylab-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = folder / "env/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", found]
    subprocess.run(pip, check=True)
    (packages,) = (folder / "env/lib").glob("python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "env/bin"


@pytest.mark.slow
def test_a_study_elsewhere_runs_with_the_installed_package_alone(installed: Path, tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "PYTHONPATH"))}
    environment = clean | {"PATH": f"{installed}{os.pathsep}{os.environ['PATH']}"}

    def run(*command: str, folder: Path) -> str:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    source = small.two_classes(tmp_path / "images", healthy=40, tb=20)
    where = "import xraylab; print(xraylab.__file__)"
    assert str(installed.parent) in run(str(installed / "python"), "-c", where, folder=tmp_path)
    run("xraylab", "new", "mine", "--study", "tb", "--data", str(source), folder=tmp_path)
    study = tmp_path / "mine"
    small.edit(study, small.shrink)
    small.edit(study, lambda tree: tree["model"].update(arch="resnet18"))
    small.edit(study, lambda tree: [tree["experiments"].pop(name) for name in list(tree["experiments"])[1:]])
    small.commit(study)
    run(sys.executable, "-m", "dvc", "repro", folder=study)
    assert "The published study" in (study / "reports/index.html").read_text()
    assert len(tables.read(study / "reports/comparison.csv")) == 4
    again = run(sys.executable, "-m", "dvc", "repro", folder=study)
    assert "Running stage" not in again
    assert run(sys.executable, "-m", "dvc", "status", folder=study) == "Data and pipelines are up to date.\n"
    assert not Paths(study).root.joinpath("src").exists()
