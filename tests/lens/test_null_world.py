"""The shared-lens null: targets whose mean is the shared lens's prediction, with the scatter that was observed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from brute_force import full_disagreement, full_logits, make_head
from torch import Tensor

from transferstats.errors import DesignError
from transferstats.known_truth import KnownTruth, simulate_subject
from transferstats.lens import head as room
from transferstats.lens import null
from transferstats.lens.arrays import ArraySubject, array_subject
from transferstats.lens.design import plain
from transferstats.lens.head import Head, Targets, final_targets, losses
from transferstats.lens.null import NullLenses, null_samples
from transferstats.lens.plan import FitPlan
from transferstats.lens.sample import Sample
from transferstats.lens.splits import Split, split_units
from transferstats.lens.study import compute_world, sample_of
from transferstats.lens.translator import Translators

STANDARD_ERRORS = 5.0  # a mean over draws may miss by so many of its standard errors
PRODUCT = 1e-4  # a product of two scores of size 1 in float32
LENSES = NullLenses(
    Translators.identity(1, 8),
    Translators(0.2 * torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(7)), torch.full((2, 8), 0.1)),
)
EXPLAINED = 0.02  # nats: what two seeds of a tiny subject leave unexplained; rotated layers cost ten times that


def case(rows: int = 1500, layers: int = 2) -> tuple[Head, Sample]:
    head = make_head(30, 8)
    draw = torch.Generator().manual_seed(0)
    final = torch.randn(rows, 8, generator=draw)
    hidden = final + torch.tensor([0.8, 0.3])[:layers, None, None] * torch.randn(layers, rows, 8, generator=draw)
    labels = torch.randint(30, (rows,), generator=draw)
    return head, Sample(hidden, final[None], (final_targets(head, final, labels),))


def drawn(head: Head, sample: Sample, clusters: Tensor, rng: int = 1) -> Sample:
    draw = torch.Generator().manual_seed(rng)
    (made,) = null_samples(head, LENSES, [sample], [clusters], rng=draw)
    return made


def predicted(head: Head, states: Tensor) -> tuple[Tensor, Tensor]:
    """q (n, V) and W^T q (n, d) of the shared lens, in float64."""
    with torch.no_grad():
        q = torch.softmax(head.logits(head.norm(states)).double(), -1)
    return q, q @ head.weight.double()


def scatters(head: Head, sample: Sample, world: Sample) -> list[tuple[Tensor, Tensor]]:
    """(residual of the own lens, scatter of the null targets) in the score of each layer, float64 (n, d)."""
    found = []
    for layer, states in enumerate(sample.hidden):
        _, mean = predicted(head, states)
        _, own_mean = predicted(head, LENSES.own.map(layer).apply(states[None])[0])
        residual = sample.targets[0].mu.double() - own_mean
        found.append((residual, world.targets[layer].mu.double() - mean))
    return found


def test_the_mean_of_the_targets_is_the_shared_prediction() -> None:
    """A world and its mirror image average to W^T q, row by row and layer by layer: no sampling error."""
    head, sample = case(rows=40)
    clusters = torch.arange(40) // 10
    worlds = [drawn(head, sample, clusters, rng) for rng in range(12)]
    for layer in range(2):
        _, mean = predicted(head, sample.hidden[layer])
        shifts = torch.stack([world.targets[layer].mu.double() - mean for world in worlds])
        up, down = shifts.amax(0), shifts.amin(0)
        assert (up + down).abs().max() < 1e-5
        assert up.abs().min() > 0


def test_the_scatter_is_the_observed_one_with_its_dependence() -> None:
    """Within a cluster, and across layers, every product of two scores is what it is in the network."""
    head, sample = case(rows=60)
    clusters = torch.arange(60) // 15
    pairs = scatters(head, sample, drawn(head, sample, clusters))
    same = (clusters[:, None] == clusters[None, :]).double()
    for a, b in ((0, 0), (0, 1), (1, 1)):
        wanted, found = (pairs[a][side] @ pairs[b][side].T * same for side in (0, 1))
        assert (wanted - found).abs().max() < PRODUCT
    whole = [pairs[0][side] @ pairs[0][side].T for side in (0, 1)]
    assert (whole[0] - whole[1]).abs().max() > 0.1  # clusters are not aligned


def test_only_what_is_scored_needs_float32() -> None:
    """bfloat16 rounds the targets that lenses are fitted to, by 2^-8 of two means that cancel."""
    head, sample = case()
    clusters = torch.arange(1500) // 10
    exact, rounded = (
        null_samples(
            head, LENSES, [sample] * 2, [clusters] * 2, rng=torch.Generator().manual_seed(1), precision=precision
        )
        for precision in ("float32", "bfloat16")
    )
    for one, other in zip(exact[-1].targets, rounded[-1].targets, strict=True):
        assert torch.equal(one.mu, other.mu)
        assert torch.equal(one.labels, other.labels)
    for one, other in zip(exact[0].targets, rounded[0].targets, strict=True):
        assert 0 < (one.mu - other.mu).norm(dim=1).mean() < 4 * 2**-8 * one.mu.norm(dim=1).mean()


def test_what_an_own_lens_corrects_is_no_scatter() -> None:
    """Where the own lens is right to the last digit, nothing scatters, however wrong the shared lens is."""
    head, sample = case()
    exact = LENSES.own.map(0).apply(sample.hidden[:1])[0]
    same = Sample(sample.hidden[:1], sample.final, (final_targets(head, exact, sample.targets[0].labels),))
    _, mean = predicted(head, sample.hidden[0])
    world = drawn(head, same, torch.arange(1500) // 30)
    assert (world.targets[0].mu - mean).abs().max() < 1e-4
    assert (same.targets[0].mu - mean).abs().max() > 0.1


def test_half_of_the_clusters_keep_their_sign() -> None:
    head, sample = case(rows=60)
    clusters = torch.arange(60) // 10
    for rng in range(5):
        (score, null_score), _ = scatters(head, sample, drawn(head, sample, clusters, rng))
        sign = (score * null_score).sum(1).sign().reshape(6, 10)
        assert bool((sign == sign[:, :1]).all())
        assert sorted(sign[:, 0].tolist()) == [-1, -1, -1, 1, 1, 1]


def test_an_odd_number_of_clusters_is_balanced_in_the_mean() -> None:
    draw = torch.Generator().manual_seed(0)
    sums = torch.stack([null.balanced_signs(torch.arange(5), rng=draw).sum() for _ in range(400)])
    assert set(sums.tolist()) == {-1.0, 1.0}
    assert abs(float(sums.mean())) < STANDARD_ERRORS / 20
    single = {float(null.balanced_signs(torch.zeros(3), rng=draw)[0]) for _ in range(20)}
    assert single == {-1.0, 1.0}


def test_every_row_of_a_stacked_sample_keeps_its_own_target() -> None:
    """The shared lens is fitted to the layers one after another, each with its own targets."""
    head, sample = case(rows=50)
    stacked = drawn(head, sample, torch.arange(50) // 5).stacked()
    hidden, targets = stacked.batch(torch.tensor([0]), torch.tensor([[3, 53, 99]]))
    assert torch.equal(hidden[0], torch.stack([sample.hidden[0, 3], sample.hidden[1, 3], sample.hidden[1, 49]]))
    assert torch.equal(targets.mu, stacked.targets[0].mu[[3, 53, 99]])
    observed = sample.stacked().batch(torch.tensor([0]), torch.tensor([[3, 53, 99]]))[1]
    assert torch.equal(observed.mu, sample.targets[0].mu[[3, 3, 49]])


def test_losses_of_both_worlds_are_on_one_scale() -> None:
    """The shared lens has the kl of the network; any other lens differs from it by its loss alone."""
    head, sample = case()
    world = drawn(head, sample, torch.arange(1500) // 30)
    for layer in range(2):
        x = head.norm(sample.hidden[layer])
        kl = losses(head, x, sample.targets[0]).kl
        null_kl = losses(head, x, world.targets[layer]).kl
        assert (kl - null_kl).abs().max() < 1e-4
        moved = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
        rise = losses(head, moved, world.targets[layer]).kl
        change = torch.logsumexp(head.logits(moved), 1) - torch.logsumexp(head.logits(x), 1)
        wanted = change - ((moved - x) * world.targets[layer].mu).sum(1)
        assert (rise - null_kl - wanted).abs().max() < 1e-4


def test_labels_are_drawn_from_the_shared_prediction() -> None:
    head, sample = case(rows=40)
    worlds = [drawn(head, sample, torch.arange(40) // 10, rng) for rng in range(300)]
    for layer in range(2):
        q, _ = predicted(head, sample.hidden[layer])
        labels = torch.stack([world.targets[layer].labels for world in worlds])
        share = (labels == q.argmax(-1)).double().mean(0)
        expected = q.max(-1).values
        spread = (expected * (1 - expected) / len(worlds)).sqrt().clamp_min(1e-3)
        assert ((share - expected) / spread).abs().max() < STANDARD_ERRORS


def test_both_worlds_start_from_the_same_ridge() -> None:
    head, sample = case()
    world = drawn(head, sample, torch.arange(1500) // 30)
    assert torch.equal(world.final, sample.final)
    assert torch.equal(world.hidden, sample.hidden)


def test_a_softcapped_head_has_no_null_and_says_so() -> None:
    head, sample = case()
    with pytest.raises(DesignError, match=r"softcaps.*null_replicates=0"):
        drawn(replace(head, softcap=3.0), sample, torch.arange(1500))


# --- subjects whose answer is known ---

TRUTH = KnownTruth(n_layers=3, width=12, n_classes=24, n_units=90, tokens=40, trap_width=4)
PLAN = FitPlan(batch=256, max_steps=128, strengths=(1e-3, 1e-1), beside=None, curve=())


def subject(kind: str, dial: float = 0.0) -> ArraySubject:
    return array_subject(simulate_subject(replace(TRUTH, kind=kind, dial=dial), rng=np.random.default_rng(4)))


def mean_penalties(made: ArraySubject, world: str, seeds: int = 2) -> tuple[float, float]:
    """(mean off-diagonal kl penalty, mean shared-lens excess) over seeds, through the code that runs a cell."""
    split = _split(made)
    penalties, excesses = [], []
    for seed in range(seeds):
        config = {
            "world": world,
            "seed": seed,
            "fit": plain(PLAN),
            "evaluation": {"units": 30, "tokens": 40},
        }
        output = compute_world(made, split, config, np.random.default_rng([7, seed]), lambda *_: None)
        table = output.table
        lens = table[table["readout"] == "lens"].groupby(["source", "target"])["kl"].mean().unstack()
        matrix = lens.to_numpy()
        own = np.diagonal(matrix)
        off = ~np.eye(len(matrix), dtype=bool)
        penalties.append((matrix - own)[off].mean())
        shared = table[table["readout"] == "shared"].groupby("target")["kl"].mean().to_numpy()
        excesses.append((shared - own).mean())
    return float(np.mean(penalties)), float(np.mean(excesses))


def _split(made: ArraySubject) -> Split:
    return split_units(made.clusters, n_folds=2, n_evaluation=30, rng=np.random.default_rng(0))


def test_the_posterior_of_the_known_truth_is_what_its_decoder_says() -> None:
    """Calibration: the decoder's top class is right as often as its probability says, at every layer."""
    arrays = simulate_subject(replace(TRUTH, n_units=300), rng=np.random.default_rng(1))
    for states in arrays.hidden:
        logits = states @ arrays.weight.T + arrays.bias
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        top = p.max(1)
        right = arrays.labels == p.argmax(1)
        error = abs(right.mean() - top.mean()) / np.sqrt((top * (1 - top)).mean() / len(top))
        assert error < STANDARD_ERRORS


