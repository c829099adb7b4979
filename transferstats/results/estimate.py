"""Estimates with intervals made of several variance terms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.results.base import Result, tidy_frame

PER_TERM: tuple[str, ...] = (
    "estimate",
    "std_error",
    "statistic",
    "df",
    "p_value",
    "conf_low",
    "conf_high",
)
"""Arrays with one value a term."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate(Result):
    """One statistic, scalar or vector, with its interval and the variance terms behind it.

    ``shape`` below is ``()`` for a scalar statistic and ``(m,)`` for a vector of m terms.

    Attributes
    ----------
    terms: names, one per term (a scalar statistic has exactly one).
    estimate, std_error, statistic, df, p_value, conf_low, conf_high: arrays of ``shape``; estimate and
        limits in ``unit``. ``p_value`` is two-sided against 0 and inverts the interval. ``df`` is the
        effective number (for display; the interval uses the df of each part).
    parts: (n_parts, *shape), variance of the estimate due to each sampled factor, in unit squared
        (on the log scale when ``scale == "log"``).
    dfs: (n_parts,), degrees of freedom of each part.
    part_names: what each part samples, e.g. ``("seeds", "units")``. A name repeats where several samples
        enter, such as one part "seeds" per dataset in an average over datasets.
    residual: ``shape``, variance E of the seed-by-unit residual, already taken out of the unit part.
    scale: ``"identity"`` or ``"log"`` (interval formed on the log scale and transformed back).
    replicates: (n_replicates, *shape) bootstrap replicates, or an array of size 0.
    """

    terms: tuple[str, ...]
    estimate: FloatArray
    std_error: FloatArray
    statistic: FloatArray
    df: FloatArray
    p_value: FloatArray
    conf_low: FloatArray
    conf_high: FloatArray
    conf_level: float
    parts: FloatArray
    dfs: FloatArray
    part_names: tuple[str, ...]
    residual: FloatArray
    n_seeds: int
    n_units: int
    unit: str = "nats/token"
    method: str = "crossed two-term t"
    note: str = ""
    scale: str = "identity"
    dataset: str = ""
    replicates: FloatArray = field(default_factory=lambda: np.empty(0))

    kind: ClassVar[str] = "estimate"

    @property
    def seed_variance(self) -> FloatArray:
        """A of the design: variance of the estimate due to seeds, ``shape``."""
        return self._part("seeds")

    @property
    def unit_variance(self) -> FloatArray:
        """B' of the design: variance of the estimate due to units, residual removed, ``shape``."""
        return self._part("units")

    @property
    def shares(self) -> FloatArray:
        """(n_parts, *shape): share of each part in the summed variance; NaN where the sum is 0."""
        total = self.parts.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(total > 0, self.parts / np.where(total > 0, total, 1.0), np.nan)

    @property
    def share_by_source(self) -> dict[str, FloatArray]:
        """Name of each sampled factor -> ``shape``, its share in the summed variance."""
        shares = self.shares
        return {
            name: np.asarray(shares[[part == name for part in self.part_names]].sum(axis=0))
            for name in dict.fromkeys(self.part_names)
        }

    def _part(self, name: str) -> FloatArray:
        if name not in self.part_names:
            known = ", ".join(dict.fromkeys(self.part_names))
            raise KeyError(f"no variance part {name!r}; this estimate has: {known}")
        return np.asarray(self.parts[[part == name for part in self.part_names]].sum(axis=0))

    def pick(self, term: int | str, note: str = "") -> Estimate:
        """One term as a scalar estimate; ``note`` is appended. KeyError that lists the terms there are."""
        if isinstance(term, str):
            if term not in self.terms:
                raise KeyError(f"no term {term!r}; this estimate has: {', '.join(self.terms)}")
            term = self.terms.index(term)
        # The last axis holds the terms in every array; a scalar estimate becomes a vector of one first.
        arrays: dict[str, Any] = {
            name: np.atleast_1d(getattr(self, name))[..., term] for name in (*PER_TERM, "residual")
        }
        arrays["parts"] = self.parts.reshape(len(self.part_names), -1)[:, term]
        if self.replicates.size:
            arrays["replicates"] = self.replicates.reshape(len(self.replicates), -1)[:, term]
        notes = "; ".join(text for text in (self.note, note) if text)
        return replace(self, terms=(self.terms[term],), note=notes, **arrays)

    def __len__(self) -> int:
        return len(self.terms)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One mapping a term, shared columns plus the dataset and the share of each variance part."""
        flat = {name: np.atleast_1d(getattr(self, name)) for name in PER_TERM}
        shares = {name: np.atleast_1d(share) for name, share in self.share_by_source.items()}
        for index, term in enumerate(self.terms):
            row: dict[str, Any] = {"term": term}
            row.update({name: float(values[index]) for name, values in flat.items()})
            row.update(
                conf_level=self.conf_level,
                n_seeds=self.n_seeds,
                n_units=self.n_units,
                unit=self.unit,
                method=self.method,
                note=self.note,
                dataset=self.dataset,
            )
            for name, share in shares.items():
                row[f"share_{name.replace(' ', '_')}"] = float(share[index])
            yield row

    def tidy(self) -> pd.DataFrame:
        """One row a term; extra columns: dataset and the variance share of each part."""
        return tidy_frame(self.rows())

    def glance(self) -> pd.DataFrame:
        """One row: numbers of terms, seeds, units and replicates, and how the interval was made."""
        row: dict[str, Any] = {
            "n_terms": len(self.terms),
            "n_seeds": self.n_seeds,
            "n_units": self.n_units,
            "conf_level": self.conf_level,
            "unit": self.unit,
            "method": self.method,
            "dataset": self.dataset,
            "scale": self.scale,
            "n_replicates": int(self.replicates.shape[0]),
            "note": self.note,
        }
        return pd.DataFrame([row])


def stack(estimates: Sequence[Estimate], terms: Sequence[str]) -> Estimate:
    """Scalar estimates of one sample as one vector estimate with these terms.

    Raises
    ------
    ValueError: no estimates, or estimates whose variance parts differ (other seeds, units or datasets).
    """
    first = estimates[0]
    if any(one.part_names != first.part_names or not np.array_equal(one.dfs, first.dfs) for one in estimates):
        raise ValueError("only estimates of the same sample can be stacked")
    arrays: dict[str, Any] = {
        name: np.stack([np.asarray(getattr(one, name)) for one in estimates]) for name in (*PER_TERM, "residual")
    }
    arrays["parts"] = np.stack([one.parts for one in estimates], axis=1)
    arrays["replicates"] = np.empty(0)
    notes = "; ".join(dict.fromkeys(one.note for one in estimates if one.note))
    return replace(first, terms=tuple(terms), note=notes, **arrays)
