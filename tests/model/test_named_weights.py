"""Named weights: every mapping to the last tensor, where files lie, what a name decides, and safe conversion."""

import os
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small
import timm
import torch
from conftest import Loaded
from model_configs import model_config
from published_weights import ark, eva, published, zeros
from torch import nn

from xraylab import files
from xraylab.data.image_cache import Normalise
from xraylab.errors import ParamsError, WeightsError
from xraylab.model import create, mapping, named, networks, pretrained, unpickling, weights
from xraylab.params import config
from xraylab.registry import weights as registry
from xraylab.stages import features, predict, train

DENSENET = registry.find("txrv-densenet121-all")
OTHERS = [name for name in registry.read() if name.startswith("txrv-densenet121-") and name != DENSENET.name]


@pytest.mark.parametrize("name", [name for name in registry.read() if name not in OTHERS])
def test_every_tensor_of_a_published_file_has_its_place(name: str) -> None:
    entry = registry.find(name)
    with torch.device("meta"):
        network = networks.build(entry.arch, 2, entry.channels, 0.0, pixels=entry.img_size)
    state = mapping.map_keys(zeros(published(name)), entry.keys)
    state = pretrained.match_state(network, state, name)
    wanted = {key for key in network.state_dict() if not key.startswith(f"{networks.head_of(network)}.")}
    assert set(state) == wanted


def test_torchxrayvisions_densenets_differ_in_file_and_data_alone() -> None:
    assert len(OTHERS) == 6
    for entry in map(registry.find, OTHERS):
        same = {name: getattr(DENSENET, name) for name in ("name", "title", "file", "url", "seen")}
        assert replace(entry, **same) == DENSENET
        assert entry.url.endswith(f"/{entry.file}")


def as_published(state: dict[str, torch.Tensor], names: list[str]) -> dict[str, torch.Tensor]:
    """Our tensors under published names, in whose order they are; zeros for those that are no part of the backbone."""
    return dict(zip(names, state.values(), strict=True))


