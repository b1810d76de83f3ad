"""Names and shapes of the tensors in published files of weights, after the module definitions of their projects.

Made without those projects' packages; tests/model/test_published_definitions.py compares them where they are installed.
"""

import re
from collections.abc import Callable

import timm
import torch
import torchvision
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

KINDS = ("weight", "bias")


def layer(name: str, out: int, into: int | None = None) -> Shapes:
    """Weight and bias of a linear layer, or of a norm where `into` is None."""
    return {f"{name}.weight": (out,) if into is None else (out, into), f"{name}.bias": (out,)}


def dinov2(dim: int = 768, depth: int = 12, pixels: int = 518, patch: int = 14) -> Shapes:
    """transformers 4's Dinov2Model, whose names its published files have."""
    shapes = {
        "embeddings.cls_token": (1, 1, dim),
        "embeddings.mask_token": (1, dim),
        "embeddings.position_embeddings": (1, (pixels // patch) ** 2 + 1, dim),
        "embeddings.patch_embeddings.projection.weight": (dim, 3, patch, patch),
        "embeddings.patch_embeddings.projection.bias": (dim,),
        **layer("layernorm", dim),
    }
    for number in range(depth):
        block = f"encoder.layer.{number}"
        shapes |= layer(f"{block}.norm1", dim) | layer(f"{block}.norm2", dim)
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            shapes |= layer(f"{block}.attention.{part}", dim, dim)
        shapes |= {f"{block}.layer_scale{scale}.lambda1": (dim,) for scale in (1, 2)}
        shapes |= layer(f"{block}.mlp.fc1", 4 * dim, dim) | layer(f"{block}.mlp.fc2", dim, 4 * dim)
    return shapes


def siglip(dim: int = 1152, depth: int = 27, hidden: int = 4304, pixels: int = 448, patch: int = 14) -> Shapes:
    """transformers' SiglipModel, with a little of its text tower."""
    top = "vision_model"
    shapes = {
        f"{top}.embeddings.patch_embedding.weight": (dim, 3, patch, patch),
        f"{top}.embeddings.patch_embedding.bias": (dim,),
        f"{top}.embeddings.position_embedding.weight": ((pixels // patch) ** 2, dim),
        **layer(f"{top}.post_layernorm", dim),
        f"{top}.head.probe": (1, 1, dim),
        f"{top}.head.attention.in_proj_weight": (3 * dim, dim),
        f"{top}.head.attention.in_proj_bias": (3 * dim,),
        **layer(f"{top}.head.attention.out_proj", dim, dim),
        **layer(f"{top}.head.layernorm", dim),
        **layer(f"{top}.head.mlp.fc1", hidden, dim),
        **layer(f"{top}.head.mlp.fc2", dim, hidden),
        "logit_scale": (1,),
        "logit_bias": (1,),
        "text_model.embeddings.token_embedding.weight": (32, dim),
    }
    for number in range(depth):
        block = f"{top}.encoder.layers.{number}"
        shapes |= layer(f"{block}.layer_norm1", dim) | layer(f"{block}.layer_norm2", dim)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= layer(f"{block}.self_attn.{part}", dim, dim)
        shapes |= layer(f"{block}.mlp.fc1", hidden, dim) | layer(f"{block}.mlp.fc2", dim, hidden)
    return shapes


def eva(arch: str) -> Shapes:
    """EVA-X's masked image models, by the names that its checkpoint_filter_fn turns into timm's."""
    names = {
        "tiny": {"mlp.fc1": "mlp.w12", "mlp.fc2": "mlp.w3"},
        "base": {
            "mlp.fc1_g": "mlp.w1", "mlp.fc1_x": "mlp.w2", "mlp.fc2": "mlp.w3", "mlp.norm": "mlp.ffn_ln",
            "q_proj.bias": "q_bias", "v_proj.bias": "v_bias",
        },
    }  # fmt: skip
    size = arch.split("_")[1]
    with torch.device("meta"):
        network = timm.create_model(f"eva02_{size}_patch14_224", num_classes=0, patch_size=16, ref_feat_shape=(14, 14))
    shapes = _shapes(network.state_dict(), names["base" if size == "base" else "tiny"])
    dim = shapes["cls_token"][-1]
    shapes = {re.sub(r"^fc_norm", "norm", name): shape for name, shape in shapes.items()}
    extra = {"mask_token": (1, 1, dim), **layer("lm_head", 512, dim), "rope.freqs_cos": (196, 64)}
    return {f"module.{name}": shape for name, shape in {**shapes, **extra}.items()}


def biomedclip(arch: str = "vit_base_patch16_224") -> Shapes:
    """open_clip's CustomTextCLIP: timm's network as visual.trunk, and a little of the text tower."""
    with torch.device("meta"):
        trunk = _shapes(timm.create_model(arch, num_classes=0).state_dict())
    dim = trunk["norm.weight"][0]
    text = {"text.transformer.embeddings.word_embeddings.weight": (32, dim), "logit_scale": ()}
    return (
        {f"visual.trunk.{name}": shape for name, shape in trunk.items()} | {"visual.head.proj.weight": (8, dim)} | text
    )


def ark(arch: str = "swin_large_patch4_window12_384", **options: object) -> Shapes:
    """Ark+'s OmniSwinTransformer on timm 0.5's, which merges patches at the end of a stage, under its teacher."""
    with torch.device("meta"):
        network = timm.create_model(arch, num_classes=0, **options)
    state = _shapes(network.state_dict())
    dim = state["norm.weight"][0]
    old = {
        re.sub(r"layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", name): shape
        for name, shape in state.items()
    }
    old |= {"layers.0.blocks.1.attn_mask": (4, 9, 9), "layers.0.blocks.0.attn.relative_position_index": (9, 9)}
    old |= layer("projector", 1376, dim) | layer("omni_heads.0", 14, 1376)
    return {f"teacher.module.{name}": shape for name, shape in old.items()}


def chexfound(dim: int = 1024, depth: int = 24, pixels: int = 512, hidden: int = 2736) -> Shapes:
    """DINOv2's vision transformer with registers and SwiGLU, its blocks in four chunks, as the teacher of a run."""
    shapes = {
        "cls_token": (1, 1, dim),
        "mask_token": (1, dim),
        "register_tokens": (1, 4, dim),
        "pos_embed": (1, (pixels // 16) ** 2 + 1, dim),
        "patch_embed.proj.weight": (dim, 3, 16, 16),
        "patch_embed.proj.bias": (dim,),
        **layer("norm", dim),
    }
    for number in range(depth):
        block = f"blocks.{number * 4 // depth}.{number}"
        shapes |= layer(f"{block}.norm1", dim) | layer(f"{block}.norm2", dim)
        shapes |= layer(f"{block}.attn.qkv", 3 * dim, dim) | layer(f"{block}.attn.proj", dim, dim)
        shapes |= {f"{block}.ls{scale}.gamma": (dim,) for scale in (1, 2)}
        shapes |= layer(f"{block}.mlp.w12", 2 * hidden, dim) | layer(f"{block}.mlp.w3", dim, hidden)
    head = {"teacher.dino_head.last_layer.weight_v": (8, 4)}
    return {f"teacher.backbone.{name}": shape for name, shape in shapes.items()} | head


def torchxrayvision(arch: str) -> Shapes:
    """torchxrayvision's DenseNet and ResNet: torchvision's names, one channel, 18 findings."""
    with torch.device("meta"):
        network = getattr(torchvision.models, arch)(num_classes=18)
    shapes = _shapes(network.state_dict())
    first = "conv1.weight" if arch.startswith("resnet") else "features.conv0.weight"
    extra = {"op_threshs": (18,)} if arch.startswith("densenet") else {}
    return shapes | {first: (64, 1, 7, 7)} | extra


def published(name: str) -> Shapes:
    """What the file of that entry of the registry holds."""
    makers: dict[str, Callable[[], Shapes]] = {
        "txrv-resnet50-512": lambda: torchxrayvision("resnet50"),
        "rad-dino": dinov2,
        "dinov2-base-xray-224": lambda: dinov2(pixels=224),
        "eva-x-tiny": lambda: eva("eva_tiny"),
        "eva-x-small": lambda: eva("eva_small"),
        "eva-x-base": lambda: eva("eva_base"),
        "biomedclip": biomedclip,
        "ark-plus": lambda: ark(img_size=768),
        "chexfound": chexfound,
        "medsiglip": siglip,
    }
    return makers[name]() if name in makers else torchxrayvision("densenet121")


def zeros(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors of those shapes that take no memory."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def _shapes(state: dict[str, Tensor], names: dict[str, str] | None = None) -> Shapes:
    def renamed(name: str) -> str:
        for ours, theirs in (names or {}).items():
            name = (
                name.replace(f"{ours}.", f"{theirs}.")
                if ours in KINDS or "." not in ours
                else name.replace(ours, theirs)
            )
        return name

    return {renamed(name): tuple(tensor.shape) for name, tensor in state.items()}
