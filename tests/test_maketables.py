"""maketables sets our models side by side, through its plug-in format and without knowing us."""

from __future__ import annotations

import re
import warnings

import every_result
import numpy as np
import pytest
import required

import transferstats as ts
from transferstats.grid import TransferGrid

# Half of the last digit printed.
ROUNDED = 5.1e-4


@pytest.mark.parametrize("name", sorted(every_result.every_result()))
def test_the_plug_in_format(name: str) -> None:
    """Coefficients under unique names, with the numbers of tidy()."""
    one = every_result.every_result()[name]
    rows, table = one.tidy(), one.__maketables_coef_table__
    assert table.index.name == "Coefficient"
    assert table.index.is_unique
    assert list(table.columns[:4]) == ["b", "se", "t", "p"]
    for column, ours in (("b", "estimate"), ("se", "std_error"), ("t", "statistic"), ("p", "p_value")):
        np.testing.assert_array_equal(table[column], rows[ours])
    if rows["conf_low"].notna().any():
        np.testing.assert_array_equal(table["ci95l"], rows["conf_low"])
        np.testing.assert_array_equal(table["ci95u"], rows["conf_high"])
    glance = one.glance().iloc[0]
    assert one.__maketables_stat__("nonsense") is None
    assert one.__maketables_stat__("N") == glance.get("n_units")
    assert one.__maketables_depvar__
    assert set(one.__maketables_vcov_info__["vcov_type"].split(", ")) >= {rows["method"].iloc[0].split(", ")[0]}


def test_regressions_side_by_side(simulated: TransferGrid) -> None:
    required.module("maketables")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that maketables draws tables with
        from maketables import ETable

        small = ts.regress("penalty ~ distance", simulated, dataset="one")
        large = ts.regress("penalty ~ distance * direction", simulated, dataset="one")
        shown = ETable([small, large], coef_fmt="b [ci95l, ci95u]", model_stats=["N", "n_seeds", "r2", "se_type"])
        text = shown.make(type="tex")
    printed = re.findall(r"(-?[\d.]+) \[(-?[\d.]+), (-?[\d.]+)\]", text)
    both = [
        "distance",
        "distance",
        "direction[T.forward]",
        "distance:direction[T.forward]",
        "Intercept",
        "Intercept",
    ]
    fits = [small, large, large, large, small, large]
    for term, fit, cell in zip(both, fits, printed, strict=True):
        row = fit.tidy().set_index("term").loc[term, ["estimate", "conf_low", "conf_high"]]
        assert [float(number) for number in cell] == pytest.approx(list(row), abs=ROUNDED)
    assert "{penalty}" in text
    assert "Observations & 60 & 60" in text
    assert "S.E. type & crossed two-term t & crossed two-term t" in text
    assert f"{large.glance()['r_squared'].iloc[0]:.3f}" in text
