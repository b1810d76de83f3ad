"""predict-images with several findings: probabilities, and whether each reaches its threshold from validation."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import small
from conftest import Loaded, with_random_weights
from sklearn.metrics import roc_auc_score, roc_curve

from xraylab import files, tables, targets
from xraylab.errors import DataError
from xraylab.evaluate.multi_label import ensemble
from xraylab.model import weights
from xraylab.predict import checkpoints, classify
from xraylab.predict.checkpoints import TrainedModel
from xraylab.predict.classify import Output
from xraylab.stages import predict

FINDINGS = ["Cardiomegaly", "Edema", "Effusion"]


@pytest.fixture(scope="module")
def two(trained_findings: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The study with two repeats of random weights, and their predictions."""
    given, paths = trained_findings
    study = shutil.copytree(paths.root, tmp_path_factory.mktemp("two") / "study")
    _, paths = with_random_weights((given, type(paths)(study)))
    model = files.read_json(paths.model("baseline", 0) / "model.json")
    files.write_json(model | {"repeat": 1}, paths.model("baseline", 1) / "model.json")
    folder = paths.model("baseline", 1)
    weights.save(TrainedModel(folder, model).untrained(1), folder / "best.safetensors")
    for repeat in (0, 1):
        predict.run(given, paths, "baseline", repeat)
    return given, paths


def run(loaded: Loaded, place: Path, *names: str, submission: str | None = None, numbers: bool = False) -> list[str]:
    target = loaded[1].root / "classified.csv"
    output = Output(str(target), submission=submission, numbers=numbers)
    return classify.run(loaded, names, [str(place)], output).lines


@pytest.mark.parametrize("names", [["baseline/0"], ["baseline"]])
def test_the_studys_own_images_get_the_mean_probabilities_and_youdens_decision(two: Loaded, names: list[str]) -> None:
    given, paths = two
    lines = run(two, paths.raw, *names)
    rows = tables.read(paths.root / "classified.csv").set_index("id")
    repeats = range(2) if names == ["baseline"] else range(1)
    each = [tables.read(paths.prediction("baseline", repeat)) for repeat in repeats]
    best = [table[table["checkpoint"] == "best"].set_index("id") for table in each]
    index = tables.read(paths.index).set_index("id")
    for name in FINDINGS:
        mean = sum(table[f"p_{name}"] for table in best) / len(best)
        assert rows[f"p_{name}"][mean.index].to_numpy() == pytest.approx(mean.to_numpy(), abs=1e-6)
        valid = mean[best[0]["split"] == "valid"]
        label = index[f"y_{name}"][valid.index]
        known = label.isin([0, 1])
        fpr, tpr, thresholds = roc_curve(label[known].astype(int), valid[known])
        threshold = thresholds[np.argmax(np.round(tpr - fpr, 12))]
        away = (rows[f"p_{name}"] - threshold).abs() > 1e-5
        assert (rows[f"has_{name}"] == (rows[f"p_{name}"] >= threshold))[away].all()
        count = rows[f"has_{name}"].sum()
        assert (
            next(line for line in lines if line.startswith(f"{name} "))
            == f"{name:24} {count:6}  from {threshold:.4f} on"
        )
    joined = [
        "|".join(name for name in FINDINGS if row[f"has_{name}"]) or targets.NO_FINDING for _, row in rows.iterrows()
    ]
    assert list(rows["predicted"]) == joined
    n_valid = (best[0]["split"] == "valid").sum()
    assert f"thresholds: highest Youden index on validation, fitted on {n_valid} validation images" in lines
    assert given.data.classes == FINDINGS


def test_runs_without_predictions_of_validation_images_use_a_half(trained_findings: Loaded, tmp_path: Path) -> None:
    small.pictures(tmp_path, ["a.png", "b.png"], seed=3)
    lines = run(trained_findings, tmp_path, "baseline")
    assert (
        "thresholds: 0.5 for what is predicted, and no column has_<class>, since there are no predictions of "
        "validation images"
    ) in lines
    rows = tables.read(trained_findings[1].root / "classified.csv")
    reached = [targets.joined(row, FINDINGS) for row in (rows[[f"p_{name}" for name in FINDINGS]] >= 0.5).to_numpy()]
    assert list(rows["predicted"]) == reached
    assert not [name for name in rows if name.startswith(("has_", "calibrated_"))]


