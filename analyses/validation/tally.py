"""Simulated data sets of one setting, and the count of what covered what."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats as scipy_stats
from settings import Setting

from transferstats.arrays import FloatArray
from transferstats.simulation import simulate_penalties, true_penalty
from transferstats.stats.statistics import named_statistic

N_LAYERS = 6
LEVEL = 0.95
BOOTSTRAP_REPLICATES = 999
BATCH_VALUES = 6_000_000
"""Simulated losses held at once (48 MB)."""
LINEAR = ("cell", "mean", "distance 2", "slope", "asymmetry")
SUMMARIES = ("mean", "slope", "asymmetry")


def truth_matrix(setting: Setting) -> FloatArray:
    """The true penalty: saturating and asymmetric, or flat where the true slope is to be 0."""
    if setting.study == "slope_null":
        return true_penalty(N_LAYERS, family="constant", level=0.3, layer_effect=0.0)
    return true_penalty(N_LAYERS, family="saturating", level=0.3, shape=2.0, asymmetry=1.3)


def stream(setting: Setting, part: str = "") -> np.random.Generator:
    """A random stream that depends on the setting alone, never on the order of the work."""
    digest = hashlib.sha256(f"{setting.key}/{part}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest[:16], dtype=np.uint32))


def batches(setting: Setting, n_sets: int | None = None) -> Iterator[int]:
    """Sizes of batches of data sets that fit in memory."""
    rows = setting.n_seeds + setting.n_null
    size = int(max(1, BATCH_VALUES // (rows * setting.n_units * N_LAYERS**2)))
    left = setting.n_sets if n_sets is None else n_sets
    while left > 0:
        yield min(size, left)
        left -= size


def weights_of(names: tuple[str, ...]) -> FloatArray:
    """(m, L, L) weights of the linear targets."""
    rows = []
    for name in names:
        if name == "cell":
            one = np.zeros((1, N_LAYERS, N_LAYERS))
            one[0, 0, 3] = 1.0
        elif name.startswith("distance"):
            one = named_statistic("distance").gradient(np.zeros((N_LAYERS, N_LAYERS)))[[int(name[-1]) - 1]]
        else:
            one = named_statistic(name).gradient(np.zeros((N_LAYERS, N_LAYERS)))
        rows.append(one)
    return np.concatenate(rows)


def tables(penalty: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Penalties (S, K, N, L, L) -> estimates (m, S) and influence tables (m, S, K, N) of linear targets."""
    projected = np.tensordot(weights, penalty, axes=((1, 2), (3, 4)))
    estimates = projected.mean(axis=(-2, -1))
    return estimates, projected - estimates[..., None, None]


class Tally:
    """Counts of hits and misses by method and target."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.pieces: dict[tuple[str, str], list[FloatArray]] = {}

    def add(
        self, method: str, target: str, estimate: FloatArray, low: FloatArray, high: FloatArray, truth: float
    ) -> None:
        """(S,) estimates and limits of one method and target."""
        piece = np.stack([np.asarray(estimate) - truth, np.asarray(low) - truth, np.asarray(high) - truth])
        self.pieces.setdefault((method, target), []).append(piece.reshape(3, -1))

    def count(self, method: str, target: str, hits: npt.NDArray[np.bool_]) -> None:
        """(S,) rejections of a test: recorded as misses, so that coverage = 1 - error rate."""
        inside = np.where(np.asarray(hits).reshape(-1), np.nan, 0.0)
        piece = np.stack([np.zeros_like(inside), np.where(np.isnan(inside), 1.0, -1.0), np.full_like(inside, 2.0)])
        self.pieces.setdefault((method, target), []).append(piece)

    def frame(self) -> pd.DataFrame:
        """One row a method and target."""
        return pd.DataFrame([self._row(*key) for key in self.pieces])

    def _row(self, method: str, target: str) -> dict[str, object]:
        error, low, high = np.concatenate(self.pieces[method, target], axis=1)
        valid = np.isfinite(low) & np.isfinite(high)
        too_high, too_low = low[valid] > 0, high[valid] < 0
        coverage = 1 - (too_high | too_low).mean() if valid.any() else np.nan
        spread = error[valid].std()
        row = self.setting.row() | {
            "method": method,
            "target": target,
            "n_failed": int((~valid).sum()),
            "coverage": coverage,
            "mc_error": float(np.sqrt(coverage * (1 - coverage) / max(valid.sum(), 1))),
            "miss_above": float(too_high.mean()) if valid.any() else np.nan,
            "miss_below": float(too_low.mean()) if valid.any() else np.nan,
        }
        oracle = 2 * scipy_stats.norm.isf((1 - LEVEL) / 2) * spread
        row["width_ratio"] = float((high - low)[valid].mean() / oracle) if spread > 0 else np.nan
        return row


def simulated(setting: Setting, rng: np.random.Generator, size: int) -> FloatArray:
    """(size, K, N, L, L) penalties of the setting."""
    return simulate_penalties(
        truth_matrix(setting),
        n_seeds=setting.n_seeds,
        n_units=setting.n_units,
        regime=setting.regime,
        n_sets=size,
        rng=rng,
    )
