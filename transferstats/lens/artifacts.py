"""Lenses in files: those of tuned-lens 0.2.0 and Jacobian lenses, read without running code, and written.

**tuned-lens** (Belrose et al. 2023, doi 10.48550/arXiv.2303.08112): a folder with ``params.pt``, a table of
tensors ``"0.weight"`` (d, d) and ``"0.bias"`` (d,) for every block, and ``config.json``. Lens i maps the input of
block i, our layer i, by ``h + weight h + bias``.

**Jacobian lens** (files of the public reference implementation ``jlens``): one ``.pt`` with ``"J"``, block ->
(d, d), ``"d_model"``, ``"source_layers"`` and ``"n_prompts"``. Lens i maps the *output* of block i, which is the
input of block i + 1, our layer i + 1, by ``J h`` without a bias: A = J - I. So the embedding layer has no Jacobian
lens; one at the output of the last block maps the final state itself and is left out.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transferstats.errors import DataError, DesignError
from transferstats.lens.translator import Translators

PARAMS_FILE, CONFIG_FILE = "params.pt", "config.json"
TUNED_LENS, JACOBIAN = "tuned-lens", "jacobian"
LENS_TYPE = "linear_tuned_lens"  # the only one that tuned-lens 0.2.0 has

SAID: Mapping[str, tuple[type, tuple[str, ...]]] = MappingProxyType(
    {
        "prompts": (int, ("n_prompts",)),
        "model": (str, ("model", "model_name", "model_id", "base_model_name_or_path")),
        "layers": (int, ("n_layers", "num_layers", "num_hidden_layers")),
        "target": (int, ("target_layer", "target_block")),
    }
)
"""What a file of Jacobians may say about itself: its kind, and the names that people give it."""

NESTED: tuple[str, ...] = ("provenance", "metadata", "config")
"""Where they also say it: as a table, or as JSON."""


@dataclass(frozen=True, slots=True)
class ReadyLenses:
    """Lenses read from files, with what the files say about themselves.

    Attributes
    ----------
    name: of the folder or file. kind: "tuned-lens" or "jacobian". lenses: one map a layer, in order of depth.
    layers: (G,) our layer, an input of a block, that each map serves.
    about: what else the files hold: the model, its number of layers, the prompts behind a Jacobian and the block
        whose output it leads to, the hash of the unembedding; absent where they say nothing.
    caveats: what was checked less than it should be, because the files do not say it.
    """

    name: str
    kind: str
    lenses: Translators
    layers: tuple[int, ...]
    about: Mapping[str, Any]
    caveats: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Width d of the states that these lenses map."""
        return self.lenses.weight.shape[-1]


def read_lenses(source: str | Path) -> ReadyLenses:
    """Read ready-made lenses; nothing in a file is executed.

    Parameters
    ----------
    source: folder with ``params.pt`` and ``config.json`` of tuned-lens, or a ``.pt`` file of a Jacobian lens.

    Raises
    ------
    DataError: nothing there, files with code in them, torn or of another kind, or numbers that are not finite.
    """
    path = Path(source)
    if path.is_dir() and (path / PARAMS_FILE).is_file() and (path / CONFIG_FILE).is_file():
        return _read_tuned_lens(path)
    if path.is_file():
        return _read_jacobian(path)
    raise DataError(
        f"no lenses at {str(source)!r}: give a folder with {PARAMS_FILE} and {CONFIG_FILE}, as tuned-lens saves "
        "it, or the .pt file of a Jacobian lens"
    )


def lens_fingerprint(source: str | Path) -> str:
    """sha256 over the content of the files that hold the lenses; their names and places do not count."""
    path = Path(source)
    files = [path / PARAMS_FILE, path / CONFIG_FILE] if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise DataError(
                f"no lenses at {str(source)!r}: {file.name} cannot be read ({error.strerror})"
            ) from error
    return digest.hexdigest()


def unembedding_hash(weight: Tensor) -> str:
    """What tuned-lens keeps of the unembedding (V, d): sha256 of what numpy prints of it, one digit a number.

    Coarse on purpose: the same for half and single precision.
    """
    with np.printoptions(threshold=1000, edgeitems=3, linewidth=75, suppress=False, floatmode="maxprec"):
        text = np.array_str(weight.detach().cpu().float().numpy(), precision=1)
    return hashlib.sha256(text.encode()).hexdigest()


