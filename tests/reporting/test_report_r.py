"""R reads every result and every report: real R, with and without Python, with and without generics."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import every_result
import numpy as np
import pandas as pd
import pytest
import required
from real_r import library_without, run_r

import transferstats as ts
from transferstats import results
from transferstats.cli import R_FILE
from transferstats.results import Result

pytestmark = pytest.mark.needs_r

# JSON written by R holds 15 digits.
DIGITS = 1e-14

BROOM = {
    "std_error": "std.error",
    "p_value": "p.value",
    "conf_low": "conf.low",
    "conf_high": "conf.high",
    "conf_level": "conf.level",
    "r_squared": "r.squared",
    "p_adjusted": "adj.p.value",
}

START = 'source(system2("transferstats", "r-path", stdout = TRUE))\n'
RESULTS = f'{START}made <- reticulate::import_from_path("every_result", "{Path(every_result.__file__).parent}")\n'
SAVE = 'jsonlite::write_json(out, "out.json", digits = NA, na = "null", dataframe = "columns")\n'


@pytest.fixture(scope="module", autouse=True)
def bridge() -> None:
    required.r_packages("reticulate", "jsonlite")


def answer(script: str, folder: Path, changes: Mapping[str, str] | None = None) -> Any:
    """What a script leaves in ``out``."""
    done = run_r(script + SAVE, folder=folder, changes=changes)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "out.json").read_text(encoding="utf-8"))


def assert_same(found: Mapping[str, list[Any]], frame: pd.DataFrame, names: Mapping[str, str]) -> None:
    """A data frame of R, by columns, against ours: names, order, types and numbers."""
    assert list(found) == [names.get(name, name) for name in map(str, frame)]
    for values, column in zip(found.values(), frame, strict=True):
        for value, ours in zip(values, frame[column], strict=True):
            if isinstance(ours, str):
                assert value == ours, column
            elif isinstance(ours, bool | np.bool_):
                assert value is bool(ours), column
            elif not math.isfinite(ours):
                assert value is None, column
            else:
                assert value == pytest.approx(float(ours), rel=DIGITS), column


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What R says of one result of every class, in a locale that knows ASCII only."""
    script = f"""{RESULTS}
out <- lapply(made$every_result(), function(x) {{
  list(tidy = tidy(x), glance = glance(x), plot = plot_data(x), frame = as.data.frame(x), classes = class(x))
}})
"""
    return answer(script, tmp_path_factory.mktemp("every"), {"LC_ALL": "C"})


CLASSES = [
    name
    for name in results.__all__
    if isinstance(one := getattr(results, name), type) and issubclass(one, Result) and one is not Result
]


@pytest.mark.parametrize("name", CLASSES)
def test_tidy_and_glance_of_every_class(name: str, seen: Any) -> None:
    ours = every_result.every_result()[name]
    assert_same(seen[name]["tidy"], ours.tidy(), BROOM)
    assert_same(seen[name]["glance"], ours.glance(), BROOM)
    assert seen[name]["frame"] == seen[name]["tidy"]


