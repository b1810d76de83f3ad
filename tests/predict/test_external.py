"""A trained run on another data set: what it has seen is removed, and what it has fixed is kept."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
import torch
from conftest import Loaded
from PIL import Image
from typer.testing import CliRunner

from xraylab import cli, files, tables
from xraylab.data.audit import duplicates, hashes
from xraylab.errors import DataError, MissingError
from xraylab.evaluate.temperature import scale
from xraylab.predict import external, thresholds
from xraylab.predict.checkpoints import TrainedModel

CLASSES = ["Healthy", "TB"]


@pytest.fixture(scope="module")
def other(trained: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another hospital: 7 pictures of its own, and copies of 2 training, 1 validation and 2 test pictures."""
    _, paths = trained
    folder = tmp_path_factory.mktemp("other")
    small.pictures(folder, [f"Healthy/x{n}.png" for n in range(4)] + [f"TB/y{n}.png" for n in range(3)], seed=3)
    copies = {"train": 2, "valid": 1, "test": 2}
    for split, count in copies.items():
        for name in tables.read(paths.split / f"{split}_data.csv")["path"][:count]:
            half = Image.open(paths.raw / name).resize(
                (small.PICTURE // 2, small.PICTURE // 2), Image.Resampling.LANCZOS
            )
            half.save(folder / Path(name).parent / f"{split}-{Path(name).stem}.jpg", quality=90)
    return folder


def run(trained: Loaded, folder: Path, name: str = "baseline", labels: tuple[str, ...] = ()) -> tuple[dict, list[str]]:
    target = folder.parent / "external.json"
    lines = list(external.run(*trained, name, folder, "auto", list(labels), target))
    return files.read_json(target), lines


def value(record: dict, of: str, metric: str) -> float:
    return next(row["value"] for row in record["metrics"] if (row["class"], row["metric"]) == (of, metric))


def test_copies_of_what_the_run_has_seen_are_removed_and_counted(trained: Loaded, other: Path) -> None:
    record, lines = run(trained, other)
    overlap = record["overlap"]
    assert (overlap["train"], overlap["valid"], record["images"]) == (2, 1, 7 + 2)
    assert record["classes"] == {"Healthy": 4 + 2, "TB": 3}
    assert {(each["split"], Path(each["copy_of"]).stem) for each in overlap["examples"]} == {
        (each["split"], Path(each["id"]).stem.split("-")[1]) for each in overlap["examples"]
    }
    assert lines[1:3] == [
        "removed      2  copies of train images, by perceptual hash",
        "removed      1  copies of valid images, by perceptual hash",
    ]
    assert lines[3] == "scored       9  Healthy 6, TB 3"


def test_the_images_are_prepared_and_scored_as_the_study_does(trained: Loaded, tmp_path: Path) -> None:
    """The study's own test pictures, moved elsewhere, give the probabilities that the run gives them from its cache."""
    _, paths = trained
    test = tables.read(paths.split / "test_data.csv")
    for name in test["path"]:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths.raw / name, tmp_path / "data" / name)
    record, lines = run(trained, tmp_path / "data")
    rows = list(tables.read(paths.cache / "rows.csv")["id"])
    images = np.load(paths.cache / "images.npy")[[rows.index(name) for name in test["id"]]].astype(np.float32)
    model = files.read_json(paths.model("baseline", 0) / "model.json")
    network = TrainedModel(paths.model("baseline", 0), model).network(1).eval()
    with torch.no_grad():
        p = network(torch.from_numpy((images / 255 - 0.449) / 0.226)[:, None]).softmax(dim=1).numpy()
    actual = np.array([CLASSES.index(label) for label in test["label"]])
    assert record["images"] == len(test)
    assert value(record, "overall", "log_loss") == pytest.approx(-np.log(p[np.arange(len(p)), actual]).mean(), abs=1e-5)
    assert value(record, "overall", "accuracy") == pytest.approx((p.argmax(axis=1) == actual).mean())
    ill, well = p[actual == 1, 1], p[actual == 0, 1]
    assert "95 % intervals: patients are unknown, so each image counts as one patient" in lines
    ill_images = int((actual == 1).sum())
    why = f"  (no interval: only {ill_images} images of TB; at least 5 are needed)"
    assert next(line for line in lines if " sensitivity " in line).endswith(why)
    assert value(record, "TB", "auroc") == pytest.approx((ill[:, None] > well).mean())


