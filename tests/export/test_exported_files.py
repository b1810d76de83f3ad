"""An exported file gives the classifier's probabilities without xraylab, or is not written."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import small
import torch
from conftest import Loaded
from PIL import Image
from sklearn.metrics import roc_auc_score

import xraylab
from xraylab import files, shards
from xraylab.data import augment
from xraylab.errors import DataError, MissingError
from xraylab.export import command, graph, int8, metadata, onnx_file, parity, pt2_file, samples
from xraylab.export.graph import ClassifierGraph
from xraylab.export.samples import Samples
from xraylab.inference.classifier import Classifier
from xraylab.inference.thresholds import OperatingPoint, Thresholds
from xraylab.predict import cards, classifiers

POINTS = Thresholds([OperatingPoint("TB", "Youden", 0.4)], temperature=1.7)
PER_FINDING = Thresholds(temperatures={"a": 0.5, "b": 1.0, "c": 3.0})
IMAGES = files.read_yaml(small.REPOSITORY / "params.yaml")["images"]
RANDOM = np.random.default_rng(0)


class Pooled(torch.nn.Module):
    """A network of one convolution, whose probabilities change with every pixel."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = torch.nn.Conv2d(channels, 8, 3, stride=2), torch.nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).relu().mean(dim=(2, 3))) * 20


def classifier(
    size: int,
    img_size: int,
    channels: int = 1,
    thresholds: Thresholds = POINTS,
    task: str = "single-label",
    findings: Sequence[str] = ("a", "b", "c"),
) -> Classifier:
    classes = list(findings) if task == "multi-label" else ["Healthy", "TB"]
    record = {
        "classes": classes, "positive": "TB", "task": task, "arch": "pooled", "channels": channels,
        "img_size": img_size,
        "normalise": {"mean": [0.485, 0.456, 0.406][:channels], "std": [0.229, 0.224, 0.225][:channels]},
        "images": IMAGES | {"size": size}, "multiply_adds": 1, "hardware": {"precision": "bfloat16"},
    }  # fmt: skip
    return Classifier.create("pooled/0", record, thresholds, Pooled(channels, len(classes)), "float32")


def images(n: int, size: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (n, size, size), dtype=np.uint8)


