"""Language subjects: any causal language model of transformers, by directory, hub id or GGUF file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transferstats import embedded
from transferstats.errors import DataError, DesignError, SubjectError
from transferstats.lens.anatomy import Anatomy, find_anatomy, state_argument
from transferstats.lens.documents import Documents
from transferstats.lens.head import Head
from transferstats.lens.states import States, check_states
from transferstats.provenance import files_hash

MODEL_FILES = (
    ".safetensors",
    ".gguf",
    "config.json",
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)  # endings of the files that decide what a model computes
LEAST_SCORED = 2  # scored positions of the shortest window: one adds noise to the moments and almost no loss
AUTO = "auto"
BATCH_TOKENS = 4096  # tokens a forward pass; larger batches gain nothing on CPUs and little on accelerators


@dataclass(frozen=True, slots=True)
class Encoding:
    """How documents become windows of tokens.

    Attributes
    ----------
    window: tokens of a window, the BOS token included; windows never cross a document.
    max_tokens: tokens read of a document. min_tokens: a document with fewer is refused.
    skip: first positions of each window that are not scored. Position 0 holds the same BOS state in every
        document: it carries nothing, and its norm can dominate the moments (attention sinks).

    Raises
    ------
    DesignError: numbers that leave a document without a scored position.
    """

    window: int = 256
    max_tokens: int = 1024
    min_tokens: int = 32
    skip: int = 1

    def __post_init__(self) -> None:
        fewest = self.skip + LEAST_SCORED + 1
        if self.skip < 0 or self.window < fewest or not fewest <= self.min_tokens <= self.max_tokens:
            raise DesignError(
                f"this encoding scores nothing: window ({self.window}) and min_tokens ({self.min_tokens}) must be "
                f"at least skip ({self.skip}) + {LEAST_SCORED + 1}, and min_tokens at most max_tokens "
                f"({self.max_tokens})"
            )


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A loaded and verified model with its tokenizer.

    device: where its head is, and where states are gathered; blocks may lie on others.
    """

    name: str
    model: Any
    tokenizer: Any
    anatomy: Anatomy
    device: torch.device

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers: layer l is the input of block l."""
        return tuple(str(index) for index in range(len(self.anatomy.blocks)))


def load_language_model(source: str, *, device: str = "cpu", trust_remote_code: bool = False) -> LanguageModel:
    """Load a causal language model in float32 and verify its anatomy.

    Parameters
    ----------
    source: "embedded" (the model shipped with the package), a directory in Hugging Face format, a
        ``.gguf`` file, or a hub id. Weights are read from safetensors or GGUF only; pickles are refused.
    device: torch device, or "auto": blocks are spread over all accelerators here (accelerate's ``device_map``).
    trust_remote_code: run model code from the source; off unless asked for.

    Raises
    ------
    SubjectError: nothing there, not a causal language model, or a decoder that cannot be verified.
    """
    path, options = _resolve(source)
    options["trust_remote_code"] = trust_remote_code
    options |= {"device_map": AUTO} if device == AUTO else {}
    tokenizer, model = _read_parts(source, path, options)
    model = (model if device == AUTO else model.to(device)).eval().requires_grad_(False)
    ids = tokenizer("The quick brown fox jumps over the lazy dog.", return_tensors="pt")["input_ids"]
    _check_ids(ids.max().item(), model.get_input_embeddings(), source)
    _check_memory(model, source)
    anatomy = find_anatomy(model, ids.to(model.get_input_embeddings().weight.device))
    return LanguageModel(Path(source).name, model, tokenizer, anatomy, anatomy.head.weight.device)


def _check_memory(model: Any, source: str) -> None:
    # Weights that found no place pass by when they are needed; the head is needed all the time.
    if any(parameter.is_meta for parameter in model.parameters()):
        raise SubjectError(
            f"{source!r} does not fit into the memory of the accelerators here: use more of them, or device cpu"
        )


def _read_parts(source: str, path: str, options: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # it would cut the sweep's own in two
    silent = redirect_stderr(StringIO()) if "gguf_file" in options else nullcontext()  # its bar has no switch
    weights = {"use_safetensors": None if "gguf_file" in options else True, "output_loading_info": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **{k: v for k, v in options.items() if k != "device_map"})
        with silent:
            model, info = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **weights, **options)
    except Exception as error:  # loaders raise whatever their parsers do
        raise SubjectError(f"cannot load {source!r} as a causal language model: {error}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    # transformers fills what a file lacks with random numbers and only logs it.
    if info["missing_keys"]:
        absent = sorted(info["missing_keys"])
        raise SubjectError(
            f"the weights of {source!r} lack {len(absent)} tensors of {type(model).__name__} ({absent[0]}, ...): "
            "they are incomplete or belong to another architecture; get them again"
        )
    return tokenizer, model


def _check_ids(largest: float, embedding: Any, source: str) -> None:
    known = embedding.weight.shape[0]
    if largest >= known:
        raise SubjectError(
            f"the tokenizer of {source!r} gives token {largest:.0f}, its model knows {known}: they do not belong "
            "together"
        )


def _resolve(source: str) -> tuple[str, dict[str, Any]]:
    if source == "embedded":
        return str(embedded.model_path()), {}
    path = Path(source)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise SubjectError(f"{source!r} is a directory without config.json: not a Hugging Face model")
        if not any(path.glob("*.safetensors")):
            raise SubjectError(
                f"{source!r} has no .safetensors weights; pickled weights are refused: convert them"
            )
        return str(path), {}
    if path.suffix == ".gguf":
        if not path.is_file():
            raise SubjectError(f"no GGUF file {source!r}")
        return str(path.parent), {"gguf_file": path.name}
    if path.is_absolute() or source.startswith(".") or source.count("/") != 1:
        raise SubjectError(
            f"no model at {source!r}: give a directory with config.json and safetensors, a .gguf file, a hub id "
            "like 'EleutherAI/pythia-160m', or 'embedded'"
        )
    return source, {}


def model_fingerprint(source: str) -> str:
    """sha256 over the files that define the model; for a hub id the id itself (hub revisions may move).

    Raises
    ------
    SubjectError: neither a model here nor something that can be a hub id.
    """
    _resolve(source)
    path = embedded.model_path() if source == "embedded" else Path(source)
    if not path.exists():
        return hashlib.sha256(source.encode()).hexdigest()
    if path.is_file():
        return files_hash([path])
    return files_hash(sorted(one for one in path.iterdir() if one.name.endswith(MODEL_FILES)))


@dataclass(frozen=True, slots=True)
class LanguageSource:
    """Where a language model is, and which of its layers a study uses.

    Attributes
    ----------
    source: as in :func:`load_language_model`.
    every: only every n-th layer, from the first on; layer distances stay those of the network.
    """

    source: str
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise DesignError(f"every={self.every}: 1 takes all layers, 2 every other layer")

    def record(self) -> dict[str, Any]:
        """Its part of the identity of a cell."""
        about = {"name": Path(self.source).name, "fingerprint": model_fingerprint(self.source)}
        return about if self.every == 1 else {**about, "every": self.every}

    def check(self) -> None:
        """Refuse a model whose configuration cannot be read, before anything is computed.

        Raises
        ------
        SubjectError: no model there, or a configuration that cannot be read.
        """
        from transformers import AutoConfig

        path, options = _resolve(self.source)
        try:
            AutoConfig.from_pretrained(path, trust_remote_code=False, **options)
        except Exception as error:  # loaders raise whatever their parsers do
            raise SubjectError(f"cannot read the configuration of {self.source!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class LanguageSubject:
    """A language model together with its documents; see :class:`transferstats.lens.states.Subject`.

    every: only every n-th layer is used, from the first on.
    """

    language_model: LanguageModel
    documents: Documents
    encoding: Encoding
    every: int = 1

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.language_model.name

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return self.language_model.layers[:: self.every]

    @property
    def unit(self) -> str:
        """Losses are means over scored tokens."""
        return "nats/token"

    @property
    def head(self) -> Head:
        """Verified decoder of the model."""
        return self.language_model.anatomy.head

    @property
    def units(self) -> tuple[str, ...]:
        """Document ids."""
        return self.documents.units

    @property
    def clusters(self) -> tuple[str, ...]:
        """Cluster of each document."""
        return self.documents.clusters

    def windows(self, index: int, max_rows: int | None = None) -> list[list[int]]:
        """Token windows of one document, each starting with BOS where the tokenizer has one."""
        tokenizer, encoding = self.language_model.tokenizer, self.encoding
        encoded = tokenizer(self.documents.texts[index], add_special_tokens=False, verbose=False)
        tokens = encoded["input_ids"][: encoding.max_tokens]
        if len(tokens) < encoding.min_tokens:
            raise DataError(
                f"document {self.units[index]!r} of {self.documents.name!r} has {len(tokens)} tokens, fewer than "
                f"{encoding.min_tokens}: remove it, or lower min_tokens"
            )
        _check_ids(max(tokens), self.language_model.model.get_input_embeddings(), self.name)
        first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        if max_rows is not None:
            tokens = tokens[: max(max_rows, LEAST_SCORED) + encoding.skip + 1 - len(first)]
        step = self._window_length() - len(first)
        pieces = [first + tokens[start : start + step] for start in range(0, len(tokens), step)]
        return [piece for piece in pieces if len(piece) > encoding.skip + LEAST_SCORED]

    def _window_length(self) -> int:
        limit = getattr(self.language_model.model.config.get_text_config(), "max_position_embeddings", None)
        return min(self.encoding.window, int(limit or self.encoding.window))

    def capture(self, indices: Sequence[int], *, max_rows: int | None = None) -> States:
        """States of some documents; at most ``max_rows`` scored positions each (rounded to whole windows)."""
        work = [(unit, window) for unit, i in enumerate(indices) for window in self.windows(int(i), max_rows)]
        batches = [self._forward(batch) for batch in _batches(work)]
        hidden, final, labels, unit = (
            torch.cat(parts, dim=dim) for parts, dim in zip(zip(*batches, strict=True), (1, 0, 0, 0), strict=True)
        )
        names = tuple(self.units[int(i)] for i in indices)
        return check_states(States(hidden, final, labels, unit, names))

    def _forward(self, batch: list[tuple[int, list[int]]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        model, anatomy = self.language_model.model, self.language_model.anatomy
        home = self.language_model.device
        ids = torch.tensor([window for _, window in batch])
        kept: dict[int, Tensor] = {}
        with ExitStack() as stack, torch.no_grad():
            for position, module in enumerate((*anatomy.blocks[:: self.every], anatomy.norm)):
                hook = _keep(kept, position)
                stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
            first = model.get_input_embeddings().weight.device
            model(input_ids=ids.to(first), use_cache=False, logits_to_keep=1)
        scored = slice(self.encoding.skip, ids.shape[1] - 1)
        rows = [
            kept[position][:, scored].reshape(-1, kept[position].shape[-1]).to(home, torch.float32)
            for position in range(len(kept))
        ]
        labels = ids[:, self.encoding.skip + 1 :].reshape(-1).to(home)
        unit = torch.tensor([unit for unit, _ in batch], device=home)
        unit = unit[:, None].expand(-1, ids.shape[1] - 1 - self.encoding.skip).reshape(-1)
        return torch.stack(rows[:-1]), rows[-1], labels, unit

    def log_prior(self, indices: Sequence[int]) -> Tensor:
        """(V,) add-one smoothed log unigram of the scored labels of some documents."""
        counts = torch.ones(self.head.n_outputs, dtype=torch.float64)
        for index in indices:
            for window in self.windows(int(index)):
                labels = torch.tensor(window[self.encoding.skip + 1 :])
                counts += torch.bincount(labels, minlength=len(counts))
        return (counts / counts.sum()).log().float().to(self.language_model.device)


def _batches(work: list[tuple[int, list[int]]]) -> list[list[tuple[int, list[int]]]]:
    """Windows of equal length share a batch, so that no padding reaches a state."""
    by_length: dict[int, list[tuple[int, list[int]]]] = {}
    for item in work:
        by_length.setdefault(len(item[1]), []).append(item)
    batches = []
    for length, items in sorted(by_length.items()):
        size = max(1, BATCH_TOKENS // length)
        batches += [items[start : start + size] for start in range(0, len(items), size)]
    return batches


def _keep(kept: dict[int, Tensor], position: int) -> Any:
    def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept[position] = state_argument(args, kwargs)

    return hook