@pytest.mark.parametrize("size", ["tiny", "base"])
def test_eva_x_gives_what_timms_network_gives(size: str) -> None:
    """EVA-X's own class is timm's Eva; only names differ, in the order of one another."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"patch_size": 16, "ref_feat_shape": (14, 14), "img_size": 32, "depth": 2}
    theirs, ours = (timm.create_model(f"eva02_{size}_patch14_224", num_classes=0, **options).eval() for _ in range(2))
    names = [name for name in eva(f"eva_{size}") if not re.search(r"blocks\.([2-9]|1\d)\.|mask|lm_head|rope", name)]
    state = as_published(theirs.state_dict(), names) | {"module.mask_token": torch.zeros(1, 1, 1)}
    ours.load_state_dict(mapping.map_keys(state, registry.find(f"eva-x-{size}").keys))
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(ours(images), theirs(images))


def test_ark_gives_what_timms_network_gives() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"embed_dim": 12, "depths": (2, 2), "num_heads": (1, 2), "img_size": 96}
    arch = "swin_large_patch4_window12_384"
    theirs, ours = (timm.create_model(arch, num_classes=0, **options).eval() for _ in range(2))
    published_names = [name for name in ark(arch, **options) if not re.search("attn_mask|index|projector|heads", name)]
    state = as_published(theirs.state_dict(), published_names)
    network = nn.Sequential()
    network.add_module("body", ours)
    state = timm.models.swin_transformer.checkpoint_filter_fn(
        mapping.map_keys(state, registry.find("ark-plus").keys), ours
    )
    ours.load_state_dict(state)
    images = torch.rand(1, 3, 96, 96)
    assert torch.equal(ours(images), theirs(images))


def test_the_name_decides_architecture_and_normalisation(tmp_path: Path) -> None:
    change: small.Change = lambda tree: tree["model"].update(pretrained="txrv-resnet50-512")  # noqa: E731
    params = config.read(small.study(tmp_path, change) / "params.yaml")
    model = params.experiment("baseline").model
    assert model.arch == "resnet50"
    assert create.normalization(model, tmp_path) == Normalise((0.5,), (1 / 2048,))  # (x - 0.5) * 2048 = (2x - 1) * 1024
    assert create.normalization(model.model_copy(update={"channels": 3}), tmp_path) == Normalise(
        (0.5,) * 3, (1 / 2048,) * 3
    )
    assert create.describe_model(model, 2, tmp_path)["normalise"] == {"mean": (0.5,), "std": (1 / 2048,)}
    assert config.named_weights_remarks(params) == [
        "model.pretrained: txrv-resnet50-512 is a resnet50, which takes the place of model.arch: resnet18",
        "txrv-resnet50-512 was trained on 512 pixels; with model.img_size: 32 objects in it have another scale",
    ]
    gray = create.normalization(model_config(pretrained="biomedclip", channels=1), tmp_path)
    assert gray.mean == pytest.approx([(0.48145466 + 0.4578275 + 0.40821073) / 3])


def test_an_earlier_run_hands_on_its_own_normalisation(tmp_path: Path) -> None:
    files.write_json({"normalise": {"mean": [0.5307] * 3, "std": [0.2583] * 3}}, tmp_path / "run/model.json")
    best = tmp_path / "run/best.safetensors"
    for channels in (1, 3):
        model = model_config(arch="vit_b_16", pretrained="run", channels=channels)
        expected = [0.5307] * channels, [0.2583] * channels
        own = create.normalization(model, best)
        assert (own.mean, own.std) == tuple(map(pytest.approx, expected))
        random = model.model_copy(update={"pretrained": "none"})
        assert create.normalization(random, best).mean == pytest.approx([0.5] * channels)


def test_a_size_that_cuts_a_patch_is_refused_with_the_right_one(tmp_path: Path) -> None:
    study = small.study(tmp_path, lambda tree: tree["model"].update(pretrained="rad-dino"))
    with pytest.raises(ParamsError) as caught:
        config.read(study / "params.yaml")
    assert caught.value.problems == (
        "model.img_size: rad-dino takes multiples of 14 pixels, got 32: set images.size and model.img_size to 518, "
        "which it was trained on, or to a smaller multiple",
    )


def test_weights_that_are_not_here_are_told_from_typing_errors(
    prepared: Callable[..., Loaded], weights_folder: Path
) -> None:
    with pytest.raises(WeightsError) as caught:
        prepared(
            lambda tree: tree.update(
                experiments={
                    "baseline": {},
                    "gated": {"model": {"pretrained": "ark-plus"}},
                    "hub": {"model": {"pretrained": "eva-x-tiny"}},
                    "pickled": {"model": {"pretrained": DENSENET.name}},
                    "typo": {"model": {"pretrained": "eva-x-tinny"}},
                }
            )
        )
    gated, hub, pickled, typo = caught.value.problems
    ark_plus = "Ark6_swinLarge768_ep50.pth.tar"
    assert gated == (
        f"gated: model.pretrained: ark-plus is not on this machine: accept its terms, fetch {ark_plus} "
        f"from https://github.com/jlianglab/Ark and put it at {weights_folder / ark_plus}"
    )
    assert hub.startswith("hub: model.pretrained: eva-x-tiny needs http://127.0.0.1:9/MapleF/eva_x/resolve/main/")
    assert hub.endswith(
        f"put it at {weights_folder / 'eva_x_tiny_patch16_merged520k_mim.pt'}, or set model.pretrained to none"
    )
    assert pickled.endswith(f"and put it at {weights_folder / DENSENET.file}, then `xraylab weights convert` it")
    assert typo.endswith("eva-x-tinny; did you mean eva-x-tiny?")
    (weights_folder / DENSENET.file).touch()
    with pytest.raises(WeightsError, match=r"is a pickled module, .*: `xraylab weights convert .*` makes safetensors"):
        named.find_file(DENSENET)
    assert not named.is_here(DENSENET)


def test_a_run_from_named_weights_is_predicted_as_it_was_trained(
    prepared: Callable[..., Loaded], weights_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = registry.find("txrv-resnet50-512")
    torch.manual_seed(0)
    state = {
        name.replace("fc.1", "fc"): each for name, each in networks.build("resnet50", 18, 1, 0.0).state_dict().items()
    }
    torch.save({**state, "surplus": torch.zeros(1)}, weights_folder / entry.file)

    def change(tree: small.Tree) -> None:
        tree["model"].update(pretrained=entry.name, freeze={**tree["model"]["freeze"], "until": "head", "cache": True})
        tree["experiments"] = {"baseline": {}}

    given, paths = prepared(change)
    features.run(given, paths)
    train.run(given, paths, "baseline", 0)
    assert f"1 tensors of {weights_folder / entry.file} have no place in resnet50: surplus" in capsys.readouterr().out
    record = files.read_json(paths.model("baseline", 0) / "model.json")
    assert (record["arch"], record["normalise"]) == ("resnet50", {"mean": [0.5], "std": [1 / 2048]})
    trained = weights.read(paths.model("baseline", 0) / "best.safetensors")
    assert torch.equal(trained["layer4.2.conv3.weight"], state["layer4.2.conv3.weight"])
    predict.run(given, paths, "baseline", 0)
    torch.save({name: tensor + 1 for name, tensor in state.items()}, weights_folder / entry.file)
    with pytest.raises(WeightsError, match="has changed since its config was written"):
        train.run(given, paths, "baseline", 0)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_is_converted_without_its_code(tmp_path: Path, legacy: bool) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2).to(torch.bfloat16))
    content = {"model": network, "epoch": 3, "view": torch.arange(6.0).reshape(2, 3).t()}
    torch.save(content, tmp_path / "w.pth.tar", _use_new_zipfile_serialization=not legacy)
    converted = unpickling.convert(tmp_path / "w.pth.tar")
    assert converted == tmp_path / "w.safetensors"
    expected = {f"model.{name}": tensor for name, tensor in network.state_dict().items()} | {"view": content["view"]}
    read = weights.read(converted)
    assert read.keys() == expected.keys()
    assert all(
        torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in expected.items()
    )


def test_a_pickle_that_asks_for_more_is_refused(tmp_path: Path) -> None:
    evil = Evil(tmp_path / "evil")
    for name, content in {"call.pt": evil, "inside.pt": {"w": torch.ones(2), "x": evil}}.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(
            WeightsError, match=r"cannot be converted: it asks for posix.system, which no file of weigh"
        ):
            unpickling.convert(tmp_path / name)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(evil))
    (tmp_path / "junk.pt").write_bytes(b"\x80\x02junk")
    whole = tmp_path / "whole.pt"
    torch.save({"w": torch.ones(1000)}, whole, _use_new_zipfile_serialization=False)
    (tmp_path / "cut.pt").write_bytes(whole.read_bytes()[:-900])
    for name, why in (("plain", "posix.system"), ("junk", "cannot be converted: "), ("cut", "it is cut off")):
        with pytest.raises(WeightsError, match=why):
            unpickling.convert(tmp_path / f"{name}.pt")
    assert not list(tmp_path.glob("*.safetensors"))
    assert not evil.file.exists()
    pickle.loads(pickle.dumps(evil))
    assert evil.file.exists()  # it would have
