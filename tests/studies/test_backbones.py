"""The recipe `backbones`: the experiments that it writes for the weights that are here, run to the report."""

from pathlib import Path

import pytest
import small
import torch
from conftest import load, to_the_report
from huggingface_hub import constants
from published_weights import published
from typer.testing import CliRunner

from xraylab import cli, files, tables
from xraylab.errors import ParamsError, WeightsError
from xraylab.model import weights
from xraylab.params import config
from xraylab.registry import weights as registry
from xraylab.studies import scaffold

FILES = {
    "rad-dino": "rad-dino.safetensors",
    "txrv-densenet121-nih": "nih-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.safetensors",
}
"""Weights -> a file of them; whether they fit is not asked before a study runs."""


@pytest.fixture
def two_here(weights_folder: Path) -> Path:
    for name in FILES.values():
        (weights_folder / name).touch()
    return weights_folder


def test_only_weights_that_are_here_become_experiments(two_here: Path, tmp_path: Path) -> None:
    unconverted = two_here / registry.find("txrv-densenet121-chex").file
    unconverted.touch()
    small.study(tmp_path / "s")
    said, absent, pickled = scaffold.use(tmp_path / "s", "backbones", None, published=False, force=False)[-3:]
    params = config.read(tmp_path / "s/params.yaml")
    added = [f"{name}-{kind}" for name in ("txrv-densenet121-nih", "rad-dino") for kind in ("probe", "tuned")]
    assert list(params.experiments) == ["baseline", "l2", "dropout", "sharpness", "contrast", *added]
    assert said == f"    experiments: {', '.join(params.experiments)}"
    assert params.images.size == 518
    for name in added:
        model, (entry, _, kind) = params.experiment(name).model, name.rpartition("-")
        known = registry.find(entry)
        assert (model.pretrained, model.arch, model.img_size) == (entry, known.arch, known.img_size)
        assert (model.freeze.until, model.freeze.cache) == (("head", True) if kind == "probe" else (None, False))
        assert params.experiment(name).train.schedule == {"probe": "one_cycle", "tuned": "fine_tune"}[kind]
    others = [name for name in registry.read() if name not in (*FILES, "txrv-densenet121-chex")]
    assert absent == f"left out, not on this machine: {', '.join(others)}"
    assert pickled == (
        f"left out, a pickled module: txrv-densenet121-chex (`xraylab weights convert {unconverted}` makes "
        "safetensors of it)"
    )
    again = scaffold.use(tmp_path / "s", "backbones", None, published=False, force=False)
    assert again[0] == "params.yaml says so already"


def test_what_was_downloaded_from_the_hub_before_is_here(weights_folder: Path, tmp_path: Path) -> None:
    repository = Path(constants.HF_HUB_CACHE) / "models--MapleF--eva_x"
    files.write_text("c0", repository / "refs/main")
    files.write_text("", repository / "snapshots/c0/eva_x_tiny_patch16_merged520k_mim.pt")
    small.study(tmp_path / "s")
    scaffold.use(tmp_path / "s", "backbones", None, published=False, force=False)
    assert list(config.read(tmp_path / "s/params.yaml").experiments)[-2:] == ["eva-x-tiny-probe", "eva-x-tiny-tuned"]
    assert not list(weights_folder.iterdir())


def hindered(tree: small.Tree) -> None:
    """Settings of all experiments that a probe on cached features, or a fine-tuning, contradicts."""
    tree["augment"].update(p_hflip=0.5, scale=[0.9, 1.1], crop_scale=0.9)
    tree["loss"].update(coral_weight=1.0)
    tree["train"].update(grad_checkpointing=True, phases=[{"epochs": 2}, {"epochs": 2}])
    tree["model"].update(pretrained="default")
    tree["model"]["freeze"].update(n_blocks=1, batch_norm="train")
    tree["experiments"] = {"baseline": {}}


@pytest.mark.usefixtures("two_here")
@pytest.mark.parametrize("schedule", ["constant", "fine_tune"])
def test_the_experiments_hold_whatever_the_sections_say(schedule: str, tmp_path: Path) -> None:
    small.study(tmp_path / "s", lambda tree: (hindered(tree), tree["train"].update(schedule=schedule, epochs=5)))
    if schedule == "fine_tune":
        small.edit(tmp_path / "s", lambda tree: tree["train"].update(phases=None))
    scaffold.use(tmp_path / "s", "backbones", None, published=False, force=False)
    params = config.read(tmp_path / "s/params.yaml")
    probe, tuned = (params.experiment(f"rad-dino-{kind}") for kind in ("probe", "tuned"))
    assert probe.model.freeze.model_dump() == {
        "until": "head", "layer_fraction": None, "n_blocks": None, "batch_norm": "eval", "cache": True
    }  # fmt: skip
    assert not tuned.model.freeze.choices
    assert (probe.train.schedule, tuned.train.schedule) == ("one_cycle", "fine_tune")
    assert (probe.augment.p_hflip, tuned.augment.p_hflip, probe.augment.scale) == (0.0, 0.5, [1.0, 1.0])
    assert (probe.train.phases, tuned.train.phases) == (None, None)
    assert [each for each in config.unused_overrides(params) if "rad-dino" in each] == []


