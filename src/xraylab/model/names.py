"""Names of architectures, without torch, so that a stage can look them up without waiting for it."""

from xraylab import plugins

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
TORCHVISION = (*RESNETS, "densenet121", "inception_v3")
TIMM = {
    "vit_b_16": "vit_base_patch16_224",  # torchvision's own breaks where fastai cuts off its head
    "resnetv2_50": "resnetv2_50",
    "coatnet_0": "coatnet_0_224",
    "coatnet_1": "coatnet_1_224",
    "coatnet_2": "coatnet_2_224",
    "coatnet_3": "coatnet_3_224",
    "coatnet_4": "coatnet_4_224",
    "convnext_tiny": "convnext_tiny",
}
VARIANTS = {
    "eva02_tiny_patch16": "eva02_tiny_patch14_224",
    "eva02_small_patch16": "eva02_small_patch14_224",
    "eva02_base_patch16": "eva02_base_patch14_224",
    "vit_large_patch16_reg4_swiglu": "vit_large_patch14_reg4_dinov2",
    "vit_so400m_patch14_siglip_gelu_tanh": "vit_so400m_patch14_siglip_378",
}
"""Networks of named weights that timm builds with other options than under a name of its own (backbones.OPTIONS)."""
TABLE = (*TORCHVISION, *TIMM)
STAGES = ("layer1", "layer2", "layer3", "layer4")
HEAD = "head"


def surely_fits(arch: str, until: str | None, n_blocks: int | None) -> bool:
    """Return whether a network can surely be built and frozen so, without building it."""
    return arch in RESNETS and n_blocks is None and (until is None or until in {*STAGES, HEAD})


def built_by(arch: str) -> str:
    """The package that builds a network, and whose weights are its default ones; with timm's own name for it."""
    if plugin := plugins.of_kind("architecture").get(arch):
        return plugin.distribution
    return "torchvision" if arch in TORCHVISION else f"timm’s {TIMM.get(arch) or VARIANTS.get(arch, arch)}"
