"""Cells of a lens study on an image classifier; the pipeline is that of language models, one row an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from transferstats import embedded
from transferstats.engine import Cell, CellOutput, Report
from transferstats.errors import DesignError
from transferstats.lens import study
from transferstats.lens.alignment import KINDS, Alignment, common_width, fit_alignment
from transferstats.lens.images import Images, read_images
from transferstats.lens.plan import FitPlan
from transferstats.lens.splits import Fold
from transferstats.lens.vision import VisionModel, VisionSubject, capture_raw, load_vision_model, verified
from transferstats.provenance import files_hash

RUNNER = "transferstats.lens.vision_study:run"


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """Which images are scored, and how layers of different width get into one space.

    units: evaluation images. held_out: share of a fold. first: images before this one are left out, because the
    network was trained on them. alignment: "none" (equal widths only), "pad" or "procrustes".
    """

    units: int = 2000
    held_out: float = 0.2
    first: int = 0
    alignment: str = "none"

    def __post_init__(self) -> None:
        if self.units < 2 or not 0 < self.held_out < 1 or self.first < 0 or self.alignment not in KINDS:
            raise DesignError(
                "an image plan needs 2 units, a held-out share between 0 and 1, no negative first image and an "
                f"alignment of {', '.join(KINDS)}; got {self.units}, "
                f"{self.held_out:g}, {self.first}, {self.alignment!r}"
            )


def vision_cells(
    subject: str,
    images: Sequence[str | Path],
    *,
    seeds: int = 5,
    null_replicates: int = 0,
    plan: ImagePlan | None = None,
    fit: FitPlan | None = None,
    machine: study.Machine | None = None,
) -> list[Cell]:
    """Plan the cells of a study on an image classifier.

    Parameters
    ----------
    subject: "embedded:NAME", a directory of a Hugging Face image classifier, or a checkpoint of Inception v1.
    images: IDX or ``.npz`` files, or folders of pictures; see ``read_images``.
    plan: which images, and the alignment of layers that differ in width. The others as in ``cells``.

    Returns
    -------
    K + R cells a dataset, ready for ``sweep``; losses are in nats per image.

    Raises
    ------
    DesignError: fewer than 2 seeds, widths that differ without an alignment, images too few for this design.
    DataError, SubjectError: nothing readable at a path.
    """
    planned_worlds = study.worlds(seeds, null_replicates)
    plan = plan or ImagePlan()
    read = [_images(str(source), plan.first) for source in images]
    names = [one.name for one in read]
    if not names or len(set(names)) != len(names):
        raise DesignError(f"need at least one set of images, each with its own name; got {names}")
    model = verified(load_vision_model(subject), read[0])
    seen = capture_raw(model, read[0].pixels[:2])
    common_width(plan.alignment, seen.states, seen.final)  # refused before anything is computed
    shared = {
        "algorithm": study.ALGORITHM,
        "subject": {"name": model.name, "fingerprint": fingerprint(subject)},
        "alignment": plan.alignment,
        "fit": study.plain(fit or FitPlan()),
        "evaluation": {"units": plan.units, "tokens": 1, "held_out": plan.held_out},
        "folds": max(seeds, null_replicates),
    }
    machine = machine or study.Machine()
    planned = []
    for source, one in zip(images, read, strict=True):
        config = {**shared, "dataset": {"name": one.name, "fingerprint": one.fingerprint}}
        study.split_of(config, one.clusters)
        location = {
            "subject": subject if subject.startswith(embedded.PREFIX) else str(Path(subject).resolve()),
            "dataset": str(Path(source).resolve()),
            "first": str(plan.first),
            "device": machine.device,
            "threads": str(machine.threads),
        }
        planned += [
            Cell({**config, "world": world, "seed": seed}, RUNNER, location, study.label_of(one.name, world, seed))
            for world, seed in planned_worlds
        ]
    return planned


def fingerprint(subject: str) -> str:
    """Hash over the files of a classifier: equal fingerprints mean the same network."""
    if subject.startswith(embedded.PREFIX):
        return files_hash([embedded.network_path(subject.removeprefix(embedded.PREFIX))])
    path = Path(subject)
    return files_hash([path] if path.is_file() else sorted(one for one in path.iterdir() if one.is_file()))


@lru_cache(maxsize=4)
def _images(source: str, first: int) -> Images:
    return read_images(source).chosen(slice(first, None))


@lru_cache(maxsize=1)
def _model(source: str, device: str, _fingerprint: str) -> VisionModel:
    return load_vision_model(source, device=device)


def run(cell: Cell, report: Report) -> CellOutput:
    """Compute one cell: the runner behind :data:`RUNNER`."""
    with study.threads(cell):
        config, place = dict(cell.config), cell.location
        images = _images(place["dataset"], int(place["first"]))
        if images.fingerprint != config["dataset"]["fingerprint"]:
            raise DesignError(f"{cell.label}: the images changed since the study was planned; restore them")
        if fingerprint(place["subject"]) != config["subject"]["fingerprint"]:
            raise DesignError(f"{cell.label}: the network changed since the study was planned; restore it")
        loaded = _model(place["subject"], place["device"], config["subject"]["fingerprint"])
        model = verified(loaded, images)
        split = study.split_of(config, images.clusters)
        subject = VisionSubject(model, images, _alignment(config, model, images, split.folds[config["seed"]]))
        output = study.compute_world(subject, split, config, cell.rng(), report)
        aligned = {"kind": config["alignment"], "width": subject.alignment.width}
        return CellOutput(output.table, {**output.record, "alignment": aligned})


def _alignment(config: dict[str, Any], model: VisionModel, images: Images, fold: Fold) -> Alignment:
    """Fitted to the training images of the fold, without their labels."""
    seen = capture_raw(model, images.pixels[fold.train])
    return fit_alignment(config["alignment"], seen.states, seen.final)