@pytest.mark.parametrize("kind", ["iterative", "trap"])
def test_where_one_lens_is_right_the_null_explains_the_penalty(kind: str) -> None:
    """What is left is the error of lenses fitted to a fold, which the null has too."""
    made = subject(kind)
    raw, excess = mean_penalties(made, "observed")
    null_raw, null_excess = mean_penalties(made, "null")
    assert abs(raw - null_raw) < EXPLAINED
    assert abs(excess - null_excess) < EXPLAINED


def test_where_layers_are_rotated_the_null_does_not_explain_the_penalty() -> None:
    made = subject("pipeline", dial=0.6)
    raw, excess = mean_penalties(made, "observed")
    null_raw, null_excess = mean_penalties(made, "null")
    assert raw > null_raw + 5 * EXPLAINED
    assert excess > null_excess + EXPLAINED


def test_sample_of_a_subject_holds_its_own_final_distribution() -> None:
    made = subject("iterative")
    states = made.capture([0, 5, 7], max_rows=11)
    assert states.counts().tolist() == [11, 11, 11]
    sample = sample_of(made, states)
    found = losses(made.head, states.final, sample.targets[0])
    assert found.kl.abs().max() < 1e-5
    assert found.disagreement is not None
    assert not found.disagreement.any()


# --- most likely outputs ---


