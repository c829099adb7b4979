"""Every error that transferstats raises on purpose.

All derive from :class:`TransferstatsError`, so a caller can catch the package's own complaints and let
genuine bugs through. The data errors are also ``ValueError``, which is what array-level callers expect.
A message states what is wrong, where, and what to do about it.
"""

from __future__ import annotations


class TransferstatsError(Exception):
    """Base class of all errors raised on purpose by transferstats."""


class DataError(TransferstatsError, ValueError):
    """Losses, documents or tables that cannot be analysed as given."""


class DesignError(TransferstatsError, ValueError):
    """A question that this study design (seeds, units, layers, options) cannot answer."""


class SubjectError(TransferstatsError, ValueError):
    """A model that cannot be loaded, or whose parts could not be verified."""


class StoreError(TransferstatsError, OSError):
    """A store of cells that is torn, altered, incomplete, or written by another study."""


class EngineError(TransferstatsError, RuntimeError):
    """Workers, or a cluster, that cannot be reached, went away, or do not fit the study."""


class DependencyError(TransferstatsError, ImportError):
    """An optional dependency is missing; the message names the extra that brings it."""


class UncertaintyWarning(UserWarning):
    """The uncertainty of a result deserves a second look; the text says why."""
