"""The studies of docs/results.md on real radiographs, end to end: `python bench/real.py NAME DATA [--out FOLDER]`.

NAME is pneumonia, transfer, tb, covid3 or findings, or all; DATA is a folder with `kermany/chest_xray`,
`tb/{Normal,TB}` and `covid3/{Covid-19,No_findings,Pneumonia}`. Each study is a clone of this repository with the
changes below in its params.yaml, brought up to date by `dvc repro`; its tables are printed as Markdown. `transfer` and
`covid3` begin with the weights of `pneumonia`, which has to be in FOLDER already. `findings` are the films of `covid3`
that come from NIH ChestX-ray14, with the labels that NIH's list (--nih-list, a CSV, perhaps .gz) gives them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from xraylab import files

REPOSITORY = Path(__file__).parents[1]
STUDIES = ("pneumonia", "transfer", "tb", "covid3", "findings")
CACHED_SIZE, IMG_SIZE = 128, 96
NIH_PATIENT = r"^(?P<patient>\d{8}(?=_\d{3}\.)|.+(?=\.))"
WEIGHTS = "pneumonia/models/baseline/0"
FREEZES: dict[str, dict[str, Any]] = {
    "all": {},
    "first-two-blocks": {"n_blocks": 2},
    "half": {"layer_fraction": 0.5},
    "three-quarters": {"layer_fraction": 0.75},
    "head": {"until": "head"},
}
MIN_POSITIVE = 25  # films with a finding of NIH's, so that each split has some
Tree = dict[str, Any]


def pneumonia(tree: Tree, data: Path, out: Path) -> None:
    tree["data"]["source"] = str(data / "kermany/chest_xray")
    tree["model"].update(arch="resnet18", pretrained="none")
    tree["train"].update(epochs=6, lr=3e-4, min_epochs=2)
    tree["experiments"]["step"]["train"]["decay_epochs"] = 2


def tb(tree: Tree, data: Path, out: Path) -> None:
    tree["data"].update(source=str(data / "tb"), classes=["Normal", "TB"])
    tree["model"].update(arch="resnet18", channels=1)
    tree["train"].update(epochs=10, batch_size=16)


def transfer(tree: Tree, data: Path, out: Path) -> None:
    tb(tree, data, out)
    tree["model"]["pretrained"] = str(out / WEIGHTS)
    tree["train"].update(epochs=6, lr=3e-4)
    tree["study"].update(baseline="scratch", preset=None)
    tree["experiments"] = {"scratch": {"model": {"pretrained": "none"}}} | {
        name: {"model": {"freeze": freeze}} if freeze else {} for name, freeze in FREEZES.items()
    }


def covid3(tree: Tree, data: Path, out: Path) -> None:
    classes = ["Covid-19", "No_findings", "Pneumonia"]
    tree["data"].update(source=str(data / "covid3"), classes=classes, positive=None, patient=NIH_PATIENT)
    tree["evaluate"]["negative_class"] = "No_findings"
    tree["split"].update(strategy="folds", folds=3, test_pct=None)
    tree["study"]["repeats"] = [0, 1, 2]
    tree["model"].update(arch="resnet18", channels=1)
    tree["train"].update(schedule="one_cycle", epochs=5, lr=1e-3, batch_size=32)
    tree["experiments"] = {
        "baseline": {},
        "weighted": {"loss": {"class_weights": "balanced"}},
        "mixup": {"augment": {"mixup_alpha": 0.4}},
        "transfer": {"model": {"pretrained": str(out / WEIGHTS)}},
    }


def findings(tree: Tree, data: Path, out: Path) -> None:
    """Several findings per film: those of NIH's list that enough of the films have."""
    folder = out / NIH_FOLDER
    labels = pd.read_csv(folder / "Data_Entry_2017.csv")["Finding Labels"]
    counts = labels.str.split("|").explode().value_counts().drop("No Finding")
    names = [name for name, count in counts.items() if count >= MIN_POSITIVE]
    tree["data"].update(source=str(folder), layout="nih", task="multi-label", classes=names, positive=None)
    tree["split"].update(strategy="random", test_pct=0.3)
    tree["model"].update(arch="resnet18", channels=1)
    tree["loss"].update(name="bce")
    tree["train"].update(schedule="one_cycle", epochs=8, lr=1e-3, batch_size=32, monitor="valid_auroc")
    tree["study"].update(baseline="bce", repeats=[0, 1, 2])
    tree["experiments"] = {
        "bce": {},
        "weighted": {"loss": {"pos_weight": "balanced"}},
        "asymmetric": {"loss": {"name": "asymmetric"}},
    }


def nih_films(data: Path, nih_list: Path, folder: Path) -> None:
    """The films of covid3 that NIH's list names, and the part of the list that names them, in NIH's own layout."""
    paths = {path.stem: path for name in ("No_findings", "Pneumonia") for path in (data / "covid3" / name).iterdir()}
    rows = pd.read_csv(nih_list, dtype=str)
    rows = rows[rows["Image Index"].str.removesuffix(".png").isin(paths)]
    (folder / "images").mkdir(parents=True)
    for stem in rows["Image Index"].str.removesuffix(".png"):
        shutil.copyfile(paths[stem], folder / "images" / paths[stem].name)
    rows.to_csv(folder / "Data_Entry_2017.csv", index=False)


