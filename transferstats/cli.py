"""Command line: each verb is one public call. Numbers go to standard output, progress to standard error."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import transferstats
from transferstats import commands
from transferstats.commands import OK
from transferstats.designs import LOCAL, lens_cells, study_cells, study_options
from transferstats.errors import DesignError, TransferstatsError
from transferstats.lens.plan import READOUTS

if TYPE_CHECKING:
    from transferstats.engine import Cell, SweepReport

UNCERTIFIED = (
    "these lenses carry no convergence certificate: how far each is from its own minimum is unknown, and a "
    "penalty may be no more than that. Verdicts say so; claims about a shared lens and its null (C3, C7) need "
    "lenses fitted here"
)

FINDINGS, USAGE, BAD_INPUT, INTERRUPTED = 1, 2, 3, 130

R_FILE = Path(__file__).parent / "reporting" / "r" / "transferstats.R"
"""What ``source()`` in R reads; found without loading anything, because R waits for it."""

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
    run = commands.add_verb(verbs, "run", run_study, "sweep, evaluate and report in one go")
    study_options(run)
    commands.evidence_options(run)
    run.add_argument("--out", default="report", help="folder of the report (default: %(default)s)")
    fit = commands.add_verb(verbs, "fit", run_fit, "compute the cells of one seed, or score ready-made lenses")
    study_options(fit)
    fit.add_argument("--seed", type=int, help="which of the seeds (default: 0)")
    fit.add_argument(
        "--lens",
        action="append",
        help="score ready-made lenses instead of fitting any: a folder of tuned-lens (params.pt, config.json) or "
        "the .pt file of a Jacobian lens; repeat it, one a seed",
    )
    lenses = commands.add_verb(
        verbs, "lenses", run_lenses, "fit the lenses of one seed again and write them for tuned-lens"
    )
    study_options(lenses)
    lenses.add_argument("--seed", type=int, help="which of the seeds (default: 0)")
    lenses.add_argument("--readout", default="own", choices=READOUTS, help="(default: own)")
    lenses.add_argument("--out", required=True, help="folder to write to")
    study_options(
        commands.add_verb(verbs, "sweep", run_sweep, "compute the cells of a study that its store lacks")
    )
    status = commands.add_verb(
        verbs, "status", run_status, "what is done, running, failed (and why) or missing in a store"
    )
    verify = commands.add_verb(verbs, "verify", run_verify, "recompute every hash of a store")
    verify.add_argument("--discard", action="store_true", help="remove damaged cells, so that a sweep redoes them")
    for verb in (status, verify):
        verb.add_argument("store", help="folder of the store")
    commands.add_verbs(verbs)
    r_path = commands.add_verb(
        verbs, "r-path", run_r_path, "path of the R file of this package, for source() in R"
    )
    r_path.add_argument("--python", action="store_true", help="path of this Python instead, for reticulate")
    return parser


def _sweep(cells: Sequence[Cell], arguments: argparse.Namespace) -> SweepReport:
    from transferstats.progress import SweepProgress

    shard = arguments.shard
    finished = set(transferstats.Store(arguments.store).keys())
    todo = sum(cell.key not in finished for cell in (cells if shard is None else cells[shard[0] :: shard[1]]))
    if todo == 0:
        return transferstats.sweep(cells, arguments.store, shard=shard)
    if arguments.engine != LOCAL:
        return _sweep_cluster(cells, arguments, todo)
    if min(arguments.jobs, todo) > 1:
        return _sweep_pool(cells, arguments, todo)
    with SweepProgress(Queue(), todo) as progress:
        return transferstats.sweep(cells, arguments.store, shard=shard, watch=progress.watch)


def _sweep_pool(cells: Sequence[Cell], arguments: argparse.Namespace, todo: int) -> SweepReport:
    """On several processes of this machine."""
    from transferstats.engine import local_manager
    from transferstats.progress import SweepProgress

    with (
        local_manager() as manager,
        transferstats.local_pool(min(arguments.jobs, todo)) as pool,
        SweepProgress(manager.Queue(), todo) as progress,
    ):
        try:
            return transferstats.sweep(
                cells, arguments.store, executor=pool, shard=arguments.shard, watch=progress.watch
            )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _sweep_cluster(cells: Sequence[Cell], arguments: argparse.Namespace, todo: int) -> SweepReport:
    """On the workers of a Dask scheduler."""
    from transferstats.engine.cluster import open_cluster
    from transferstats.progress import SweepProgress

    messages: Queue[Any] = Queue()
    gpu = arguments.device != "cpu"
    with (
        open_cluster(arguments.engine, messages.put, gpu=gpu) as executor,
        SweepProgress(messages, todo) as progress,
    ):
        progress.sink = executor.sink
        return transferstats.sweep(
            cells, arguments.store, executor=executor, shard=arguments.shard, watch=progress.watch
        )


def _tell(outcome: SweepReport, store: str) -> int:
    print(f"{len(outcome.computed)} cells computed, {len(outcome.reused)} reused, in {store}")
    for failure in outcome.failures:
        print(f"failed: {failure.label}: {failure.reason}", file=sys.stderr)
    return FINDINGS if outcome.failures else OK


def run_study(arguments: argparse.Namespace) -> int:
    """Verb ``run``."""
    code = _tell(_sweep(study_cells(arguments), arguments), arguments.store)
    if code != OK:
        return code
    return commands.report_on(transferstats.read_grid(arguments.store, loss=arguments.loss), arguments)


def run_fit(arguments: argparse.Namespace) -> int:
    """Verb ``fit``."""
    if arguments.lens:
        code = _tell(_sweep(lens_cells(arguments), arguments), arguments.store)
        print(UNCERTIFIED)
        return code
    cells = study_cells(arguments)
    chosen = _of_seed(cells, arguments)
    store = transferstats.Store(arguments.store)
    store.claim(cells)
    store.plan(cells)  # all of them, so that the store knows what is still missing
    return _tell(_sweep(chosen, arguments), arguments.store)


def _of_seed(cells: Sequence[Cell], arguments: argparse.Namespace) -> list[Cell]:
    seed = arguments.seed or 0
    chosen = [cell for cell in cells if cell.config["seed"] == seed]
    if not chosen:
        raise DesignError(f"--seed {seed}: this study has seeds 0 to {arguments.seeds - 1}")
    return chosen


def run_lenses(arguments: argparse.Namespace) -> int:
    """Verb ``lenses``."""
    from transferstats.progress import SweepProgress

    cells = _of_seed(study_cells(arguments), arguments)
    chosen = [cell for cell in cells if cell.config["world"] == "observed"]
    if len(chosen) > 1:
        raise DesignError("lenses are those of one dataset: give a single --dataset")
    with SweepProgress(Queue(), 1) as progress:
        report = progress.watch(chosen[0], 0, 1)
        path = transferstats.write_lenses(chosen[0], arguments.out, readout=arguments.readout, report=report)
    print(f"{path}: lenses of {chosen[0].label} for tuned-lens, with certificates.csv")
    return OK


def run_sweep(arguments: argparse.Namespace) -> int:
    """Verb ``sweep``."""
    return _tell(_sweep(study_cells(arguments), arguments), arguments.store)


def run_status(arguments: argparse.Namespace) -> int:
    """Verb ``status``."""
    states = transferstats.cell_states(arguments.store)
    width = max((len(one.label) for one in states), default=0)
    for one in states:
        detail = " ".join(one.detail.split())  # a reason of several lines would break the table
        print(f"{one.state:8} {one.key[:12]}  {one.label:{width}}  {detail}".rstrip())
    counts = Counter(one.state for one in states)
    others = [f"{counts[state]} {state}" for state in ("running", "waiting", "failed", "missing") if counts[state]]
    print(", ".join([f"{counts['done']} of {len(states)} cells done", *others]))
    return FINDINGS if others else OK


def run_verify(arguments: argparse.Namespace) -> int:
    """Verb ``verify``."""
    store = transferstats.Store(arguments.store)
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


def run_r_path(arguments: argparse.Namespace) -> int:
    """Verb ``r-path``."""
    print(sys.executable if arguments.python else R_FILE)
    return OK


if __name__ == "__main__":
    sys.exit(main())
