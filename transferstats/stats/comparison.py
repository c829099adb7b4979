"""Two subjects compared with one interval, and several subjects combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats as scipy_stats
from statsmodels.stats.meta_analysis import combine_effects

from transferstats.distance import Distance
from transferstats.errors import DesignError
from transferstats.grid import TransferGrid
from transferstats.results.comparison import Comparison, MetaAnalysis
from transferstats.results.estimate import Estimate
from transferstats.results.estimates import Estimates
from transferstats.stats.crossed import Piece, VarianceParts, labels_of, variance_parts
from transferstats.stats.estimation import with_average
from transferstats.stats.influence import Influence, influence_table
from transferstats.stats.intervals import check_conf_level, p_two_sided
from transferstats.stats.paired import Pairing, pair_units, paired_parts
from transferstats.stats.samples import OWN_LENSES, LossSample, loss_sample
from transferstats.stats.statistics import StatisticLike

ROUNDING_OF_SCALE = 1e-6
"""The Paule-Mandel variance makes the HKSJ factor 1 up to its own tolerance, which is no reason for a note."""

METHOD = "crossed two-term t, subjects compared"


def compare(
    first: TransferGrid,
    second: TransferGrid,
    *,
    statistic: StatisticLike = "mean",
    loss: str | None = None,
    conf_level: float = 0.95,
    scale: str = "identity",
    cluster: bool = True,
    distance: Distance | None = None,
) -> Comparison:
    """Difference (or ratio) of the same statistic between two subjects.

    Datasets are matched by name (two grids of one dataset each are compared whatever their names). Units with
    the same label in the same dataset are paired, so that what a document does to both subjects cancels; seeds
    of different subjects are independent.

    Parameters
    ----------
    scale: "identity" for first - second; "log" for the ratio first / second of two positive values.
    distance: as in ``estimate``, for both; "depth" makes slopes of networks of different depth comparable.

    Raises
    ------
    DesignError: no dataset in common, statistics with different terms, differences of different units.

    Examples
    --------
    >>> import transferstats as ts
    >>> first, second = (ts.simulate_grid(n_seeds=4, n_units=40, rng=n).grid for n in (1, 2))
    >>> found = ts.compare(first, second).difference.headline
    >>> bool(found.conf_low < 0 < found.conf_high)
    True
    """
    level = check_conf_level(conf_level)
    units = [grid.unit_of(loss) for grid in (first, second)]
    if scale == "identity" and units[0] != units[1]:
        raise DesignError(
            f"a difference of {units[0]} and {units[1]} has no meaning; compare ratios with scale='log'"
        )
    differences, sides = [], ([], [])  # type: tuple[list[Piece], tuple[list[Piece], list[Piece]]]
    for one, other in matched_datasets(first, second):
        samples = [
            loss_sample(grid.dataset(name), loss or grid.loss, cluster=cluster)
            for grid, name in ((first, one), (second, other))
        ]
        tables = [
            influence_table(
                sample.losses, statistic, weights=sample.weights, distance=grid.scale(distance), unit=unit
            )
            for grid, sample, unit in zip((first, second), samples, units, strict=True)
        ]
        for side, sample, table in zip(sides, samples, tables, strict=True):
            labels = labels_of(table, sample.note, dataset=sample.name)
            side.append(Piece(table.estimate, variance_parts(table.table), labels))
        differences.append(_difference(samples, tables, scale))
    return Comparison(
        difference=_intervals(differences, level, scale),
        first=with_average(sides[0], conf_level=level),
        second=with_average(sides[1], conf_level=level),
        subjects=(first.subject, second.subject),
    )


def matched_datasets(first: TransferGrid, second: TransferGrid) -> list[tuple[str, str]]:
    """Pairs of dataset names; by name, or the only two there are."""
    names = [data.name for data in second.datasets]
    shared = [(data.name, data.name) for data in first.datasets if data.name in names]
    if shared:
        return shared
    if len(first.datasets) == len(second.datasets) == 1:
        return [(first.datasets[0].name, second.datasets[0].name)]
    raise DesignError(
        f"{first.subject} and {second.subject} share no dataset; pick one of each with with_datasets([name])"
    )


def _difference(samples: list[LossSample], tables: list[Influence], scale: str) -> Piece:
    one, other = tables
    if one.terms != other.terms:
        raise DesignError(
            f"the statistic has {len(one.terms)} terms on the first subject and {len(other.terms)} on the "
            "second; compare one that means the same on both, such as 'mean'"
        )
    same = samples[0].name == samples[1].name
    pairing = (
        pair_units(samples[0].units, samples[1].units)
        if same
        else Pairing(np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp))
    )
    left, right, estimate = one.table, other.table, one.estimate - other.estimate
    if scale == "log":
        with np.errstate(divide="ignore", invalid="ignore"):
            positive = (one.estimate > 0) & (other.estimate > 0)
            estimate = np.where(positive, one.estimate / other.estimate, np.nan)
            left = left / one.estimate[:, None, None]
            right = right / other.estimate[:, None, None]
    own = [OWN_LENSES in sample.note for sample in samples]
    parts = paired_parts(left, right, pairing=pairing, own_lenses=own[1])
    if scale == "log":
        # Variances of the log ratio, handed on as variances of the ratio.
        parts = VarianceParts(
            parts.variances * estimate**2, parts.dfs, parts.names, np.asarray(parts.residual * estimate**2)
        )
    note = f"{len(pairing.first)} units shared by both subjects" if len(pairing.first) else "no units shared"
    if any(own) and all(mine or table.table.shape[1] > 1 for mine, table in zip(own, tables, strict=True)):
        note = f"{note}; {OWN_LENSES}"
    labels = labels_of(one, note, method=METHOD, dataset=samples[0].name)
    labels = replace(
        labels,
        n_seeds=min(table.table.shape[1] for table in tables),
        n_units=min(table.table.shape[2] for table in tables),
        unit="" if scale == "log" else labels.unit,
    )
    return Piece(estimate, parts, labels)


def _intervals(pieces: list[Piece], level: float, scale: str) -> Estimates:
    result = with_average(pieces, conf_level=level, scale=scale)
    if scale == "identity":
        return result
    members = []
    for member in result:
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(member.estimate)
        note = member.note.replace("no test against 0 on the log scale", "p-value against a ratio of 1")
        members.append(replace(member, p_value=np.asarray(p_two_sided(logs, member.parts, member.dfs)), note=note))
    return Estimates(tuple(members))


def meta_analysis(
    estimates: Sequence[Estimate | Estimates], *, subjects: Sequence[str], conf_level: float = 0.95
) -> MetaAnalysis:
    """Combine a scalar statistic over several subjects (statsmodels ``combine_effects``).

    Random effects with the Paule-Mandel variance between subjects and the interval of Hartung & Knapp 2001 (doi
    10.1002/sim.791) and Sidik & Jonkman, which uses t with k - 1 df; and the common effect beside it. The HKSJ
    factor is never taken below 1: subjects that agree by chance would otherwise give a spuriously short
    interval (Roever et al. 2015, doi 10.1186/s12874-015-0091-1). Subjects must not share seeds or units; for
    two subjects on the same units use :func:`compare`.

    Parameters
    ----------
    estimates: one scalar estimate a subject (the headline of Estimates is used), all in one unit.
    subjects: their names.

    Raises
    ------
    DesignError: fewer than 2 subjects, vectors, log scales, different units, undefined standard errors.

    Examples
    --------
    >>> import transferstats as ts
    >>> found = [ts.estimate(ts.simulate_grid(n_seeds=4, n_units=40, rng=n).grid, "mean") for n in range(4)]
    >>> ts.meta_analysis(found, subjects=["a", "b", "c", "d"]).tidy()["term"].tolist()
    ['a', 'b', 'c', 'd', 'random effects (HKSJ)', 'common effect']
    """
    level = check_conf_level(conf_level)
    members = tuple(one.headline if isinstance(one, Estimates) else one for one in estimates)
    _check_members(members, subjects)
    effect = np.array([float(one.estimate) for one in members])
    variance = np.array([float(one.std_error) ** 2 for one in members])
    found = combine_effects(effect, variance, method_re="iterated", use_t=False)
    common = float(found.mean_effect_fe), float(found.sd_eff_w_fe)
    scale = float(found.scale_hksj_re)
    random = float(found.mean_effect_re), float(found.sd_eff_w_re * np.sqrt(max(1.0, scale)))
    centre, error = np.array([random[0], common[0]]), np.array([random[1], common[1]])
    df = np.array([len(members) - 1.0, np.inf])
    half = scipy_stats.t.isf((1 - level) / 2, df) * error
    heterogeneity = found.test_homogeneity()
    note = ""
    if scale < 1 - ROUNDING_OF_SCALE:
        note = "the subjects agree better than their standard errors explain; the HKSJ factor is kept at 1"
    return MetaAnalysis(
        members=members,
        subjects=tuple(subjects),
        estimate=centre,
        std_error=error,
        df=df,
        p_value=np.asarray(2 * scipy_stats.t.sf(np.abs(centre / error), df)),
        conf_low=centre - half,
        conf_high=centre + half,
        conf_level=level,
        weights=np.stack([found.weights_rel_re, found.weights_rel_fe]),
        tau2=float(found.tau2),
        i2=float(max(found.i2, 0.0)),
        q=float(found.q),
        q_p=float(heterogeneity.pvalue),
        note=note,
    )


def _check_members(members: Sequence[Estimate], subjects: Sequence[str]) -> None:
    if len(members) < 2 or len(members) != len(subjects):
        raise DesignError(
            f"a meta-analysis needs at least 2 subjects, each named; got {len(members)} and {len(subjects)}"
        )
    for one, subject in zip(members, subjects, strict=True):
        if np.ndim(one.estimate) or one.scale != "identity":
            raise DesignError(f"{subject}: combine scalar estimates on the identity scale")
        if not np.isfinite(one.std_error) or not float(one.std_error) > 0:
            raise DesignError(f"{subject} has no standard error: {one.note or 'unknown uncertainty'}")
    if len({one.unit for one in members}) > 1:
        raise DesignError("the subjects are in different units; combine logs of ratios or one unit")
