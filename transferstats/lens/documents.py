"""Documents: the units of a language subject, with the clusters they depend on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import InitVar, dataclass, field
from functools import lru_cache
from pathlib import Path

from transferstats import embedded
from transferstats.errors import DataError
from transferstats.labels import is_missing, with_own_clusters
from transferstats.lens.document_columns import Columns
from transferstats.lens.document_files import READABLE, Files, Stamp, find_files
from transferstats.lens.document_tables import MAX_CHARACTERS, Record, records, too_long
from transferstats.lens.stored_texts import StoredTexts


class _Checks:
    """One pass over documents: what makes them unusable, and who they are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.units: list[str] = []
        self.clusters: list[str] = []
        self.alone: list[int] = []
        """Documents without a cluster, by their position."""
        self._first: dict[bytes, int] = {}
        self._digest = hashlib.sha256()

    def add(self, unit: str, cluster: str | None, text: str) -> None:
        """The next document; DataError if it is unusable, or a copy of one in another cluster."""
        if problem := _problem(unit, text):
            raise DataError(f"dataset {self.name!r}: {problem}")
        index = len(self.clusters)
        if cluster is None or is_missing(cluster):
            self.alone.append(index)
            cluster = unit
        self.clusters.append(cluster)
        self.units.append(unit)
        self._refuse_copy(unit, index, text)
        row = (unit, self.clusters[index], text)
        self._digest.update(json.dumps(row, ensure_ascii=True).encode())

    def _refuse_copy(self, unit: str, index: int, text: str) -> None:
        """The same text in two clusters could be trained on and scored."""
        first = self._first.setdefault(hashlib.blake2b(text.encode(), digest_size=16).digest(), index)
        if self.clusters[first] != self.clusters[index]:
            raise DataError(
                f"dataset {self.name!r}: documents {self.units[first]!r} and {unit!r} have the same text, so one "
                "could be trained on and the other scored; remove one, or give both the same cluster"
            )

    @property
    def fingerprint(self) -> str:
        return self._digest.hexdigest()

    def apart(self) -> tuple[str, ...]:
        """Clusters, of which those of documents without one are nobody else's."""
        alone = set(self.alone)
        given = [None if index in alone else cluster for index, cluster in enumerate(self.clusters)]
        return with_own_clusters(given, self.units)[0]

    def notes(self) -> tuple[str, ...]:
        """What became of documents without a cluster."""
        count, alone = len(self.clusters), len(self.alone)
        if not alone:
            return ()
        who = "no document has a cluster" if alone == count else f"{alone} of {count} documents have no cluster"
        return (f"{who}: each is its own",)


@dataclass(frozen=True, slots=True)
class Documents:
    """A dataset of texts.

    Attributes
    ----------
    name: name of the population. units, clusters, texts: N each; units are unique. A document whose cluster says
        that there is none (None, NaN, "", "NA" and the like) becomes a cluster of its own.
    origin: where the texts were read from; not part of their identity.
    notes: what was decided where the files leave it open, one clause each; not part of their identity.
    fingerprint: sha256 over names, clusters and texts: equal fingerprints mean equal datasets.
    checks: of a reader that has been over these documents already.

    Raises
    ------
    DataError: no documents, repeated units, texts that no tokenizer reads, the same text in two clusters.
    """

    name: str
    units: tuple[str, ...]
    clusters: tuple[str, ...]
    texts: Sequence[str] = field(compare=False)
    origin: str = ""
    notes: tuple[str, ...] = field(default=(), compare=False)
    fingerprint: str = field(init=False)
    checks: InitVar[_Checks | None] = None

    def __post_init__(self, checks: _Checks | None) -> None:
        if not self.units:
            raise DataError(
                f"dataset {self.name!r} has no documents: give .txt files in a folder, or a table (JSON lines, "
                "CSV, Parquet, Arrow) with a column 'text', one row a document"
            )
        if not len(self.units) == len(self.clusters) == len(self.texts):
            raise DataError(
                f"dataset {self.name!r} has {len(self.units)} units, {len(self.clusters)} clusters and "
                f"{len(self.texts)} texts: one of each a document is needed"
            )
        if len(set(self.units)) != len(self.units):
            twice = Counter(self.units).most_common(1)[0][0]
            raise DataError(f"dataset {self.name!r}: unit {twice!r} appears more than once; units need unique ids")
        found = checks or self._check(self.clusters)
        notes = (*self.notes, *found.notes())
        if (clusters := found.apart()) != tuple(found.clusters):
            found = self._check(clusters)
        object.__setattr__(self, "clusters", tuple(found.clusters))
        object.__setattr__(self, "fingerprint", found.fingerprint)
        object.__setattr__(self, "notes", notes)

    def _check(self, clusters: Sequence[str]) -> _Checks:
        checks = _Checks(self.name)
        for row in zip(self.units, clusters, self.texts, strict=True):
            checks.add(*row)
        return checks