def test_without_fixed_thresholds_they_are_not_available(trained: Loaded, other: Path) -> None:
    record, lines = run(trained, other)
    assert (record["operating_points"], record["temperature"], record["log_loss_calibrated"]) == ([], None, None)
    assert "log loss at the run's own temperature: not available" in lines
    assert "operating points: not available" in lines


def test_thresholds_and_temperature_are_the_runs_own(trained: Loaded, other: Path) -> None:
    _, paths = trained
    write_fixed(paths.evaluation, temperature=1e9)
    try:
        record, lines = run(trained, other)
    finally:
        shutil.rmtree(paths.evaluation)
    # at such a temperature every probability is one half
    assert record["log_loss_calibrated"] == pytest.approx(np.log(2))
    assert [(each["sensitivity"], each["specificity"]) for each in record["operating_points"]] == [(1, 0), (0, 1)]
    place = lines.index("TB, Youden, from 0.0000 on:")
    assert lines[place + 1] == f"  {'sensitivity':20} 1.0000"  # 3 images of 3, too few for an interval


def test_one_degree_changes_no_probability() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), 9)
    assert scale(p, 1.0) == pytest.approx(p)
    assert (scale(p, 3.0).argmax(axis=1) == p.argmax(axis=1)).all()


def write_fixed(folder: Path, temperature: float | None) -> None:
    """As `evaluate` does; one point could not be reached, and another run has one of its own."""
    rows = [
        ("baseline", 0, "TB", "Youden", 0.0),
        ("baseline", 0, "TB", "specificity at least 99 %", 1.01),
        ("baseline", 0, "TB", "sensitivity at least 95 %", None),
        ("baseline", 1, "TB", "Youden", 0.25),
    ]
    table = pd.DataFrame(rows, columns=["experiment", "repeat", "class", "point", "threshold"])
    tables.write(table, folder / thresholds.POINTS)
    files.write_json(
        [{"experiment": "baseline", "repeat": 0, "temperature": temperature}], folder / thresholds.TEMPERATURES
    )


def test_whatever_is_absent_is_not_available(tmp_path: Path) -> None:
    assert thresholds.read(tmp_path, "baseline", 0) == thresholds.Thresholds([], None)
    write_fixed(tmp_path, temperature=None)
    assert thresholds.read(tmp_path, "baseline", 0).temperature is None
    assert thresholds.read(tmp_path, "baseline", 1) == thresholds.Thresholds(
        [thresholds.OperatingPoint("TB", "Youden", 0.25)], None
    )
    assert thresholds.read(tmp_path, "other", 0) == thresholds.Thresholds([], None)


def test_other_names_of_classes(trained: Loaded, other: Path, tmp_path: Path) -> None:
    shutil.copytree(other, tmp_path / "renamed")
    (tmp_path / "renamed/Healthy").rename(tmp_path / "renamed/Normal")
    same, _ = run(trained, other)
    record, _ = run(trained, tmp_path / "renamed", labels=("Healthy=Normal",))
    assert record["images"] == same["images"]
    assert value(record, "overall", "log_loss") == pytest.approx(value(same, "overall", "log_loss"))


