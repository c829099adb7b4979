"""Other people's files: units are converted as stated, scores become losses only on request, limits are named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_readers import long_table

import transferstats as ts
from transferstats.errors import DataError, DesignError
from transferstats.foreign.conversion import KEPT_PER_BYTE

REFERENCE = Path(__file__).parent / "reference" / "tuned_lens"
RUNS = [REFERENCE / f"run_{run}" for run in range(2)]
ROUNDING = 1e-12  # the same sums in another order


def bytes_per_token() -> float:
    return float((REFERENCE / "bytes_per_token.txt").read_text())


# --- units of long tables ---


def kl_of(**options: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    return ts.read_grid(long_table(), **options).datasets[0].losses["kl"]


def test_bits_per_byte_become_nats_per_token() -> None:
    nats = kl_of()
    converted = kl_of(loss_unit="bits/byte", bytes_per_token=4.3)
    assert np.allclose(converted, nats * math.log(2) * 4.3, rtol=ROUNDING)


def test_every_unit_has_its_own_bytes() -> None:
    frame = long_table()
    frame["bytes"] = frame["n"] * frame["unit"].map({"unit 0": 3.0, "unit 1": 4.0, "unit 2": 5.0})
    grid = ts.read_grid(frame, loss_unit="bits/byte")
    factor = math.log(2) * np.array([3.0, 4.0, 5.0])[:, None, None]
    assert grid.unit == "nats/token"
    assert np.allclose(grid.datasets[0].losses["kl"], kl_of() * factor, rtol=ROUNDING)
    with pytest.raises(DataError, match="use one of the two"):
        ts.read_grid(frame, loss_unit="bits/byte", bytes_per_token=4.0)
    with pytest.raises(DataError, match="together with a column 'n'"):
        ts.read_grid(frame.drop(columns="n"), loss_unit="bits/byte")
    with pytest.raises(DataError, match="positive numbers in every row"):
        ts.read_grid(frame.assign(bytes=0), loss_unit="bits/byte")


def test_bits_per_byte_stay_what_they_are_and_say_so() -> None:
    grid = ts.read_grid(long_table(), loss_unit="bits/byte")
    assert grid.unit == "bits/byte"
    assert KEPT_PER_BYTE in grid.provenance["caveats"]
    assert "bits/byte" in ts.sentence(ts.estimate(grid))
    assert np.array_equal(grid.datasets[0].losses["kl"], kl_of())


def test_units_of_images() -> None:
    assert ts.read_grid(long_table(), loss_unit="bits/image").unit == "nats/image"
    assert "images" in ts.sentence(ts.estimate(ts.read_grid(long_table(), loss_unit="nats/image")))


@pytest.mark.parametrize("size", [0, -1.0, math.nan, math.inf])
def test_a_token_has_a_length(size: float) -> None:
    with pytest.raises(DataError, match="bytes_per_token must be a positive number"):
        ts.read_grid(long_table(), loss_unit="bits/byte", bytes_per_token=size)


def test_a_length_of_tokens_without_use_is_refused() -> None:
    with pytest.raises(DataError, match="say loss_unit='bits/byte'"):
        ts.read_grid(long_table(), bytes_per_token=4.0)


# --- scores ---


def scores() -> pd.DataFrame:
    frame = long_table().drop(columns=["kl", "ce"])
    frame["accuracy"] = np.random.default_rng(5).uniform(0.5, 1.0, len(frame))
    return frame


def test_a_score_becomes_a_loss_only_on_request() -> None:
    with pytest.raises(DataError, match=r"but a score 'accuracy': pass score='accuracy'"):
        ts.read_grid(scores())
    grid = ts.read_grid(scores(), score="accuracy")
    assert (grid.loss, grid.unit) == ("error", "accuracy")
    first = scores().iloc[4]
    place = (0, 0, first["source"], first["target"])
    assert grid.datasets[0].losses["error"][place] == 1 - first["accuracy"]
    assert any("made on request" in text for text in grid.provenance["caveats"])


@pytest.mark.parametrize(
    ("made", "options", "unit", "remark"),
    [
        (lambda x: 6 * x - 4, {}, "score", "score has values below 0, so it is no proportion"),
        (lambda x: -x, {}, "score", "score has values below 0"),
        (
            lambda x: 4 * x,
            {"loss_unit": "d'"},
            "d'",
            "score was taken as a score of any size, in d', of which more",
        ),
        (lambda x: -4 * x, {"loss_unit": "nats"}, "nats", "score was taken as a score of any size, in nats"),
    ],
)
def test_scores_of_any_size_are_losses_in_their_own_unit(
    made: Any, options: dict[str, str], unit: str, remark: str, tmp_path: Path
) -> None:
    """d', correlations, R^2, log-likelihoods: more is better, and a penalty is what is lost of them."""
    frame = scores().rename(columns={"accuracy": "score"})
    frame["score"] = made(frame["score"])
    grid = ts.read_grid(frame, score="score", **options)
    table = frame.set_index(["seed", "unit", "source", "target"])["score"]
    lost = table[0, "unit 1", 2, 2] - table[0, "unit 1", 0, 2]
    assert grid.datasets[0].penalty("error")[0, 1, 0, 2] == pytest.approx(lost, abs=1e-12)
    assert (grid.loss, grid.loss_unit) == ("error", unit)
    assert ts.estimate(grid).headline.unit == unit
    assert any(remark in text for text in ts.describe(grid).caveats)
    values = frame["score"].to_numpy().reshape(2, 3, 3, 3)[0]
    array = ts.read_grid(saved(tmp_path, values), score="score", **options)
    assert array.loss_unit == unit
    assert np.allclose(array.datasets[0].losses["error"][0], 1 - values, rtol=0, atol=ROUNDING)


