"""Documents: the units of a language subject, with the clusters they depend on."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from transferstats import embedded
from transferstats.errors import DataError

MAX_CHARACTERS = 1_000_000  # a longer "document" is a concatenation; its parts should be the units


@dataclass(frozen=True, slots=True)
class Documents:
    """A dataset of texts.

    Attributes
    ----------
    name: name of the population. units, clusters, texts: N each; units are unique.
    origin: where the texts were read from; not part of their identity.
    """

    name: str
    units: tuple[str, ...]
    clusters: tuple[str, ...]
    texts: tuple[str, ...]
    origin: str = ""

    def __post_init__(self) -> None:
        if not self.units:
            raise DataError(
                f"dataset {self.name!r} has no documents: give .txt files in a folder, or JSON lines with 'unit' "
                "and 'text'"
            )
        if len(set(self.units)) != len(self.units):
            twice = Counter(self.units).most_common(1)[0][0]
            raise DataError(f"dataset {self.name!r}: unit {twice!r} appears more than once; units need unique ids")
        for unit, text in zip(self.units, self.texts, strict=True):
            if problem := _problem(text):
                raise DataError(f"dataset {self.name!r}: document {unit!r} {problem}")
        self._refuse_copies()

    def _refuse_copies(self) -> None:
        """The same text in two clusters could be trained on and scored."""
        seen: dict[str, int] = {}
        for index, text in enumerate(self.texts):
            first = seen.setdefault(text, index)
            if self.clusters[first] != self.clusters[index]:
                raise DataError(
                    f"dataset {self.name!r}: documents {self.units[first]!r} and {self.units[index]!r} have the "
                    "same text, so one could be trained on and the other scored; remove one, or give both the "
                    "same cluster"
                )

    @property
    def fingerprint(self) -> str:
        """sha256 over names, clusters and texts: equal fingerprints mean equal datasets."""
        digest = hashlib.sha256()
        for row in zip(self.units, self.clusters, self.texts, strict=True):
            digest.update(json.dumps(row, ensure_ascii=True).encode())
        return digest.hexdigest()


def _problem(text: str) -> str:
    """What makes a text unusable and what to do about it, or nothing."""
    if not text.strip():
        return "is empty; remove it"
    if len(text) > MAX_CHARACTERS:
        return (
            f"has {len(text):,} characters; split it into documents of at most {MAX_CHARACTERS:,} and give them a "
            "common cluster"
        )
    if "\0" in text:
        return "holds NUL characters: it is binary data, not text; remove it"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which no tokenizer reads; repair its encoding or remove it"
    return ""


def read_documents(source: str | Path) -> Documents:
    """Read a dataset: a domain shipped with the package, a JSON-lines file, or a folder of text files.

    Parameters
    ----------
    source: one of ``transferstats.embedded.DOMAINS``; or a path to ``.jsonl``/``.jsonl.gz`` with keys
        unit, text and optionally cluster; or a folder, whose ``.txt`` files become units and whose
        sub-folders become clusters.

    Raises
    ------
    DataError: nothing there, no documents, bad lines (named by number), empty or repeated units.
    """
    if isinstance(source, str) and source in embedded.DOMAINS:
        return _from_json_lines(embedded.documents_path(source), source, origin=f"embedded:{source}")
    path = Path(source)
    if path.is_dir():
        return _from_folder(path)
    if path.is_file():
        return _from_json_lines(path, path.name.split(".")[0], origin=str(path))
    raise DataError(
        f"no dataset {str(source)!r}: give a .jsonl(.gz) file, a folder of .txt files, or one of the shipped "
        f"domains: {', '.join(embedded.DOMAINS)}"
    )


def _from_json_lines(path: Path, name: str, *, origin: str) -> Documents:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            rows = [_parse_line(line, number, path) for number, line in enumerate(lines, 1) if line.strip()]
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path.name} is not readable as UTF-8 JSON lines: {error}; save it again as UTF-8, one JSON object a "
            "line"
        ) from error
    return _assemble(name, rows, origin)


def _parse_line(line: str, number: int, path: Path) -> tuple[str, str, str]:
    try:
        row = json.loads(line)
        unit, text = row["unit"], row["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path.name}, line {number}: need a JSON object with 'unit' and 'text' ({error!r})"
        ) from error
    if not isinstance(text, str) or unit is None or unit == "":
        raise DataError(f"{path.name}, line {number}: 'text' must be a string and 'unit' a name")
    cluster = row.get("cluster")
    return str(unit), str(unit if cluster is None else cluster), text


def _from_folder(path: Path) -> Documents:
    rows = []
    for file in sorted(path.rglob("*.txt")):
        relative = file.relative_to(path)
        cluster = relative.parts[0] if len(relative.parts) > 1 else relative.stem
        try:
            rows.append((relative.as_posix(), cluster, file.read_text(encoding="utf-8")))
        except UnicodeDecodeError as error:
            raise DataError(f"{relative} is not UTF-8 text: {error}; save it again as UTF-8") from error
    return _assemble(path.name, rows, str(path))


def _assemble(name: str, rows: Iterable[tuple[str, str, str]], origin: str) -> Documents:
    listed = list(rows)
    units, clusters, texts = (tuple(column) for column in zip(*listed, strict=True)) if listed else ((), (), ())
    return Documents(name, units, clusters, texts, origin)
