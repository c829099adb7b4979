"""Inception v1 (GoogLeNet, Szegedy et al. 2015, doi 10.1109/CVPR.2015.7298594), with batch normalisation.

Names and shapes of its parameters are those of the checkpoint that most libraries load for ImageNet ("googlenet"),
whose branches with 5 x 5 filters hold 3 x 3 ones, so that those weights load. Auxiliary heads only help training
and are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from transferstats.errors import SubjectError

WIDTHS: dict[str, tuple[int, int, int, int, int, int]] = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
"""Channels of a module: 1 x 1; 3 x 3 reduced, 3 x 3; 5 x 5 reduced, 5 x 5; after the pool (paper, table 1)."""

EPSILON = 1e-3  # of the batch normalisation, as the checkpoint was trained
IMAGENET_INPUT = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))  # mean and deviation of the three channels


class BasicConv2d(nn.Module):
    """Convolution without bias, batch normalisation, rectifier."""

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, outputs, H', W')."""
        return torch.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches side by side, their channels joined."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, reduced3, three, reduced5, five, pooled = widths
        self.branch1 = BasicConv2d(inputs, one, 1)
        self.branch2 = nn.Sequential(BasicConv2d(inputs, reduced3, 1), BasicConv2d(reduced3, three, 3, padding=1))
        self.branch3 = nn.Sequential(BasicConv2d(inputs, reduced5, 1), BasicConv2d(reduced5, five, 3, padding=1))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), BasicConv2d(inputs, pooled, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, sum of the four widths, H, W)."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class InceptionV1(nn.Module):
    """The network: stem, nine inception modules, global average, linear classifier.

    divisor: all widths are divided by it (and rounded up), for small images. stem: "imagenet" (strides 2, 2, 2) or
    "small" (no stride, for pictures of some 30 pixels). transform_input: images come normalised with the ImageNet
    means and are turned into the range -1 to 1 that the checkpoint was trained on.
    """

    def __init__(
        self,
        n_classes: int = 1000,
        *,
        channels: int = 3,
        divisor: int = 1,
        stem: str = "imagenet",
        transform_input: bool = False,
    ) -> None:
        super().__init__()
        if stem not in ("imagenet", "small"):
            raise SubjectError(f"unknown stem {stem!r}: use 'imagenet' or 'small'")
        first, second = -(-64 // divisor), -(-192 // divisor)
        large = stem == "imagenet"
        self.transform_input = transform_input
        size, stride = (7, 2) if large else (3, 1)
        self.conv1 = BasicConv2d(channels, first, size, stride=stride, padding=size // 2)
        self.maxpool1 = _pool() if large else nn.Identity()
        self.conv2 = BasicConv2d(first, first, 1)
        self.conv3 = BasicConv2d(first, second, 3, padding=1)
        self.maxpool2 = _pool()
        width = second
        for name, widths in WIDTHS.items():
            one, reduced3, three, reduced5, five, pooled = (-(-value // divisor) for value in widths)
            self.add_module(name, Inception(width, (one, reduced3, three, reduced5, five, pooled)))
            width = one + three + five + pooled
        self.maxpool3 = _pool()
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(width, n_classes)
        self.register_load_state_dict_pre_hook(_without_auxiliary)  # type: ignore[no-untyped-call]

    @property
    def blocks(self) -> list[nn.Module]:
        """The nine inception modules in order of depth."""
        return [getattr(self, name) for name in WIDTHS]

    @property
    def classifier(self) -> nn.Linear:
        """What turns the globally averaged output of the last module into logits."""
        return self.fc

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) images -> (N, n_classes) logits."""
        if self.transform_input:
            x = torch.stack([x[:, i] * (s / 0.5) + (m - 0.5) / 0.5 for i, (m, s) in enumerate(IMAGENET_INPUT)], 1)
        x = self.maxpool2(self.conv3(self.conv2(self.maxpool1(self.conv1(x)))))
        for name in WIDTHS:
            x = getattr(self, name)(x)
            x = {"inception3b": self.maxpool3, "inception4e": self.maxpool4}.get(name, nn.Identity())(x)
        return torch.as_tensor(self.fc(self.dropout(x.mean((2, 3)))))


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _without_auxiliary(_network: nn.Module, weights: dict[str, Tensor], *_: object) -> None:
    """Published checkpoints hold the auxiliary heads; nothing here reads them."""
    for name in [name for name in weights if name.startswith(("aux1.", "aux2."))]:
        del weights[name]
