"""Write the figures that the README shows, from simulated losses whose true penalties are known.

python analyses/gallery/readme_figures.py [FOLDER]      (default: reports/gallery; seconds)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

import transferstats as ts
from transferstats.reporting.documents import report_files

SHOWN = {"penalty-matrix-1-one": "matrix.svg", "distance-1-one": "distance.svg", "claims": "claims.svg"}
"""Figure of the report -> file of the gallery."""

HERE = Path(__file__).parents[2] / "reports" / "gallery"


def main(folder: Path) -> None:
    """Evaluate, draw, and say what drew."""
    grid = ts.simulate_grid(n_seeds=5, n_units=60, n_null=5, datasets=("one", "two"), rng=11).grid
    files = report_files(ts.evaluate(grid, smallest=0.05))
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in SHOWN.items():
        (folder / target).write_bytes(files[f"figures/{name}.svg"])
    made = {"command": "python analyses/gallery/readme_figures.py", "data": "simulate_grid(..., rng=11)"}
    manifest = {**made, "matplotlib": mpl.__version__, "transferstats": ts.__version__}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