def test_checks_by_other_methods_are_asked_for_from_r(tmp_path: Path) -> None:
    found = answer(
        f"""{RESULTS}
ts <- transferstats(); grid <- made$grid(); other <- made$grid(12L); name <- made$DATASETS[[1]]
rows <- function(x) lapply(seq_len(nrow(x)), function(row) as.list(x[row, ])); lags <- abs(outer(0:4, 0:4, "-"))
subjects <- lapply(list(grid, other), function(x) ts$estimate(x, "mean"))
out <- list(reliability = tidy(ts$reliability(grid, name)), mixed = tidy(ts$mixed_slope(grid, name)),
            order = tidy(ts$order_test(grid, name)),
            meta = glance(ts$meta_analysis(subjects, subjects = c("a", "b"))),
            mantel = tidy(ts$qap(rows(lags^2), rows(lags), method = "mantel")),
            several = tryCatch(ts$order_test(grid), error = conditionMessage))
""",
        tmp_path,
    )
    grid, other, name = every_result.grid(), every_result.grid(12), every_result.DATASETS[0]
    assert_same(found["reliability"], ts.reliability(grid, name).tidy(), BROOM)
    assert_same(found["mixed"], ts.mixed_slope(grid, name).tidy(), BROOM)
    assert_same(found["order"], ts.order_test(grid, name).tidy(), BROOM)
    pooled = ts.meta_analysis([ts.estimate(one, "mean") for one in (grid, other)], subjects=["a", "b"])
    assert_same(found["meta"], pooled.glance(), BROOM)
    lags = np.abs(np.subtract.outer(np.arange(5.0), np.arange(5.0)))
    assert_same(found["mantel"], ts.qap(lags**2, lags, method="mantel").tidy(), BROOM)
    assert "name one of the datasets" in found["several"][0]


@pytest.mark.parametrize("name", CLASSES)
def test_class_paths_are_public(name: str, seen: Any) -> None:
    """Anybody's R code may dispatch on these."""
    path = f"{getattr(results, name).__module__}.{name}"
    assert seen[name]["classes"][:2] == [path, "transferstats.results.base.Result"]


def test_data_behind_figures(seen: Any) -> None:
    made = every_result.every_result()
    fit, null, mean = made["DecayFits"], made["NullTest"], made["Estimates"]
    assert isinstance(fit, results.DecayFits)
    assert_same(seen["DecayFits"]["plot"], fit.frame(), BROOM)
    assert_same(seen["Estimates"]["plot"], mean.tidy(), BROOM)
    assert isinstance(null, results.NullTest)
    assert seen["NullTest"]["plot"]["estimate"][:3] == pytest.approx(list(null.seed_values[0]), rel=DIGITS)
    assert seen["Evidence"]["plot"] == seen["Evidence"]["tidy"]  # the first figure is the forest of claims


def test_augment(tmp_path: Path) -> None:
    found = answer(
        f"""{RESULTS}
grid <- made$grid(); x <- made$every_result()
apart <- abs(outer(0:5, 0:5, "-"))^0.5
curve <- transferstats()$fit_decay(grid, "linear", distance = lapply(1:6, function(row) as.list(apart[row, ])))
refused <- function(...) tryCatch(augment(...), error = conditionMessage)
out <- list(decay = augment(x$DecayFits, grid), one = augment(x$DecayFit, grid),
            regression = augment(x$RegressionFit, grid), custom = augment(curve, grid, distance = apart),
            nothing = refused(x$Evidence, grid), elsewhere = refused(x$RegressionFit, made$grid(12L)),
            without = refused(x$DecayFit))
""",
        tmp_path,
    )
    made, grid = every_result.every_result(), every_result.grid()
    names = {"fitted": ".fitted", "resid": ".resid"}
    assert_same(found["decay"], ts.augment(made["DecayFits"], grid), names)
    assert_same(found["one"], ts.augment(made["DecayFit"], grid), names)
    assert_same(found["regression"], ts.augment(made["RegressionFit"], grid), names)
    apart = np.sqrt(np.abs(np.subtract.outer(np.arange(6), np.arange(6))))
    assert_same(
        found["custom"], ts.augment(ts.fit_decay(grid, "linear", distance=apart), grid, distance=apart), names
    )
    assert "nothing to augment in Evidence" in found["nothing"][0]
    assert "made from other numbers" in found["elsewhere"][0]
    assert "needs the grid" in found["without"][0]


