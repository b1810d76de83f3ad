"""A bundle reproduces its run's probabilities elsewhere, and a damaged or hostile one is refused."""

import json
import os
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import dicom_files
import numpy as np
import pytest
import typer
from conftest import Loaded
from PIL import Image

import xraylab
from xraylab import plugins
from xraylab.cli import app
from xraylab.errors import DataError, PluginError, WeightsError
from xraylab.inference import archive, bundle, card, monai, samples
from xraylab.inference.card import Head, ModelCard, Plugin
from xraylab.inference.classifier import Classifier
from xraylab.inference.reference import Reference
from xraylab.model.create import create_recorded_model
from xraylab.predict import cards, classifiers
from xraylab.study import Study

ALONE = """
import sys
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"fastai", "fastcore", "dvc", "dvclive"}:
            raise ImportError(f"{name} is forbidden")
sys.meta_path.insert(0, Forbidden())
import xraylab
classifier = xraylab.load(sys.argv[1], check=True)
print(classifier.predict(sys.argv[2])[0]["TB"])
"""
HEAD = Head("concat", 8, True)


@pytest.fixture(scope="module")
def written(finished: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the finished study's baseline/0."""
    target = tmp_path_factory.mktemp("bundle") / "tb.zip"
    list(cards.bundle(finished[1], "baseline/0", target))
    return target


def rewritten(written: Path, target: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """The bundle with other members, and a manifest that fits them."""
    members = archive.read(written, bundle.ALLOWED)
    change(members)
    archive.write(members, target)
    return target


def edit(name: str, change: Callable[[Any], object]) -> Callable[[dict[str, bytes]], None]:
    """A change of a JSON member."""

    def of(members: dict[str, bytes]) -> None:
        tree = json.loads(members[name])
        change(tree)
        members[name] = json.dumps(tree).encode()

    return of


def test_the_same_run_has_the_same_bytes_and_leaves_nothing_else(finished: Loaded, written: Path) -> None:
    again = written.parent / "again.zip"
    first, *_ = cards.bundle(finished[1], "baseline", again)
    assert again.read_bytes() == written.read_bytes()
    assert {path.name for path in written.parent.iterdir()} == {"tb.zip", "again.zip"}
    assert re.fullmatch(rf"{again}: baseline/0, [\d.]+ MB, sha256 [0-9a-f]{{64}}", first)


def test_a_film_has_the_probabilities_of_the_study_as_png_and_as_dicom(
    finished: Loaded, written: Path, tmp_path: Path
) -> None:
    classifier, model = xraylab.load(written), Study(finished[1].root).model("baseline")
    gray = np.random.default_rng(0).integers(0, 2**12, (48, 64), dtype=np.uint16)
    dicom_files.decode(dicom_files.dataset(gray), tmp_path / "film.dcm")
    Image.fromarray((gray // 16).astype(np.uint8)).save(tmp_path / "film.png")
    for name in ("film.dcm", "film.png"):
        (each,) = classifier.predict(tmp_path / name)
        assert each == pytest.approx(model.predict(tmp_path / name), abs=1e-4)
    assert classifier.thresholds == classifiers.of_run(finished[1], "baseline").thresholds
    assert classifier.card == cards.of_run(finished[1], "baseline")


def test_it_runs_without_fastai_and_dvc(written: Path, tmp_path: Path) -> None:
    members = archive.read(written, bundle.ALLOWED)
    row = json.loads(members[samples.EXPECTED])["images"][0]
    (tmp_path / "film.png").write_bytes(members[row["file"]])
    command = [sys.executable, "-c", ALONE, str(written), str(tmp_path / "film.png")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(row["probabilities"]["TB"], abs=1e-4)


def images(**changes: Any) -> Callable[[ModelCard], ModelCard]:
    return lambda facts: replace(
        facts, preprocessing=replace(facts.preprocessing, images=facts.preprocessing.images | changes)
    )


def network(**changes: Any) -> Callable[[ModelCard], ModelCard]:
    return lambda facts: replace(facts, network=replace(facts.network, **changes))


def rgb(facts: ModelCard) -> ModelCard:
    facts = network(channels=3)(facts)
    return replace(facts, preprocessing=replace(facts.preprocessing, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)))


def findings(facts: ModelCard) -> ModelCard:
    facts = replace(facts, task="multi-label", classes=("Mass", "Effusion", "Hernia"), positive=None)
    return replace(no_points(facts), temperatures={"Mass": 2.0})


def no_points(facts: ModelCard) -> ModelCard:
    return replace(facts, operating_points=(), temperature=None)


@pytest.mark.parametrize(
    "changes",
    [
        (rgb, network(head=HEAD), images(crop_lungs=True)),
        (no_points, images(clip_percentiles=[1.0, 99.0], resize_method="pad")),
        (findings, network(arch="vit_tiny_patch16_224", img_size=32), images(crop_border=True, clahe=2.0)),
        (findings, rgb, images(size=40, pyramid_sharpening=0.5, resize_method="crop")),
    ],
)
def test_every_kind_of_network_and_preparation_survives(
    written: Path, tmp_path: Path, changes: list[Callable[[ModelCard], ModelCard]]
) -> None:
    facts = xraylab.load(written).card
    for change in changes:
        facts = change(facts)
    classifier = Classifier.create(facts.name, facts.record, facts.thresholds, create_recorded_model(facts.record))
    target = tmp_path / "bundle.zip"
    bundle.write(target, replace(classifier, card=facts))
    loaded = xraylab.load(target, check=True)
    (tmp_path / "film.png").write_bytes(archive.read(target, bundle.ALLOWED)["samples/tb0001.png"])
    assert loaded.card == facts
    assert loaded.predict(tmp_path / "film.png") == classifier.predict(tmp_path / "film.png")


def test_the_card_is_strict_and_round_trips(written: Path) -> None:
    facts = xraylab.load(written).card
    text = card.to_json(facts)
    assert card.from_json(text) == facts
    tree = json.loads(text)
    del tree["study"]
    tree["network"] |= {"channels": 2, "depth": 3}
    tree["temperature"] = "1"
    with pytest.raises(DataError) as caught:
        card.from_json(json.dumps(tree))
    assert caught.value.headline == "card.json is not a model card:"
    assert [each.split(":")[0] for each in caught.value.problems] == [
        "study", "network.channels", "network.depth", "temperature",
    ]  # fmt: skip


def test_a_card_that_contradicts_itself_is_refused(written: Path) -> None:
    tree = json.loads(card.to_json(xraylab.load(written).card))
    tree["preprocessing"]["std"] = [0.2, 0.2, 0.2]
    tree["operating_points"][0]["class"] = "COVID"
    tree["temperature"] = 0.0
    tree["name"] = "../../etc"
    with pytest.raises(DataError) as caught:
        card.from_json(json.dumps(tree))
    assert list(caught.value.problems) == [
        "preprocessing.mean, preprocessing.std: one number for each of 1 channels, std above 0",
        "classes: lacks COVID, which other keys name",
        "temperature, temperatures: above 0",
        "name: experiment/repeat, got ../../etc",
    ]


@pytest.mark.parametrize("text", ["[]", "7", "null", '{"format": 1', "[" * 100_000])
def test_what_is_no_card_is_an_error(text: str) -> None:
    with pytest.raises(DataError, match=r"^card\.json is not"):
        card.from_json(text)


def test_a_reference_comes_with_it(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, record = {"mean": np.arange(4, dtype=np.float32)}, {"k": 5}
    monkeypatch.setattr(Reference, "to_tensors", lambda self: (arrays, record))
    back: list[Any] = []
    monkeypatch.setattr(Reference, "from_tensors", lambda *parts: back.append(parts) or "reference")
    target = tmp_path / "with.zip"
    bundle.write(target, replace(xraylab.load(written), reference=object.__new__(Reference)))
    assert xraylab.load(target).reference == "reference"
    assert (back[0][0]["mean"].tolist(), back[0][1]) == ([0, 1, 2, 3], record)
    broken = rewritten(target, tmp_path / "broken.zip", lambda members: members.pop("reference.json"))
    with pytest.raises(DataError, match=r"reference\.safetensors is not a reference"):
        xraylab.load(broken)


def test_a_newer_format_is_refused_in_a_sentence(written: Path, tmp_path: Path) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree.clear()
        tree |= {"format": card.FORMAT + 1, "what": "nobody knows"}

    newer = rewritten(written, tmp_path / "newer.zip", edit(bundle.CARD, change))
    with pytest.raises(DataError) as caught:
        xraylab.load(newer)
    assert str(caught.value) == (
        f"{newer}: card.json has format 2, this xraylab reads up to 1: pip install --upgrade xraylab"
    )


def test_outputs_that_are_not_reproduced_are_named(written: Path, tmp_path: Path) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree["images"][1]["probabilities"]["TB"] += 2e-4

    other = rewritten(written, tmp_path / "other.zip", edit(samples.EXPECTED, change))
    assert xraylab.load(other).name == "baseline/0"
    with pytest.raises(DataError, match=r"does not reproduce its expected outputs here: samples/h0002\.png has"):
        xraylab.load(other, check=True)
    none = rewritten(written, tmp_path / "none.zip", edit(samples.EXPECTED, lambda tree: tree.update(images=[])))
    with pytest.raises(DataError, match="lists no images"):
        xraylab.load(none, check=True)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda members: members.update({bundle.WEIGHTS: b"PK" * 99}), "model.safetensors does not fit resnet18"),
        (edit(bundle.CARD, lambda tree: tree["classes"].append("COVID")), "model.safetensors does not fit resnet18"),
    ],
)
def test_weights_that_do_not_fit_are_an_error(
    written: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], object], error: str
) -> None:
    with pytest.raises(WeightsError, match=re.escape(error)):
        xraylab.load(rewritten(written, tmp_path / "bad.zip", change))


