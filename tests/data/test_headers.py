"""Films of one patient are known as such by their DICOM headers, and nobody can be named by what is written of them."""

import base64
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
from conftest import load, to_the_report
from test_dicom import dataset

from xraylab import tables
from xraylab.cli import app
from xraylab.data import headers, index, layouts
from xraylab.data.audit.audit import audit
from xraylab.paths import Paths
from xraylab.stages import cache, fetch, report, source, split
from xraylab.stages import index as stage

SALT = b"salt"


def film(path: Path, number: int = 0, **tags: str) -> Path:
    """A radiograph of noise, each of its own, with these tags."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 4096, (48, 64)).astype(np.uint16)
    dataset(noise, **tags).save_as(path, enforce_file_format=True)
    return path


def read(tmp_path: Path, salt: bytes = SALT, keep_names: bool = False, **tags: str) -> dict[str, str]:
    return headers.read(film(tmp_path / "x.dcm", **tags), salt, keep_names)


def test_a_patient_is_id_and_issuer_under_a_salt(tmp_path: Path) -> None:
    first = read(tmp_path, PatientID="7431")["patient"]
    assert first.startswith("dicom-")
    assert len(first) == len("dicom-") + 12
    assert read(tmp_path, PatientID="7431 ")["patient"] == first
    others = [
        read(tmp_path, PatientID="7432"),
        read(tmp_path, PatientID="7431", IssuerOfPatientID="B"),
        read(tmp_path, b"another", PatientID="7431"),
    ]
    assert len({first, *(other["patient"] for other in others)}) == 4
    assert read(tmp_path, keep_names=True, PatientID="7431", IssuerOfPatientID="B")["patient"] == "B/7431"


@pytest.mark.parametrize("nobody", ["", "ANONYMOUS", "anon123", "0", "000", "Unknown", "REMOVED", "---"])
def test_an_id_of_nobody_is_no_patient(nobody: str, tmp_path: Path) -> None:
    assert read(tmp_path, PatientID=nobody)["patient"] == ""
    assert read(tmp_path, keep_names=True, PatientID=nobody)["patient"] == ""


@pytest.mark.parametrize(
    ("written", "named"),
    [("SIEMENS Healthineers", "Siemens"), ("GE MEDICAL SYSTEMS", "GE"), ("Mueller X-Rays", "other"), ("", "")],
)
def test_only_known_makers_are_named(written: str, named: str, tmp_path: Path) -> None:
    assert read(tmp_path, Manufacturer=written)["manufacturer"] == named
    assert read(tmp_path, keep_names=True, Manufacturer=written)["manufacturer"] == written


def test_a_file_without_such_tags_tells_nothing(tmp_path: Path) -> None:
    assert set(read(tmp_path).values()) == {""}


def test_the_index_groups_by_header_where_nothing_else_tells_and_ranks_dates(tmp_path: Path) -> None:
    dates = {"A/1": "20200103", "A/2": "20191231", "B/3": "20200103", "B/4": ""}
    for number, (name, date) in enumerate(dates.items()):
        film(tmp_path / f"{name}.dcm", number, PatientID="pq"[number % 2] + "1", StudyDate=date, InstitutionName="Ulm")
    found = layouts.read(tmp_path, "auto", None, None, None)
    table, *_ = index.measure(tmp_path, found.table, SALT)
    assert list(table["study_order"]) == ["2", "1", "2", ""]
    one, two, three, four = table["patient"]
    assert (one, two) == (three, four)
    assert one != two
    assert table["source"].nunique() == 1
    assert table["source"][0].startswith("site-")
    assert audit(tmp_path, found, SALT).record.patients == "DICOM's PatientID"
    (tmp_path / "who.csv").write_text("image,patient\n1,x\n2,y\n3,z\n")
    found = layouts.read(tmp_path, "auto", None, None, None)
    table, *_ = index.measure(tmp_path, found.table, SALT)
    assert list(table["patient"]) == ["x", "y", "z", four]


def planted(folder: Path, first: int = 0) -> None:
    """24 films of 12 patients, in two classes, with names, dates, ids and free text wherever a header holds them."""
    with warnings.catch_warnings(action="ignore"):  # pydicom says that some are not what the standard allows
        for number in range(first, first + 24):
            film(
                folder / f"{'AB'[number % 2]}/{number}.dcm",
                number,
                PatientName="Mueller^Anna",
                PatientID=f"MUELLER-7431{number // 2}",
                OtherPatientIDs="OTHER-7431",
                IssuerOfPatientID="ISSUER-9",
                PatientBirthDate="19450508",
                StudyDate=f"202012{number // 2 + 10}" if number else "20201224",
                StudyTime="131415",
                PatientAddress="Elmstrasse 5",
                AccessionNumber="ACC-77",
                StudyID="STUDY-55",
                StudyInstanceUID="1.2.3.777.888",
                SOPInstanceUID=f"1.2.3.999.{number}",
                InstitutionName="Klinikum Ulm",
                StationName="Basement",
                Manufacturer="Mueller und Soehne",
                ManufacturerModelName="Strahlemann",
                DeviceSerialNumber="SERIAL-12",
                ReferringPhysicianName="Doktor^Eisenbarth",
                OperatorsName="Operateur",
                StudyDescription="Thorax wegen Husten",
                ViewPosition="ANNA",
                BodyPartExamined="ANNASCHEST",
                PatientSex="ANNA",
                PatientAge="HUNDRED",
                BurnedInAnnotation="ANNA",
                ImageComments="Mueller came late",
            )


PLANTED = (
    "Mueller", "MUELLER", "OTHER-7431", "ISSUER-9", "19450508", "1945-05-08", "20201224", "2020-12-24", "131415",
    "Elmstrasse",
    "ACC-77", "STUDY-55", "1.2.3.777", "1.2.3.999", "Klinikum", "Basement", "Strahlemann", "SERIAL-12", "Eisenbarth",
    "Operateur", "Husten", "ANNA", "HUNDRED",
)  # fmt: skip


BASE64 = re.compile(rb"base64,([A-Za-z0-9+/=]+)")


def hits(written: dict[str, bytes]) -> list[tuple[str, str]]:
    """Which file holds which of PLANTED, as it is, in another case, in UTF-16, or in what a page embeds as base64."""
    found = []
    for name, content in written.items():
        embedded = [base64.b64decode(part) for part in BASE64.findall(content)]
        haystack = b"\n".join([BASE64.sub(b"", content), *embedded]).lower()  # four letters stand in any base64
        needles = {secret: (secret.lower().encode(), secret.lower().encode("utf-16-le")) for secret in PLANTED}
        found += [(name, secret) for secret, forms in needles.items() if any(form in haystack for form in forms)]
    return found


def written_below(folder: Path, *apart: Path) -> dict[str, bytes]:
    """Every file there, but for what lies in `apart`."""
    names = [path for path in folder.rglob("*") if path.is_file() and not any(map(path.is_relative_to, apart))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in names}


@pytest.mark.slow
def test_nothing_that_is_planted_in_headers_is_written_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """From the source to the report and what is asked for besides; data/raw alone holds the films as they are."""
    planted(tmp_path / "films")
    planted(tmp_path / "elsewhere", first=24)
    (tmp_path / "elsewhere/A/broken.dcm").write_bytes((tmp_path / "films/A/0.dcm").read_bytes()[:900])

    def change(tree: small.Tree) -> None:
        small.use(tmp_path / "films", ["A", "B"], "B")(tree)
        tree["split"].update(strategy="random", test_pct=0.25, valid_pct=0.25)
        tree.update(experiments={"baseline": {}})
        tree["train"].update(epochs=1)

    study = small.study(tmp_path / "study", change)
    to_the_report(study)
    monkeypatch.chdir(study)
    for command in (
        ["external-test", "baseline/0", str(tmp_path / "elsewhere")],
        ["predict-images", "baseline", str(tmp_path / "elsewhere/B")],
        ["audit", str(tmp_path / "elsewhere"), "--json", "audit.json"],
        ["new", str(tmp_path / "new"), "--data", str(tmp_path / "films")],
        ["init"],
        ["show"],
    ):
        app(command, standalone_mode=False)
    report.run(*load(study))
    log = capfd.readouterr()
    written = written_below(study, study / "src", Paths(study).raw) | written_below(tmp_path / "new")
    assert {
        "data/index.csv", "data/cache/images.npy", "predictions/baseline/0.csv", "reports/index.html",
        "reports/cards/baseline.md", "reports/external/baseline-0-elsewhere.json", "classified.csv", "audit.json",
        "dvc.yaml", ".xraylab/hashes.json",
    } <= set(written)  # fmt: skip
    assert "data:image/png;base64," in written["reports/index.html"].decode()
    uid = ("classified.csv", "1.2.3.999")  # the key by which predictions are joined to an archive, and nothing else
    assert hits(written | {"stdout": log.out.encode(), "stderr": log.err.encode()}) == [uid]
    table = tables.read(Paths(study).index)
    assert table["patient"].nunique() == 12
    splits = pd.concat([tables.read(Paths(study).split / f"{split}_data.csv").assign(on=split) for split in
                       ("train", "valid", "test")])  # fmt: skip
    assert (
        splits.merge(table[["id", "patient"]], on="id", suffixes=("", "_")).groupby("patient_")["on"].nunique().max()
        == 1
    )


def test_names_of_headers_are_in_the_index_with_keep_names_alone(tmp_path: Path) -> None:
    planted(tmp_path / "films")
    study = small.study(tmp_path / "study", small.use(tmp_path / "films", ["A", "B"], "B"))
    small.edit(study, lambda tree: tree["split"].update(strategy="random", test_pct=0.25, valid_pct=0.25))
    for each in (source, fetch, stage, split, cache):
        each.run(*load(study))
    assert hits(written_below(study, study / "src", Paths(study).raw)) == []
    before = Paths(study).index.read_bytes()
    stage.run(*load(study))
    assert Paths(study).index.read_bytes() == before
    small.edit(study, lambda tree: tree["data"].update(keep_names=True))
    stage.run(*load(study))
    known = {secret for _, secret in hits({"index": Paths(study).index.read_bytes()})}
    assert known == {"Mueller", "MUELLER", "ISSUER-9", "Klinikum"}


def test_the_search_finds_what_is_planted() -> None:
    page = b"data:image/png;base64," + base64.b64encode(b"..Klinikum..")
    found = hits({"plain": b"x acc-77", "wide": "Basement".encode("utf-16-le"), "page": page, "clean": b"x"})
    assert found == [("plain", "ACC-77"), ("wide", "Basement"), ("page", "Klinikum")]
