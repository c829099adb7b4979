"""Figures: what is marked, what is drawn beside what, and that drawing leaves no trace behind."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from transferstats.errors import DataError
from transferstats.reporting import figure
from transferstats.reporting.canvas import COOL, NAMES, ON_COOL, WARM, draw_pdf, draw_svg, inline, save, standalone
from transferstats.reporting.figures_claims import rows_shown
from transferstats.reporting.figures_curves import logarithmic
from transferstats.reporting.figures_matrix import draw_matrix, includes_zero, step_of
from transferstats.reporting.pictures import pictures, slug
from transferstats.reporting.wording import short_layers
from transferstats.results import Estimate, Evidence
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.description import describe
from transferstats.stats.null import null_test, shared_lens_test
from transferstats.stats.planning import plan_study, size_study
from transferstats.stats.regression import regress


def test_cells_whose_interval_includes_zero_are_marked() -> None:
    low = np.array([-0.1, 0.1, -0.3, np.nan, 0.0, 0.2])
    high = np.array([0.1, 0.3, -0.1, np.nan, 0.1, 0.3])
    mask = includes_zero(low, high, 3)
    assert mask[~np.eye(3, dtype=bool)].tolist() == [True, False, False, True, True, False]
    assert not mask.diagonal().any()


def test_marked_cells_are_hatched_italic_and_negative_ones_warm() -> None:
    matrix = np.array([[0.0, 0.5, 0.01], [-0.2, 0.0, 0.3], [0.4, 0.1, 0.0]])
    unsure = np.zeros((3, 3), dtype=bool)
    plain = draw_svg(draw_matrix(matrix, unsure, ("a", "b", "c"), label="x"))
    unsure[0, 2] = True
    marked = draw_svg(draw_matrix(matrix, unsure, ("a", "b", "c"), label="x"))
    assert "<pattern" not in plain
    assert "italic" not in plain
    assert "<pattern" in marked
    assert len(re.findall(r"italic[^>]*>0\.01<", marked)) == 1
    assert WARM[step_of(-0.2, 0.5)] in plain
    assert ">\u22120.20<" in plain


def test_steps_darken_with_size_so_that_grey_keeps_the_order() -> None:
    def luminance(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    for ramp in (COOL, WARM):
        values = [luminance(colour) for colour in ramp]
        assert values == sorted(values, reverse=True)
    steps = [step_of(value, 1.0) for value in np.linspace(0, 1, 50)]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, len(COOL) - 1)
    assert step_of(math.nan, 1.0) == step_of(1.0, 0.0) == 0


def page_colours() -> list[dict[str, str]]:
    """CSS variables of figures: light, then dark."""
    style = (resources.files("transferstats.reporting") / "templates" / "report.css").read_text()
    light, rest = style.split("prefers-color-scheme: dark", 1)
    return [dict(re.findall(r"--f-(\w+): (#[0-9a-f]{6})", text)) for text in (light, rest)]


def contrast(first: str, second: str) -> float:
    def light(colour: str) -> float:
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(first), light(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_ink_on_each_step_can_be_read_in_light_and_dark() -> None:
    for ramp in (COOL, WARM):
        for ground, ink in zip(ramp, ON_COOL, strict=True):
            assert contrast(ground, ink) >= 4.0, (ground, ink)
    for colours in page_colours():
        for step in range(len(COOL)):
            for ramp_name in ("q", "w"):
                pair = colours[f"{ramp_name}{step}"], colours[f"t{step}"]
                assert contrast(*pair) >= 4.0, (ramp_name, step, pair)


def test_series_stand_out_from_the_page_in_light_and_dark() -> None:
    for colours in page_colours():
        for name in ("ink", "muted", "blue", "orange", "teal", "purple"):
            assert contrast(colours[name], colours["paper"]) >= 4.5, name


def test_light_colours_of_the_page_are_those_of_the_files() -> None:
    light = page_colours()[0]
    for step, (cool, warm) in enumerate(zip(COOL, WARM, strict=True)):
        assert (light[f"q{step}"], light[f"w{step}"]) == (cool, warm)
    assert {name: light[name] for name in ("ink", "muted", "blue", "orange")} == {
        name: colour for colour, name in NAMES.items() if name in ("ink", "muted", "blue", "orange")
    }


def test_colours_differ_so_that_the_page_can_swap_each() -> None:
    everything = [*NAMES, *COOL, *WARM, *ON_COOL]
    assert len(set(everything)) == len(everything)


def test_a_matrix_uses_cells_and_not_a_stale_matrix(study: Evidence) -> None:
    data = replace(study.datasets[0], matrix=np.full((5, 5), 99.0))
    assert ">99.00<" not in draw_svg(figure(data))


def test_pictures_have_text_data_and_distinct_names(study: Evidence) -> None:
    drawn = list(pictures(study))
    assert len({one.name for one in drawn}) == len(drawn)
    for one in drawn:
        assert len(one.alt) > 20
        assert len(one.caption) > 60
        assert len(one.data)
        assert one.name.isascii()
    intervals = [one for one in drawn if one.section in ("matrix", "distance", "depth", "verdicts")]
    named = [one for one in intervals if "95\u00a0% interval" in one.caption]
    assert len(named) >= len(intervals) - 4


def test_null_matrix_and_excess_share_the_colours_of_the_observed(study: Evidence) -> None:
    drawn = {one.name: draw_svg(one.draw()) for one in pictures(study) if one.name.endswith("matrix-1-wikitext")}
    keys = [re.findall(r">([\d.]+)</text>", svg)[-4:] for svg in drawn.values()]
    assert len(drawn) == 3
    assert len({tuple(key) for key in keys}) == 1


def test_drawing_leaves_no_global_state(study: Evidence) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_svg(figure(study))
    assert dict(matplotlib.rcParams) == before


def test_drawing_never_loads_pyplot() -> None:
    code = (
        "import sys, numpy as np\n"
        "from transferstats.reporting.canvas import draw_svg\n"
        "from transferstats.reporting.figures_matrix import draw_matrix\n"
        "draw_svg(draw_matrix(np.eye(3), np.zeros((3, 3), bool), ('a', 'b', 'c'), label='x'))\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_the_same_figure_has_the_same_bytes(study: Evidence) -> None:
    once, again = figure(study.datasets[0]), figure(study.datasets[0])
    assert draw_svg(once) == draw_svg(again)
    assert draw_pdf(once) == draw_pdf(again)


def test_svg_files_are_well_formed_and_hold_a_description(study: Evidence) -> None:
    svg = draw_svg(figure(study))
    root = ElementTree.fromstring(standalone(svg, "a < b", "c & d"))
    words = [element.text for element in root if element.tag.endswith(("title", "desc"))]
    assert words == ["a < b", "c & d"]
    assert "http://" not in re.sub(r"http://www\.w3\.org/[\w/]+", "", svg)


def test_inline_figures_do_not_share_ids(study: Evidence) -> None:
    svg = draw_svg(figure(study.datasets[0]))
    first, second = (set(re.findall(r'\bid="([^"]+)"', inline(svg, name, "t", "d"))) for name in ("p", "q"))
    assert first
    assert not first & second
    for used in re.findall(r"url\(#([^)]+)\)", inline(svg, "p", "t", "d")):
        assert used in first


@pytest.mark.parametrize("n_layers", [2, 3, 20])
def test_few_and_many_layers_can_be_drawn(n_layers: int) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(n_layers, n_layers))
    layers = tuple(f"block.{i}" for i in range(n_layers))
    svg = draw_svg(draw_matrix(matrix, matrix < -1, layers, label="x"))
    assert ElementTree.fromstring(svg).tag.endswith("svg")


def test_an_all_missing_matrix_can_be_drawn() -> None:
    matrix = np.full((3, 3), np.nan)
    assert ">?<" in draw_svg(draw_matrix(matrix, np.ones((3, 3), dtype=bool), ("a", "b", "c"), label="x"))


def kinds() -> list[Any]:
    grid = simulate_grid(true_penalty(4), n_seeds=3, n_units=20, n_null=2, datasets=("a",), rng=2).grid
    return [
        null_test(grid, "mean"),
        null_test(grid, "cells"),
        shared_lens_test(grid, 0.05),
        plan_study(grid, seeds=[3, 5], units=[50, 100], smallest=0.05),
        plan_study(grid, seeds=[3, 20], units=[50, 100]),
        size_study(grid, half_width=0.03),
        size_study(grid, half_width=1e-9),
        describe(grid),
        regress("penalty ~ distance", grid),
    ]


def test_other_results_have_figures(study: Evidence) -> None:
    data = study.datasets[0]
    for one in [*kinds(), data.fits["saturating"], data.comparison, data.cells, study.claims[0]]:
        assert len(draw_svg(figure(one))) > 1000, type(one).__name__


def test_claims_without_interval_are_drawn_open(study: Evidence) -> None:
    claim = study.claims[0]
    assert isinstance(claim.estimate, Estimate)
    blank = replace(claim.estimate, conf_low=np.asarray(np.nan), conf_high=np.asarray(np.nan))
    assert draw_svg(figure(replace(claim, estimate=blank)))
    assert "no claim was tested" in draw_svg(figure(replace(claim, estimate=None)))


@pytest.mark.parametrize(
    ("layers", "short"),
    [
        (("layer 0", "layer 1"), ["0", "1"]),
        (("model.layers.0", "model.layers.11"), ["0", "11"]),
        (("conv1", "conv2"), ["conv1", "conv2"]),
        (("mixed_3a", "mixed_4b"), ["3a", "4b"]),
        (("only",), ["only"]),
        (("a", "a b"), ["a", "a b"]),
    ],
)
def test_axis_names_of_layers(layers: tuple[str, ...], short: list[str]) -> None:
    assert short_layers(layers) == short


def test_file_names_of_datasets() -> None:
    assert slug(0, "Wiki Text/103") == "1-wiki-text-103"
    assert slug(1, "\u05e9\u05dc\u05d5\u05dd") == "2"
    assert slug(2, "../../etc") == "3-etc"


def test_a_log_scale_is_used_only_where_it_can_be(study: Evidence) -> None:
    own = study.datasets[0].depth
    top = float(own.estimate.max())
    assert not logarithmic(replace(own, estimate=np.full(5, top)), {"prior": np.asarray(2 * top)})
    assert logarithmic(own, {"logit": np.full(5, 100 * top)})
    assert not logarithmic(own, {"logit": np.full(5, 100 * top), "final": np.asarray(0.0)})


def test_a_forest_too_long_for_a_page_shows_the_averages(study: Evidence) -> None:
    few = [claim for claim in study.claims if claim.estimate is not None]
    assert list(rows_shown(few)) == few
    assert {claim.dataset for claim in rows_shown(few * 8)} == {"average"}
    alone = [claim for claim in few if claim.dataset != "average"]
    assert len(rows_shown(alone * 8)) == 8 * len(alone)


@pytest.mark.parametrize("name", ["plan.svg", "plan.pdf", "plan.png"])
def test_figures_are_saved_to_the_same_bytes(study: Evidence, tmp_path: Path, name: str) -> None:
    written = []
    for _ in range(2):
        save(figure(study.datasets[0].extras["plan"]), tmp_path / name)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    with pytest.raises(DataError, match="use a name that ends in"):
        save(figure(study), tmp_path / "x.gif")
