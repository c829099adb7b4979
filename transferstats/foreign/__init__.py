"""Other people's files: long tables, tuned-lens evaluations, temporal-generalisation matrices.

Each reader gives a checked :class:`~transferstats.grid.TransferGrid` and says in its provenance, under
``"caveats"``, what was converted and what the file does not say. Reports repeat those caveats.
"""

from __future__ import annotations

from transferstats.foreign.conversion import Conversion
from transferstats.foreign.files import table_of, table_suffix
from transferstats.foreign.reading import JSON, read_foreign
from transferstats.foreign.tables import grid_from_table

__all__ = ["JSON", "Conversion", "grid_from_table", "read_foreign", "table_of", "table_suffix"]
