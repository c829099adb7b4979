"""What the coverage study must show: each promise, what was measured, and where it was worst."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from settings import MAIN_REGIMES

MAIN_TARGETS = ("cell", "mean", "distance 2", "slope", "asymmetry", "log ratio", "log a", "log tau", "power b")


@dataclass(frozen=True, slots=True)
class Check:
    """One promise and its outcome.

    Attributes
    ----------
    name: what is promised. bound: in words. measured: the worst value. where: the setting of the worst value.
    holds: whether it is kept.
    """

    name: str
    bound: str
    measured: float
    where: str
    holds: bool


def place(row: pd.Series) -> str:
    """A setting in words."""
    text = f"{row['regime']}, K={row['n_seeds']}, N={row['n_units']}"
    if row["n_null"]:
        text += f", R={row['n_null']}"
    return f"{text}, {row['target']}"


def at_least(name: str, frame: pd.DataFrame, column: str, bound: float) -> Check | None:
    """Every row's value is at least ``bound``, or misses it by no more than its allowed Monte-Carlo error."""
    if frame.empty:
        return None
    worst = frame.loc[frame[column].idxmin()]
    holds = (frame[column] + frame.get("slack", 0.0) >= bound).all()
    return Check(name, f"≥ {bound:g}", float(worst[column]), place(worst), bool(holds))


def at_most(name: str, frame: pd.DataFrame, column: str, bound: float) -> Check | None:
    """Every row's value is at most ``bound``, or misses it by no more than its allowed Monte-Carlo error."""
    if frame.empty:
        return None
    worst = frame.loc[frame[column].idxmax()]
    holds = (frame[column] - frame.get("slack", 0.0) <= bound).all()
    return Check(name, f"≤ {bound:g}", float(worst[column]), place(worst), bool(holds))


def average(name: str, frame: pd.DataFrame, column: str, test: tuple[str, float]) -> Check | None:
    """The mean over rows is at least or at most a bound."""
    if frame.empty:
        return None
    value, (sign, bound) = float(frame[column].mean()), test
    holds = value >= bound if sign == "≥" else value <= bound
    return Check(name, f"{sign} {bound:g}", value, f"mean of {len(frame)}", holds)


