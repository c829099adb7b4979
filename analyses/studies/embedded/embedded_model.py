"""Tokenizer, windows and evaluation of the embedded model: what train.py is made of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

DOMAINS = ("python", "docstrings", "kjv", "shakespeare")
VOCABULARY = 2048
CONTEXT = 512
WINDOW = 256  # tokens of a training sequence, the first of them BOS
BOS = "<s>"
IGNORED = -100
TOKENIZER_CHARACTERS = 2_000_000  # per domain, so that no domain owns the vocabulary


def read_texts(path: Path) -> list[str]:
    """Texts of a corpus file that collect.py wrote."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing: run collect.py first")
    with path.open(encoding="utf-8") as handle:
        return [json.loads(line)["text"] for line in handle]


def train_tokenizer(corpus: Path) -> Tokenizer:
    """Byte-level BPE of exactly 2048 tokens that puts BOS first by itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_balanced(corpus), trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"vocabulary has {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    return tokenizer


def _balanced(corpus: Path) -> Iterator[str]:
    for domain in DOMAINS:
        total = 0
        for text in read_texts(corpus / f"{domain}.training.jsonl"):
            if total >= TOKENIZER_CHARACTERS:
                break
            total += len(text)
            yield text


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    """Token ids of each text without BOS; windows add their own."""
    ids: list[np.ndarray] = []
    for start in range(0, len(texts), 256):
        batch = tokenizer.encode_batch(texts[start : start + 256], add_special_tokens=False)
        ids += [np.array(e.ids, dtype=np.int16) for e in batch]
    return ids


def windows(documents: list[np.ndarray], bos: int, shortest: int = 64) -> np.ndarray:
    """Rows of BOS and 255 tokens of one document; a tail is padded with -1, a short one dropped."""
    step = WINDOW - 1
    rows = []
    for tokens in documents:
        for start in range(0, len(tokens), step):
            piece = tokens[start : start + step]
            if len(piece) < shortest:
                continue
            row = np.full(WINDOW, -1, dtype=np.int16)
            row[0] = bos
            row[1 : 1 + len(piece)] = piece
            rows.append(row)
    return np.stack(rows)


def build_model() -> LlamaForCausalLM:
    """Eight Llama blocks of width 128 with tied embeddings: about two million parameters."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=8,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=None,
            pad_token_id=None,
        )
    )


def loss_of(model: LlamaForCausalLM, rows: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Cross-entropy of every token after the first of its row; padding (-1) does not count."""
    targets = rows[:, 1:].masked_fill(rows[:, 1:] < 0, IGNORED)
    logits = model(rows[:, :-1].clamp(min=0), use_cache=False).logits.float()
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction=reduction
    )


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, rows: np.ndarray, batch: int = 32) -> tuple[float, int]:
    """Mean cross-entropy in nats per token, and the number of tokens it is over."""
    model.eval()
    total, count = 0.0, int((rows[:, 1:] >= 0).sum())
    for start in range(0, len(rows), batch):
        chunk = torch.from_numpy(rows[start : start + batch].astype(np.int64))
        total += float(loss_of(model, chunk, "sum"))
    return total / count, count


def counts(rows: np.ndarray) -> np.ndarray:
    """How often each token is predicted in some windows."""
    targets = rows[:, 1:]
    return np.bincount(targets[targets >= 0], minlength=VOCABULARY).astype(np.float64)


def unigram_losses(training: np.ndarray, held_out: np.ndarray) -> tuple[float, float]:
    """Cross-entropy of held-out tokens under the training unigram (one added to every count, so
    that an unseen token stays finite), and the held-out tokens' own entropy."""
    seen, new = counts(training) + 1.0, counts(held_out)
    share = new / new.sum()
    cross = -float(share @ np.log(seen / seen.sum()))
    present = share[share > 0]
    return cross, -float(present @ np.log(present))


def learning_rate(done: float, peak: float, warmup: float = 0.02, floor: float = 0.02) -> float:
    """Linear warm-up over 2 % of the tokens, then a cosine down to 2 % of the peak."""
    if done < warmup:
        return peak * (done + 1e-4) / warmup
    progress = min(1.0, (done - warmup) / (1.0 - warmup))
    return peak * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress)))


def export(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write model and tokenizer in Hugging Face layout, weights as fp16, nothing machine-bound."""
    folder.mkdir(parents=True, exist_ok=True)
    half = build_model()
    half.load_state_dict(model.state_dict())
    half.to(torch.float16).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, model_max_length=CONTEXT)
    fast.save_pretrained(folder)
    _edit(folder / "config.json", drop="_name_or_path")
    # Version 5 of transformers writes a class name that version 4 does not know; both know this.
    _edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", drop="backend")
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "model.safetensors").chmod(0o644)


def _edit(path: Path, drop: str, **changes: str) -> None:
    content = json.loads(path.read_text()) | changes
    content.pop(drop, None)
    path.write_text(json.dumps(content, indent=2) + "\n")
