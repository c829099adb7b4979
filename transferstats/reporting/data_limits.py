"""What a report says of the data behind its lenses: the learning curve, and whether the null is right here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from transferstats.reporting import formats, wording
from transferstats.reporting.canvas import BLUE, INK, MUTED, ORANGE, light_grid, new_figure, style
from transferstats.reporting.figures import figure
from transferstats.reporting.sentences import evidence_phrase, quantity, sentence
from transferstats.reporting.tables import Table, table, tidy_table
from transferstats.results import DatasetEvidence, Estimate, LearningCurve, NullCalibration

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@sentence.register
def curve_sentence(x: LearningCurve) -> str:
    """What more training data did, would do, and would leave."""
    last = x.points[-1].headline
    if len(last.terms) > 1:
        return f"{x.statistic.capitalize()} by layer at {formats.joined(list(x.shares))} of the training rows."
    dataset = last.dataset
    rows = [formats.count(row["training_rows"]) for row in x.rows() if row["dataset"] == dataset][: len(x.shares)]
    values = [quantity(one.headline) for one in x.points]
    doubled, unlimited = x.doubled.headline, x.unlimited.headline
    text = (
        f"With {formats.joined(rows)} training rows, {wording.term_name(last.terms[0]).lower()} was "
        f"{formats.joined(values)}. Twice the rows would lower it by about {quantity(doubled)} "
        f"({evidence_phrase(doubled, with_p=False)}), and unlimited rows would leave {quantity(unlimited)} "
        f"({evidence_phrase(unlimited, with_p=False)})"
    )
    follows = x.follows()
    if follows is None:
        return f"{text}, if it falls in proportion to one over the rows, which these points cannot tell."
    if follows:
        return f"{text}, if it falls in proportion to one over the rows; the three points do not contradict that."
    assert x.departure is not None
    p = formats.p_value(float(x.departure.headline.p_value))
    return f"{text}; but the three points do not follow one over the rows ({p}), so neither is to be relied on."


@sentence.register
def calibration_sentence(x: NullCalibration) -> str:
    """Whether the null finds nothing where nothing is."""
    one, null = x.excess.headline, x.null.headline
    if len(one.terms) > 1:
        return sentence(one)
    share = float(one.estimate) / float(null.estimate) if float(null.estimate) else float("nan")
    found = f"excess {quantity(one)}, {evidence_phrase(one, with_p=False)}; {formats.percent(share)} of the null"
    verdict = x.calibrated()
    if verdict is None:
        return f"Whether the null is calibrated here cannot be told ({found})."
    if not verdict:
        return (
            "The null was not calibrated here: another of its replicates, treated as observed, differs from a "
            f"null of its own ({found})."
        )
    largest = formats.number(float(np.max(np.abs([one.conf_low, one.conf_high]))))
    return (
        "The null was calibrated here, as far as one run can tell: another of its replicates, treated as "
        f"observed, shows nothing beyond a null of its own ({found}); an error of up to {largest} is not excluded."
    )


@figure.register(LearningCurve)
def curve_figure(x: LearningCurve) -> Figure:
    """The statistic against training rows, and what unlimited rows would leave."""
    return draw_curve(x, x.points[-1].headline.dataset)


def draw_curve(x: LearningCurve, dataset: str) -> Figure:
    """One dataset of a learning curve; of a vector statistic the mean over its terms, without intervals."""
    points = [_scalar(one[dataset]) for one in x.points]
    rows = [row for row in x.rows() if row["dataset"] == dataset]
    counts = list(dict.fromkeys(row["training_rows"] for row in rows if row["share"] in x.shares))
    end = _scalar(x.unlimited[dataset])
    with style():
        shown = new_figure(height=3.4)
        axes = shown.add_subplot()
        values = np.array([one[0] for one in points])
        axes.errorbar(
            counts,
            values,
            yerr=np.abs(np.array([one[1:] for one in points]).T - values),
            fmt="o-",
            color=BLUE,
            capsize=3,
            label="lenses of these rows",
        )
        place = counts[-1] * 2
        axes.errorbar(
            [place],
            [end[0]],
            yerr=[[end[0] - end[1]], [end[2] - end[0]]],
            fmt="D",
            color=ORANGE,
            capsize=3,
            label="unlimited rows, if it falls like 1/rows",
        )
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.set_xscale("log")
        names = [formats.count(count) for count in counts]
        axes.set_xticks([*counts, place], [*names, "\u221e"], color=INK)
        axes.minorticks_off()
        axes.set_xlabel("training rows of a lens")
        axes.set_ylabel(
            f"{wording.term_name(x.points[-1][dataset].terms[0]).lower()}, {_unit(x.points[-1][dataset])}"
        )
        light_grid(axes)
        shown.legend(loc="outside lower center", ncols=2)
    return shown


def _unit(one: Estimate) -> str:
    return formats.legible(one.unit, 40)


def _scalar(one: Estimate) -> tuple[float, float, float]:
    if len(one.terms) > 1:
        mean = float(np.mean(one.estimate))
        return mean, mean, mean
    return float(one.estimate), float(one.conf_low), float(one.conf_high)


@table.register
def curve_table(x: LearningCurve) -> Table:
    """Every share, and what follows from them."""
    return tidy_table(x.tidy(), name="learning-curve", title="Learning curve", extra=("share", "training_rows"))


@table.register
def calibration_table(x: NullCalibration) -> Table:
    """The excess of the null over a null of its own."""
    title = "Null replicates beyond the null of one of them"
    return tidy_table(x.tidy(), name="null-calibration", title=title, extra=("null", "share_of_null"))


def curve_caption(x: LearningCurve, dataset: str) -> str:
    """Caption of a learning curve."""
    level = formats.level(x.points[-1][dataset].conf_level)
    return (
        "Mean penalty of lenses fitted to nested parts of each fold (whole clusters), scored on the same units, "
        f"with {level} intervals for new seeds and new units. The diamond is what unlimited rows would leave if "
        "the penalty falls in proportion to one over the rows. Penalties from directions in which a layer hardly "
        "varies do not fall with the rows; those are for the null."
    )


def curve_alt(x: LearningCurve, dataset: str) -> str:
    """Points of a learning curve in words."""
    rows = [row for row in x.rows() if row["dataset"] == dataset]
    parts = [
        f"{formats.number(row['estimate'])} with {formats.count(row['training_rows'])} rows"
        if row["share"] in x.shares
        else f"{formats.number(row['estimate'])} ({row['share']})"
        for row in rows
    ]
    return formats.legible(f"Learning curve: {'; '.join(parts)}.", 900)


def data_sentences(data: DatasetEvidence) -> Iterator[tuple[str, str]]:
    """(term, words) of what one dataset says of its training data and of its null."""
    name = formats.legible(data.dataset)
    for key, term in (("learning_curve", "Training data"), ("null_calibration", "The null's own null")):
        found = data.extras.get(key)
        if isinstance(found, LearningCurve | NullCalibration):
            yield f"{term}, {name}", sentence(found)


def data_tables(data: DatasetEvidence, tail: str, name: str) -> Iterator[Table]:
    """Tables of one dataset: learning curves of penalty and shared excess, and the null's own null."""
    titles = {
        "learning_curve": ("learning-curve", "Mean penalty by training rows"),
        "shared_curve": ("shared-curve", "Shared-lens excess by training rows"),
    }
    for key, (stem, title) in titles.items():
        found = data.extras.get(key)
        if isinstance(found, LearningCurve):
            extra = ("share", "training_rows")
            yield tidy_table(found.tidy(), name=f"{stem}-{tail}", title=f"{title}, {name}", extra=extra)
    check = data.extras.get("null_calibration")
    if isinstance(check, NullCalibration):
        title = f"The null's own null, {name}: excess where nothing is"
        extra = ("null", "share_of_null")
        yield tidy_table(check.tidy(), name=f"null-calibration-{tail}", title=title, extra=extra)
