"""The command line in processes of its own: every verb, what it prints, and what its exit codes mean."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
from small_study import SmallStudy

import transferstats
from transferstats.cli import BAD_INPUT, FINDINGS, OK, USAGE, build_parser, main
from transferstats.designs import study_cells
from transferstats.engine.journal import record_failure
from transferstats.grid import TransferGrid
from transferstats.lens.design import plain
from transferstats.lens.plan import RECIPES, FitPlan

VERBS = (
    "run",
    "fit",
    "lenses",
    "sweep",
    "status",
    "verify",
    "evaluate",
    "describe",
    "report",
    "compare",
    "plan",
    "simulate",
    "r-path",
)


def command(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``transferstats``; standard error of an error must be one message, never a traceback."""
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-m", "transferstats.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@dataclass(frozen=True, slots=True)
class Inside:
    """The command line in this process: the same entrance, without the second that an interpreter takes."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *self.capture.readouterr()


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Inside(capsys)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long table of losses, without null, shared lens or similarities."""
    path = tmp_path_factory.mktemp("losses") / "losses.csv"
    grid = transferstats.simulate_grid(n_seeds=4, n_units=40, datasets=("one", "two"), rng=3).grid
    grid.to_frame().to_csv(path, index=False)
    return path


# --- help and usage ---


def test_help_teaches_the_first_steps_and_the_exit_codes() -> None:
    done = command("--help")
    assert done.returncode == OK
    assert all(verb in done.stdout for verb in VERBS)
    for word in ("exit codes:", "130", "first steps:", "transferstats run --smallest 0.05", "status", "evaluate"):
        assert word in done.stdout, word


def test_r_path_loads_nothing(tmp_path: Path) -> None:
    """R waits for the answer, and may have changed where shared libraries are found."""
    done = command("r-path", folder=tmp_path)
    assert done.returncode == OK, done.stderr
    assert Path(done.stdout.rstrip("\n")).read_text(encoding="ascii").startswith("# transferstats from R.")
    assert command("r-path", "--python", folder=tmp_path).stdout == f"{sys.executable}\n"
    code = (
        "import sys, transferstats.cli as cli; cli.main(['r-path']); print({'numpy', 'pyarrow'} & {*sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.endswith("set()\n")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_its_options(verb: str) -> None:
    """Read off the parser: a process for each would cost half a minute."""
    (choices,) = (action.choices for action in build_parser()._actions if action.choices)
    text = choices[verb].format_help()  # type: ignore[index]
    assert len(text.splitlines()) > 4
    for action in choices[verb]._actions:  # type: ignore[index]
        assert action.help, f"{verb} {action.dest} has no help"


def test_version() -> None:
    assert command("--version").stdout == f"transferstats {transferstats.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("evaluate", "losses.csv"),
        ("evaluate", "losses.csv", "--smallest", "much"),
        ("status",),
        ("sweep", "--engine", "somewhere"),
        *(("sweep", f"--shard={shard}") for shard in ("0", "a/b", "0/0", "4/4", "-1/4")),
    ],
    ids=str,
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...], inside: Inside) -> None:
    code, out, errors = inside(*arguments)
    assert code == USAGE
    assert out == ""
    assert "usage: transferstats" in errors


def test_exit_codes_reach_the_shell(tmp_path: Path) -> None:
    assert command("nonsense").returncode == USAGE
    done = command("evaluate", "nothing.csv", "--smallest", "0.05", folder=tmp_path)
    assert done.returncode == BAD_INPUT
    assert done.stderr == ("transferstats: no file or store folder at nothing.csv\n")


# --- tables ---


def test_evaluate_prints_one_verdict_a_claim_and_dataset(losses: Path) -> None:
    done = command("evaluate", losses, "--smallest", 0.05)
    assert done.returncode == OK, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 8 * 3
    evidence = transferstats.evaluate(transferstats.read_grid(losses), 0.05)
    for line, claim in zip(lines, evidence.claims, strict=True):
        assert line.startswith(f"{claim.key}  {claim.dataset}")
        assert claim.verdict in line
        if claim.estimate is not None:
            assert f"{float(claim.estimate.estimate):.4g} [" in line


def test_evaluate_as_csv_reads_back(losses: Path) -> None:
    done = command("evaluate", losses, "--smallest", 0.05, "--csv", "--loss", "ce", "--conf-level", 0.9)
    assert done.returncode == OK, done.stderr
    table = pd.read_csv(io.StringIO(done.stdout))
    evidence = transferstats.evaluate(transferstats.read_grid(losses, loss="ce"), 0.05, conf_level=0.9)
    assert done.stdout == evidence.csv()
    assert len(table) == 24
    assert set(table["conf_level"].dropna()) == {0.9}


