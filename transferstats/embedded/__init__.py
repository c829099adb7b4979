"""The embedded subjects: a small language model with documents of four domains, and small networks for images.

The model was trained for this package on text that holds none of the documents; how, and what it
reached, is in `training_record()`. Where the documents come from and under which licences is in
`origins()` and in `documents/LICENSES.md`. Only the standard library is needed here: load the
model with `transformers` from `model_path()`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = [
    "DOMAINS",
    "PREFIX",
    "documents_path",
    "model_path",
    "network_names",
    "network_path",
    "network_record",
    "origins",
    "training_record",
]

PREFIX = "embedded:"
"""Before the name of a shipped network where a subject is named by text."""

DOMAINS: tuple[str, ...] = ("python", "docstrings", "kjv", "shakespeare")

_HERE = Path(__file__).resolve().parent


def model_path() -> Path:
    """Directory of the model and its tokenizer in Hugging Face layout (fp16 safetensors)."""
    return _present(_HERE / "model" / "config.json").parent


def network_path(name: str) -> Path:
    """Directory of one trained network for images, such as "resnet-0": config.json and fp16 safetensors."""
    if name not in network_names():
        raise ValueError(f"unknown embedded network {name!r}; known networks: {', '.join(network_names())}")
    return _present(_HERE / "networks" / name / "config.json").parent


def network_names() -> tuple[str, ...]:
    """Names of the trained networks for images."""
    return tuple(sorted(network_record()["networks"]))


def network_record() -> dict[str, Any]:
    """How the networks for images were trained, and the test accuracy and loss of each."""
    return _read(_HERE / "networks" / "training.json")


def documents_path(domain: str) -> Path:
    """File of one domain's documents: gzipped JSON lines with `unit`, `cluster` and `text`."""
    if domain not in DOMAINS:
        raise ValueError(f"unknown embedded domain {domain!r}; known domains: {', '.join(DOMAINS)}")
    return _present(_HERE / "documents" / f"{domain}.jsonl.gz")


def training_record() -> dict[str, Any]:
    """How the model was trained and its held-out cross-entropy per domain, in nats per token."""
    return _read(_HERE / "model" / "training.json")


def origins() -> dict[str, Any]:
    """Per domain: name, description, licence, origin, counts and the SHA-256 of its file."""
    return _read(_HERE / "documents" / "origin.json")


def _present(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.relative_to(_HERE)} is missing from transferstats.embedded: "
            "this installation lacks its package data"
        )
    return path


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(_present(path).read_text(encoding="utf-8"))
    return content
