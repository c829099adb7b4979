"""Train the embedded language model and export it into the package.

    nice -n 5 python analyses/studies/embedded/train.py [--resume]

Reads the corpora of collect.py. Stops and resumes at any checkpoint with the same result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from embedded_model import (
    BOS,
    DOMAINS,
    WINDOW,
    build_model,
    encode,
    export,
    held_out_loss,
    learning_rate,
    loss_of,
    read_texts,
    train_tokenizer,
    unigram_losses,
    windows,
)
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[3]
CHECKPOINT_SECONDS = 180.0


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result."""

    tokens: int = 20_000_000
    batch: int = 16
    peak: float = 2.5e-3
    weight_decay: float = 0.1
    beta2: float = 0.98
    clip: float = 1.0
    seed: int = 20240917
    bf16: bool = True
    threads: int = 1


@dataclass(frozen=True)
class Data:
    """Windows of every domain."""

    training: dict[str, np.ndarray]
    held_out: dict[str, np.ndarray]


def load_tokenizer(corpus: Path, folder: Path) -> Tokenizer:
    """The run's tokenizer, trained on the first call."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        train_tokenizer(corpus).save(str(path))
    return Tokenizer.from_file(str(path))


def load_data(corpus: Path, tokenizer: Tokenizer) -> Data:
    """Encode and cut all corpora."""
    bos = tokenizer.token_to_id(BOS)
    if bos is None:
        raise ValueError(f"the tokenizer has no {BOS}")
    parts: dict[str, dict[str, np.ndarray]] = {"training": {}, "held_out": {}}
    for use, found in parts.items():
        for domain in DOMAINS:
            texts = read_texts(corpus / f"{domain}.{use}.jsonl")
            found[domain] = windows(encode(tokenizer, texts), bos)
    return Data(parts["training"], parts["held_out"])


def batch_rows(data: Data, step: int, settings: Settings) -> np.ndarray:
    """Rows of one step, the same whenever it is asked for: each domain gives a quarter, and walks
    through a new permutation of all its windows in every pass."""
    share = settings.batch // len(DOMAINS)
    rows = []
    for index, domain in enumerate(DOMAINS):
        table = data.training[domain]
        for position in range(step * share, (step + 1) * share):
            turn, place = divmod(position, len(table))
            rows.append(table[_order(settings.seed, index, turn, len(table))[place]])
    return np.stack(rows)


_ORDERS: dict[tuple[int, int, int], np.ndarray] = {}


def _order(seed: int, domain: int, turn: int, size: int) -> np.ndarray:
    key = (seed, domain, turn)
    if key not in _ORDERS:
        _ORDERS[key] = np.random.default_rng(key).permutation(size)
    return _ORDERS[key]


def optimiser(model: torch.nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW that decays matrices only."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.peak, betas=(0.9, settings.beta2))


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """A killed run leaves the previous checkpoint, never half of one."""
    temporary = path.with_suffix(".partial")
    with temporary.open("wb") as handle:
        torch.save(state, handle)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


class Run:
    """One training run: state, its checkpoint, and a log line now and then."""

    def __init__(self, settings: Settings, data: Data, folder: Path) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.data, self.path = settings, data, folder / "checkpoint.pt"
        self.model = build_model()
        self.optimiser = optimiser(self.model, settings)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.per_domain = dict.fromkeys(DOMAINS, 0)

    def resume(self) -> None:
        """Continue from the checkpoint, which must be of the same settings."""
        state = torch.load(self.path, weights_only=True)
        if state["settings"] != asdict(self.settings):
            raise ValueError(f"checkpoint was made with other settings: {state['settings']}")
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.tokens = state["step"], state["tokens"]
        self.seconds, self.per_domain = state["seconds"], state["per_domain"]

    def save(self) -> None:
        """Write the checkpoint."""
        state = {name: getattr(self, name) for name in ("step", "tokens", "seconds", "per_domain")}
        state |= {"settings": asdict(self.settings), "model": self.model.state_dict()}
        save_atomically(state | {"optimiser": self.optimiser.state_dict()}, self.path)

    def advance(self) -> float:
        """One optimiser step; returns its loss."""
        rows = batch_rows(self.data, self.step, self.settings)
        rate = learning_rate(self.tokens / self.settings.tokens, self.settings.peak)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.bf16):
            loss = loss_of(self.model, torch.from_numpy(rows.astype(np.int64)))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        share = self.settings.batch // len(DOMAINS)
        for index, domain in enumerate(DOMAINS):
            part = rows[index * share : (index + 1) * share, 1:]
            self.per_domain[domain] += int((part >= 0).sum())
        self.step, self.tokens = self.step + 1, sum(self.per_domain.values())
        return float(loss.detach())

    def train(self, until: int) -> None:
        """Train until so many tokens have been predicted."""
        self.model.train()
        begun, before, saved, recent = time.time(), self.seconds, time.time(), []
        first = self.tokens
        while self.tokens < until:
            recent.append(self.advance())
            self.seconds = before + time.time() - begun
            if self.step % 50 == 0:
                speed = (self.tokens - first) / (time.time() - begun)
                left = (self.settings.tokens - self.tokens) / speed / 60
                loss = sum(recent) / len(recent)
                print(
                    f"step {self.step} tokens {self.tokens} loss {loss:.4f} "
                    f"{speed:.0f} tokens/s ETA {left:.1f} min",
                    flush=True,
                )
                recent = []
            if time.time() - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.time()
        self.save()


def record(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the exported weights, read back in fp32, on the held-out text."""
    exported = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    per_domain = {}
    for domain in DOMAINS:
        loss, count = held_out_loss(exported, run.data.held_out[domain])
        cross, entropy = unigram_losses(run.data.training[domain], run.data.held_out[domain])
        per_domain[domain] = {
            "training_tokens": run.per_domain[domain],
            "training_windows": len(run.data.training[domain]),
            "held_out_tokens": count,
            "cross_entropy": round(loss, 4),
            "unigram_cross_entropy": round(cross, 4),
            "unigram_entropy": round(entropy, 4),
            "difference": round(cross - loss, 4),
        }
        print(domain, json.dumps(per_domain[domain]), flush=True)
    return {
        "training_tokens": run.tokens,
        "steps": run.step,
        "parameters": sum(p.numel() for p in exported.parameters()),
        "units": "nats per token; exported fp16 weights evaluated in fp32",
        "domains": per_domain,
        "settings": asdict(run.settings) | {"window": WINDOW, "optimiser": "AdamW"},
        "wall_seconds": round(run.seconds),
        "tokens_per_second": round(run.tokens / run.seconds),
        "hardware": "Intel Xeon with AMX, shared; CPU only, "
        f"{run.settings.threads} thread(s), bf16 autocast, fp32 master weights",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "command": "python analyses/studies/embedded/train.py",
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, default=ROOT / "runs/embedded/corpus")
    parser.add_argument("--run", type=Path, default=ROOT / "runs/embedded/run")
    parser.add_argument("--out", type=Path, default=ROOT / "transferstats/embedded/model")
    parser.add_argument("--tokens", type=int, default=Settings.tokens)
    parser.add_argument("--peak", type=float, default=Settings.peak)
    parser.add_argument("--stop-at", type=int, help="stop early, for a trial of the settings")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    settings = Settings(tokens=arguments.tokens, peak=arguments.peak)
    torch.set_num_threads(settings.threads)
    arguments.run.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(arguments.corpus, arguments.run)
    data = load_data(arguments.corpus, tokenizer)
    for domain in DOMAINS:
        print(domain, len(data.training[domain]), len(data.held_out[domain]), "windows", flush=True)
    run = Run(settings, data, arguments.run)
    if arguments.resume:
        run.resume()
    early = min(arguments.stop_at or settings.tokens, settings.tokens // 10)
    for until in (early, arguments.stop_at or settings.tokens):
        run.train(until)
        export(run.model, tokenizer, arguments.out)
        if until == early:
            print("early export", flush=True)
    result = record(run, arguments.out)
    (arguments.out / "training.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
