"""Tiny image classifiers with random weights, and images whose class shows; nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForImageClassification

SIZE, CLASSES = 16, 4

_STAGES = {"hidden_sizes": [12, 20], "depths": [2, 2]}
_TOKENS = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIZE,
    "patch_size": 4,
}

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "ResNet": {**_STAGES, "embedding_size": 8, "layer_type": "basic"},
    "ViT": _TOKENS,
    "ConvNext": {**_STAGES, "num_stages": 2, "patch_size": 2},
    "RegNet": {**_STAGES, "embedding_size": 8, "groups_width": 4},
    "Swin": {
        "embed_dim": 8,
        "depths": [2, 2],
        "num_heads": [2, 2],
        "image_size": SIZE,
        "patch_size": 2,
        "window_size": 2,
    },
    "Beit": _TOKENS,
    "MobileNetV2": {"depth_multiplier": 0.25},
}
"""Family -> its configuration."""


def make_network(family: str, **changes: Any) -> Any:
    """A classifier of a family; its weights and statistics are such that every part of it matters."""
    torch.manual_seed(0)
    options = {"num_labels": CLASSES, **FAMILIES[family], **changes}
    config = getattr(transformers, f"{family}Config")(**options)
    model = AutoModelForImageClassification.from_config(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def save_network(folder: Path, family: str = "ResNet", **changes: Any) -> Path:
    """A classifier and its preprocessing as a directory in Hugging Face format."""
    make_network(family, **changes).save_pretrained(folder)
    settings = {
        "do_resize": True,
        "size": {"height": SIZE, "width": SIZE},
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.5, 0.5, 0.25],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


class Plain(nn.Module):
    """A network of one's own: blocks in order of depth, then the classifier."""

    def __init__(self, widths: tuple[int, ...] = (8, 8, 12), classes: int = CLASSES) -> None:
        super().__init__()
        pairs = zip((1, *widths[:-1]), widths, strict=True)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairs)
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for block in self.blocks:
            x = block(x)
        return self.classifier(x.mean((2, 3)))


def plain(widths: list[int] | None = None) -> nn.Module:
    """The factory that tests name."""
    return Plain(tuple(widths or (8, 8, 12)))


def save_plain(folder: Path, *, widths: tuple[int, ...] = (8, 8, 12), size: int = 8) -> Path:
    """A network of one's own with its weights, options and preprocessing."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = Plain(widths)
    for parameter in network.parameters():
        parameter.data.mul_(2)
    save_file(network.state_dict(), folder / "model.safetensors")
    config = {"options": {"widths": list(widths)}, "preprocessing": {"size": size, "mean": 0.5, "std": 0.25}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def make_pixels(count: int, *, size: int = 8, channels: int = 1, seed: int = 0) -> tuple[Any, Any]:
    """uint8 images (N, C, H, W) in which the bright quarter is the class, and labels (N,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=count)
    images = rng.integers(0, 120, size=(count, channels, size, size))
    half = size // 2
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[:, row * half : (row + 1) * half, column * half : (column + 1) * half] += 120
    return images.astype(np.uint8), labels


def save_pixels(path: Path, count: int, **options: Any) -> Path:
    """Such images as an .npz file."""
    images, labels = make_pixels(count, **options)
    np.savez(path, images=images, labels=labels)
    return path
