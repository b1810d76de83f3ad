"""Saliency against closed forms, measures of it by hand, and which images are looked at."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision.models as tv
from torch import Tensor, nn

from xraylab.errors import ParamsError, TrainingError
from xraylab.explain import feature_maps, layers, localization, pictures, probes, saliency, selection
from xraylab.explain.layers import Call
from xraylab.model import hardware, memory, networks

PIXELS = 24
FLOAT32 = hardware.choose("float32")
RESNET18: Callable[[], nn.Module] = lambda: networks.build("resnet18", classes=3, channels=1, dropout=0.0)  # noqa: E731


def vit(**options: object) -> nn.Module:
    """A transformer of three blocks that cuts images of 24 pixels into 36 tokens."""
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=24, patch_size=4, depth=3, embed_dim=24, in_chans=1, num_classes=3, **options
    ).eval()


def noise(count: int, channels: int = 1, seed: int = 0, pixels: int = PIXELS) -> Tensor:
    return torch.randn(count, channels, pixels, pixels, generator=torch.Generator().manual_seed(seed))


class OneConvolution(nn.Module):
    """Convolution, mean over space, linear: Grad-CAM has a closed form."""

    def __init__(self, features: int = 5, classes: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, features, 3, padding=1)
        self.fc = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).mean(dim=(2, 3)))


class Linear(nn.Module):
    """Logits 0 and the sum of weights times pixels."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], dim=1)


