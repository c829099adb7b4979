"""Command line: each verb is one public call. Numbers go to standard output, progress to standard error."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np

import transferstats
from transferstats.engine import Cell, Store, SweepReport, cell_states, local_manager, local_pool, sweep
from transferstats.errors import DataError, DesignError, TransferstatsError

OK, FINDINGS, USAGE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 3, 130

SOURCE = (
    "folder of a store; a long .csv/.tsv/.parquet table; aggregate_metrics.json or batches.jsonl of tuned-lens; "
    "a .npy of temporal-generalisation matrices"
)

EPILOG = """exit codes:
  0    all is well
  1    the command ran and found something: failed or missing cells, damaged files
  2    wrong usage
  3    input that cannot be analysed; the message names the fix
  130  interrupted; finished cells are kept, the same command goes on

first steps:
  transferstats run --smallest 0.05                        the whole job on what ships with the package
  transferstats run --subject DIR --dataset docs.jsonl --smallest 0.05 --out report
  transferstats status runs/embedded                       what is done and what is missing
  transferstats evaluate losses.csv --smallest 0.05        verdicts on anybody's long table of losses
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except TransferstatsError as error:
        print(f"transferstats: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("\ntransferstats: interrupted; finished cells are kept, run the same command again", file=sys.stderr)
        return INTERRUPTED
    return code


def build_parser() -> argparse.ArgumentParser:
    """The parser with all verbs."""
    parser = argparse.ArgumentParser(
        prog="transferstats",
        description="Error bars for transfer claims: how well does a lens trained on one layer work on another, "
        "how sure are we, and what does that show?",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"transferstats {transferstats.__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    run = _verb(verbs, "run", run_study, "sweep, evaluate and report in one go")
    _study_options(run)
    _evidence_options(run)
    run.add_argument("--out", default="report", help="folder of the report (default: %(default)s)")
    fit = _verb(verbs, "fit", run_fit, "compute one cell: one seed on one dataset")
    _study_options(fit)
    fit.add_argument("--seed", type=int, default=0, help="which of the seeds (default: %(default)s)")
    _study_options(_verb(verbs, "sweep", run_sweep, "compute the cells of a study that its store lacks"))
    status = _verb(verbs, "status", run_status, "what is done and what is missing in a store")
    verify = _verb(verbs, "verify", run_verify, "recompute every hash of a store")
    verify.add_argument("--discard", action="store_true", help="remove damaged cells, so that a sweep redoes them")
    for verb in (status, verify):
        verb.add_argument("store", help="folder of the store")
    evaluate = _verb(verbs, "evaluate", run_evaluate, "verdicts on a store or a long table")
    describe = _verb(verbs, "describe", run_describe, "what a file holds, and what it cannot support")
    describe.add_argument("source", help=SOURCE)
    _reading_options(describe)
    report = _verb(verbs, "report", run_report, "write the report of a store or a long table")
    for verb in (evaluate, report):
        verb.add_argument("source", help=SOURCE)
        _reading_options(verb)
        _evidence_options(verb)
    plan = _verb(verbs, "plan", run_plan, "how wide intervals would be with other numbers of seeds and units")
    plan.add_argument("source", help="the pilot: folder of a store, or a long table")
    plan.add_argument("--smallest", type=float, required=True, help="smallest penalty of interest in nats")
    plan.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10], help="numbers of seeds to consider")
    plan.add_argument(
        "--units", type=int, nargs="+", default=[100, 300, 1000], help="numbers of units to consider"
    )
    plan.add_argument("--statistic", default="mean", help="scalar statistic to plan for (default: %(default)s)")
    simulate = _verb(verbs, "simulate", run_simulate, "write a long table whose true penalties are known")
    simulate.add_argument("--out", required=True, help="long table to write, .csv or .parquet")
    simulate.add_argument("--regime", default="balanced", help="seed, unit, balanced, heavy or skewed")
    simulate.add_argument("--layers", type=int, default=6, help="number of layers (default: %(default)s)")
    simulate.add_argument("--seeds", type=int, default=4, help="number of seeds (default: %(default)s)")
    simulate.add_argument("--units", type=int, default=100, help="number of units (default: %(default)s)")
    simulate.add_argument("--rng", type=int, default=0, help="seed of the random numbers (default: %(default)s)")
    evaluate.add_argument("--csv", action="store_true", help="print all columns as CSV in R's spelling")
    report.add_argument("--out", default="report", help="folder of the report (default: %(default)s)")
    return parser


def _verb(verbs: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text.capitalize() + ".")
    verb.set_defaults(run=function)
    return verb


