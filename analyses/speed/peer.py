"""Lenses and transfer matrices, side by side with the loops of tuned-lens 0.2.0 themselves.

python analyses/speed/peer.py             the measurement; writes reports/speed/peer.md and peer.csv
python analyses/speed/peer.py --quick     minutes; less of everything, to see that it works; writes into runs

Needs ``pip install --no-deps tuned-lens==0.2.0 simple-parsing docstring-parser`` beside this package. The peer's
command line no longer starts with current libraries, but its ``Train.execute`` and ``Eval.execute`` do, and they
run here unchanged, with its own optimiser settings, schedule and losses; see peer_contenders.py for what is
replaced.

Same model, same windows of tokens, same machine, same number of threads; every contender in a process of its own,
so that its peak memory is its own. Held-out kl is measured by one function for both, outside the clock.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pages import filled, machine_text, out_folder, table
from peer_contenders import CONTENDERS, EQUAL, MICRO_BATCH, QUICK, WINDOW, Setting

TARGET_TRAIN, TARGET_EVAL = 10.0, 4.0
"""How many times faster than the peer lenses and transfer matrices should be."""


def contend(name: str, setting: Setting, folder: Path) -> dict[str, Any]:
    """One contender in a process of its own; the figures that it prints."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    script = Path(__file__).with_name("peer_contenders.py")
    done = subprocess.run(
        [sys.executable, str(script), name, json.dumps(asdict(setting)), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed, see above")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def reached(curve: list[dict[str, float]], kl: float) -> dict[str, float] | None:
    """The quickest point of a curve whose held-out kl is no higher."""
    good = [point for point in curve if point["kl"] <= kl]
    return min(good, key=lambda point: point["seconds"]) if good else None


def at_time(curve: list[dict[str, float]], seconds: float, before: float) -> float:
    """Held-out kl of the last point that was reached in time; ``before`` where none was."""
    return min(
        ((point["seconds"], point["kl"]) for point in curve if point["seconds"] <= seconds),
        key=lambda pair: -pair[0],
        default=(0.0, before),
    )[1]


def verdict(ratio: float, target: float) -> str:
    """In words."""
    return f"{ratio:.1f} times as fast (target {target:.0f}: {'met' if ratio >= target else 'not met'})"


def training_text(peer: dict[str, Any], ours: dict[str, Any]) -> str:
    """What the curves say."""
    last, whole = peer["curve"][-1], ours["curve"][-1]
    first = reached(ours["curve"], last["kl"])
    equal = at_time(peer["curve"], whole["seconds"], peer["logit_lens"])
    there = "**No fit here reached it.**"
    if first is not None:
        ratio = verdict(last["seconds"] / first["seconds"], TARGET_TRAIN)
        there = f"""A fit here is there after {first["seconds"]:.1f} s and {first["steps"]:.0f} kl steps behind the
        ridge start: **{ratio}**."""
    return filled(
        f"""The peer's recipe takes {last["seconds"]:.1f} s for {last["steps"]:.0f} steps and reaches a
        held-out kl of {last["kl"]:.4f} nats/token, the mean over layers; the logit lens, where it starts,
        has {peer["logit_lens"]:.4f}. {there}""",
        f"""At equal time: the longest fit here takes {whole["seconds"]:.1f} s and reaches
        {whole["kl"]:.4f}; the peer is then at {equal:.4f}.""",
        f"""Peak memory beyond the loaded model: {ours["memory"]:.0f} MiB here, where all states are held,
        and {peer["memory"]:.0f} MiB there.""",
    )


def scoring_text(peer: dict[str, Any], ours: dict[str, Any]) -> str:
    """What the matrices say."""
    gap = float(np.abs(np.array(peer["ce"]) - np.array(ours["ce"])).max())
    exact = "within" if ours["float64_gap"] <= EQUAL else "NOT within"
    return filled(
        f"""{ours["tokens"]:,} tokens, all pairs of layers, the lenses that the peer trained, forward passes
        included: {peer["seconds"]:.1f} s there, {ours["seconds"]:.1f} s here,
        **{verdict(peer["seconds"] / ours["seconds"], TARGET_EVAL)}**. Ours gives kl and ce for every
        document; the peer's gives ce, and another kl, for every batch.""",
        f"""The two matrices of mean ce differ by at most {gap:.1e} nats; mean penalties here are {exact}
        {EQUAL:g} of float64 with full logits (largest difference {ours["float64_gap"]:.1e}).""",
        f"""Peak memory beyond the loaded model: {ours["memory"]:.0f} MiB here, {peer["memory"]:.0f} MiB
        there.""",
    )


def setting_text(setting: Setting, tokens: int, quick: bool) -> str:
    """What was run, and on what."""
    caveat = ["**Quick: far fewer steps and documents than the recipe asks for. These figures are no result.**"]
    return filled(
        machine_text(["torch"], setting.threads, setting.device),
        *(caveat if quick else []),
        f"""Subject {setting.subject!r}, domain {setting.domain!r}, {tokens:,} training tokens in windows of
        {WINDOW}. The peer takes {setting.steps} steps of {setting.tokens:,} tokens, {MICRO_BATCH} windows
        at once, with its own optimiser (SGD, Nesterov 0.9, rate 0.1 falling to 0, weight decay 0.001,
        gradients of all lenses clipped together) in its own precision (bfloat16 by autocast). Its published
        recipe has 262,144 tokens a step, which would take {2**18 / setting.tokens:.0f} times as long.""",
    )


def write(found: dict[str, dict[str, Any]], setting: Setting, quick: bool) -> None:
    """The report and its numbers."""
    rows = [
        {"contender": name, "part": "training", **point}
        for name, key in (("tuned-lens 0.2.0", "train_peer"), ("transferstats", "train_ours"))
        for point in found[key]["curve"]
    ]
    rows += [
        {"contender": name, "part": "transfer", "seconds": found[key]["seconds"], "memory": found[key]["memory"]}
        for name, key in (("tuned-lens 0.2.0", "score_peer"), ("transferstats", "score_ours"))
    ]
    frame = pd.DataFrame(rows)
    out = out_folder(quick)
    frame.to_csv(out / "peer.csv", index=False)
    curves = frame[frame["part"] == "training"].drop(columns=["part", "memory"])
    text = f"""# Lenses and transfer matrices, side by side with tuned-lens 0.2.0

Written by `analyses/speed/peer.py{" --quick" if quick else ""}`; nothing here is written by hand.

{setting_text(setting, found["train_peer"]["train_tokens"], quick)}

## Training

{training_text(found["train_peer"], found["train_ours"])}

{table(curves)}

Every row of ours is a fit from the start that ends after so many steps (0: ridge only), forward passes included.

## Transfer matrix

{scoring_text(found["score_peer"], found["score_ours"])}
"""
    (out / "peer.md").write_text(text, encoding="utf-8")
    print(text)


def main() -> None:
    """Run all contenders, one after the other, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--subject", help="another model: a directory, a .gguf file or a hub id")
    parser.add_argument("--steps", type=int, help="steps of the peer's recipe (its own default: 250)")
    parser.add_argument("--tokens", type=int, help="tokens a step (its own default: 262144)")
    parser.add_argument("--device", help="torch device; the peer takes an accelerator where it sees one")
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in ("subject", "steps", "tokens", "device")}
    base = QUICK if arguments.quick else Setting()
    setting = Setting(**{**asdict(base), **{name: value for name, value in given.items() if value is not None}})
    with tempfile.TemporaryDirectory() as folder:
        found = {name: contend(name, setting, Path(folder)) for name in CONTENDERS}
    write(found, setting, arguments.quick)


if __name__ == "__main__":
    main()