CHANGES: dict[str, Callable[[Tree, Path, Path], None]] = {
    "pneumonia": pneumonia,
    "transfer": transfer,
    "tb": tb,
    "covid3": covid3,
    "findings": findings,
}
NIH_FOLDER = "nih-films"
PRESETS = {"pneumonia": "pneumonia", "tb": "tb", "transfer": "tb"}


def run(name: str, data: Path, out: Path) -> Path:
    """The finished study, in a clone of this repository."""
    folder = out / name
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, folder], check=True)
    command = [sys.executable, "src", "study", "use"]
    if name in PRESETS:
        subprocess.run([*command, PRESETS[name]], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    yaml = YAML()
    tree = yaml.load(folder / "params.yaml")
    tree["images"]["size"], tree["model"]["img_size"] = CACHED_SIZE, IMG_SIZE
    CHANGES[name](tree, data, out)
    yaml.dump(tree, folder / "params.yaml")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=folder, check=True, env=os.environ | {"PATH": path})
    print(f"\n{name}: dvc repro took {time.monotonic() - started:.0f} s")
    return folder


def show(folder: Path) -> None:
    """Metrics of the best epochs on the test images, and the tests against the baseline."""
    evaluation = folder / "reports/evaluation"
    values = pd.read_csv(evaluation / "metrics.csv")
    kind = "pooled" if "pooled" in set(values["kind"]) else "repeat"
    best = values[(values["checkpoint"] == "best") & (values["split"] == "test") & (values["kind"] == kind)]
    tables = {name: rows.set_index(["class", "metric"]) for name, rows in best.groupby("experiment", sort=False)}
    validation = pd.read_csv(folder / "reports/comparison.csv").query("checkpoint == 'best' and split == 'valid'")
    wanted = [("accuracy", "overall"), ("ppv", None), ("sensitivity", None), ("f1", None), ("auroc", None)]
    for name, table in tables.items():
        own = validation[validation["experiment"] == name]
        epochs = ", ".join(map(str, own["epoch"]))
        cells = [_cell(table, metric) for metric, _ in wanted]
        seconds = [
            files.read_json(path)["train_seconds"] for path in sorted((folder / "models" / name).glob("*/model.json"))
        ]
        print(f"| {name} | {epochs} | {own['f1'].mean():.4f} | {' | '.join(cells)} | {sum(seconds):.0f} s |")
    print()
    for row in pd.read_csv(evaluation / "comparisons.csv").query("kind == 'baseline'").itertuples():
        print(f"{row.sentence} (Holm {row.p_holm:.3g})")
    for path in (evaluation / "confusion_matrices.json", folder / "reports/explain/summary.json"):
        print(path.name, _brief(files.read_json(path)))


def show_findings(folder: Path) -> None:
    """AUROC of each finding and of the means over findings, of the mean probability over seeds, and the tests."""
    evaluation = folder / "reports/evaluation"
    values = pd.read_csv(evaluation / "metrics.csv").query(
        "checkpoint == 'best' and kind == 'mean' and metric == 'auroc'"
    )
    experiments = list(values["experiment"].unique())
    print(f"| finding | test images with it | {' | '.join(experiments)} |")
    for name, rows in values.groupby("class", sort=False):
        of_experiments = rows.set_index("experiment")
        cells = [
            f"{row['value']:.3f} ({row['ci_low']:.3f} to {row['ci_high']:.3f})"
            for row in (of_experiments.loc[each] for each in experiments)
        ]
        print(f"| {name} | {rows['n'].iloc[0]} | {' | '.join(cells)} |")
    print()
    for row in (
        pd.read_csv(evaluation / "comparisons.csv").query("kind == 'baseline' and role == 'primary'").itertuples()
    ):
        print(row.sentence)


def _cell(table: pd.DataFrame, metric: str) -> str:
    rows = [key for key in table.index if key[1] == metric]
    shown = []
    for key in rows:
        value, low, high = (table.loc[key, column] for column in ("value", "ci_low", "ci_high"))
        shown.append(f"{key[0]} {value:.3f}" + ("" if pd.isna(low) else f" ({low:.3f} to {high:.3f})"))
    return "; ".join(shown)


def _brief(record: Any) -> Any:
    if isinstance(record, dict) and "experiments" in record:
        return [{"experiment": each["experiment"], "probes": each["probes"]} for each in record["experiments"]]
    return [{key: each[key] for key in ("experiment", "repeat", "counts")} for each in record]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*STUDIES, "all"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("real-studies"))
    parser.add_argument("--nih-list", type=Path, help="Data_Entry_2017_v2020.csv, for findings")
    given = parser.parse_args()
    out, names = given.out.resolve(), STUDIES if given.name == "all" else (given.name,)
    if "findings" in names:
        if given.nih_list is None:
            parser.error("findings needs --nih-list")
        nih_films(given.data.resolve(), given.nih_list, out / NIH_FOLDER)
    for name in names:
        folder = run(name, given.data.resolve(), out)
        show_findings(folder) if name == "findings" else show(folder)


if __name__ == "__main__":
    main()
