"""What is not installed skips a test on somebody's machine, and fails it in the full run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import required

ABSENT: dict[str, Callable[[], object]] = {
    "no-such-program": lambda: required.program("no-such-program"),
    "no_such_module": lambda: required.module("no_such_module"),
    "no-such-style": lambda: required.latex_package("no-such-style"),
    "nosuchpackage": lambda: required.r_packages("nosuchpackage"),
}


@pytest.mark.parametrize("name", ABSENT)
def test_absent_is_a_skip_or_a_failure(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(required.REQUIRE_ALL, raising=False)
    reason = "is not installed" if name in ("nosuchpackage", "no-such-style") else f"{name} is not installed"
    with pytest.raises(pytest.skip.Exception, match=reason):
        ABSENT[name]()
    monkeypatch.setenv(required.REQUIRE_ALL, "1")
    with pytest.raises(pytest.fail.Exception, match=f"TRANSFERSTATS_REQUIRE_ALL=1, but .*{reason}"):
        ABSENT[name]()


def test_present_is_found() -> None:
    assert required.program("no-such-program", "sh").endswith("/sh")
    required.module("pytest")
