"""predict-images writes the same rows in every format, whole or not at all, for any number of images."""

import io
import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import dicom_files
import highdicom
import numpy as np
import pandas as pd
import pydicom
import pytest
import small
from conftest import Loaded
from typer.testing import CliRunner

from xraylab import cli, files, tables
from xraylab.errors import DataError
from xraylab.evaluate.temperature import scale
from xraylab.explain import overlays
from xraylab.inference.warnings import ImageFacts, ImageWarning
from xraylab.predict import classifiers, classify, decoding, ensemble, references
from xraylab.predict.classify import Output, Summary
from xraylab.predict.decoding import Unreadable
from xraylab.predict.image_files import ImageFile

POINTS = {"highest Youden index on validation": 0.3, "fixed for 90 % sensitivity on validation": 0.01, "0.5": 0.5}
TEMPERATURE = 3.0


@pytest.fixture(scope="module")
def fixed(trained: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The study with thresholds and a temperature, as the stage `evaluate` writes them."""
    given, paths = trained
    paths = type(paths)(shutil.copytree(paths.root, tmp_path_factory.mktemp("fixed") / "study"))
    rows = [["baseline", 0, "TB", point, threshold] for point, threshold in POINTS.items()]
    table = pd.DataFrame(rows, columns=["experiment", "repeat", "class", "point", "threshold"])
    tables.write(table, paths.evaluation / "operating_points.csv")
    temperatures = [{"experiment": "baseline", "repeat": 0, "temperature": TEMPERATURE}]
    files.write_json(temperatures, paths.evaluation / "calibration.json")
    return given, paths


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    small.pictures(folder, ["a/2.png", "a/10.png", "b.png"], seed=5)
    return folder


def run(study: Loaded, target: Path | str, *paths: Path, **output: object) -> Summary:
    return classify.run(study, ["baseline/0"], [str(path) for path in paths], Output(str(target), **output))


def test_every_format_has_the_same_rows(fixed: Loaded, films: Path, tmp_path: Path) -> None:
    for suffix in (".csv", ".jsonl", ".parquet"):
        run(fixed, tmp_path / f"t{suffix}", films)
    rows = tables.read(tmp_path / "t.csv", (*tables.TEXT, "warnings", "sop_instance_uid"))
    assert list(rows.columns) == [
        "id", "predicted", "p_Healthy", "p_TB", "calibrated_Healthy", "calibrated_TB", "has_TB", "warnings",
        "sop_instance_uid",
    ]  # fmt: skip
    assert list(rows["id"]) == ["b.png", "a/2.png", "a/10.png"]
    as_json = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert as_json == rows.to_dict("records")
    assert pd.read_parquet(tmp_path / "t.parquet").to_dict("records") == as_json
    with redirect_stdout(io.StringIO()) as printed:
        summary = run(fixed, "-", films)
    assert printed.getvalue() == (tmp_path / "t.csv").read_text()
    assert not any(line.startswith("written") for line in summary.lines)
    with pytest.raises(DataError, match=r"^t\.txt: name a file that ends in one of \.csv, \.jsonl, \.parquet, or -"):
        run(fixed, "t.txt", films)


def test_columns_are_what_the_classifier_makes_of_the_probability(fixed: Loaded, films: Path, tmp_path: Path) -> None:
    for text, threshold in ((None, 0.3), ("90 % sens", 0.01), ("0.5", 0.5)):
        summary = run(fixed, tmp_path / "t.csv", films, point=text)
        rows = tables.read(tmp_path / "t.csv")
        p = rows[["p_Healthy", "p_TB"]].to_numpy()
        assert (rows["has_TB"] == (p[:, 1] >= threshold)).all()
        assert rows[["calibrated_Healthy", "calibrated_TB"]].to_numpy() == pytest.approx(scale(p, TEMPERATURE))
        assert list(rows["predicted"]) == [["Healthy", "TB"][number] for number in p.argmax(axis=1)]
        point = next(name for name in POINTS if POINTS[name] == threshold)
        assert f"thresholds: {point}" in summary.lines
    with pytest.raises(DataError, match=r"^'F1' is no operating point; there are:\n  - highest Youden index"):
        run(fixed, tmp_path / "new.csv", films, point="F1")
    assert not (tmp_path / "new.csv").exists()


def test_without_operating_points_there_is_no_decision(trained: Loaded, films: Path, tmp_path: Path) -> None:
    summary = run(trained, tmp_path / "t.csv", films)
    assert "thresholds: no column has_<class>, since there are no predictions of validation images" in summary.lines
    assert not [name for name in tables.read(tmp_path / "t.csv") if name.startswith(("has_", "calibrated_"))]
    with pytest.raises(DataError, match=r"^--point 'Youden': there are no operating points, since there are no predic"):
        run(trained, tmp_path / "t.csv", films, point="Youden")


def test_a_failure_in_the_middle_leaves_what_was_there(
    fixed: Loaded, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_text("before")
    counted = itertools.count()
    score = ensemble.Ensemble.score

    def failing(self: ensemble.Ensemble, images: np.ndarray) -> object:
        if next(counted):
            raise DataError("enough")
        return score(self, images)

    monkeypatch.setattr(classify, "SCORING_BATCH", 1)
    monkeypatch.setattr(ensemble.Ensemble, "score", failing)
    with pytest.raises(DataError, match="enough"):
        run(fixed, tmp_path / "t.csv", films, overlays=tmp_path / "overlays")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "before"


def test_the_exit_code_tells_files_that_were_left_out(
    fixed: Loaded, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that a spreadsheet would run as a formula is one only in CSV."""
    monkeypatch.chdir(fixed[1].root)
    folder = shutil.copytree(films, tmp_path / "films")
    shutil.copyfile(folder / "b.png", folder / "=cmd.png")
    codes = {}
    for name in ("t.csv", "t.jsonl"):
        arguments = ["predict-images", "baseline", str(folder), "--to", str(tmp_path / name)]
        done = CliRunner().invoke(cli.app, arguments)
        codes[name] = done.exit_code
        if name == "t.csv":
            assert "=cmd.png: begins with =, as formulas of spreadsheets do: rename it, or write .jsonl" in done.output
            assert "1 files could not be read and are left out" in done.output
    assert codes == {"t.csv": 3, "t.jsonl": 0}
    assert len(tables.read(tmp_path / "t.csv")) == 3
    assert len((tmp_path / "t.jsonl").read_text().splitlines()) == 4
    done = CliRunner().invoke(cli.app, ["predict-images", "baseline", str(films), "--to", "-"])
    assert done.stdout == (tmp_path / "t.csv").read_text()
    assert done.stderr.startswith("baseline/0: 3 images\n")


def test_overlays_are_of_the_most_probable_class(fixed: Loaded, films: Path, tmp_path: Path) -> None:
    run(fixed, tmp_path / "t.csv", films, overlays=tmp_path / "new")
    classifier = classifiers.of_run(fixed[1], "baseline")
    rows = tables.read(tmp_path / "t.csv")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "000001-b.png", "000002-2.png", "000003-10.png",
    ]  # fmt: skip
    images = np.stack([classifier.read(films / name) for name in rows["id"]])
    maps = overlays.heatmaps(classifier, images, list(rows["predicted"]))
    for number, name in enumerate(["000001-b.png", "000002-2.png", "000003-10.png"]):
        assert (tmp_path / "new" / name).read_bytes() == overlays.blend(images[number], maps[number])
    with pytest.raises(DataError, match=r"^--explain .*new is there already: name a new folder$"):
        run(fixed, tmp_path / "t.csv", films, overlays=tmp_path / "new")


