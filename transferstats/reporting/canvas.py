"""Where figures are drawn: one style, no global state left behind, the same bytes every time.

Colours are written as fixed values; the page replaces each by a CSS variable, so that one drawing serves
light, dark and print. Every series also differs by marker or dash, so that none needs its colour.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferstats.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1c1f24"
MUTED = "#5b6471"
GRID = "#dfe3e8"
PAPER = "#fffffe"
BLUE = "#1f5f9f"
ORANGE = "#b3520b"
TEAL = "#0c7f74"
PURPLE = "#774ea2"
BAND = "#c9dbee"

NAMES: Mapping[str, str] = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    BLUE: "blue",
    ORANGE: "orange",
    TEAL: "teal",
    PURPLE: "purple",
    BAND: "band",
}

COOL = ("#f2f6fb", "#dce8f5", "#c2d8ed", "#a2c3e2", "#7ba9d3", "#568fc3", "#316fab", "#1b528b", "#0d3768")
"""Steps of size for values above 0, light to dark: monotone in lightness, so readable in grey."""
WARM = ("#fdf4e9", "#f9e1c6", "#f3c898", "#e8a664", "#d58139", "#c26f28", "#8d4610", "#66310b", "#47220b")
"""The same for values below 0."""
ON_COOL = tuple(f"#1b1f2{i}" if i < 6 else f"#fefef{i}" for i in range(len(COOL)))
"""Ink on each step; each its own value, so that the page can swap it in the dark."""

SERIES = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (TEAL, "-.", "^"), (PURPLE, ":", "D"), (MUTED, (0, (5, 1)), "v"))
"""Colour, dash and marker of each series in order."""

WIDTH = 5.0
"""Inches: a figure is read at its own size on a desktop and at three quarters of it on a telephone."""

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"

STYLE: Mapping[str, Any] = {
    "svg.hashsalt": "transferstats",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.8,
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.6,
    "path.simplify": False,
}


@contextmanager
def style(**changes: Any) -> Iterator[None]:
    """matplotlib's defaults with the house style, whatever the user's own settings; theirs come back after."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: dict[Any, Any] = {**STYLE, **changes}
        matplotlib.rcParams.update(settings)
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure outside of pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def light_grid(axes: Axes, axis: Any = "y") -> None:
    """Quiet grid lines behind the data."""
    axes.grid(visible=True, axis=axis, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def draw_svg(figure: Figure, *, text_as_paths: bool = False) -> str:
    """The figure as SVG text with no date, no version and no external reference.

    ``text_as_paths`` is for consumers that have no fonts of their own (typst).
    """
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with style(**({"svg.fonttype": "path"} if text_as_paths else {})), warnings.catch_warnings():
        # The reader's browser has the glyphs that the measuring font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = re.sub(r"^<\?xml.*?<svg", "<svg", buffer.getvalue(), count=1, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]+", f"font-family: {FONTS}", text)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def draw_pdf(figure: Figure) -> bytes:
    """The figure as PDF bytes without dates."""
    buffer = io.BytesIO()
    nothing = {"CreationDate": None, "Creator": None, "Producer": None, "ModDate": None}
    with style(**{"pdf.fonttype": 42}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="pdf", metadata=nothing)
    return buffer.getvalue()


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as .svg or .pdf (the same bytes every time), or as .png; DataError for other names."""
    target = Path(path)
    if target.suffix == ".svg":
        target.write_text(standalone(draw_svg(figure), target.stem, ""), encoding="utf-8")
    elif target.suffix == ".pdf":
        target.write_bytes(draw_pdf(figure))
    elif target.suffix == ".png":
        with style():
            figure.savefig(target, dpi=200, facecolor="white", metadata={"Software": None})
    else:
        raise DataError(f"cannot draw {target.name}: use a name that ends in .svg, .pdf or .png")


def standalone(svg: str, title: str, description: str) -> str:
    """An SVG file of its own: white paper, title and description."""
    head, rest = _split(svg)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'{head[:-1]} role="img">\n <title>{escape(title)}</title>\n <desc>{escape(description)}</desc>\n'
        f' <rect width="100%" height="100%" fill="#ffffff"/>{rest}'
    )


def inline(svg: str, prefix: str, title: str, description: str) -> str:
    """An SVG to stand in a page: unique ids, CSS variables for colours, as wide as its box allows."""
    head, rest = _split(svg)
    width = re.search(r'width="([\d.]+)pt"', head)
    box = re.search(r'viewBox="([^"]+)"', head)
    pixels = round(float(width.group(1)) * 4 / 3) if width else 480
    rest = re.sub(r' id="([^"]+)"', rf' id="{prefix}-\1"', rest)
    rest = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", rest)
    rest = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{prefix}-\1"', rest)
    for colour, name in _variables().items():
        rest = rest.replace(colour, f"var(--f-{name})")
    # The rule that matplotlib writes reaches the whole page when the drawing stands inside one.
    rest = re.sub(r"<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>", "", rest, count=1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box.group(1) if box else ""}" '
        f'class="figure" style="max-width:{pixels}px" role="img" aria-labelledby="{prefix}-t {prefix}-d">\n'
        f'<title id="{prefix}-t">{escape(title)}</title><desc id="{prefix}-d">{escape(description)}</desc>{rest}'
    )


def _split(svg: str) -> tuple[str, str]:
    end = svg.index(">") + 1
    return svg[:end], svg[end:]


def _variables() -> dict[str, str]:
    variables = dict(NAMES)
    variables.update({colour: f"q{step}" for step, colour in enumerate(COOL)})
    variables.update({colour: f"w{step}" for step, colour in enumerate(WARM)})
    variables.update({colour: f"t{step}" for step, colour in enumerate(ON_COOL)})
    return variables
