"""Coverage study: do the intervals and tests keep their promises where the truth is known?

Run as a script: ``python analyses/validation/coverage.py --quick`` (minutes) or without ``--quick`` (the report).
Finished settings are kept in the store and not computed again; any number of processes may share it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from pathlib import Path

import pandas as pd
from coverage_report import write_report
from measure import measure
from settings import Setting, full, quick


def compute(setting: Setting, store: Path) -> Path:
    """Measure one setting unless the store has it; the file appears whole or not at all."""
    path = store / f"{setting.key}.csv"
    if path.exists():
        return path
    started = time.process_time()
    frame = measure(setting)
    frame["seconds"] = time.process_time() - started
    partial = path.with_suffix(f".{os.getpid()}.partial")
    frame.to_csv(partial, index=False)
    partial.replace(path)
    return path


def run(settings: Iterable[Setting], store: Path, executor: Executor | None = None) -> list[Path]:
    """Measure all settings, in this process or by any ``concurrent.futures`` executor."""
    store.mkdir(parents=True, exist_ok=True)
    todo = list(settings)
    if executor is None:
        paths = []
        for count, setting in enumerate(todo, start=1):
            paths.append(compute(setting, store))
            print(f"{count}/{len(todo)} {setting.key}", flush=True)
        return paths
    futures = [executor.submit(compute, setting, store) for setting in todo]
    for count, future in enumerate(as_completed(futures), start=1):
        print(f"{count}/{len(todo)} {future.result().stem}", flush=True)
    return [future.result() for future in futures]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small studies only, fewer data sets")
    parser.add_argument("--sets", type=int, help="simulated data sets per setting")
    parser.add_argument("--study", nargs="+", help="these studies only, such as targets bootstrap null_test")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--store", type=Path, default=Path("runs/validation"), help="folder of finished settings")
    parser.add_argument("--out", type=Path, help="folder of the report")
    parser.add_argument("--publish", type=Path, help="file for the coverages that the package quotes in its notes")
    options = parser.parse_args()
    n_sets = options.sets or (300 if options.quick else 2000)
    chosen = quick(n_sets) if options.quick else full(n_sets)
    settings = [setting for setting in chosen if not options.study or setting.study in options.study]
    if options.jobs > 1:
        with ProcessPoolExecutor(options.jobs) as executor:
            paths = run(settings, options.store, executor)
    else:
        paths = run(settings, options.store)
    frame = pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)
    out = options.out or Path("runs/validation-quick" if options.quick else "reports/validation")
    # A quick run has few data sets: it may miss a bound by three Monte-Carlo errors, the report by none.
    checks = write_report(frame, out, options.publish, allowance=3.0 if options.quick else 0.0)
    for check in checks:
        if not check.holds:
            print(f"NOT KEPT: {check.name} {check.bound}: {check.measured:.3f} ({check.where})")
    print(f"{sum(check.holds for check in checks)} of {len(checks)} promises kept; report in {out}")


if __name__ == "__main__":
    main()
