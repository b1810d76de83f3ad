"""Where weights come from: files, libraries' downloads, earlier runs; and whole runs of networks that timm builds."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small
import timm
import torch
from conftest import Loaded, load
from huggingface_hub import constants
from runs import model_json, outcome
from safetensors.torch import load_file, save_file

from xraylab import files, tables
from xraylab.errors import ParamsError, WeightsError
from xraylab.model import networks, pretrained, weights
from xraylab.model.heads import Head
from xraylab.stages import configure, features, predict, train

Prepare = Callable[..., Loaded]
Tensors = dict[str, torch.Tensor]


def of_timm(arch: str, channels: int = 3, pixels: int = 32, seed: int = 1) -> tuple[torch.nn.Module, Tensors]:
    """A network as timm builds it for ImageNet, and its weights."""
    torch.manual_seed(seed)
    fixed = {"img_size": pixels} if "vit" in arch else {}
    network = timm.create_model(arch, pretrained=False, in_chans=channels, **fixed).eval()
    return network, {name: tensor.clone() for name, tensor in network.state_dict().items()}


def built(arch: str, channels: int, pixels: int = 32) -> torch.nn.Module:
    return networks.build(arch, 2, channels, 0.0, pixels=pixels).eval()


@pytest.mark.parametrize("arch", ["test_vit", "test_convnext", "test_efficientnet", "test_maxvit"])
def test_a_file_of_timms_gives_its_body_for_gray_too(arch: str) -> None:
    theirs, state = of_timm(arch)
    theirs.reset_classifier(0)
    colour, gray = built(arch, 3), built(arch, 1)
    for network in (colour, gray):
        pretrained.load_pretrained(network, state, "w.pth", ["a", "b"], None)
    images = torch.rand(2, 1, 32, 32)
    expected = theirs(images.repeat(1, 3, 1, 1))
    assert torch.equal(colour.body(images.repeat(1, 3, 1, 1)), expected)
    torch.testing.assert_close(gray.body(images), expected, rtol=1e-4, atol=1e-5)


def test_densenets_file_has_older_names_and_is_read_all_the_same() -> None:
    theirs, ours = built("densenet121", 3), built("densenet121", 1)
    older = {
        re.sub(r"(norm|conv)([12])", r"\1.\2", name.removeprefix("body.")): tensor
        for name, tensor in theirs.state_dict().items()
        if name.startswith("body.")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    pretrained.load_pretrained(ours, older, "densenet121.pth", ["a", "b"], None)
    gray = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(ours.body(gray), theirs.body(gray.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5)


def test_a_transformer_takes_weights_for_images_of_another_size() -> None:
    """Position embeddings are stretched, which timm does when it reads them."""
    earlier, network = built("test_vit", 1, pixels=64), built("test_vit", 1, pixels=32)
    pretrained.load_pretrained(network, earlier.state_dict(), "best.safetensors", ["b", "a"], ["a", "b"])
    assert torch.equal(network.body.blocks[3].mlp.fc1.weight, earlier.body.blocks[3].mlp.fc1.weight)
    assert torch.equal(network.head[1].weight, earlier.head[1].weight.flip(0))
    same = earlier.body.pos_embed[:, 1:].reshape(1, 4, 4, 64).mean() - network.body.pos_embed[:, 1:].mean()
    assert abs(same.item()) < 0.01


def test_a_file_of_another_network_is_refused() -> None:
    _, state = of_timm("test_convnext")
    with pytest.raises(WeightsError, match=r"^w.pth does not fit model.arch:\n  - body.cls_token: missing"):
        pretrained.load_pretrained(built("test_vit", 1), state, "w.pth", ["a", "b"], None)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders for downloads, and a hub that nobody listens at."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    nobody = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nobody)
    return tmp_path


def test_absent_weights_of_timm_name_the_file_and_its_place(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr("time.sleep", asked.append)
    with pytest.raises(WeightsError) as caught:
        pretrained.default_file("vit_b_16")
    name = "vit_base_patch16_224.augreg2_in21k_ft_in1k"
    place = places / f"hub/checkpoints/{name}.safetensors"
    assert str(caught.value).startswith(
        f"model.pretrained: default needs http://127.0.0.1:9/timm/{name}/resolve/main/model.safetensors, "
    )
    assert str(caught.value).endswith(f"Fetch it elsewhere and put it at {place}, or set model.pretrained to none")
    assert asked == []  # nobody waits and asks again


def test_weights_that_were_put_there_by_hand_are_taken(places: Path) -> None:
    place = places / "hub/checkpoints/test_vit.r160_in1k.safetensors"
    place.parent.mkdir(parents=True)
    save_file(of_timm("test_vit", pixels=160)[1], place)
    assert pretrained.default_file("test_vit") == place
    assert pretrained.identity("test_vit", place) == files.sha256(place)


def test_what_the_hub_left_in_its_cache_is_checked(places: Path) -> None:
    content = b"weights"
    folder = places / "hf/models--timm--test_vit.r160_in1k"
    blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
    link = folder / "snapshots/0123abc/model.safetensors"
    for path, text in ((blob, content), (folder / "refs/main", b"0123abc")):
        path.parent.mkdir(parents=True)
        path.write_bytes(text)
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    assert pretrained.default_file("test_vit") == link
    blob.write_bytes(b"weightz")
    with pytest.raises(WeightsError, match=r"is damaged \(its SHA-256 begins with [0-9a-f]{8}\): delete it"):
        pretrained.default_file("test_vit")


def test_networks_without_weights_name_relatives_that_have_some() -> None:
    with pytest.raises(WeightsError) as caught:
        pretrained.default_file("coatnet_0")
    assert str(caught.value).startswith(
        "model.pretrained: timm has no default weights of coatnet_0: timm has weights of coatnet_0_rw_224.sw_in1k, "
    )


IMPOSSIBLE: small.Change = lambda tree: tree.update(  # noqa: E731
    experiments={
        "baseline": {},
        "typo": {"model": {"arch": "resnet81"}},
        "again": {"model": {"arch": "resnet81"}},
        "tokens": {"model": {"arch": "test_vit", "head": "concat", "head_hidden": 8}},
        "blocks": {"model": {"freeze": {"n_blocks": 9}, "pretrained": "w.pth"}},
        "apart": {
            "model": {"arch": "test_vit", "freeze": {"layer_fraction": 0.5, "cache": True}, "pretrained": "w.pth"}
        },
    }
)


def test_what_cannot_be_made_is_said_before_anything_trains(prepared: Prepare) -> None:
    loaded = prepared()
    root = loaded[1].root
    torch.save({"a": torch.zeros(1)}, root / "w.pth")
    small.edit(root, IMPOSSIBLE)
    loaded = load(root)
    configure.run(*loaded)
    with pytest.raises(ParamsError) as caught:
        features.run(*loaded)
    assert caught.value.headline == "networks that cannot be built as configured:"
    typo, *others = caught.value.problems
    assert typo.startswith("typo, again: model.arch: neither torchvision's table nor timm has 'resnet81'; nearest are ")
    assert others == [
        "tokens: model.head: concat wants maps of features (channels, height, width), and test_vit puts out (5, 64): "
        "choose another head or network",
        "blocks: model.freeze.n_blocks: the network has 8 blocks, got 9",
        "apart: model.freeze.cache: test_vit is no plain sequence of modules as far as that, so what is frozen cannot "
        "run apart from the rest: set model.freeze.until to head, or this to false",
    ]


VIT = {"arch": "test_vit", "head": "dense", "head_hidden": 8, "head_batch_norm": True}


def test_a_transformer_trains_and_is_scored_as_recorded(prepared: Prepare) -> None:
    loaded = prepared(lambda tree: (tree["model"].update(VIT), tree["train"].update(epochs=1)))
    features.run(*loaded)
    train.run(*loaded, "baseline", 0)
    predict.run(*loaded, "baseline", 0)
    model, paths = model_json(loaded), loaded[1]
    assert model["normalise"] == {"mean": [0.5], "std": [0.5]}
    assert model["head"] == {"kind": "dense", "width": 8, "batch_norm": True}
    table = tables.read(paths.prediction("baseline", 0))
    table = table[(table["checkpoint"] == "last") & (table["split"] == "test")]
    network = networks.build("test_vit", 2, 1, 0.0, Head("dense", 8, True), 32).eval()
    network.load_state_dict(load_file(paths.model("baseline", 0) / "last.safetensors"))
    rows = tables.read(paths.cache / "rows.csv")["id"].tolist()
    pixels = np.load(paths.cache / "images.npy")[[rows.index(name) for name in table["id"]]]
    with torch.no_grad():
        logits = network((torch.from_numpy(pixels).unsqueeze(1) / 255 - 0.5) / 0.5)
    np.testing.assert_allclose(logits.softmax(dim=1)[:, 1], table["p_TB"], atol=1e-5)


def test_an_earlier_runs_folder_is_what_a_frozen_one_begins_with(prepared: Prepare) -> None:
    loaded = prepared(lambda tree: (tree["model"].update(VIT), tree["train"].update(epochs=1)))
    train.run(*loaded, "baseline", 0)
    root = loaded[1].root
    earlier = loaded[1].model("baseline", 0).rename(root / "earlier")
    begun = load_file(earlier / "best.safetensors")
    small.edit(root, lambda tree: tree["model"].update(pretrained="earlier"))
    small.edit(root, lambda tree: tree["model"]["freeze"].update(n_blocks=-2))
    small.edit(root, lambda tree: tree["train"].update(optimizer="adamw", weight_decay=0.1))
    loaded = load(root)
    configure.run(*loaded)
    train.run(*loaded, "baseline", 0)
    after = load_file(loaded[1].model("baseline", 0) / "last.safetensors")
    same = {name for name in begun if torch.equal(begun[name], after[name])}
    held = ("body.cls_token", "body.pos_embed", "body.patch_embed.", *(f"body.blocks.{n}." for n in range(4)))
    assert {name for name in begun if name.startswith(held)} <= same
    assert not {name for name in same - {"head.2.num_batches_tracked"} if not name.startswith(held)}
    recorded = model_json(loaded)["frozen"]
    assert recorded["modules"][-1] == "body.blocks.3"
    assert (recorded["layers_frozen"], recorded["n_blocks"]) == (26, -2)


def test_cached_features_of_a_convnext_train_to_the_same_bits(prepared: Prepare) -> None:
    network = networks.build("test_convnext", 2, 1, 0.0, pixels=32)

    def freeze(tree: small.Tree) -> None:
        tree["model"].update(arch="test_convnext", pretrained=str(tree["data"]["source"]) + ".safetensors")
        weights.save(network, Path(tree["model"]["pretrained"]))
        tree["train"].update(epochs=1)
        tree["experiments"] = {
            "baseline": {"model": {"freeze": {"layer_fraction": 0.5}}},
            "cached": {"model": {"freeze": {"layer_fraction": 0.5, "cache": True}}},
        }

    loaded = prepared(freeze)
    features.run(*loaded)
    for experiment in loaded[0].experiments:
        train.run(*loaded, experiment, 0)
    assert outcome(loaded, "cached") == outcome(loaded, "baseline")


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_batch_norm_of_frozen_layers_adapts_only_where_that_is_asked(batch_norm: str, prepared: Prepare) -> None:
    torch.manual_seed(0)
    network = networks.build("test_efficientnet", 2, 1, 0.0, pixels=32)

    def freeze(tree: small.Tree) -> None:
        tree["model"].update(arch="test_efficientnet", pretrained=str(tree["data"]["source"]) + ".safetensors")
        weights.save(network, Path(tree["model"]["pretrained"]))
        tree["model"]["freeze"].update(until="blocks.2", batch_norm=batch_norm)

    loaded = prepared(freeze)
    train.run(*loaded, "baseline", 0)
    begun, after = network.state_dict(), load_file(loaded[1].model("baseline", 0) / "last.safetensors")
    changed = {name for name in begun if not torch.equal(begun[name], after[name])}
    frozen = {name for name in begun if name.startswith(("body.conv_stem", "body.bn1", *blocks(3)))}
    statistics = {name for name in frozen if "running" in name or "tracked" in name}
    assert changed & frozen == (statistics if batch_norm == "train" else set())
    assert any(name.startswith("body.blocks.3") for name in changed)


def blocks(count: int) -> list[str]:
    return [f"body.blocks.{number}." for number in range(count)]
