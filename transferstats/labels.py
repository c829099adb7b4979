"""Labels of units and clusters: which are missing, and what stands in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

MISSING: tuple[str, ...] = ("", "NA", "NaN", "nan", "N/A", "#N/A", "<NA>", "NaT", "null", "None")
"""How files, R, pandas and NumPy's arrays of text write that there is nothing."""


def is_missing(label: Any) -> bool:
    """Whether a label says nothing: None, NaN, or one of the words for them."""
    return bool(pd.isna(label)) or str(label).strip() in MISSING


def unclustered_note(dataset: str, missing: int, n_units: int) -> str:
    """How many units of a dataset had no cluster label, in words; empty where all had one."""
    if not missing:
        return ""
    return (
        f"dataset {dataset!r}: {missing} of {n_units} units have no cluster label, and each of them counts as a "
        "cluster of its own"
    )


def with_own_clusters(clusters: Sequence[Any], units: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Clusters as text, each unit without a label in one of its own, and the number of those units.

    Parameters
    ----------
    clusters: N labels, None or NaN among them. units: N labels, after which their own clusters are named.
    """
    # A unit may be called "NA": where nobody gave clusters, each has the name of its unit.
    missing = [is_missing(label) and str(label) != unit for label, unit in zip(clusters, units, strict=True)]
    taken = {str(label) for label, absent in zip(clusters, missing, strict=True) if not absent}
    found = []
    for label, absent, unit in zip(clusters, missing, units, strict=True):
        name = str(unit if absent else label)
        while absent and name in taken:
            name = f"{name} (alone)"
        taken.add(name)
        found.append(name)
    return tuple(found), sum(missing)
