"""The synthetic radiographs: the same bytes everywhere, no patient on two sides, and no clue but the findings."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
from conftest import load
from PIL import Image
from scipy import ndimage

from xraylab import demo, files, tables, targets
from xraylab.data import layouts
from xraylab.data.split.strategies import share
from xraylab.demo import anatomy, dataset, findings, multi_label, projection, radiograph
from xraylab.demo.dataset import SEVERAL, TEST_FRACTION, plan
from xraylab.demo.radiograph import Patient, Radiograph, draw_patient, expose
from xraylab.stages import fetch, index, source, split

SMALL = {"n_healthy": 12, "n_tb": 10, "size": 48, "seed": 3}
PIXELS = 96


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    demo.write(folder, **SMALL)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): files.sha256(path) for path in folder.rglob("*.*")}


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def one(diseased: bool, seed: int = 0) -> Patient:
    return draw_patient(np.random.default_rng(seed), diseased)


def exposed(patient: Patient, seed: int = 0, pixels: int = PIXELS) -> Radiograph:
    return expose(patient, pixels, np.random.default_rng([seed, 1]))


def with_finding(kind: str, subtlety: float, seed: int = 0) -> Patient:
    """The same patient and the same place for every subtlety."""
    healthy = one(False, seed)
    return replace(healthy, findings=[findings.DRAW[kind](healthy.anatomy, np.random.default_rng([seed, 2]), subtlety)])


def change(patient: Patient, seed: int = 0) -> np.ndarray:
    """How many gray levels the findings move each pixel."""
    clean = exposed(replace(patient, findings=[]), seed).gray
    return np.abs(exposed(patient, seed).gray.astype(int) - clean)


def test_the_folder_holds_every_promised_file_and_nothing_else(written: Path) -> None:
    healthy = {f"Healthy/h{n:04}.png" for n in range(1, 13)}
    tb = {f"{folder}/tb{n:04}.png" for n in range(1, 11) for folder in ("TB", "masks")}
    assert set(hashes(written)) == healthy | tb | {"patients.csv", "findings.csv"}
    images = [Image.open(path) for path in written.rglob("*.png")]
    assert {(image.size, image.mode) for image in images} == {((48, 48), "L")}


def test_the_index_reads_names_and_patients(written: Path) -> None:
    found = layouts.read(written, "auto", ["Healthy", "TB"], None, None)
    assert found.layout == "class-folders"
    assert found.table["label"].value_counts().to_dict() == {"Healthy": 12, "TB": 10}
    table = tables.read(written / "patients.csv")
    assert found.patients == "patients.csv"
    for column in ("patient", "sex", "age"):
        assert list(found.table[column]) == list(table[column].astype(str))
    assert table["age"].astype(int).between(16, 90).all()
    assert set(table["sex"]) == {"F", "M"}
    assert table["patient"].str.fullmatch(r"p\d{4}").all()
    whose = table.assign(label=table["image"].str.split("/").str[0]).groupby("patient")
    assert (whose[["label", "age", "sex"]].nunique() == 1).all(axis=None)


def test_a_patient_s_number_does_not_tell_the_class(written: Path) -> None:
    table = tables.read(written / "patients.csv")
    label = table.sort_values("patient")["image"].str.split("/").str[0]
    assert (label != label.shift()).sum() > 4


def test_the_bytes_do_not_depend_on_the_number_of_processes(written: Path, tmp_path: Path) -> None:
    demo.write(tmp_path, **SMALL, workers=2)
    assert hashes(tmp_path) == hashes(written)


def test_another_seed_draws_other_images(written: Path, tmp_path: Path) -> None:
    demo.write(tmp_path, **{**SMALL, "seed": 4, "n_tb": 1, "n_healthy": 2})
    assert not set(hashes(tmp_path).values()) & set(hashes(written).values())


@pytest.mark.parametrize("label", ["Healthy", "TB"])
@pytest.mark.parametrize("seed", range(3))
def test_no_patient_lies_on_both_sides_of_the_study_s_split(label: str, seed: int) -> None:
    for count in [*range(1, 130), 200, 800, 950, 3800]:
        shots = plan(label, count, seed)
        tested = share(TEST_FRACTION, count)
        assert [shot.name for shot in shots] == sorted({shot.name for shot in shots})
        assert len(shots) == count
        assert not {shot.person for shot in shots[:tested]} & {shot.person for shot in shots[tested:]}


def test_some_patients_have_two_to_four_images() -> None:
    visits = pd.Series([shot.person for shot in plan("Healthy", 4000, 0)]).value_counts()
    assert set(visits) == {1, 2, 3, 4}
    assert (visits > 1).mean() == pytest.approx(SEVERAL, abs=0.03)


def test_names_still_sort_by_number_beyond_four_digits() -> None:
    names = [shot.image for shot in plan("TB", 10_001, 0)]
    assert (names[0], names[-1]) == ("TB/tb00001.png", "TB/tb10001.png")
    assert names == sorted(names)


def test_findings_and_masks_tell_the_same(written: Path) -> None:
    table = pd.read_csv(written / "findings.csv")
    codes = {kind: code for code, kind in enumerate(findings.DRAW, start=1)}
    assert set(table["image"]) == {f"TB/tb{n:04}.png" for n in range(1, 11)}
    for image, rows in table.groupby("image"):
        mask = pixels_of(written / str(image).replace("TB/", "masks/"))
        assert set(np.unique(mask)) - {0} == {codes[kind] for kind in rows["finding"]}
        for row in rows.itertuples():
            box = np.zeros(mask.shape, bool)
            box[row.y : row.y + row.height, row.x : row.x + row.width] = True
            assert box.sum() == row.width * row.height
            assert 0 <= row.subtlety <= 1
            assert not (mask[~box] == codes[row.finding]).any()


def test_the_codes_are_those_of_the_documented_table() -> None:
    documented = [
        line.split("|")[1:3] for line in (findings.__doc__ or "").splitlines() if line[:3].strip("| ").isdigit()
    ]
    assert [(int(code), kind.strip()) for code, kind in documented] == list(enumerate(findings.DRAW, start=1))


@pytest.mark.parametrize("seed", range(25))
def test_every_finding_shows_in_the_mask_however_small_the_image(seed: int) -> None:
    patient = one(True, seed)
    taken = exposed(patient, seed, pixels=32)
    assert set(np.unique(taken.mask)) == {0} | {finding.code for finding in patient.findings}


@pytest.mark.parametrize("kind", findings.DRAW)
def test_a_finding_changes_the_image_in_its_mask_and_hardly_elsewhere(kind: str) -> None:
    for seed in range(2):
        patient = with_finding(kind, 0.2, seed)
        mask = exposed(patient, seed).mask > 0
        moved = change(patient, seed)
        far = ~ndimage.binary_dilation(mask, iterations=PIXELS // 12)
        assert moved[mask].mean() > 5
        assert moved[far].mean() < 1.5 < 0.3 * moved[mask].mean()


@pytest.mark.parametrize("kind", findings.DRAW)
def test_a_subtle_finding_changes_less_than_a_plain_one(kind: str) -> None:
    for seed in range(2):
        plain, middle, subtle = (change(with_finding(kind, subtlety, seed), seed).sum() for subtlety in (0, 0.4, 0.8))
        assert plain > middle > subtle > 0


@pytest.mark.parametrize("seed", range(6))
def test_without_its_findings_a_diseased_patient_is_a_healthy_one(seed: int) -> None:
    healthy, diseased = one(False, seed), one(True, seed)
    assert diseased.findings
    assert not healthy.findings
    without = exposed(replace(diseased, findings=[]), seed)
    np.testing.assert_array_equal(without.gray, exposed(healthy, seed).gray)
    assert not without.mask.any()


def test_two_films_of_a_patient_show_the_same_findings_in_another_place_and_tone() -> None:
    patient = dataset.person("TB", 0, seed=5)
    first, second = (dataset.film(dataset.Shot("TB", "", 0, visit), patient, PIXELS, seed=5) for visit in (0, 1))
    assert [finding for finding, _ in first.boxes] == [finding for finding, _ in second.boxes] == patient.findings
    assert [box for _, box in first.boxes] != [box for _, box in second.boxes]
    assert np.abs(first.gray.astype(float) - second.gray).mean() > 5


@pytest.mark.parametrize("seed", range(4))
def test_size_changes_the_resolution_and_not_what_is_seen(seed: int) -> None:
    patient = one(False, seed)
    large = np.asarray(Image.fromarray(exposed(patient, seed, 192).gray).reduce(3), float)
    small = exposed(patient, seed, 64).gray.astype(float)
    assert np.corrcoef(large.ravel(), small.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("seed", range(6))
def test_lungs_are_dark_and_the_heart_lies_on_the_patient_s_left(seed: int) -> None:
    drawn = anatomy.draw(np.random.default_rng(seed))
    view = replace(
        radiograph.draw_view(np.random.default_rng(seed)), angle=0, zoom=1, shift=(0, 0), borders=(-0.1,) * 4
    )
    seen = projection.project(drawn, [], view.frame(PIXELS))
    gray = radiograph.develop(seen.tissue - radiograph.LUNG * seen.air + seen.dense, view, np.random.default_rng(seed))
    u, v = view.frame(PIXELS).grid()
    chest = (np.abs(v - 0.45) < 0.1) & (np.abs(u) < 0.03)
    assert gray[seen.air > 0.5].mean() + 60 < gray[chest].mean()
    level = np.abs(v - drawn.dome[0] + 0.05) < 0.02
    right, left = (seen.air[level & (side * u > 0.05) & (side * u < 0.3)].mean() for side in (-1, 1))
    assert left < 0.85 * right


@pytest.mark.slow
def test_the_shipped_study_is_divided_without_a_leak(tmp_path: Path) -> None:
    """At its full size, as `make study` begins: the split stops where images on two sides are too much alike."""
    shutil.copyfile(small.REPOSITORY / "params.yaml", tmp_path / "params.yaml")
    loaded = load(tmp_path)
    for stage in (source, fetch, index, split):
        stage.run(*loaded)
    assert files.read_json(tmp_path / "data/split/audit.json") == []


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films with several findings each."""
    folder = tmp_path_factory.mktemp("several")
    demo.write(folder, **{**SMALL, "n_tb": 40, "size": 32}, task="multi-label")
    return folder