def test_log_odds_are_those_of_the_softmax() -> None:
    logits, classes = torch.randn(7, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    p = logits.softmax(dim=1)[torch.arange(7), classes]
    assert torch.allclose(saliency.log_odds(logits, classes), torch.log(p / (1 - p)))


def test_grad_cam_of_one_convolution_is_the_closed_form() -> None:
    torch.manual_seed(1)
    network, images, classes = OneConvolution().eval(), noise(3), torch.tensor([1, 0, 1])
    with torch.no_grad():
        maps = network.conv(images)
        difference = network.fc.weight[1] - network.fc.weight[0]  # of two classes the log-odds are z1 - z0
        signs = torch.tensor([1.0, -1.0, 1.0])
        alpha = signs[:, None] * difference / PIXELS**2
        expected = torch.einsum("nk,nkhw->nhw", alpha, maps).relu()
    assert torch.allclose(saliency.grad_cam(network, images, classes), expected, atol=1e-8)


def test_grad_cam_needs_no_weight_that_learns() -> None:
    network, images = OneConvolution().eval(), noise(2)
    before = saliency.grad_cam(network, images, torch.tensor([0, 1]))
    assert torch.equal(saliency.grad_cam(network.requires_grad_(False), images, torch.tensor([0, 1])), before)
    assert not images.requires_grad


def test_more_images_than_a_batch_give_the_same_maps() -> None:
    network, images = OneConvolution().eval(), noise(saliency.BATCH + 3)
    classes = torch.arange(len(images)) % 2
    alone = torch.cat([saliency.grad_cam(network, images[i : i + 1], classes[i : i + 1]) for i in (0, 65, 66)])
    assert torch.allclose(saliency.grad_cam(network, images, classes)[[0, 65, 66]], alone, atol=1e-9)


def test_occlusion_of_a_linear_model_is_the_sum_of_its_weights_times_what_was_covered() -> None:
    weight = torch.arange(36.0).reshape(6, 6) - 10
    image = noise(1, pixels=6)
    found = saliency.occlusion(Linear(weight), image, torch.tensor([1]), patch=2, stride=2, machine=FLOAT32)[0]
    part = (weight * (image[0, 0] - image.mean())).reshape(3, 2, 3, 2).sum(dim=(1, 3))
    assert torch.allclose(found, part.repeat_interleave(2, 0).repeat_interleave(2, 1), atol=1e-4)
    ones = torch.zeros(1, 1, 6, 6)
    ones[..., :2, :2] = 9.0  # the mean is 1: covering these takes 8 from each
    found = saliency.occlusion(Linear(weight), ones, torch.tensor([1]), patch=2, stride=2, machine=FLOAT32)[0]
    assert found[0, 0].item() == pytest.approx(8 * weight[:2, :2].sum().item())
    assert found[4, 4].item() == pytest.approx(-weight[4:, 4:].sum().item())


def test_overlapping_squares_are_averaged_and_reach_the_far_edge() -> None:
    weight, image = torch.ones(5, 5), torch.zeros(1, 1, 5, 5)
    image[0, 0, 4, 4] = 25.0  # the mean is 1: only squares that cover the corner lower the score, by 25 - patch area
    found = saliency.occlusion(Linear(weight), image, torch.tensor([1]), patch=3, stride=1, machine=FLOAT32)[0]
    covers = torch.tensor([1, 2, 3, 2, 1])  # squares over each row: 0-2, 1-3, 2-4
    corner = torch.tensor([0, 0, 1, 1, 1])  # those of them that cover the last row
    share = corner[:, None] * corner[None] / (covers[:, None] * covers[None])
    expected = share * (25 - 9) + (1 - share) * -9
    assert torch.allclose(found, expected, atol=1e-4)


def test_folding_and_batching_change_no_occlusion_map() -> None:
    """Against the network as it is, one covered image at a time."""
    torch.manual_seed(0)
    network, images, classes = RESNET18(), 2 * noise(3, pixels=32) + 1, torch.tensor([0, 2, 1])
    network(noise(16, pixels=32))  # batch norms with statistics that are worth folding
    network.eval()
    expected = torch.zeros(3, 32, 32)
    with torch.no_grad():
        for number, (image, label) in enumerate(zip(images, classes, strict=True)):
            whole = saliency.log_odds(network(image[None]), label[None])
            for top, left in [(top, left) for top in (0, 16) for left in (0, 16)]:
                covered = image.clone()
                covered[:, top : top + 16, left : left + 16] = image.mean()
                fall = whole - saliency.log_odds(network(covered[None]), label[None])
                expected[number, top : top + 16, left : left + 16] = fall
    for machine, tolerance in ((FLOAT32, 1e-4), (replace(FLOAT32, precision="bfloat16"), 0.1)):
        found = saliency.occlusion(network, images, classes, patch=16, stride=16, machine=machine)
        assert torch.allclose(found, expected, atol=tolerance * expected.abs().max().item())


class Fits(OneConvolution):
    """Runs out of memory with more than so many images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(x)


@pytest.mark.parametrize(("method", "name"), [("grad-cam", "Grad-CAM"), ("occlusion", "occlusion")])
def test_where_memory_runs_out_batches_are_halved_and_maps_stay(
    method: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_unused", lambda: None)  # takes a fifth of a second, and nothing ran out
    torch.manual_seed(1)
    images, classes, network = noise(7), torch.arange(7) % 2, Fits(999).eval()
    map_of = saliency.methods([method], PIXELS, patch=0.5, stride=0.5, machine=FLOAT32)[method]
    expected = map_of(network, images, classes)
    network.most = 3
    assert torch.allclose(map_of(network, images, classes), expected, atol=1e-7)
    network.most = 0
    with pytest.raises(TrainingError) as raised:
        map_of(network, images, classes)
    assert str(raised.value) == (
        f"memory ran out while explaining by {name}, with one image at a time: "
        "set model.img_size lower, or take a smaller model.arch"
    )


@pytest.mark.parametrize(
    ("network", "channels", "name", "kind"),
    [
        (RESNET18, 1, "layer4", "channels first"),
        (lambda: tv.densenet121(num_classes=2), 3, "features", "channels first"),
        (lambda: timm.create_model("resnet18", num_classes=2), 3, "layer4", "channels first"),
        (vit, 1, "blocks.2.norm1", "tokens"),
        (lambda: vit(global_pool="avg"), 1, "norm", "tokens"),
        (lambda: vit(reg_tokens=4), 1, "blocks.2.norm1", "tokens"),
    ],
)
def test_the_target_is_the_last_output_that_the_answer_depends_on(
    network: Callable[[], nn.Module], channels: int, name: str, kind: str
) -> None:
    torch.manual_seed(0)
    ours, pixels = network().eval(), 24 if kind == "tokens" else 64
    call = layers.target(ours, noise(1, channels, pixels=pixels))
    assert call.name.startswith(name)
    _, (seen,) = layers.run(ours, noise(1, channels, pixels=pixels), [call])
    assert layers.layout(seen.output) == kind


def test_tokens_are_laid_out_as_they_lay_in_the_picture() -> None:
    picture = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4)
    tokens = picture.flatten(2).transpose(1, 2)
    assert torch.equal(layers.grid(tokens), picture)
    assert torch.equal(layers.grid(torch.cat([torch.full((2, 5, 3), -1.0), tokens], dim=1)), picture)
    assert torch.equal(layers.grid(picture.permute(0, 2, 3, 1).contiguous()), picture)


def test_a_transformer_that_sees_one_token_alone_is_explained_there() -> None:
    """Its patch embedding is the only thing that varies: class scores are the tokens' mean, so the maps are known."""
    network = vit(global_pool="avg")
    network.blocks, network.norm, network.fc_norm = nn.Sequential(), nn.Identity(), nn.Identity()
    network.pos_embed.data.zero_()
    image = torch.zeros(1, 1, 24, 24)
    image[..., 8:12, 16:20] = 1.0  # the token in row 2, column 4
    with torch.no_grad():
        token = network.patch_embed(image)[0, 2 * 6 + 4] - network.patch_embed.proj.bias
        network.patch_embed.proj.bias.zero_()
        network.head.weight.zero_()
        network.head.weight[1] = token
    found = saliency.grad_cam(network, image, torch.tensor([1]))[0]
    assert divmod(int(found.argmax()), 24) in {(row, column) for row in range(8, 12) for column in range(16, 20)}
    assert found[:4].max() == found[:, :8].max() == 0


def test_a_network_without_space_has_no_grad_cam() -> None:
    with pytest.raises(ParamsError) as caught:
        saliency.grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(576, 2)), noise(1), torch.tensor([0]))
    assert str(caught.value) == (
        "Grad-CAM: no layer of Sequential puts out what is laid out in space: take grad-cam out of explain.methods"
    )