def test_report_writes_a_page_and_tables(losses: Path, tmp_path: Path) -> None:
    done = command("report", losses, "--smallest", 0.05, "--out", tmp_path / "out")
    assert done.returncode == OK, done.stderr
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert f"report: {tmp_path / 'out' / 'index.html'}" in done.stdout
    claims = pd.read_csv(tmp_path / "out" / "tables" / "claims.csv")
    assert len(claims) == 24


def test_plan_and_simulate(tmp_path: Path) -> None:
    table = tmp_path / "pilot.csv"
    made = command("simulate", "--out", table, "--layers", 4, "--seeds", 3, "--units", 20, "--rng", 5)
    assert made.returncode == OK, made.stderr
    assert len(pd.read_csv(table)) == 3 * 20 * 16
    assert "true mean penalty" in made.stdout
    planned = command("plan", table, "--smallest", 0.05, "--seeds", 3, 5, "--units", 50, "--csv")
    assert planned.returncode == OK, planned.stderr
    assert len(pd.read_csv(io.StringIO(planned.stdout))) == 2


def test_plan_for_a_half_width(losses: Path, tmp_path: Path, inside: Inside) -> None:
    options = ("plan", losses, "--half-width", 0.03, "--seeds", 2, 4, 8, "--out", "plan.svg")
    code, out, errors = inside(*options)
    assert (code, errors) == (OK, "")
    assert "Expected half-width, nats/token" in out
    assert "P(exceeds)" not in out  # no smallest penalty was stated
    assert "no number suffices" in out
    assert "For an expected half-width of 0.03 nats/token" in out
    drawing = (tmp_path / "plan.svg").read_text(encoding="utf-8")
    assert "wanted, 0.03" in drawing
    inside(*options)
    assert (tmp_path / "plan.svg").read_text(encoding="utf-8") == drawing
    code, out, _ = inside("plan", losses, "--half-width", 0.03, "--seeds", 2, 4, 8, "--csv")
    sizes = pd.read_csv(io.StringIO(out))
    assert sizes["n_seeds"].tolist() == [2, 4, 8]
    assert sizes["half_width"].dropna().max() <= 0.03
    for name in ("plan.pdf", "plan.png"):
        assert inside("plan", losses, "--smallest", 0.05, "--out", name)[0] == OK
        assert (tmp_path / name).stat().st_size > 5000


def test_describe_says_what_a_file_holds_and_lacks(losses: Path, inside: Inside) -> None:
    code, out, errors = inside("describe", losses)
    assert (code, errors) == (OK, "")
    assert "Mean transfer penalty" in out
    assert "\\[" not in out  # plain text, no markup
    assert "These data cannot support:" in out
    assert "penalties beyond a shared-lens null (C3): there are no null replicates" in out


def test_foreign_columns_units_and_scores_from_the_shell(losses: Path, tmp_path: Path, inside: Inside) -> None:
    frame = pd.read_csv(losses).rename(columns={"unit": "doc", "kl": "loss"}).drop(columns="ce")
    frame.to_csv(tmp_path / "theirs.csv", index=False)
    options = ("theirs.csv", "--smallest", 0.05, "--columns", "doc=unit", "loss=kl")
    code, out, errors = inside("evaluate", *options)
    assert code == OK, errors
    assert out == inside("evaluate", losses, "--smallest", 0.05)[1]
    code, out, _ = inside("evaluate", *options, "--loss-unit", "bits/byte", "--bytes-per-token", 4)
    assert code == OK
    assert "nats/token" in out
    assert inside("evaluate", *options, "--columns", "doc")[0] == USAGE
    code, _, errors = inside("evaluate", *options, "--score", "accuracy")
    assert code == BAD_INPUT
    assert "no column 'accuracy'" in errors


def test_what_cannot_be_evaluated_leads_to_describe(tmp_path: Path, inside: Inside) -> None:
    reference = Path(__file__).parent / "reference" / "tuned_lens" / "run_0" / "aggregate_metrics.json"
    code, out, errors = inside("evaluate", reference, "--smallest", 0.05)
    assert (code, out) == (BAD_INPUT, "")
    assert "'transferstats describe' lists what these data support" in errors
    code, out, _ = inside("describe", reference)
    assert code == OK
    assert "any interval, test or verdict" in out
    assert "bits/byte" in out


