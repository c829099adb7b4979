# ruff: noqa: RUF001 (the sentences use real minus and multiplication signs)
"""Sentences: snapshots of the usual ones, and what no sentence may say."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from transferstats.reporting import sentence
from transferstats.results import Claim, Estimate, Evidence, RelevanceTest, Result
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.comparison import compare
from transferstats.stats.description import describe
from transferstats.stats.estimation import estimate
from transferstats.stats.null import null_test, shared_lens_test
from transferstats.stats.permutation import order_test
from transferstats.stats.planning import plan_study, size_study
from transferstats.stats.regression import regress
from transferstats.stats.relevance import relevance_test
from transferstats.stats.reliability import reliability

CAUSAL = re.compile(
    r"\b(because|causes?|caused|causing|due to|leads? to|led to|drives?|driven|affects?|affected|impacts?|"
    r"results? in|proves?|proved|effect of|no effect|no difference|significant(ly)?|insignificant)\b",
    re.IGNORECASE,
)


def of(value: float, low: float, high: float, term: str = "mean", **changes: Any) -> Estimate:
    """A scalar estimate with given limits; what else it holds does not matter to its sentence."""
    base = Estimate(
        terms=(term,),
        estimate=np.asarray(value),
        std_error=np.asarray((high - low) / 4),
        statistic=np.asarray(4 * value / (high - low)),
        df=np.asarray(6.2),
        p_value=np.asarray(0.00042),
        conf_low=np.asarray(low),
        conf_high=np.asarray(high),
        conf_level=0.95,
        parts=np.array([1.0, 3.0]),
        dfs=np.array([4.0, 119.0]),
        part_names=("seeds", "units"),
        residual=np.asarray(0.0),
        n_seeds=5,
        n_units=120,
        dataset="wikitext",
    )
    return replace(base, **changes)


SLOPE_UNIT = "nats/token per layer"

SNAPSHOTS = [
    (
        of(0.0312, 0.0242, 0.0382, "slope", unit=SLOPE_UNIT),
        "Transfer penalties rose with layer distance, b = 0.031 nats/token per layer, 95\u00a0% CI [0.024, "
        "0.038], "
        "t(6.2) = 8.91, p = 0.0004, 5 seeds × 120 documents (dataset wikitext).",
    ),
    (
        of(-0.0312, -0.0382, -0.0242, "slope", unit=SLOPE_UNIT),
        "Transfer penalties fell with layer distance, b = −0.031 nats/token per layer, 95\u00a0% CI "
        "[−0.038, −0.024], t(6.2) = −8.91, p = 0.0004, 5 seeds × 120 documents (dataset wikitext).",
    ),
    (
        of(0.01, -0.03, 0.05, "slope", unit=SLOPE_UNIT, p_value=np.asarray(0.52)),
        "These data do not settle whether transfer penalties rise or fall with layer distance, b = 0.01 "
        "nats/token "
        "per layer, 95\u00a0% CI [−0.03, 0.05], t(6.2) = 0.50, p = 0.52, 5 seeds × 120 documents (dataset "
        "wikitext).",
    ),
    (
        of(0.216, 0.195, 0.237, n_seeds=1, note="K = 1, conditional on this lens set"),
        "Mean transfer penalty was 0.216 nats/token, 95\u00a0% CI [0.195, 0.237], t(6.2) = 20.57, p = 0.0004, 1 "
        "seed "
        "× 120 documents (dataset wikitext). Note: K = 1, conditional on this lens set.",
    ),
    (
        of(0.2, np.nan, np.nan, unit="nats/image", dataset="average"),
        "Mean transfer penalty was 0.200 nats/image, no interval could be formed, 5 seeds a dataset, 120 "
        "images in all (average over datasets).",
    ),
    (
        of(0.4, 0.3, 0.5, "ratio", unit="", dataset=""),
        "Forward penalties were the larger ones, backward over forward = 0.40, 95\u00a0% CI [0.30, 0.50], t(6.2) "
        "= "
        "8.00, p = 0.0004, 5 seeds × 120 units.",
    ),
]


@pytest.mark.parametrize(("one", "text"), SNAPSHOTS, ids=[text[:30] for _, text in SNAPSHOTS])
def test_estimate_snapshots(one: Estimate, text: str) -> None:
    assert sentence(one) == text


def test_vector_estimate_counts_intervals_and_says_they_are_not_adjusted(study: Evidence) -> None:
    cells = study.datasets[0].cells
    text = sentence(cells)
    clear = int(((cells.conf_low > 0) | (cells.conf_high < 0)).sum())
    assert f"{clear} of 20" in text
    assert "not adjusted" in text


def claim(verdict: str, **changes: Any) -> Claim:
    base = Claim(
        key="C4",
        title="Penalties are large enough to matter",
        estimand="mean of the off-diagonal penalties",
        dataset="wikitext",
        estimate=of(0.153, 0.132, 0.174),
        smallest=(-0.05, 0.05),
        p_value=0.00003,
        p_adjusted=0.0002,
        verdict=verdict,
        reason="the interval lies beyond 0.05",
        caveats=("3 seeds: valid, but wide",),
    )
    return replace(base, **changes)


def test_claim_snapshot() -> None:
    assert sentence(claim("exceeds")) == (
        "C4, dataset wikitext. The mean of the off-diagonal penalties was 0.153 nats/token, 95\u00a0% CI "
        "[0.132, 0.174], t(6.2) = 14.57, 5 seeds × 120 documents (dataset wikitext); p < 0.0001 "
        "(test of the claim), Holm-adjusted p = 0.0002; too small to matter: ±\u00a00.05 nats/token. Verdict on "
        "“Penalties are large enough "
        "to matter”: exceeds; the interval lies beyond 0.05. Note: 3 seeds: valid, but wide."
    )


def test_equivalence_names_its_test_and_writes_a_real_sign() -> None:
    text = sentence(claim("within", reason="both one-sided tests put it inside +-0.05"))
    assert "p < 0.0001 (two one-sided tests), Holm-adjusted p = 0.0002" in text
    assert "put it inside ±0.05." in text


def test_an_average_counts_seeds_by_dataset_and_units_together() -> None:
    noted = of(0.2, 0.1, 0.3, dataset="average", note="a: 9 units in 3 clusters; clusters are what is sampled")
    assert "5 seeds a dataset, 120 clusters of documents in all (average over datasets)" in sentence(noted)


def test_untested_claim_says_so_and_states_no_number() -> None:
    text = sentence(claim("not tested", estimate=None, reason="no null replicates", caveats=()))
    assert text.endswith("not tested; no null replicates.")
    assert "nats" not in text


def test_inconclusive_is_never_an_absence() -> None:
    wide = of(0.01, -0.2, 0.22, "slope", p_value=np.asarray(0.9))
    assert "do not settle" in sentence(wide)
    test = relevance_test(estimate_of("mean"), smallest=0.2)
    assert "not evidence of absence" in sentence(test) or "inconclusive" not in sentence(test)


def estimate_of(statistic: str) -> Any:
    return estimate(grid(), statistic)


def grid() -> Any:
    return simulate_grid(true_penalty(4), n_seeds=3, n_units=20, n_null=2, datasets=("a", "b"), rng=2).grid


def results(study: Evidence) -> list[Result]:
    data = grid()
    return [
        *study.claims,
        study,
        *(fit for one in study.datasets for fit in one.fits.values()),
        *(one.comparison for one in study.datasets),
        estimate_of("mean"),
        relevance_test(estimate_of("mean"), smallest=0.05),
        relevance_test(estimate_of("cells"), smallest=0.05),
        null_test(data, "mean"),
        null_test(data, "cells"),
        shared_lens_test(data, 0.05),
        regress("penalty ~ distance * direction", data),
        plan_study(data, seeds=[3, 5], units=[50, 100], smallest=0.05),
        size_study(data, half_width=0.05),
        describe(data),
        compare(data, data),
        *(reliability(data, one.name) for one in data.datasets),
        *(order_test(data, one.name) for one in data.datasets),
    ]


def test_every_result_has_a_sentence_free_of_causal_and_significance_words(study: Evidence) -> None:
    for one in results(study):
        text = sentence(one)
        assert text.strip().endswith("."), type(one).__name__
        assert not CAUSAL.search(text), (type(one).__name__, text)
        assert "nan" not in text.split(), (type(one).__name__, text)
        assert "  " not in text


def test_relevance_states_bounds_verdict_and_p() -> None:
    test = relevance_test(estimate_of("mean"), smallest=0.0001)
    assert isinstance(test, RelevanceTest)
    assert re.search(r"Against bounds of ±\u00a00\.0001 nats/token: exceeds, p [<=] ", sentence(test))


def test_clusters_are_named_where_they_are_what_was_sampled(study: Evidence) -> None:
    noted = of(0.216, 0.195, 0.237, n_units=14, note="120 units in 14 clusters; clusters are what is sampled")
    assert "5 seeds × 14 clusters of documents" in sentence(noted)
    data = replace(study.datasets[0], n_clusters=7)
    claims = tuple(c for c in study.claims if c.dataset == data.dataset and c.estimate is not None)
    seven = tuple(replace(c, estimate=replace(c.estimate, n_units=7)) for c in claims if c.estimate is not None)
    text = sentence(replace(study, claims=seven, datasets=(data,)))
    assert text.count("3 seeds × 7 clusters of documents") == len(seven)
    assert "24 documents in 7 clusters" in text


def test_caveats_of_all_claims_are_said_once(study: Evidence) -> None:
    text = sentence(study)
    assert text.count("3 seeds: valid, but wide") == 1
    assert text.count("a second caveat") == 1


def test_things_without_a_sentence_are_refused() -> None:
    with pytest.raises(TypeError, match="no sentence for dict"):
        sentence({})
