"""The numbered scripts of ``analyses`` run as a reader runs them; the paper takes its numbers from a report."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import required
from real_r import run_r
from small_study import SmallStudy

import transferstats as ts
from transferstats.grid import TransferGrid

ANALYSES = Path(__file__).parents[1] / "analyses"
SCRIPTS = sorted(path.name for path in ANALYSES.glob("[0-9]*"))
LONGEST = 60


def step(name: str, *arguments: object, folder: Path) -> str:
    """What a script prints; it must end well and say nothing on standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ANALYSES / name), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_scripts_are_numbered_short_and_plain() -> None:
    assert [name[:2] for name in SCRIPTS] == ["01", "02", "03", "04", "05", "05"]
    for name in SCRIPTS:
        text = (ANALYSES / name).read_text(encoding="utf-8")
        assert len(text.splitlines()) < LONGEST, name
        assert not re.search(r"^ *(def|class|function)\b|__main__", text, flags=re.MULTILINE), name


def test_fit_fills_a_store_that_later_steps_read(document_files: list[Path], tmp_path: Path) -> None:
    size = ("--seeds", 2, "--null-replicates", 0, "--units", 16, "--unit-tokens", 48, "--max-steps", 1)
    options = ("runs/mine", "--dataset", document_files[0], *size)
    first = step("01_fit.py", *options, folder=tmp_path)
    assert first.startswith("2 cells computed, 0 reused, in runs/mine\n")
    assert re.search(r"^ +7 +\d+\.\d+ ", first, flags=re.MULTILINE)  # the last layer's certificate
    assert step("01_fit.py", *options, folder=tmp_path).startswith("0 cells computed, 2 reused")
    assert ts.sentence(ts.estimate(ts.read_grid(tmp_path / "runs" / "mine"))) in step(
        "02_estimate.py", "runs/mine", folder=tmp_path
    )


def test_estimate(small: SmallStudy, small_grid: TransferGrid, tmp_path: Path) -> None:
    text = step("02_estimate.py", small.store, folder=tmp_path)
    mean = ts.estimate(small_grid, "mean")
    assert ts.sentence(mean) in text
    assert str(ts.table(mean)) in text
    assert ts.sentence(ts.estimate(small_grid, "asymmetry")) in text
    assert "two-term bootstrap" in text
    assert len(re.findall(r"^ +\d+ +(?:100|300|1000) +0\.\d+", text, flags=re.MULTILINE)) == 9


def test_decay(small: SmallStudy, small_grid: TransferGrid, tmp_path: Path) -> None:
    text = step("03_decay.py", small.store, folder=tmp_path)
    assert ts.sentence(ts.estimate(small_grid, "slope")) in text
    assert ts.compare_decay(small_grid).conclusion in text
    cells = ts.augment(ts.fit_decay(small_grid, "saturating"), small_grid)
    worst = cells.loc[cells["resid"].abs().idxmax()]
    first = next(line.split() for line in text.splitlines() if re.match(r" *\w+_small +\d +\d ", line))
    assert first[:3] == [worst["dataset"], str(worst["source"]), str(worst["target"])]
    assert [float(value) for value in first[3:]] == pytest.approx(
        list(worst[["penalty", "fitted", "resid"]]), abs=1e-6
    )
    assert str(ts.table(ts.regress("penalty ~ log(distance) * direction", small_grid))) in text


def test_null(small: SmallStudy, small_grid: TransferGrid, tmp_path: Path) -> None:
    text = step("04_null.py", small.store, 0.2, folder=tmp_path)
    null = ts.null_test(small_grid)
    assert ts.sentence(null) in text
    assert ts.sentence(ts.relevance_test(null, smallest=0.2)) in text
    assert ts.sentence(ts.shared_lens_test(small_grid, smallest=0.2)) in text


def test_report(small: SmallStudy, tmp_path: Path) -> None:
    text = step("05_report.py", small.store, "out", 0.2, folder=tmp_path)
    numbers = json.loads((tmp_path / "out" / "numbers.json").read_text(encoding="utf-8"))
    assert f"mean penalty {numbers['TransferMean']['text']} {numbers['TransferMeanCI']['text']} nats/token" in text
    assert numbers["TransferSmallest"]["value"] == 0.2
    assert text.endswith(f"report: {Path('out') / 'index.html'}\n")


@pytest.mark.needs_r
def test_report_from_r(small: SmallStudy, small_grid: TransferGrid, tmp_path: Path) -> None:
    required.r_packages("reticulate", "jsonlite")
    done = run_r(ANALYSES / "05_report.R", small.store, "out", 0.2, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    evidence = ts.evaluate(small_grid, smallest=0.2)
    assert ts.sentence(evidence) in done.stdout
    for claim in evidence.claims:
        assert re.search(rf"{claim.key} +{claim.dataset} .*{claim.verdict}$", done.stdout, flags=re.MULTILINE)
    assert (tmp_path / "out" / "index.html").exists()
    assert (tmp_path / "out" / "decay-from-R.pdf").read_bytes().startswith(b"%PDF")


def paper_text(report: Path, folder: Path) -> str:
    """The words of the paper on one report, spaces made equal."""
    folder.mkdir()
    shutil.copy(ANALYSES / "paper" / "paper.tex", folder)
    latex = [required.program("pdflatex"), "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
    latex += ["-jobname=paper", rf"\def\report{{{report}}}\input{{paper}}"]
    for command in (latex, [required.program("bibtex"), "paper"], latex, latex):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    assert "undefined" not in (folder / "paper.log").read_text(encoding="latin-1")
    read = [required.program("pdftotext"), "paper.pdf", "-"]
    text = subprocess.run(read, cwd=folder, capture_output=True, text=True, check=True).stdout
    return " ".join(text.split())


def test_the_paper_prints_the_numbers_of_its_report(simulated: TransferGrid, tmp_path: Path) -> None:
    """A grid with half of the losses gives another paper, without a word of it typed anew."""
    for style in ("booktabs", "natbib"):
        required.latex_package(style)
    halved = replace(
        simulated,
        datasets=tuple(
            replace(
                data,
                losses={name: values / 2 for name, values in data.losses.items()},
                readouts={},
                baselines={},
                null=None,
            )
            for data in simulated.datasets
        ),
    )
    texts, means = [], []
    for name, grid in (("first", simulated), ("second", halved)):
        evidence = ts.evaluate(grid, smallest=0.05)
        ts.report(evidence, tmp_path / name)
        texts.append(paper_text(tmp_path / name, tmp_path / f"paper-{name}"))
        numbers = ts.numbers(evidence)
        means.append(f"the mean penalty was {numbers['TransferMean']} nats per token (95 %")
        assert means[-1] in texts[-1]
        assert numbers["TransferMeanCI"] in texts[-1]
        assert f"the claim is {numbers['TransferClaimCThreeVerdict']}" in texts[-1]
        assert "Table 1: Verdicts on the claims" in texts[-1]
        assert "Schuirmann" in texts[-1]
    assert means[0] not in texts[1]
    assert means[1] not in texts[0]