def test_losses_from_a_data_frame_of_r(tmp_path: Path) -> None:
    """Factors, long labels, digits and gaps survive the way in; text and numbers survive the way out."""
    found = answer(
        f"""{START}
frame <- expand.grid(seed = c("007", "8"), unit = 2^31 + 1:6, source = 0:2, target = 0:2, stringsAsFactors = TRUE)
frame$bits <- 1 / 3 + frame$source / 7 + as.integer(frame$seed) * frame$unit / 1e10 * (frame$target == 0)
long <- read_grid(frame, columns = c(bits = "kl"), loss_unit = "bits", subject = "mine")
utils::write.csv(frame, "frame.csv", row.names = FALSE)
gap <- within(frame, bits[4] <- NA)
unnamed <- within(frame, unit[4] <- NA)
refused <- function(frame) tryCatch(read_grid(frame, columns = c(bits = "kl")), error = conditionMessage)
estimate <- transferstats()$estimate(long)
out <- list(tidy = tidy(estimate), text = sentence(estimate), shown = utils::capture.output(print(estimate)),
            subject = long$subject, gap = refused(gap),
            smallest = tryCatch(evaluate(long, smallest = NA), error = conditionMessage),
            unnamed = refused(unnamed), bits = formatC(frame$bits, digits = 17, format = "g"))
""",
        tmp_path,
    )
    frame = pd.read_csv(tmp_path / "frame.csv", dtype={"seed": str, "unit": str}).drop(columns="bits")
    ours = ts.read_grid(
        frame.assign(bits=[float(text) for text in found["bits"]]), columns={"bits": "kl"}, loss_unit="bits"
    )
    assert_same(found["tidy"], ts.estimate(ours).tidy(), BROOM)
    assert ours.datasets[0].units[0] == str(2**31 + 1)
    assert found["text"] == [ts.sentence(ts.estimate(ours))]
    assert found["shown"][0].split()[:3] == ["term", "estimate", "std.error"]
    assert found["subject"] == ["mine"]
    assert "1 losses are NaN or infinite" in found["gap"][0]
    assert found["smallest"] == ["smallest is NA: give a value, or leave it out"]
    assert "1 rows have no unit" in found["unnamed"][0]


