"""Vision subjects: image classifiers of transformers, and networks of one's own, with labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transferstats import embedded
from transferstats.errors import DataError, SubjectError
from transferstats.lens.alignment import common_width, padded
from transferstats.lens.head import Head
from transferstats.lens.images import Images
from transferstats.lens.language import MODEL_FILES
from transferstats.lens.networks import ARCHITECTURES, build_network, factory_fingerprint, load_weights
from transferstats.lens.preprocessing import Preprocessing, preprocessing_of, read_json, read_preprocessing
from transferstats.lens.states import States, check_states
from transferstats.lens.vision_anatomy import VisionAnatomy, find_vision_anatomy, pooled_outputs
from transferstats.provenance import files_hash

BATCH_IMAGES = 64  # a forward pass
PROBE_IMAGES = 4
ANONYMOUS = "LABEL_"  # names that transformers invents for classes without any


@dataclass(frozen=True, slots=True)
class VisionModel:
    """A loaded and verified image classifier.

    Attributes
    ----------
    name: name for people. module: the network, in evaluation mode. anatomy: its blocks, classifier and head.
    preprocessing: how images enter. classes: names of its outputs, or nothing where it has none.
    fingerprint: sha256 over the files, and the code of one's own, that define it. device: where it runs.
    """

    name: str
    module: nn.Module
    anatomy: VisionAnatomy
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    fingerprint: str
    device: torch.device

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers: the state of a layer is the pooled output of that block."""
        return self.anatomy.names

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each layer and, last, of the final state."""
        return (*self.anatomy.widths, self.anatomy.head.weight.shape[1])


@dataclass(frozen=True, slots=True)
class VisionSource:
    """Where an image classifier comes from, for ``vision_cells``; fields as in :func:`load_vision_model`."""

    source: str
    factory: str | None = None
    blocks: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None

    @property
    def fingerprint(self) -> str:
        """sha256 over the files and the code that define the model."""
        return vision_fingerprint(self.source, self.factory)

    def load(self, device: str = "cpu") -> VisionModel:
        """The model, verified."""
        return load_vision_model(
            self.source,
            factory=self.factory,
            blocks=self.blocks,
            preprocessing=self.preprocessing,
            device=device,
        )


def load_vision_model(
    source: str | Path,
    *,
    factory: str | None = None,
    blocks: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    device: str = "cpu",
) -> VisionModel:
    """Load an image classifier in float32 and verify its anatomy. Nothing is downloaded.

    Parameters
    ----------
    source: "embedded:NAME", a shipped network such as "embedded:resnet-0"; a directory in Hugging Face format
        (``AutoModelForImageClassification``); a directory with ``model.safetensors`` and a ``config.json`` with
        architecture (one of ``networks.ARCHITECTURES``) or, for a ``factory``, without; options (keywords of the
        architecture), preprocessing (size, mean, std) and classes (names) may stand in it; for a ``factory`` also
        a ``.safetensors`` file. Pickled weights are refused.
    factory: code of one's own that makes the network: "package.module:function" or "file.py:function". Its modules
        ``.blocks`` (in order of depth) become the layers unless ``blocks`` names others.
    blocks: patterns of module names, such as ``("encoder.stages.*.layers.*",)``; found by structure if not given.
    preprocessing: how images enter; what the directory says if not given. device: torch device.

    Raises
    ------
    SubjectError: nothing there, not an image classifier, or parts that cannot be found or verified.
    """
    path = located(source)
    fingerprint = vision_fingerprint(source, factory)
    settings = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    if factory is not None or "architecture" in settings:
        module = _own_network(path, settings, factory)
        found = preprocessing or preprocessing_of(settings, path.name)
        classes = tuple(str(name) for name in settings.get("classes", ()))
    else:
        module = _transformers_model(path)
        found = preprocessing or read_preprocessing(path)
        classes = _class_names(module.config)
    module = module.to(device).float().eval().requires_grad_(False)
    channels = len(found.mean)
    pixels = torch.rand(PROBE_IMAGES, channels, found.size, found.size, generator=torch.Generator().manual_seed(0))
    anatomy = find_vision_anatomy(module, found.apply(pixels).to(device), blocks)
    if classes and len(classes) != anatomy.head.n_outputs:
        raise SubjectError(f"{path.name!r} names {len(classes)} classes and gives {anatomy.head.n_outputs} logits")
    name = path.stem if path.is_file() else path.resolve().name
    return VisionModel(name, module, anatomy, found, classes, fingerprint, torch.device(device))


def located(source: str | Path) -> Path:
    """The path of a model; a shipped network goes by its name, with or without "embedded:" before it."""
    name = str(source).removeprefix(embedded.PREFIX)
    known = embedded.network_names()
    if name in known and not Path(name).exists():
        return embedded.network_path(name)
    if str(source).startswith(embedded.PREFIX):
        raise SubjectError(f"no shipped network {name!r}; there are: {', '.join(known)}")
    return Path(source)


def vision_fingerprint(source: str | Path, factory: str | None = None) -> str:
    """sha256 over the files that define a model, and over the source file of its factory.

    Raises
    ------
    SubjectError: no safetensors there, or a factory that cannot be found.
    """
    path = located(source)
    if path.is_file() and path.suffix == ".safetensors" and factory is not None:
        files = [path]
    elif path.is_dir() and any(path.glob("*.safetensors")):
        files = sorted(file for file in path.iterdir() if file.name.endswith(MODEL_FILES))
    else:
        raise SubjectError(
            f"no image model at {str(source)!r}: give a directory with config.json and .safetensors weights "
            "(pickled weights are refused: convert them), or a .safetensors file with the factory of its network"
        )
    return files_hash(files, *([factory_fingerprint(factory)] if factory is not None else []))


def _own_network(path: Path, settings: dict[str, Any], factory: str | None) -> nn.Module:
    reference = factory or ARCHITECTURES.get(str(settings.get("architecture")))
    if reference is None:
        raise SubjectError(
            f"{path.name!r} names the architecture {settings['architecture']!r}, which is none of "
            f"{', '.join(ARCHITECTURES)}: give the function that makes it (factory='package.module:function')"
        )
    network = build_network(reference, dict(settings.get("options", {})))
    weights = path if path.is_file() else path / "model.safetensors"
    load_weights(network, weights)
    return network


def _transformers_model(path: Path) -> Any:
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging

    if not (path / "config.json").is_file():
        raise SubjectError(f"{path.name!r} is a directory without config.json: not a Hugging Face model")
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # it would cut the sweep's own in two
    try:
        module, info = AutoModelForImageClassification.from_pretrained(
            path,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # loaders raise whatever their parsers do
        raise SubjectError(f"cannot load {path.name!r} as an image classifier: {error}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    # transformers fills what a file lacks, or what has another shape, with random numbers and only logs it.
    wrong = sorted(str(one) for one in [*info["missing_keys"], *info.get("mismatched_keys", ())])
    if wrong:
        kind = type(module).__name__
        raise SubjectError(
            f"the weights of {path.name!r} lack {len(wrong)} tensors of {kind} ({wrong[0]}, ...): they are "
            "incomplete or belong to another architecture; get them again"
        )
    return module


def _class_names(config: Any) -> tuple[str, ...]:
    names = dict(config.id2label or {})
    ordered = tuple(str(names[index]) for index in sorted(names))
    return () if any(name.startswith(ANONYMOUS) for name in ordered) else ordered


@dataclass(frozen=True, slots=True)
class VisionSubject:
    """An image classifier together with its images; see :class:`transferstats.lens.states.Subject`.

    One row is one image. States are those of the model, zero-padded to the common width of the alignment, and so
    are the final states and the head where they are narrower.
    """

    model: VisionModel
    images: Images
    labels: Tensor
    width: int
    head: Head

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.name

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return self.model.layers

    @property
    def unit(self) -> str:
        """One loss an image."""
        return "nats/image"

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the images."""
        return self.images.units

    @property
    def clusters(self) -> tuple[str, ...]:
        """Cluster of each image."""
        return self.images.clusters

    def capture(self, indices: Sequence[int], *, max_rows: int | None = None) -> States:
        """States of some images; each is one row, whatever ``max_rows``."""
        chosen = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        batches = [chosen[start : start + BATCH_IMAGES] for start in range(0, len(chosen), BATCH_IMAGES)]
        parts = [self._forward(rows.numpy()) for rows in batches]
        hidden = torch.cat([part for part, _ in parts], dim=1)
        final = torch.cat([part for _, part in parts])
        labels = self.labels[chosen].to(final.device)
        unit = torch.arange(len(chosen), device=final.device)
        return check_states(States(hidden, final, labels, unit, tuple(self.units[i] for i in chosen.tolist())))

    def _forward(self, rows: Any) -> tuple[Tensor, Tensor]:
        """(L, B, d) states and (B, d) final states of a batch."""
        anatomy, device = self.model.anatomy, self.model.device
        pixels = torch.as_tensor(np.ascontiguousarray(self.images.images[rows])).to(device)
        final: list[Tensor] = []
        handle = anatomy.classifier.register_forward_pre_hook(lambda _module, args: final.append(args[0]))
        try:
            prepared = self.model.preprocessing.apply(pixels)
            states = pooled_outputs(self.model.module, anatomy.blocks, anatomy.pooling, prepared)
        finally:
            handle.remove()
        return torch.stack([padded(one, self.width) for one in states]), padded(final[-1].float(), self.width)

    def log_prior(self, indices: Sequence[int]) -> Tensor:
        """(V,) add-one smoothed log frequency of the classes of some images."""
        counts = torch.bincount(self.labels[torch.as_tensor(list(indices))], minlength=self.head.n_outputs) + 1.0
        return (counts / counts.sum()).log().float().to(self.model.device)


def vision_subject(model: VisionModel, images: Images, alignment: str = "none") -> VisionSubject:
    """A model and its images as a subject.

    Labels are matched by the names of the classes where both sides have them, else by position.

    Raises
    ------
    DesignError: an unknown alignment, or "none" for layers of different widths.
    DataError: more classes than the model has outputs.
    """
    width = common_width(alignment, model.widths[:-1], model.widths[-1])
    head = model.anatomy.head
    head = Head(head.norm, padded(head.weight, width), head.bias)
    return VisionSubject(model, images, torch.as_tensor(_labels(model, images)), width, head)


def labels_by_name(model: VisionModel, images: Images) -> bool:
    """Whether the model knows the classes of the images by name."""
    return bool(model.classes) and set(images.classes) <= set(model.classes)


def _labels(model: VisionModel, images: Images) -> Any:
    if labels_by_name(model, images):
        return np.array([model.classes.index(name) for name in images.classes])[images.labels]
    outputs = model.anatomy.head.n_outputs
    if len(images.classes) > outputs:
        raise DataError(
            f"dataset {images.name!r} has {len(images.classes)} classes and {model.name!r} gives {outputs} "
            "logits: they do not belong together"
        )
    return images.labels