def test_a_plugin_that_is_not_installed_is_named_and_another_version_is_checked(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_plugin(tree: dict[str, Any]) -> None:
        tree["network"]["plugin"] = {"distribution": "xray-extras", "version": "1.2"}

    other = rewritten(written, tmp_path / "plugin.zip", edit(bundle.CARD, of_plugin))
    with pytest.raises(PluginError) as caught:
        xraylab.load(other)
    assert str(caught.value) == (
        f"{other}: its architecture resnet18 is of the plugin xray-extras: pip install xray-extras==1.2"
    )
    offered = {"resnet18": Plugin("xray-extras", "1.3")}
    monkeypatch.setattr(plugins, "of_kind", lambda kind, built_in=(): offered)
    checked: list[str] = []
    monkeypatch.setattr(samples, "reproduce", lambda classifier, members, name: checked.append(name))
    xraylab.load(other)
    assert checked == [str(other)]


def test_a_pipe_and_a_zip_of_many_members_are_no_bundles(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(
        DataError, match=r"is neither a file nor a folder, but a pipe, a socket or a device: remove it$"
    ):
        archive.read(tmp_path / "pipe.zip", bundle.ALLOWED)
    path = zipped(tmp_path / "x.zip", [(ZipInfo(f"{number}"), b"") for number in range(archive.MOST_MEMBERS + 1)])
    with pytest.raises(DataError) as caught:
        archive.read(path, bundle.ALLOWED)
    assert str(caught.value) == f"{path} is not a bundle: it has more than 64 members"


Entries = list[tuple[ZipInfo, bytes]]


def zipped(path: Path, entries: Entries) -> Path:
    with ZipFile(path, "w") as file:
        for entry, data in entries:
            file.writestr(entry, data)
    return path


def entry(name: str, kind: int = stat.S_IFREG, compress: int = zipfile.ZIP_STORED) -> ZipInfo:
    info = ZipInfo(name)
    info.external_attr, info.compress_type = kind << 16, compress
    return info


@pytest.mark.parametrize(
    ("hostile", "problem"),
    [
        (entry("../card.json"), "'../card.json' is not one of a bundle"),
        (entry("/etc/passwd"), "'/etc/passwd' is not one of a bundle"),
        (entry("samples/../../x.png"), "'samples/../../x.png' is not one of a bundle"),
        (entry("model.pkl"), "'model.pkl' is not one of a bundle"),
        (entry("samples/"), "'samples/' is not one of a bundle"),
        (entry("README.md"), "'README.md' is there twice"),
        (entry("reference.json", stat.S_IFLNK), "'reference.json' is not a file"),
        (entry("reference.json", compress=zipfile.ZIP_DEFLATED), "'reference.json' is compressed"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_member_is_refused(tmp_path: Path, hostile: ZipInfo, problem: str) -> None:
    path = zipped(tmp_path / "x.zip", [(entry("README.md"), b"text"), (hostile, b"0" * 4096)])
    with pytest.raises(DataError) as caught:
        xraylab.load(path)
    assert str(caught.value) == f"{path} is not a bundle: its member {problem}"
    assert [each.name for each in tmp_path.iterdir()] == ["x.zip"]


def test_damage_is_noticed_wherever_it_is(written: Path, tmp_path: Path) -> None:
    whole, damaged = written.read_bytes(), tmp_path / "damaged.zip"
    for place in np.linspace(0, 0.99 * len(whole), 6).astype(int):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises((DataError, WeightsError)):
            xraylab.load(damaged)
    damaged.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is not a whole bundle"):
        xraylab.load(damaged)
    with pytest.raises(DataError, match=r"nowhere\.zip does not exist"):
        xraylab.load(tmp_path / "nowhere.zip")


@pytest.mark.parametrize(
    "sums", [b"", b"0" * 64 + b"  card.json\n", b"no sum\n", b"0" * 64 + b"  card.json\n" + b"0" * 64 + b"  x\n"]
)
def test_the_manifest_lists_every_member(tmp_path: Path, sums: bytes) -> None:
    path = zipped(tmp_path / "x.zip", [(entry(archive.MANIFEST), sums), (entry("card.json"), b"{}")])
    with pytest.raises(DataError, match="SHA256SUMS"):
        xraylab.load(path)


def test_monai_finds_the_mandatory_keys_of_its_specification(written: Path) -> None:
    members = archive.read(written, bundle.ALLOWED)
    tree = json.loads(members[monai.METADATA])
    mandatory = {
        "version", "monai_version", "pytorch_version", "numpy_version", "optional_packages_version", "task",
        "description", "authors", "copyright", "network_data_format",
    }  # fmt: skip
    assert mandatory <= tree.keys()
    tensors = [tree["network_data_format"]["inputs"]["image"], tree["network_data_format"]["outputs"]["pred"]]
    of_tensor = {
        "type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def",
    }  # fmt: skip
    assert all(of_tensor <= tensor.keys() for tensor in tensors)
    assert (tensors[0]["spatial_shape"], tensors[1]["channel_def"]) == ([32, 32], {"0": "Healthy", "1": "TB"})
    assert json.loads(members[monai.INFERENCE])["classifier"] == {"_target_": "xraylab.load", "path": "@bundle"}


def test_the_samples_are_drawn_and_the_readme_names_the_limits(written: Path) -> None:
    members = archive.read(written, bundle.ALLOWED)
    facts = card.from_json(members[bundle.CARD])
    drawn = {name for name in members if name.startswith("samples/")}
    assert drawn == {row["file"] for row in json.loads(members[samples.EXPECTED])["images"]}
    assert {name: members[name] for name in drawn} == samples._draw()
    assert all(f"- {each}\n" in members[bundle.README].decode() for each in facts.limits)


def test_the_command_writes_and_checks_and_find_takes_its_path(
    finished: Loaded, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(cards.check(written)) == [
        f"{written}: baseline/0 of “{finished[0].study.title}” is whole, and reproduces its expected outputs here"
    ]
    assert classifiers.find(str(written)).card == cards.of_run(finished[1], "baseline/0")
    with pytest.raises(typer.BadParameter, match="name either a run, or a bundle with --check"):
        app(["bundle"], standalone_mode=False)
