"""Write tuned_lens/: what the evaluation of tuned-lens 0.2.0 itself writes, for the tests of its reader.

Needs ``pip install tuned-lens==0.2.0`` beside this package; its own ``Eval.execute`` runs here, on the small
model that ships with transferstats and two lenses with random weights (two "training runs"). Only the parts
that load data from a hub and spread work over machines are replaced, because they write nothing.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

import transferstats
from transferstats.embedded import model_path
from transferstats.lens.documents import read_documents

HERE = Path(__file__).parent
BATCHES, TOKENS, LAYERS = 6, 48, 8

ingredients = ModuleType("tuned_lens.scripts.ingredients")
ingredients.__dict__.update(Data=object, Model=object, Distributed=object)
sys.modules["tuned_lens.scripts.ingredients"] = ingredients

from tuned_lens.nn.lenses import LogitLens, TunedLens  # noqa: E402
from tuned_lens.scripts.eval_loop import Eval  # noqa: E402


class Batches(list[dict[str, torch.Tensor]]):
    """One sequence a batch, in an order that a seed cannot change."""

    def seed(self, value: int) -> None:
        """As the loader of the package has it."""


def load_model() -> tuple[Any, Any]:
    """The shipped model and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(model_path()).float().eval(), AutoTokenizer.from_pretrained(
        model_path()
    )


def lenses_of(model: Any, run: int) -> dict[str, Any]:
    """A tuned lens with small random weights and the logit lens."""
    tuned = TunedLens.from_model(model)
    generator = torch.Generator().manual_seed(run)
    with torch.no_grad():
        for parameter in tuned.layer_translators.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return {"logit": LogitLens.from_model(model), "tuned": tuned}


def main() -> None:
    """Evaluate two runs of lenses."""
    model, tokenizer = load_model()
    text = "".join(read_documents("kjv").texts[:12])
    ids = tokenizer(text, return_tensors="pt")["input_ids"][0][: BATCHES * TOKENS]
    size = len(tokenizer.decode(ids).encode())
    batches = Batches({"input_ids": part[None]} for part in ids.split(TOKENS))
    machine = SimpleNamespace(
        init=lambda: None, barrier=lambda: None, primary=True, fsdp=False, world_size=1, rank=0,
        device=torch.device("cpu"), shard_model=lambda one: one, data_loader=lambda _: batches,
        send_to_device=lambda one: one,
    )  # fmt: skip
    for run in range(2):
        job = Eval(
            data=SimpleNamespace(load=lambda _: (batches, len(ids) / size / math.log(2))),
            model=SimpleNamespace(load=lambda *_, **__: (model, tokenizer)),
            dist=machine, output=HERE / "tuned_lens" / f"run_{run}", lens_types=["logit", "tuned"],
            layer_transfer=True,
        )  # fmt: skip
        job.load_lens = lambda _, run=run: lenses_of(model, run)
        job.execute()
    (HERE / "tuned_lens" / "bytes_per_token.txt").write_text(f"{size / len(ids)!r}\n", encoding="utf-8")
    print(f"transferstats {transferstats.__version__}, {len(ids)} tokens, {size} bytes")


if __name__ == "__main__":
    main()
