"""Fits against an independent optimiser and rotations of the state; certificates that tell the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from brute_force import make_head
from fit_cases import LAYERS, OPTIMUM, OUTPUTS, PLAN, WIDTH, fit, halves, part, silent_basis, steps_of_size, world
from scipy.optimize import minimize
from torch import Tensor

from transferstats.errors import DesignError
from transferstats.lens import fit as fitting
from transferstats.lens import head as room
from transferstats.lens.head import Head, final_targets
from transferstats.lens.plan import RECIPES, FitPlan
from transferstats.lens.sample import Sample, mean_kl
from transferstats.lens.translator import Translators


def least_kl(head: Head, sample: Sample, layer: int) -> float:
    """The least mean kl of any affine lens, by L-BFGS on all rows in float64 with full logits."""
    h, weight, bias = sample.hidden[layer].double(), head.weight.double(), head.bias.double()
    log_p = torch.log_softmax(sample.final[0].double() @ weight.T + bias, -1)

    def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        lens = torch.tensor(flat, requires_grad=True)
        matrix, offset = lens[: WIDTH * WIDTH].reshape(WIDTH, WIDTH), lens[WIDTH * WIDTH :]
        log_q = torch.log_softmax((h @ matrix.T + offset) @ weight.T + bias, -1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
        (slope,) = torch.autograd.grad(kl, lens)
        return kl.item(), slope.numpy()

    start = np.concatenate([np.eye(WIDTH).ravel(), np.zeros(WIDTH)])
    return float(minimize(value_and_slope, start, jac=True, method="L-BFGS-B", options={"maxiter": 3000}).fun)


def test_the_fit_reaches_the_minimum_that_l_bfgs_finds() -> None:
    """Held-out rows equal training rows here, so that both minimise the same number."""
    head, sample = world()
    lenses, certificate = fit(head, sample, sample)
    reached = mean_kl(head, lenses, sample)
    for layer in range(LAYERS):
        least = least_kl(head, sample, layer)
        assert least > 0.01
        assert -1e-5 < float(reached[layer]) - least < OPTIMUM
    assert bool(certificate.converged.all())
    assert bool((certificate.start_kl > certificate.held_out_kl + OPTIMUM).any())  # ridge alone was not enough


def test_the_fit_does_not_depend_on_the_axes_of_the_state() -> None:
    """States and prior rotated together: the same lens in other coordinates."""
    head, sample = world()
    train, held_out = halves(sample)
    draw = torch.Generator().manual_seed(5)
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=draw))[0]

    def turned(one: Sample) -> Sample:
        return replace(one, hidden=one.hidden @ turn.T)

    back = Translators((turn.T - torch.eye(WIDTH)).repeat(LAYERS, 1, 1), torch.zeros(LAYERS, WIDTH))
    _, straight = fit(head, train, held_out)
    _, rotated = fit(head, turned(train), turned(held_out), prior=back)
    assert (straight.held_out_kl - rotated.held_out_kl).abs().max() < OPTIMUM


@pytest.mark.parametrize("prior", ["identity", "random"])
def test_silent_directions_stay_where_the_prior_put_them(prior: str) -> None:
    """A lens that was moved there fails on every layer whose states do move there."""
    head, sample = world(silent=3)
    train, held_out = halves(sample)
    draw = torch.Generator().manual_seed(6)
    start = Translators.identity(LAYERS, WIDTH)
    if prior == "random":
        start = Translators(0.3 * torch.randn(LAYERS, WIDTH, WIDTH, generator=draw), start.bias)
    lenses, _ = fit(head, train, held_out, prior=start)
    for layer in range(LAYERS):
        moved = (lenses.weight[layer] - start.weight[layer]).double()
        basis = silent_basis(train, layer, 3)
        silent = (moved @ basis.T).norm() / basis.norm()
        assert silent < 1e-3 * moved.norm(), (float(silent), float(moved.norm()))


def test_a_fit_is_repeatable_to_the_bit_and_its_seed_hardly_matters() -> None:
    head, sample = world()
    train, held_out = halves(sample)
    one, first = fit(head, train, held_out)
    two, _ = fit(head, train, held_out)
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, two.bias)
    other, second = fit(head, train, held_out, rng=1)
    assert not torch.equal(one.weight, other.weight)
    assert (first.held_out_kl - second.held_out_kl).abs().max() < OPTIMUM


def test_a_lens_does_not_depend_on_which_others_are_fitted_beside_it() -> None:
    head, sample = world()
    train, held_out = halves(sample)
    _, together = fit(head, train, held_out)
    for layer in range(LAYERS):
        rows = slice(layer, layer + 1)
        alone = [replace(one, hidden=one.hidden[rows]) for one in (train, held_out)]
        _, certificate = fit(head, *alone)
        assert abs(float(certificate.held_out_kl[0] - together.held_out_kl[layer])) < OPTIMUM


def test_too_few_steps_are_not_called_converged() -> None:
    head, sample = world()
    train, held_out = halves(sample)
    weak = replace(PLAN, first=1, max_steps=1, strengths=(1.0,))
    _, certificate = fit(head, train, held_out, weak)
    assert not bool(certificate.converged.any())
    assert bool((certificate.change > PLAN.tolerance).all())


def test_no_steps_at_all_are_not_called_converged() -> None:
    head, sample = world()
    train, held_out = halves(sample)
    lenses, certificate = fit(head, train, held_out, replace(PLAN, first=32, max_steps=16))
    assert not bool(certificate.converged.any())
    assert torch.equal(certificate.steps, torch.zeros(LAYERS, dtype=torch.float64))
    assert torch.equal(mean_kl(head, lenses, held_out), certificate.held_out_kl)


def test_ridge_alone_is_not_called_converged() -> None:
    head, sample = world()
    train, held_out = halves(sample)
    _, certificate = fit(head, train, held_out, replace(PLAN, method="ridge"))
    assert not bool(certificate.converged.any())
    assert bool(certificate.change.isnan().all())
    assert torch.equal(certificate.held_out_kl, certificate.start_kl)


def test_a_descent_that_diverges_is_not_called_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ridge start is kept, which no step improved; that is not a minimum."""
    head, sample = world()
    train, held_out = halves(sample)
    steps_of_size(monkeypatch, 1e5)
    _, certificate = fit(head, train, held_out, replace(PLAN, max_steps=256))
    assert not bool(certificate.converged.any())


