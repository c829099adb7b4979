"""What verbs that compute are told: the options of a study, and the cells that they plan."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any

import transferstats
from transferstats.errors import DesignError
from transferstats.lens.plan import ANCHORS, IMAGES, PRECISIONS, RECIPES, FitPlan

if TYPE_CHECKING:
    from transferstats.engine import Cell

LOCAL, DATASETS, DOCUMENTS = "local", ("python", "kjv"), 100
NONE = "none"

Planner = Callable[[argparse.Namespace], "list[Cell]"]


def _saying_notes(plan: Planner) -> Planner:
    """Say, once a study is planned, what reading its documents had to decide."""

    @wraps(plan)
    def planned(arguments: argparse.Namespace) -> list[Cell]:
        cells = plan(arguments)
        for dataset in dict.fromkeys(cell.location["dataset"] for cell in cells if "encoding" in cell.config):
            from transferstats.lens.documents import read_documents  # which planning has done already

            documents = read_documents(dataset)
            for note in documents.notes:
                print(f"{documents.name}: {note}", file=sys.stderr)
        return cells

    return planned


def study_options(verb: argparse.ArgumentParser) -> None:
    """Subject, datasets, design, and where it is computed."""
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
        help="domain shipped; table of documents (.jsonl, .json, .csv, .parquet, .arrow, with a column 'text'); "
        "folder of .txt files, of Parquet files or of a saved dataset; repeat for several (default: python, kjv); "
        "images: an IDX or .npz file, a folder with a sub-folder of images a class, or 'digits'",
    )
    verb.add_argument("--seeds", type=int, default=5, help="independent lens trainings (default: %(default)s)")
    verb.add_argument(
        "--null-replicates",
        type=int,
        help="runs of the pipeline in the world where one lens is right for every layer; 0 leaves C3 untested "
        "(default: as many as seeds)",
    )
    _fit_options(verb)
    verb.add_argument(
        "--path",
        action="store_true",
        default=None,
        help="also follow lenses of the first seed along their training, from several starts: one more cell a "
        "dataset, which takes several times as long as a seed",
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
        "--shard", type=shard, metavar="I/N", help="i/n: only every n-th cell, counted from 0 (job arrays)"
    )
    verb.add_argument(
        "--device",
        default="cpu",
        help="torch device, or 'auto' to spread a language model over all accelerators (default: %(default)s)",
    )


def _fit_options(verb: argparse.ArgumentParser) -> None:
    """How lenses are trained."""
    verb.add_argument(
        "--recipe",
        choices=tuple(RECIPES),
        help="how lenses are trained (default: 'images' for images, else 'default')",
    )
    verb.add_argument("--anchor", choices=ANCHORS, help="where own lenses start (default: as in the recipe)")
    verb.add_argument(
        "--beside",
        choices=(*ANCHORS, NONE),
        help=f"where a second set of own lenses starts, or {NONE!r} (default: as in the recipe)",
    )
    verb.add_argument(
        "--curve",
        type=float,
        nargs="*",
        metavar="SHARE",
        help="shares of each fold on which lenses are fitted too, such as 0.5 0.25; none after the option for no "
        "learning curve (default: as in the recipe)",
    )
    verb.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the gradients: bfloat16 is faster where the processor multiplies it; all losses are float32 "
        "(default: as in the recipe)",
    )
    verb.add_argument("--max-steps", type=int, help="most kl steps a lens (default: as in the recipe)")


KNOWN = "known:"

CHOSEN: tuple[str, ...] = ("max_steps", "anchor", "beside", "curve", "precision")
"""Options that change one thing in a recipe."""

FITTING = ("seed", "null_replicates", "recipe", *CHOSEN, "path", "every", "alignment")
"""Options without a meaning for ready-made lenses."""


@_saying_notes
def lens_cells(arguments: argparse.Namespace) -> list[Cell]:
    """Cells that score ready-made lenses."""
    given = [f"--{name.replace('_', '-')}" for name in FITTING if getattr(arguments, name) is not None]
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


@_saying_notes
def study_cells(arguments: argparse.Namespace) -> list[Cell]:
    """Cells of the study that the options describe."""
    planned = _planned(arguments)
    return transferstats.with_path(planned) if arguments.path else planned


def _planned(arguments: argparse.Namespace) -> list[Cell]:
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
    known = arguments.subject.startswith(KNOWN)
    if arguments.every is not None and (vision or known):
        raise DesignError("--every is for language models: other subjects use all their layers")
    replicates = arguments.null_replicates
    design: dict[str, Any] = {
        "seeds": arguments.seeds,
        "null_replicates": arguments.seeds if replicates is None else replicates,
        "fit": _fit_plan(arguments, vision=vision),
        "evaluation": None if vision and arguments.units is None else _evaluation(arguments),
        "machine": transferstats.Machine(arguments.device),
    }
    if known:
        if arguments.dataset:
            raise DesignError("a subject whose answer is known brings its own documents: leave --dataset out")
        return transferstats.known_truth_cells(*_known(arguments.subject), **design)
    if vision:
        alignment = arguments.alignment or "none"
        return transferstats.vision_cells(arguments.subject, datasets, alignment=alignment, **design)
    source = transferstats.LanguageSource(arguments.subject, 1 if arguments.every is None else arguments.every)
    return transferstats.cells(source, datasets, **design)


def _fit_plan(arguments: argparse.Namespace, *, vision: bool) -> FitPlan:
    """The recipe asked for, or the one that suits the subject, with whatever else was asked for."""
    suited = IMAGES if vision else FitPlan()
    plan = suited if arguments.recipe is None else RECIPES[arguments.recipe]
    chosen = {name: getattr(arguments, name) for name in CHOSEN if getattr(arguments, name) is not None}
    if chosen.get("beside") == NONE:
        chosen["beside"] = None
    if "curve" in chosen:
        chosen["curve"] = tuple(chosen["curve"])
    return replace(plan, **chosen)


def _known(subject: str) -> tuple[str, float]:
    """Kind and dial of "known:trap" or "known:pipeline:0.1"."""
    kind, _, dial = subject.removeprefix(KNOWN).partition(":")
    try:
        return kind, float(dial) if dial else 0.0
    except ValueError:
        raise DesignError(f"the dial of {subject!r} is an angle in radians, such as 0.1 or inf") from None


def _engine(text: str) -> str:
    if text != LOCAL and "://" not in text:
        raise argparse.ArgumentTypeError(
            f"an engine is {LOCAL!r} or a Dask scheduler, tcp://host:port, not {text!r}"
        )
    return text


def shard(text: str) -> tuple[int, int]:
    """(i, n) of "i/n"."""
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a shard is i/n, such as 0/4, not {text!r}") from None
    if not 0 <= index < count:
        raise argparse.ArgumentTypeError(f"shard {text}: i counts from 0 and must be below n")
    return index, count
