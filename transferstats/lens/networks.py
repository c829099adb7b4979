"""Networks of one's own: an architecture in code, its weights in a safetensors file.

Code comes from this package (``architecture`` in ``config.json`` names one of :data:`ARCHITECTURES`) or from the
caller, who names a function in Python (``factory``). Nothing in a directory of weights can name code to run.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from transferstats.errors import SubjectError

ARCHITECTURES: dict[str, str] = {
    "inception_v1": "transferstats.lens.inception:InceptionV1",
    "small_network": "transferstats.lens.small_networks:build",
}
"""Architectures of this package, by the name that a ``config.json`` gives."""


def build_network(reference: str, options: dict[str, Any]) -> nn.Module:
    """Call a factory, "package.module:function" or "folder/file.py:function", with options as keywords.

    Raises
    ------
    SubjectError: no such function, options that it does not take, or something else than a module returned.
    """
    factory = _factory(reference)
    try:
        network = factory(**options)
    except TypeError as error:
        raise SubjectError(f"{reference} does not take the options {options}: {error}") from error
    if not isinstance(network, nn.Module):
        raise SubjectError(f"{reference} returned {type(network).__name__}, not a torch module")
    return network


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a safetensors file; every tensor must be there and none be left over."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
        network.load_state_dict(state)
    except (OSError, SafetensorError) as error:
        raise SubjectError(f"{path.name} is no readable safetensors file: {error}") from error
    except RuntimeError as error:  # missing, unexpected or misshapen tensors, all of them named
        raise SubjectError(f"{path.name} does not fit {type(network).__name__}: {error}") from error


def factory_place(reference: str) -> str:
    """A reference that any working folder understands: files by their absolute path."""
    name, _, function = reference.rpartition(":")
    return f"{Path(name).resolve()}:{function}" if name.endswith(".py") else reference


def factory_fingerprint(reference: str) -> str:
    """sha256 over the source file of a factory and its name: other code is another network."""
    name, _, function = reference.rpartition(":")
    source = inspect.getsourcefile(_module(reference)) or ""
    content = Path(source).read_bytes() if source else name.encode()
    return hashlib.sha256(content + b"\0" + function.encode()).hexdigest()


def _factory(reference: str) -> Callable[..., Any]:
    module, function = _module(reference), reference.rpartition(":")[2]
    factory = getattr(module, function, None)
    if not callable(factory):
        raise SubjectError(f"{reference!r}: the module has no function {function!r}")
    found: Callable[..., Any] = factory
    return found


def _module(reference: str) -> ModuleType:
    name, _, function = reference.rpartition(":")
    if not name or not function:
        raise SubjectError(f"a factory is 'package.module:function' or 'file.py:function', not {reference!r}")
    try:
        return _file_module(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise SubjectError(f"cannot import the factory {reference!r}: {error}") from error


def _file_module(path: Path) -> ModuleType:
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"_transferstats_factory_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}_{content[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise SubjectError(f"{path.name} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up while they are made
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
