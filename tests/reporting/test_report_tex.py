"""What goes into a paper compiles: macros, tables and hostile names, with plain pdfLaTeX and booktabs."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
import required

from transferstats.reporting.layout import Cell, Column
from transferstats.reporting.tables import Table

HOSTILE = "100% of $x_1$ & {\\input{/etc/passwd}} #5 ~ ^ \\end{table} <b> |\"'` \u05e9\u05dc \u00e9\u00df\u2026 "
"\u201cq\u201d -- \u00d7"


@pytest.fixture(scope="module")
def pdflatex() -> str:
    required.latex_package("booktabs")
    return required.program("pdflatex")


def test_numbers_and_tables_compile(pdflatex: str, study_files: Mapping[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "numbers.tex").write_bytes(study_files["numbers.tex"])
    names = [name for name in study_files if name.startswith("tables/") and name.endswith(".tex")]
    for name in names:
        (tmp_path / Path(name).name).write_bytes(study_files[name])
    foreign = Table(
        "x",
        HOSTILE,
        (Column(HOSTILE), Column("b", "r")),
        ((Cell(HOSTILE), Cell(HOSTILE)),),
        HOSTILE,
        pd.DataFrame(),
    )
    (tmp_path / "foreign.tex").write_text(foreign.latex(), encoding="utf-8")
    body = "".join(f"\\input{{{Path(name).name}}}\\clearpage\n" for name in [*names, "foreign.tex"])
    (tmp_path / "main.tex").write_text(
        "\\documentclass{article}\\usepackage[utf8]{inputenc}\\usepackage{booktabs}\\input{numbers.tex}\n"
        f"\\begin{{document}}Mean \\TransferMean, \\TransferMeanCI, \\TransferLevel.\n{body}\\end{{document}}\n"
    )
    command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "main.pdf").stat().st_size > 10_000
