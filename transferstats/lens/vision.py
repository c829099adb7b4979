"""Image classifiers as subjects: what their blocks hold, averaged over the picture, and what decodes it.

A layer is the output of a block: the global average of its channels, or the class token of a transformer. The
final state is the input of the last linear map. One row is one image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transferstats import embedded
from transferstats.errors import DataError, SubjectError
from transferstats.lens.alignment import Alignment, pad
from transferstats.lens.head import Head
from transferstats.lens.images import Images
from transferstats.lens.states import States, check_states

BATCH = 250  # images of one forward pass
TOLERANCE = 1e-3  # of the logits' standard deviation
BLOCKS: tuple[str, ...] = (r"encoder\.stages\.\d+\.layers\.\d+", r"(encoder\.)?layers?\.\d+")
"""How transformers names the blocks of convolutional networks with stages, and of vision transformers."""


@dataclass(frozen=True, slots=True)
class VisionModel:
    """A classifier, taken apart and verified.

    Attributes
    ----------
    name: for people. module: the network. blocks: by name, in order of depth. classifier: the last linear map.
    mean, deviation: what channels (values 0 to 1) are normalised with. size: side of its pictures, None for any.
    channels: of its input.
    """

    name: str
    module: nn.Module
    blocks: dict[str, nn.Module]
    classifier: nn.Linear
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    size: int | None = None
    channels: int = 1

    def prepared(self, pixels: Any) -> Tensor:
        """(n, C, H, W) bytes -> (n, channels, size, size) normalised float32."""
        x = torch.tensor(pixels, device=self.classifier.weight.device).float() / 255
        if x.shape[1] != self.channels:
            if x.shape[1] != 1:
                raise DataError(f"{self.name!r} reads {self.channels} channels, the images have {x.shape[1]}")
            x = x.expand(-1, self.channels, -1, -1)
        if self.size is not None and x.shape[-1] != self.size:
            x = nn.functional.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        mean, deviation = (torch.tensor(v, device=x.device)[:, None, None] for v in (self.mean, self.deviation))
        return (x - mean) / deviation


@dataclass(frozen=True, slots=True)
class Captured:
    """What one pass over n images leaves: L states (n, d_l), final states (n, d_f), logits (n, V)."""

    states: tuple[Tensor, ...]
    final: Tensor
    logits: Tensor


def capture_raw(model: VisionModel, pixels: Any) -> Captured:
    """States before any alignment."""
    with torch.no_grad():
        parts = [
            _forward(model, model.prepared(pixels[start : start + BATCH]))
            for start in range(0, len(pixels), BATCH)
        ]
    states = tuple(torch.cat(layer) for layer in zip(*(part.states for part in parts), strict=True))
    return Captured(states, torch.cat([p.final for p in parts]), torch.cat([p.logits for p in parts]))


def _forward(model: VisionModel, x: Tensor) -> Captured:
    seen: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, block in model.blocks.items():
            hooks.callback(block.register_forward_hook(_keeper(seen, name)).remove)
        hooks.callback(
            model.classifier.register_forward_pre_hook(lambda _m, args: seen.update({"": args[0]})).remove
        )
        out = model.module(x)
    missing = [name for name in (*model.blocks, "") if name not in seen]
    if missing:
        raise SubjectError(f"{model.name!r}: module {missing[0] or 'classifier'!r} was not used in a forward pass")
    logits = out if isinstance(out, Tensor) else out.logits
    return Captured(tuple(pooled(seen[name]) for name in model.blocks), seen[""], logits)


def _keeper(seen: dict[str, Tensor], name: str) -> Any:
    def keep(_module: nn.Module, _args: Any, out: Any) -> None:
        seen[name] = out if isinstance(out, Tensor) else out[0]

    return keep


def pooled(out: Tensor) -> Tensor:
    """(n, C, H, W) -> (n, C) averages; (n, T, d) -> (n, d) class token; (n, d) as it is."""
    return out.mean((2, 3)) if out.ndim == 4 else out[:, 0] if out.ndim == 3 else out


def verified(model: VisionModel, images: Images) -> VisionModel:
    """The model, once its classifier is known to give the logits back; a last block that is the final state goes.

    Raises
    ------
    SubjectError: logits that are not the classifier's output, fewer than two layers.
    """
    seen = capture_raw(model, images.pixels[:8])
    again = model.classifier(seen.final)
    if (again - seen.logits).abs().max() > TOLERANCE * seen.logits.std():
        raise SubjectError(
            f"{model.name!r}: the logits are not what its last linear map gives; the network does something to "
            "them afterwards, which no lens could decode"
        )
    names = list(model.blocks)
    last = seen.states[-1]
    if last.shape == seen.final.shape and (last - seen.final).abs().max() < TOLERANCE * seen.final.std():
        names = names[:-1]  # its lens would be the identity, and every penalty there somebody else's
    if len(names) < 2:
        raise SubjectError(f"{model.name!r} has {len(names)} block(s) before its classifier; transfer needs two")
    kept = {name: model.blocks[name] for name in names}
    return VisionModel(
        model.name, model.module, kept, model.classifier, model.mean, model.deviation, model.size, model.channels
    )


@dataclass(frozen=True, slots=True)
class VisionSubject:
    """A classifier together with images; see :class:`transferstats.lens.states.Subject`."""

    model: VisionModel
    images: Images
    alignment: Alignment
    unit: str = "nats/image"

    @property
    def name(self) -> str:
        """Name of the network."""
        return self.model.name

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the blocks whose outputs are the layers."""
        return tuple(self.model.blocks)

    @property
    def head(self) -> Head:
        """The classifier, its weight padded to the common width."""
        weight, bias = self.model.classifier.weight.detach(), self.model.classifier.bias
        zeros = torch.zeros(len(weight), device=weight.device)
        padded = pad(weight, self.alignment.width)
        return Head(_unchanged, padded, zeros if bias is None else bias.detach())

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the images."""
        return self.images.units

    @property
    def clusters(self) -> tuple[str, ...]:
        """Cluster of each image."""
        return self.images.clusters

    def capture(self, indices: Sequence[int], *, max_rows: int | None = None) -> States:
        """States of some images, one row each."""
        chosen = np.asarray(indices)
        seen = capture_raw(self.model, self.images.pixels[chosen])
        return check_states(
            States(
                self.alignment.apply(seen.states),
                pad(seen.final, self.alignment.width),
                torch.tensor(self.images.labels[chosen], device=seen.final.device),
                torch.arange(len(chosen), device=seen.final.device),
                tuple(self.units[int(index)] for index in chosen),
            )
        )

    def log_prior(self, indices: Sequence[int]) -> Tensor:
        """(V,) add-one smoothed log frequencies of the classes of some images."""
        counts = np.bincount(self.images.labels[np.asarray(indices)], minlength=self.model.classifier.out_features)
        smoothed = counts + 1.0
        return torch.tensor(np.log(smoothed / smoothed.sum()), dtype=torch.float32)


def _unchanged(z: Tensor) -> Tensor:
    return z


def load_vision_model(source: str, *, device: str = "cpu") -> VisionModel:
    """Load a classifier.

    Parameters
    ----------
    source: "embedded:NAME" (a shipped network, such as "embedded:resnet-0"); a directory of a Hugging Face image
        classifier (safetensors; its code is never run from there); or an ImageNet checkpoint of Inception v1
        (``.safetensors``, or ``.pth`` of tensors alone).

    Raises
    ------
    SubjectError: nothing there, other weights, or blocks that cannot be told apart.
    """
    if source.startswith(embedded.PREFIX):
        return _shipped(source, device)
    path = Path(source)
    if path.is_file():
        from transferstats.lens.inception import IMAGENET_INPUT, load_inception

        network = load_inception(path).to(device)
        mean, deviation = zip(*IMAGENET_INPUT, strict=True)
        blocks = {name: getattr(network, name) for name in network.block_names}
        return VisionModel(path.stem, network, blocks, network.classifier, mean, deviation, 224, 3)
    if not path.is_dir():
        raise SubjectError(f"no image classifier at {source!r}: give a directory, a checkpoint, or embedded:NAME")
    return _from_transformers(path, device)


def _shipped(source: str, device: str) -> VisionModel:
    from transferstats.lens.networks import load_network

    network = load_network(source.removeprefix(embedded.PREFIX)).to(device)
    blocks = {f"block {index}": block for index, block in enumerate(network.blocks)}
    return VisionModel(source.removeprefix(embedded.PREFIX), network, blocks, network.classifier)


def _from_transformers(path: Path, device: str) -> VisionModel:
    from transformers import AutoModelForImageClassification

    try:
        module = AutoModelForImageClassification.from_pretrained(
            path, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise SubjectError(f"{path.name} is not an image classifier that transformers loads: {error}") from error
    module = module.float().to(device).eval()
    config = path / "preprocessor_config.json"
    said = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
    channels = int(getattr(module.config, "num_channels", 3))
    return VisionModel(
        path.name,
        module,
        dict(_blocks(module)),
        _classifier(module, path.name),
        tuple(said.get("image_mean", [0.0] * channels)),
        tuple(said.get("image_std", [1.0] * channels)),
        getattr(module.config, "image_size", None),
        channels,
    )


def _blocks(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for pattern in BLOCKS:
        found = [(name, one) for name, one in module.named_modules() if re.search(rf"(^|\.){pattern}$", name)]
        if len(found) > 1:
            yield from found
            return
    raise SubjectError(
        "no blocks found: no module is called encoder.stages.N.layers.M or encoder.layer.N; give states as arrays"
    )


def _classifier(module: nn.Module, name: str) -> nn.Linear:
    linear = [one for one in module.modules() if isinstance(one, nn.Linear)]
    if not linear:
        raise SubjectError(f"{name} has no linear classifier")
    return linear[-1]