def test_scores_beyond_1_may_be_percentages_and_are_asked_about() -> None:
    frame = scores().assign(accuracy=lambda f: 100 * f["accuracy"])
    with pytest.raises(
        DataError, match=r"divide percentages by 100; .* more is better, state .* loss_unit='accuracy'"
    ):
        ts.read_grid(frame, score="accuracy")


def test_a_penalty_of_scores_is_the_score_that_is_lost() -> None:
    data = ts.read_grid(scores(), score="accuracy").datasets[0]
    table = scores().set_index(["seed", "unit", "source", "target"])["accuracy"]
    lost = table[0, "unit 1", 2, 2] - table[0, "unit 1", 0, 2]
    assert data.penalty("error")[0, 1, 0, 2] == pytest.approx(lost, abs=ROUNDING)


def test_the_report_of_scores_says_what_they_are(tmp_path: Path) -> None:
    grid = ts.simulate_grid(n_seeds=3, n_units=20, rng=1).grid
    frame = grid.to_frame().rename(columns={"kl": "AUC"})
    frame["AUC"] = np.exp(-frame["AUC"])
    page = ts.report(ts.evaluate(ts.read_grid(frame, score="AUC"), 0.02), tmp_path).read_text(encoding="utf-8")
    assert "one minus the score" in page
    assert "1 - AUC, made on request" in page
    assert "nats/token" not in page