def test_films_of_several_findings_lie_in_one_folder_with_a_table_of_labels(several: Path) -> None:
    names = [f"f{n:04}.png" for n in range(1, 53)]
    labels, shown = pd.read_csv(several / "labels.csv"), pd.read_csv(several / "findings.csv")
    assert list(labels["image"]) == [f"films/{name}" for name in names]
    assert set(hashes(several)) == {
        "labels.csv", "patients.csv", "findings.csv",
        *(f"films/{name}" for name in names),
        *(f"masks/{Path(image).name}" for image in shown["image"]),
    }  # fmt: skip
    present = pd.crosstab(shown["image"], shown["finding"].str.capitalize()).reindex(labels["image"], fill_value=0)
    marks = labels.set_index("image")
    assert list(marks.columns) == multi_label.names()
    for name in marks:
        known = marks[name].isin([0, 1])
        assert (marks[name][known] == present[name][known]).all()
    assert (present.sum(axis=1) > 0).sum() == 40
    assert (present.sum(axis=1) > 1).sum() > 10
    assert (marks == -1).any().sum() >= 2
    assert marks.isna().any().sum() >= 2


def test_films_of_several_findings_and_their_labels_are_the_same_every_time(several: Path, tmp_path: Path) -> None:
    demo.write(tmp_path, **{**SMALL, "n_tb": 40, "size": 32}, task="multi-label")
    assert hashes(tmp_path) == hashes(several)


def test_the_index_reads_several_findings(several: Path) -> None:
    found = layouts.read(several, "auto", multi_label.names(), None, None, task="multi-label")
    assert found.layout == "table"
    assert found.patients == "patients.csv"
    labels = pd.read_csv(several / "labels.csv")
    expected = labels[multi_label.names()].to_numpy()
    np.testing.assert_array_equal(targets.values(found.table, multi_label.names()), expected)


def test_findings_have_rates_of_their_own_and_some_go_together() -> None:
    rng, drawn = np.random.default_rng(0), anatomy.draw(np.random.default_rng(0))
    kinds = pd.DataFrame([{f.kind: 1 for f in findings.draw_any(drawn, rng)} for _ in range(200)]).fillna(0)
    rate = kinds.mean()
    assert rate["miliary"] < rate["cavity"] < rate["effusion"]
    with_infiltrate = kinds["infiltrate"] == 1
    assert kinds["cavity"][with_infiltrate].mean() > 2 * kinds["cavity"][~with_infiltrate].mean()
    assert (kinds.sum(axis=1) > 1).mean() > 0.3
