"""Studies on image classifiers as cells; what a cell does is the same as for language (see ``study``)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from transferstats.engine import Cell, CellOutput, Report
from transferstats.errors import DesignError
from transferstats.lens import study
from transferstats.lens.design import listed_worlds, place_of, plain, plan_cells, plan_of, split_of
from transferstats.lens.images import Images, read_images
from transferstats.lens.language import AUTO
from transferstats.lens.networks import factory_place
from transferstats.lens.plan import IMAGES, FitPlan
from transferstats.lens.preprocessing import Preprocessing
from transferstats.lens.vision import VisionModel, VisionSource, VisionSubject, labels_by_name, vision_subject

RUNNER = "transferstats.lens.vision_study:run"
MOST_SCORED = 2000  # images, unless a plan says otherwise
SCORED_SHARE = 5  # one image in this many is scored, unless a plan says otherwise


def vision_cells(
    subject: str | Path | VisionSource,
    datasets: Sequence[str | Path],
    *,
    alignment: str = "none",
    seeds: int = 5,
    null_replicates: int = 0,
    fit: FitPlan | None = None,
    evaluation: study.EvaluationPlan | None = None,
    machine: study.Machine | None = None,
) -> list[Cell]:
    """Plan the cells of a study on an image classifier.

    Parameters
    ----------
    subject: a directory in Hugging Face format, or a network of this package with its ``config.json``; as
        ``VisionSource`` where blocks are named, preprocessing is given, or a factory makes the network.
    datasets: IDX files, ``.npz`` files, folders with a sub-folder of images a class, or "digits".
    alignment: what to do where widths differ: "none" (nothing: all must be equal), "pad" (channel to channel) or
        "procrustes" (turned towards the final state by an orthogonal matrix a layer, fitted on the training images
        of the fold). With "pad" and the default anchor, the channels that a narrow layer lacks pass a lens of it
        unchanged; ``FitPlan(anchor="shared")`` takes them from the shared lens.
    seeds, null_replicates: as in ``cells``.
    fit: default ``plan.IMAGES``. evaluation: images scored and held out (its tokens mean nothing here); by default
        one image in five of the smallest dataset, at most 2,000. machine: where cells are computed.

    Returns
    -------
    K + R cells a dataset, and one more for the null's own null, ready for ``sweep``; losses are in nats/image.

    Raises
    ------
    DesignError: fewer than 2 seeds, repeated names, images too few for this design, or widths that differ without
        an alignment. DataError, SubjectError: nothing readable at a path, or parts that cannot be verified.
    """
    worlds = listed_worlds(seeds, null_replicates)
    source = subject if isinstance(subject, VisionSource) else VisionSource(str(subject))
    machine = machine or study.Machine()
    if machine.device == AUTO:
        raise DesignError("an image classifier is loaded on one device: name it, such as cuda")
    model = source.load(machine.device)
    images = [read_images(dataset, size=model.preprocessing.size) for dataset in datasets]
    for one in images:
        vision_subject(model, one, alignment).capture(
            [0]
        )  # what does not fit is refused before anything is computed
    shared = {
        "algorithm": study.ALGORITHM,
        "subject": _subject_config(model, source),
        "fit": plain(fit or IMAGES),
        "alignment": alignment,
        "evaluation": _evaluation(evaluation, images),
        "folds": max(seeds, null_replicates),
    }
    place = {"subject": place_of(source.source), **machine.place()}
    if source.factory is not None:
        place["factory"] = factory_place(source.factory)
    return plan_cells(shared, images, worlds, RUNNER, place)


def _subject_config(model: VisionModel, source: VisionSource) -> dict[str, Any]:
    return {
        "name": model.name,
        "fingerprint": model.fingerprint,
        "blocks": None if source.blocks is None else list(source.blocks),
        "preprocessing": plain(model.preprocessing),
    }


def _evaluation(plan: study.EvaluationPlan | None, images: Sequence[Images]) -> dict[str, Any]:
    if plan is None:
        fewest = min((len(one) for one in images), default=0)
        plan = study.EvaluationPlan(units=max(2, min(MOST_SCORED, fewest // SCORED_SHARE)))
    return {"units": plan.units, "held_out": plan.held_out}


@lru_cache(maxsize=1)
def _model(source: VisionSource, device: str, _fingerprint: str) -> VisionModel:
    """One model stays loaded: the cells of a study share it, until its files change."""
    return source.load(device)


@lru_cache(maxsize=1)
def _images(source: str, size: int, _fingerprint: str) -> Images:
    """One dataset stays read."""
    return read_images(source, size=size)


def run(cell: Cell, report: Report) -> CellOutput:
    """Compute one cell: the runner behind :data:`RUNNER`."""
    with study.threads(cell):
        subject, config = cell_subject(cell), dict(cell.config)
        split = split_of(config, subject.clusters)
        output = study.compute_world(subject, split, config, cell.rng(), report)
    model = subject.model
    about = {
        "widths": list(model.widths),
        "pooling": model.anatomy.pooling.label,
        "final_block": model.anatomy.dropped,
        "labels": "by name" if labels_by_name(model, subject.images) else "by position",
    }
    return CellOutput(output.table, {**output.record, "vision": about})


def cell_subject(cell: Cell) -> VisionSubject:
    """The subject of a cell, once its files are known to be those that were planned with.

    Raises
    ------
    DesignError: the model, its code or the images changed since.
    """
    planned, place = cell.config["subject"], cell.location
    preprocessing: Preprocessing = plan_of(Preprocessing, planned["preprocessing"])
    blocks = None if planned["blocks"] is None else tuple(planned["blocks"])
    source = VisionSource(place["subject"], place.get("factory"), blocks, preprocessing)
    if source.fingerprint != planned["fingerprint"]:
        raise DesignError(
            f"{cell.label}: the model at {source.source!r}, or the code that makes it, changed since the study "
            "was planned; restore it, or plan a new study"
        )
    expected = cell.config["dataset"]["fingerprint"]
    images = _images(place["dataset"], preprocessing.size, expected)
    if images.fingerprint != expected:
        raise DesignError(
            f"{cell.label}: the images at {place['dataset']!r} changed since the study was planned; restore them, "
            "or plan a new study"
        )
    model = _model(source, place.get("device", "cpu"), planned["fingerprint"])
    return vision_subject(model, images, cell.config["alignment"])
