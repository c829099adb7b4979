"""The README does what it says: its Python runs, its commands exist."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import required
from real_r import run_r
from small_study import SmallStudy

import transferstats
from transferstats.cli import build_parser
from transferstats.grid import TransferGrid

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_python_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One namespace, an empty folder, as a reader would."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(
        Path(__file__).parent / "reference" / "tuned_lens", tmp_path / "eval"
    )  # the reader's own files
    namespace: dict[str, object] = {"__name__": "readme"}
    assert blocks("python")
    for number, block in enumerate(blocks("python"), 1):
        exec(compile(block, f"README.md, Python block {number}", "exec"), namespace)
    written = {path.name for path in tmp_path.iterdir()}
    for folder in re.findall(r'ts\.report\([^)]*"(\w+)"\)', README):
        assert folder in written
        assert (tmp_path / folder / "index.html").stat().st_size > 0


@pytest.mark.needs_r
def test_r_blocks_make_tables_in_r_markdown(small: SmallStudy, small_grid: TransferGrid, tmp_path: Path) -> None:
    """At most five lines each, knitted as they stand, beside the run and the report that they name."""
    required.r_packages("reticulate", "jsonlite", "knitr")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "embedded").symlink_to(small.store)
    evidence = transferstats.evaluate(small_grid, smallest=0.05)
    transferstats.report(evidence, tmp_path / "report")
    assert len(blocks("r")) == 2
    assert all(len(block.splitlines()) <= 5 for block in blocks("r"))
    chunks = "".join(f"```{{r}}\n{block}```\n" for block in blocks("r"))
    (tmp_path / "mine.Rmd").write_text(chunks, encoding="utf-8")
    done = run_r('invisible(knitr::knit("mine.Rmd", quiet = TRUE))', folder=tmp_path)
    assert done.returncode == 0, done.stderr
    knitted = (tmp_path / "mine.md").read_text(encoding="utf-8")
    assert "Error" not in knitted
    for claim in evidence.claims:
        assert re.search(
            rf"^\|{re.escape(claim.title)} *\|{claim.dataset} .*\|{claim.verdict} *\|$", knitted, re.MULTILINE
        )
        assert re.search(rf"^\|{claim.key} *\|{claim.dataset} ", knitted, re.MULTILINE)
        if claim.estimate is not None:
            rounded = f"{float(claim.estimate.estimate):.3f}"
            assert len(re.findall(rf"\|{claim.dataset} *\| *{re.escape(rounded)}\|", knitted)) >= 2
    numbers = transferstats.numbers(evidence)
    assert f"The mean penalty was {numbers['TransferMean']} nats per token." in knitted


COMMANDS = ("make", "transferstats", "pip", "python", "git", "cd")


def shell_lines() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_shell_blocks_use_known_commands() -> None:
    assert shell_lines()
    for words in shell_lines():
        assert words[0] in COMMANDS, words


def test_transferstats_commands_parse() -> None:
    """Every command line of the README is one that the parser accepts."""
    ours = [words for words in shell_lines() if words[0] == "transferstats"]
    assert ours
    for words in ours:
        assert build_parser().parse_args(words[1:]).run


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in shell_lines():
        if words[0] == "make":
            for target in (word for word in words[1:] if "=" not in word and not word.startswith("-")):
                assert re.search(rf"^{re.escape(target)}:", makefile, flags=re.MULTILINE), target


def test_the_figures_are_those_that_the_code_draws(tmp_path: Path) -> None:
    """The same names from the script, and the same bytes where the same matplotlib draws."""
    shown = re.findall(r"!\[[^\]]+\]\((reports/gallery/[\w.]+)\)", README)
    assert len(shown) == 3
    script = ROOT / "analyses" / "gallery" / "readme_figures.py"
    subprocess.run([sys.executable, script, tmp_path], check=True)
    assert {path.name for path in tmp_path.glob("*.svg")} == {Path(name).name for name in shown}
    committed, made = (
        json.loads((folder / "manifest.json").read_text()) for folder in (ROOT / "reports" / "gallery", tmp_path)
    )
    for name in shown:
        ElementTree.fromstring((ROOT / name).read_text(encoding="utf-8"))
        if made["matplotlib"] == committed["matplotlib"]:
            assert (ROOT / name).read_bytes() == (tmp_path / Path(name).name).read_bytes(), name


def test_files_that_the_readme_names_exist() -> None:
    named = set(re.findall(r"`((?:transferstats|analyses|reports|tests)/[\w./-]+)`", README))
    assert named
    for name in named - {"reports/validation/"}:
        assert (ROOT / name).exists(), name
    assert (ROOT / "CITATION.cff").exists()
