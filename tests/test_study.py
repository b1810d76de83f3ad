"""xraylab.Study: the lines of the documents run, and what is missing is named with the stage that makes it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import finished_study
import numpy as np
import pandas as pd
import pytest
import small
import tiny
from conftest import Loaded, load
from dicom_files import dataset, levels

import xraylab
from xraylab import Study, files, tables
from xraylab.errors import MissingError
from xraylab.model import networks
from xraylab.predict import cards
from xraylab.stages import configure, evaluate, predict, split, train

REPEATS = [0, 1]


@pytest.fixture(scope="module")
def finished(noise: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A study of one experiment with two repeats, up to the stage `evaluate`, a bundle of it, and films of others."""
    root = shutil.copytree(noise, tmp_path_factory.mktemp("python") / "study")

    def change(tree: small.Tree) -> None:
        tree["split"]["valid_pct"] = 0.25  # nine images and more
        tree["study"]["repeats"] = REPEATS
        tree["experiments"] = {"baseline": {}}
        tree["augment"]["contrast"] = 0.2

    small.edit(root, change)
    loaded = load(root)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)
        split.run(*loaded)
        configure.run(*loaded)
        for stage in (train, predict):
            for repeat in REPEATS:
                stage.run(*loaded, "baseline", repeat)
        evaluate.run(*loaded)
        files.write_json(finished_study.NOT_EXPLAINED, loaded[1].explanation / "summary.json")
        cards.write_bundle(loaded[1], "baseline/0", loaded[1].bundles / "baseline-0.zip")
    small.pictures(root, ["film.png"], seed=1)
    dataset(levels()).save_as(root / "film.dcm", enforce_file_format=True)
    return loaded


@pytest.fixture(autouse=True)
def _tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)


@pytest.mark.parametrize("document", ["docs/python.md", "README.md"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_line_of_the_document_runs(
    document: str, finished: Loaded, monkeypatch: pytest.MonkeyPatch, figures: Callable[[], list[Any]]
) -> None:
    monkeypatch.chdir(finished[1].root)
    text = (small.REPOSITORY / document).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, document, "exec"), names)
    assert isinstance(names["study"], Study)
    assert figures()


def test_a_learner_can_do_what_fastais_can_without_another_import() -> None:
    """In an interpreter of its own: here other tests have imported all of fastai."""
    code = """
from xraylab.train import learner
missing = {"lr_find", "fit_one_cycle", "fine_tune", "show_results"} - set(dir(learner.XrayLearner))
print(sorted(missing))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_results_are_tables(finished: Loaded) -> None:
    study = Study(finished[1].root)
    predictions = study.predictions("baseline")
    for repeat in REPEATS:
        own = predictions[predictions["repeat"] == repeat].drop(columns="repeat").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, tables.read(finished[1].prediction("baseline", repeat)))
    metrics = study.metrics().set_index(["experiment", "repeat", "checkpoint", "split"])
    tested = predictions.query("repeat == 1 and checkpoint == 'best' and split == 'test'")
    right = (tested["p_TB"] > tested["p_Healthy"]) == (tested["label"] == "TB")
    assert metrics.loc[("baseline", 1, "best", "test"), "accuracy"] == pytest.approx(right.mean())


def test_a_trained_network_predicts_a_file_as_the_stage_predicted_it(finished: Loaded) -> None:
    study = Study(finished[1].root)
    row = study.predictions("baseline").query("repeat == 1 and checkpoint == 'best' and split == 'test'").iloc[2]
    (path,) = tables.read(study.paths.index).set_index("id")["path"].loc[[row["id"]]]
    p = study.model("baseline", repeat=1).predict(study.paths.raw / path)
    assert list(p) == ["Healthy", "TB"]
    np.testing.assert_allclose(list(p.values()), [row["p_Healthy"], row["p_TB"]], rtol=1e-5)


def test_a_study_that_has_not_been_run_so_far_names_the_stage(noise: Path, tmp_path: Path) -> None:
    root = shutil.copytree(noise, tmp_path / "study")
    shutil.rmtree(root / "data" / "cache")
    study = Study(root)

    def told(call: Callable[[], object]) -> str:
        with pytest.raises(MissingError) as caught:
            call()
        return str(caught.value)

    assert told(lambda: study.learner("l2")) == "configs/l2.yaml is not there yet: `dvc repro configure` makes it"
    configure.run(*load(root))
    assert told(lambda: study.dataloaders("l2")) == "data/cache/rows.csv is not there yet: `dvc repro cache` makes it"
    assert told(study.metrics) == "reports/comparison.csv is not there yet: `dvc repro evaluate` makes it"
    assert told(lambda: study.predictions("l2")) == (
        "predictions/l2/0.csv is not there yet: `dvc repro predict@l2-0` makes it"
    )
    assert told(lambda: study.model("l2")).startswith("l2/0 is not trained.")
    names = ", ".join(study.experiments)
    assert told(lambda: study.learner("l3")) == f"params.yaml has no experiment 'l3'; there is {names}"
    assert told(lambda: study.model("l2", 7)) == "study.repeats has no repeat 7; there is 0"
    assert told(lambda: Study(tmp_path)) == f"no params.yaml in {tmp_path}: name the top folder of a study"


def test_importing_the_package_is_light() -> None:
    code = "import sys, xraylab; print({'torch', 'fastai', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    with pytest.raises(AttributeError, match=r"^module 'xraylab' has no attribute 'Studio'$"):
        xraylab.Studio  # noqa: B018
