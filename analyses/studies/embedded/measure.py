"""Add to the training record what the exported model does on the shipped documents.

python analyses/studies/embedded/measure.py
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedded_model import CONTEXT, DOMAINS, WINDOW, encode, held_out_loss, windows
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

EMBEDDED = Path(__file__).resolve().parents[3] / "transferstats" / "embedded"
LONG_DOCUMENTS = 60  # per domain, for the loss beyond the window of training


def shipped_texts(domain: str) -> list[str]:
    """Texts of one domain's shipped documents."""
    with gzip.open(EMBEDDED / "documents" / f"{domain}.jsonl.gz", "rt", encoding="utf-8") as handle:
        return [json.loads(line)["text"] for line in handle]


@torch.no_grad()
def loss_beyond(model: Any, ids: list[np.ndarray], bos: int) -> tuple[float, float]:
    """Loss in the second half of the training window, and from its end to the last position."""
    long = [one[: CONTEXT - 1] for one in ids if len(one) >= CONTEXT - 1][:LONG_DOCUMENTS]
    rows = torch.from_numpy(np.stack([np.concatenate([[bos], one]) for one in long]).astype(np.int64))
    logits = model(rows[:, :-1]).logits.transpose(1, 2)
    losses = torch.nn.functional.cross_entropy(logits, rows[:, 1:], reduction="none").mean(0)
    half = WINDOW // 2
    return float(losses[half : WINDOW - 1].mean()), float(losses[WINDOW - 1 :].mean())


def main() -> None:
    """Measure all domains and rewrite training.json."""
    torch.set_num_threads(1)
    folder = EMBEDDED / "model"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    bos = tokenizer.token_to_id("<s>")
    if bos is None:
        raise ValueError("the tokenizer has no <s>")
    path = folder / "training.json"
    record = json.loads(path.read_text())
    record["shipped_documents"] = {}
    for domain in DOMAINS:
        ids = encode(tokenizer, shipped_texts(domain))
        loss, count = held_out_loss(model, windows(ids, bos))
        inside, beyond = loss_beyond(model, ids, bos)
        record["shipped_documents"][domain] = {
            "cross_entropy": round(loss, 4),
            "tokens": count,
            "shortest_document_tokens": min(map(len, ids)),
            "second_half_of_window": round(inside, 4),
            "positions_beyond_window": round(beyond, 4),
        }
        print(domain, json.dumps(record["shipped_documents"][domain]), flush=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