def _study_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--subject",
        default="embedded",
        help="causal language model: a directory, a .gguf file, a hub id, or 'embedded' (default)",
    )
    verb.add_argument(
        "--dataset",
        action="append",
        help="shipped domain, .jsonl(.gz) file or folder of .txt files; repeat for several (default: python, kjv)",
    )
    verb.add_argument("--seeds", type=int, default=5, help="independent lens trainings (default: %(default)s)")
    verb.add_argument(
        "--null-replicates",
        type=int,
        default=0,
        help="runs of the pipeline in the world where one lens is right for every layer; 5 or more for C3 "
        "(default: none)",
    )
    verb.add_argument("--anchor", choices=("ridge", "shared"), default="ridge", help="see FitPlan.anchor")
    verb.add_argument("--units", type=int, default=120, help="evaluation documents (default: %(default)s)")
    verb.add_argument("--unit-tokens", type=int, default=160, help="tokens scored of each (default: %(default)s)")
    verb.add_argument("--max-steps", type=int, default=1024, help="most kl steps a lens (default: %(default)s)")
    verb.add_argument("--store", default="runs/embedded", help="folder of finished cells (default: %(default)s)")
    verb.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cells side by side (default: cores)")
    verb.add_argument(
        "--shard", type=_shard, metavar="I/N", help="i/n: only every n-th cell, counted from 0 (job arrays)"
    )
    verb.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")


def _evidence_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--smallest",
        type=float,
        required=True,
        help="smallest penalty of interest in nats: a scientific statement, so it has no default",
    )
    verb.add_argument(
        "--loss", choices=("kl", "ce", "error"), help="loss to analyse (default: kl where there is one)"
    )
    verb.add_argument("--conf-level", type=float, default=0.95, help="of every interval (default: %(default)s)")


def _reading_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--columns",
        nargs="+",
        type=_renaming,
        metavar="THEIRS=OURS",
        help="names of a table's columns, such as doc=unit layer=source",
    )
    verb.add_argument("--loss-unit", help="nats (default), bits, bits/byte, nats/image or bits/image")
    verb.add_argument("--bytes-per-token", type=float, help="turns bits per byte into nats per token")
    verb.add_argument("--score", help="column or meaning of a score to be analysed as the loss 1 - score")


def _renaming(text: str) -> tuple[str, str]:
    theirs, equals, ours = text.rpartition("=")
    if not (theirs and equals and ours):
        raise argparse.ArgumentTypeError(f"a column is renamed by THEIRS=OURS, such as doc=unit, not {text!r}")
    return theirs, ours


def _read(arguments: argparse.Namespace) -> Any:
    return transferstats.read_grid(
        arguments.source,
        columns=dict(arguments.columns or ()) or None,
        loss_unit=arguments.loss_unit,
        bytes_per_token=arguments.bytes_per_token,
        score=arguments.score,
        loss=getattr(arguments, "loss", None),
    )


def _cells(arguments: argparse.Namespace) -> list[Cell]:
    plan = transferstats.FitPlan(max_steps=arguments.max_steps, anchor=arguments.anchor)
    evaluation = transferstats.EvaluationPlan(units=arguments.units, tokens=arguments.unit_tokens)
    return transferstats.cells(
        arguments.subject,
        arguments.dataset or ["python", "kjv"],
        seeds=arguments.seeds,
        null_replicates=arguments.null_replicates,
        fit=plan,
        evaluation=evaluation,
        machine=transferstats.Machine(arguments.device),
    )


def _sweep(cells: Sequence[Cell], arguments: argparse.Namespace) -> SweepReport:
    from transferstats.progress import SweepProgress

    shard = arguments.shard
    finished = set(Store(arguments.store).keys())
    todo = sum(cell.key not in finished for cell in (cells if shard is None else cells[shard[0] :: shard[1]]))
    jobs = min(arguments.jobs, todo)
    if jobs < 1:
        return sweep(cells, arguments.store, shard=shard)
    if jobs == 1:
        with SweepProgress(Queue(), todo) as progress:
            return sweep(cells, arguments.store, shard=shard, watch=progress.watch)
    with local_manager() as manager, local_pool(jobs) as pool, SweepProgress(manager.Queue(), todo) as progress:
        try:
            return sweep(cells, arguments.store, executor=pool, shard=shard, watch=progress.watch)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _shard(text: str) -> tuple[int, int]:
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a shard is i/n, such as 0/4, not {text!r}") from None
    if not 0 <= index < count:
        raise argparse.ArgumentTypeError(f"shard {text}: i counts from 0 and must be below n")
    return index, count


def _tell(outcome: SweepReport, store: str) -> int:
    print(f"{len(outcome.computed)} cells computed, {len(outcome.reused)} reused, in {store}")
    for failure in outcome.failures:
        print(f"failed: {failure.label}: {failure.reason}", file=sys.stderr)
    return FINDINGS if outcome.failures else OK


