"""Sources are formatted, typed, short, and name no machine; versions agree wherever they are written."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import transferstats

ROOT = Path(__file__).parents[1]
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
MOST_PARAMETERS = 8


def run(*arguments: str) -> None:
    """A tool of the development extra, on the whole repository."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def test_ruff_finds_nothing() -> None:
    run("ruff", "check", "transferstats", "tests", "analyses")


def test_every_file_is_formatted() -> None:
    run("ruff", "format", "--check", "transferstats", "tests", "analyses")


def test_types_are_sound() -> None:
    run("mypy")


def sources() -> list[Path]:
    return sorted((ROOT / "transferstats").rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1 - _docstring_lines(node)
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"
            given = node.args
            count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
            count -= bool(given.args) and given.args[0].arg in ("self", "cls")
            assert count <= MOST_PARAMETERS, f"{node.name} has {count} parameters"


MOST_ADJACENT_TEXTS = 3


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_constructors_of_many_texts_take_them_by_name(path: Path) -> None:
    """No type checker notices two texts in each other's place."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        marks = [ast.unparse(one) for one in node.decorator_list] if isinstance(node, ast.ClassDef) else []
        if isinstance(node, ast.ClassDef) and any("dataclass" in mark and "kw_only" not in mark for mark in marks):
            kinds = [ast.unparse(one.annotation) for one in node.body if isinstance(one, ast.AnnAssign)]
            adjacent = max((len(list(run)) for kind, run in itertools.groupby(kinds) if kind == "str"), default=0)
            assert adjacent <= MOST_ADJACENT_TEXTS, f"{node.name}: {adjacent} texts in a row; make it kw_only"


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return (first.end_lineno or 0) - first.lineno + 1
    return 0


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    (cited,) = re.findall(r"^version: (\S+)$", citation, flags=re.MULTILINE)
    assert transferstats.__version__ == project["version"] == cited
    assert project["license"] == "MIT"
    assert re.search(r"^license: MIT$", citation, flags=re.MULTILINE)


def test_the_changelog_tells_of_this_version() -> None:
    assert transferstats.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def tracked() -> Iterator[Path]:
    """Files of the repository; without git, nothing is checked twice."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    yield from (ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file())


MACHINE = re.compile(
    r"(?<![\w.])/(?:work|root|tmp|home/\w+|Users/\w+)/"  # somebody's folders
    r"|https?://(?:localhost|127\.|10\.|192\.168\.|[\w.-]*(?:artifactory|nexus|devpi|registry|proxy)[\w.-]*)"
    r"|\b(?:index-url|trusted-host)\b"
)


def test_no_file_names_a_machine() -> None:
    """Committed text says nothing about where it was written."""
    found = []
    for path in tracked():
        if path == Path(__file__) or path.suffix in (".gz", ".safetensors", ".parquet", ".png", ".pdf"):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in MACHINE.finditer(text)]
    assert not found, found[:20]


def test_no_file_is_large() -> None:
    large = {str(path.relative_to(ROOT)) for path in tracked() if path.stat().st_size > 2_000_000}
    assert large <= {"transferstats/embedded/model/model.safetensors"}