def test_hooks_are_gone_afterwards() -> None:
    network = RESNET18().eval()
    saliency.grad_cam(network, noise(1, pixels=64), torch.tensor([0]))
    assert not any(module._forward_hooks for module in network.modules())


def test_feature_maps_are_those_of_the_first_and_the_middle_layer() -> None:
    network, image = RESNET18().eval(), noise(1, pixels=64)
    found = feature_maps.compute(network, image, most=16)
    assert [(depth, name) for depth, (name, _) in found.items()] == [("first", "conv1"), ("middle", "layer3.0.conv1")]
    with torch.no_grad():
        first = network.conv1(image)[0]
        middle = network.layer3[0].conv1(
            network.layer2(network.layer1(network.maxpool(network.relu(network.bn1(network.conv1(image))))))
        )[0]
    for channels, (_, shown) in zip((first, middle), found.values(), strict=True):
        spread = channels.var(dim=(1, 2))
        chosen = sorted(range(len(channels)), key=lambda channel: -spread[channel])[:16]
        assert np.allclose(shown, channels[sorted(chosen)], atol=1e-6)
    assert [name for name, _ in feature_maps.compute(vit(), noise(1), 4).values()] == [
        "patch_embed.proj",
        "blocks.1.attn.proj",
    ]


def test_measures_of_two_maps_by_hand() -> None:
    found = np.array([[[0.0, 4.0], [-7.0, 0.0]], [[1.0, 1.0], [0.0, 2.0]]])
    inside = np.array([[[False, True], [False, False]], [[True, False], [False, False]]])
    assert localization.metrics(found, inside) == {
        "images": 2,
        "hit_rate": 0.5,
        "inside": (1.0 + 0.25) / 2,
        "chance": 0.25,
        "hit_rate_other": 0.0,
        "inside_other": (0.0 + 0.25) / 2,
    }


def test_maps_that_know_nothing_score_chance() -> None:
    rng = np.random.default_rng(0)
    inside = rng.random((5, 6, 6)) < 0.3
    for value in (0.0, -1.0):
        measured = localization.metrics(np.full((5, 6, 6), value), inside)
        assert measured["hit_rate"] == pytest.approx(measured["chance"])
        assert measured["inside"] == pytest.approx(measured["chance"])
    assert localization.metrics(inside[:1].astype(float), inside[:1])["hit_rate_other"] is None


TILE = np.random.default_rng(7).choice([-1.0, 1.0], (6, 6))


def findings(count: int, seed: int) -> tuple[Tensor, Tensor, np.ndarray]:
    """Images of random signs, and in each somewhere one tile of signs that is always the same."""
    rng = np.random.default_rng(seed)
    images = rng.choice([-1.0, 1.0], (count, PIXELS, PIXELS))
    masks = np.zeros((count, PIXELS, PIXELS), bool)
    for image, mask in zip(images, masks, strict=True):
        top, left = rng.integers(0, PIXELS - 5, 2)
        mask[top : top + 6, left : left + 6] = True
        image[mask] = TILE.ravel()
    return torch.tensor(images[:, None], dtype=torch.float32), torch.ones(count, dtype=torch.int64), masks