def run_study(arguments: argparse.Namespace) -> int:
    """Verb ``run``."""
    code = _tell(_sweep(_cells(arguments), arguments), arguments.store)
    if code != OK:
        return code
    arguments.source = arguments.store
    arguments.columns = arguments.loss_unit = arguments.bytes_per_token = arguments.score = None
    return run_report(arguments)


def run_fit(arguments: argparse.Namespace) -> int:
    """Verb ``fit``."""
    cells = _cells(arguments)
    chosen = [cell for cell in cells if cell.config["seed"] == arguments.seed]
    if not chosen:
        raise DesignError(f"--seed {arguments.seed}: this study has seeds 0 to {arguments.seeds - 1}")
    store = Store(arguments.store)
    store.claim(cells)
    store.plan(cells)  # all of them, so that the store knows what is still missing
    return _tell(_sweep(chosen, arguments), arguments.store)


def run_sweep(arguments: argparse.Namespace) -> int:
    """Verb ``sweep``."""
    return _tell(_sweep(_cells(arguments), arguments), arguments.store)


def run_status(arguments: argparse.Namespace) -> int:
    """Verb ``status``."""
    states = cell_states(arguments.store)
    for one in states:
        print(f"{one.state:8} {one.key[:12]}  {one.label}")
    missing = sum(one.state != "done" for one in states)
    print(f"{len(states) - missing} of {len(states)} cells done")
    return FINDINGS if missing else OK


def run_verify(arguments: argparse.Namespace) -> int:
    """Verb ``verify``."""
    store = Store(arguments.store)
    store.study()
    problems = store.verify()
    for problem in problems:
        print(problem.reason, file=sys.stderr)
        if arguments.discard:
            store.discard(problem.key)
    if problems and arguments.discard:
        print(f"removed {len(problems)} damaged cells; sweep again to compute them", file=sys.stderr)
    print(f"{len(store.keys())} cells, {len(problems)} damaged")
    return FINDINGS if problems else OK


def _evidence(arguments: argparse.Namespace) -> Any:
    try:
        return transferstats.evaluate(_read(arguments), arguments.smallest, conf_level=arguments.conf_level)
    except DesignError as error:
        raise DesignError(f"{error} ('transferstats describe' lists what these data support)") from error


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Verb ``evaluate``."""
    evidence = _evidence(arguments)
    print(evidence.csv() if arguments.csv else _verdicts(evidence), end="" if arguments.csv else "\n")
    return OK


def run_describe(arguments: argparse.Namespace) -> int:
    """Verb ``describe``."""
    found = transferstats.describe(_read(arguments))
    print(transferstats.table(found).text())
    for title, lines in (
        ("About these numbers:", found.caveats),
        ("These data cannot support:", [f"{what}: {why}" for what, why in found.unsupported]),
    ):
        if lines:
            print("\n".join([title, *(f"  - {line}" for line in lines)]))
    return OK


def run_report(arguments: argparse.Namespace) -> int:
    """Verb ``report``."""
    evidence = _evidence(arguments)
    transferstats.report(evidence, arguments.out)
    print(_verdicts(evidence))
    print(f"report: {Path(arguments.out) / 'index.html'}")
    return OK


def run_plan(arguments: argparse.Namespace) -> int:
    """Verb ``plan``."""
    plan = transferstats.plan_study(
        transferstats.read_grid(arguments.source),
        seeds=arguments.seeds,
        units=arguments.units,
        smallest=arguments.smallest,
        statistic=arguments.statistic,
    )
    print(plan.csv(), end="")
    return OK


def run_simulate(arguments: argparse.Namespace) -> int:
    """Verb ``simulate``."""
    from transferstats.simulation import simulate_grid, true_penalty

    simulation = simulate_grid(
        true_penalty(arguments.layers),
        n_seeds=arguments.seeds,
        n_units=arguments.units,
        regime=arguments.regime,
        rng=arguments.rng,
    )
    path = Path(arguments.out)
    frame = simulation.grid.to_frame()
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        raise DataError(f"cannot write {path.name}: use a name that ends in .csv or .parquet")
    off = ~np.eye(arguments.layers, dtype=bool)
    print(f"{len(frame)} rows in {path}; true mean penalty {simulation.penalty[off].mean():.6g} nats/token")
    return OK


def _verdicts(evidence: Any) -> str:
    """One line a claim and dataset: verdict, claim, estimate with interval."""
    lines = []
    for claim in evidence.claims:
        one = claim.estimate
        value = ""
        if one is not None:
            value = f"{float(one.estimate):.4g} [{float(one.conf_low):.4g}, {float(one.conf_high):.4g}] {one.unit}"
        lines.append(f"{claim.key}  {claim.dataset:12} {claim.verdict:13} {claim.title}: {value or claim.reason}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