def test_shares_from_a_data_frame_of_r(tmp_path: Path) -> None:
    """Disagreement: its unit, its verdicts, a value that is no share; and what a report says beyond 100 %."""
    found = answer(
        f"""{START}
frame <- expand.grid(seed = 0:2, unit = 0:7, source = 0:2, target = 0:2)
frame$disagreement <- 0.1 + ((7 * frame$seed + 5 * frame$unit + 3 * frame$target + 11 * frame$source) %% 13) / 40
long <- read_grid(frame, loss_unit = "bits")
estimate <- transferstats()$estimate(long)
bad <- within(frame, disagreement[4] <- 35)
out <- list(tidy = tidy(estimate), text = sentence(estimate), verdicts = tidy(evaluate(long, smallest = 0.01)),
            bad = tryCatch(read_grid(bad), error = conditionMessage), disagreement = frame$disagreement)
""",
        tmp_path,
    )
    keys = pd.MultiIndex.from_product([range(3), range(3), range(8), range(3)]).to_frame(index=False)
    frame = keys.set_axis(["target", "source", "unit", "seed"], axis=1).assign(disagreement=found["disagreement"])
    ours = ts.read_grid(frame)
    assert_same(found["tidy"], ts.estimate(ours).tidy(), BROOM)
    assert set(found["tidy"]["unit"]) == {"share of tokens"}
    assert found["text"] == [ts.sentence(ts.estimate(ours))]
    assert {str(unit).split(" per ")[0] for unit in found["verdicts"]["unit"] if unit} == {"share of tokens"}
    assert "1 values of 'disagreement' lie outside of 0 to 1, such as 35" in found["bad"][0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished report."""
    target = tmp_path_factory.mktemp("finished") / "report"
    ts.report(every_result.every_result()["Evidence"], target)
    return target


def test_a_report_needs_no_python(folder: Path, tmp_path: Path) -> None:
    """No reticulate, no command: what somebody has who was sent the folder."""
    found = answer(
        f"""source("{R_FILE}")
report <- read_report("{folder}")
refused <- function(f) tryCatch(f(), error = conditionMessage)
out <- list(claims = report$claims, plain = read.csv("{folder}/tables/claims.csv"), tidy = tidy(report),
            glance = glance(report), names = names(report), forest = plot_data(report, "claims"),
            numbers = read_numbers("{folder}"), values = read_numbers("{folder}", "value"),
            printed = utils::capture.output(print(report)),
            figure = refused(function() plot_data(report, "x")), empty = refused(function() read_report(".")),
            reticulate = requireNamespace("reticulate", quietly = TRUE),
            python = refused(function() transferstats()))
""",
        tmp_path,
        library_without(tmp_path, "reticulate") | {"PATH": "/usr/bin:/bin"},
    )
    evidence = every_result.every_result()["Evidence"]
    assert_same(found["claims"], evidence.tidy(), {})
    assert_same(found["tidy"], evidence.tidy(), BROOM)
    assert found["forest"] == found["tidy"]
    assert found["plain"]["verdict"] == list(evidence.tidy()["verdict"])
    assert found["plain"]["conf_low"] == found["claims"]["conf_low"]
    assert found["names"] == sorted(path.stem for path in (folder / "tables").glob("*.csv"))
    assert found["glance"]["subject"] == ["simulated"]
    assert found["glance"]["n_datasets"] == [2]
    for verdict in set(evidence.tidy()["verdict"]):
        assert found["glance"][verdict] == list(evidence.glance()[verdict.replace(" ", "_")])
    ours = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
    assert {name: value[0] for name, value in found["numbers"].items()} == {n: v["text"] for n, v in ours.items()}
    assert found["values"]["TransferMean"] == [pytest.approx(ours["TransferMean"]["value"], rel=DIGITS)]
    assert found["values"]["TransferMeanCI"] == [None]
    assert "  $`claims`, 24 rows" in found["printed"]
    assert "no figure x; there are: claims, " in found["figure"][0]
    assert "is it the folder of a report?" in found["empty"][0]
    assert found["reticulate"] == [False]
    assert "install.packages" in found["python"][0]


@pytest.mark.parametrize("installed", [True, False])
def test_generics_of_broom(installed: bool, tmp_path: Path) -> None:
    """Packages call generics::tidy from inside; methods must be registered there, wherever the file was read."""
    changes = {} if installed else library_without(tmp_path, "generics", "broom")
    if installed:
        required.r_packages("generics")
    found = answer(
        f"""{RESULTS}
grid <- made$grid()
x <- transferstats()$regress("penalty ~ distance", grid)
out <- list(tidy = tidy(x), known = requireNamespace("generics", quietly = TRUE))
if (out$known) {{
  inside <- function(verb, ...) do.call(verb, list(...), envir = asNamespace("generics"))
  rm(list = ls(pattern = "[.]Result$"))  # what only the registry knows now
  out$generics <- list(inside("tidy", x), inside("glance", x), inside("augment", x, grid))
}}
""",
        tmp_path,
        changes,
    )
    grid = every_result.grid()
    fit = ts.regress("penalty ~ distance", grid)
    assert_same(found["tidy"], fit.tidy(), BROOM)
    assert found["known"] == [installed]
    if installed:
        tidied, glanced, augmented = found["generics"]
        assert tidied == found["tidy"]
        assert_same(glanced, fit.glance(), BROOM)
        assert list(augmented)[-2:] == [".fitted", ".resid"]


def test_a_python_without_the_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "transferstats.py").write_text("raise ImportError('not here')\n")
    found = answer(
        f"""source("{R_FILE}")
out <- tryCatch(read_grid("losses.csv"), error = conditionMessage)
""",
        tmp_path,
        {"PYTHONPATH": str(tmp_path), "RETICULATE_PYTHON": sys.executable},
    )
    assert "R cannot import transferstats from Python" in found[0]
    assert "not here" in found[0]