def detector(seed: int | None) -> nn.Module:
    """A network that knows the tile, as none could know it better (a matched filter), or one of random weights."""
    torch.manual_seed(seed or 0)
    convolution, linear = nn.Conv2d(1, 1, 5, padding=2), nn.Linear(1, 2)
    if seed is None:
        convolution.weight.data[0, 0] = torch.tensor(TILE[:5, :5])
        convolution.bias.data.fill_(-15.0)  # noise reaches 5 on average, the tile 25
        linear.weight.data = torch.tensor([[-1.0], [1.0]])
    return nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear).eval()


@pytest.mark.parametrize("method", ["grad-cam", "occlusion"])
def test_a_network_that_knows_the_finding_points_at_it_and_random_ones_do_not(method: str) -> None:
    images, classes, masks = findings(24, seed=2)
    map_of = saliency.methods([method], PIXELS, patch=0.25, stride=0.125, machine=FLOAT32)[method]
    knows = localization.metrics(map_of(detector(None), images, classes).numpy(), masks)
    assert knows["chance"] == pytest.approx(36 / PIXELS**2)
    assert knows["hit_rate"] > 0.8
    assert knows["inside"] > 5 * knows["chance"]
    assert knows["hit_rate_other"] < 0.15
    random = [localization.metrics(map_of(detector(seed), images, classes).numpy(), masks) for seed in range(1, 9)]
    for name in ("hit_rate", "inside"):
        found, elsewhere = (np.mean([each[key] for each in random]) for key in (name, f"{name}_other"))
        assert found == pytest.approx(elsewhere, abs=0.05)
        assert found < 2 * knows["chance"] < knows[name] / 2


