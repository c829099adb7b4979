"""What produced a number: canonical JSON, content keys, versions of the libraries involved."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES: tuple[str, ...] = (
    "transferstats",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "statsmodels",
    "torch",
    "transformers",
)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spare whitespace, so that equal configurations are equal texts.

    Raises
    ------
    TypeError, ValueError: values that JSON cannot hold, NaN and infinities among them.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def content_key(value: Any) -> str:
    """sha256 of :func:`canonical_json`, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def files_hash(files: Iterable[Path], *more: str) -> str:
    """sha256 over names and contents of files, in the order given, and over further words."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    for word in more:
        digest.update(word.encode())
    return digest.hexdigest()


def library_versions() -> Mapping[str, str]:
    """Versions of the libraries that numbers depend on; absent ones are left out. Imports none of them."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
