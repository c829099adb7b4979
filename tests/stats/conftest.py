"""Fixtures of the statistics tests."""

from __future__ import annotations

import pytest
from hypothesis import settings
from stats_data import make_losses

from transferstats.arrays import FloatArray

# Property tests must fail on the same input tomorrow, and never because a shared machine was slow.
settings.register_profile("reproducible", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("reproducible")


@pytest.fixture
def losses() -> FloatArray:
    """The same losses in every test that asks."""
    return make_losses()
