"""What several rooms' tests share: one small study on the embedded model, swept once, and simulated grids."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_study
import torch
from hypothesis import settings
from small_study import SmallStudy

import transferstats as ts
from transferstats.engine import Cell, sweep
from transferstats.grid import TransferGrid
from transferstats.lens.language import LanguageModel, load_language_model

# Property tests must fail on the same input tomorrow, and never because a shared machine was slow.
settings.register_profile("reproducible", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("reproducible")
torch.set_num_threads(1)  # one core, and the same sums everywhere


@pytest.fixture(scope="session")
def document_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two small datasets cut out of the embedded documents."""
    return small_study.write_documents(tmp_path_factory.mktemp("documents"))


@pytest.fixture(scope="session")
def study_cells(document_files: list[Path]) -> list[Cell]:
    """Two datasets, two seeds, two null replicates, a few steps: every stage runs, nothing converges."""
    return small_study.plan(document_files)


@pytest.fixture(scope="session")
def small(
    tmp_path_factory: pytest.TempPathFactory, document_files: list[Path], study_cells: list[Cell]
) -> SmallStudy:
    """The small study, swept once in this process. Its store is read by many tests: copy it to change it."""
    store = tmp_path_factory.mktemp("small") / "store"
    outcome = sweep(study_cells, store)
    assert not outcome.failures, outcome.failures
    return SmallStudy(study_cells, document_files, store)


@pytest.fixture(scope="session")
def small_grid(small: SmallStudy) -> TransferGrid:
    """The grid of the small study."""
    return ts.read_grid(small.store)


@pytest.fixture(scope="session")
def embedded_model() -> LanguageModel:
    """The model that ships with the package; no test may depend on its numbers."""
    return load_language_model("embedded")


@pytest.fixture(scope="session")
def simulated() -> TransferGrid:
    """A grid with null replicates and two datasets, whose penalties are clearly above 0 and grow."""
    return ts.simulate_grid(n_seeds=4, n_units=60, n_null=4, datasets=("one", "two"), rng=11).grid