def _load(path: Path) -> Mapping[Any, Any]:
    """The tensors of a .pt file; torch refuses to unpickle anything but tensors and plain containers."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} is refused: it asks for code to be run, or is no file of tensors at all. If you trust who "
            "made it, load it elsewhere and save its tensors alone"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is torn or not a file of torch: {error}") from error
    if not isinstance(content, Mapping):
        raise DataError(f"{path} holds {type(content).__name__}, not a table of tensors")
    return content


def _read_tuned_lens(path: Path) -> ReadyLenses:
    config = _read_config(path / CONFIG_FILE)
    count, width = config["num_hidden_layers"], config["d_model"]
    if config.get("lens_type", LENS_TYPE) != LENS_TYPE:
        raise DataError(
            f"{path / CONFIG_FILE}: lens_type {config['lens_type']!r} is unknown; {LENS_TYPE!r} is read"
        )
    content = dict(_load(path / PARAMS_FILE))
    biased = bool(config.get("bias", True))
    names = [
        f"{index}.{part}" for index in range(count) for part in (("weight", "bias") if biased else ("weight",))
    ]
    if set(content) != set(names):
        other = sorted(str(name) for name in set(content) ^ set(names))
        raise DataError(f"{path / PARAMS_FILE} does not fit {CONFIG_FILE}: {other[0]!r} is in one of them only")
    weight = [
        _matrix(content[f"{index}.weight"], (width, width), f"{path.name}, lens {index}") for index in range(count)
    ]
    bias = [
        _matrix(content[f"{index}.bias"], (width,), f"{path.name}, bias {index}") if biased else torch.zeros(width)
        for index in range(count)
    ]
    about = {
        "model": config.get("base_model_name_or_path"),
        "layers": count,
        "unembedding": config.get("unembed_hash"),
    }
    known = {name: value for name, value in about.items() if value is not None}
    return ReadyLenses(path.name, TUNED_LENS, _stacked(weight, bias), tuple(range(count)), known)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = dict(json.loads(path.read_text(encoding="utf-8")))
        sizes = [config["num_hidden_layers"], config["d_model"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a configuration of tuned-lens: {error!r}") from error
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise DataError(f"{path}: num_hidden_layers and d_model must be positive numbers, got {sizes}")
    return config


def _read_jacobian(path: Path) -> ReadyLenses:
    content = _load(path)
    jacobians = content.get("J")
    if not isinstance(jacobians, Mapping) or not jacobians or not all(isinstance(key, int) for key in jacobians):
        raise DataError(
            f"{path} is not a Jacobian lens: it has no 'J' with a matrix for every block (found "
            f"{', '.join(sorted(map(str, content))) or 'nothing'})"
        )
    blocks = sorted(jacobians)
    if blocks[0] < 0:
        raise DataError(f"{path}: block {blocks[0]} does not exist")
    first = jacobians[blocks[0]]
    width = content.get("d_model", first.shape[-1] if isinstance(first, Tensor) and first.ndim else 0)
    matrices = [_matrix(jacobians[block], (width, width), f"{path.name}, block {block}") for block in blocks]
    weight = [matrix - torch.eye(width) for matrix in matrices]
    bias = [torch.zeros(width) for _ in blocks]
    about = _said(content)
    if torch.equal(matrices[-1], torch.eye(width)):  # a block does not change its own output
        about = {"target": blocks[-1], **about}
    return ReadyLenses(path.name, JACOBIAN, _stacked(weight, bias), tuple(block + 1 for block in blocks), about)


def _said(content: Mapping[Any, Any]) -> dict[str, Any]:
    """What a file of Jacobians says about itself, under our names."""
    places = [content, *(_table(content.get(name)) for name in NESTED)]
    found = {}
    for ours, (kind, theirs) in SAID.items():
        values = [place[name] for place in places for name in theirs if isinstance(place.get(name), kind)]
        if values:
            found[ours] = values[0]
    return found


def _table(value: Any) -> Mapping[Any, Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _matrix(value: Any, shape: tuple[int, ...], where: str) -> Tensor:
    if not isinstance(value, Tensor) or tuple(value.shape) != shape or not value.is_floating_point():
        found = f"{tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise DataError(f"{where}: need {shape} real numbers, found {found}")
    dense = value.to_dense().float()
    if not torch.isfinite(dense).all():
        raise DataError(f"{where}: its numbers are not all finite")
    return dense


def _stacked(weight: Sequence[Tensor], bias: Sequence[Tensor]) -> Translators:
    return Translators(torch.stack(list(weight)), torch.stack(list(bias)))


def write_tuned_lens(folder: str | Path, lenses: Translators, *, model: str, unembedding: Tensor) -> Path:
    """Write lenses of all layers as tuned-lens 0.2.0 saves its own, so that it loads them.

    Parameters
    ----------
    lenses: one map a layer, the embedding layer first. model: name or path of the network.
    unembedding: (V, d) weight of its output embedding, of which a hash is kept.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    content: dict[str, Tensor] = {}
    for index in range(len(lenses)):
        content[f"{index}.weight"] = lenses.weight[index].detach().cpu().clone()
        content[f"{index}.bias"] = lenses.bias[index].detach().cpu().clone()
    torch.save(content, path / PARAMS_FILE)
    config = {
        "base_model_name_or_path": model,
        "d_model": lenses.weight.shape[-1],
        "num_hidden_layers": len(lenses),
        "bias": True,
        "base_model_revision": None,
        "unembed_hash": unembedding_hash(unembedding),
        "lens_type": LENS_TYPE,
    }
    (path / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
    return path


def write_jacobian(path: str | Path, lenses: Translators, layers: Sequence[int], *, prompts: int) -> Path:
    """Write lenses without bias as a Jacobian lens, in single precision.

    Parameters
    ----------
    layers: our layer of each map, an input of a block, from 1 on: the format knows outputs of blocks.
    prompts: how many texts the lenses come from; the format weighs by it when lenses are merged.

    Raises
    ------
    DesignError: a bias, which the format cannot hold, or the embedding layer, for which it has no name.
    """
    if lenses.bias.any():
        raise DesignError("a Jacobian lens has no bias: these lenses have one; write them with write_tuned_lens")
    if len(layers) != len(lenses) or min(layers) < 1:
        raise DesignError(
            f"layers {tuple(layers)} for {len(lenses)} lenses: a Jacobian lens starts at the output of a block, "
            "so each needs a layer of at least 1"
        )
    eye = torch.eye(lenses.weight.shape[-1])
    matrices = {layer - 1: lenses.weight[index].detach().cpu() + eye for index, layer in enumerate(layers)}
    content = {"J": matrices, "n_prompts": prompts, "source_layers": sorted(matrices), "d_model": len(eye)}
    torch.save(content, Path(path))
    return Path(path)
