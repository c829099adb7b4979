"""The page in a real browser, offline: no errors, no requests, nothing wider than a telephone, sorting works."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from html import unescape
from pathlib import Path

import pytest
import required

pytestmark = pytest.mark.needs_browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
    "--log-level=0",
)

MEASURE = """<script>
document.querySelectorAll("details").forEach(function (one) { one.open = true; });
var root = document.documentElement;
var wide = [];
document.querySelectorAll("main *, header *, nav *").forEach(function (one) {
  if (!one.closest(".scroll, svg, .skip") && one.getBoundingClientRect().right > root.clientWidth + 1) {
    wide.push(one.tagName);
  }
});
var verdicts = document.querySelector("table.sortable").closest(".scroll");
var text = document.querySelector("svg.figure text");
var drawing = text.ownerSVGElement;
var head = document.querySelectorAll("table.sortable th")[3];
head.querySelector("button").click();
head.querySelector("button").click();
var rows = document.querySelectorAll("table.sortable tbody tr");
parent.postMessage(JSON.stringify({
  scroll: root.scrollWidth,
  client: root.clientWidth,
  wide: wide,
  cut: verdicts.scrollWidth - verdicts.clientWidth,
  letters: parseFloat(getComputedStyle(text).fontSize) * drawing.getBoundingClientRect().width /
    drawing.viewBox.baseVal.width,
  order: head.getAttribute("aria-sort"),
  values: Array.prototype.map.call(rows, function (row) { return row.cells[3].getAttribute("data-sort"); })
}), "*");
</script>"""

# A headless window is never narrower than 500 px; a frame can be as narrow as a telephone.
FRAME = """<!DOCTYPE html><body><script>
addEventListener("message", function (event) { document.body.setAttribute("data-found", event.data); });
</script><iframe src="measured.html" style="width: WIDTHpx; height: 900px; border: 0"></iframe></body>"""


@pytest.fixture(scope="module")
def browser() -> str:
    return required.program(*BROWSERS)


@pytest.fixture(scope="module")
def folder(study_files: Mapping[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("report")
    (target / "index.html").write_bytes(study_files["index.html"])
    # The policy of the page forbids foreign scripts, so the copy that is measured goes without it.
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", study_files["index.html"].decode())
    (target / "measured.html").write_text(page.replace("</body>", MEASURE + "</body>"))
    stray = '<img src="https://example.invalid/x.png"><script>alert(1)</script></body>'
    (target / "stray.html").write_text(study_files["index.html"].decode().replace("</body>", stray))
    for width in (390, 1130, 1280):
        (target / f"frame-{width}.html").write_text(FRAME.replace("WIDTH", str(width)))
    return target


def load(browser: str, page: Path) -> tuple[str, list[str]]:
    """The page's elements after loading, and what the console said."""
    profile = f"--user-data-dir={page.parent / f'profile-{page.stem}'}"
    command = [browser, *FLAGS, profile, "--window-size=1400,900", "--virtual-time-budget=2000", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


def test_console_stays_silent_and_a_stray_request_would_be_heard(browser: str, folder: Path) -> None:
    dom, console = load(browser, folder / "index.html")
    assert "</html>" in dom
    assert console == []
    _, console = load(browser, folder / "stray.html")
    assert any("Content Security Policy" in line for line in console)


@pytest.mark.parametrize("width", [390, 1130, 1280])
def test_nothing_is_wider_than_the_window(browser: str, folder: Path, width: int) -> None:
    dom, console = load(browser, folder / f"frame-{width}.html")
    assert console == []
    answer = re.search(r'data-found="([^"]*)"', dom)
    assert answer, "the page did not run to its end"
    found = json.loads(unescape(answer.group(1)))
    assert found["client"] == width
    assert found["scroll"] == width
    assert found["wide"] == []
    assert found["cut"] <= 0, "the table of verdicts has to be scrolled sideways"
    assert found["letters"] >= 8.0
    assert found["order"] == "descending"
    values = [float(value) for value in found["values"]]
    known = [value for value in values if value == value]
    assert known == sorted(known, reverse=True)
    assert values[-1] != values[-1], "rows without a number belong at the end"
