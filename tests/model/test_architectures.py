"""Every architecture builds as published, takes one channel or three, and is frozen, divided and scored alike."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fastai.vision.learner import create_head
from torch import Tensor, nn

from xraylab.errors import ParamsError, WeightsError
from xraylab.model import backbones, compiling, features, freezing, heads, names, networks, pretrained
from xraylab.model.freezing import FreezeSpec, FrozenModel
from xraylab.model.heads import Head

# as torchvision and timm publish them, with 1,000 classes and three channels; of CoAtNet, the paper's millions
PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "densenet121": 7_978_856,
    "inception_v3": 23_834_568,  # without the auxiliary head
    "vit_b_16": 86_567_656,
    "resnetv2_50": 25_549_352,
    "convnext_tiny": 28_589_128,
}
MILLIONS = {"coatnet_0": 25, "coatnet_1": 42, "coatnet_2": 75, "coatnet_3": 168, "coatnet_4": 275}
SMALLEST = {"inception_v3": 75}
SMALL = ("test_vit", "test_convnext", "test_maxvit")  # timm's own miniatures
CONCAT = Head("concat", 8, None)


def small(arch: str, channels: int = 1, head: Head = heads.LINEAR, seed: int = 0, pixels: int = 32) -> nn.Module:
    torch.manual_seed(seed)
    return networks.build(arch, 2, channels, 0.0, head, pixels).eval()


@pytest.mark.parametrize("arch", names.TABLE)
def test_every_name_of_the_table_is_the_published_network(arch: str) -> None:
    pixels = SMALLEST.get(arch, 32)
    with torch.device("meta"):
        gray = networks.build(arch, 2, 1, 0.5, pixels=pixels).eval()
        colour = networks.build(arch, 1000, 3, 0.5, pixels=pixels if arch not in names.TIMM else None)
        assert gray(torch.zeros(2, 1, pixels, pixels)).shape == (2, 2)
        assert colour.eval()(torch.zeros(2, 3, 224, 224)).shape == (2, 1000)
    if arch in PUBLISHED:
        assert networks.count_parameters(colour) == PUBLISHED[arch]
    else:
        assert networks.count_parameters(colour) / 1e6 == pytest.approx(MILLIONS[arch], rel=0.02)
    grouped = [id(p) for group in networks.parameter_groups(gray) for p in group]
    assert sorted(grouped) == sorted(id(p) for p in gray.parameters())


def test_the_cost_of_a_transformer_is_what_its_formula_says() -> None:
    """Per layer 4 n d^2 for the projections, 2 n^2 d for attention and 8 n d^2 for the perceptron; then the patches."""
    with torch.device("meta"):
        network = networks.build("vit_b_16", 2, 3, 0.0, pixels=224)
        counted = networks.count_multiply_adds(network, 3, 224)
    n, d = 1 + 14 * 14, 768
    assert counted == 12 * (12 * n * d**2 + 2 * n**2 * d) + 14 * 14 * (3 * 16 * 16) * d + 2 * d


def test_the_concat_head_is_fastais() -> None:
    theirs = create_head(16, 3, lin_ftrs=[8], ps=0.4)
    ours = nn.Sequential(heads.pool(CONCAT), nn.Flatten(1), *heads.build(16, 3, 0.4, CONCAT))
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    maps = torch.randn(5, 16, 3, 3)
    torch.testing.assert_close(ours.train()[:3](maps), theirs.train()[:3](maps))
    torch.testing.assert_close(ours.eval()(maps), theirs.eval()(maps))
    assert [m.p for m in ours if isinstance(m, nn.Dropout)] == [m.p for m in theirs if isinstance(m, nn.Dropout)]


def test_the_dense_head_is_covidxs() -> None:
    with_norm, without = (heads.build(16, 3, 0.2, Head("dense", 128, norm)) for norm in (True, False))
    assert [type(layer).__name__ for layer in with_norm] == ["Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear"]
    assert [type(layer).__name__ for layer in without] == ["Linear", "ReLU", "Dropout", "Linear"]
    assert with_norm[0].out_features == with_norm[4].in_features == 128
    assert with_norm[3].p == 0.2


@pytest.mark.parametrize("head", [CONCAT, Head("dense", 8, True)], ids=["concat", "dense"])
@pytest.mark.parametrize("arch", ["resnet18", "densenet121", "test_convnext"])
def test_heads_fit_every_kind_of_body(arch: str, head: Head) -> None:
    network = small(arch, head=head)
    assert network(torch.randn(3, 1, 32, 32)).shape == (3, 2)
    hidden = network.get_submodule(networks.head_of(network))[{"concat": 2, "dense": 0}[head.kind]]
    features_in = {"resnet18": 512, "densenet121": 1024, "test_convnext": 64}[arch]
    assert hidden.in_features == features_in * (2 if head.kind == "concat" else 1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: networks.build("convnext_tinny", 2, 1, 0.0),
            "model.arch: neither torchvision's table nor timm has 'convnext_tinny'; nearest are convnext_tiny, "
            "convnextv2_tiny, convnext_tiny_hnf, convnext_nano, convit_tiny",
        ),
        (
            lambda: networks.build("test_vit.nope", 2, 1, 0.0),
            "model.arch: neither torchvision's table nor timm has 'test_vit.nope'; nearest are test_vit, "
            "test_vit.r160_in1k",
        ),
        (
            lambda: small("convnext_tiny", pixels=33),
            "model.img_size: convnext_tiny takes no images of 33 pixels (it cuts them into patches of 4 pixels, which "
            "leaves some out): set it to another size, such as 224",
        ),
        (
            lambda: small("inception_v3", pixels=32),
            "model.img_size: inception_v3 takes no images of 32 pixels (Calculated padded input size per channel: "
            "(1 x 1). Kernel size: (3 x 3). Kernel size can't be greater than actual input size): set it to another "
            "size, such as 224",
        ),
        (
            lambda: small("test_vit", head=CONCAT),
            "model.head: concat wants maps of features (channels, height, width), and test_vit puts out (5, 64): "
            "choose another head or network",
        ),
    ],
    ids=["a wrong name", "a wrong tag", "patches", "too small", "tokens"],
)
def test_what_cannot_be_built_is_said(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        build()
    assert str(caught.value) == message


def test_images_are_normalised_as_the_weights_were_trained() -> None:
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for arch in ("resnet18", "densenet121", "convnext_tiny"):
        assert (backbones.normalization(arch, 3).mean, backbones.normalization(arch, 3).std) == imagenet
        assert backbones.normalization(arch, 1) == backbones.Normalise((0.449,), (0.226,))
    for arch in ("vit_b_16", "inception_v3", "coatnet_0"):
        assert backbones.normalization(arch, 3) == backbones.Normalise((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        assert backbones.normalization(arch, 1) == backbones.Normalise((0.5,), (0.5,))


def frozen(network: nn.Module, **chosen: Any) -> FrozenModel:
    return freezing.freeze(network, FreezeSpec(**chosen))


@pytest.mark.parametrize(
    ("share", "layers", "modules", "count"),
    [
        # 41 layers: 2 in the stem, 4 in a block, 2 more in the first of layers 2 to 4, 1 in the head
        (0.5, 20, ["conv1", "bn1", "layer1", "layer2"], 9_408 + 128 + 147_968 + 525_568),
        (0.75, 30, ["conv1", "bn1", "layer1", "layer2", "layer3"], 9_408 + 128 + 147_968 + 525_568 + 2_099_712),
    ],
)
def test_a_share_of_resnet18s_layers(share: float, layers: int, modules: list[str], count: int) -> None:
    network = small("resnet18", channels=3)
    assert len(networks.layers(network)) == 41
    parts = frozen(network, layer_fraction=share)
    assert len(parts.frozen_layers) == layers
    assert freezing.frozen_module_names(network, parts.frozen_layers) == modules
    assert freezing.count_parameters(network, parts.frozen_layers) == count
    assert sum(p.numel() for p in network.parameters() if not p.requires_grad) == count


def test_a_cut_within_a_block_runs_apart_up_to_it_and_holds_the_rest() -> None:
    """Half of ResNet-34's 73 layers: 2 and 3 x 4 and 4 x 4 + 2, then both convolutions of layer3's first block."""
    network = small("resnet34")
    parts = frozen(network, layer_fraction=0.5)
    inside = ["layer3.0.conv1", "layer3.0.bn1", "layer3.0.conv2", "layer3.0.bn2"]
    assert (len(parts.frozen_layers), parts.frozen_layers[-4:]) == (36, inside)
    assert parts.frozen_modules == [network.get_submodule(name) for name in inside]
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(parts.trainable.eval()(features.run_backbone(parts.backbone, images)), network(images))


def test_all_but_the_last_blocks_of_a_transformer() -> None:
    network = small("test_vit")
    blocks = [f"body.blocks.{number}" for number in range(6)]
    assert freezing.blocks(network) == blocks
    parts = frozen(network, n_blocks=-4)
    front = ["body.cls_token", "body.pos_embed", "body.patch_embed"]
    assert freezing.frozen_module_names(network, parts.frozen_layers) == [*front, *blocks[:2]]
    trained = {name.rsplit(".", 1)[0] for name, p in network.named_parameters() if p.requires_grad}
    assert {name.split(".")[2] for name in trained if "blocks" in name} == {"2", "3", "4", "5"}
    assert {name for name in trained if "blocks" not in name} == {"body.norm", "head.1"}
    assert len(parts.backbone) == 0  # tokens are joined and added in between
    assert freezing.frozen_module_names(network, frozen(small("test_vit"), n_blocks=2).frozen_layers) == [
        *front,
        *blocks[:2],
    ]


@pytest.mark.parametrize("chosen", [{"until": "head"}, {"layer_fraction": 0.5}, {"n_blocks": -1}], ids=str)
@pytest.mark.parametrize("arch", ["densenet121", *SMALL])
def test_the_parts_make_the_whole(arch: str, chosen: dict[str, Any]) -> None:
    network, images = small(arch), torch.randn(2, 1, 32, 32)
    expected = network(images)
    parts = frozen(network, **chosen)
    trained = parts.trainable.eval()
    assert torch.equal(
        trained(features.run_backbone(parts.backbone, images) if len(parts.backbone) else images), expected
    )
    apart = list(parts.backbone.parameters())
    held = {id(p) for part in parts.frozen_modules for p in part.parameters()}
    assert {id(p) for p in apart}.isdisjoint(held)
    assert freezing.count_parameters(network, parts.frozen_layers) == sum(
        p.numel() for p in network.parameters() if not p.requires_grad
    )
    whole = [set(map(id, group)) for group in networks.parameter_groups(network)]
    left = [set(map(id, group)) for group in networks.parameter_groups(trained)]
    assert all(few <= many for few, many in zip(left, whole, strict=True))
    assert left[2] == whole[2]


def test_blocks_that_are_not_there_are_named() -> None:
    with pytest.raises(ParamsError) as caught:
        frozen(small("resnet18"), until="layer9")
    assert str(caught.value) == (
        "model.freeze.until: the network has no block 'layer9'; there is layer4, layer3, layer2, layer1, layer4.1, head"
    )
    with pytest.raises(ParamsError, match=r"^model.freeze.n_blocks: the network has 6 blocks, got -7$"):
        frozen(small("test_vit"), n_blocks=-7)


@pytest.mark.parametrize("arch", ["test_vit", "resnet50"])
def test_layers_are_counted_as_images_meet_them(arch: str) -> None:
    """What torch sees first, by a hook on every module that has parameters of its own."""
    network = small(arch)
    met: Counter[str] = Counter()
    for name in networks.layers(network):
        network.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: met.update([name]))
    network(torch.randn(1, 1, 32, 32))
    assert list(met) == networks.layers(network)


@pytest.mark.parametrize(
    ("arch", "how"),
    [
        ("densenet121", "59 of 121 batch norms folded into convolutions"),
        ("inception_v3", "94 of 94 batch norms folded into convolutions"),
        ("test_resnet", "15 of 15 batch norms folded into convolutions"),
        ("test_maxvit", "0 of 13 batch norms folded into convolutions"),
        ("test_convnext", ""),
        ("test_vit", "batch norms not folded, since the network cannot be traced"),
    ],
)
def test_scoring_gives_the_networks_own_logits(arch: str, how: str) -> None:
    pixels = SMALLEST.get(arch, 32)
    network = small(arch, pixels=pixels)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and isinstance(module.running_mean, Tensor):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    images = torch.randn(2, 1, pixels, pixels)
    ours, said = compiling.fuse_batch_norm(network)
    assert said.startswith(how)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), network(images), rtol=1e-4, atol=1e-5)


def test_an_architecture_of_ones_own_gets_pool_head_and_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function from channels to maps is enough; weights come from a file, for there are no default ones."""

    def backbone(channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3))

    monkeypatch.setitem(backbones.ARCHITECTURES, "mine", backbone)
    network = small("mine", head=CONCAT)
    assert network(torch.randn(3, 1, 32, 32)).shape == (3, 2)
    assert networks.layers(network) == ["body.0", "body.1", "body.3", "head.0", "head.2", "head.4", "head.6"]
    assert backbones.normalization("mine", 1) == backbones.Normalise((0.449,), (0.226,))
    parts = frozen(network, until="1")
    assert [type(part) for part in parts.backbone] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    with pytest.raises(WeightsError) as caught:
        pretrained.default_file("mine")
    assert str(caught.value) == "model.pretrained: mine has no default weights: name a file, or set it to none"
