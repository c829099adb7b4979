"""The transfer grid: every loss of a study, checked once, in the shape that the statistics need.

``TransferGrid`` is the door between the rooms that make losses (lens, readers, simulation) and the rooms
that analyse them (stats, evidence, report). It holds numbers and names; it computes no statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.distance import (
    Distance,
    distance_note,
    layer_positions,
    scale_of,
    written_layers,
)
from transferstats.errors import DataError, DesignError
from transferstats.labels import unclustered_note, with_own_clusters
from transferstats.path_losses import PathLosses

SCORED = "error"
"""Loss made from a score on request: 1 - score, in the unit of the score."""

DISAGREEMENT = "disagreement"
"""Share of tokens on which the most likely output of a lens is not the network's: bounded, where kl is not."""

LOSSES: tuple[str, ...] = ("kl", "ce", DISAGREEMENT, SCORED)

SIMILARITY = "covariance"
"""Measure of layer similarity that C8 is about: that of the tuned-lens paper."""


@dataclass(frozen=True, slots=True)
class DatasetLosses:
    """Losses of one dataset: every seed's lenses scored on the same units.

    Attributes
    ----------
    seeds: K labels. units: N labels. clusters: N labels (equal label = dependent units); a unit without one (None,
        NaN, or a word for them) is given a cluster of its own.
    tokens: (N,) tokens behind each unit's mean loss, the weight of the unit.
    losses: name, of :data:`LOSSES` -> (K, N, L, L), mean loss of lens s on layer t over the unit, in the unit of
        the grid; disagreement is a share, 0 to 1.
    readouts: readout ("shared", "logit", ...) -> loss name -> (K, N, L), in the same units.
    baselines: "final_ce", "prior_ce", "prior_kl", "prior_disagreement" -> (N,), in the same units.
    null: losses of the shared-lens null on the same units; its "seeds" are the R null replicates. The null of a
        null is made from a null replicate, treated as if it had been observed.
    sets: other sets of lenses of the same seeds, scored on the same units: those of a part of the training rows
        ("1/2"), those of another anchor (see :mod:`transferstats.lens_sets`).
    training_rows: (K,) rows that the lenses of each seed were fitted to; empty where nobody recorded them.
    own_lenses: every unit was scored with lenses trained for it alone (a subject with its own decoders): K is 1,
        and what varies between units includes what varies between trainings.
    unclustered: number of units that had no cluster label.
    """

    name: str
    seeds: tuple[str, ...]
    units: tuple[str, ...]
    clusters: tuple[str, ...]
    tokens: FloatArray
    losses: Mapping[str, FloatArray]
    readouts: Mapping[str, Mapping[str, FloatArray]] = field(default_factory=dict)
    baselines: Mapping[str, FloatArray] = field(default_factory=dict)
    null: DatasetLosses | None = None
    own_lenses: bool = False
    sets: Mapping[str, DatasetLosses] = field(default_factory=dict)
    training_rows: tuple[float, ...] = ()
    unclustered: int = 0

    def __post_init__(self) -> None:
        n_units = len(self.units)
        if self.own_lenses and len(self.seeds) != 1:
            raise DataError(f"dataset {self.name!r}: units with lenses of their own leave no seeds to tell apart")
        if not self.losses:
            raise DataError(f"dataset {self.name!r} has no losses")
        if len(self.clusters) != n_units or self.tokens.shape != (n_units,):
            raise DataError(f"dataset {self.name!r}: units, clusters and tokens differ in length")
        clusters, unlabelled = with_own_clusters(self.clusters, self.units)
        object.__setattr__(self, "clusters", clusters)
        object.__setattr__(self, "unclustered", self.unclustered + unlabelled)
        if not np.isfinite(self.tokens).all() or (self.tokens <= 0).any():
            raise DataError(f"dataset {self.name!r}: token counts must be positive and finite")
        _check_losses(self)
        _check_extras(self)
        if self.null is not None and self.null.units != self.units:
            raise DataError(f"dataset {self.name!r}: null replicates must be scored on the same units")
        for name, one in self.sets.items():
            if one.units != self.units or one.seeds != self.seeds:
                raise DataError(f"dataset {self.name!r}: lenses {name!r} must be of the same seeds and units")

    @property
    def n_layers(self) -> int:
        """Number of layers L."""
        return int(next(iter(self.losses.values())).shape[-1])

    def loss(self, name: str) -> FloatArray:
        """(K, N, L, L) losses by name; DataError that lists the names there are."""
        if name not in self.losses:
            raise DataError(f"dataset {self.name!r} has no loss {name!r}; it has: {', '.join(self.losses)}")
        return self.losses[name]

    def penalty(self, name: str) -> FloatArray:
        """(K, N, L, L): loss(lens s on t) - loss(lens t on t); zero on the diagonal by construction."""
        values = self.loss(name)
        own = np.diagonal(values, axis1=2, axis2=3)
        return values - own[:, :, None, :]


