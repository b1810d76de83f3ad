"""Films of one patient are known as such by their DICOM headers, and nobody can be named by what is written of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
from conftest import load
from test_dicom import dataset

from xraylab import tables
from xraylab.data import headers, index, layouts
from xraylab.data.audit import folder
from xraylab.paths import Paths
from xraylab.stages import cache, fetch, source, split
from xraylab.stages import index as stage

SALT = b"salt"
PLANTED = ("Mueller", "MUELLER", "19450508", "20201224", "Elmstrasse", "ACC-77", "Klinikum", "Basement")


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
    table, _ = index.measure(tmp_path, found.table, SALT)
    assert list(table["study_order"]) == ["2", "1", "2", ""]
    one, two, three, four = table["patient"]
    assert (one, two) == (three, four)
    assert one != two
    assert table["source"].nunique() == 1
    assert table["source"][0].startswith("site-")
    assert folder.look(tmp_path, found, SALT).record["patients"] == "DICOM's PatientID"
    (tmp_path / "who.csv").write_text("image,patient\n1,x\n2,y\n3,z\n")
    found = layouts.read(tmp_path, "auto", None, None, None)
    table, _ = index.measure(tmp_path, found.table, SALT)
    assert list(table["patient"]) == ["x", "y", "z", four]


def test_nothing_that_is_planted_in_headers_is_written_anywhere(tmp_path: Path) -> None:
    for number in range(24):
        film(
            tmp_path / f"films/{'AB'[number % 2]}/{number}.dcm",
            number,
            PatientName="Mueller^Anna",
            PatientID=f"MUELLER-7431{number // 2}",
            PatientBirthDate="19450508",
            StudyDate=f"202012{number // 2 + 10}" if number else "20201224",
            PatientAddress="Elmstrasse 5",
            AccessionNumber="ACC-77",
            InstitutionName="Klinikum Ulm",
            StationName="Basement",
            Manufacturer="Mueller und Soehne",
            ImageComments="Mueller came late",
        )
    study = small.study(tmp_path / "study", small.use(tmp_path / "films", ["A", "B"], "B"))
    small.edit(study, lambda tree: tree["split"].update(strategy="random", test=0.25, valid=0.25))
    for each in (source, fetch, stage, split, cache):
        each.run(*load(study))
    written = [path for path in study.rglob("*") if path.is_file() and Paths(study).raw not in path.parents]
    assert {"index.csv", "audit.json", "train_data.csv", "source.json"} <= {path.name for path in written}
    ours = [path for path in written if study / "src" not in path.parents and path.suffix != ".npy"]
    hits = [(path.name, secret) for path in ours for secret in PLANTED if secret.encode() in path.read_bytes()]
    assert hits == []
    table = tables.read(Paths(study).index)
    assert table["patient"].nunique() == 12
    sides = pd.concat([tables.read(Paths(study).split / f"{side}_data.csv").assign(on=side) for side in
                       ("train", "valid", "test")])  # fmt: skip
    assert (
        sides.merge(table[["id", "patient"]], on="id", suffixes=("", "_")).groupby("patient")["on"].nunique().max() == 1
    )
    before = Paths(study).index.read_bytes()
    stage.run(*load(study))
    assert Paths(study).index.read_bytes() == before
    small.edit(study, lambda tree: tree["data"].update(keep_names=True))
    stage.run(*load(study))
    assert b"MUELLER-7431" in Paths(study).index.read_bytes()
