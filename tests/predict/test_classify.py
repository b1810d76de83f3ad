"""Images that nobody has labelled: every one of them gets its row."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small
from conftest import Loaded
from typer.testing import CliRunner

from xraylab import cli, files, tables
from xraylab.errors import DataError, MissingError
from xraylab.model import hardware, weights
from xraylab.predict import checkpoints, classify, external
from xraylab.predict.checkpoints import TrainedModel
from xraylab.predict.classify import Output
from xraylab.stages import predict

NAMES = ["test_10.png", "test_2.png", "test_1.png"]


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unlabelled")
    small.pictures(folder, NAMES, seed=5)
    return folder


@pytest.fixture
def two(trained: Loaded, tmp_path: Path) -> Loaded:
    """The study with a second repeat, of other random weights, and with the predictions of both."""
    given, paths = trained
    study = shutil.copytree(paths.root, tmp_path / "study")
    paths = type(paths)(study)
    model = files.read_json(paths.model("baseline", 0) / "model.json")
    for repeat in (0, 1):
        folder = paths.model("baseline", repeat)
        files.write_json(model | {"repeat": repeat, "last_epoch": 1}, folder / "model.json")
        weights.save(TrainedModel(folder, model).untrained(repeat), folder / "best.safetensors")
        predict.run(given, paths, "baseline", repeat)
    return given, paths


def run(loaded: Loaded, place: Path, *names: str, submission: str | None = None, numbers: bool = False) -> Path:
    target = loaded[1].root / "classified.csv"
    classify.run(loaded, names, [str(place)], Output(str(target), submission=submission, numbers=numbers))
    return target


def test_the_studys_own_images_get_the_probabilities_that_its_stage_gives_them(two: Loaded) -> None:
    _, paths = two
    each = [tables.read(paths.prediction("baseline", repeat)) for repeat in (0, 1)]
    best = [table[(table["checkpoint"] == "best") & (table["split"] == "test")].set_index("id") for table in each]
    for names, expected in ((["baseline/0"], best[0]["p_TB"]), (["baseline"], (best[0] + best[1])["p_TB"] / 2)):
        rows = tables.read(run(two, paths.raw, *names)).set_index("id")
        assert rows["p_TB"][expected.index].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-6)
        assert (rows["predicted"] == rows[["p_Healthy", "p_TB"]].idxmax(axis=1).str[2:]).all()


def test_a_finished_run_predicts_for_one_file(two: Loaded) -> None:
    """As its table has it, and prepared as its own images were; one that is no image is named."""
    _, paths = two
    run = checkpoints.load_run(paths, "baseline", 1)
    assert (run.name, run.classes, run.epoch("last")) == ("baseline/1", ["Healthy", "TB"], 1)
    table = tables.read(paths.prediction("baseline", 1))
    row = table[(table["checkpoint"] == "best") & (table["split"] == "test")].iloc[0]
    p = run.predict(paths.raw / row["id"])
    assert list(p) == run.classes
    assert list(p.values()) == pytest.approx([row["p_Healthy"], row["p_TB"]], abs=1e-6)
    with pytest.raises(DataError, match=r"nothing\.png"):
        run.predict(paths.raw / "nothing.png")
    with pytest.raises(MissingError, match=r"^baseline/7 is not trained; did you mean baseline/[01]\?"):
        checkpoints.load_run(paths, "baseline", 7)


def test_images_are_prepared_as_those_that_the_run_was_trained_on(two: Loaded, unlabelled: Path) -> None:
    """Whatever params.yaml says by now."""
    given, paths = two
    before = tables.read(run(two, unlabelled, "baseline/0"))
    other = given.model_copy(update={"images": given.images.model_copy(update={"clip_percentiles": [40.0, 60.0]})})
    assert tables.read(run((other, paths), unlabelled, "baseline/0")).equals(before)
    place = paths.model("baseline", 1) / "model.json"
    files.write_json(files.read_json(place) | {"images": other.images.model_dump()}, place)
    with pytest.raises(DataError) as caught:
        run(two, unlabelled, "baseline")
    assert str(caught.value) == (
        "baseline/0 and baseline/1 were trained on images prepared in other ways: `dvc repro` trains them anew"
    )


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (lambda record: record.pop("images"), "images"),
        (lambda record: record["images"].update(pixels=record["images"].pop("size")), "images.size"),
        (lambda record: record["augment"].update(zoom=record["augment"].pop("scale")[1] - 1), "augment.scale"),
        (lambda record: record.pop("kept_epochs"), "kept_epochs"),
    ],
)
def test_a_run_of_an_earlier_version_is_refused_by_whatever_reads_it(
    two: Loaded, unlabelled: Path, change: Callable[[dict[str, Any]], Any], missing: str
) -> None:
    _, paths = two
    path = paths.model("baseline", 1) / "model.json"
    record = files.read_json(path)
    change(record)
    files.write_json(record, path)
    for command in (
        lambda: run(two, unlabelled, "baseline"),
        lambda: list(external.run(*two, "baseline/1", unlabelled, "auto", [], None)),
        lambda: checkpoints.evaluate_checkpoint(paths, "baseline", 1, None, "valid"),
    ):
        with pytest.raises(DataError) as caught:
            command()
        assert str(caught.value) == (
            f"{path} was written by an earlier version of xraylab (it has no {missing}): `dvc repro` trains the run "
            "again"
        )


@pytest.fixture
def numbered(trained: Loaded, unlabelled: Path) -> dict[str, str]:
    rows = tables.read(run(trained, unlabelled, "baseline/0"))
    return dict(zip(rows["id"], rows["predicted"], strict=True))


def test_a_submission_has_one_row_per_image_in_natural_order(
    trained: Loaded, unlabelled: Path, numbered: dict[str, str]
) -> None:
    lines = run(trained, unlabelled, "baseline/0", submission="Id, Label", numbers=True).read_text().splitlines()
    place = {"Healthy": 0, "TB": 1}
    assert lines == ["Id,Label", *(f"test_{n},{place[numbered[f'test_{n}.png']]}" for n in (1, 2, 10))]


def test_one_image_is_enough(trained: Loaded, unlabelled: Path, numbered: dict[str, str]) -> None:
    rows = tables.read(run(trained, unlabelled / "test_2.png", "baseline/0"))
    assert list(rows["predicted"]) == [numbered["test_2.png"]]


def test_images_that_cannot_be_read_are_told_and_left_out(
    trained: Loaded, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small.pictures(tmp_path, ["a.png", "c.png"], seed=5)
    (tmp_path / "b.png").write_bytes(b"no picture")
    summary = classify.run(trained, ["baseline"], [str(tmp_path)], Output(str(tmp_path / "out.csv")))
    assert capfd.readouterr().err == "b.png: cannot identify image file\n"
    assert summary.n_skipped == 1
    assert summary.lines[0] == "baseline/0: 2 images"
    assert summary.lines[-2] == "1 files could not be read and are left out"
    assert list(tables.read(tmp_path / "out.csv")["id"]) == ["a.png", "c.png"]


@pytest.mark.parametrize(
    ("names", "submission", "message"),
    [
        (["a/"], None, "'a/' names no run: write experiment or experiment/repeat, such as baseline/0"),
        (["baseline"], "Id", "--submission 'Id': write the names of its two columns, such as Id,Label"),
        (["baseline"], "a,b,c", "--submission 'a,b,c': write the names of its two columns, such as Id,Label"),
    ],
)
def test_what_does_not_fit_is_an_error(
    trained: Loaded, unlabelled: Path, names: list[str], submission: str | None, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        run(trained, unlabelled, *names, submission=submission)
    assert str(caught.value) == message


def test_places_and_runs_that_are_not_there_are_named(trained: Loaded, unlabelled: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^.*nowhere does not exist: name X-rays, folders of them or archives$"):
        run(trained, tmp_path / "nowhere", "baseline")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"^.*empty holds no images$"):
        run(trained, tmp_path / "empty", "baseline")
    with pytest.raises(MissingError, match=r"^dropout/0 is not trained; trained: baseline/0\. `dvc repro` trains"):
        run(trained, unlabelled, "dropout")


def test_two_images_of_one_name_cannot_be_told_apart_in_a_submission(trained: Loaded, tmp_path: Path) -> None:
    small.pictures(tmp_path, ["a/1.png", "b/1.png"], seed=5)
    assert list(tables.read(run(trained, tmp_path, "baseline"))["id"]) == ["a/1.png", "b/1.png"]
    with pytest.raises(DataError, match=r"^two images have one name"):
        run(trained, tmp_path, "baseline", submission="Id,Label")


def test_the_command(trained: Loaded, unlabelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, paths = trained
    monkeypatch.chdir(paths.root)
    arguments = ["predict-images", "baseline", str(unlabelled), "--with", "baseline/0", "--csv", "mine.csv"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.output.splitlines()[0] == "baseline/0: 3 images"
    assert done.output.splitlines()[-2] == f"baseline/0: {hardware.choose('float32')}"
    assert done.output.splitlines()[-1] == "written to mine.csv"
    assert len(tables.read(paths.root / "mine.csv")) == 3
