"""Cells of subjects whose answer is known: what the toolkit says of them can be checked by anybody.

"iterative" and "trap" have one lens that is exactly right at every layer, so penalties beyond the null would be an
error; the layers of a "pipeline" are rotated by its dial. See :mod:`transferstats.known_truth`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from transferstats.engine import Cell, CellOutput, Report
from transferstats.known_truth import KnownTruth, simulate_subject
from transferstats.lens import study
from transferstats.lens.arrays import array_subject
from transferstats.lens.design import listed_worlds, plain, plan_cells, split_of
from transferstats.lens.plan import FitPlan
from transferstats.provenance import content_key

RUNNER = "transferstats.lens.examples:run"
DATASET = "simulated"
FOLD_UNITS, TOKENS = 75, 200
"""Documents of a fold, and the rows of each: the sizes of the known-truth study."""


def known_truth_cells(
    kind: str,
    dial: float = 0.0,
    *,
    seeds: int = 5,
    null_replicates: int = 5,
    fit: FitPlan | None = None,
    evaluation: study.EvaluationPlan | None = None,
    machine: study.Machine | None = None,
    rng: int = 0,
) -> list[Cell]:
    """Plan the cells of a study on a simulated subject whose answer is known.

    Parameters
    ----------
    kind: "iterative", "trap" or "pipeline". dial: rotation of the pipeline's layers, radians (root mean square);
        ``inf`` for any rotation.
    rng: seed of the subject itself, its states and documents. The others as in ``cells``.

    Returns
    -------
    K + R cells and one for the null's own null, ready for ``sweep``; the network has 8 layers of width 48 and 160
    classes.

    Raises
    ------
    DesignError: an unknown kind, a dial for a kind without one, fewer than 2 seeds.
    """
    worlds = listed_worlds(seeds, null_replicates)
    chosen = evaluation or study.EvaluationPlan()
    folds = max(seeds, null_replicates)
    truth = KnownTruth(kind, dial, n_units=chosen.units + FOLD_UNITS * folds, tokens=max(TOKENS, chosen.tokens))
    described = {**asdict(truth), "dial": f"{dial!r}", "rng": rng}  # JSON has no infinity
    fingerprint = content_key(described)
    config = {
        "algorithm": study.ALGORITHM,
        "subject": {"name": kind if kind != "pipeline" else f"pipeline {dial:g}", "fingerprint": fingerprint},
        "truth": described,
        "fit": plain(fit or FitPlan()),
        "evaluation": plain(chosen),
        "folds": folds,
    }
    clusters = tuple(f"document {index}" for index in range(truth.n_units))
    dataset = Simulated(DATASET, clusters, "simulated", fingerprint)
    return plan_cells(config, [dataset], worlds, RUNNER, (machine or study.Machine()).place())


@dataclass(frozen=True, slots=True)
class Simulated:
    """The documents of a simulated subject, as planning needs them; see ``design.Dataset``."""

    name: str
    clusters: tuple[str, ...]
    origin: str
    fingerprint: str


def run(cell: Cell, report: Report) -> CellOutput:
    """Compute one cell: the runner behind :data:`RUNNER`. The subject is drawn again, the same for every cell."""
    with study.threads(cell):
        config = dict(cell.config)
        described = dict(config["truth"])
        rng = np.random.default_rng(described.pop("rng"))
        truth = KnownTruth(**{**described, "dial": float(described["dial"])})
        subject = array_subject(simulate_subject(truth, rng=rng))
        return study.compute_world(subject, split_of(config, subject.clusters), config, cell.rng(), report)