def _check_losses(data: DatasetLosses) -> None:
    size = (len(data.seeds), len(data.units))
    first = next(iter(data.losses.values()))
    for loss, values in data.losses.items():
        if values.ndim != 4 or values.shape[:2] != size:
            raise DataError(
                f"dataset {data.name!r}, {loss}: expected (seeds, units, L, L) = ({size[0]}, {size[1]}, L, L), "
                f"got {values.shape}"
            )
        if values.shape[2] != values.shape[3]:
            raise DataError(
                f"dataset {data.name!r}, {loss}: the loss matrix is not square ({values.shape[2]} sources, "
                f"{values.shape[3]} targets)"
            )
        if values.shape != first.shape:
            raise DataError(f"dataset {data.name!r}: losses differ in shape")
        _refuse_nonfinite(data, loss, values)


def _check_extras(data: DatasetLosses) -> None:
    """Readouts and baselines: a NaN among them would only show as a gap in the report."""
    size = (len(data.seeds), len(data.units), data.n_layers)
    named: list[tuple[str, tuple[int, ...], FloatArray]] = [
        (f"readout {readout!r}, {loss}", size, values)
        for readout, by_loss in data.readouts.items()
        for loss, values in by_loss.items()
    ]
    named += [(f"baseline {name!r}", size[1:2], values) for name, values in data.baselines.items()]
    for what, expected, values in named:
        if values.shape != expected:
            raise DataError(f"dataset {data.name!r}, {what}: expected shape {expected}, got {values.shape}")
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise DataError(f"dataset {data.name!r}, {what}: {bad} losses are not finite")


def _refuse_nonfinite(data: DatasetLosses, loss: str, values: FloatArray) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if not len(bad):
        return
    seed, unit, source, target = bad[0]
    raise DataError(
        f"dataset {data.name!r}, {loss}: {len(bad)} losses are NaN or infinite; the first is seed "
        f"{data.seeds[seed]!r}, unit {data.units[unit]!r}, source {source}, target {target}. "
        "Remove those units, or refit the lens that produced them."
    )


