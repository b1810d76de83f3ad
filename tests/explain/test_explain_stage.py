"""The stage: from a trained study to what the report shows."""

import contextlib
from dataclasses import replace
from pathlib import Path

import cv2
import finished_study
import numpy as np
import pytest
import torch
from conftest import Loaded
from PIL import Image

from xraylab import files, tables
from xraylab.data import prepare
from xraylab.data.prepare import Preparation
from xraylab.demo import radiograph
from xraylab.errors import DataError, ParamsError
from xraylab.explain import gallery_maps, localization, saliency
from xraylab.explain.localization import Mask
from xraylab.explain.target import Target
from xraylab.model import weights
from xraylab.paths import Paths
from xraylab.predict.checkpoints import TrainedModel
from xraylab.report import pictures
from xraylab.stages import evaluate, explain, report
from xraylab.train import outputs
from xraylab.train.run import TrainingRun

SIZE = {"images": {"size": 24}, "model": {"img_size": 24}}
UNCROPPED = Preparation(crop_border=False, crop_lungs=False, clip_percentiles=None, clahe=None, pyramid_sharpening=0.0)
FAST = {"occlusion_patch": 0.5, "occlusion_stride": 0.5, "images": 2}


def study(root: Path, changes: dict[str, object] | None = None, metadata: float | None = None) -> Loaded:
    """A finished study whose networks, of random weights, are really there; half of the TB images have a finding."""
    given, paths = finished_study.make(root, {**SIZE, "explain": FAST} | (changes or {}), skill=1.0)
    for number, name in enumerate(given.experiments):
        folder = paths.model(name, 0)
        model = files.read_json(folder / "model.json") | outputs.describe(TrainingRun.load(given, paths, name, 0))
        files.write_json(model, folder / "model.json")
        weights.save(TrainedModel(folder, model).untrained(7 + number), folder / "best.safetensors")
    if metadata:
        model = {"auroc": metadata, "images": 48, "facts": ["format", "size"]}
        audit = files.read_json(paths.audit)
        files.write_json(audit | {"shortcuts": audit["shortcuts"] | {"model": model}}, paths.audit)
    evaluate.run(given, paths)
    return given, paths