def test_the_certificate_tells_the_kl_of_the_lens_that_is_returned() -> None:
    """On as many training rows as are held out, so that their gap is no matter of numbers."""
    head, sample = world()
    train, held_out = halves(sample)
    lenses, certificate = fit(head, train, held_out, replace(PLAN, max_steps=64))
    assert torch.equal(certificate.held_out_kl, mean_kl(head, lenses, held_out))
    rows = torch.arange(0, 3000, 3)
    assert len(rows) == held_out.hidden.shape[1]
    assert torch.equal(certificate.train_kl, mean_kl(head, lenses, part(train, rows)))
    assert bool((certificate.held_out_kl < certificate.start_kl).all())


def test_the_certificate_tells_how_much_data_there_was() -> None:
    head, sample = world()
    train, held_out = halves(sample)
    for method in ("kl", "ridge"):
        _, certificate = fit(head, train, held_out, replace(PLAN, max_steps=64, method=method))
        assert certificate.rows.tolist() == [3000.0] * LAYERS
        assert certificate.width == WIDTH
        for layer, states in enumerate(train.hidden):
            values = torch.linalg.eigvalsh(torch.corrcoef(states.double().T))
            wanted = float(values.sum() ** 2 / values.square().sum())
            assert abs(float(certificate.dimension[layer]) - wanted) < 1e-6


