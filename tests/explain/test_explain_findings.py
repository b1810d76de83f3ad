"""explain of several findings per image: each finding by its own logit, threshold, boxes and probes."""

import contextlib
from pathlib import Path

import findings_networks
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Loaded
from findings_networks import FINDINGS
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from xraylab import files, tables, targets
from xraylab.data.prepare import Preparation
from xraylab.errors import DataError, ParamsError
from xraylab.explain import localization, probes, saliency, selection
from xraylab.explain.localization import Mask
from xraylab.predict.checkpoints import TrainedModel
from xraylab.stages import explain

FAST = {"occlusion_patch": 0.5, "occlusion_stride": 0.5, "images": 2, "findings": 2}
UNCROPPED = Preparation(crop_border=False, crop_lungs=False, clip_percentiles=None, clahe=None, pyramid_sharpening=0.0)


def with_boxes(paths_raw: Path, images: list[str], finding: str) -> None:
    """Pictures of 48 pixels, with a box over the upper left quarter."""
    rows = []
    for name in images:
        (paths_raw / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((48, 48), 99, np.uint8)).save(paths_raw / name)
        rows.append(f"{name},{finding},0.1,0,0,24,24\n")
    (paths_raw / "findings.csv").write_text("image,finding,subtlety,x,y,width,height\n" + "".join(rows))


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    given, paths = findings_networks.make(tmp_path_factory.mktemp("explained"), {"explain": FAST})
    with_boxes(paths.raw, [f"films/test{number}.png" for number in range(3)], "pleural_effusion")
    with (paths.root / "log").open("w") as log, contextlib.redirect_stdout(log):
        explain.run(given, paths)
    return given, paths


def truth_and_p(loaded: Loaded, split: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    _, paths = loaded
    table = tables.read(paths.prediction("baseline", 0))
    rows = table[table["split"] == split]
    labels = tables.read(paths.index).set_index("id").loc[rows["id"], targets.columns(FINDINGS)]
    return labels.set_axis(FINDINGS, axis=1), rows.set_index("id")


def test_the_most_frequent_findings_are_shown_and_all_have_youdens_threshold(explained: Loaded) -> None:
    (record,) = files.read_json(explained[1].explanation / "summary.json")["experiments"]
    tested, _ = truth_and_p(explained, "test")
    counts = (tested == 1).sum()
    assert record["findings"]["shown"] == list(counts.sort_values(ascending=False, kind="stable").index[:2])
    labels, p = truth_and_p(explained, "valid")
    assert set(record["findings"]["thresholds"]) == set(FINDINGS)
    for name, threshold in record["findings"]["thresholds"].items():
        known = labels[name].isin([0, 1])
        fpr, tpr, thresholds = roc_curve(labels[name][known].astype(int), p[f"p_{name}"][known])
        assert threshold == thresholds[np.argmax(np.round(tpr - fpr, 12))]


def test_cells_are_of_the_images_where_the_finding_is_known_at_its_threshold(explained: Loaded) -> None:
    (record,) = files.read_json(explained[1].explanation / "summary.json")["experiments"]
    labels, p = truth_and_p(explained, "test")
    kinds = ["true positive", "false negative", "false positive", "true negative"]
    shown = record["findings"]["shown"]
    assert [(cell["label"], cell["kind"]) for cell in record["cells"]] == [
        (name, kind) for name in shown for kind in kinds
    ]
    for cell in record["cells"]:
        name = cell["label"]
        predicted = p[f"p_{name}"] >= record["findings"]["thresholds"][name]
        present = cell["kind"] in ("true positive", "false negative")
        says = cell["kind"].endswith("positive")
        assert (
            cell["found"] == ((labels[name] == int(present)).to_numpy(bool, na_value=False) & (predicted == says)).sum()
        )
        for image in cell["images"]:
            assert image["evidence_for"] == name
            assert image["actual"] == (name if present else f"not {name}")
            assert image["predicted"] == (name if says else f"not {name}")
            score = p.loc[image["id"], f"p_{name}"]
            assert image["probability"] == pytest.approx(score if says else 1 - score)


def test_the_greatest_losses_are_those_of_one_finding_of_an_image(explained: Loaded) -> None:
    (record,) = files.read_json(explained[1].explanation / "summary.json")["experiments"]
    labels, p = truth_and_p(explained, "test")
    losses = {
        (image, name): -np.log(p.loc[image, f"p_{name}"] if label == 1 else 1 - p.loc[image, f"p_{name}"])
        for name in FINDINGS
        for image, label in labels[name].dropna().items()
        if label in (0, 1)
    }
    first, second = record["top_losses"]
    assert first["loss"] == pytest.approx(max(losses.values()))
    assert losses[first["id"], first["finding"]] == pytest.approx(first["loss"])
    assert first["evidence_for"] == first["finding"]
    rest = {key: loss for key, loss in losses.items() if key[0] != first["id"]}
    assert second["loss"] == pytest.approx(max(rest.values()))


def test_the_boxes_of_a_finding_by_any_of_its_names_are_measured(explained: Loaded) -> None:
    (record,) = files.read_json(explained[1].explanation / "summary.json")["experiments"]
    (measured,) = record["localisation"]
    assert (measured["finding"], measured["images"], measured["too_small"]) == ("Effusion", 3, 0)
    for method in measured["methods"].values():
        assert method["trained"]["chance"] == 0.25
        assert method["trained"] != method["random"]


def test_probes_are_scikit_learns_auroc_of_each_finding_with_sigmoids(explained: Loaded) -> None:
    given, paths = explained
    record = files.read_json(paths.explanation / "summary.json")["experiments"][0]["probes"]
    model = files.read_json(paths.model("baseline", 0) / "model.json")
    network = TrainedModel(paths.model("baseline", 0), model).network(1).eval()
    labels, p = truth_and_p(explained, "test")
    ids = list(tables.read(paths.cache / "rows.csv")["id"])
    images = np.load(paths.cache / "images.npy")[[ids.index(name) for name in p.index]].astype(np.float32)
    edge = round(24 * (1 - given.explain.centre) / 2)
    images[:, edge:-edge, edge:-edge] = 0
    with torch.no_grad():
        logits = network(torch.from_numpy((images / 255 - 0.449) / 0.226)[:, None]).numpy()
    aurocs = []
    for number, name in enumerate(FINDINGS):
        known = labels[name].isin([0, 1]).to_numpy()
        actual = labels[name][known].astype(int)
        few = min(actual.sum(), len(actual) - actual.sum()) < probes.LEAST_IMAGES
        ours = record["findings"][name]
        assert ours["auroc"] == (None if few else pytest.approx(roc_auc_score(actual, p[f"p_{name}"][known])))
        if not few:
            assert ours["centre"]["auroc"] == pytest.approx(roc_auc_score(actual, logits[known, number]))
            aurocs.append(ours["auroc"])
    assert aurocs
    assert record["auroc"] == pytest.approx(np.mean(aurocs))


def test_warnings_name_the_findings(explained: Loaded) -> None:
    found = {"auroc": 0.9, "kept": 0.95, "shortcut": True}
    fine = {"auroc": 0.6, "kept": 0.2, "shortcut": False}
    findings = {
        name: {"auroc": 0.92, "centre": centre, "border": fine, "metadata": fine}
        for name, centre in (("Mass", fine), ("Effusion", found), ("Nodule", found | {"kept": 0.99}))
    }
    assert probes.finding_warnings(findings, ["format"], 0.8, 0.8) == [
        "With the centre of every image blacked out, the network keeps at least 80 % of what it knows beyond chance of "
        "Nodule (AUROC 0.90, whole images 0.92), Effusion (AUROC 0.90, whole images 0.92). "
        "It tells this without the lungs."
    ]
    (record,) = files.read_json(explained[1].explanation / "summary.json")["experiments"]
    for warning in record["probes"]["warnings"]:
        assert f"warning: baseline: {warning}\n" in (explained[1].root / "log").read_text()


def test_the_evidence_for_a_finding_is_its_logit() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 3, dtype=torch.float64)
    findings = torch.tensor([0, 1, 2, 0, 1])
    p = logits.sigmoid()[torch.arange(5), findings]
    assert torch.allclose(saliency.logit(logits, findings), torch.log(p / (1 - p)))