BAD_INPUT_CASES: dict[str, tuple[tuple[str, ...], str]] = {
    "no file": (("evaluate", "nothing.csv", "--smallest", "0.05"), "no file or store folder at nothing.csv"),
    "no store": (("status", "."), "is not a transferstats store"),
    "nothing to verify": (("verify", "."), "is not a transferstats store"),
    "smallest 0": (("evaluate", "{losses}", "--smallest", "0"), "smallest must be a positive number"),
    "smallest below 0": (("evaluate", "{losses}", "--smallest", "-1"), "smallest must be a positive number"),
    "level in percent": (("evaluate", "{losses}", "--smallest", "1", "--conf-level", "95"), "95"),
    "one seed": (("sweep", "--seeds", "1", "--store", "s"), "at least 2 seeds, better 5"),
    "no model": (("sweep", "--subject", "./nowhere", "--store", "s"), "no model at './nowhere'"),
    "no scheduler": (("sweep", "--engine", "tcp://127.0.0.1:1", "--store", "s"), "no Dask scheduler answers at"),
    "no dataset": (("sweep", "--dataset", "nowhere", "--store", "s"), "no dataset 'nowhere'"),
    "too many units": (("sweep", "--units", "10000", "--store", "s"), "bring more documents"),
    "every layer but one": (("sweep", "--every", "0", "--store", "s"), "every=0: 1 takes all layers"),
    "every and images": (("sweep", "--every", "2", "--dataset", "digits", "--store", "s"), "for language models"),
    "lenses of two datasets": (
        ("lenses", "--out", "s"),
        "lenses are those of one dataset: give a single --dataset",
    ),
    "no such seed": (("fit", "--seed", "7", "--store", "s"), "--seed 7: this study has seeds 0 to 4"),
    "half-width 0": (("plan", "{losses}", "--half-width", "0"), "half_width must be a positive number"),
    "unknown drawing": (("plan", "{losses}", "--out", "plan.gif"), "use a name that ends in .svg, .pdf or .png"),
    "unknown ending": (("simulate", "--out", "losses.xlsx"), "use a name that ends in .csv or .parquet"),
}


@pytest.mark.parametrize("kind", BAD_INPUT_CASES)
def test_bad_input_is_exit_code_3_and_names_the_fix(
    kind: str, losses: Path, tmp_path: Path, inside: Inside
) -> None:
    arguments, words = BAD_INPUT_CASES[kind]
    code, out, errors = inside(*(part.replace("{losses}", str(losses)) for part in arguments))
    assert code == BAD_INPUT, errors
    (message,) = errors.splitlines()
    assert message.startswith("transferstats: ")
    assert words in message
    assert out == ""
    assert not (tmp_path / "s").exists()  # nothing was begun


# --- stores ---


@pytest.fixture
def store(small: SmallStudy, tmp_path: Path) -> Path:
    """A copy of the small study's store."""
    return Path(shutil.copytree(small.store, tmp_path / "store"))


def test_status_of_a_finished_and_an_unfinished_store(store: Path, small: SmallStudy, inside: Inside) -> None:
    code, out, _ = inside("status", store)
    assert code == OK
    assert out.endswith("10 of 10 cells done\n")
    (store / "cells" / f"{small.cells[0].key}.json").unlink()
    code, out, _ = inside("status", store)
    assert code == FINDINGS
    assert f"missing  {small.cells[0].key[:12]}  {small.cells[0].label}" in out
    assert out.endswith("9 of 10 cells done, 1 missing\n")
    record_failure(store, small.cells[0].key, small.cells[0].label, "DataError: two\nlines", "")
    code, out, _ = inside("status", store)
    assert code == FINDINGS
    assert f"failed   {small.cells[0].key[:12]}  {small.cells[0].label}  DataError: two lines\n" in out
    assert out.endswith("9 of 10 cells done, 1 failed\n")
    code, _, errors = inside("evaluate", store, "--smallest", 0.05)
    assert code == BAD_INPUT
    assert "not finished" in errors


def test_verify_finds_damage_and_discards_it_when_told(store: Path, small: SmallStudy, inside: Inside) -> None:
    assert inside("verify", store) == (OK, "10 cells, 0 damaged\n", "")
    victim = store / "cells" / f"{small.cells[2].key}.parquet"
    victim.write_bytes(victim.read_bytes()[:-7])
    code, _, errors = inside("verify", store)
    assert code == FINDINGS
    assert victim.name in errors
    assert "verify --discard" in errors
    assert victim.exists()
    code, _, errors = inside("verify", store, "--discard")
    assert code == FINDINGS
    assert not victim.exists()
    assert inside("verify", store) == (OK, "9 cells, 0 damaged\n", "")


def test_evaluate_and_report_a_store(store: Path, tmp_path: Path, small_grid: TransferGrid) -> None:
    done = command("report", store, "--smallest", 0.05, "--out", tmp_path / "out")
    assert done.returncode == OK, done.stderr
    assert len(done.stdout.splitlines()) == 8 * 3 + 1
    assert (tmp_path / "out" / "index.html").stat().st_size > 20_000
    assert small_grid.n_layers == 8


