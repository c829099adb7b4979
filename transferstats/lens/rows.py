"""What a cell stores: losses as a long table, and certificates as rows of its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from transferstats.lens.fit import Certificate
from transferstats.lens.transfer import UnitLosses

NO_LAYER = -1  # source or target of a readout that has none


def long_table(
    readout: str, scored: UnitLosses, units: Sequence[str], clusters: Sequence[str], counts: Any
) -> pd.DataFrame:
    """One row a (unit, source, target) of one readout; absent sources and targets are :data:`NO_LAYER`."""
    index = np.indices(scored.kl.shape).reshape(scored.kl.ndim, -1)
    unit = index[0]
    absent = np.full(len(unit), NO_LAYER)
    source = index[1] if scored.kl.ndim == 3 else absent
    target = index[-1] if scored.kl.ndim >= 2 else absent
    return pd.DataFrame(
        {
            "readout": readout,
            "unit": np.asarray(units, dtype=object)[unit],
            "cluster": np.asarray(clusters, dtype=object)[unit],
            "n": counts[unit].astype(np.int32),
            "source": source.astype(np.int16),
            "target": target.astype(np.int16),
            "kl": scored.kl.ravel(),
            "ce": scored.ce.ravel(),
            "disagreement": scored.disagreement.ravel(),
        }
    )


def certificate_rows(certificate: Certificate, readout: str, layers: Sequence[str]) -> list[dict[str, Any]]:
    """One JSON row a lens (of layer "all" where it serves all); a change that was never measured is None."""
    rows = []
    parameters = certificate.width * (certificate.width + 1)
    for index, layer in enumerate(layers if len(certificate.steps) > 1 else ["all"]):
        change = float(certificate.change[index])
        rows.append(
            {
                "readout": readout,
                "layer": layer,
                "start_kl": float(certificate.start_kl[index]),
                "held_out_kl": float(certificate.held_out_kl[index]),
                "train_kl": float(certificate.train_kl[index]),
                "change": change if np.isfinite(change) else None,
                "steps": int(certificate.steps[index]),
                "strength": float(certificate.strength[index]),
                "converged": bool(certificate.converged[index]),
                "rows": int(certificate.rows[index]),
                "dimension": float(certificate.dimension[index]),
                "parameters": parameters,
            }
        )
    return rows
