"""Command line: each verb is one public call. Numbers go to standard output, progress to standard error."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import transferstats
from transferstats import commands
from transferstats.commands import OK
from transferstats.errors import DesignError, TransferstatsError
from transferstats.lens.plan import ANCHORS, PRECISIONS, RECIPES

if TYPE_CHECKING:
    from transferstats.engine import Cell, SweepReport

LOCAL, DEFAULT_RECIPE, DATASETS, DOCUMENTS = "local", "default", ("python", "kjv"), 100

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
    _study_options(run)
    commands.evidence_options(run)
    run.add_argument("--out", default="report", help="folder of the report (default: %(default)s)")
    fit = commands.add_verb(verbs, "fit", run_fit, "compute the cells of one seed, or score ready-made lenses")
    _study_options(fit)
    fit.add_argument("--seed", type=int, help="which of the seeds (default: 0)")
    fit.add_argument(
        "--lens",
        action="append",
        help="score ready-made lenses instead of fitting any: a folder of tuned-lens (params.pt, config.json) or "
        "the .pt file of a Jacobian lens; repeat it, one a seed",
    )
    _study_options(
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


def _study_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--subject",
        default="embedded",
        help="language model: a directory, a .gguf file, a hub id, or 'embedded' (default); image classifier: a "
        "directory, or embedded:NAME such as embedded:resnet-0; simulated, with a known answer: known:iterative, "
        "known:trap, known:pipeline:DIAL",
    )
    verb.add_argument(
        "--dataset",
        action="append",
        help="domain shipped, .jsonl(.gz) file, folder of .txt files; repeat for several (default: python, kjv); "
        "images: an IDX or .npz file, a folder with a sub-folder of images a class, or 'digits'",
    )
    verb.add_argument("--seeds", type=int, default=5, help="independent lens trainings (default: %(default)s)")
    verb.add_argument(
        "--null-replicates",
        type=int,
        help="runs of the pipeline in the world where one lens is right for every layer; 0 leaves C3 untested "
        "(default: as many as seeds)",
    )
    verb.add_argument("--recipe", choices=tuple(RECIPES), default=DEFAULT_RECIPE, help="how lenses are trained")
    verb.add_argument("--anchor", choices=ANCHORS, help="where own lenses start (default: as in the recipe)")
    verb.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the gradients: bfloat16 halves the time of training where the processor multiplies it; all "
        "losses are float32 (default: as in the recipe)",
    )
    verb.add_argument(
        "--every", type=int, help="only every n-th layer of a language model, from the first on (default: all)"
    )
    verb.add_argument("--alignment", help="none, pad or procrustes: for images, where layers differ in width")
    verb.add_argument(
        "--units", type=int, help="units scored (default: 100 documents; one image in five, at most 2000)"
    )
    verb.add_argument(
        "--unit-tokens", type=int, default=96, help="tokens scored of a document (default: %(default)s)"
    )
    verb.add_argument("--max-steps", type=int, help="most kl steps a lens (default: as in the recipe)")
    verb.add_argument("--store", default="runs/embedded", help="folder of finished cells (default: %(default)s)")
    verb.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cells side by side (default: cores)")
    verb.add_argument(
        "--engine",
        type=_engine,
        default=LOCAL,
        metavar="ADDRESS",
        help="local processes (default), or a Dask scheduler: tcp://host:port (extra 'cluster'); its workers see "
        "subject and datasets under the same paths, and with --device cuda were started with --resources GPU=1",
    )
    verb.add_argument(
        "--shard", type=_shard, metavar="I/N", help="i/n: only every n-th cell, counted from 0 (job arrays)"
    )
    verb.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")


KNOWN = "known:"

FITTING = ("seed", "null_replicates", "max_steps", "anchor", "precision", "every", "alignment")
"""Options without a meaning for ready-made lenses."""


def _lens_cells(arguments: argparse.Namespace) -> list[Cell]:
    given = [f"--{name.replace('_', '-')}" for name in FITTING if getattr(arguments, name) is not None]
    given += ["--recipe"] if arguments.recipe != DEFAULT_RECIPE else []
    if given:
        raise DesignError(f"{', '.join(given)} is about fitting, and --lens fits nothing: leave it out")
    return transferstats.lens_cells(
        arguments.subject,
        arguments.dataset or DATASETS,
        arguments.lens,
        evaluation=_evaluation(arguments),
        machine=transferstats.Machine(arguments.device),
    )


def _evaluation(arguments: argparse.Namespace) -> Any:
    units = DOCUMENTS if arguments.units is None else arguments.units
    return transferstats.EvaluationPlan(units=units, tokens=arguments.unit_tokens)


def _cells(arguments: argparse.Namespace) -> list[Cell]:
    from transferstats.lens.images import is_image_source

    datasets = arguments.dataset or DATASETS
    images = {dataset: is_image_source(dataset) for dataset in datasets}
    if len(set(images.values())) > 1:
        raise DesignError(
            f"a study is about text or about images, and of these some are either: {', '.join(images)}"
        )
    vision = all(images.values())
    if arguments.alignment is not None and not vision:
        raise DesignError("--alignment is for images: the layers of a language model share one width")
    recipe = "images" if vision and arguments.recipe == DEFAULT_RECIPE else arguments.recipe
    chosen = {name: getattr(arguments, name) for name in ("max_steps", "anchor", "precision")}
    replicates = arguments.null_replicates
    design: dict[str, Any] = {
        "seeds": arguments.seeds,
        "null_replicates": arguments.seeds if replicates is None else replicates,
        "fit": replace(RECIPES[recipe], **{k: v for k, v in chosen.items() if v is not None}),
        "evaluation": None if vision and arguments.units is None else _evaluation(arguments),
        "machine": transferstats.Machine(arguments.device),
    }
    known = arguments.subject.startswith(KNOWN)
    if arguments.every is not None and (vision or known):
        raise DesignError("--every is for language models: other subjects use all their layers")
    if known:
        if arguments.dataset:
            raise DesignError("a subject whose answer is known brings its own documents: leave --dataset out")
        return transferstats.known_truth_cells(*_known(arguments.subject), **design)
    if vision:
        alignment = arguments.alignment or "none"
        return transferstats.vision_cells(arguments.subject, datasets, alignment=alignment, **design)
    source = transferstats.LanguageSource(arguments.subject, 1 if arguments.every is None else arguments.every)
    return transferstats.cells(source, datasets, **design)


def _known(subject: str) -> tuple[str, float]:
    """Kind and dial of "known:trap" or "known:pipeline:0.1"."""
    kind, _, dial = subject.removeprefix(KNOWN).partition(":")
    try:
        return kind, float(dial) if dial else 0.0
    except ValueError:
        raise DesignError(f"the dial of {subject!r} is an angle in radians, such as 0.1 or inf") from None


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
    gpu = arguments.device.startswith("cuda")
    with (
        open_cluster(arguments.engine, messages.put, gpu=gpu) as executor,
        SweepProgress(messages, todo) as progress,
    ):
        progress.sink = executor.sink
        return transferstats.sweep(
            cells, arguments.store, executor=executor, shard=arguments.shard, watch=progress.watch
        )


def _engine(text: str) -> str:
    if text != LOCAL and "://" not in text:
        raise argparse.ArgumentTypeError(
            f"an engine is {LOCAL!r} or a Dask scheduler, tcp://host:port, not {text!r}"
        )
    return text


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
    return commands.run_report(arguments)


def run_fit(arguments: argparse.Namespace) -> int:
    """Verb ``fit``."""
    if arguments.lens:
        code = _tell(_sweep(_lens_cells(arguments), arguments), arguments.store)
        print(UNCERTIFIED)
        return code
    cells = _cells(arguments)
    seed = arguments.seed or 0
    chosen = [cell for cell in cells if cell.config["seed"] == seed]
    if not chosen:
        raise DesignError(f"--seed {seed}: this study has seeds 0 to {arguments.seeds - 1}")
    store = transferstats.Store(arguments.store)
    store.claim(cells)
    store.plan(cells)  # all of them, so that the store knows what is still missing
    return _tell(_sweep(chosen, arguments), arguments.store)


def run_sweep(arguments: argparse.Namespace) -> int:
    """Verb ``sweep``."""
    return _tell(_sweep(_cells(arguments), arguments), arguments.store)


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
