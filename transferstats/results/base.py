"""The column set that every result shares, and the base class that turns results into rows.

Column names follow broom (R), so that a data frame made here reads the same in both languages.
"""

from __future__ import annotations

import io
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd

COLUMNS: tuple[str, ...] = (
    "term",
    "estimate",
    "std_error",
    "statistic",
    "df",
    "p_value",
    "conf_low",
    "conf_high",
    "conf_level",
    "n_seeds",
    "n_units",
    "unit",
    "method",
    "note",
)
"""Columns of every ``tidy()`` table, in this order; further columns may only follow them."""


class Result:
    """A frozen result: numbers only. Views (sentences, tables, figures) are functions in ``report``."""

    __slots__ = ()
    kind: ClassVar[str] = "result"
    response: ClassVar[str] = ""

    @abstractmethod
    def tidy(self) -> pd.DataFrame:
        """One row a term, with the columns :data:`COLUMNS` first and in that order."""

    @abstractmethod
    def glance(self) -> pd.DataFrame:
        """Exactly one row that summarises the whole result."""

    def csv(self) -> str:
        """``tidy()`` as CSV text in R's spelling, for ``read.csv(text = x$csv())``.

        pandas 3 frames and numpy 2 arrays do not cross older reticulate versions; text does.
        """
        return to_r_csv(self.tidy())

    # The plug-in format of maketables (PLUGIN_EXTRACTOR_FORMAT.md there), which sets models side by side.

    @property
    def __maketables_coef_table__(self) -> pd.DataFrame:
        """``tidy()`` under the names of maketables: b, se, t, p and the limits of the interval."""
        return coefficient_table(self.tidy())

    def __maketables_stat__(self, key: str) -> Any:
        """A column of ``glance()``; None where it has none. "N" is the number of units, "r2" R squared."""
        row = self.glance().iloc[0]
        return row.get({"N": "n_units", "r2": "r_squared"}.get(key, key))

    @property
    def __maketables_depvar__(self) -> str:
        """What a model explains, or else what kind of result this is."""
        return self.response or self.kind.replace("_", " ")

    @property
    def __maketables_vcov_info__(self) -> dict[str, str]:
        """How the intervals were made."""
        methods = dict.fromkeys(method for method in self.tidy()["method"] if method)
        return {"vcov_type": ", ".join(methods)}


def coefficient_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Tidy rows as maketables wants them, one name a row: the term, with its dataset where terms repeat."""
    names = frame["term"]
    if names.duplicated().any():
        names = names + ", " + frame["dataset"]
    columns = {"estimate": "b", "std_error": "se", "statistic": "t", "p_value": "p"}
    levels = frame["conf_level"].dropna().unique()
    if len(levels) == 1:
        percent = f"ci{100 * levels[0]:g}"
        columns |= {"conf_low": f"{percent}l", "conf_high": f"{percent}u"}
    table = frame[list(columns)].astype(np.float64).rename(columns=columns)
    return table.set_axis(pd.Index(names, name="Coefficient"))


def tidy_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Build a tidy table: missing shared columns become NaN or empty text, extra columns come last."""
    materialised = [dict(row) for row in rows]
    extras = list(dict.fromkeys(key for row in materialised for key in row if key not in COLUMNS))
    text = {"term", "unit", "method", "note"}
    for row in materialised:
        for column in COLUMNS:
            row.setdefault(column, "" if column in text else math.nan)
    return pd.DataFrame(materialised, columns=[*COLUMNS, *extras])


def to_r_csv(frame: pd.DataFrame) -> str:
    """CSV text in R's spelling: ``TRUE``/``FALSE``/``NA``, shortest floats that read back exactly."""
    spelled = frame.astype(object)
    for column in frame.columns:
        spelled[column] = [_spell(value) for value in frame[column]]
    buffer = io.StringIO()
    spelled.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


def _spell(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return "NA"
        if math.isinf(number):
            return "Inf" if number > 0 else "-Inf"
        return repr(number)
    if value is None:
        return "NA"
    return str(value)
