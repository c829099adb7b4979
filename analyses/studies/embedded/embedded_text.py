"""Cleaning, cutting and de-duplicating text: what every domain of the embedded corpora shares."""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

SHIPPED_LONGEST = 2000
SHIPPED_PREFERRED = 1600
SHIPPED_SHORTEST = 1100
SHINGLE_WORDS = 8
SHINGLE_KEEP = 4  # every fourth shingle: enough to see copies, a quarter of the memory

# Typographic quotes, dashes and dots, by code point; the same text is then typed in one way only.
_QUOTES = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "--", "\u2026": "..."}
)
_BLANKS = re.compile(r"\n{3,}")
_TAG = re.compile(r"</?(?:p|br|div|span|a|b|i|img|table|tr|td|pre|html|body|font|h[1-6])\b[^>]*>", re.I)
# A document that names a package index or a directory of somebody's machine is not shipped.
_UNSHIPPABLE = re.compile(r"/(?:tmp|root|home/|work\b)|py(?:pi|thonhosted)|hugging(?:face)", re.I)


@dataclass(frozen=True)
class Document:
    """One candidate unit. `origin` names the original (a file, a chapter) that it was taken from:
    when a unit is shipped, its whole original is kept from the model."""

    unit: str
    cluster: str
    text: str
    shippable: bool = True
    origin: str = ""

    @property
    def original(self) -> str:
        """Name of the whole that this unit is a part of."""
        return self.origin or self.unit


def clean(text: str) -> str:
    """Plain printable text: one newline style, no tabs, no control characters, no trailing blanks."""
    text = unicodedata.normalize("NFC", text).translate(_QUOTES).expandtabs(4)
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ")
    kept = "".join(c for c in text if c == "\n" or c.isprintable())
    lines = (line.rstrip() for line in kept.split("\n"))
    return _BLANKS.sub("\n\n", "\n".join(lines)).strip("\n")


def is_plain(text: str) -> bool:
    """False for tables, data blobs and mark-up, which are no sample of the domain's language."""
    if not text or _TAG.search(text):
        return False
    foreign = sum(not c.isascii() for c in text)
    letters = sum(c.isalpha() for c in text)
    longest = max(len(line) for line in text.split("\n"))
    return foreign <= 0.01 * len(text) and letters >= 0.45 * len(text) and longest <= 1200


def excerpt(document: Document) -> str | None:
    """The shipped part: up to 2000 characters ending at a line or sentence; None if none fits."""
    text = document.text.strip("\n")
    if len(text) > SHIPPED_LONGEST:
        window = text[: SHIPPED_LONGEST + 1]
        ends = [window.rfind(mark) + offset for mark, offset in (("\n\n", 0), ("\n", 0), (". ", 1))]
        fitting = [end for end in ends if SHIPPED_PREFERRED <= end <= SHIPPED_LONGEST]
        if not fitting:
            return None
        text = text[: fitting[0]]
    text = text.strip("\n")
    if len(text) < SHIPPED_SHORTEST or _UNSHIPPABLE.search(text) or not is_plain(text):
        return None
    return text


def rank(unit: str, purpose: str) -> str:
    """A random-looking key that depends on the unit alone, so that no order of files matters."""
    return hashlib.sha256(f"{purpose}:{unit}".encode()).hexdigest()


def shingles(text: str) -> set[int]:
    """Hashes of one in four runs of eight words, chosen by their hash so that copies agree."""
    words = re.findall(r"\w+", text.lower())
    runs = (" ".join(words[i : i + SHINGLE_WORDS]) for i in range(len(words) - SHINGLE_WORDS + 1))
    return {h for h in (zlib.crc32(run.encode()) for run in runs) if h % SHINGLE_KEEP == 0}


def overlap(mine: set[int], seen: set[int]) -> float:
    """Share of a document's shingles that other documents have as well."""
    return len(mine & seen) / len(mine) if mine else 1.0


def unique(documents: Iterable[Document], seen: set[int], largest: float = 0.3) -> list[Document]:
    """Documents, in order, that do not largely repeat an earlier one; `seen` grows with them."""
    kept = []
    for document in documents:
        mine = shingles(document.text)
        if overlap(mine, seen) <= largest:
            seen |= mine
            kept.append(document)
    return kept


def disjoint(documents: Iterable[Document], other: set[int], largest: float) -> list[Document]:
    """Documents that share at most `largest` of their shingles with a fixed set."""
    return [d for d in documents if overlap(shingles(d.text), other) <= largest]
