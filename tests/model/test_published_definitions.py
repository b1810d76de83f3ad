"""Named weights against the module definitions of their own projects, where those are installed (docs/weights.md)."""

import re
from pathlib import Path

import pytest
import timm
import torch
from published_weights import chexfound, dinov2, published, siglip
from safetensors.torch import load_file
from timm.layers.mlp import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from xraylab.model import mapping, named, networks, unpickling, weights
from xraylab.registry import weights as registry

SMALL = {"embed_dim": 48, "depth": 4, "num_heads": 3, "num_classes": 0}


def drawn(model: nn.Module) -> nn.Module:
    """Every parameter drawn, so that none can take another's place."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    return model.eval()


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def filled(ours: nn.Module, state: dict[str, Tensor], name: str) -> nn.Module:
    """Our network with a file's tensors, to the last one of both."""
    mapped = mapping.map_keys(state, registry.find(name).keys)
    if "mask_token" in mapped:
        mapped = timm.models.vision_transformer.checkpoint_filter_fn(mapped, ours)
    ours.load_state_dict(mapped, strict=True)
    return ours.eval()


def images(pixels: int, channels: int = 3) -> Tensor:
    return torch.rand(2, channels, pixels, pixels, generator=torch.Generator().manual_seed(1))


def test_a_dinov2_of_transformers_gives_its_class_token(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    cfg = transformers.Dinov2Config(
        hidden_size=48, num_hidden_layers=4, num_attention_heads=3, image_size=56, patch_size=14
    )
    theirs = drawn(transformers.Dinov2Model(cfg))
    theirs.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    assert shapes(state) == dinov2(48, 4, 56)
    ours = filled(VisionTransformer(img_size=56, patch_size=14, init_values=1e-5, **SMALL), state, "rad-dino")
    with torch.no_grad():
        torch.testing.assert_close(ours(images(56)), theirs(images(56)).last_hidden_state[:, 0], rtol=1e-4, atol=1e-5)


def test_a_dinov2_with_registers_and_swiglu_gives_its_class_token(tmp_path: Path) -> None:
    """CheXFound's names, on the definition of the same network in transformers."""
    transformers = pytest.importorskip("transformers")
    cfg = transformers.Dinov2WithRegistersConfig(
        hidden_size=48, num_hidden_layers=4, num_attention_heads=3, image_size=64, patch_size=16,
        use_swiglu_ffn=True, num_register_tokens=4,
    )  # fmt: skip
    theirs = drawn(transformers.Dinov2WithRegistersModel(cfg))
    theirs.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    hidden = saved["encoder.layer.0.mlp.weights_out.weight"].shape[1]
    names = registry.find("rad-dino").keys
    state = {"teacher.backbone.mask_token": saved["embeddings.mask_token"]}
    for name, tensor in mapping.map_keys(saved, names).items():
        own = re.sub(r"^blocks\.(\d+)", r"blocks.\1.\1", name.removeprefix("embeddings."))
        own = own.replace("mlp.weights_in", "mlp.w12").replace("mlp.weights_out", "mlp.w3")
        state[f"teacher.backbone.{own}"] = tensor
    expected = {name: shape for name, shape in chexfound(48, 4, 64, hidden).items() if "backbone" in name}
    assert shapes(state) == expected
    swiglu = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, "mlp_ratio": 2 * hidden / 48}
    network = VisionTransformer(
        img_size=64, patch_size=16, init_values=1e-5, reg_tokens=4, no_embed_class=True, **SMALL, **swiglu
    )
    ours = filled(network, state, "chexfound")
    with torch.no_grad():
        torch.testing.assert_close(ours(images(64)), theirs(images(64)).last_hidden_state[:, 0], rtol=1e-4, atol=1e-5)


def test_a_siglip_tower_of_transformers_gives_its_pooled_output(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tower = {
        "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3,
        "image_size": 56, "patch_size": 14,
    }  # fmt: skip
    text = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 1,
        "num_attention_heads": 3,
        "vocab_size": 8,
    }
    theirs = drawn(transformers.SiglipModel(transformers.SiglipConfig(vision_config=tower, text_config=text)))
    theirs.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    own = {name: shape for name, shape in shapes(state).items() if name.startswith("vision_model.")}
    assert own == {name: shape for name, shape in siglip(48, 4, 96, 56).items() if name.startswith("vision_model.")}
    pool = {"class_token": False, "global_pool": "map", "mlp_ratio": 2, "act_layer": "gelu_tanh"}
    ours = filled(VisionTransformer(img_size=56, patch_size=14, **SMALL, **pool), state, "medsiglip")
    with torch.no_grad():
        expected = theirs.vision_model(images(56)).pooler_output
        torch.testing.assert_close(ours(images(56)), expected, rtol=1e-4, atol=1e-5)


def test_the_trunk_of_open_clips_tower_is_the_backbone() -> None:
    timm_model = pytest.importorskip("open_clip.timm_model")
    theirs = drawn(timm_model.TimmModel("vit_tiny_patch16_224", 8, pool="", proj="linear"))
    state = {f"visual.{name}": tensor for name, tensor in theirs.state_dict().items()}
    ours = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    filled(ours, state, "biomedclip")
    with torch.no_grad():
        assert torch.equal(ours(images(224)), theirs.trunk(images(224)))
        assert theirs.head[-1](ours(images(224))).equal(theirs(images(224)))


def test_torchxrayvisions_densenet_gives_its_features_and_its_pickle_is_converted(tmp_path: Path) -> None:
    models = pytest.importorskip("torchxrayvision.models")
    entry = registry.find("txrv-densenet121-all")
    pickled = tmp_path / entry.file
    for legacy in (False, True):  # the published files are of 2020, in torch's older format
        saved = drawn(models.DenseNet())
        saved.op_threshs, saved.pathologies = None, ["Atelectasis"]
        torch.save(saved, pickled, _use_new_zipfile_serialization=not legacy)
        converted = unpickling.convert(pickled)
        assert converted.name == entry.converted_name
        assert {**shapes(weights.read(converted)), "op_threshs": (18,)} == published(entry.name)
        ours = networks.build("densenet121", 2, 1, 0.0, pixels=224).eval()
        lines: list[str] = []
        named.load(ours, entry, converted, ["a", "b"], lines.append)
        assert len(lines) == 1  # of the head; no tensor is left over
        gray = 2048 * images(224, 1) - 1024
        with torch.no_grad():
            assert torch.equal(ours.pool(ours.body(gray)), saved.features2(gray))
        converted.unlink()


def test_torchxrayvisions_resnet_gives_its_features(tmp_path: Path) -> None:
    models = pytest.importorskip("torchxrayvision.models")
    entry = registry.find("txrv-resnet50-512")
    state = drawn(timm.create_model("resnet50", in_chans=1, num_classes=18)).state_dict()
    torch.save(state, tmp_path / entry.file)
    theirs = models.ResNet("resnet50-res512-all", cache_dir=str(tmp_path))
    ours = networks.build("resnet50", 2, 1, 0.0, pixels=512).eval()
    lines: list[str] = []
    named.load(ours, entry, tmp_path / entry.file, ["a", "b"], lines.append)
    assert len(lines) == 1
    ours.fc, gray = nn.Identity(), 2048 * images(512, 1) - 1024
    with torch.no_grad():
        assert torch.equal(ours(gray), theirs.features(gray))


def test_torchxrayvision_publishes_these_files() -> None:
    models = pytest.importorskip("torchxrayvision.models")
    own = {entry.url for entry in registry.read().values() if entry.name.startswith("txrv-")}
    assert own == {facts["weights_url"] for facts in models.model_urls.values()}