def probabilities(head: Head, lens: Translators, states: Tensor) -> Tensor:
    """(n, V) float64 prediction of one lens from the states (n, d) of one layer."""
    return torch.softmax(full_logits(head, head.norm(lens.apply(states[None])[0])), -1)


def signs(world: Targets, parent: Tensor, q: Tensor, r: Tensor, head: Head) -> Tensor:
    """(n, 1) sign of each row, told from the means that lenses are fitted to."""
    weight = head.weight.double()
    return (((world.mu - q @ weight) * ((parent - r) @ weight)).sum(1, keepdim=True)).sign()


def by_hand(head: Head, lenses: NullLenses, states: Tensor, world: Sample, parents: list[Tensor]) -> list[Tensor]:
    """p0 = q + sign (p - r) of every layer, (n, V) float64, from the tables (n, V) of its parent."""
    made = []
    for layer, p in enumerate(parents):
        q = probabilities(head, lenses.shared, states[layer])
        r = probabilities(head, lenses.own.map(layer), states[layer])
        p0 = q + signs(world.targets[layer], p, q, r, head) * (p - r)
        assert (p0 @ head.weight.double() - world.targets[layer].mu).abs().max() < 1e-4  # this is its mean
        made.append(p0)
    return made


def check_disagreement(head: Head, world: Sample, tables: list[Tensor]) -> None:
    for layer, table in enumerate(tables):
        targets = world.targets[layer]
        assert targets.top is not None
        assert torch.equal(targets.top, table.argmax(-1))
        x = head.norm(world.hidden[1 - layer])
        found = losses(head, x, targets).disagreement
        assert found is not None
        assert torch.equal(found, full_disagreement(head, x, table))
        assert 0.05 < float(found.mean()) < 0.95


