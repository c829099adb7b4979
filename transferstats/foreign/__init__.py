"""Other people's files: long tables, tuned-lens evaluations, temporal-generalisation matrices.

Each reader gives a checked :class:`~transferstats.grid.TransferGrid` and says in its provenance, under
``"caveats"``, what was converted and what the file does not say. Reports repeat those caveats.
"""

from __future__ import annotations

from transferstats.foreign.conversion import Conversion
from transferstats.foreign.generalization import read_matrices
from transferstats.foreign.tables import grid_from_table, read_table
from transferstats.foreign.tuned_lens import read_tuned_lens

__all__ = ["Conversion", "grid_from_table", "read_matrices", "read_table", "read_tuned_lens"]