def test_a_grid_of_scores_reads_back() -> None:
    grid = ts.read_grid(scores(), score="accuracy")
    again = ts.read_grid(grid.to_frame(), loss="error")
    assert np.array_equal(again.datasets[0].losses["error"], grid.datasets[0].losses["error"])
    assert again.loss == "error"


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda f: f.assign(accuracy=100 * f["accuracy"]), {}, "divide percentages by 100"),
        (lambda f: f.drop(columns="accuracy"), {}, "no column 'accuracy'; it has seed"),
        (lambda f: f.assign(accuracy="high"), {}, "not a number"),
        (lambda f: f, {"loss_unit": "nats"}, "has no loss_unit"),
    ],
)
def test_bad_scores_are_refused(change: Any, options: dict[str, str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        ts.read_grid(change(scores()), score="accuracy", **options)  # type: ignore[arg-type]


# --- tables that say less ---


def test_bare_means_have_means_and_nothing_else() -> None:
    """A matrix out of somebody's paper."""
    means = long_table().groupby(["source", "target"], as_index=False)["ce"].mean()
    grid = ts.read_grid(means)
    one = ts.estimate(grid).headline
    expected = ts.estimate(ts.read_grid(long_table().drop(columns=["kl", "n"]))).headline.estimate
    assert float(one.estimate) == pytest.approx(float(expected), rel=ROUNDING)
    assert math.isnan(float(one.conf_low))
    found = ts.describe(grid)
    assert found.unsupported[0][0] == "any interval, test or verdict"
    assert "no interval could be formed" in ts.sentence(found)
    assert any("holds means" in text for text in found.caveats)
    with pytest.raises(DesignError, match="1 seed"):
        ts.evaluate(grid, 0.05)


def test_a_table_without_seeds_is_conditional_on_its_lenses() -> None:
    grid = ts.read_grid(long_table(n_seeds=1).drop(columns="seed"))
    one = ts.estimate(grid).headline
    assert math.isfinite(float(one.conf_low))
    assert "conditional on this lens set" in one.note
    assert "one set of lenses" in ts.table(one).note
    assert any("names no seed" in text for text in grid.provenance["caveats"])


def test_replicates_are_units_with_lenses_of_their_own() -> None:
    """Their interval is the one-sample t interval over replicates."""
    frame = (
        long_table(n_seeds=1, n_units=7).drop(columns=["seed", "ce", "n"]).rename(columns={"unit": "replicate"})
    )
    grid = ts.read_grid(frame)
    one = ts.estimate(grid).headline
    penalty = grid.datasets[0].penalty("kl")[0]
    each = penalty[:, ~np.eye(3, dtype=bool)].mean(axis=1)
    half = 2.446911851 * each.std(ddof=1) / np.sqrt(7)  # t, 6 df, .975
    assert float(one.conf_high - one.estimate) == pytest.approx(half, rel=1e-8)
    assert "conditional" not in one.note
    assert "7 documents, each with lenses of its own" in ts.sentence(one)
    with pytest.raises(DataError, match="has unit and 'replicate'"):
        ts.read_grid(frame.assign(unit="a"))


def test_times_name_the_layers() -> None:
    times = {0: -0.1, 1: 0.0, 2: 0.1}
    frame = long_table().replace({"source": times, "target": times})
    grid = ts.read_grid(frame.sample(frac=1, random_state=1))
    assert grid.layers == ("-0.1", "0", "0.1")
    assert np.array_equal(grid.datasets[0].losses["kl"], kl_of())
    assert "distances count steps of 0.1" in grid.caveats[-1]
    uneven = ts.read_grid(frame.replace({"source": {0.1: 0.5}, "target": {0.1: 0.5}}))
    assert "steps from 0.1 to 0.5" in uneven.caveats[-1]
    with pytest.raises(DataError, match="order of depth cannot be told"):
        ts.read_grid(frame.assign(source="mixed3a"))
    frame.loc[7, "target"] = math.nan
    with pytest.raises(DataError, match="1 rows have no target, the first is row 7"):
        ts.read_grid(frame)


# --- tuned-lens ---


@pytest.mark.parametrize("run", range(2))
def test_an_aggregate_of_tuned_lens_is_read_as_it_was_written(run: int) -> None:
    """Files written by the package's own evaluation, see reference/make_tuned_lens.py."""
    path = RUNS[run] / "aggregate_metrics.json"
    written = json.loads(path.read_text())
    grid = ts.read_grid(path)
    assert (grid.unit, grid.loss, grid.subject, grid.n_layers) == ("bits/byte", "ce", f"run_{run}", 8)
    data = grid.datasets[0]
    table = written["tuned"]["layer_transfer"]["ce"]
    assert data.losses["ce"][0, 0, 2, 5] == table["layer_2"]["layer_5"]  # lens of 2 on the state of 5
    own = [written["tuned"]["ce"][f"layer_{index}"] for index in range(8)]
    assert np.allclose(np.diagonal(data.losses["ce"][0, 0]), own, rtol=1e-6)
    assert data.baselines["final_ce"][0] == written["baseline"]["ce"]["final"]
    assert data.readouts["logit"]["ce"][0, 0, 3] == written["logit"]["ce"]["layer_3"]
    assert ts.describe(grid).unsupported[0][0] == "any interval, test or verdict"


def test_the_kl_of_tuned_lens_is_another_quantity() -> None:
    """It is 0 on the diagonal, where a loss against the final distribution cannot be."""
    written = json.loads((RUNS[0] / "aggregate_metrics.json").read_text())["tuned"]
    assert written["layer_transfer"]["kl"]["layer_4"]["layer_4"] == 0
    assert written["kl"]["layer_4"] > 0.1
    with pytest.raises(DataError, match=r"KL\(own lens \|\| transferred lens\)"):
        ts.read_grid(RUNS[0] / "aggregate_metrics.json", loss="kl")


def test_batches_average_to_the_aggregate_and_give_an_interval() -> None:
    batches = ts.read_grid(RUNS[0] / "batches.jsonl", bytes_per_token=bytes_per_token())
    means = ts.read_grid(RUNS[0] / "aggregate_metrics.json", bytes_per_token=bytes_per_token())
    assert batches.unit == means.unit == "nats/token"
    one, other = ts.estimate(batches).headline, ts.estimate(means).headline
    assert float(one.estimate) == pytest.approx(float(other.estimate), rel=1e-5)  # float32 in the files
    assert math.isfinite(float(one.conf_low))
    assert math.isnan(float(other.conf_low))
    assert len(batches.datasets[0].units) == 6


def test_nats_of_tuned_lens_are_those_of_the_model() -> None:
    """The loss of the shipped model on this text is that of other tests' text: a few nats a token."""
    grid = ts.read_grid(RUNS[0] / "batches.jsonl", bytes_per_token=bytes_per_token())
    bits = ts.read_grid(RUNS[0] / "batches.jsonl")
    ratio = grid.datasets[0].losses["ce"] / bits.datasets[0].losses["ce"]
    assert np.allclose(ratio, math.log(2) * bytes_per_token(), rtol=ROUNDING)


def test_runs_are_seeds() -> None:
    grid = ts.read_grid([run / "batches.jsonl" for run in RUNS])
    data = grid.datasets[0]
    assert data.losses["ce"].shape == (2, 6, 8, 8)
    assert np.array_equal(
        data.losses["ce"][1], ts.read_grid(RUNS[1] / "batches.jsonl").datasets[0].losses["ce"][0]
    )
    evidence = ts.evaluate(grid, 0.05)
    assert {claim.key for claim in evidence.claims if claim.verdict != "not tested"} == {
        "C1", "C2", "C4", "C5", "C6",
    }  # fmt: skip


def spoilt(tmp_path: Path, change: Any) -> Path:
    content = json.loads((RUNS[0] / "batches.jsonl").read_text())
    path = tmp_path / "batches.jsonl"
    path.write_text(json.dumps(change(content)))
    return path


def without_transfer(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    del content[2]["tuned"]["layer_transfer"]
    return content


def with_other_text(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    content[3]["baseline"]["ce"]["final"] *= 1.01
    return content


def with_gap(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    del content[1]["tuned"]["layer_transfer"]["ce"]["layer_3"]["layer_0"]
    return content


def with_text(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    content[1]["tuned"]["layer_transfer"]["ce"]["layer_3"]["layer_0"] = "much"
    return content


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_transfer, "evaluate again with --lens_types tuned --layer_transfer"),
        (with_gap, r"lacks tuned\.layer_transfer\.ce\.layer_3\.layer_0"),
        (with_text, "is 'much' where a number belongs"),
        (lambda _: [], "holds no evaluation by tuned-lens"),
        (lambda _: [{"logit": {}}], r"it has logit"),
        (lambda _: 7, "holds no evaluation by tuned-lens"),
    ],
)
def test_files_that_tuned_lens_did_not_write_so_are_refused(change: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        ts.read_grid(spoilt(tmp_path, change))


def test_runs_on_other_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\(file 2\) was scored on other text"):
        ts.read_grid([RUNS[0] / "batches.jsonl", spoilt(tmp_path, with_other_text)])
    with pytest.raises(DataError, match="hold 6, 5 batches"):
        ts.read_grid([RUNS[0] / "batches.jsonl", spoilt(tmp_path, lambda content: content[:5])])
    with pytest.raises(DataError, match="hold 6, 1 batches"):
        ts.read_grid([RUNS[0] / "batches.jsonl", RUNS[1] / "aggregate_metrics.json"])


def test_options_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    path = RUNS[0] / "aggregate_metrics.json"
    for options, words in (
        ({"score": "AUC"}, "tuned-lens writes losses"),
        ({"loss_unit": "nats"}, "this file is in bits/byte"),
        ({"columns": {"a": "kl"}}, "has no columns"),
        ({"balanced_subset": True}, "has no columns"),
    ):
        with pytest.raises(DataError, match=words):
            ts.read_grid(path, **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="concatenate tables"):
        ts.read_grid([tmp_path / "a.csv", tmp_path / "b.csv"])
    (tmp_path / "aggregate_metrics.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        ts.read_grid(tmp_path / "aggregate_metrics.json")
    with pytest.raises(DataError, match="cannot read"):
        ts.read_grid(tmp_path / "nothing.json")


# --- temporal generalisation ---


def matrices(*shape: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(2).uniform(0.5, 1.0, (*shape, 4, 4))


def saved(tmp_path: Path, values: Any) -> Path:
    np.save(tmp_path / "scores.npy", values)
    return tmp_path / "scores.npy"


def test_subjects_are_units_with_decoders_of_their_own(tmp_path: Path) -> None:
    values = matrices(9)
    grid = ts.read_grid(saved(tmp_path, values), score="AUC")
    assert grid.datasets[0].losses["error"][0, 3, 1, 2] == 1 - values[3, 1, 2]  # trained at 1, tested at 2
    one = ts.estimate(grid).headline
    lost = np.diagonal(values, axis1=1, axis2=2)[:, None, :] - values
    each = lost[:, ~np.eye(4, dtype=bool)].mean(axis=1)
    assert float(one.estimate) == pytest.approx(each.mean(), abs=ROUNDING)
    assert float(one.std_error) == pytest.approx(each.std(ddof=1) / 3, rel=1e-10)
    assert "9 units, each with lenses of its own" in ts.sentence(one)
    assert any("shares of variance" in what for what, _ in ts.describe(grid).unsupported)


def test_folds_are_averaged_and_said_to_be(tmp_path: Path) -> None:
    values = matrices(6, 5)
    folds = {"axis 1": "fold"}
    grid = ts.read_grid(saved(tmp_path, values), score="AUC", columns=folds)
    assert np.allclose(grid.datasets[0].losses["error"][0], 1 - values.mean(axis=1), rtol=0, atol=ROUNDING)
    assert any("folds were averaged" in text for text in grid.provenance["caveats"])
    single = ts.read_grid(saved(tmp_path, values[:1]), score="AUC", columns=folds)
    assert ts.describe(single).unsupported[0][0] == "any interval, test or verdict"


def test_a_second_axis_of_conditions_is_not_taken_for_folds(tmp_path: Path) -> None:
    values = matrices(6, 2)
    for axes in (None, {"axis 1": "condition"}):
        with pytest.raises(
            DataError, match=r"second axis may hold folds or conditions.*columns=.'axis 1': 'fold'"
        ):
            ts.read_grid(saved(tmp_path, values), score="AUC", columns=axes)
    with pytest.raises(DataError, match="leave columns away"):
        ts.read_grid(saved(tmp_path, values[:, 0]), score="AUC", columns={"axis 1": "fold"})


def test_one_matrix_has_no_interval(tmp_path: Path) -> None:
    grid = ts.read_grid(saved(tmp_path, matrices()), score="AUC")
    assert math.isnan(float(ts.estimate(grid).headline.conf_low))
    assert any("one matrix" in text for text in ts.describe(grid).caveats)


def test_matrices_of_losses(tmp_path: Path) -> None:
    values = 3 * matrices(5)
    grid = ts.read_grid(saved(tmp_path, values), loss_unit="bits")
    assert (grid.loss, grid.unit) == ("ce", "nats/token")
    assert np.allclose(grid.datasets[0].losses["ce"][0], values * math.log(2), rtol=ROUNDING)


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (matrices(3), {}, "does not say what its numbers are"),
        (100 * matrices(3), {"score": "AUC"}, "divide percentages by 100"),
        (np.zeros((3, 4, 5)), {"score": "AUC"}, r"has shape \(3, 4, 5\); expected"),
        (np.zeros(4), {"score": "AUC"}, "has shape"),
        (np.zeros((0, 4, 4)), {"score": "AUC"}, "has shape"),
        (np.zeros((3, 1, 1)), {"score": "AUC"}, "has one time"),
        (np.full((3, 4, 4), np.nan), {"score": "AUC"}, "are NaN or infinite"),
        (np.array([["a", "b"], ["c", "d"]]), {"score": "AUC"}, "must hold real numbers"),
        (np.array([[{}, {}], [{}, {}]]), {"score": "AUC"}, "without objects"),
        (matrices(3), {"score": "AUC", "loss": "kl"}, "a score becomes the loss 'error'"),
    ],
)
def test_bad_matrices_are_refused(values: Any, options: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        ts.read_grid(saved(tmp_path, values), **options)  # type: ignore[arg-type]


# --- what a complete grid can still not show ---


def test_a_full_study_lacks_nothing_but_what_it_lacks(simulated: Any, small_grid: Any) -> None:
    lacking = [what for what, _ in ts.describe(simulated).unsupported]
    assert lacking == [
        "how penalties depend on the amount of training data",
        "whether the lenses had finished training",
    ]
    assert [what for what, _ in ts.describe(small_grid).unsupported] == [
        "how penalties depend on the amount of training data"
    ]
    found = ts.describe(simulated)
    means = [np.average(one.penalty("kl").mean(axis=0), axis=0, weights=one.tokens) for one in simulated.datasets]
    assert np.allclose(found.matrix, np.mean(means, axis=0), rtol=1e-10)
    assert len(found.tidy()) == 5 * 3
    assert ts.figure(found)