def test_unreadable_files_are_counted(trained: Loaded, other: Path, tmp_path: Path) -> None:
    shutil.copytree(other, tmp_path / "data")
    (tmp_path / "data/TB/broken.png").write_bytes(b"no picture")
    record, lines = run(trained, tmp_path / "data")
    assert record["unreadable"] == [f"{tmp_path}/data/TB/broken.png: cannot identify image file"]
    assert lines[3] == "removed      1  files that cannot be read"
    assert record["images"] == 9


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("/0", [], "'/0' names no run: write experiment or experiment/repeat, such as baseline/0"),
        ("a/", [], "'a/' names no run: write experiment or experiment/repeat, such as baseline/0"),
        ("a/b", [], "'a/b' names no run: write experiment or experiment/repeat, such as baseline/0"),
        ("baseline", ["TB"], "--label 'TB': write CLASS=LABEL, CLASS being one of Healthy, TB"),
        ("baseline", ["Flu=x"], "--label 'Flu=x': write CLASS=LABEL, CLASS being one of Healthy, TB"),
    ],
)
def test_a_wrong_name_is_an_error(trained: Loaded, other: Path, name: str, labels: list[str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        run(trained, other, name, tuple(labels))
    assert str(caught.value) == message


def test_an_untrained_run_and_a_folder_without_news_are_errors(trained: Loaded, other: Path, tmp_path: Path) -> None:
    _, paths = trained
    with pytest.raises(MissingError) as missing:
        run(trained, other, "baseline/7")
    assert str(missing.value).startswith("baseline/7 is not trained; did you mean baseline/0? Trained: baseline/0.")
    with pytest.raises(DataError) as caught:
        run(trained, tmp_path / "nowhere")
    assert str(caught.value) == f"{tmp_path}/nowhere is not a folder: name the folder that holds the images"
    for name in pd.concat([tables.read(paths.split / f"{split}_data.csv") for split in ("train", "valid")])["path"]:
        (tmp_path / "seen" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths.raw / name, tmp_path / "seen" / name)
    with pytest.raises(DataError) as caught:
        run(trained, tmp_path / "seen")
    assert str(caught.value) == (
        f"{tmp_path}/seen: no image is left that can be read and is no copy of one that the run has seen"
    )


def test_the_command_writes_beside_the_reports(trained: Loaded, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, paths = trained
    monkeypatch.chdir(paths.root)
    done = CliRunner().invoke(cli.app, ["external-test", "baseline/0", str(other)])
    where = paths.external / f"baseline-0-{other.name}.json"
    assert done.exit_code == 0
    assert done.output.splitlines()[0] == f"baseline/0, epoch 1, on {other} (class-folders)"
    assert done.output.splitlines()[-1] == f"written to {where}"
    assert files.read_json(where)["images"] == 9


def test_seen_names_the_nearest_within_the_bound_and_compares_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(0, 2, (40, 256), dtype=np.uint8)
    after = rng.integers(0, 2, (7, 256), dtype=np.uint8)
    for row, (of, bits) in enumerate([(3, 0), (3, duplicates.NEAR), (5, duplicates.NEAR + 1), (39, 12)]):
        after[row] = before[of]
        after[row, rng.permutation(256)[:bits]] ^= 1
    after[4] = before[8]

    def table(bits: np.ndarray, prefix: str) -> pd.DataFrame:
        packed = [np.packbits(each).tobytes().hex() for each in bits]
        ids = [f"{prefix}{n}" for n in range(len(bits))]
        return pd.DataFrame({"id": ids, "perceptual_hash": packed, "inside_hash": "", "contrast": 0.2})

    ours, theirs = table(before, "old"), table(after, "new")
    theirs.loc[4, "contrast"] = 0.0
    monkeypatch.setattr(hashes, "TILE", (3, 3))
    assert list(duplicates.find_copies(theirs, ours)) == ["old3", "old3", "", "old39", "", "", ""]
    assert list(duplicates.find_copies(theirs, ours[:0])) == [""] * 7


@pytest.mark.parametrize("names", [("healthy", "tb"), ("HEALTHY", "T_B"), ("heal-thy", "T B")])
def test_labels_match_whatever_their_case_and_separators(
    trained: Loaded, names: tuple[str, str], tmp_path: Path
) -> None:
    small.pictures(tmp_path / "x", [f"{name}/{n}.png" for name in names for n in range(2)], seed=5)
    record, _ = run(trained, tmp_path / "x")
    assert record["classes"] == {"Healthy": 2, "TB": 2}


def test_an_unknown_label_is_refused_before_any_image_is_read(trained: Loaded, tmp_path: Path) -> None:
    for name in ("Normal/1.png", "Heathy/1.png", "TB/1.png", "TB/2.png"):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_text("no image")
    with pytest.raises(DataError) as caught:
        run(trained, tmp_path / "x")
    assert str(caught.value) == (
        f"{tmp_path}/x has Heathy (1), Normal (1), TB (2), and nothing called Healthy; say what it is called:\n"
        "  - --label 'Healthy=Heathy'"
    )
    with pytest.raises(DataError, match="  - --label 'Healthy=LABEL'"):  # one of Normal and sound
        (tmp_path / "x/Heathy").rename(tmp_path / "x/sound")
        run(trained, tmp_path / "x")
    shutil.rmtree(tmp_path / "x/sound")
    with pytest.raises(DataError, match="  - --label 'Healthy=Normal'"):
        run(trained, tmp_path / "x")
