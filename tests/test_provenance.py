"""Canonical text and content keys: equal configurations, equal keys, whatever their spelling."""

from __future__ import annotations

import json
import platform

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import transferstats
from transferstats.provenance import canonical_json, content_key, library_versions

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_canonical_json_reads_back_and_is_a_fixed_point(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text
    assert text.isascii()


@given(st.dictionaries(st.text(), VALUES, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_a_dictionary_does_not_matter(value: dict[str, object], shuffle: object) -> None:
    items = list(value.items())
    shuffle.shuffle(items)  # type: ignore[attr-defined]
    assert content_key(dict(items)) == content_key(value)


@given(VALUES, VALUES)
def test_different_values_have_different_keys(one: object, other: object) -> None:
    assert (content_key(one) == content_key(other)) == (canonical_json(one) == canonical_json(other))


def test_a_key_never_changes_between_versions() -> None:
    """Stores of last year must be found again."""
    assert content_key({"b": [1, 2.5, None], "a": "é"}) == (
        "84afbf1d4853005f9dd0c81cb1819b53ce86978340764c062160f6e8356665de"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, np.float32(1.0), object()])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical_json({"x": value})


def test_versions_name_what_numbers_depend_on() -> None:
    versions = library_versions()
    assert versions["python"] == platform.python_version()
    assert versions["transferstats"] == transferstats.__version__
    assert versions["numpy"] == np.__version__
