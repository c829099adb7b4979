"""Everything a report shows beside its figures: tables of one study, its design, and its limits, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from transferstats.reporting import formats, wording
from transferstats.reporting.data_limits import data_sentences, data_tables
from transferstats.reporting.layout import Cell, Column
from transferstats.reporting.pictures import decay_fits, matrix_frame, slug
from transferstats.reporting.sentences import capital, ended
from transferstats.reporting.tables import Table, table, tidy_table
from transferstats.reporting.tables_methods import appendix_tables
from transferstats.results import AVERAGE, JUDGED, LIMITED_GAP, DatasetEvidence, Estimate, Evidence, Result

KEYS = ("dataset", "world", "readout", "layer")
MEASURES = {
    "start_kl": "Start kl",
    "held_out_kl": "Held-out kl",
    "train_kl": "Train kl",
    "gap": "Gap to training, share",
    "rows": "Training rows",
    "rows_per_parameter": "Rows a parameter",
    "dimension": "Effective dimension",
    "change": "Fall over last doubling",
    "steps": "Steps",
}


def study_tables(x: Evidence) -> Iterator[tuple[str, Table]]:
    """(section, table) of every table of a report, in reading order; the certificates come last."""
    yield "verdicts", table(x)
    for position, data in enumerate(x.datasets):
        tail, name = slug(position, data.dataset), formats.legible(data.dataset)
        yield "matrix", _cells(x, data, tail)
        yield "distance", _terms(data.distances, f"distances-{tail}", f"Mean penalty by layer distance, {name}")
        yield from _decay(data, tail, name)
        yield "depth", _terms(data.depth, f"depth-{tail}", f"Own-lens loss by layer, {name}")
        yield "shares", _with_shares(data.summary, f"summary-{tail}", f"Summary of penalties, {name}")
        yield from _extras(data, tail, name)
        yield from (("data", one) for one in data_tables(data, tail, name))
        yield from appendix_tables(data, tail, name)
    if len(x.certificates):
        yield "certificates", certificate_summary(x.certificates, by_layer=False)
        yield "certificates", certificate_summary(x.certificates)
        yield "certificates", certificate_table(x.certificates)


EXTRAS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "null_test": ("matrix", "Penalty beyond the shared-lens null", ("observed", "null", "share_explained")),
    "excess": ("matrix", "Penalty beyond the shared-lens null, cell by cell", ()),
    "similarity": ("distance", "Rank correlation of penalty and layer similarity (Spearman)", ()),
    "gap_shared": ("depth", "Share of the gap from logit lens to own lens that one shared lens closes", ()),
    "gap_tied": ("depth", "Share of that gap that one linear map with a bias a layer closes", ()),
    "penalty_share": ("matrix", "Penalty as a share of what the lenses gain over the prior", ()),
    "disagreement": ("matrix", "Penalty in disagreement with the network's most likely output", ()),
    "cells_disagreement": ("matrix", "Penalty in disagreement, cell by cell", ()),
    "shared_test": (
        "shared",
        "Shared lens against the smallest penalty of interest, by layer",
        ("verdict", "p_within"),
    ),
    "shared": ("shared", "Shared-lens excess by layer", ()),
    "shared_null": ("shared", "Shared-lens excess beyond its null, by layer", ()),
    "path": ("path", "Mean penalty along the training of the lenses", ("held_out_kl",)),
}
"""Section, title and further columns of the extras that have a table."""


def _extras(data: DatasetEvidence, tail: str, name: str) -> Iterator[tuple[str, Table]]:
    for key, (section, title, extra) in EXTRAS.items():
        value = data.extras.get(key)
        if isinstance(value, Result):
            kind = key.replace("_", "-")
            shown = tidy_table(value.tidy(), name=f"{kind}-{tail}", title=f"{title}, {name}", extra=extra)
            yield section, shown


def _terms(estimate: Estimate, name: str, title: str) -> Table:
    return tidy_table(estimate.tidy(), name=name, title=title)


def _cells(x: Evidence, data: DatasetEvidence, tail: str) -> Table:
    frame = matrix_frame(data.matrix, data.cells, x.layers, x.unit)
    if "conf_low" not in frame:
        frame = data.cells.tidy()
    title = f"Penalty of every cell (source \u2192 target), {formats.legible(data.dataset)}"
    return tidy_table(frame, name=f"cells-{tail}", title=title)


def _decay(data: DatasetEvidence, tail: str, name: str) -> Iterator[tuple[str, Table]]:
    fits = decay_fits(data)
    if fits:
        frame = pd.concat([fit.tidy() for fit in fits.values()], ignore_index=True)
        yield "distance", tidy_table(frame, name=f"decay-{tail}", title=f"Decay fits, {name}", extra=("family",))
    if data.comparison is not None and hasattr(data.comparison, "tidy"):
        yield "distance", _families(data.comparison.tidy(), f"families-{tail}", f"Decay families compared, {name}")


def _families(frame: pd.DataFrame, name: str, title: str) -> Table:
    headings = {
        "term": "Family",
        "n_parameters": "Parameters",
        "rss": "Residual sum of squares",
        "aicc": "AICc",
        "estimate": "AICc above best",
        "cv_error": "Error on left-out layers",
        "selection": "Chosen in bootstrap",
    }
    shown = [key for key in headings if key in frame]
    rows = []
    for row in frame.to_dict("records"):
        cells = [Cell(formats.legible(row["term"]), str(row["term"]))]
        for key in shown[1:]:
            value = float(row[key])
            text = formats.percent(value) if key == "selection" else formats.number(value)
            cells.append(Cell("not available" if math.isnan(value) else text, value))
        rows.append(tuple(cells))
    note = (
        "AICc with n = cells. Cells of one study are not independent, so small differences decide nothing; error "
        "on left-out layers is the root mean squared error for a layer that the fit has not seen."
    )
    columns = (Column(headings["term"]), *(Column(headings[key], "r") for key in shown[1:]))
    return Table(name, title, columns, tuple(rows), note, frame)


def _with_shares(estimate: Estimate, name: str, title: str) -> Table:
    base = tidy_table(estimate.tidy(), name=name, title=title)
    shares = estimate.share_by_source
    rows = tuple(
        (*row, *(_share(float(np.atleast_1d(values)[index])) for values in shares.values()))
        for index, row in enumerate(base.rows)
    )
    columns = (*base.columns, *(Column(f"Variance from {formats.legible(source)}", "r") for source in shares))
    return replace(base, columns=columns, rows=rows)


def _share(value: float) -> Cell:
    return Cell(formats.percent(value), value)


def certificate_summary(certificates: pd.DataFrame, *, by_layer: bool = True) -> Table:
    """One row a dataset, world, readout and (where asked for) layer: median [smallest, largest], converged."""
    named = [key for key in KEYS if key in certificates and key != "layer"]
    keys = [key for key in named if len(set(certificates[key])) > 1] or named[-1:]
    keys += ["layer"] if by_layer and "layer" in certificates else []
    measures = [key for key in MEASURES if key in certificates]
    rows, spread = [], []
    for group, lenses in certificates.groupby(keys, sort=False, dropna=False):
        cells = [_key(key, value) for key, value in zip(keys, group, strict=True)]
        record: dict[str, object] = dict(zip(keys, group, strict=True))
        for measure in measures:
            values = lenses[measure].to_numpy(np.float64)
            cells.append(_spread(values, whole=measure in ("steps", "rows")))
            record.update(_extremes(measure, values))
        if "converged" in lenses:
            yes = int(lenses["converged"].astype(bool).sum())
            cells.append(Cell(f"{yes} of {len(lenses)}", yes / len(lenses), "" if yes == len(lenses) else "short"))
            record.update(n_converged=yes, n_lenses=len(lenses))
        if "limited" in lenses:
            limited = int(lenses["limited"].sum())
            cells.append(Cell(f"{limited} of {len(lenses)}", limited / len(lenses), "short" if limited else ""))
            record.update(n_limited=limited)
        rows.append(tuple(cells))
        spread.append(record)
    columns = [Column(key.capitalize()) for key in keys] + [Column(MEASURES[key], "r") for key in measures]
    columns += [Column("Converged", "r")] if "converged" in certificates else []
    columns += [Column("Limited by data", "r")] if "limited" in certificates else []
    over = "seeds" if by_layer else "seeds and layers"
    note = (
        f"Median over {over} [smallest, largest]; kl in nats. Held-out kl is measured on the part of a seed's own "
        "documents that was kept for choosing the ridge strength and when to stop. A lens counts as converged "
        "when its held-out kl fell by "
        "less than the plan's tolerance over the last doubling of steps, and as limited by its data when its kl "
        f"on as many training rows lies more than {100 * LIMITED_GAP:.0f} % below that: more steps help the one, "
        "more tokens the other."
    )
    title = f"Certificates of the lenses, over {over}"
    name = "certificates-summary" if by_layer else "certificates-readouts"
    return Table(name, title, tuple(columns), tuple(rows), note, pd.DataFrame(spread))


def _key(key: str, value: object) -> Cell:
    return Cell(wording.readout_name(str(value)) if key == "readout" else formats.legible(value), str(value))


def _extremes(measure: str, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> dict[str, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return {f"{measure}_{name}": math.nan for name in ("min", "median", "max")}
    return {
        f"{measure}_min": float(known.min()),
        f"{measure}_median": float(np.median(known)),
        f"{measure}_max": float(known.max()),
    }


def _spread(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], *, whole: bool) -> Cell:
    extremes = list(_extremes("x", values).values())
    if math.isnan(extremes[1]):
        return Cell("not measured", math.nan)
    low, middle, high = (formats.count(v) if whole else _kl(v) for v in extremes)
    return Cell(middle if low == high else f"{middle} [{low}, {high}]", extremes[1])


def _kl(value: float) -> str:
    return formats.fixed(value, 3 if abs(value) < 10 else 1)


def certificate_table(certificates: pd.DataFrame) -> Table:
    """Every lens, one row."""
    columns = [str(name) for name in certificates]
    numeric = {name for name in columns if pd.api.types.is_numeric_dtype(certificates[name])}
    rows = tuple(
        tuple(_plain(row[name], kl=name in MEASURES and name != "steps") for name in columns)
        for row in certificates.to_dict("records")
    )
    headings = [MEASURES.get(name, formats.legible(name).replace("_", " ").capitalize()) for name in columns]
    shown = tuple(
        Column(heading, "r" if name in numeric else "l") for name, heading in zip(columns, headings, strict=True)
    )
    return Table("certificates", "Certificate of every lens", shown, rows, "", certificates)


def _plain(value: object, *, kl: bool) -> Cell:
    if isinstance(value, bool | np.bool_):
        return Cell("yes" if value else "no", str(bool(value)), "" if value else "short")
    if isinstance(value, float | np.floating):
        number = float(value)
        text = "not measured" if math.isnan(number) else _kl(number) if kl else formats.number(number)
        return Cell(text, number)
    if isinstance(value, int | np.integer):
        return Cell(formats.count(int(value)), float(value))
    return Cell("not measured" if value is None else formats.legible(value), str(value))


def design(x: Evidence) -> list[tuple[str, str]]:
    """Terms and descriptions: what was measured, what is sampled, what is fixed."""
    noun = wording.sampled(x.datasets, x.unit)
    sizes = []
    for data in x.datasets:
        scored = f", {formats.count(data.tokens)} tokens" if "token" in x.unit else ""
        sizes.append(f"{formats.legible(data.dataset)}: {wording.design_size(data, x.unit)}{scored}")
    rows = [
        ("Subject", formats.legible(x.subject)),
        ("Layers (fixed)", wording.layer_list(x.layers)),
        ("Datasets (fixed)", "; ".join(sizes)),
        ("Loss", wording.loss_phrase(x.loss, x.unit)),
        (
            "Penalty",
            "loss of the lens trained on layer s and used on layer t, minus the loss of layer t's own lens; 0 on "
            "the "
            "diagonal by construction, which is left out of every statistic",
        ),
        (
            "Sampled",
            f"seeds (one independent training of the lenses each, on its own documents) and {noun}; every lens is "
            f"scored on the same {noun}, so the two are crossed",
        ),
        (
            "Estimand",
            f"what the same procedure would give with new seeds and new {noun} of the same datasets, for this "
            "network and these layers",
        ),
        ("Interval", _methods(x)),
        (
            "Smallest penalty of interest",
            f"{wording.in_unit(formats.trimmed(x.smallest), x.unit)}, set by the analyst",
        ),
        ("Multiplicity", "Holm over the tested claims; single cells, distances and layers are not adjusted"),
        *(row for data in x.datasets for row in data_sentences(data)),
    ]
    counted = [data.extras["disagreement"] for data in x.datasets if "disagreement" in data.extras]
    if counted:
        rows.insert(5, ("Disagreement", wording.disagreement(counted[0].unit)))
    if any(claim.dataset == AVERAGE for claim in x.claims):
        rows.insert(3, ("Average", "equal weights over these datasets, which are fixed strata and not a sample"))
    return rows


def _methods(x: Evidence) -> str:
    names = dict.fromkeys(data.summary.method for data in x.datasets)
    return f"{formats.joined([formats.legible(name) for name in names])}, {formats.level(x.conf_level)}"


def limits(x: Evidence) -> list[str]:
    """What these data cannot show, each in a sentence; some always hold, some hold for this study."""
    noun = wording.units_noun(x.unit) + "s"
    found = [
        "Other networks, other layers and other datasets: all three are fixed here, and no interval covers them.",
        "Why a readout carries over. A small penalty says that a lens works elsewhere, not that the network uses "
        "the "
        "same representation there; a large one can come from layers whose states span few directions.",
        "A pure influence of distance: large distances involve only the outermost layers.",
        *_limits_of_null(x),
        *_limits_of_certificates(x.certificates),
        *_limits_of_source(x),
    ]
    few = min(data.n_seeds for data in x.datasets)
    if few <= 3:
        found.append(
            f"Precise statements about new seeds: with {formats.plural(few, 'seed')} the intervals are valid but "
            "wide."
        )
    open_ = sum(claim.verdict == "inconclusive" for claim in x.claims)
    if open_:
        found.append(
            f"An answer to the {formats.plural(open_, 'row')} of the verdict table marked inconclusive: their "
            "intervals "
            "reach values that would matter and values that would not, which is not evidence of absence."
        )
    if any(data.n_clusters < data.n_units for data in x.datasets):
        found.append(
            f"More than their clusters allow: {noun} of one cluster are dependent and count as one cluster."
        )
    return found


def _limits_of_null(x: Evidence) -> Iterator[str]:
    without = [
        formats.legible(data.dataset) for data in x.datasets if not {"null_test", "null_matrix"} & set(data.extras)
    ]
    if without:
        yield (
            f"Whether the penalties exceed what training alone would give if one shared lens were right "
            "for every "
            f"layer: no null replicates were run for {formats.joined(without)}."
        )
    shared = [formats.legible(data.dataset) for data in x.datasets if "shared" not in data.extras]
    if shared:
        yield f"Whether one lens serves every layer: no shared lens was evaluated for {formats.joined(shared)}."


def _limits_of_source(x: Evidence) -> Iterator[str]:
    """What the reader of somebody else's file had to say about it."""
    for text in x.provenance.get("caveats", ()):
        yield ended(capital(formats.legible(text)))


def _limits_of_certificates(certificates: pd.DataFrame) -> Iterator[str]:
    if not len(certificates) or "converged" not in certificates:
        yield (
            "Whether the lenses had finished training: no certificates came with these losses, so penalties may "
            "partly "
            "measure unfinished lenses."
        )
        return
    if "readout" in certificates:
        certificates = certificates[certificates["readout"].isin(JUDGED)]
    short = int((~certificates["converged"].astype(bool)).sum())
    if short:
        yield (
            f"Penalties of finished lenses everywhere: {short} "
            f"of {len(certificates)} still improved by more than the tolerance over the last doubling of steps."
        )
