"""Which column of a table of documents is what, by its name alone; where two could be, nobody guesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transferstats.errors import DataError
from transferstats.labels import is_missing

TEXT: tuple[str, ...] = ("text", "content")
UNIT = "unit"
IDS: tuple[str, ...] = ("id", "_id", "doc_id", "document")
"""What stands for ``unit`` where there is no column of that name."""
CLUSTER = "cluster"

MOST_LISTED, LONGEST_NAME = 12, 40


@dataclass(frozen=True, slots=True)
class Roles:
    """Names of the columns that hold text, unit and cluster; None where a table has no such column."""

    text: str
    unit: str | None
    cluster: str | None

    def columns(self) -> list[str]:
        """The columns that are read."""
        return [name for name in (self.text, self.unit, self.cluster) if name is not None]


def find_roles(columns: Sequence[str], where: str) -> Roles:
    """The roles of columns; case and blanks around their names do not matter.

    Parameters
    ----------
    columns: names, as the table spells them. where: what an error calls the table.

    Raises
    ------
    DataError: no text, or two columns that could be text, unit or cluster.
    """
    text = _only(columns, TEXT, "text", where)
    if text is None:
        raise DataError(
            f"{where}: no column 'text' (or 'content'), it has {_listed(columns)}: rename the column that holds "
            "the text of the documents"
        )
    unit = _only(columns, (UNIT,), "unit", where) or _only(columns, IDS, "unit", where)
    return Roles(text, unit, _only(columns, (CLUSTER,), "cluster", where))


def _only(columns: Sequence[str], names: Sequence[str], role: str, where: str) -> str | None:
    found = [column for column in columns if column.strip().lower() in names]
    if len(found) > 1:
        raise DataError(
            f"{where}: {' and '.join(map(repr, found))} could both be the {role} of a document: remove or rename "
            "all but one"
        )
    return found[0] if found else None


def _listed(columns: Sequence[str]) -> str:
    names = [repr(name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "...") for name in columns]
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return (", ".join(names[:MOST_LISTED]) or "none") + more


class Columns:
    """Unit, cluster and text of one record after the other, and what was taken for them."""

    def __init__(self) -> None:
        self._count = 0
        self._first: tuple[str, Roles] | None = None
        self._cluster: str | None = None
        self._names: tuple[str, ...] = ()
        self._roles = Roles("", None, None)

    def document(self, where: str, record: Mapping[str, Any]) -> tuple[str, str | None, str]:
        """(unit, cluster or None, text) of the next record.

        Parameters
        ----------
        where: what an error calls the record. record: its values by the names of their columns.

        Raises
        ------
        DataError: no text, no unit although those before had one, or values that are no names.
        """
        names = tuple(record)
        if names != self._names:
            self._roles, self._names = find_roles(names, where), names
            self._refuse_other_columns(where)
        self._count += 1
        roles = self._roles
        unit = f"row {self._count}" if roles.unit is None else _unit(record[roles.unit], where, roles.unit)
        cluster = None if roles.cluster is None else _label(record[roles.cluster], where, roles.cluster)
        text = record[roles.text]
        if not isinstance(text, str):
            raise DataError(f"{where}: {roles.text!r} must be a string, and is {kind_of(text)}")
        return unit, cluster, text

    def _refuse_other_columns(self, where: str) -> None:
        """Documents of one dataset are named in one way."""
        self._cluster = self._cluster or self._roles.cluster
        if self._first is None:
            self._first = where, self._roles
        begin, first = self._first
        for role, ours, theirs in (("text", self._roles.text, first.text), ("unit", self._roles.unit, first.unit)):
            if ours != theirs:
                raise DataError(
                    f"{where}: the {role} of a document is in {_column(ours)} here and in {_column(theirs)} in "
                    f"{begin}: use one name for all"
                )

    def notes(self) -> tuple[str, ...]:
        """Which columns were taken, where others than "text", "unit" and "cluster"."""
        if self._first is None:
            return ()
        _, roles = self._first
        found = (("text", roles.text), (UNIT, roles.unit), (CLUSTER, self._cluster))
        said = [f"{role} from column {column!r}" for role, column in found if column not in (None, role)]
        return (*said, *(["no column 'unit' or 'id': rows are numbered"] if roles.unit is None else []))


def _column(name: str | None) -> str:
    return "no column" if name is None else f"column {name!r}"


def _unit(value: Any, where: str, column: str) -> str:
    if value is None or value == "" or value != value:  # NaN alone differs from itself, whatever library it is of
        raise DataError(f"{where}: {column!r} names the document and is {kind_of(value)}: give it a name")
    label = _label(value, where, column)
    return str(value) if label is None else label


def _label(value: Any, where: str, column: str) -> str | None:
    """A label as text; None where there is none."""
    if isinstance(value, list | dict | bytes):
        raise DataError(f"{where}: {column!r} must be a name or a number, and is {kind_of(value)}")
    if is_missing(value):
        return None
    label = str(value)
    if any("\ud800" <= character <= "\udfff" for character in label):
        raise DataError(f"{where}: {column!r} holds half of a surrogate pair, which no file takes: repair it")
    return label


KINDS: dict[type, str] = {
    bool: "a truth value",
    int: "a number",
    float: "a number",
    bytes: "bytes",
    list: "a list",
}


def kind_of(value: Any) -> str:
    """What an error calls a value."""
    if value is None or value == "" or value != value:
        return "missing"
    return KINDS.get(type(value), "an object" if isinstance(value, dict) else f"a {type(value).__name__}")
