"""Each published study from a tree of its data's shape to the report, in little, with the stages that dvc would run."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import small
import torch
from conftest import to_the_report
from typer.testing import CliRunner
from under_dvc import only, succeed

from xraylab import cli, files, tables
from xraylab.model import networks, weights
from xraylab.report import artefacts
from xraylab.report.records import Spread
from xraylab.studies import comparison, presets, scaffold

CLASSES = {name: presets.read(name).published["data"]["classes"] for name in ("covid4", "radiography", "covidx")}
EACH = 20  # images of each class
PIXELS = 32
BASELINE = (("study", "baseline"), ("search", "experiment"))


def covid4(raw: Path) -> None:
    """The competition's archive, whose folder lies in one of the same name."""
    top = "xray-data/xray-data"
    for seed, name in enumerate(CLASSES["covid4"]):
        small.write_images(raw, [f"{top}/train/{name}/{name}_{n}.png" for n in range(EACH)], seed=seed)
    small.write_images(raw, [f"{top}/test/test_{n}.png" for n in range(4)], seed=9)


def radiography(raw: Path) -> None:
    """Images and masks of the same names, and a sheet whose names are written otherwise than the files'."""
    for seed, name in enumerate(CLASSES["radiography"]):
        names = [f"{name}-{n}" for n in range(1, EACH + 1)]
        for folder in ("images", "masks"):
            small.write_images(raw, [f"{name}/{folder}/{each}.png" for each in names], seed=seed)
        rows = {"FILE NAME": [each.upper() for each in names], "FORMAT": "PNG", "SIZE": "256*256", "URL": f"at/{seed}"}
        pd.DataFrame(rows).to_excel(raw / f"{name}.metadata.xlsx", index=False)


def covidx(raw: Path) -> None:
    """Two lists without a header; patient ids with a space, and a line without its source."""
    for split, count in (("train", EACH), ("test", 4)):
        lines = []
        for seed, name in enumerate(CLASSES["covidx"]):
            images = [f"{split}-{seed}-{n}.png" for n in range(count)]
            small.write_images(raw / split, images, seed=seed + 10 * count)
            lines += [f"{split} {seed} {n} {image} {name} somewhere" for n, image in enumerate(images)]
        (raw / f"{split}.txt").write_text("\n".join([*lines[:-1], lines[-1].rpartition(" ")[0]]) + "\n")


def pneumonia(raw: Path) -> None:
    """The download with its folder in another of that name, and what a Mac leaves behind."""
    top = raw / "chest_xray/chest_xray"
    for number, (split, count) in enumerate({"train": EACH, "val": 2, "test": 4}.items()):
        first = 100 * number
        normal = [f"NORMAL/IM-{first + n:04}-0001.png" for n in range(count)]
        ill = [f"PNEUMONIA/person{first + n}_{kind}_{n}.png" for n in range(count) for kind in ("bacteria", "virus")]
        small.write_images(top / split, [*normal, *ill], seed=number)
        (top / split / ".DS_Store").write_bytes(b"\0")


FINDINGS = ["Atelectasis", "Cardiomegaly", "Pleural_Thickening"]  # those of nih14 that the test studies