def with_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with error = 1 - coverage and one_sided = the larger of the two one-sided errors."""
    return frame.assign(error=1 - frame["coverage"], one_sided=frame[["miss_above", "miss_below"]].max(axis=1))


def all_checks(frame: pd.DataFrame, allowance: float = 0.0) -> list[Check]:
    """Every promise of the study; ``allowance``: Monte-Carlo standard errors that a quick run may miss by."""
    everything = with_errors(frame)
    everything["slack"] = allowance * (0.95 * 0.05 / everything["n_sets"]).pow(0.5)
    found: list[Check] = []
    for section in (interval_checks, width_checks, test_checks, control_checks, further_checks):
        found.extend(check for check in section(everything) if check is not None)
    return found


def pick(frame: pd.DataFrame, study: str, method: str) -> pd.DataFrame:
    """Rows of one study and method."""
    return frame[(frame["study"] == study) & (frame["method"] == method)]


def interval_checks(frame: pd.DataFrame) -> Iterator[Check | None]:
    """Coverage of the crossed interval."""
    crossed = pick(frame, "targets", "crossed")
    main = crossed[crossed["regime"].isin(MAIN_REGIMES)]
    yield at_least("crossed coverage, seed/balanced/unit regimes, nine targets", main, "coverage", 0.93)
    yield at_most("crossed coverage, no needless width", main, "coverage", 0.995)
    means = main.groupby(["regime", "n_seeds", "n_units", "n_null"], as_index=False)["coverage"].mean()
    yield at_least("crossed coverage, mean over targets", means.assign(target="all targets"), "coverage", 0.945)
    for regime, bound in (("heavy", 0.93), ("skewed", 0.91)):
        rows = crossed[crossed["regime"] == regime]
        yield at_least(f"crossed coverage, {regime} regime", rows, "coverage", bound)


def width_checks(frame: pd.DataFrame) -> Iterator[Check | None]:
    """Width against an interval that knows the true variance."""
    crossed = pick(frame, "targets", "crossed")
    for seeds, bound in ((3, 2.1), (5, 1.45), (10, 1.25)):
        rows = crossed[(crossed["regime"] == "seed") & (crossed["n_seeds"] == seeds)]
        yield at_most(f"width / oracle, seeds dominate, K={seeds}", rows, "width_ratio", bound)
    rows = crossed[(crossed["regime"] == "unit") & (crossed["n_seeds"] >= 5)]
    yield at_most("width / oracle, units dominate, K ≥ 5", rows, "width_ratio", 1.12)


def test_checks(frame: pd.DataFrame) -> Iterator[Check | None]:
    """Errors of the first kind."""
    one_sided = pick(frame, "targets", "crossed, one-sided 5 %")
    main = one_sided[one_sided["regime"].isin((*MAIN_REGIMES, "heavy"))]
    yield at_most("one-sided 5 % tests, symmetric regimes", main, "one_sided", 0.075)
    both = pd.concat([main["miss_above"], main["miss_below"]]).to_frame("one_sided")
    yield average("one-sided 5 % tests, symmetric regimes, on average", both, "one_sided", ("≤", 0.055))
    slope = frame[frame["study"] == "slope_null"]
    yield at_most("slope test at true slope 0, crossed", slope[slope["method"] == "crossed"], "error", 0.07)
    for method in ("OLS on cells", "QAP (exact)"):
        yield at_least(
            f"slope test at true slope 0, {method} must fail", slope[slope["method"] == method], "error", 0.1
        )
    yield at_most("null test, R ≥ 5, K ≥ 2, two-sided 5 %", pick(frame, "null_test", "null test"), "error", 0.07)
    one_sided = pick(frame, "null_test", "null test, one-sided 5 %")
    yield at_most("null test, R ≥ 5, K ≥ 2, one-sided 5 %", one_sided, "one_sided", 0.07)
    for method in ("holm", "bonferroni"):
        yield at_most(f"family of all cells, {method}", pick(frame, "family", f"cells, {method}"), "error", 0.065)


def control_checks(frame: pd.DataFrame) -> Iterator[Check | None]:
    """What must fail: the target mean with 3 seeds that dominate."""
    chosen = frame[
        (frame["study"] == "bootstrap")
        & (frame["regime"] == "seed")
        & (frame["n_seeds"] == 3)
        & (frame["target"] == "mean")
    ]
    for method, bound in (
        ("naive (pooled)", 0.55),
        ("units only", 0.60),
        ("seed percentile", 0.76),
        ("bootstrap percentile", 0.85),
    ):
        rows = chosen[chosen["method"] == method]
        yield at_most(f"negative control must fail: {method}", rows, "coverage", bound)


def further_checks(frame: pd.DataFrame) -> Iterator[Check | None]:
    """Promises of our own, beyond the list."""
    two_term = pick(frame, "bootstrap", "bootstrap two_term")
    main = two_term[two_term["regime"].isin(MAIN_REGIMES)]
    yield at_least("two-term bootstrap coverage, main regimes", main, "coverage", 0.925)
    exceeds, within = pick(frame, "relevance", "verdict exceeds"), pick(frame, "relevance", "verdict within")
    yield at_most('verdict "exceeds" where the truth is on the bound (nominal .025)', exceeds, "error", 0.04)
    yield at_most('verdict "within" where the truth is on the bound (nominal .05)', within, "error", 0.07)
    share = pick(frame, "null_test", "share explained (Fieller)")
    yield at_least("share explained by the null, Fieller limits", share, "coverage", 0.93)
    for method in ("compare, all units shared", "compare, half shared", "compare, none shared"):
        yield at_least(
            f"difference of subjects: {method[9:]}", pick(frame, "comparison", method), "coverage", 0.93
        )
    for method in ("crossed, token weights", "crossed, two datasets"):
        yield at_least(method, pick(frame, "weights", method), "coverage", 0.93)
