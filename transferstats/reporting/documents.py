"""The folder of a report: one page, its figures, tables, numbers, references and manifest.

Everything is rendered in memory first and written last, so a failure leaves no half report; the same
evidence gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from transferstats.provenance import library_versions
from transferstats.reporting.canvas import standalone
from transferstats.reporting.citations import cite
from transferstats.reporting.content import Content
from transferstats.reporting.html import page
from transferstats.reporting.markdown import document
from transferstats.reporting.pdf import try_pdf
from transferstats.reporting.renderers import csv_text
from transferstats.reporting.study import drawn_study, jsonable
from transferstats.reporting.subjects import content
from transferstats.reporting.tables import Table
from transferstats.results import Evidence, SubjectComparison

LONG_TABLES = ("cells", "certificates")
"""Tables of one row a cell or lens: CSV only, too long for a paper."""
SHORT_TABLES = ("certificates-summary", "certificates-readouts")
"""Tables that sum them up."""


def report(x: Evidence | SubjectComparison, path: str | os.PathLike[str]) -> Path:
    """Write the report of a study, or of a comparison of several subjects, as a folder.

    Parameters
    ----------
    x: Evidence, as ``evaluate`` returns it, or SubjectComparison, as ``compare_subjects`` does.
    path: folder to write; made if absent. Files of an earlier report there are replaced.

    Returns
    -------
    Path of ``index.html``, one self-contained page. Beside it: report.md, figures/ (svg, pdf), tables/ (csv,
    tex, md, typ), numbers.tex/.json/.typ, references.bib, manifest.json, and report.pdf where typst is installed.
    The same result gives the same bytes.

    Raises
    ------
    TypeError: x has no report. OSError: the folder cannot be written; nothing is left half written.

    Examples
    --------
    >>> import tempfile, transferstats as ts
    >>> evidence = ts.evaluate(ts.simulate_grid(n_seeds=3, n_units=20, rng=5).grid, smallest=0.05)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ts.report(evidence, folder).name
    'index.html'
    """
    folder = Path(path)
    files = report_files(x)
    _remove_stale(folder, files)
    for name, made in files.items():
        _write(folder / name, made)
    return folder / "index.html"


def report_files(x: Evidence | SubjectComparison) -> dict[str, bytes]:
    """Every file of a report by relative path; the manifest, which names the others, comes last."""
    told = content(x)
    study = drawn_study(told)
    texts: dict[str, str] = {"index.html": page(study), "report.md": document(study)}
    named = told.numbers
    texts.update({"numbers.tex": named.tex(), "numbers.json": named.json(), "numbers.typ": named.typ()})
    texts["references.bib"] = cite(x)
    for one in study.drawn:
        texts[f"figures/{one.picture.name}.svg"] = standalone(one.svg, one.picture.title, one.picture.alt)
        texts[f"tables/figure-{one.picture.name}.csv"] = csv_text(one.picture.data)
    for _, shown in study.tables:
        texts.update(_table_files(shown))
    files = {name: text.encode("utf-8", "backslashreplace") for name, text in texts.items()}
    for one in study.drawn:
        files[f"figures/{one.picture.name}.pdf"] = one.pdf
    pdf, remark = try_pdf(study, {one.picture.name: one.pdf for one in study.drawn})
    if pdf is not None:
        files["report.pdf"] = pdf
    files["manifest.json"] = manifest(told, files, remark).encode()
    return files


def _table_files(shown: Table) -> dict[str, str]:
    files = {f"tables/{shown.name}.csv": shown.csv()}
    if not shown.name.startswith(LONG_TABLES) or shown.name in SHORT_TABLES:
        files[f"tables/{shown.name}.tex"] = shown.latex()
        files[f"tables/{shown.name}.md"] = shown.markdown()
        files[f"tables/{shown.name}.typ"] = shown.typst()
    return files


def manifest(told: Content, files: Mapping[str, bytes], remark: str) -> str:
    """What went in (provenance), what made it (versions), what came out (sha256 of every file)."""
    body = {
        **told.summary,
        "inputs": jsonable(told.provenance),
        "report_versions": dict(library_versions()) | drawing_versions(),
        "remarks": [remark] if remark else [],
        "files": {name: hashlib.sha256(made).hexdigest() for name, made in sorted(files.items())},
    }
    return json.dumps(body, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"


def drawing_versions() -> dict[str, str]:
    """Versions of the libraries that draw; their bytes depend on them."""
    from importlib import metadata

    found = {}
    for name in ("matplotlib", "jinja2", "typst"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


WRITTEN = re.compile(
    r"(index\.html|report\.(md|pdf)|references\.bib|numbers\.(tex|json|typ)|(figures|tables)/[\w.-]+)"
)
"""Files that a report may write, and so may take away again."""


def _remove_stale(folder: Path, files: Mapping[str, bytes]) -> None:
    """Take away what an earlier report wrote here and this one does not: a dataset that is gone, an old PDF."""
    try:
        earlier = json.loads((folder / "manifest.json").read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in set(earlier) - set(files):
        if WRITTEN.fullmatch(name):
            (folder / name).unlink(missing_ok=True)


def _write(path: Path, made: bytes) -> None:
    """Write beside, then move into place: a full disk leaves the old file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(made)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