class Suspicious:
    """A reference that finds fault with every DICOM image."""

    def may_be_copy(self, gray: np.ndarray) -> bool:
        return False

    def check(self, images: np.ndarray, features: np.ndarray, facts: list[ImageFacts]) -> list[list[ImageWarning]]:
        assert len(images) == len(features) == len(facts)
        both = [ImageWarning("lateral", "It looks lateral."), ImageWarning("far_from_training", "It is far.")]
        return [both if each.dicom else [] for each in facts]


def test_warnings_are_in_the_table_the_report_and_the_summary(
    fixed: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "of_run", lambda paths, name, classifier: Suspicious())
    folder = tmp_path / "films"
    small.pictures(folder, ["b.png", "c.png"], seed=5)
    film(folder, "a.dcm", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5", ViewPosition="LL")
    summary = run(fixed, tmp_path / "t.csv", folder, dicom_sr=tmp_path / "sr")
    assert tables.read(tmp_path / "t.csv", ("warnings",))["warnings"].tolist() == ["lateral; far_from_training", "", ""]
    assert "warnings: lateral 1, far_from_training 1" in summary.lines
    (path,) = (tmp_path / "sr").iterdir()
    for group in highdicom.sr.srread(path).content.get_image_measurement_groups():
        evaluations = [(each.name.meaning, each.value.meaning) for each in group.get_qualitative_evaluations()]
        assert evaluations[-2:] == [("Warning", "lateral"), ("Warning", "far_from_training")]


def test_an_image_is_augmented_alike_in_any_company(fixed: Loaded, films: Path, tmp_path: Path) -> None:
    given, paths = fixed
    record = paths.model("baseline", 0) / "model.json"
    model = files.read_json(record)
    files.write_json(model | {"augment": model["augment"] | {"degrees": 30.0, "translate": 0.2}}, record)
    with_tta = given.model_copy(update={"predict": given.predict.model_copy(update={"tta": 2})}), paths
    p = {}
    for name, study, path in (("plain", fixed, films), ("all", with_tta, films), ("one", with_tta, films / "a")):
        run(study, tmp_path / "t.csv", path)
        rows = tables.read(tmp_path / "t.csv").set_index("id")["p_TB"]
        p[name] = rows.rename(lambda each: Path(each).name)
    files.write_json(model, record)
    assert p["one"].to_numpy() == pytest.approx(p["all"][p["one"].index].to_numpy(), abs=1e-6)
    assert (p["all"] - p["plain"]).abs().max() > 1e-4


def test_decoding_is_a_bounded_way_ahead_of_the_network() -> None:
    opened = list[str]()

    def endless() -> Iterator[ImageFile]:
        for number in itertools.count():
            opened.append(str(number))
            yield ImageFile(str(number), io.BytesIO, held=0)

    results = decoding.in_threads(lambda file: Unreadable(file.id, ""), endless())
    assert [next(results).id for _ in range(500)] == [str(number) for number in range(500)]
    assert len(opened) <= 500 + decoding.AHEAD + 1
    heavy = decoding.in_threads(
        lambda file: Unreadable(file.id, ""), (ImageFile(str(n), io.BytesIO, held=decoding.HELD // 2) for n in range(9))
    )
    assert [each.id for each in heavy] == [str(number) for number in range(9)]


PATIENT = {"PatientName": "Müller^Anna", "PatientID": "MRN-1", "PatientBirthDate": "19450508", "PatientSex": "F"}
OTHER = {"PatientAddress": "Elmstrasse 1", "InstitutionName": "Klinikum", "OperatorsName": "Operateur",
         "StudyDescription": "Husten", "OtherPatientIDs": "OTHER-7"}  # fmt: skip


def film(folder: Path, name: str, **tags: object) -> pydicom.Dataset:
    levels = np.random.default_rng(len(name)).integers(0, 4096, (48, 64), dtype=np.uint16)
    made = dicom_files.dataset(levels, **({"SpecificCharacterSet": "ISO_IR 100"} | PATIENT | OTHER | tags))
    made.save_as(folder / name, enforce_file_format=True)
    return made


def test_a_dicom_image_has_a_report_of_its_patient_and_study(fixed: Loaded, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    small.pictures(folder, ["c.png"], seed=5)
    film(folder, "a.dcm", SOPInstanceUID="1.2.3.1", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5")
    film(folder, "b.dcm", SOPInstanceUID="1.2.3.2")
    run(fixed, tmp_path / "t.csv", folder, dicom_sr=tmp_path / "sr")
    rows = tables.read(tmp_path / "t.csv", (*tables.TEXT, "sop_instance_uid"))
    assert list(rows["sop_instance_uid"]) == ["1.2.3.1", "1.2.3.2", ""]
    assert [path.name for path in (tmp_path / "sr").iterdir()] == ["000001-a.dcm"]
    (path,) = (tmp_path / "sr").iterdir()
    report = pydicom.dcmread(path)
    for name, value in PATIENT.items():
        assert str(report[name].value) == value
    written = path.read_bytes()
    assert not [value for value in OTHER.values() if value.encode() in written]
    table = (tmp_path / "t.csv").read_text()
    assert not [value for value in (PATIENT | OTHER).values() if value in table]
    assert (report.Modality, report.StudyInstanceUID, report.VerificationFlag) == ("SR", "1.2.4", "UNVERIFIED")
    assert report.SeriesInstanceUID != "1.2.5"
    content = highdicom.sr.srread(path).content
    groups = content.get_image_measurement_groups()
    assert [group.finding_type.meaning for group in groups] == ["Healthy", "TB"]
    for group, name in zip(groups, ["Healthy", "TB"], strict=True):
        values = {each.name.meaning: each.value for each in group.get_measurements()}
        assert values == pytest.approx({
            "Probability": rows[f"p_{name}"][0],
            "Probability after temperature scaling": rows[f"calibrated_{name}"][0],
        })  # fmt: skip
        assert [image.referenced_sop_instance_uid for image in group.source_images] == ["1.2.3.1"]
    decision, *_ = groups[1].get_qualitative_evaluations()
    assert decision.value.meaning == ("Present" if rows["has_TB"][0] else "Absent")


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_header_that_is_not_valid_has_no_report_and_is_not_quoted(
    fixed: Loaded, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    film(folder, "a.dcm", PatientBirthDate="", PatientSex="", StudyInstanceUID="1.2.4")
    film(folder, "b.dcm", SOPInstanceUID="1.2.MRN", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5")
    summary = run(fixed, tmp_path / "t.csv", folder, dicom_sr=tmp_path / "sr")
    assert summary.n_skipped == 0
    assert capfd.readouterr().err.splitlines() == [
        "a.dcm: no DICOM report, since it has no StudyInstanceUID and SeriesInstanceUID",
        "b.dcm: no DICOM report, since it has no valid SOPInstanceUID and SOPClassUID",
    ]