def with_findings(paths: Paths, count: int) -> None:
    """Pictures and masks of the first `count` TB test images: the upper left quarter."""
    listed = []
    for number in range(count):
        name = f"TB/test{number}.png"
        mask = np.zeros((48, 48), np.uint8)
        mask[:24, :24] = 3
        for path, pixels in (
            (paths.raw / name, np.full((48, 48), 99, np.uint8)),
            (paths.raw / f"masks/test{number}.png", mask),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        listed.append(f"{name},nodule,0.1,0,0,24,24\n")
    (paths.raw / "findings.csv").write_text("image,finding,subtlety,x,y,width,height\n" + "".join(listed))


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    given, paths = study(tmp_path_factory.mktemp("explained"), metadata=0.99)
    with_findings(paths, 5)
    with (paths.root / "log").open("w") as log, contextlib.redirect_stdout(log):
        explain.run(given, paths)
    return given, paths


def test_the_gallery_has_maps_of_all_test_images_the_greatest_loss_first(explained: Loaded) -> None:
    given, paths = explained
    for record in files.read_json(paths.explanation / "summary.json")["experiments"]:
        target = Target.load(paths, record["experiment"], 0, 1, print)
        table = tables.read(paths.explanation / f"{record['maps']['name']}.csv")
        maps = np.load(paths.explanation / f"{record['maps']['name']}.npy")
        p = target.predictions.set_index("id").loc[table["id"], [f"p_{label}" for label in given.data.classes]]
        assert len(table) == len(target.predictions) == record["maps"]["images"]
        assert list(table["evidence"]) == [given.data.classes[number] for number in p.to_numpy(float).argmax(axis=1)]
        of_actual = p.to_numpy(float)[
            range(len(p)), [given.data.classes.index(name.split("/")[0]) for name in table["id"]]
        ]
        assert (np.diff(of_actual) >= 0).all()
        methods = saliency.methods(["grad-cam"], target.size, 1, 1, target.hardware)
        at = int(maps.any(axis=(1, 2)).argmax())  # random weights may have no evidence for an image's class
        one = target.saliency(methods, [table["id"][at]], [table["evidence"][at]])["grad-cam"][0]
        enlarged = cv2.resize(one, (32, 32), interpolation=cv2.INTER_AREA)
        assert maps[at] == pytest.approx(np.round(255 * enlarged / max(enlarged.max(), 1e-9)), abs=1)


@pytest.mark.parametrize(("count", "images"), [(3, 3), (0, None)])
def test_the_gallery_has_maps_of_as_many_images_as_params_say(
    explained: Loaded, count: int, images: int | None, tmp_path: Path
) -> None:
    target = Target.load(explained[1], "baseline", 0, 1, print)
    record = gallery_maps.write(target, count, tmp_path)
    assert (record and record["images"]) == images
    assert len(list(tmp_path.rglob("maps.*"))) == (2 if images else 0)


def test_a_map_without_saliency_stays_zero() -> None:
    maps = np.stack([np.zeros((64, 64)), np.full((64, 64), 0.5)]).astype(np.float32)
    assert gallery_maps.coarse(maps).reshape(2, -1).max(axis=1).tolist() == [0, 255]


def test_the_top_two_are_explained_with_every_picture_that_is_named(explained: Loaded) -> None:
    _, paths = explained
    summary = files.read_json(paths.explanation / "summary.json")
    assert summary["ranked_on"] == "valid"
    assert [record["experiment"] for record in summary["experiments"]] == files.read_json(
        paths.evaluation / "summary.json"
    )["top_two"]
    named = {layer["picture"] for layer in summary["feature_maps"]["layers"]}
    for record in summary["experiments"]:
        assert [cell["kind"] for cell in record["cells"]] == [
            "true positive", "false negative", "false positive", "true negative",
        ]  # fmt: skip
        assert sum(cell["found"] for cell in record["cells"]) == 16
        for image in [*record["top_losses"], *(each for cell in record["cells"] for each in cell["images"])]:
            assert set(image["pictures"]) == {"image", "grad-cam", "occlusion"}
            named |= set(image["pictures"].values())
    written = {path.relative_to(paths.explanation).as_posix() for path in paths.explanation.rglob("*.png")}
    assert written == named
    assert all(Image.open(paths.explanation / name).size <= (160, 160) for name in written)


def test_findings_are_measured_for_the_network_and_for_random_weights(explained: Loaded) -> None:
    _, paths = explained
    for record in files.read_json(paths.explanation / "summary.json")["experiments"]:
        found = record["localisation"]
        assert (found["images"], found["too_small"]) == (5, 0)
        for networks_ in found["methods"].values():
            assert set(networks_) == {"trained", "random"}
            assert networks_["trained"]["chance"] == 0.25
            assert networks_["trained"] != networks_["random"]
            # all masks are alike, so that another image's is one's own
            assert networks_["trained"]["hit_rate_other"] == pytest.approx(networks_["trained"]["hit_rate"])


def test_probes_black_out_what_the_network_is_shown(explained: Loaded) -> None:
    """With the network's own probabilities and scikit-learn, on images blacked out by hand."""
    given, paths = explained
    (record, *_) = files.read_json(paths.explanation / "summary.json")["experiments"]
    folder = paths.model(record["experiment"], 0)
    model = files.read_json(folder / "model.json")
    network = TrainedModel(folder, model).network(model["best_epoch"]).eval()
    table = tables.read(paths.prediction(record["experiment"], 0))
    tested = table[(table["checkpoint"] == "best") & (table["split"] == "test")]
    ids = list(tables.read(paths.cache / "rows.csv")["id"])
    images = np.load(paths.cache / "images.npy")[[ids.index(name) for name in tested["id"]]].astype(np.float32)
    edge = round(24 * (1 - given.explain.centre) / 2)
    images[:, edge:-edge, edge:-edge] = 0
    with torch.no_grad():
        p = network(torch.from_numpy((images / 255 - 0.449) / 0.226)[:, None]).softmax(dim=1)[:, 1].numpy()
    ill = (tested["label"] == "TB").to_numpy()
    above = (p[ill][:, None] > p[~ill]).mean()  # the AUROC is the share of pairs in order
    assert record["probes"]["centre"]["auroc"] == pytest.approx(above)


def test_metadata_that_tell_the_class_are_a_warning_in_the_log_and_the_report(explained: Loaded) -> None:
    given, paths = explained
    report.run(given, paths)
    record = files.read_json(paths.explanation / "summary.json")["experiments"][0]
    assert record["probes"]["metadata"]["shortcut"] is True
    (warning,) = [
        each for each in record["probes"]["warnings"] if "metadata" in each or "facts about the files" in each
    ]
    assert warning.startswith(
        "A model that sees only facts about the files (format, size), and no image, reaches an AUROC of 0.99 "
        "(whole images: "
    )
    assert f"warning: {record['experiment']}: {warning}\n" in (paths.root / "log").read_text()
    page = paths.report.read_text()
    assert f"<p><strong>{record['experiment']}: shortcut.</strong> {warning}</p>" in page
    assert "Random weights are a sanity check" in page


def test_a_network_that_loses_its_skill_with_the_border_is_a_warning_above_the_answer(explained: Loaded) -> None:
    given, paths = explained
    report.run(given, paths)
    records = files.read_json(paths.explanation / "summary.json")["experiments"]
    kept = {record["experiment"]: record["probes"]["border"]["kept"] for record in records}
    assert all(
        share < given.explain.shortcut_ratio for share in kept.values()
    )  # random weights know nothing with a black border
    for record in records:
        assert any(text.startswith("With the border of every image") for text in record["probes"]["warnings"])
    top = paths.report.read_text().partition('<div class="answer">')[0]
    shares = " and ".join(f"{100 * share:.0f} % ({name})" for name, share in kept.items())
    assert f"Retained of the AUROC above chance: {shares} with the image border blackened" in top


def test_the_page_shows_every_picture_and_says_what_it_is(explained: Loaded) -> None:
    given, paths = explained
    report.run(given, paths)
    summary, page = files.read_json(paths.explanation / "summary.json"), paths.report.read_text()
    for record in summary["experiments"]:
        for image in record["top_losses"]:
            for name, path in image["pictures"].items():
                uri = pictures.file_uri(paths.explanation / path)
                alt = f"Radiograph {image['id']}: {image['actual']}, predicted {image['predicted']}"
                if name != "image":
                    method = pictures.METHODS[name]
                    alt = f"{method} of {image['id']}: where the evidence for {image['evidence_for']} is"
                assert f'<img src="{uri}" alt="{alt}"' in page


def test_hostile_names_do_nothing_on_the_page(explained: Loaded) -> None:
    given, paths = explained
    where, script = paths.explanation / "summary.json", "<script>alert(1)</script>"
    text = where.read_text()
    try:
        where.write_text(text.replace("TB/test", f"TB/{script}test"))
        report.run(given, paths)
    finally:
        where.write_text(text)
    page = paths.report.read_text()
    assert script not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;test" in page


def test_a_study_that_explains_nothing_says_so(tmp_path: Path) -> None:
    given, paths = study(tmp_path, {"explain": FAST | {"experiments": []}})
    explain.run(given, paths)
    report.run(given, paths)
    assert files.read_json(paths.explanation / "summary.json") == {
        "ranked_on": None, "methods": ["grad-cam", "occlusion"], "experiments": [], "feature_maps": None,
    }  # fmt: skip
    assert "<p>Not examined: <code>explain.experiments</code> names no experiment.</p>" in paths.report.read_text()


def test_chosen_experiments_without_findings(tmp_path: Path) -> None:
    given, paths = study(tmp_path, {"explain": FAST | {"experiments": ["l2"], "methods": ["grad-cam"]}})
    explain.run(given, paths)
    (record,) = files.read_json(paths.explanation / "summary.json")["experiments"]
    assert (record["experiment"], record["localisation"]) == ("l2", None)
    assert record["probes"]["metadata"] == {"auroc": None, "kept": None, "shortcut": None, "facts": []}
    assert set(record["top_losses"][0]["pictures"]) == {"image", "grad-cam"}


def test_three_classes(tmp_path: Path) -> None:
    classes = {"data": {"classes": ["Covid", "Normal", "Pneumonia"], "positive": None}}
    given, paths = study(tmp_path, classes | {"explain": FAST | {"methods": ["grad-cam"], "experiments": ["l2"]}})
    explain.run(given, paths)
    report.run(given, paths)
    record = files.read_json(paths.explanation / "summary.json")["experiments"][0]
    assert [cell["label"] for cell in record["cells"]] == ["Covid"] * 3 + ["Normal"] * 3 + ["Pneumonia"] * 3
    assert 0 <= record["probes"]["centre"]["auroc"] <= 1


def test_a_run_without_test_images_is_an_error(tmp_path: Path) -> None:
    given, paths = study(tmp_path)
    for name in given.experiments:
        table = tables.read(paths.prediction(name, 0))
        tables.write(table[table["split"] == "valid"], paths.prediction(name, 0))
    with pytest.raises(DataError) as caught:
        explain.run(given, paths)
    best = files.read_json(paths.evaluation / "top_two.json")["top_two"][0]
    assert str(caught.value) == (f"{paths.prediction(best, 0)} has no test images, so there is nothing to explain")


def test_random_weights_are_of_the_same_architecture_and_come_from_the_seed(explained: Loaded) -> None:
    _, paths = explained
    model = files.read_json(paths.model("l2", 0) / "model.json")
    one, same, other = (TrainedModel(paths.models, model).untrained(seed).state_dict() for seed in (0, 0, 1))
    trained = TrainedModel(paths.model("l2", 0), model).network(model["best_epoch"]).state_dict()
    assert {name: tensor.shape for name, tensor in one.items()} == {name: t.shape for name, t in trained.items()}
    assert torch.equal(one["conv1.weight"], same["conv1.weight"])
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize(
    ("fit", "inside"), [("squash", (slice(0, 12), slice(0, 8))), ("pad", (slice(4, 12), slice(0, 8)))]
)
def test_a_mask_is_fitted_as_its_image(tmp_path: Path, fit: str, inside: tuple[slice, slice]) -> None:
    """An image of 48 x 32 pixels with a finding in the upper left: squashed to 24, or with 4 rows of black above."""
    mask = np.zeros((32, 48), np.uint8)
    mask[:16, :16] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(np.full((32, 48), 7, np.uint8)).save(tmp_path / "image.png")
    found = localization.read_mask(Mask(tmp_path / "mask.png", tmp_path / "image.png", UNCROPPED, fit), 24)
    expected = np.zeros((24, 24), bool)
    expected[inside] = True
    assert (found == expected).all()


def test_a_cropped_border_is_cropped_off_the_mask(tmp_path: Path) -> None:
    image = np.zeros((24, 24), np.uint8)
    image[6:18, 6:18] = np.random.default_rng(0).integers(60, 255, (12, 12))
    mask = np.zeros((24, 24), np.uint8)
    mask[6:12, 6:18] = 2
    for name, pixels in (("image", image), ("mask", mask)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    cropped = replace(UNCROPPED, crop_border=True)
    found = localization.read_mask(Mask(tmp_path / "mask.png", tmp_path / "image.png", cropped, "squash"), 12)
    assert found[:6].all()
    assert not found[6:].any()


def test_a_mask_is_cropped_to_the_lungs_of_its_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    film = radiograph.expose(radiograph.draw_patient(rng, diseased=False), 160, rng).gray
    how = replace(UNCROPPED, crop_lungs=True)
    kept = prepare.find_crop(film, how)
    mask = np.zeros((160, 160), np.uint8)
    mask[kept.rows.start : kept.rows.start + 30, kept.columns] = 1
    for name, pixels in (("image", film), ("mask", mask)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    found = localization.read_mask(Mask(tmp_path / "mask.png", tmp_path / "image.png", how, "squash"), 100)
    rows = round(30 / (kept.rows.stop - kept.rows.start) * 100)
    assert kept.lungs
    assert found[: rows - 1].all()
    assert not found[rows + 1 :].any()


def test_a_mask_of_another_size_or_none_is_an_error(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "mask.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "image.png")
    with pytest.raises(DataError) as caught:
        localization.read_mask(Mask(tmp_path / "mask.png", tmp_path / "image.png", UNCROPPED, "squash"), 8)
    assert str(caught.value) == f"{tmp_path}/mask.png has 6 x 4 pixels, its image 8 x 8: they must be of one size"
    _, paths = finished_study.make(tmp_path / "study")
    with_findings(paths, 1)
    (paths.raw / "masks/test0.png").unlink()
    with pytest.raises(DataError) as caught:
        localization.find_masks(paths.raw, tables.read(paths.index), UNCROPPED, "squash")
    assert str(caught.value) == (
        f"findings.csv lists a finding in TB/test0.png, but {paths.raw}/masks/test0.png does not exist: "
        "add it, or drop the row"
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"experiments": ["l3"]}, "explain.experiments: 'l3' is not one of the experiments; there is baseline, l2"),
        ({"experiments": ["l2", "l2"]}, "explain.experiments: names one twice"),
        ({"methods": ["occlusion", "occlusion"]}, "explain.methods: names one twice"),
        (
            {"occlusion_patch": 0.1, "occlusion_stride": 0.2},
            "explain.occlusion_stride: 0.2 is more than explain.occlusion_patch (0.1), so that some pixels would "
            "never be covered",
        ),
    ],
)
def test_contradictions(tmp_path: Path, changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ParamsError) as caught:
        finished_study.make(tmp_path, {"explain": changes})
    assert caught.value.problems == (problem,)