def _problem(unit: str, text: str) -> str:
    """What makes a text unusable and what to do about it, or nothing."""
    if not text.strip():
        return f"document {unit!r} is empty; remove it"
    if len(text) > MAX_CHARACTERS:
        return too_long(unit, f"{len(text):,}")
    if "\0" in text:
        return f"document {unit!r} holds NUL characters: it is binary data, not text; remove it"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return (
            f"document {unit!r} holds half of a surrogate pair, which no tokenizer reads; repair its encoding or "
            "remove it"
        )
    return ""


def read_documents(source: str | Path) -> Documents:
    """Read a dataset in one pass; its texts stay on disk, in a temporary file.

    A process reads a dataset once, for as long as its files do not change.

    Parameters
    ----------
    source: one of ``transferstats.embedded.DOMAINS``; or a table of documents: ``.jsonl``, ``.json`` (an array or
        lines), ``.csv`` or ``.tsv``, also packed as ``.gz`` or ``.zst``, ``.parquet``, ``.arrow`` or ``.feather``;
        or a folder: of ``.txt`` files, which become units and whose sub-folders become clusters, of parts of
        one table, or as ``datasets.save_to_disk`` writes it. Columns of a table are ``text`` or ``content``,
        optionally ``unit`` (or ``id``, ``_id``, ``doc_id``, ``document``; otherwise rows are numbered) and
        optionally ``cluster``.

    Raises
    ------
    DataError: nothing there, no documents, no or several columns of text, bad lines or rows (named by number),
        empty or repeated units, a file that changed while it was read.
    """
    if isinstance(source, str) and source in embedded.DOMAINS:
        files = find_files(embedded.documents_path(source))
        return _read(files, files.stamp(), source, f"embedded:{source}")
    path = Path(source)
    if not path.exists():
        raise DataError(
            f"no dataset {str(source)!r}: give one of the shipped domains: {', '.join(embedded.DOMAINS)}; or a "
            f"path: datasets are {READABLE}"
        )
    files = find_files(path.absolute())
    name = path.name if path.is_dir() else path.name.split(".")[0]
    return _read(files, files.stamp(), name, str(files.root))


@lru_cache(maxsize=8)
def _read(files: Files, stamp: Stamp, name: str, origin: str) -> Documents:
    try:
        documents = _assemble(name, records(files), origin)
    except DataError as error:
        _refuse_change(files, stamp, name, error)
        raise
    _refuse_change(files, stamp, name)
    return documents


def _refuse_change(files: Files, stamp: Stamp, name: str, cause: DataError | None = None) -> None:
    try:
        now = find_files(files.root)
        is_same = now == files and now.stamp() == stamp
    except (OSError, DataError):
        is_same = False
    if not is_same:
        raise DataError(
            f"dataset {name!r} changed while it was read ({files.root}): wait until it is "
            "written, then start again"
        ) from cause


def _assemble(name: str, found: Iterable[Record], origin: str) -> Documents:
    checks, columns = _Checks(name), Columns()

    def texts() -> Iterator[str]:
        for where, record in found:
            row = columns.document(where, record)
            checks.add(*row)
            yield row[-1]

    stored = StoredTexts(texts())
    return Documents(name, tuple(checks.units), tuple(checks.clusters), stored, origin, columns.notes(), checks)
