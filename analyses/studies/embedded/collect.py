"""Build the embedded documents and the corpora that their model is trained on.

    python analyses/studies/embedded/collect.py [--cache runs/embedded/downloads]

Shipped documents go into the package; training and held-out text of the model stay outside it.
A shipped document's whole original is in neither, nor is anything that largely repeats it.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import platform
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import embedded_notices
import embedded_sources as sources
from embedded_text import Document, disjoint, excerpt, overlap, rank, shingles, unique

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = 480
LARGEST_CLUSTER = SHIPPED // 20
HELD_OUT_SHARE = 0.04
LARGEST_OVERLAP = 0.15
CORPUS_CHARACTERS = 18_000_000  # per domain; more would not be read in one training run


@dataclass(frozen=True)
class Domain:
    """How one domain is described and how much of a cluster may be shipped."""

    name: str
    description: str
    licence: str
    packages: tuple[str, ...]
    cluster: str
    cluster_share: float
    documents: Callable[[], Iterable[Document]]


@dataclass(frozen=True)
class Split:
    """The three disjoint uses of a domain's originals."""

    shipped: list[tuple[Document, str]]
    overlaps: list[float]  # share of each shipped unit's eight-word runs in the model's text
    training: list[Document]
    held_out: list[Document]


def domains(cache: Path) -> list[Domain]:
    """The four domains, in the order in which the package lists them."""
    return [
        Domain(
            "python",
            "Source code of the Python standard library: runs of whole definitions.",
            "PSF-2.0",
            (f"CPython standard library {platform.python_version()}",),
            "top-level module or package",
            1.0,
            sources.python_documents,
        ),
        Domain(
            "docstrings",
            "Docstrings of scientific Python packages: consecutive docstrings of one module.",
            "BSD (see LICENSES.md)",
            tuple(sources.SCIENTIFIC),
            "package",
            0.5,
            lambda: sources.docstring_documents(cache),
        ),
        Domain(
            "kjv",
            "Chapters of the King James Version of the Bible, one verse a line.",
            "public domain",
            (sources.TEXTS[0],),
            "book",
            0.6,
            lambda: sources.kjv_documents(cache),
        ),
        Domain(
            "shakespeare",
            f"Scenes of Shakespeare's plays of at most {sources.LONGEST_SHIPPED_SCENE} characters.",
            "public domain",
            (sources.TEXTS[1],),
            "play",
            0.85,
            lambda: sources.shakespeare_documents(cache),
        ),
    ]


