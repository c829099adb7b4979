"""Designs of lens studies: which cells there are, what their configuration holds, and how units are split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from transferstats.embedded import PREFIX
from transferstats.engine import Cell
from transferstats.errors import DesignError
from transferstats.lens.splits import Split, split_units
from transferstats.provenance import content_key


def listed_worlds(seeds: int, null_replicates: int) -> list[tuple[str, int]]:
    """(world, seed) of every cell of one dataset.

    Raises
    ------
    DesignError: numbers of seeds or null replicates from which nothing can be inferred.
    """
    if seeds < 2:
        raise DesignError(f"{seeds} seed(s): inference over lens training needs at least 2 seeds, better 5")
    if null_replicates < 0 or null_replicates == 1:
        raise DesignError(f"{null_replicates} null replicates: use 0 for none, or at least 2, better 5")
    worlds = [("observed", seed) for seed in range(seeds)] + [("null", seed) for seed in range(null_replicates)]
    # One null replicate is treated as observed: what its own null finds there is what the null errs by.
    return worlds + ([("null of null", 0)] if null_replicates else [])


LONGEST_FIRST: tuple[str, ...] = ("null of null", "null", "observed")
"""Worlds of the cells of a study, in the order in which they are computed."""


class Dataset(Protocol):
    """What planning asks of a dataset of any kind of units."""

    @property
    def name(self) -> str:
        """Name of the population."""

    @property
    def clusters(self) -> tuple[str, ...]:
        """Cluster of each unit."""

    @property
    def origin(self) -> str:
        """Where it was read from."""

    @property
    def fingerprint(self) -> str:
        """Hash of its content."""


def plan_cells(
    shared: dict[str, Any],
    datasets: Sequence[Dataset],
    worlds: Sequence[tuple[str, int]],
    runner: str,
    location: dict[str, str],
) -> list[Cell]:
    """The cells of some datasets.

    Parameters
    ----------
    shared: the part of the configuration that all cells have. worlds: (world, seed) of each cell of a dataset.
    runner, location: as in ``Cell``; the place of the dataset is added.

    Raises
    ------
    DesignError: no dataset, repeated names, or units too few for this design.
    """
    names = [item.name for item in datasets]
    if not names or len(set(names)) != len(names):
        raise DesignError(f"need at least one dataset, each with its own name; got {names}")
    planned = []
    for item in datasets:
        config = {**shared, "dataset": {"name": item.name, "fingerprint": item.fingerprint}}
        split_of(config, item.clusters)  # a design that cannot be split is refused before anything is computed
        place = {**location, "dataset": place_of(item.origin)}
        for world, seed in worlds:
            label = f"{item.name} {'seed' if world == 'observed' else world} {seed}"
            planned.append(Cell({**config, "world": world, "seed": seed}, runner, place, label))
    # Null cells take longest: started first, they leave no process idle at the end of a sweep.
    return sorted(planned, key=lambda cell: LONGEST_FIRST.index(cell.config["world"]))


def place_of(source: str) -> str:
    """Files by their absolute path: a worker elsewhere has another working folder.

    Links are not followed: what a link points to may have no ending that tells how to read it.
    """
    if source == "embedded" or source.startswith(PREFIX):
        return source.removeprefix(PREFIX)
    return str(Path(source).absolute()) if Path(source).exists() else source


def plain(plan: Any) -> dict[str, Any]:
    """A plan as JSON values; options that are not used are not there, so that new ones change no key.

    None stays where the default is something else, which would come back in its place.
    """
    unused = {one.name for one in fields(plan) if one.default is None and getattr(plan, one.name) is None}
    given = {name: value for name, value in asdict(plan).items() if name not in unused}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def plan_of(kind: type[Any], config: dict[str, Any]) -> Any:
    """The plan that JSON values are of."""
    names = {field.name for field in fields(kind)}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in names})


def split_of(config: dict[str, Any], clusters: Sequence[str]) -> Split:
    """The split of a dataset; it depends on the dataset and the design, not on the seed."""
    evaluation = config["evaluation"]
    key = content_key([config["dataset"]["fingerprint"], config["folds"], evaluation["units"]])
    return split_units(
        clusters,
        n_folds=config["folds"],
        n_evaluation=evaluation["units"],
        held_out=evaluation["held_out"],
        rng=np.random.default_rng(np.random.SeedSequence(int(key, 16))),
    )
