"""Networks, weights, costs, losses, optimizers and schedules, each against something known."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.models as tv
from model_configs import model_config
from optimization import fastai_rates, one_step, our_rates
from safetensors.torch import save_file
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from xraylab import files
from xraylab.errors import WeightsError
from xraylab.model import create, heads, losses, networks, pretrained, schedules, weights
from xraylab.model.heads import Head


def test_the_studys_network_has_the_published_size() -> None:
    network = networks.build("resnet50", classes=2, channels=3, dropout=0.0)
    assert networks.count_parameters(network) == 23_512_130
    assert networks.count_multiply_adds(network, channels=3, pixels=224) == 4_087_140_352


@pytest.mark.parametrize("arch", networks.NETWORKS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_network_takes_images_and_gives_a_logit_per_class(arch: str, channels: int) -> None:
    network = networks.build(arch, classes=4, channels=channels, dropout=0.5).eval()
    assert network(torch.zeros(2, channels, 32, 32)).shape == (2, 4)
    grouped = [id(p) for group in networks.parameter_groups(network) for p in group]
    assert len(networks.groups(network)) == networks.PARTS
    assert sorted(grouped) == sorted(id(p) for p in network.parameters())


LIGHT = """
import sys
from xraylab.stages import explain, predict
print("torch" in sys.modules)
from xraylab.model import hardware, networks
hardware.deterministic_algorithms()
networks.build("resnet18", classes=2, channels=1, dropout=0.0)
print(sorted({"fastai", "timm", "matplotlib", "sympy", "torch._dynamo", "torch._dynamo.utils"} & set(sys.modules)))
import torch
print(torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
"""


def test_prediction_imports_no_compiler() -> None:
    """Imports are most of what predicting a small study costs. In a process of its own: here, tests import more."""
    told = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["False", "[]", "True True"]


TRAINING = """
import sys
import torch
from xraylab.model import networks, optimizers
from xraylab.stages import train
network = networks.build("resnet18", classes=2, channels=1, dropout=0.0)
optimizer = optimizers.factory("adam", 0.0, None)(list(network.parameters()), lr=1e-3)
network(torch.zeros(2, 1, 32, 32)).square().sum().backward()
optimizer.step()
print(sorted({"timm", "sympy", "torch._inductor", "trio"} & set(sys.modules)))
hidden = torch.compiler.disable(lambda x: x + (1 if torch.compiler.is_compiling() else 2))
compiled = torch.compile(lambda x: hidden(x) + (10 if torch.compiler.is_compiling() else 20), backend="eager")
print(compiled(torch.zeros(1)).item(), torch._dynamo.__file__ == sys.modules["torch._dynamo"].__file__)
"""


def test_training_imports_the_compiler_only_to_compile() -> None:
    told = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["[]", "12.0 True"]


def test_dropout_stands_before_the_last_layer_and_acts_only_in_training() -> None:
    network = networks.build("resnet18", classes=2, channels=1, dropout=0.5)
    features = torch.ones(1000, 512)
    dropped = network.fc[0].train()(features)
    assert abs((dropped == 0).float().mean() - 0.5) < 0.01
    assert torch.equal(network.fc[0].eval()(features), features)
    assert isinstance(network.fc[1], nn.Linear)


def imagenet_like(seed: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return tv.resnet18().state_dict()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pretrained_file_gives_its_body_and_a_new_head(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    (torch.save if suffix == ".pth" else save_file)(imagenet_like(), path)
    network = networks.build("resnet18", classes=2, channels=3, dropout=0.0)
    head = network.fc[1].weight.clone()
    pretrained.load_pretrained(network, weights.read(path), path.name, ["a", "b"], None)
    assert torch.equal(network.layer4[1].conv2.weight, imagenet_like()["layer4.1.conv2.weight"])
    assert torch.equal(network.fc[1].weight, head)


def test_a_first_layer_for_one_channel_answers_gray_as_the_original_does() -> None:
    theirs = tv.resnet18()
    theirs.load_state_dict(imagenet_like())
    ours = networks.build("resnet18", classes=2, channels=1, dropout=0.0)
    pretrained.load_pretrained(ours, imagenet_like(), "w.pth", ["a", "b"], None)
    gray = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(
        ours.eval().layer1(ours.conv1(gray)), theirs.eval().layer1(theirs.conv1(gray.repeat(1, 3, 1, 1)))
    )


EARLIER = ["Normal", "TB", "Pneumonia"]
KINDS = {"linear": heads.LINEAR, "concat": Head("concat", 6, None), "dense": Head("dense", 6, batch_norm=True)}


def starting(classes: list[str], head: Head, path: Path, said: list[str]) -> nn.Module:
    """ResNet-18 for gray images, as a training from that file starts."""
    own = {"head": head.kind, "head_hidden": head.width, "head_batch_norm": head.batch_norm}
    cfg = model_config(arch="resnet18", pretrained=str(path), dropout=0.0, **own)
    return create.create_starting_model(cfg, classes, path, files.sha256(path), said.append).model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beside", [False, True])
def test_an_earlier_run_gives_its_head_class_by_class(kind: str, beside: bool, tmp_path: Path) -> None:
    """The classes stand in the file, or, in an older one, in model.json beside it."""
    order = ["TB", "Pneumonia", "Normal"]
    earlier = networks.build("resnet18", 3, 1, 0.5, KINDS[kind]).eval()
    weights.save(earlier, tmp_path / "best.safetensors", None if beside else EARLIER)
    files.write_json({"classes": EARLIER if beside else ["another", "file's"]}, tmp_path / "model.json")
    said: list[str] = []
    network = starting(order, KINDS[kind], tmp_path / "best.safetensors", said)
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(network.eval()(images), earlier(images)[:, [EARLIER.index(name) for name in order]])
    assert said == [f"the head of {tmp_path}/best.safetensors is taken over, class by class"]


ANEW: dict[str, tuple[list[str] | None, Head, str]] = {
    "fewer": (["Normal", "TB"], heads.LINEAR, "knows Normal, TB, and data.classes are Normal, TB, Pneumonia"),
    "other": (["a", "b", "c"], heads.LINEAR, "knows a, b, c, and data.classes are Normal, TB, Pneumonia"),
    "nameless": (None, heads.LINEAR, "does not name its classes"),
    "another head": (EARLIER, Head("dense", 6, batch_norm=True), "has a head of another kind"),
}


@pytest.mark.parametrize("case", ANEW)
def test_any_other_head_starts_anew_which_is_said(case: str, tmp_path: Path) -> None:
    names, head, reason = ANEW[case]
    earlier = networks.build("resnet18", len(names or EARLIER), 1, 0.5, head)
    path = tmp_path / "w.safetensors"
    weights.save(earlier, path, names)
    said: list[str] = []
    torch.manual_seed(1)
    network = starting(EARLIER, heads.LINEAR, path, said)
    torch.manual_seed(1)
    fresh = networks.build("resnet18", 3, 1, 0.0)
    assert torch.equal(network.fc[1].weight, fresh.fc[1].weight)
    assert torch.equal(network.layer4[1].conv2.weight, earlier.layer4[1].conv2.weight)
    assert said == [f"the head starts anew: {path} {reason}"]


def test_weights_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    network = networks.build("resnet34", classes=2, channels=1, dropout=0.0)
    with pytest.raises(WeightsError, match=r"w.pth does not fit model.arch:\n  - layer1.2.conv1.weight: missing"):
        pretrained.load_pretrained(network, imagenet_like(), "w.pth", ["a", "b"], None)
    (tmp_path / "junk.pth").write_bytes(b"<html>404</html>")
    with pytest.raises(WeightsError, match=r"junk.pth is not a whole .safetensors or .pth file of weights: "):
        weights.read(tmp_path / "junk.pth")
    (tmp_path / "junk.safetensors").write_bytes(b"<html>404</html>")
    with pytest.raises(WeightsError, match=r"junk.safetensors is not a whole .safetensors or .pth file of weights: "):
        weights.read(tmp_path / "junk.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"list.pth holds no state dict"):
        weights.read(tmp_path / "list.pth")


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)


def test_a_weight_file_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Malicious()}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match=r"bad.pth is not a whole"):
        weights.read(tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()


def test_absent_default_weights_name_the_file_and_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there: as without a network
    with pytest.raises(WeightsError) as caught:
        pretrained.default_file("resnet18")
    place = tmp_path / "hub/checkpoints/resnet18-f37072fd.pth"
    assert str(caught.value).startswith(
        "model.pretrained: default needs https://download.pytorch.org/models/resnet18-f37072fd.pth, "
    )
    assert str(caught.value).endswith(f"Fetch it elsewhere and put it at {place}, or set model.pretrained to none")


def test_default_weights_that_are_there_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub/checkpoints/resnet18-f37072fd.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"half a download")
    with pytest.raises(WeightsError, match=r"is damaged \(its SHA-256 begins with [0-9a-f]{8}\): delete it"):
        pretrained.default_file("resnet18")


def test_balanced_class_weights_are_scikit_learns() -> None:
    labels = np.array([0] * 7 + [1] * 2 + [2])
    ours = losses.class_weights("balanced", labels, 3)
    assert ours is not None
    np.testing.assert_allclose(ours, compute_class_weight("balanced", classes=np.arange(3), y=labels), rtol=1e-6)
    assert losses.class_weights("none", labels, 3) is None
    given = losses.class_weights([1.0, 2.0, 3.0], labels, 3)
    assert given is not None
    assert given.tolist() == [1, 2, 3]


def test_the_l2_penalty_is_half_lambda_times_all_squares() -> None:
    network = networks.build("resnet18", classes=2, channels=1, dropout=0.0)
    expected = 0.5 * 0.001 * sum(float((p.detach().double() ** 2).sum()) for p in network.parameters())
    penalty = losses.l2_penalty(network.parameters(), 0.001)
    assert penalty.item() == pytest.approx(expected, rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(network.bn1.weight.grad, 0.001 * network.bn1.weight.detach())


def test_adam_couples_weight_decay_and_adamw_does_not() -> None:
    """After one step Adam moves by lr * sign(gradient): decay either enters the gradient or shrinks the weight."""
    assert one_step("adam") == pytest.approx(1 - 0.01, abs=1e-6)
    assert one_step("adamw") == pytest.approx(1 - 0.01 * 0.1 - 0.01, abs=1e-6)
    assert one_step("sgd", momentum=0.9) == pytest.approx(1 - 0.01 * (0.2 + 0.1), abs=1e-6)


def test_one_cycle_is_fastais() -> None:
    theirs = fastai_rates("fit_one_cycle", n_epoch=5, lr_max=0.01)
    ours = our_rates(schedules.one_cycle(5, 0.01, 3, cycle_momentum=True), batches=4)
    np.testing.assert_allclose(ours["lr"], theirs["lr"], rtol=1e-5)
    np.testing.assert_allclose(ours["mom"], theirs["mom"], rtol=1e-5)


def test_fine_tune_is_fastais() -> None:
    theirs = fastai_rates("fine_tune", epochs=3, base_lr=0.01, freeze_epochs=2)
    phases = schedules.fine_tune(3, 0.01, 3, cycle_momentum=True, freeze_epochs=2, lr_mult=100)
    ours = our_rates(phases, batches=4)
    assert [(phase.name, phase.epochs, phase.frozen) for phase in phases] == [
        ("frozen", 2, True),
        ("unfrozen", 3, False),
    ]
    head = [rates[-1] for rates in ours["lr"]]
    np.testing.assert_allclose(head, [rates[-1] for rates in theirs["lr"]], rtol=1e-5)
    np.testing.assert_allclose(ours["lr"][8:], theirs["lr"][8:], rtol=1e-5)


def test_a_momentum_that_is_a_parameter_is_not_cycled() -> None:
    assert set(schedules.one_cycle(5, 0.01, 3, cycle_momentum=False)[0].curves) == {"lr"}
    assert schedules.constant(5, 0.01, 3, cycle_momentum=True)[0].curves["lr"](0.7) == 0.01


def test_an_older_file_without_batch_counters_is_accepted() -> None:
    older = {name: tensor for name, tensor in imagenet_like().items() if not name.endswith("num_batches_tracked")}
    network = networks.build("resnet18", classes=2, channels=3, dropout=0.0)
    pretrained.load_pretrained(network, older, "old.pth", ["a", "b"], None)
    assert torch.equal(network.bn1.running_mean, older["bn1.running_mean"])
