"""Every example in a docstring runs and shows what it says; the main public functions have one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import transferstats


def modules_with_examples() -> list[str]:
    """Names of the modules whose source has a prompt."""
    found = []
    for module in pkgutil.walk_packages(transferstats.__path__, "transferstats."):
        loader = module.module_finder.find_spec(module.name, None).loader  # type: ignore[union-attr,call-arg]
        source = loader.get_source(module.name) or ""  # type: ignore[union-attr]
        found += [module.name] if ">>> " in source else []
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_show_what_they_say(name: str) -> None:
    ran = doctest.testmod(importlib.import_module(name))
    assert ran.attempted
    assert ran.failed == 0


@pytest.mark.parametrize(
    "name",
    [
        "cite", "compare", "compare_subjects", "describe", "estimate", "figure", "fit_decay", "numbers",
        "plan_study",
        "read_grid", "regress", "relevance_test", "report", "sentence", "size_study", "table",
    ],
)  # fmt: skip
def test_main_functions_have_an_example(name: str) -> None:
    assert ">>> " in (getattr(transferstats, name).__doc__ or "")