def test_findings_that_no_image_has_are_not_among_the_most_frequent() -> None:
    truth = np.array([[1, 0, 1, 1], [0, 0, 1, -1], [np.nan, np.nan, 0, 1]])
    assert selection.most_frequent(truth, ["a", "b", "c", "d"], 4) == ["c", "d", "a"]


def test_boxes_cut_out_one_finding_of_a_mask_with_several(tmp_path: Path) -> None:
    levels, mask = np.full((20, 40), 9, np.uint8), np.zeros((20, 40), np.uint8)
    mask[:10, :10], mask[:10, 30:] = 1, 2
    for name, pixels in (("image", levels), ("mask", mask)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    boxes = ((0, 0, 15, 15), (-5, 15, 10, 100))
    within = localization.read_mask(Mask(tmp_path / "mask.png", tmp_path / "image.png", UNCROPPED, "squash", boxes), 20)
    alone = localization.read_mask(Mask(None, tmp_path / "image.png", UNCROPPED, "squash", boxes), 20)
    expected = np.zeros((20, 20), bool)
    expected[:10, :5] = True
    assert (within == expected).all()
    assert alone.sum() == 15 * 8 + 5 * 3  # squashed to half the width; half a column counts


def test_a_list_of_findings_without_boxes_is_an_error(tmp_path: Path) -> None:
    _, paths = findings_networks.make(tmp_path)
    (paths.raw).mkdir(parents=True)
    (paths.raw / "findings.csv").write_text("image,finding\nfilms/test0.png,Mass\n")
    with pytest.raises(DataError) as caught:
        localization.find_masks_of_findings(paths.raw, tables.read(paths.index), UNCROPPED, "squash", FINDINGS)
    assert str(caught.value) == f"{paths.raw}/findings.csv has no column x: add it, or remove the file"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"explain": {"findings": ["Hernia"]}},
            "explain.findings: 'Hernia' is none of data.classes (Effusion, Mass, Nodule)",
        ),
        ({"explain": {"findings": ["Mass", "Mass"]}}, "explain.findings: names one twice"),
    ],
)
def test_findings_that_are_not_there_are_refused(tmp_path: Path, changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ParamsError) as caught:
        findings_networks.make(tmp_path, changes)
    assert caught.value.problems == (problem,)