@pytest.mark.usefixtures("two_here")
def test_backbones_join_a_study_of_several_findings(tmp_path: Path) -> None:
    study = small.study(tmp_path / "s")
    scaffold.use(study, "nih14", None, published=False, force=True)
    scaffold.use(study, "backbones", None, published=False, force=False)
    params = config.read(study / "params.yaml")
    assert list(params.experiments)[:3] == ["densenet121", "resnet50", "txrv-densenet121-nih-probe"]
    probe, tuned = (params.experiment(f"rad-dino-{kind}") for kind in ("probe", "tuned"))
    assert (probe.train.schedule, probe.augment.p_hflip, probe.loss.name) == ("plateau", 0.0, "bce")
    assert (tuned.train.schedule, tuned.augment.p_hflip, tuned.model.channels) == ("fine_tune", 0.5, 3)
    assert params.study.preset == "nih14"


def test_without_any_weights_nothing_is_written_and_the_error_says_where_they_belong(
    weights_folder: Path, tmp_path: Path
) -> None:
    study = small.study(tmp_path / "s")
    before = (study / "params.yaml").read_bytes()
    with pytest.raises(WeightsError) as caught:
        scaffold.use(study, "backbones", None, published=False, force=False)
    assert caught.value.headline == (
        f"no named weights that could be compared are on this machine: put some into {weights_folder}, as "
        "`xraylab weights show NAME` says:"
    )
    assert caught.value.problems == (f"left out, not on this machine: {', '.join(registry.read())}",)
    assert (study / "params.yaml").read_bytes() == before
    with pytest.raises(WeightsError):
        scaffold.new(tmp_path / "new", None, ["demo"], published=False, recipe="backbones")
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("two_here")
def test_a_new_study_compares_backbones_on_its_own_images(tmp_path: Path) -> None:
    images = small.two_classes(tmp_path / "images", healthy=4, tb=4)
    lines = scaffold.new(tmp_path / "new", None, [str(images)], published=False, recipe="backbones")
    params = config.read(tmp_path / "new/params.yaml")
    assert params.data.classes == ["Healthy", "TB"]
    assert [name.rpartition("-")[0] for name in params.experiments] == [
        "", "txrv-densenet121-nih", "txrv-densenet121-nih", "rad-dino", "rad-dino"
    ]  # fmt: skip
    assert (params.images.size, params.model.img_size) == (518, 32)
    assert any(line.startswith("left out, not on this machine: ") for line in lines)


def test_options_of_studies_are_refused_with_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small.study(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError) as caught:
        scaffold.use(tmp_path, "robust", "demo", published=True, force=False)
    assert str(caught.value) == (
        "robust is a recipe, laid over the params.yaml that is there: leave --data and --published out "
        "(`xraylab init --data FOLDER --recipe robust` fits it to other images first)"
    )
    done = CliRunner().invoke(cli.app, ["study", "robust"])
    assert done.exit_code == 0
    assert "    experiments: baseline, l2, dropout, sharpness, contrast, robust" in done.output.splitlines()
    assert "robust: for films of other hospitals" in CliRunner().invoke(cli.app, ["study", "show", "robust"]).output
    listed = CliRunner().invoke(cli.app, ["study", "list"]).output.splitlines()
    assert [line.split()[0] for line in listed[-2:]] == ["robust", "backbones"]


@pytest.mark.slow
def test_backbones_are_compared_from_the_files_to_the_report(weights_folder: Path, tmp_path: Path) -> None:
    """EVA-X-Ti's whole file, of random numbers, at 32 pixels."""
    torch.manual_seed(0)
    state = {name: 0.02 * torch.randn(shape) for name, shape in published("eva-x-tiny").items()}
    torch.save({"model": state}, weights_folder / registry.find("eva-x-tiny").file)
    raw = small.two_classes(tmp_path / "images")
    study = small.study(tmp_path / "s", small.use(raw, ["Healthy", "TB"], "TB"))
    small.edit(study, lambda tree: tree.update(experiments={"baseline": {}}))
    scaffold.use(study, "backbones", None, published=False, force=False)

    def shrink(tree: small.Tree) -> None:
        tree["images"]["size"] = 32
        for name in ("probe", "tuned"):
            tree["experiments"][f"eva-x-tiny-{name}"]["model"]["img_size"] = 32

    small.edit(study, shrink)
    _, paths = to_the_report(study)
    assert load(study)[0].experiment("eva-x-tiny-probe").model.freeze.cache
    table = tables.read(study / "reports/comparison.csv")
    assert set(table["experiment"]) == {"baseline", "eva-x-tiny-probe", "eva-x-tiny-tuned"}
    page = paths.report.read_text()
    assert "eva-x-tiny-tuned" in page
    patches = "patch_embed.proj.weight"
    trained = {
        kind: weights.read(paths.model(f"eva-x-tiny-{kind}", 0) / "last.safetensors") for kind in ("probe", "tuned")
    }
    found = {kind: next(t for name, t in each.items() if name.endswith(patches)) for kind, each in trained.items()}
    assert torch.allclose(found["probe"], state[f"module.{patches}"].sum(dim=1, keepdim=True))
    assert not torch.equal(found["probe"], found["tuned"])