@dataclass(frozen=True, slots=True)
class TransferGrid:
    """Losses of one subject over datasets, seeds, units, sources and targets.

    Attributes
    ----------
    subject: name of the network.
    layers: L names, in order of depth; layer l is the input of block l. Distances are differences of the whole
        numbers in these names where each has one, else steps in their order.
    datasets: one :class:`DatasetLosses` each.
    loss: the loss that statistics use unless told otherwise, one of :data:`LOSSES`.
    unit: of kl and ce ("nats/token", "nats/image", "bits/byte"), or the score that "error" is made of;
        ``loss_unit`` is that of the loss analysed.
    certificates: one row a lens (dataset, world, seed, readout, layer, held_out_kl, ...), may be empty.
    similarities: dataset -> measure -> (L, L) layer similarity, may be empty.
    provenance: whatever is needed to make these numbers again (config, versions, hashes).
    paths: dataset -> losses of lenses along their training, where the study followed them.
    """

    subject: str
    layers: tuple[str, ...]
    datasets: tuple[DatasetLosses, ...]
    loss: str = "kl"
    unit: str = "nats/token"
    certificates: pd.DataFrame = field(default_factory=pd.DataFrame)
    similarities: Mapping[str, Mapping[str, FloatArray]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    paths: Mapping[str, PathLosses] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.datasets:
            raise DataError("a grid needs at least one dataset")
        names = [data.name for data in self.datasets]
        if len(set(names)) != len(names):
            raise DataError(f"dataset names repeat: {names}")
        if len(self.layers) < 2:
            raise DesignError("transfer needs at least 2 layers")
        for data in self.datasets:
            if data.n_layers != len(self.layers):
                raise DataError(
                    f"dataset {data.name!r} has {data.n_layers} layers, the grid names {len(self.layers)}"
                )
            data.loss(self.loss)
            if data.name in self.paths:
                self.paths[data.name].check_units(data.name, len(data.units))

    @property
    def n_layers(self) -> int:
        """Number of layers L."""
        return len(self.layers)

    @property
    def loss_unit(self) -> str:
        """Unit of the loss that is analysed, and so of its penalties."""
        return self.unit_of()

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a reader of these numbers should know: what was done to them, and what was not said of them."""
        alone = (unclustered_note(one.name, one.unclustered, len(one.units)) for one in self.datasets)
        found = (*alone, distance_note(self.layers))
        return (*self.provenance.get("caveats", ()), *filter(None, found))

    @property
    def positions(self) -> tuple[float, ...]:
        """(L,) where the layers lie: their own numbers, or their places in the list where names hold none."""
        return layer_positions(self.layers)

    def scale(self, distance: Distance | None = None) -> Distance:
        """The distance asked for, between these layers: "index" (the default), "depth", or the checked matrix."""
        return scale_of(self.layers, distance)

    @property
    def described_provenance(self) -> Mapping[str, Any]:
        """The provenance with all caveats, for results that outlive the grid."""
        return {**self.provenance, "caveats": list(self.caveats)} if self.caveats else self.provenance

    def unit_of(self, loss: str | None = None) -> str:
        """Unit of a loss, the grid's own by default; disagreement is counted: a share of what was scored."""
        if (loss or self.loss) != DISAGREEMENT:
            return self.unit
        return "share of images" if "image" in self.unit else "share of tokens"

    def dataset(self, name: str | None = None) -> DatasetLosses:
        """One dataset by name, or the only one; DataError or DesignError that lists the names there are."""
        if name is None:
            if len(self.datasets) > 1:
                raise DesignError(f"name one of the datasets: {', '.join(d.name for d in self.datasets)}")
            return self.datasets[0]
        for data in self.datasets:
            if data.name == name:
                return data
        raise DataError(f"no dataset {name!r}; this grid has: {', '.join(d.name for d in self.datasets)}")

    def with_loss(self, loss: str) -> TransferGrid:
        """The same grid, analysed in another loss, one of :data:`LOSSES`."""
        return replace(self, loss=loss)

    @property
    def lens_sets(self) -> tuple[str, ...]:
        """Names of the sets of lenses that every dataset has beside its own."""
        first = self.datasets[0].sets
        return tuple(name for name in first if all(name in data.sets for data in self.datasets))

    def with_set(self, name: str) -> TransferGrid:
        """The same grid with another set of lenses in the place of its own; DataError that lists those it has.

        The training of that set was not followed.
        """
        if name not in self.lens_sets:
            known = ", ".join(self.lens_sets) or "none"
            raise DataError(f"no lenses {name!r} beside the grid's own; every dataset has: {known}")
        return replace(self, datasets=tuple(data.sets[name] for data in self.datasets), paths={})

    def with_datasets(self, names: Sequence[str]) -> TransferGrid:
        """The same grid restricted to some datasets, in the order given."""
        certificates = self.certificates
        if "dataset" in certificates:
            certificates = certificates[certificates["dataset"].isin(names)].reset_index(drop=True)
        return replace(self, datasets=tuple(self.dataset(name) for name in names), certificates=certificates)

    def with_layers(self, names: Sequence[str]) -> TransferGrid:
        """The same grid restricted to some layers, in the order given; shared lenses stay those of all layers.

        Paths are means over all layers, and are left out.

        Averages over cells then leave out what is known to be arbitrary, such as the lens of the embeddings.
        """
        unknown = [name for name in names if name not in self.layers]
        if unknown or len(set(names)) != len(names) or len(names) < 2:
            raise DataError(f"layers {list(names)}: give at least 2 of {', '.join(self.layers)}, each once")
        index = [self.layers.index(name) for name in names]
        certificates = self.certificates
        if len(certificates):
            certificates = certificates[certificates["layer"].isin([*names, "all"])].reset_index(drop=True)
        return replace(
            self,
            layers=tuple(names),
            datasets=tuple(_some_layers(data, index) for data in self.datasets),
            certificates=certificates,
            similarities={
                dataset: {measure: np.asarray(matrix)[np.ix_(index, index)] for measure, matrix in known.items()}
                for dataset, known in self.similarities.items()
            },
            paths={},
        )

    def with_seeds(self, names: Sequence[str], null_replicates: Sequence[str] | None = None) -> TransferGrid:
        """The same grid restricted to the lenses of some seeds, in the order given; similarities stay as they are.

        null_replicates: names of the replicates to keep, all by default. In a store those of a name used the fold
        of the seed of that name.
        """
        certificates = self.certificates
        if len(certificates):
            seeds, world = certificates["seed"].astype(str), certificates["world"]
            of_null, deeper = world == "null", world == "null of null"
            kept = of_null if null_replicates is None else of_null & seeds.isin(null_replicates)
            kept |= deeper | (~of_null & seeds.isin(names))  # the null of a null stays, as its losses do
            certificates = certificates[kept].reset_index(drop=True)
        datasets = tuple(_some_lenses(data, names, null_replicates) for data in self.datasets)
        return replace(self, datasets=datasets, certificates=certificates)

    def to_frame(self) -> pd.DataFrame:
        """Long table, one row a (dataset, seed, unit, source, target): reads back with ``read_grid``."""
        return pd.concat([_long_frame(data, self.layers) for data in self.datasets], ignore_index=True)


EVERY = slice(None)


def _part(
    data: DatasetLosses, seeds: Sequence[int] | slice = EVERY, layers: Sequence[int] | slice = EVERY
) -> DatasetLosses:
    """Losses and readouts at some positions; the null and other sets stay as they are."""
    return replace(
        data,
        seeds=tuple(np.asarray(data.seeds, dtype=object)[seeds]),
        training_rows=tuple(np.asarray(data.training_rows)[seeds]) if data.training_rows else (),
        sets={},
        losses={name: values[seeds][:, :, layers][:, :, :, layers] for name, values in data.losses.items()},
        readouts={
            readout: {name: values[seeds][:, :, layers] for name, values in by_loss.items()}
            for readout, by_loss in data.readouts.items()
        },
    )


def _some_layers(data: DatasetLosses, index: Sequence[int]) -> DatasetLosses:
    part = _part(data, layers=index)
    null = None if data.null is None else _some_layers(data.null, index)
    return replace(part, null=null, sets={name: _some_layers(one, index) for name, one in data.sets.items()})


def _some_lenses(
    data: DatasetLosses, seeds: Sequence[str], replicates: Sequence[str] | None, what: str = "seeds"
) -> DatasetLosses:
    """Lenses of some seeds, in every set; of the null those of some replicates; the null of a null stays."""
    null = data.null
    if null is not None and replicates is not None:
        null = _some_lenses(null, replicates, None, "null replicates")
    sets = {name: _some_lenses(one, seeds, replicates, what) for name, one in data.sets.items()}
    return replace(_some_seeds(data, seeds, what), null=null, sets=sets)


def _some_seeds(data: DatasetLosses, names: Sequence[str], what: str) -> DatasetLosses:
    if not names or len(set(names)) != len(names) or not set(names) <= set(data.seeds):
        raise DataError(
            f"dataset {data.name!r}, {what} {list(names)}: give at least 1 of {', '.join(data.seeds)}, each once"
        )
    return _part(data, seeds=[data.seeds.index(name) for name in names])


def _long_frame(data: DatasetLosses, layers: tuple[str, ...]) -> pd.DataFrame:
    sizes = (len(data.seeds), len(data.units), len(layers), len(layers))
    seed, unit, source, target = (index.ravel() for index in np.indices(sizes))
    names = written_layers(layers)
    columns: dict[str, Any] = {
        "dataset": data.name,
        "seed": np.asarray(data.seeds, dtype=object)[seed],
        "unit": np.asarray(data.units, dtype=object)[unit],
        "cluster": np.asarray(data.clusters, dtype=object)[unit],
        "n": data.tokens[unit],
        "source": names[source],
        "target": names[target],
    }
    columns.update({name: values.ravel() for name, values in data.losses.items()})
    return pd.DataFrame(columns)
