"""Small networks for grey pictures of 28 x 28 pixels and ten classes.

Each has ``blocks`` in order of depth and a linear ``classifier`` whose input is the last block's output, averaged
over the picture (vision transformer: its class token after the final norm). "isotropic" networks have one width,
so lenses need no alignment; "staged" ones widen like a ResNet. ``alpha`` multiplies the skip connection of every
block: 1 is a residual network, 0 the same network without skip connections.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from transferstats.lens.inception import InceptionV1

CLASSES, PIXELS = 10, 28


class Block(nn.Module):
    """relu(alpha skip(x) + bn(conv(relu(bn(conv(x)))))) (He et al. 2016, doi 10.1109/CVPR.2016.90)."""

    def __init__(self, inputs: int, width: int, *, stride: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.inner = nn.Sequential(
            nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.stride, self.widening = stride, width - inputs

    def skip(self, x: Tensor) -> Tensor:
        """The input; where the block is wider, with new channels of zeros: no parameters, whatever alpha."""
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.widening))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, width, H / stride, W / stride)."""
        return torch.relu(self.inner(x) + self.alpha * self.skip(x))


class Convolutional(nn.Module):
    """Stem to 14 x 14 or 7 x 7, blocks, global average, linear classifier."""

    def __init__(self, widths: list[int], strides: list[int], *, shrink: bool, alpha: float) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(1, first, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.MaxPool2d(2) if shrink else nn.Identity(),
        )
        self.blocks = nn.ModuleList(
            Block(inputs, width, stride=stride, alpha=alpha)
            for inputs, width, stride in zip([first, *widths], widths, strides, strict=False)
        )
        self.classifier = nn.Linear(widths[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> (N, 10) logits."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return torch.as_tensor(self.classifier(x.mean((2, 3))))


class VisionTransformer(nn.Module):
    """Patches of 4 x 4, class token, pre-norm blocks (Dosovitskiy et al. 2021, doi 10.48550/arXiv.2010.11929)."""

    def __init__(self, width: int = 48, depth: int = 6, heads: int = 4, patch: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, (PIXELS // patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 3 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> (N, 10) logits."""
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.position
        for block in self.blocks:
            x = block(x)
        return torch.as_tensor(self.classifier(self.norm(x[:, 0])))


def isotropic(alpha: float) -> Convolutional:
    """Eight blocks of one width on 7 x 7 positions."""
    return Convolutional([24] * 8, [1] * 8, shrink=True, alpha=alpha)


def staged(alpha: float) -> Convolutional:
    """Three stages of three blocks, widths 8, 16, 32, on 14, 7 and 4 positions a side."""
    return Convolutional([8] * 3 + [16] * 3 + [32] * 3, [1, 1, 1, 2, 1, 1, 2, 1, 1], shrink=False, alpha=alpha)


Network = Convolutional | VisionTransformer | InceptionV1

NETWORKS: dict[str, Callable[[], Network]] = {
    "isotropic-residual": lambda: isotropic(1.0),
    "isotropic-plain": lambda: isotropic(0.0),
    "inception": lambda: InceptionV1(CLASSES, channels=1, divisor=8, stem="small"),
    "resnet": lambda: staged(1.0),
    "plain": lambda: staged(0.0),
    "vit": VisionTransformer,
    "isotropic-half": lambda: isotropic(0.5),
}
"""Name -> constructor, in the order in which they are trained."""

INSTANCES: dict[str, int] = {"inception": 1, "vit": 1}
"""Independently trained instances; three of every network whose architecture is compared."""


def instances(name: str) -> int:
    """How many instances of a network there are."""
    return INSTANCES.get(name, 3)


def build(name: str) -> Network:
    """A network with random weights."""
    return NETWORKS[name]()
