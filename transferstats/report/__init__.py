"""Views of results: sentences, tables, figures, numbers, references, documents. Computes no statistics.

Each view is one function over all result classes: ``sentence(x)``, ``table(x)``, ``figure(x)``, ``numbers(x)``,
``cite(x)``, ``report(evidence, path)``. matplotlib and jinja2 are imported when something is drawn.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from transferstats.report.citations import cite
from transferstats.report.documents import report
from transferstats.report.figures import figure
from transferstats.report.macros import numbers
from transferstats.report.sentences_models import sentence
from transferstats.report.tables import table

__all__ = ["cite", "figure", "numbers", "report", "sentence", "table"]


class _Room(ModuleType):
    """This package, callable as the verb that shares its name.

    Importing any module of this room binds ``transferstats.report`` to the package and would hide the public
    function ``transferstats.report(evidence, path)`` behind it.
    """

    def __call__(self, x: object, path: Any) -> Any:
        return report(x, path)


sys.modules[__name__].__class__ = _Room
