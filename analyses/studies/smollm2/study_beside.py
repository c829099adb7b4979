"""What was trained otherwise, set beside the study: the published recipe, and lenses trained longer."""

from __future__ import annotations

from collections.abc import Iterator

from study_words import WORDS, has_null, layer_sets, own_lenses, spelled

import transferstats as ts
from transferstats.grid import TransferGrid
from transferstats.results import Estimate
from transferstats.stats.null import null_test


def published_lines(grid: TransferGrid, published: TransferGrid | None) -> list[str]:
    """Penalties of the published recipe beside those of the study, on the domains and layers of both."""
    if published is None:
        return [
            "not run here, for lack of an accelerator: `--published DOMAIN` trains it beside; on a small model, "
            "[reports/convergence](../convergence/convergence.md) shows how penalties move with training"
        ]
    fit = published.provenance["study"]["fit"]
    lines = [
        f"layers {', '.join(published.layers)}; the recipe is that of tuned-lens 0.2.0 ({fit['max_steps']} steps "
        f"of stochastic gradient descent, learning rate {fit['learning_rate']:g}, weight decay "
        f"{fit['weight_decay']:g}) with {fit['batch']:,} tokens a step, where 262,144 are published"
    ]
    for data in published.datasets:
        same = grid.with_datasets([data.name]).with_layers(published.layers)
        kls = [_own_kl(part) for part in (published.with_datasets([data.name]), same)]
        lines.append(
            f"{data.name}: held-out kl of own lenses, mean over layers, {kls[0]:.2f} by the published recipe and "
            f"{kls[1]:.2f} in this study"
        )
        sets = zip(layer_sets(published.with_datasets([data.name])), layer_sets(same), strict=True)
        lines += [
            f"{title}, {data.name}: {line}" for (title, one), (_, two) in sets for line in _recipes(one, two)
        ]
    return lines


def _recipes(published: TransferGrid, grid: TransferGrid) -> Iterator[str]:
    """Statistics of one dataset by both recipes, and whether a direction depends on the recipe."""
    for statistic in ("mean", "asymmetry"):
        one, two = (ts.estimate(part, statistic).headline for part in (published, grid))
        yield f"{WORDS[statistic]} {spelled(one)} by the published recipe, {spelled(two)} in this study"
        signs = [_sign(one), _sign(two)]
        if signs[0] * signs[1] < 0:
            yield f"**{WORDS[statistic]} changes its sign with the recipe**: how lenses are trained decides it"


def _sign(one: Estimate) -> int:
    """Sign of an interval, 0 where it includes zero."""
    return int(one.conf_low > 0) - int(one.conf_high < 0)


def longer_lines(grid: TransferGrid, longer: TransferGrid | None) -> list[str]:
    """The same folds and documents after the study's steps and after more: how far the budget decides."""
    if longer is None:
        return ["not run: `--longer DOMAIN` trains the lenses of one fold for twice the steps"]
    lines = []
    for data in longer.datasets:
        replicates = None if data.null is None else data.null.seeds
        before = grid.with_datasets([data.name]).with_seeds(data.seeds, replicates)
        after = longer.with_datasets([data.name])
        few, many = (part.provenance["study"]["fit"]["max_steps"] for part in (before, after))
        lines.append(
            f"{data.name}, {len(data.seeds)} of {len(grid.dataset(data.name).seeds)} folds, the same documents: "
            f"at most {few} steps, then {many}; too few lenses for an interval, what counts is how far it moves"
        )
        for (title, shorter), (_, extended) in zip(layer_sets(before), layer_sets(after), strict=True):
            lines += [f"{title}, {data.name}: {line}" for line in _moved(shorter, extended)]
    return lines


def _moved(shorter: TransferGrid, longer: TransferGrid) -> Iterator[str]:
    """Own kl, certificates and statistics of one dataset, before and after."""
    both = (shorter, longer)
    certified = [f"{int(own_lenses(one)['converged'].sum())} of {len(own_lenses(one))} certified" for one in both]
    kl = [_own_kl(one) for one in both]
    yield f"held-out kl of own lenses {kl[0]:.3f} ({certified[0]}), then {kl[1]:.3f} ({certified[1]})"
    for statistic, words in WORDS.items():
        found = [float(ts.estimate(one, statistic).headline.estimate) for one in both]
        line = f"{words} {found[0]:.3f}, then {found[1]:.3f}"
        if all(has_null(one) for one in both):
            left = [float(null_test(one, statistic).excess.headline.estimate) for one in both]
            line += f"; beyond the null {left[0]:.3f}, then {left[1]:.3f}"
        yield line


def _own_kl(grid: TransferGrid) -> float:
    return float(own_lenses(grid)["held_out_kl"].mean())