def choose(documents: list[Document], cluster_share: float) -> list[tuple[Document, str]]:
    """Take one unit of every cluster in turn until there are enough: clusters stay even."""
    waiting: dict[str, list[tuple[Document, str]]] = defaultdict(list)
    for document in sorted(documents, key=lambda d: rank(d.unit, "ship")):
        text = excerpt(document) if document.shippable else None
        if text is not None:
            waiting[document.cluster].append((document, text))
    for cluster, units in waiting.items():
        allowed = min(LARGEST_CLUSTER, -int(-cluster_share * len(units) // 1))
        waiting[cluster] = units[: max(1, allowed)]
    chosen: list[tuple[Document, str]] = []
    for turn in range(LARGEST_CLUSTER):
        order = sorted(waiting, key=lambda name: rank(name, f"turn{turn}"))
        chosen += [waiting[name][turn] for name in order if turn < len(waiting[name])]
    return sorted(chosen[:SHIPPED], key=lambda pair: pair[0].unit)


def split(domain: Domain, seen: set[int]) -> Split:
    """Ship, then train and hold out from originals that have nothing to do with the shipped."""
    everything = unique(domain.documents(), seen)
    shipped = choose(everything, domain.cluster_share)
    gone = {document.original for document, _ in shipped}
    taboo: set[int] = set()
    for document in everything:
        if document.original in gone:
            taboo |= shingles(document.text)
    rest = [d for d in everything if d.original not in gone]
    rest = sorted(disjoint(rest, taboo, 0.1), key=lambda d: rank(d.original, "train"))
    rest = _limited(rest)
    originals = list(dict.fromkeys(d.original for d in rest))
    held = {o for o in originals if int(rank(o, "held")[:8], 16) < HELD_OUT_SHARE * 2**32}
    held_out = [d for d in rest if d.original in held]
    avoid: set[int] = set().union(*(shingles(d.text) for d in held_out))
    training = disjoint([d for d in rest if d.original not in held], avoid, 0.1)
    return Split(*_unseen(everything, training, held_out), training, held_out)


def _unseen(
    everything: list[Document], training: list[Document], held_out: list[Document]
) -> tuple[list[tuple[Document, str]], list[float]]:
    """Replace shipped units that consist of stock phrases which the model reads elsewhere too
    (parameters that many functions share), by units that it does not read either."""
    used = {d.original for d in training + held_out}
    seen: set[int] = set().union(*(shingles(d.text) for d in training + held_out))
    pool = []
    for document in everything:
        text = excerpt(document) if document.original not in used else None
        if text is not None and overlap(shingles(text), seen) <= LARGEST_OVERLAP:
            pool.append(document)
    shipped = choose(pool, 1.0)
    return shipped, [overlap(shingles(text), seen) for _, text in shipped]


def _limited(documents: list[Document]) -> list[Document]:
    kept, total = [], 0
    for document in documents:
        if total >= CORPUS_CHARACTERS:
            break
        kept.append(document)
        total += len(document.text)
    return kept


def write_documents(path: Path, shipped: list[tuple[Document, str]]) -> str:
    """Write the shipped units and return the SHA-256 of the file, the same on every run."""
    rows = [{"unit": d.unit, "cluster": d.cluster, "text": text} for d, text in shipped]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0, compresslevel=9) as handle:
        handle.write(lines.encode())
    path.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def write_corpus(path: Path, documents: list[Document]) -> None:
    """Write model text as JSON lines; the order is the one training reads."""
    rows = [{"unit": d.unit, "text": d.text} for d in documents]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def origin(domain: Domain, parts: Split, digest: str) -> dict[str, object]:
    """What the package says about one domain."""
    return {
        "name": domain.name,
        "description": domain.description,
        "licence": domain.licence,
        "packages": list(domain.packages),
        "cluster_is": domain.cluster,
        "units": len(parts.shipped),
        "clusters": len({document.cluster for document, _ in parts.shipped}),
        "characters": sum(len(text) for _, text in parts.shipped),
        "sha256": digest,
        "mean_share_of_eight_word_runs_seen_by_model": round(fmean(parts.overlaps), 4),
        "largest_share_of_eight_word_runs_seen_by_model": round(max(parts.overlaps), 4),
        "model_training_documents": len(parts.training),
        "model_training_characters": sum(len(d.text) for d in parts.training),
        "model_held_out_documents": len(parts.held_out),
        "model_held_out_characters": sum(len(d.text) for d in parts.held_out),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, default=ROOT / "runs/embedded/downloads")
    parser.add_argument("--corpus", type=Path, default=ROOT / "runs/embedded/corpus")
    parser.add_argument("--out", type=Path, default=ROOT / "transferstats/embedded/documents")
    parser.add_argument("--offline", action="store_true", help="use the cache as it is")
    arguments = parser.parse_args()
    if not arguments.offline:
        sources.download(arguments.cache)
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.corpus.mkdir(parents=True, exist_ok=True)
    origins: dict[str, object] = {}
    seen: set[int] = set()  # across domains: docstrings may quote the standard library
    for domain in domains(arguments.cache):
        parts = split(domain, seen)
        digest = write_documents(arguments.out / f"{domain.name}.jsonl.gz", parts.shipped)
        write_corpus(arguments.corpus / f"{domain.name}.training.jsonl", parts.training)
        write_corpus(arguments.corpus / f"{domain.name}.held_out.jsonl", parts.held_out)
        origins[domain.name] = origin(domain, parts, digest)
        print(json.dumps(origins[domain.name]), flush=True)
    (arguments.out / "origin.json").write_text(json.dumps(origins, indent=1) + "\n")
    packages = {document_package(d) for d in _shipped_units(arguments.out / "docstrings.jsonl.gz")}
    notices = embedded_notices.notices(arguments.cache, packages)
    (arguments.out / "LICENSES.md").write_text(notices)


def document_package(unit: str) -> str:
    """The package a docstring unit comes from."""
    return unit.split("/")[1]


def _shipped_units(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return [json.loads(line)["unit"] for line in handle]


if __name__ == "__main__":
    main()
