"""1. Train lenses on several disjoint folds of documents and score every lens on every layer.

python analyses/01_fit.py                                     the shipped model, two shipped domains
python analyses/01_fit.py runs/mine --subject DIR --dataset docs.jsonl --dataset notes/

Every later step reads the store that this one fills. Finished cells are kept: after an interruption, run it again.
`transferstats sweep` does the same with cells side by side.
"""

import argparse

import transferstats as ts

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("store", nargs="?", default="runs/embedded", help="folder of finished cells")
parser.add_argument("--subject", default="embedded", help="directory, .gguf file or hub id of a language model")
parser.add_argument("--dataset", action="append", help="domain, .jsonl file or folder of .txt files; repeatable")
parser.add_argument("--seeds", type=int, default=5, help="lens trainings, each on its own documents")
parser.add_argument("--null-replicates", type=int, default=5, help="runs where one lens is right for every layer")
parser.add_argument("--units", type=int, default=100, help="documents on which lenses are scored")
parser.add_argument("--unit-tokens", type=int, default=96, help="tokens scored of each document")
parser.add_argument("--max-steps", type=int, default=1024, help="most training steps of a lens")
options = parser.parse_args()

cells = ts.cells(
    options.subject,
    options.dataset or ["python", "kjv"],
    seeds=options.seeds,
    null_replicates=options.null_replicates,
    fit=ts.FitPlan(max_steps=options.max_steps),
    evaluation=ts.EvaluationPlan(units=options.units, tokens=options.unit_tokens),
)
outcome = ts.sweep(cells, options.store)
for failure in outcome.failures:
    print(f"failed: {failure.label}: {failure.reason}")
print(f"{len(outcome.computed)} cells computed, {len(outcome.reused)} reused, in {options.store}")

# Later numbers mean little before the lenses have converged. Means over seeds: held-out kl, its fall over the last
# doubling of steps, and the share of lenses that count as converged.
certificates = ts.read_grid(options.store).certificates
own = certificates[(certificates["readout"] == "own") & (certificates["world"] == "observed")]
print(own.groupby(["dataset", "layer"], sort=False)[["held_out_kl", "change", "converged"]].mean().to_string())
