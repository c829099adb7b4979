"""Evidence built by hand from simulated arrays, so that views are tested apart from the claims they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from transferstats.grid import TransferGrid
from transferstats.reporting.documents import report_files
from transferstats.results import Claim, DatasetEvidence, Estimate, Evidence
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.crossed import crossed_estimate
from transferstats.stats.decay import fit_decay
from transferstats.stats.decay_selection import compare_decay
from transferstats.stats.depth import depth_profile
from transferstats.stats.estimation import estimate
from transferstats.stats.null import null_test, shared_lens_test
from transferstats.stats.planning import plan_study

N_LAYERS = 5
SUMMARY = ("mean", "forward", "backward", "asymmetry", "slope")


def simulated_grid() -> TransferGrid:
    return simulate_grid(
        true_penalty(N_LAYERS), n_seeds=3, n_units=24, n_null=2, datasets=("wikitext", "code"), rng=11
    ).grid


def scalar(grid: TransferGrid, index: int, statistic: str) -> Estimate:
    data = grid.datasets[index]
    one = crossed_estimate(data.losses["kl"], statistic, weights=data.tokens, unit=grid.unit)
    return replace(one, dataset=data.name)


def summary_of(grid: TransferGrid, index: int) -> Estimate:
    """The named scalars of one dataset as one vector estimate."""
    ones = [scalar(grid, index, name) for name in SUMMARY]
    fields = ("estimate", "std_error", "statistic", "df", "p_value", "conf_low", "conf_high", "residual")
    stacked = {name: np.array([float(getattr(one, name)) for one in ones]) for name in fields}
    parts = np.stack([one.parts for one in ones], axis=-1)
    return replace(ones[0], terms=SUMMARY, parts=parts, **stacked)


def dataset_of(grid: TransferGrid, index: int) -> DatasetEvidence:
    data = grid.datasets[index]
    alone = grid.with_datasets([data.name])
    cells = scalar(grid, index, "cells")
    matrix = np.zeros((N_LAYERS, N_LAYERS))
    matrix[~np.eye(N_LAYERS, dtype=bool)] = cells.estimate
    fits = {family: fit_decay(alone, family)[0] for family in ("linear", "saturating")}
    test = shared_lens_test(alone, 0.05)
    null = null_test(alone, "mean")
    return DatasetEvidence(
        dataset=data.name,
        n_seeds=len(data.seeds),
        n_units=len(data.units),
        n_clusters=len(set(data.clusters)),
        tokens=float(data.tokens.sum()),
        matrix=matrix,
        cells=cells,
        summary=summary_of(grid, index),
        distances=scalar(grid, index, "distance"),
        depth=depth_profile(alone).headline,
        references={
            "logit": np.linspace(3.0, 0.6, N_LAYERS),
            "final": np.asarray(0.0),
            "prior": np.asarray(2.75),
        },
        fits=fits,
        comparison=compare_decay(alone, tuple(fits))[0],
        extras={
            "null_test": null,
            "null_matrix": matrix * 0.3,
            "excess": null_test(alone, "cells").excess.headline,
            "shared": test.excess.headline,
            "shared_null": test.test.estimates[-1],
            "shared_test": test,
            "plan": plan_study(alone, seeds=[3, 5, 10], units=[50, 200], smallest=0.05),
        },
    )


def claims_of(grid: TransferGrid) -> tuple[Claim, ...]:
    common = ("3 seeds: valid, but wide",)
    rows: list[Claim] = []
    for statistic, key, title, verdict, smallest in (
        ("mean", "C1", "Transfer penalties are above zero", "supported", None),
        ("mean", "C2", "Penalties are large enough to matter", "exceeds", (-0.05, 0.05)),
        ("slope", "C3", "Penalties grow with layer distance", "supported", None),
        ("asymmetry", "C4", "Forward and backward transfer differ", "inconclusive", (-0.05, 0.05)),
    ):
        rows.extend(
            Claim(
                key=key,
                title=title,
                estimand={"mean": "mean of the off-diagonal penalties"}.get(statistic, statistic),
                dataset=one.dataset,
                estimate=one,
                smallest=smallest,
                p_value=0.0004,
                p_adjusted=0.0012,
                verdict=verdict,
                reason="the 95 % interval says so",
                caveats=common if key != "C4" else (*common, "a second caveat"),
            )
            for one in reversed(estimate(grid, statistic).members)
        )
    untested = Claim(
        key="C5", title="One shared lens serves every layer", estimand="largest excess", dataset="average",
        estimate=None, smallest=None, p_value=float("nan"), p_adjusted=float("nan"), verdict="not tested",
        reason="the study has no shared lens",
    )  # fmt: skip
    return (*rows, untested)


def certificate_rows(grid: TransferGrid) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "dataset": data.name,
            "world": "observed",
            "seed": seed,
            "readout": "own",
            "layer": layer,
            "start_kl": 1.5 - 0.1 * depth + 0.01 * float(rng.normal()),
            "held_out_kl": 1.2 - 0.1 * depth,
            "train_kl": 1.1 - 0.1 * depth,
            "change": float("nan") if depth == 0 else 0.001 * (1 + seed),
            "steps": 400,
            "converged": not (depth == 1 and seed == 2),
        }
        for data in grid.datasets
        for seed in range(len(data.seeds))
        for depth, layer in enumerate(grid.layers)
    )


@pytest.fixture(scope="session")
def study() -> Evidence:
    """Evidence with everything in it: two datasets, null, shared lens, fits, certificates."""
    grid = simulated_grid()
    return Evidence(
        subject="tiny/model-1",
        layers=grid.layers,
        loss="kl",
        unit=grid.unit,
        smallest=0.05,
        conf_level=0.95,
        claims=claims_of(grid),
        datasets=tuple(dataset_of(grid, index) for index in range(2)),
        certificates=certificate_rows(grid),
        provenance={"study": {"subject": {"name": "tiny/model-1"}}, "cells": ["ab" * 32]},
    )


@pytest.fixture(scope="session")
def bare(study: Evidence) -> Evidence:
    """Evidence with as little as a long table of losses supports: one dataset, no fits, no extras."""
    alone = replace(study.datasets[0], fits={}, comparison=None, extras={}, references={})
    claims = tuple(claim for claim in study.claims if claim.dataset == alone.dataset)
    return replace(study, claims=claims, datasets=(alone,), certificates=pd.DataFrame(), provenance={})


@pytest.fixture(scope="session")
def study_files(study: Evidence) -> Mapping[str, bytes]:
    """Every file of the full report."""
    return report_files(study)


@pytest.fixture(scope="session")
def renamed(study: Evidence) -> Callable[[str], Evidence]:
    """The bare study with every name that comes from data replaced."""

    def rename(name: str) -> Evidence:
        first = study.datasets[0]

        def of(one: Any) -> Any:
            return replace(one, dataset=name, note=name) if isinstance(one, Estimate) else one

        data = replace(
            first,
            dataset=name,
            cells=of(first.cells),
            summary=of(first.summary),
            distances=of(first.distances),
            depth=replace(of(first.depth), terms=tuple(f"{name}{i}" for i in range(N_LAYERS))),
            fits={key: replace(fit, dataset=name) for key, fit in first.fits.items()},
            comparison=replace(first.comparison, dataset=name),
            references={**first.references, name: np.asarray(1.0)},
            extras={},
        )
        claims = tuple(
            replace(
                claim, dataset=name, title=f"t {name}", reason=name, caveats=(name,), estimate=of(claim.estimate)
            )
            for claim in study.claims
            if claim.dataset in (first.dataset, "average")
        )
        certificates = study.certificates.assign(dataset=name, layer=name)
        layers = tuple(f"{name} {i}" for i in range(N_LAYERS))
        return replace(
            study,
            subject=name,
            layers=layers,
            claims=claims[:3],
            datasets=(data,),
            certificates=certificates.head(6),
            provenance={"study": name, name: [name]},
        )

    return rename
