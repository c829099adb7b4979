"""Views of results: sentences, tables, figures, numbers, references, documents. Computes no statistics.

Each view is one function over all result classes: ``sentence(x)``, ``table(x)``, ``figure(x)``, ``numbers(x)``,
``cite(x)``, ``report(evidence, path)``. matplotlib and jinja2 are imported when something is drawn.
"""

from __future__ import annotations

from transferstats.reporting.citations import cite
from transferstats.reporting.documents import report
from transferstats.reporting.sentences_models import sentence
from transferstats.reporting.subjects import figure, numbers
from transferstats.reporting.tables_plan import table

__all__ = ["cite", "figure", "numbers", "report", "sentence", "table"]