def resized(size: int, img_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Levels of three images as the graph resizes them, and as the classifier does."""
    one, films = classifier(size, img_size), images(3, size)
    with torch.inference_mode():
        levels = ClassifierGraph(one).resize(torch.from_numpy(films).float()).numpy()
    return levels, np.stack([augment.resize(film, img_size) for film in films])


@pytest.mark.parametrize(
    ("size", "img_size"), [(64, 64), (64, 32), (96, 32), (64, 16), (320, 224), (100, 64), (299, 160)]
)
def test_the_graph_shrinks_to_the_last_bit(size: int, img_size: int) -> None:
    levels, expected = resized(size, img_size)
    assert (levels == expected).all()


@pytest.mark.parametrize(("size", "img_size"), [(32, 64), (48, 100), (192, 224)])
def test_the_graph_enlarges_but_for_the_rounding_of_halves(size: int, img_size: int) -> None:
    levels, expected = resized(size, img_size)
    difference = np.abs(levels - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.001


@pytest.mark.parametrize("form", [onnx_file, pt2_file])
@pytest.mark.parametrize(
    ("channels", "task", "thresholds"),
    [(1, "single-label", Thresholds()), (3, "multi-label", PER_FINDING)],
    ids=["gray", "findings"],
)
def test_a_file_gives_the_probabilities_at_any_batch(
    form: object, channels: int, task: str, thresholds: Thresholds, tmp_path: Path
) -> None:
    one = classifier(40, 32, channels, thresholds, task)
    form.write(ClassifierGraph(one).eval(), 40, {}, tmp_path / "file")
    run = form.runner(tmp_path / "file")
    for n in (1, 7):
        films = images(n, 40)
        p, *calibrated = run(films)
        assert p == pytest.approx(one.predict_proba(films), abs=1e-5)
        expected = one.calibrate(p.astype(float))
        assert len(calibrated) == (expected is not None)
        if calibrated:
            assert calibrated[0] == pytest.approx(expected, abs=1e-6)


Export = Callable[..., list[str]]


@pytest.fixture
def export(trained: Loaded, monkeypatch: pytest.MonkeyPatch) -> Export:
    """Exports a network of one convolution as if it were the run of a study."""
    monkeypatch.chdir(trained[1].root)
    monkeypatch.setattr(classifiers, "find", lambda source, precision: classifier(32, 32))
    return lambda *arguments: list(command.run("baseline", *arguments))


def test_a_run_is_exported_to_onnx_with_all_that_its_user_needs(
    export: Export, trained: Loaded, tmp_path: Path
) -> None:
    target = tmp_path / "model.onnx"
    checked, written = export("onnx", target)
    assert checked.startswith("onnxruntime on 6 test images: probabilities differ from the network's in float32 by at ")
    assert written == f"{target}: opset 25, {target.stat().st_size / 1e6:.1f} MB"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(target)
    (taken,) = session.get_inputs()
    assert (taken.name, taken.type, taken.shape) == ("images", "tensor(uint8)", ["n", 32, 32])
    pixels, _ = shards.load(trained[1].cache)
    p, calibrated = session.run(None, {"images": pixels[:5]})
    one = classifier(32, 32)
    assert p == pytest.approx(one.predict_proba(pixels[:5]), abs=1e-5)
    assert calibrated == pytest.approx(one.calibrate(p.astype(float)), abs=1e-5)
    assert session.get_modelmeta().custom_metadata_map == metadata.of(one)
    assert onnx.load(target).opset_import[0].version == onnx_file.newest_opset() == 25
    onnx.checker.check_model(target, full_check=True)


def test_a_pt2_file_needs_torch_alone(export: Export, tmp_path: Path) -> None:
    target = tmp_path / "model.pt2"
    export("pt2", target)
    code = (
        "import sys, json\n"
        "for name in ('xraylab', 'timm', 'torchvision', 'fastai', 'onnx'): sys.modules[name] = None\n"
        "import torch\n"
        "extra = {'classes': ''}\n"
        f"program = torch.export.load({str(target)!r}, extra_files=extra).module()\n"
        "images = (torch.arange(3 * 32 * 32) % 251).reshape(3, 32, 32).to(torch.uint8)\n"
        "print(json.dumps([json.loads(extra['classes']), program(images)[0].tolist()]))\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    classes, p = json.loads(done.stdout)
    assert classes == ["Healthy", "TB"]
    films = (np.arange(3 * 32 * 32) % 251).reshape(3, 32, 32).astype(np.uint8)
    assert np.array(p) == pytest.approx(classifier(32, 32).predict_proba(films), abs=1e-5)


def test_a_file_of_other_probabilities_is_not_written(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "LEVELS", 250.0)
    (tmp_path / "model.pt2").write_text("the earlier one")
    with pytest.raises(DataError, match=r"other probabilities than the network: they differ by up to .* on 6 test ima"):
        export("pt2", tmp_path / "model.pt2")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the earlier one"]


def test_the_runtimes_calibration_is_checked_too() -> None:
    one = classifier(16, 16)
    p = one.predict_proba(films := images(9, 16))
    near = parity.measure(lambda part: [one.predict_proba(part), one.predict_proba(part)], one, films)
    assert near.probabilities == pytest.approx(0, abs=1e-6)
    assert near.calibrated == pytest.approx(np.abs(p - one.calibrate(p)).max(), abs=1e-6)


def test_a_network_that_gives_no_number_is_refused() -> None:
    one = classifier(16, 16, thresholds=Thresholds())
    every = Samples(images(3, 16), "3 films", None)
    with pytest.raises(DataError, match="differ by up to nan on 3 films"):
        parity.check(lambda part: [np.full((len(part), 2), np.nan)], one, every, "a runtime")


def test_metadata_says_how_to_prepare_and_to_decide() -> None:
    said = metadata.of(classifier(64, 32, 3))
    assert all(isinstance(text, str) for text in said.values())
    assert json.loads(said["operating_points"]) == [{"class": "TB", "point": "Youden", "threshold": 0.4}]
    assert (json.loads(said["temperature"]), said["task"]) == (1.7, "single-label")
    assert json.loads(said["inside"]) == {
        "img_size": 32, "channels": 3, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    findings = metadata.of(classifier(64, 32, thresholds=PER_FINDING, task="multi-label"))
    assert json.loads(findings["temperature"]) == PER_FINDING.temperatures


def test_a_missing_extra_says_what_to_install(export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingError) as caught:
        export("onnx", tmp_path / "model.onnx")
    assert str(caught.value) == "--to onnx needs onnxruntime, which is not installed: pip install 'xraylab[onnx]'"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_output(export: Export, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        export("pt2", tmp_path)
    assert str(caught.value) == f"--output {tmp_path} is a folder: name a file"


def test_generated_radiographs_stand_in_where_there_is_no_study() -> None:
    one = classifier(32, 32)
    films = samples.generated(one)
    assert (films.images.shape, films.images.dtype, films.what) == ((16, 32, 32), np.uint8, "16 generated radiographs")
    assert films.images.std(axis=(1, 2)).min() > 20
    assert len({image.tobytes() for image in films.images}) == 16


def test_int8_is_measured_beside_float32(export: Export, trained: Loaded, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    checked, valid, test, speed, written = (line for line in export("onnx", target, True) if "warning" not in line)
    assert checked.endswith("(0.0001 is allowed), before quantization")
    assert re.match(r"\d+ validation images: AUROC 0\.\d{4} in float32, 0\.\d{4} in int8 \([+-]0\.\d{4}\); prob", valid)
    assert test.startswith("6 test images: AUROC 0.")
    assert re.match(r"\d+\.\d\d ms an image in float32, .* times as fast \(medians of 9 alternating rounds", speed)
    assert re.match(rf"{target}: int8 \(static, calibrated on \d+ training images\), opset 20, ", written)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    pixels, _ = shards.load(trained[1].cache)
    session = onnxruntime.InferenceSession(target)
    p, exact = session.run(None, {"images": pixels[:7]})[0], classifier(32, 32).predict_proba(pixels[:7])
    assert 0 < np.abs(p - exact).max() < 0.05
    assert {node.op_type for node in onnx.load(target).graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    said = session.get_modelmeta().custom_metadata_map
    assert said == metadata.of(classifier(32, 32)) | {"precision": '"int8"', "quantization": said["quantization"]}


def test_auroc_of_a_quantized_file_is_scikit_learns() -> None:
    one, p = classifier(16, 16), RANDOM.uniform(size=(9, 2))
    rows = pd.DataFrame({"label": np.array(["Healthy", "TB"])[[0, 1, 0, 1, 0, 1, 1, 1, 0]]})
    assert int8.aurocs(one, Samples(images(9, 16), "", rows), p) == {
        "": pytest.approx(roc_auc_score(rows["label"] == "TB", p[:, 1]))
    }
    assert int8.aurocs(one, Samples(images(2, 16), "", rows[:1]), p[:1]) == {}
    findings = classifier(16, 16, task="multi-label")
    labels, q = np.array([[0, 1, 0]] * 4 + [[1, 1, 1]] * 4 + [[-1, 1, 1]]), RANDOM.uniform(size=(9, 3))
    table = pd.DataFrame(labels, columns=["y_a", "y_b", "y_c"])
    assert (
        int8.aurocs(findings, Samples(images(9, 16), "", table), q)
        == {  # a's last is not known, b on all images
            "a": pytest.approx(roc_auc_score(labels[:8, 0], q[:8, 0])),
            "c": pytest.approx(roc_auc_score(labels[:, 2], q[:, 2])),
        }
    )


def test_a_loss_of_auroc_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({"label": ["Healthy", "TB"] * 2})
    outputs = {"exact": [0.1, 0.9, 0.2, 0.8], "int8": [0.1, 0.9, 0.85, 0.8]}
    monkeypatch.setattr(
        onnx_file, "runner", lambda path: lambda films: [np.array([[1 - p, p] for p in outputs[path]])[: len(films)]]
    )
    monkeypatch.setattr(parity, "BATCHES", (4, 7))
    lines = list(int8.measure("exact", "int8", classifier(16, 16), [Samples(images(4, 16), "4 films", rows)]))
    assert lines[0] == (
        "4 films: AUROC 1.0000 in float32, 0.7500 in int8 (-0.2500); probabilities change by up to 0.650"
    )
    assert lines[2] == "warning: int8 loses 0.250 of AUROC: prefer the file in float32, without --int8"


def test_the_finding_that_loses_most_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.DataFrame({"y_a": [0, 1, 0, 1], "y_b": [1, 1, 0, 0], "y_c": [1, 1, 1, 1]})
    exact = np.array([[0.1, 0.9, 0.5], [0.9, 0.8, 0.5], [0.2, 0.1, 0.5], [0.8, 0.2, 0.5]])
    outputs = {"exact": exact, "int8": exact.copy()}
    outputs["int8"][:, 1] = [0.15, 0.8, 0.1, 0.9]
    monkeypatch.setattr(onnx_file, "runner", lambda path: lambda films: [outputs[path][: len(films)]])
    monkeypatch.setattr(parity, "BATCHES", (4, 7))
    one = classifier(16, 16, task="multi-label", thresholds=PER_FINDING)
    first, _, last = int8.measure("exact", "int8", one, [Samples(images(4, 16), "4 films", table)])
    assert first == (
        "4 films: mean AUROC of 2 findings 1.0000 in float32, 0.7500 in int8 (-0.2500); worst for b: 1.0000 in "
        "float32, 0.5000 in int8 (-0.5000); probabilities change by up to 0.750"
    )
    assert last == "warning: int8 loses 0.500 of AUROC for b: prefer the file in float32, without --int8"


def test_int8_of_several_findings_is_measured_by_finding(
    trained_findings: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, paths = trained_findings
    monkeypatch.chdir(paths.root)
    one = classifier(given.images.size, 32, 1, Thresholds(), "multi-label", given.data.classes)
    monkeypatch.setattr(classifiers, "find", lambda source, precision: one)
    target = tmp_path / "model.onnx"
    lines = list(command.run("baseline", "onnx", target, True))
    mean = re.compile(
        r"\d+ (?:validation|test) images: mean AUROC of 3 findings 0\.\d{4} in float32, 0\.\d{4} in int8 "
    )
    worst = re.compile(r"; worst for (?:Cardiomegaly|Edema|Effusion): 0\.\d{4} in float32, 0\.\d{4} in int8 ")
    assert sum(bool(mean.match(line) and worst.search(line)) for line in lines) == 2
    assert lines[-1].startswith(f"{target}: int8 (static, calibrated on ")
    pixels, _ = shards.load(paths.cache)
    (p,) = onnxruntime.InferenceSession(target).run(None, {"images": pixels[:7]})
    assert 0 < np.abs(p - one.predict_proba(pixels[:7])).max() < 0.05


@pytest.mark.slow
def test_a_trained_network_of_several_findings_is_quantized(
    trained_findings: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained_findings[1].root)
    lines = list(command.run("baseline", "onnx", tmp_path / "model.onnx", True))
    assert sum("test images: mean AUROC of 3 findings" in line for line in lines) == 1
    pixels, _ = shards.load(trained_findings[1].cache)
    (p,) = onnx_file.runner(tmp_path / "model.onnx")(pixels[:7])
    expected = classifiers.of_run(trained_findings[1], "baseline", "float32").predict_proba(pixels[:7])
    assert 0 < np.abs(p - expected).max() < 0.2


@pytest.mark.parametrize(
    ("source", "to", "message"),
    [
        ("baseline", "pt2", "--int8 quantizes ONNX files: use --to onnx"),
        ("a.zip", "onnx", "--int8 needs training images, which a.zip does not hold: name the run, in its study"),
    ],
)
def test_int8_is_refused_where_it_cannot_be(source: str, to: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        list(command.run(source, to, None, True))
    assert str(caught.value) == message


def test_the_documented_example_prepares_a_png_without_xraylab(export: Export, tmp_path: Path) -> None:
    export("onnx", tmp_path / "baseline-0.onnx")
    film = tmp_path / "film.png"
    Image.fromarray(images(1, 97)[0][:80]).save(film)
    document = (small.REPOSITORY / "docs/export.md").read_text(encoding="utf-8")
    example = document.split("```python\n")[1].split("```")[0]
    code = f"import sys; sys.modules['xraylab'] = None\n{example}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    (expected,) = classifier(32, 32).predict(film)
    assert ast.literal_eval(done.stdout) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("to", command.FORMATS)
def test_a_bundle_is_exported_without_its_study(
    to: str, finished: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    list(cards.bundle(finished[1], "baseline/0", tmp_path / "lung.zip"))
    target = tmp_path / f"model.{to}"
    checked, written = command.run("lung.zip", to, target)
    assert "on 16 generated radiographs: probabilities differ from the network's in float32 by at most" in checked
    assert written.startswith(f"{target}: ")
    one = xraylab.load(tmp_path / "lung.zip")
    films = images(3, one.size)
    p, *_ = command.FORMATS[to].runner(target)(films)
    assert p == pytest.approx(one.predict_proba(films), abs=1e-5)