def table(rows: list[tuple[str, str, float, float, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["id", "label", "p_A", "p_B", "p_C"])


THREE = table(
    [
        ("a1", "A", 0.8, 0.1, 0.1),
        ("a2", "A", 0.2, 0.7, 0.1),
        ("a3", "A", 0.6, 0.3, 0.1),
        ("b1", "B", 0.1, 0.9, 0.0),
        ("b2", "B", 0.1, 0.3, 0.6),
        ("c1", "C", 0.9, 0.1, 0.0),
    ]
)


def test_cells_of_three_classes() -> None:
    images = selection.with_losses(THREE, ["A", "B", "C"])
    cells = {
        (cell.kind, cell.label): list(cell.rows["id"])
        for cell in selection.confusion_cells(images, ["A", "B", "C"], None, 3)
    }
    assert cells == {
        ("true positive", "A"): ["a1", "a3"],
        ("false negative", "A"): ["a2"],
        ("false positive", "A"): ["c1"],
        ("true positive", "B"): ["b1"],
        ("false negative", "B"): ["b2"],
        ("false positive", "B"): ["a2"],
        ("true positive", "C"): [],
        ("false negative", "C"): ["c1"],
        ("false positive", "C"): ["b2"],
    }


def test_cells_of_two_classes_run_from_the_surest() -> None:
    rows = [(f"n{n}", "N", 1 - n / 20, n / 20) for n in range(20)] + [
        (f"p{n}", "P", 1 - n / 20, n / 20) for n in (3, 19)
    ]
    images = selection.with_losses(pd.DataFrame(rows, columns=["id", "label", "p_N", "p_P"]), ["N", "P"])
    cells = {
        cell.kind: (cell.total, list(cell.rows["id"])) for cell in selection.confusion_cells(images, ["N", "P"], "P", 3)
    }
    assert cells == {
        "true positive": (1, ["p19"]),
        "false negative": (1, ["p3"]),
        "false positive": (9, ["n19", "n18", "n17"]),
        "true negative": (11, ["n0", "n5", "n10"]),
    }


def test_top_losses_are_those_of_the_actual_class() -> None:
    worst = selection.top_losses(selection.with_losses(THREE, ["A", "B", "C"]), 2)
    assert list(worst["id"]) == ["c1", "a2"]
    assert list(worst["loss"]) == pytest.approx([-np.log(np.finfo(np.float32).tiny), -np.log(0.2)])


@pytest.mark.parametrize(("part", "kept"), [("centre", 100 - 36), ("border", 36)])
def test_a_probe_blacks_out_what_it_says(part: str, kept: int) -> None:
    images = np.full((2, 10, 10), 200, np.uint8)
    found = probes.blacked_out(images, part, 0.6)
    assert (images == 200).all()
    assert [(each > 0).sum() for each in found] == [kept, kept]
    assert found[0, 2, 2] == found[0, 7, 7] == (0 if part == "centre" else 200)


def test_verdicts() -> None:
    assert probes.verdict("centre", 0.9, 0.83, 0.8) == {"auroc": 0.83, "kept": pytest.approx(0.825), "shortcut": True}
    assert probes.verdict("centre", 0.9, 0.81, 0.8)["shortcut"] is False
    assert probes.verdict("border", 0.9, 0.83, 0.8)["shortcut"] is False
    assert probes.verdict("border", 0.9, 0.81, 0.8)["shortcut"] is True
    assert probes.verdict("centre", 0.9, 0.3, 0.8)["kept"] == 0
    for unknown in (
        probes.verdict("centre", 0.59, 0.9, 0.8),
        probes.verdict("centre", None, 0.9, 0.8),
        probes.verdict("centre", 0.9, None, 0.8),
    ):
        assert (unknown["kept"], unknown["shortcut"]) == (None, None)


def test_warnings_say_what_was_found() -> None:
    centre, metadata = (
        probes.verdict("centre", 0.95, 0.93, 0.8),
        probes.verdict("centre", 0.95, 0.96, 0.8) | {"facts": ["size", "format"]},
    )
    assert probes.warnings(0.95, centre, probes.verdict("border", 0.95, 0.69, 0.8), metadata, 0.75) == [
        "With the centre of every image blacked out, the network still reaches an AUROC of 0.93 (whole images: 0.95), "
        "96 % of what it knows beyond chance. It tells the classes without the lungs.",
        "With the border of every image blacked out, all but the middle 75 % of height and width, the network reaches "
        "an AUROC of 0.69 (whole images: 0.95), 42 % of what it knows beyond chance. It leans on the border, or is put "
        "off by a black one: films of other hospitals have other borders.",
        "A model that sees only facts about the files (size, format), and no image, reaches an AUROC of 0.96 (whole "
        "images: 0.95), 102 % of what the network knows beyond chance. The network may tell the classes by where an "
        "image comes from.",
    ]
    silent, unknown = (
        probes.verdict("centre", 0.95, 0.6, 0.8) | {"facts": []},
        probes.verdict("centre", 0.55, 0.5, 0.8) | {"facts": []},
    )
    assert probes.warnings(0.95, silent, probes.verdict("border", 0.95, 0.87, 0.8), silent, 0.75) == []
    assert probes.warnings(0.55, unknown, unknown, unknown, 0.75) == []


def test_an_overlay_leaves_alone_where_nothing_is_seen() -> None:
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    found = np.zeros((8, 8), np.float32)
    assert (pictures.overlay(gray, found, None) == gray[..., None]).all()
    found[3, 3], found[5, 5] = 2.0, -9.0
    changed = (pictures.overlay(gray, found, None) != gray[..., None]).any(axis=2)
    assert changed.sum() == 1
    assert changed[3, 3]


def test_an_outline_lies_on_the_edge_of_the_mask() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    drawn = (pictures.overlay(np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.float32), mask) == pictures.OUTLINE).all(
        2
    )
    assert drawn.sum() == 16
    assert drawn[2, 2:7].all()
    assert not drawn[3:6, 3:6].any()


def test_a_sheet_shows_every_map_from_black_to_white() -> None:
    maps = np.stack([np.array([[n, n + 1.0], [n, n]], np.float32) for n in range(5)])
    found = pictures.sheet(maps)
    side = pictures.LARGEST // 3 - pictures.GAP
    assert found.shape == (2 * side + pictures.GAP, 3 * side + 2 * pictures.GAP)
    assert found[0, 0] == found[side - 1, 0] == 0
    assert found[0, side - 1] == 255
    assert (maps[0] == [[0, 1], [0, 0]]).all()


def test_a_module_that_runs_twice_has_two_calls() -> None:
    shared = nn.ReLU()
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), shared, nn.Conv2d(2, 2, 3, padding=1), shared)
    head = nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    _, seen = layers.run(head, noise(1))
    assert [each.call for each in seen if each.call.name.endswith("1")] == [Call("0.1", 0), Call("0.1", 1)]
