"""Names of a table's columns: those asked for are found or missed aloud, and ours known as they are written."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

from transferstats.errors import DataError
from transferstats.grid import LOSSES

NAMES: tuple[str, ...] = ("dataset", "seed", "unit", "cluster", "replicate")
"""Columns that hold names: read as text, so that "007" stays "007" and a unit may be called "NA"."""

OURS: tuple[str, ...] = (*NAMES, "source", "target", "n", "bytes", *LOSSES)
"""Columns that are read."""


def listed(headers: Iterable[Hashable]) -> str:
    """Columns for a message."""
    return ", ".join(map(str, headers)) or "none"


def renaming(
    headers: Sequence[Hashable], columns: Mapping[str, str], score: str | None
) -> tuple[dict[Hashable, str], list[str]]:
    """Their column -> ours, for those that have another name, and a remark on those that nobody mapped.

    Raises
    ------
    DataError: columns that the table lacks, names that nothing reads, two columns for one name.
    """
    known = (*OURS, *([score] if score is not None else []))
    mapped = {_found(theirs, headers): ours for theirs, ours in columns.items()}
    unread = [ours for ours in mapped.values() if ours not in known]
    if unread:
        raise DataError(f"columns maps to {unread[0]!r}, which is not read; what is read: {listed(known)}")
    rest = [header for header in headers if header not in mapped]
    for theirs, ours in mapped.items():
        others = [one for one in (*rest, *mapped) if mapped.get(one, one) == ours and one != theirs]
        if others:
            raise DataError(
                f"columns maps {str(theirs)!r} to {ours!r}, as which {str(others[0])!r} is read: only "
                "one can be; leave the other out of the table, or rename it"
            )
    alike = _alike(rest, [name for name in known if name not in rest and name not in mapped.values()])
    said = ", ".join(f"{str(theirs)!r} as {ours!r}" for theirs, ours in alike.items())
    return mapped | alike, [
        f"columns were read by their names but for spaces and capitals: {said}"
    ] if said else []


def _found(theirs: str, headers: Sequence[Hashable]) -> Hashable:
    """A column by name, exactly or but for spaces and capitals."""
    if theirs in headers:
        return theirs
    close = [header for header in headers if _plain(header) == _plain(theirs)]
    if len(close) != 1:
        raise DataError(f"columns names {theirs!r}, which the table lacks; it has: {listed(headers)}")
    return close[0]


def _alike(headers: Sequence[Hashable], names: Sequence[str]) -> dict[Hashable, str]:
    """Columns whose name is one of ours but for spaces and capitals."""
    found: dict[Hashable, str] = {}
    for name in names:
        close = [header for header in headers if _plain(header) == _plain(name)]
        if len(close) > 1:
            raise DataError(f"columns {listed(map(repr, close))} may all be {name!r}: rename all but one")
        found |= dict.fromkeys(close, name)
    return found


def _plain(name: Hashable) -> str:
    return str(name).strip().casefold()