def test_a_finished_run_predicts_each_finding_of_one_file(two: Loaded) -> None:
    _, paths = two
    table = tables.read(paths.prediction("baseline", 1))
    row = table[(table["checkpoint"] == "best") & (table["split"] == "test")].iloc[0]
    p = checkpoints.load_run(paths, "baseline", 1).predict(paths.raw / row["id"])
    assert list(p) == FINDINGS
    assert list(p.values()) == pytest.approx([row[f"p_{name}"] for name in FINDINGS], abs=1e-6)


def test_a_submission_has_the_probabilities_of_the_findings_that_it_names(two: Loaded, tmp_path: Path) -> None:
    small.pictures(tmp_path, ["test_10.png", "test_2.png"], seed=3)
    run(two, tmp_path, "baseline/0")
    whole = tables.read(two[1].root / "classified.csv")
    run(two, tmp_path, "baseline/0", submission="image_id, Effusion,Edema")
    rows = tables.read(two[1].root / "classified.csv")
    assert list(rows.columns) == ["image_id", "Effusion", "Edema"]
    assert list(rows["image_id"]) == ["test_2", "test_10"]
    assert list(rows["Effusion"]) == list(whole["p_Effusion"])


def test_what_does_not_fit_several_findings_is_an_error(two: Loaded, tmp_path: Path) -> None:
    small.pictures(tmp_path, ["a.png"], seed=3)
    with pytest.raises(DataError) as caught:
        run(two, tmp_path, "baseline", numbers=True)
    assert (
        str(caught.value) == "--numbers writes one class per image, and these runs tell several findings: leave it out"
    )
    for header in ("Id,Label", "Id", ",Edema", "Id,Edema,Edema"):
        with pytest.raises(DataError) as caught:
            run(two, tmp_path, "baseline", submission=header)
        assert str(caught.value) == (
            f"--submission {header!r}: write the name of the column of files and then findings, whose probabilities "
            "are written: Id,Cardiomegaly,Edema,Effusion"
        )


def test_an_ensemble_is_scored_as_scikit_learn_scores_its_mean_at_thresholds_from_validation(two: Loaded) -> None:
    _, paths = two
    metrics = ensemble.score_ensemble(paths, ["baseline"], FINDINGS, "best", "test")
    each = [tables.read(paths.prediction("baseline", repeat)).set_index("id") for repeat in (0, 1)]
    best = [table[table["checkpoint"] == "best"] for table in each]
    index = tables.read(paths.index).set_index("id")
    aurocs = []
    for name in FINDINGS:
        mean = (best[0][f"p_{name}"] + best[1][f"p_{name}"]) / 2
        valid, test = (mean[best[0]["split"] == split] for split in ("valid", "test"))
        known = [index[f"y_{name}"][part.index].isin([0, 1]) for part in (valid, test)]
        label = [
            index[f"y_{name}"][part.index][rows].astype(int) for part, rows in zip((valid, test), known, strict=True)
        ]
        fpr, tpr, thresholds = roc_curve(label[0], valid[known[0]])
        ours = metrics["findings"][name]
        assert ours["threshold"] == thresholds[np.argmax(np.round(tpr - fpr, 12))]
        aurocs.append(roc_auc_score(label[1], test[known[1]]))
        assert ours["auroc"] == pytest.approx(aurocs[-1])
        called = test[known[1]] >= ours["threshold"]
        assert ours["sensitivity"] == pytest.approx(called[label[1] == 1].mean())
        assert ours["specificity"] == pytest.approx(1 - called[label[1] == 0].mean())
    assert metrics["auroc"] == pytest.approx(np.mean(aurocs))
    assert (metrics["runs"], metrics["n"]) == (2, (best[0]["split"] == "test").sum())