def nih14(raw: Path) -> None:
    """NIH's list and official split: two findings in most films, none in every fifth, two films of some patients."""
    lines = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"]
    films = [(patient, number) for patient in range(1, 61) for number in range(1 + patient % 2)]
    for n, (patient, number) in enumerate(films):
        listed = "|".join(dict.fromkeys([FINDINGS[n % 3], FINDINGS[n // 3 % 3], "Hernia"])) if n % 5 else "No Finding"
        lines.append(f"{patient:08}_{number:03}.png,{listed},{number},{patient},{30 + n % 40},{'MF'[n % 2]},PA")
    names = [line.split(",")[0] for line in lines[1:]]
    small.write_images(raw / "images", names)
    (raw / "Data_Entry_2017_v2020.csv").write_text("\n".join(lines) + "\n")
    (raw / "train_val_list.txt").write_text("\n".join(names[:60]) + "\n")
    (raw / "test_list.txt").write_text("\n".join(names[60:]) + "\n")


def shrink(tree: small.Tree) -> None:
    """Hours of a published study become seconds: smaller, shorter, with one way of explaining."""
    tree["images"]["size"] = tree["model"]["img_size"] = PIXELS
    tree["train"].update(epochs=2, batch_size=8, precision="float32", min_epochs=min(1, tree["train"]["min_epochs"]))
    if tree["train"]["schedule"] == "plateau":
        tree["train"].update(epochs=3, patience_epochs=1, early_stop_patience=1)
    for own in tree["experiments"].values():
        if "decay_epochs" in own.get("train", {}):
            own["train"]["decay_epochs"] = 1
    tree["explain"].update(images=1, methods=["grad-cam"])


def local_weights(folder: Path) -> small.Change:
    """Networks begin with weights from files, which the test makes, where the study downloads them."""

    def change(tree: small.Tree) -> None:
        for own in tree["experiments"].values():
            model = tree["model"] | own.setdefault("model", {})
            if model["pretrained"] == "default":
                file = folder / f"{model['arch']}.safetensors"
                torch.manual_seed(0)
                weights.save(networks.build(model["arch"], 7, model["channels"], dropout=0.0, pixels=PIXELS), file)
                own["model"]["pretrained"] = str(file)

    return change


def made(tmp_path: Path, name: str, *experiments: str) -> Path:
    """The study `name` on its tree, run to the report with these experiments alone."""
    raw = tmp_path / "data"
    globals()[name](raw)
    study = small.study(tmp_path / "study")
    scaffold.use(study, name, str(raw), published=False, force=True)
    for change in (only(*experiments), shrink, local_weights(tmp_path)):
        small.edit(study, change)
    small.edit(study, lambda tree: [tree[part].update({key: experiments[0]}) for part, key in BASELINE])
    to_the_report(study)
    page = (study / "reports/index.html").read_text()
    assert "The published study" in page
    assert len(tables.read(study / "reports/comparison.csv")) == 4 * len(experiments)
    return study


def splits(study: Path) -> dict[str, dict[str, int]]:
    """Images per split and class."""
    counted = files.read_json(study / "data/split/summary.json")["splits"]
    return {split: {label: part["images"] for label, part in parts.items()} for split, parts in counted.items()}


def test_covid4_and_its_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = made(tmp_path, "covid4", "weighted-sampling")
    assert splits(study)["test"] == dict.fromkeys(CLASSES["covid4"], EACH // 10)
    unlabelled = "data/raw/xray-data/xray-data/test"
    monkeypatch.chdir(study)
    options = ["--submission", "Id,Label", "--numbers", "--csv", "mine.csv"]
    done = CliRunner().invoke(cli.app, ["predict-images", "weighted-sampling", unlabelled, *options])
    assert done.exit_code == 0, done.output
    rows = pd.read_csv(study / "mine.csv")
    assert list(rows["Id"]) == [f"test_{n}" for n in range(4)]
    assert set(rows["Label"]) <= set(range(4))


def test_radiography_and_its_pivot_table(tmp_path: Path) -> None:
    study = made(tmp_path, "radiography", "resnet18-half", "resnet18-head")
    assert files.read_json(study / "data/audit.json")["layout"] == "covid-radiography"
    metrics = files.read_json(study / "reports/evaluation/test_metrics.json")
    page = (study / "reports/index.html").read_text()
    table = page[page.index("Test accuracy by training and architecture") :]
    for row, experiment in (("head only", "resnet18-head"), ("half frozen", "resnet18-half")):
        cells = table[table.index(row) :].split("</tr>")[0]
        assert f"{metrics[experiment]['test']['accuracy']:.4f}" in cells
    frozen = {name: files.read_json(study / f"models/{name}/0/model.json")["frozen"] for name in metrics}
    assert {name: each["layers_frozen"] for name, each in frozen.items()} == {"resnet18-half": 20, "resnet18-head": 40}


def test_covidx_and_its_goals(tmp_path: Path) -> None:
    study = made(tmp_path, "covidx", "coatnet-0")
    counted = splits(study)
    assert counted["test"] == dict.fromkeys(CLASSES["covidx"], 4)
    assert len(set(counted["train"].values())) == 1  # downsampled to the smallest class
    judged = files.read_json(study / "reports/evaluation/goals.json")
    assert {each["goal"] for each in judged} == {"at least 0.85", "at most 0.05", "at most 20"}
    assert {each["metric"] for each in judged} == {"accuracy", "train_test_gap", "epochs_to_highest_accuracy"}


def test_pneumonia_keeps_the_given_test_images_and_whole_patients(tmp_path: Path) -> None:
    study = made(tmp_path, "pneumonia", "clipped")
    assert splits(study)["test"] == {"NORMAL": 4, "PNEUMONIA": 8}
    parts = {split: tables.read(study / f"data/split/{split}_data.csv") for split in ("train", "valid")}
    assert len(parts["valid"]) > 0
    assert not set(parts["train"]["patient"]) & set(parts["valid"]["patient"])


def of_three_findings(tree: small.Tree) -> None:
    tree["data"]["classes"] = FINDINGS
    for own in tree["experiments"].values():
        own["model"]["arch"] = "resnet18"


@pytest.mark.slow
def test_nih14_tests_the_official_patients_and_shows_its_published_aurocs(tmp_path: Path) -> None:
    raw, study = tmp_path / "data", small.study(tmp_path / "study")
    nih14(raw)
    scaffold.use(study, "nih14", str(raw), published=False, force=True)
    for change in (shrink, of_three_findings, local_weights(tmp_path)):
        small.edit(study, change)
    _, paths = to_the_report(study)
    test = tables.read(study / "data/split/test_data.csv")
    assert [Path(path).name for path in test["path"]] == (raw / "test_list.txt").read_text().split()
    means = comparison.mean_metrics(artefacts.records(paths.evaluation / "spread.csv", Spread))
    preset = presets.read("nih14")
    official = replace(preset, data=preset.data | {"images": comparison.image_counts(test, FINDINGS)})
    found = comparison.published(
        official, comparison.image_counts(test, FINDINGS), means, files.read_yaml(paths.params)
    )
    here = {row["cells"][0]: row["here"] for row in found["rows"]}
    assert {name for name, metrics in here.items() if metrics} == {*FINDINGS, "macro"}
    metrics = files.read_json(study / "reports/evaluation/test_metrics.json")
    auroc = [metrics[name]["test"]["auroc"] for name in ("resnet50", "densenet121")]
    assert here["macro"] == pytest.approx(auroc, abs=1e-6)
    page = (study / "reports/index.html").read_text()
    assert "The study used Atelectasis 3,279, Cardiomegaly 1,069" in page
    assert "0.9371" in page


@pytest.mark.slow
@pytest.mark.parametrize("name", presets.names())
def test_dvc_has_a_stage_for_each_run(name: str, tmp_path: Path) -> None:
    study = small.study(tmp_path)
    scaffold.use(study, name, None, published=True, force=True)
    small.commit(study)
    found = succeed(study, "stage", "list", "--name-only").split()
    tree = files.read_yaml(study / "params.yaml")
    runs = [f"{experiment}-{repeat}" for experiment in tree["experiments"] for repeat in tree["study"]["repeats"]]
    assert [stage for stage in found if "@" in stage] == [
        f"{kind}@{run}" for kind in ("train", "predict") for run in runs
    ]