STUDY = ("--seeds", 2, "--units", 16, "--unit-tokens", 48, "--max-steps", 1, "--jobs", 1, "--null-replicates", 0)


def test_null_replicates_are_as_many_as_seeds_and_recipes_are_plans(document_files: list[Path]) -> None:
    arguments = ["sweep", "--dataset", str(document_files[0]), "--seeds", "3", "--units", "10"]
    cells = study_cells(build_parser().parse_args(arguments))
    worlds = ["null of null"] + ["null"] * 3 + ["observed"] * 3  # longest first
    assert [cell.config["world"] for cell in cells] == worlds
    assert cells[0].config["fit"] == plain(FitPlan())
    published = [*arguments, "--recipe", "belrose2023", "--max-steps", "40", "--null-replicates", "0"]
    cells = study_cells(build_parser().parse_args(published))
    assert len(cells) == 3
    assert cells[0].config["fit"] == plain(replace(RECIPES["belrose2023"], max_steps=40))


def test_sets_of_lenses_are_chosen_on_the_command_line(document_files: list[Path]) -> None:
    arguments = ["sweep", "--dataset", str(document_files[0]), "--seeds", "2", "--units", "10"]
    options = ["--beside", "none", "--curve"]
    cells = study_cells(build_parser().parse_args([*arguments, *options]))
    assert cells[0].config["fit"] == plain(FitPlan(beside=None, curve=()))
    cells = study_cells(build_parser().parse_args([*arguments, "--beside", "identity", "--curve", "0.5"]))
    assert cells[0].config["fit"] == plain(FitPlan(beside="identity", curve=(0.5,)))


def test_fit_sweep_and_run_share_a_store(document_files: list[Path], tmp_path: Path) -> None:
    """One cell first, the rest by ``run``, which evaluates and reports; then another study is refused."""
    chosen = ("--every", 3, "--precision", "bfloat16")
    options = ("--dataset", document_files[0], "--store", tmp_path / "store", *STUDY, *chosen)
    done = command("fit", *options, "--seed", 1)
    assert done.returncode == OK, done.stderr
    assert done.stdout.startswith("1 cells computed, 0 reused")
    assert command("status", tmp_path / "store").stdout.endswith("1 of 2 cells done, 1 missing\n")
    done = command("run", *options, "--smallest", 0.05, "--out", tmp_path / "out")
    assert done.returncode == OK, done.stderr
    assert done.stdout.startswith("1 cells computed, 1 reused")
    assert (tmp_path / "out" / "index.html").exists()
    assert "C2  python_small" in done.stdout
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "a distance of 1 is one layer of the network" in page
    assert transferstats.read_grid(tmp_path / "store").layers == ("0", "3", "6")
    other = command("sweep", *options, "--anchor", "shared")
    assert other.returncode == BAD_INPUT
    assert "fit.anchor is 'ridge' there and 'shared' here" in other.stderr


def test_lenses_are_written_for_tuned_lens(document_files: list[Path], tmp_path: Path, inside: Inside) -> None:
    options = ("--dataset", document_files[0], *STUDY, "--seed", 1, "--out", tmp_path / "mine")
    code, out, errors = inside("lenses", *options)
    assert code == OK, errors
    assert "lenses of python_small seed 1 for tuned-lens, with certificates.csv" in out
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        "params.pt",
        "config.json",
        "certificates.csv",
    }


def test_compare_prints_differences_and_writes_a_report(losses: Path, tmp_path: Path, inside: Inside) -> None:
    other = transferstats.simulate_grid(n_seeds=4, n_units=40, datasets=("one", "two"), rng=4).grid
    other.to_frame().to_csv(tmp_path / "other.csv", index=False)
    options = ("compare", losses, "other.csv", "--smallest", 0.05)
    code, out, errors = inside(*options, "--names", "A", "B", "--out", "out")
    assert (code, errors) == (OK, "")
    assert len(out.splitlines()) == 3 * 3 + 1
    assert "Mean penalty differs between A and B" in out
    assert "report: out/index.html" in out
    assert (tmp_path / "out" / "index.html").exists()
    code, out, _ = inside(*options, "--csv")
    assert len(pd.read_csv(io.StringIO(out))) == 9
    code, _, errors = inside(*options, "--names", "A")
    assert code == BAD_INPUT
    assert "2 subjects need as many --names, got 1" in errors
    code, _, errors = inside("compare", losses, losses, "--smallest", 0.05)
    assert code == BAD_INPUT
    assert "need different names" in errors
