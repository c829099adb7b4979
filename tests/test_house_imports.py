"""The door is light, every public name is behind it, and data flows one way between the rooms."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import transferstats

ROOT = Path(__file__).parents[1]


def modules_after(code: str) -> set[str]:
    """Names of the modules that are loaded after some code in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {
    "torch",
    "transformers",
    "matplotlib",
    "pandas",
    "scipy",
    "statsmodels",
    "pingouin",
    "formulaic",
    "jinja2",
}


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = modules_after("import transferstats; dir(transferstats); transferstats.__version__")
    assert not loaded & HEAVY
    assert not any(name.startswith("transferstats.") for name in loaded)


WITHOUT_TORCH = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "safetensors", "tokenizers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


def test_analysis_needs_no_torch(tmp_path: Path) -> None:
    """From a simulated grid to verdicts, sentences and the report, where torch is not installed."""
    code = f"""{WITHOUT_TORCH}
import transferstats as ts
grid = ts.simulate_grid(n_seeds=3, n_units=20, rng=0).grid
evidence = ts.evaluate(grid, smallest=0.05)
ts.sentence(evidence)
ts.report(evidence, {str(tmp_path / "out")!r})
"""
    loaded = modules_after(code)
    assert (tmp_path / "out" / "index.html").exists()
    assert not loaded & {"torch", "transformers"}


def test_a_missing_extra_is_named() -> None:
    code = f"""{WITHOUT_TORCH}
import transferstats
try:
    transferstats.cells
except ImportError as error:
    assert "pip install 'transferstats[lens]'" in str(error), error
    assert type(error).__name__ == "DependencyError"
else:
    raise SystemExit("no error")
"""
    modules_after(code)


@pytest.mark.parametrize("name", transferstats.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(transferstats, name) is not None
    assert name in dir(transferstats)


def test_type_checkers_see_every_public_name_where_it_lives() -> None:
    """The one list of public names, and what is said to type checkers, which cannot follow it."""
    tree = ast.parse((ROOT / "transferstats" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == transferstats._HOMES
    assert list(transferstats._HOMES) == sorted(transferstats._HOMES)
    assert set(transferstats.__all__) == {"__version__", *seen}


def test_no_public_name_is_hidden_by_a_module() -> None:
    """A module of the same name would replace the function as soon as anybody imports it."""
    modules = {path.stem for path in (ROOT / "transferstats").iterdir()}
    assert not modules & set(transferstats.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        transferstats.nonsense  # noqa: B018


def test_rooms_import_only_from_rooms_below() -> None:
    """The contracts of pyproject.toml, by import-linter itself."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout
