"""How exact losses are: float32 as the package computes them, and bfloat16 as it does not, against float64.

python analyses/speed/precision.py     writes reports/speed/precision.md

Lenses are ridge lenses of the shipped model. Bounds are those of the package: mean penalties within 1e-4 nats of
float64, losses of single documents within 1e-3.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from pages import filled, machine_text, out_folder, table
from peer_contenders import Setting, load, penalty
from torch import Tensor

from transferstats.arrays import FloatArray
from transferstats.lens.descent import Problem
from transferstats.lens.fit import ridge_start
from transferstats.lens.head import Head
from transferstats.lens.plan import FitPlan
from transferstats.lens.states import States
from transferstats.lens.study import sample_of
from transferstats.lens.transfer import transfer_losses
from transferstats.lens.translator import Translators, moments

MEAN, UNIT = 1e-4, 1e-3  # nats: bounds of a mean penalty and of the loss of a document
WINDOWS = 16
Logits = Callable[[Head, Tensor], Tensor]


def float64(head: Head, x: Tensor) -> Tensor:
    """Logits in float64."""
    return x.double() @ head.weight.double().T + head.bias.double()


def bfloat16(head: Head, x: Tensor) -> Tensor:
    """Logits of a product in bfloat16."""
    return (x.bfloat16() @ head.weight.bfloat16().T).double() + head.bias.double()


def naive(head: Head, lenses: Translators, states: States, logits: Logits) -> FloatArray:
    """Kl (units, source, target) from full distributions in float64; only the logits differ."""
    depth, units = states.n_layers, len(states.units)
    found = np.zeros((units, depth, depth))
    with torch.no_grad():
        log_p = torch.log_softmax(logits(head, head.norm(states.final)), -1)
        for source in range(depth):
            for target in range(depth):
                x = head.norm(lenses.map(source).apply(states.hidden[target][None])[0])
                log_q = torch.log_softmax(logits(head, x), -1)
                kl = (log_p.exp() * (log_p - log_q)).sum(-1)
                found[:, source, target] = kl.reshape(units, -1).mean(1).numpy()
    return found


def errors(found: FloatArray, exact: FloatArray) -> dict[str, float]:
    """Largest differences of mean penalties and of losses of single documents."""
    return {
        "mean_penalty": float(np.abs(penalty(found.mean(0)) - penalty(exact.mean(0))).max()),
        "loss_of_a_document": float(np.abs(found - exact).max()),
    }


def main() -> None:
    """Measure and write."""
    setting = Setting(scored=WINDOWS)
    work = load(setting, skip=1)
    head, train, held_out = work.subject.head, work.sample(work.train), work.sample(work.held_out)
    stats = moments(train.hidden, train.final)
    lenses = ridge_start(Problem(head, train, held_out, stats, work.identity(), FitPlan())).lenses
    states = work.subject.states(work.scored)
    exact = naive(head, lenses, states, float64)
    ours = transfer_losses(head, lenses, states, sample_of(work.subject, states).targets).kl
    rows = [
        {"precision": "float32, as computed here", **errors(ours, exact)},
        {"precision": "bfloat16 products", **errors(naive(head, lenses, states, bfloat16), exact)},
    ]
    frame = pd.DataFrame(rows)
    frame["within_bounds"] = (frame["mean_penalty"] <= MEAN) & (frame["loss_of_a_document"] <= UNIT)
    about = filled(
        machine_text(["torch"], setting.threads, setting.device),
        f"""Largest absolute differences from float64 with full distributions, nats/token, over all pairs of layers
        and {len(states.units)} windows of {states.n_rows // len(states.units)} tokens; bounds {MEAN:g} and
        {UNIT:g}.""",
    )
    text = f"""# Precision of losses

Written by `analyses/speed/precision.py`; nothing here is written by hand.

{about}

{table(frame)}
"""
    (out_folder(quick=False) / "precision.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