def test_disagreement_in_the_null_is_with_its_own_distribution() -> None:
    """Where p0 is no distribution its largest entry is still the one that a lens should name."""
    head, sample = case(rows=600)
    world = drawn(head, sample, torch.arange(600) // 15)
    p = torch.softmax(full_logits(head, head.norm(sample.final[0])), -1)
    tables = by_hand(head, LENSES, sample.hidden, world, [p, p])
    assert min(float(one.min()) for one in tables) < 0
    check_disagreement(head, world, tables)


def test_a_null_of_a_null_replaces_the_targets_of_the_null() -> None:
    """Mean and scatter of the second are taken about the first, layer by layer, down to the tables."""
    head, sample = case(rows=600)
    clusters = torch.arange(600) // 15
    first = drawn(head, sample, clusters)
    deeper = NullLenses(LENSES.own.map(0), Translators(-0.5 * LENSES.own.weight, 0.5 * LENSES.own.bias))
    (second,) = null_samples(head, deeper, [first], [clusters], rng=torch.Generator().manual_seed(2))
    p = torch.softmax(full_logits(head, head.norm(sample.final[0])), -1)
    tables = by_hand(head, LENSES, sample.hidden, first, [p, p])
    check_disagreement(head, second, by_hand(head, deeper, sample.hidden, second, tables))


def test_chunks_do_not_change_the_most_likely_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    head, sample = case(rows=200)
    clusters = torch.arange(200) // 10
    whole = drawn(head, drawn(head, sample, clusters), clusters)
    monkeypatch.setattr(room, "CHUNK_BYTES_CPU", 1)
    monkeypatch.setattr(room, "FEWEST_ROWS", 16)
    parts = drawn(head, drawn(head, sample, clusters), clusters)
    for one, other in zip(whole.targets, parts.targets, strict=True):
        assert one.top is not None
        assert other.top is not None
        assert torch.equal(one.top, other.top)


def test_only_what_is_scored_has_most_likely_outputs() -> None:
    head, sample = case(rows=40)
    clusters = torch.arange(40) // 10
    made = null_samples(head, LENSES, [sample] * 2, [clusters] * 2, rng=torch.Generator().manual_seed(1))
    assert [one.targets[0].top is None for one in made] == [True, False]
    assert made[0].stacked().targets[0].top is None


@pytest.mark.parametrize("kind", ["iterative", "pipeline"])
def test_the_null_of_a_null_is_like_the_null(kind: str) -> None:
    """In a null replicate one lens is right, whatever the network: its own null explains its penalties."""
    made = subject(kind, dial=0.6 if kind == "pipeline" else 0.0)
    raw, excess = mean_penalties(made, "null")
    null_raw, null_excess = mean_penalties(made, "null of null")
    assert abs(raw - null_raw) < EXPLAINED
    assert abs(excess - null_excess) < EXPLAINED