def test_mean_kl_of_more_rows_than_it_reads_is_close() -> None:
    head, sample = world()
    lens = Translators.identity(LAYERS, WIDTH)
    whole, fewer = mean_kl(head, lens, sample), mean_kl(head, lens, sample, max_rows=400)
    assert (whole - fewer).abs().max() < 0.2 * float(whole.max())
    assert not torch.equal(whole, fewer)


def test_a_softcapped_head_is_fitted_too() -> None:
    head, sample = world()
    capped = Head(head.norm, head.weight, head.bias, 3.0)
    targets = final_targets(capped, sample.final[0], sample.targets[0].labels)
    train, held_out = halves(Sample(sample.hidden, sample.final, (targets,)))
    _, certificate = fit(capped, train, held_out, replace(PLAN, max_steps=256))
    assert bool((certificate.held_out_kl < certificate.start_kl).any())
    assert bool((certificate.held_out_kl > 0).all())


def test_input_damping_holds_directions_that_carry_little() -> None:
    """Half of the directions, in general position, carry a twentieth of the others' size."""
    head, sample = world()
    draw = torch.Generator().manual_seed(5)
    basis = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=draw))[0]
    strong, weak = basis[:, : WIDTH // 2], basis[:, WIDTH // 2 :]
    squeezed = replace(sample, hidden=sample.hidden @ (strong @ strong.T + 0.05 * weak @ weak.T))
    train, held_out = halves(squeezed)
    plan = replace(PLAN, strengths=(1e-4,), first=16, max_steps=16, settle=16)
    start, _ = fit(head, train, held_out, replace(plan, method="ridge"))
    moved = []
    for damping in (1e-4, 1.0):
        lenses, certificate = fit(head, train, held_out, replace(plan, input_damping=damping))
        assert (certificate.held_out_kl < certificate.start_kl).all()
        moved.append(float(((lenses.weight - start.weight) @ weak).norm()))
    assert moved[1] < moved[0] / 5


def test_a_lens_whose_kl_turns_round_is_fitted_again_with_smaller_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows, and steps that are far too large for them; of all its descents the best is kept."""
    head, sample = world()
    train, held_out = halves(sample)
    few = part(train, torch.arange(60))
    plan = replace(PLAN, batch=16, first=4, share=1.0, strengths=(1e-4,))
    again, certificate = fit(head, few, held_out, plan)
    monkeypatch.setattr(fitting, "AGAIN", 0)
    _, once = fit(head, few, held_out, plan)
    assert bool((certificate.held_out_kl <= once.held_out_kl).all())
    assert bool((certificate.held_out_kl < once.held_out_kl - OPTIMUM).any())
    assert torch.equal(mean_kl(head, again, held_out), certificate.held_out_kl)


def test_bfloat16_gradients_end_at_the_same_minimum() -> None:
    head, sample = world()
    train, held_out = halves(sample)
    exact, _ = fit(head, train, held_out)
    rounded, _ = fit(head, train, held_out, replace(PLAN, precision="bfloat16"))
    assert not torch.equal(exact.weight, rounded.weight)
    gap = mean_kl(head, rounded, held_out) - mean_kl(head, exact, held_out)
    assert gap.abs().max() < OPTIMUM / 10


def test_bfloat16_gradients_of_a_softcapped_head_are_refused() -> None:
    head, sample = world()
    capped = replace(head, softcap=3.0)
    with pytest.raises(DesignError, match='softcaps its logits: use precision="float32"'):
        fit(capped, sample, sample, replace(PLAN, precision="bfloat16"))


def test_the_published_recipe_is_the_sgd_of_torch() -> None:
    """Nesterov momentum, weight decay, linear decay, one clip norm: as torch does it."""
    head, sample = world()
    plan = replace(RECIPES["belrose2023"], max_steps=12)
    lenses, certificate = fit(head, sample, sample, plan)
    weight = torch.zeros(LAYERS, WIDTH, WIDTH, requires_grad=True)
    bias = torch.zeros(LAYERS, WIDTH, requires_grad=True)
    optimiser = torch.optim.SGD([weight, bias], lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
    log_p = torch.log_softmax(head.logits(sample.final[0]), -1)
    for step in range(plan.max_steps):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / plan.max_steps)
        optimiser.zero_grad()
        z = Translators(weight, bias).apply(sample.hidden)
        log_q = torch.log_softmax(head.logits(z.flatten(0, 1)), -1).reshape(LAYERS, -1, OUTPUTS)
        (log_p.exp() * (log_p - log_q)).sum(-1).mean(1).sum().backward()
        torch.nn.utils.clip_grad_norm_([weight, bias], 1.0)
        optimiser.step()
    assert (lenses.weight - weight).abs().max() < 1e-5
    assert (lenses.bias - bias).abs().max() < 1e-5
    assert bool((certificate.steps == plan.max_steps).all())
    assert bool((certificate.change > 0).all())


def test_lenses_may_start_from_the_identity() -> None:
    head, sample = world()
    train, held_out = halves(sample)
    _, ridged = fit(head, train, held_out)
    _, certificate = fit(head, train, held_out, replace(PLAN, anchor="identity"))
    logit_lens = mean_kl(head, Translators.identity(LAYERS, WIDTH), held_out)
    assert torch.equal(certificate.start_kl, logit_lens)
    assert (certificate.held_out_kl - ridged.held_out_kl).abs().max() < OPTIMUM  # the minimum does not remember


@pytest.mark.parametrize(
    "options",
    [
        {"method": "ridge", "anchor": "shared"},
        {"method": "ridge", "anchor": "identity"},
        {"method": "adam"},
        {"optimiser": "adam"},
        {"precision": "float16"},
        {"share": 0.0},
        {"damping": 0.0},
        {"anchor": "mean"},
        {"strengths": ()},
        {"strengths": (0.0, 1.0)},
        {"batch": 0},
        {"first": 0},
        {"beside": "mean"},
        {"curve": (0.5, 1.0)},
        {"curve": (0.0,)},
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_followed_is_refused(options: dict[str, object]) -> None:
    """A first measurement at 0 steps would double for ever; an unknown method would be taken for kl."""
    with pytest.raises(
        DesignError,
        match=r"unknown (method|anchor|optimiser|precision)|a fit needs|every penalty is 0|natural steps|"
        r"a second set of lenses|a learning curve",
    ):
        FitPlan(**options)  # type: ignore[arg-type]


class _Saved:
    """A tensor that autograd keeps, counted while it is kept."""

    live = peak = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.size = tensor, tensor.numel()
        _Saved.live += self.size
        _Saved.peak = max(_Saved.peak, _Saved.live)

    def __del__(self) -> None:
        _Saved.live -= self.size


def test_no_graph_over_tokens_and_outputs_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step and the Fisher information of 3 layers, 400 rows, 2000 outputs, in chunks of 16 rows."""
    layers, rows, outputs = 3, 400, 2000
    made = make_head(outputs, WIDTH)
    monkeypatch.setattr(room, "CHUNK_BYTES_CPU", 4 * outputs * 16)
    monkeypatch.setattr(room, "FEWEST_ROWS", 16)
    draw = torch.Generator().manual_seed(0)
    final = torch.randn(rows, WIDTH, generator=draw)
    hidden = final + torch.randn(layers, rows, WIDTH, generator=draw)
    labels = torch.zeros(rows, dtype=torch.int64)
    sample = Sample(hidden, final[None], (final_targets(made, final, labels),))
    _Saved.live = _Saved.peak = 0
    with torch.autograd.graph.saved_tensors_hooks(_Saved, lambda saved: saved.tensor):
        fit(made, sample, sample, replace(PLAN, batch=rows, first=1, max_steps=1))
    assert 0 < _Saved.peak < 0.2 * layers * rows * outputs
