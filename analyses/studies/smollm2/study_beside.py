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
        whole, after = grid.with_datasets([data.name]), longer.with_datasets([data.name])
        before = whole.with_seeds(data.seeds, None if data.null is None else data.null.seeds)
        few, many = (part.provenance["study"]["fit"]["max_steps"] for part in (before, after))
        lines.append(
            f"{data.name}, {len(data.seeds)} of {len(whole.datasets[0].seeds)} folds, the same documents: at most "
            f"{few} steps, then {many}; a movement is to be held against the half-width of the study's interval"
        )
        for (title, part), (_, shorter), (_, extended) in zip(
            *map(layer_sets, (whole, before, after)), strict=True
        ):
            lines += [f"{title}, {data.name}: {line}" for line in _moved(part, shorter, extended)]
    return lines


def _moved(whole: TransferGrid, shorter: TransferGrid, longer: TransferGrid) -> Iterator[str]:
    """Own kl, certificates and statistics of one dataset, before and after."""
    both = (shorter, longer)
    certified = [f"{int(own_lenses(one)['converged'].sum())} of {len(own_lenses(one))} certified" for one in both]
    kl = [_own_kl(one) for one in both]
    yield f"held-out kl of own lenses {kl[0]:.3f} ({certified[0]}), then {kl[1]:.3f} ({certified[1]})"
    for statistic, words in WORDS.items():
        yield _movement(words, *(ts.estimate(one, statistic).headline for one in (whole, *both)))
        if all(has_null(one) for one in (whole, *both)):
            left = (null_test(one, statistic).excess.headline for one in (whole, *both))
            yield _movement(f"{words} beyond the null", *left)


def _movement(words: str, whole: Estimate, shorter: Estimate, longer: Estimate) -> str:
    before, after = float(shorter.estimate), float(longer.estimate)
    half = float(whole.conf_high - whole.conf_low) / 2
    return f"{words} {before:.3f}, then {after:.3f}: {after - before:+.3f}, where the half-width is {half:.3f}"


def _own_kl(grid: TransferGrid) -> float:
    return float(own_lenses(grid)["held_out_kl"].mean())
