"""Write the inputs that R and the tests read: ``python tests/reference/make_inputs.py`` (fixed seed).

Floats are written with ``repr``, so both languages read back the same numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
INPUT = HERE / "input"
SEED = 20070401
LAYERS, SEEDS, UNITS = 6, 4, 20


def main() -> None:
    """Write every input table."""
    INPUT.mkdir(exist_ok=True)
    rng = np.random.default_rng(SEED)
    write("curves", curves(rng))
    penalty = penalties(rng)
    cells = cell_table(penalty.mean(axis=(0, 1)))
    cells["similarity"] = np.exp(-0.3 * cells["distance"]) + 0.02 * rng.standard_normal(len(cells))
    write("cells", cells)
    write("penalties", long_table(penalty))
    write("seed_cells", seed_table(penalty.mean(axis=1)))
    write("slopes", slope_table(penalty))
    write("samples", pd.DataFrame({"value": 0.03 + 0.05 * rng.standard_normal(24)}))
    write("p_values", pd.DataFrame({"p": np.sort(rng.uniform(size=12) ** 3)}))
    write(
        "effects",
        pd.DataFrame({"effect": [0.12, 0.31, 0.05, 0.22, 0.18], "variance": [0.01, 0.006, 0.004, 0.012, 0.008]}),
    )


def write(name: str, frame: pd.DataFrame) -> None:
    """One CSV in ``input``."""
    frame.to_csv(INPUT / f"{name}.csv", index=False)


def curves(rng: np.random.Generator) -> pd.DataFrame:
    """Noisy curves over 11 distances with unequal weights: column y is a name, values are long."""
    x = np.arange(1.0, 12.0)
    weight = 2.0 * (12.0 - x)
    shapes = {
        "rising": 0.1 * (1 - np.exp(-x / 3)),
        "power": 0.02 * x**0.6,
        "straight": 0.01 + 0.004 * x,
        "negative": -0.05 * x / (2 + x),
    }
    tables = [
        pd.DataFrame({"curve": name, "x": x, "y": shape + 0.004 * rng.standard_normal(len(x)), "weight": weight})
        for name, shape in shapes.items()
    ]
    return pd.concat(tables, ignore_index=True)


def penalties(rng: np.random.Generator) -> np.ndarray:
    """(K, N, L, L) penalties with seed, unit and residual variation of level and of slope; zero diagonal."""
    layer = np.arange(LAYERS)
    distance = np.abs(layer[:, None] - layer[None, :]).astype(float)
    forward = layer[None, :] > layer[:, None]
    truth = (
        0.08 * (1 - np.exp(-distance / 2.5))
        + 0.01 * forward * distance
        + 0.01 * rng.standard_normal(distance.shape)
    )
    shape = (SEEDS, UNITS)

    def effect(level: float, slope: float, sizes: tuple[int, int]) -> np.ndarray:
        a = level * rng.standard_normal((*sizes, 1, 1))
        b = slope * rng.standard_normal((*sizes, 1, 1))
        return a + b * distance

    values = (
        truth + effect(0.010, 0.004, (SEEDS, 1)) + effect(0.020, 0.006, (1, UNITS)) + effect(0.01, 0.004, shape)
    )
    values = values + 0.01 * rng.standard_normal((*shape, LAYERS, LAYERS))
    return values * ~np.eye(LAYERS, dtype=bool)


def cell_table(matrix: np.ndarray) -> pd.DataFrame:
    """Off-diagonal cells of one matrix, row-major."""
    source, target = np.nonzero(~np.eye(len(matrix), dtype=bool))
    return pd.DataFrame(
        {
            "source": source,
            "target": target,
            "distance": np.abs(source - target).astype(float),
            "direction": np.where(target > source, "forward", "backward"),
            "penalty": matrix[source, target],
        }
    )


def long_table(penalty: np.ndarray) -> pd.DataFrame:
    """One row a (seed, unit, cell)."""
    tables = [
        cell_table(penalty[k, i]).assign(seed=k, unit=i)
        for k in range(penalty.shape[0])
        for i in range(penalty.shape[1])
    ]
    return pd.concat(tables, ignore_index=True)[["seed", "unit", "source", "target", "distance", "penalty"]]


def seed_table(by_seed: np.ndarray) -> pd.DataFrame:
    """One row a (seed, cell): mean penalty."""
    tables = [cell_table(matrix).assign(seed=k) for k, matrix in enumerate(by_seed)]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(cell=table["source"] * LAYERS + table["target"])[["seed", "cell", "distance", "penalty"]]


def slope_table(penalty: np.ndarray) -> pd.DataFrame:
    """One row a (seed, unit): least-squares slope of its cells on distance."""
    rows = []
    for k in range(penalty.shape[0]):
        for i in range(penalty.shape[1]):
            cells = cell_table(penalty[k, i])
            rows.append({"seed": k, "unit": i, "slope": np.polyfit(cells["distance"], cells["penalty"], 1)[0]})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
