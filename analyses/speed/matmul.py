"""Share of the machine's own matrix-product rate that scoring and training reach, as V, d, L and rows grow.

python analyses/speed/matmul.py --device cuda     writes reports/speed/matmul_cuda.md; without --device: cpu
python analyses/speed/matmul.py --quick           one small case; writes into runs/speed_quick

States, head and targets are random: rates do not depend on their values. The rate of the machine is that of one
product of the shape of a chunk, in the same precision and the same run. FLOP counted are those of the floors:
2 d V a row for scoring, 4 d V + 4 d^2 a row and lens for a kl step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from pages import filled, machine_text, out_folder, table
from peer_contenders import Clock, Setting

from transferstats.lens.descent import Problem
from transferstats.lens.fit import begun, ridge_start
from transferstats.lens.head import Head, final_targets
from transferstats.lens.plan import FitPlan
from transferstats.lens.sample import Sample
from transferstats.lens.states import States
from transferstats.lens.stream import KeptRows
from transferstats.lens.transfer import readout_losses
from transferstats.lens.translator import Translators, moments

STEPS, ROUNDS = 8, 3


class Case(NamedTuple):
    """Vocabulary V, width d, layers L, rows n, and precision of the gradients."""

    outputs: int
    width: int
    layers: int = 4
    rows: int = 4096
    precision: str = "float32"


CASES: tuple[Case, ...] = (
    Case(2048, 128),
    Case(2048, 128, rows=16384),
    Case(2048, 128, layers=16),
    Case(2048, 128, precision="bfloat16"),
    Case(8192, 256),
    Case(32768, 256),
    Case(8192, 768),
    Case(49152, 576, rows=1024),
    Case(49152, 576, rows=1024, precision="bfloat16"),
)
QUICK: tuple[Case, ...] = (Case(512, 64, 2, 512),)


def timed(action: Callable[[], object], device: torch.device) -> float:
    """Median seconds of some rounds; the first, which allocates, does not count."""
    found = []
    for _ in range(ROUNDS + 1):
        _wait(device)
        began = time.perf_counter()
        action()
        _wait(device)
        found.append(time.perf_counter() - began)
    return float(np.median(found[1:]))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(head: Head, case: Case, precision: str) -> float:
    """FLOP/s of products of a chunk with the head."""
    chunk = next(head.chunks(case.rows))
    weight = head.weight.to(getattr(torch, precision))
    x = torch.randn(chunk.stop, case.width, device=weight.device).to(weight)
    repeats = max(1, 2**33 // (2 * chunk.stop * case.outputs * case.width))

    def products() -> None:
        for _ in range(repeats):
            x @ weight.T

    return repeats * 2 * chunk.stop * case.outputs * case.width / timed(products, weight.device)


def measure(case: Case, device: torch.device) -> dict[str, object]:
    """Shares of one case."""
    draw = torch.Generator().manual_seed(0)
    final = torch.randn(case.rows, case.width, generator=draw).to(device)
    hidden = final + torch.randn(case.layers, case.rows, case.width, generator=draw).to(device)
    weight = torch.randn(case.outputs, case.width, generator=draw).to(device) / case.width**0.5
    head = Head(torch.nn.Identity(), weight, torch.zeros(case.outputs, device=device))
    labels = torch.zeros(case.rows, dtype=torch.int64, device=device)
    targets = final_targets(head, final, labels)
    states = States(hidden, final, labels, torch.zeros_like(labels), ("all",))
    sample = Sample(hidden, final[None], (targets,))
    lenses = Translators.identity(case.layers, case.width, device)
    clock = Clock()
    scoring = timed(lambda: readout_losses(head, lenses.map(0), hidden[0], states, targets), device)
    plan = replace(FitPlan(), precision=case.precision, strengths=(0.1,))
    stats = moments(hidden, final[None])
    problem = Problem(head, sample, sample, stats, lenses, plan)
    start = ridge_start(problem)
    descent, batches = begun(problem, start, draw), KeptRows(sample).batches(plan.batch, draw)

    def train() -> None:
        for _ in range(STEPS):
            descent.take(next(batches))

    training = timed(train, device)
    evaluated = 2 * case.width * case.outputs * case.rows / scoring
    trained = STEPS * plan.batch * case.layers * 4 * case.width * (case.outputs + case.width) / training
    return {
        **case._asdict(),
        "scoring_share": evaluated / rate(head, case, "float32"),
        "training_share": trained / rate(head, case, case.precision),
        "gflop_s": rate(head, case, case.precision) / 1e9,
        "memory_mib": clock.memory(),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--quick", action="store_true", help="one small case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    found = pd.DataFrame([measure(case, device) for case in (QUICK if options.quick else CASES)])
    about = filled(
        machine_text(["torch"], Setting().threads, options.device),
        """*gflop_s* is the machine's rate for a chunk at the precision of the gradients; targets on an accelerator
        are 0.6 for scoring and 0.45 for training. Scoring is always float32. *memory_mib* is the peak beyond
        states, head and targets.""",
    )
    text = f"""# Share of the matrix-product rate, {device.type}

Written by `analyses/speed/matmul.py`; nothing here is written by hand.

{about}

{table(found)}
"""
    out = out_folder(options.quick)
    (out / f"matmul_{device.type}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
