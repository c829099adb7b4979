"""Verbs of the command line that analyse: describe, evaluate, report, compare, plan, simulate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import transferstats
from transferstats.errors import DataError, DesignError

OK = 0

LOSSES = ("kl", "ce", "disagreement", "error")
"""Those of the grid, whose module R would wait for."""

SOURCE = (
    "folder of a store; a long table (.csv, .tsv, .txt, .jsonl, .parquet); aggregate_metrics.json or "
    "batches.jsonl of tuned-lens; a .npy of temporal-generalisation matrices"
)


def add_verb(verbs: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    """A verb that runs a function of its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text.capitalize() + ".")
    verb.set_defaults(run=function)
    return verb


def add_verbs(verbs: Any) -> None:
    """The verbs of this module, added to a parser's."""
    evaluate = add_verb(verbs, "evaluate", run_evaluate, "verdicts on a store or a long table")
    describe = add_verb(verbs, "describe", run_describe, "what a file holds, and what it cannot support")
    describe.add_argument("source", help=SOURCE)
    _reading_options(describe)
    _loss_option(describe)
    report = add_verb(verbs, "report", run_report, "write the report of a store or a long table")
    for verb in (evaluate, report):
        verb.add_argument("source", help=SOURCE)
        _reading_options(verb)
        evidence_options(verb)
    compare = add_verb(verbs, "compare", run_compare, "differences between two or more subjects, with a report")
    compare.add_argument("source", nargs="+", help=f"one a subject: {SOURCE}")
    _reading_options(compare)
    evidence_options(compare)
    compare.add_argument(
        "--names", nargs="+", help="names of the subjects, in order (default: those of the files)"
    )
    compare.add_argument("--csv", action="store_true", help="print all columns as CSV in R's spelling")
    compare.add_argument("--out", help="folder of the report (default: none is written)")
    plan = add_verb(verbs, "plan", run_plan, "how wide intervals would be with other numbers of seeds and units")
    plan.add_argument("source", help=f"the pilot: {SOURCE}")
    _reading_options(plan)
    plan.add_argument(
        "--smallest", type=float, help="smallest penalty of interest: adds the power of its verdicts"
    )
    plan.add_argument("--half-width", type=float, help="wanted half-width: adds the units that it takes")
    plan.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10], help="numbers of seeds to consider")
    plan.add_argument(
        "--units", type=int, nargs="+", default=[100, 300, 1000], help="numbers of units to consider"
    )
    plan.add_argument("--statistic", default="mean", help="scalar statistic to plan for (default: %(default)s)")
    _loss_option(plan)
    plan.add_argument("--csv", action="store_true", help="print all columns as CSV in R's spelling")
    plan.add_argument("--out", help="file of the curve of half-width against units: .svg, .pdf or .png")
    simulate = add_verb(verbs, "simulate", run_simulate, "write a long table whose true penalties are known")
    simulate.add_argument("--out", required=True, help="long table to write, .csv or .parquet")
    simulate.add_argument("--regime", default="balanced", help="seed, unit, balanced, heavy or skewed")
    simulate.add_argument("--layers", type=int, default=6, help="number of layers (default: %(default)s)")
    simulate.add_argument("--seeds", type=int, default=4, help="number of seeds (default: %(default)s)")
    simulate.add_argument("--units", type=int, default=100, help="number of units (default: %(default)s)")
    simulate.add_argument("--rng", type=int, default=0, help="seed of the random numbers (default: %(default)s)")
    evaluate.add_argument("--csv", action="store_true", help="print all columns as CSV in R's spelling")
    report.add_argument("--out", default="report", help="folder of the report (default: %(default)s)")


def evidence_options(verb: argparse.ArgumentParser) -> None:
    """What verdicts need to know."""
    verb.add_argument(
        "--smallest",
        type=float,
        required=True,
        help="smallest penalty of interest in the unit of the loss (nats; for disagreement a share): a scientific "
        "statement, so it has no default",
    )
    _loss_option(verb)
    verb.add_argument("--conf-level", type=float, default=0.95, help="of every interval (default: %(default)s)")


def _loss_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--loss", choices=LOSSES, help="loss to analyse (default: kl where there is one)")


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


def _read(arguments: argparse.Namespace, source: str | None = None, subject: str | None = None) -> Any:
    return transferstats.read_grid(
        source or arguments.source,
        subject=subject,
        columns=dict(arguments.columns or ()) or None,
        loss_unit=arguments.loss_unit,
        bytes_per_token=arguments.bytes_per_token,
        score=arguments.score,
        loss=getattr(arguments, "loss", None),
    )


def _evidence(grid: transferstats.TransferGrid, arguments: argparse.Namespace) -> Any:
    try:
        return transferstats.evaluate(grid, arguments.smallest, conf_level=arguments.conf_level)
    except DesignError as error:
        raise DesignError(f"{error} ('transferstats describe' lists what these data support)") from error


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Verb ``evaluate``."""
    evidence = _evidence(_read(arguments), arguments)
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
    return report_on(_read(arguments), arguments)


def report_on(grid: transferstats.TransferGrid, arguments: argparse.Namespace) -> int:
    """Evaluate, write the report, print the verdicts: with --out and the options of :func:`evidence_options`."""
    evidence = _evidence(grid, arguments)
    transferstats.report(evidence, arguments.out)
    print(_verdicts(evidence))
    print(f"report: {Path(arguments.out) / 'index.html'}")
    return OK


def run_compare(arguments: argparse.Namespace) -> int:
    """Verb ``compare``."""
    names = arguments.names or [None] * len(arguments.source)
    if len(names) != len(arguments.source):
        raise DesignError(f"{len(arguments.source)} subjects need as many --names, got {len(names)}")
    grids = [_read(arguments, *pair) for pair in zip(arguments.source, names, strict=True)]
    found = transferstats.compare_subjects(grids, smallest=arguments.smallest, conf_level=arguments.conf_level)
    if arguments.out:
        transferstats.report(found, arguments.out)
    print(found.csv() if arguments.csv else _verdicts(found), end="" if arguments.csv else "\n")
    if arguments.out and not arguments.csv:
        print(f"report: {Path(arguments.out) / 'index.html'}")
    return OK


def run_plan(arguments: argparse.Namespace) -> int:
    """Verb ``plan``."""
    grid = _read(arguments)
    plan = transferstats.plan_study(
        grid,
        seeds=arguments.seeds,
        units=arguments.units,
        smallest=arguments.smallest,
        statistic=arguments.statistic,
    )
    results: list[Any] = [plan]
    if arguments.half_width is not None:
        wanted = {"half_width": arguments.half_width, "seeds": arguments.seeds, "statistic": arguments.statistic}
        results.append(transferstats.size_study(grid, **wanted))
    if arguments.out:
        from transferstats.reporting.canvas import save
        from transferstats.reporting.figures_plan import draw_plan

        save(draw_plan(plan, target=arguments.half_width), arguments.out)
    if arguments.csv:
        print(results[-1].csv(), end="")
    else:
        print("\n".join(transferstats.table(one).text() for one in results))
        print("\n".join(transferstats.sentence(one) for one in [*results, *_of_rows(grid, arguments.statistic)]))
    return OK


def _of_rows(grid: Any, statistic: str) -> list[Any]:
    """What other numbers of training tokens would do, where the pilot has lenses of parts of its own."""
    from transferstats.stats.learning_curve import shares_of

    return [transferstats.learning_curve(grid, statistic)] if shares_of(grid) else []


def run_simulate(arguments: argparse.Namespace) -> int:
    """Verb ``simulate``."""
    import numpy as np

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
