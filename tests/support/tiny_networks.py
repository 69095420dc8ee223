"""Hugging Face classifiers small enough for tests, saved in the format of the Hub."""

from pathlib import Path

import torch

WIDTHS = {"resnet": 16, "vit": 12, "efficientnet": 320}
"""Kind -> width of its penultimate features."""


def _resnet():
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic", downsample_in_first_stage=False
        )
    )


def _vit():
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            hidden_size=12,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            image_size=32,
            patch_size=8,
        )
    )


def _efficientnet():
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    return EfficientNetForImageClassification(
        EfficientNetConfig(
            image_size=32,
            width_coefficient=0.25,
            depth_coefficient=0.25,
            kernel_sizes=[3, 5],
            in_channels=[8, 8],
            out_channels=[8, 16],
            strides=[1, 2],
            num_block_repeats=[1, 1],
            expand_ratios=[1, 6],
            depthwise_padding=[],
            hidden_dim=320,
            num_hidden_layers=8,
        )
    )


_MAKE = {"resnet": _resnet, "vit": _vit, "efficientnet": _efficientnet}


def save(kind: str, folder: Path) -> Path:
    """Writes a network with seeded weights, and batch statistics as of a trained one."""
    torch.manual_seed(0)
    network = _MAKE[kind]()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1, 0.2)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    network.save_pretrained(folder)
    return folder


def features(folder: Path, images: torch.Tensor) -> torch.Tensor:
    """What goes into the classifier of the saved network, by a hook on it."""
    from transformers import AutoModelForImageClassification

    network = AutoModelForImageClassification.from_pretrained(folder).eval()
    seen = []
    last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(images)
    return seen[0]
