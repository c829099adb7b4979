"""Preprocessing: what an image becomes before a model sees it, and where a model's directory says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transferstats.errors import DataError, SubjectError

BYTE = 255.0
GIVE = "give preprocessing=Preprocessing(size=..., mean=..., std=...)"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How images become inputs: scaled to 0..1, resized, standardised.

    Attributes
    ----------
    size: edge of the square input in pixels; images of another size are resized (bilinear, antialiased).
    mean, std: one number a channel, of pixels in 0..1; their count is the number of channels (1 or 3). Grey images
        are repeated for a model of 3 channels.

    Raises
    ------
    SubjectError: no size, other numbers of channels, or deviations that are not above 0.
    """

    size: int
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.size < 1 or len(self.mean) not in (1, 3) or len(self.std) != len(self.mean) or min(self.std) <= 0:
            raise SubjectError(
                f"preprocessing needs a size of at least 1, and as many means as deviations above 0 (1 or 3 of "
                f"them); got size {self.size}, mean {self.mean}, std {self.std}"
            )

    def apply(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 or float images -> (B, channels, size, size) float32 inputs.

        Raises
        ------
        DataError: colour images for a model of grey ones, or images that are not square.
        """
        x = images.float() / BYTE if images.dtype == torch.uint8 else images
        channels = len(self.mean)
        if x.shape[1] != channels:
            if x.shape[1] != 1:
                raise DataError(
                    f"the images have {x.shape[1]} channels and the model takes {channels}: convert them to grey"
                )
            x = x.expand(-1, channels, -1, -1)
        if x.shape[2] != x.shape[3]:
            raise DataError(f"the images are {x.shape[3]} x {x.shape[2]}: crop them to squares")
        if x.shape[2] != self.size:
            x = torch.nn.functional.interpolate(
                x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False
            )
        return (x - x.new_tensor(self.mean)[:, None, None]) / x.new_tensor(self.std)[:, None, None]


def read_preprocessing(folder: Path) -> Preprocessing:
    """The preprocessing in a directory of Hugging Face: ``preprocessor_config.json``.

    Raises
    ------
    SubjectError: no such file, or steps in it that are not known here.
    """
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        raise SubjectError(f"{folder.name!r} has no preprocessor_config.json that says how images enter: {GIVE}")
    settings = read_json(path)
    scale = settings.get("rescale_factor", 1 / BYTE)
    unknown = [name for name in ("rescale_offset", "include_top") if settings.get(name)]
    if not settings.get("do_rescale", True) or abs(scale * BYTE - 1) > 1e-3:
        unknown.append("rescale_factor")
    if unknown:
        raise SubjectError(f"{path.name} of {folder.name!r} uses {unknown[0]}, which is not known here: {GIVE}")
    cropped = settings.get("do_center_crop", False) and "crop_size" in settings
    size = _edge(settings["crop_size"] if cropped else settings.get("size"), folder)
    if not settings.get("do_normalize", True):
        return Preprocessing(size)
    mean, std = settings.get("image_mean"), settings.get("image_std")
    if mean is None or std is None:
        raise SubjectError(f"{path.name} of {folder.name!r} has no image_mean and image_std: {GIVE}")
    return Preprocessing(size, _numbers(mean), _numbers(std))


def preprocessing_of(settings: dict[str, Any], name: str) -> Preprocessing:
    """The preprocessing in the ``config.json`` of a network of one's own: size, mean, std."""
    found = settings.get("preprocessing")
    if not isinstance(found, dict) or "size" not in found:
        raise SubjectError(
            f"config.json of {name!r} has no preprocessing with size, mean and std: add it, or {GIVE}"
        )
    given = {key: _numbers(found[key]) for key in ("mean", "std") if key in found}
    return Preprocessing(int(found["size"]), **given)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file of a model."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SubjectError(f"{path.parent.name}/{path.name} is not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise SubjectError(f"{path.parent.name}/{path.name} holds no JSON object")
    return content


def _numbers(values: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values) if isinstance(values, list | tuple) else (float(values),)  # type: ignore[arg-type]


def _edge(size: Any, folder: Path) -> int:
    """The edge that "size" means, in any of its spellings."""
    if isinstance(size, dict):
        edges = {size.get(name) for name in ("height", "width", "shortest_edge")} - {None}
        size = edges.pop() if len(edges) == 1 else None
    if not isinstance(size, int):
        raise SubjectError(f"preprocessor_config.json of {folder.name!r} asks for no square of one size: {GIVE}")
    return size
