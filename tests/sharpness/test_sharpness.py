"""Sharpness against float64 references written again, a quadratic whose worst case is known, and a model left alone."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from samson import ASAM, SAM, SAMSON, SharpnessAware, param_groups
from samson.evaluation import METRICS, ExampleMetric, Layout, clean_value, evaluate
from samson.noise import Gaussian
from samson.sharpness import average_rise, hessian_top, hessian_trace, random_landscape, worst_case_rise
from tests.conftest import equal, make_batch, make_model, snapshot

RULES = [
    SAM(rho=0.3),
    ASAM(rho=0.4, eta=0.02),
    SAMSON(rho=0.5),
    SAMSON(rho=0.5, p=2, policy="matrices"),
    SAMSON(rho=0.5, eta=0.0, policy="all"),
]


def scale_by_hand(rule: SAM, name: str, w: np.ndarray) -> np.ndarray:
    picked = {"authors": "weight" in name, "matrices": w.ndim >= 2, "all": True}
    if isinstance(rule, SAM) or not picked[rule.policy]:
        return np.ones_like(w)
    t = np.abs(w) + rule.eta
    return t / np.linalg.norm(w.ravel(), rule.p) if isinstance(rule, SAMSON) else t


def one_step_by_hand(model: nn.Module, x: torch.Tensor, y: torch.Tensor, rule: SAM) -> float:
    """Loss at w + ρT²g/‖Tg‖ minus the clean loss, with the weights as plain arrays."""
    weights = {name: p.detach().requires_grad_() for name, p in model.named_parameters()}

    def loss(at: dict[str, torch.Tensor]) -> torch.Tensor:
        state = dict(model.named_buffers()) | at
        return nn.functional.cross_entropy(torch.func.functional_call(model.eval(), state, x), y)

    clean = loss(weights)
    gradients = dict(zip(weights, torch.autograd.grad(clean, list(weights.values())), strict=True))
    scales = {name: scale_by_hand(rule, name, w.detach().numpy()) for name, w in weights.items()}
    norm = math.sqrt(sum(np.sum((scales[name] * g.numpy()) ** 2) for name, g in gradients.items()))
    moved = {
        name: w.detach() + rule.rho * torch.from_numpy(scales[name] ** 2) * gradients[name] / norm
        for name, w in weights.items()
    }
    return (loss(moved) - clean).item()


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_one_step_is_the_rules_own_perturbation(rule: SAM) -> None:
    model, (x, y) = make_model(), make_batch()
    batches = [(x[:5], y[:5]), (x[5:10], y[5:10]), (x[10:], y[10:])]  # unequal: a mean of means would be off
    found = worst_case_rise(model, batches, rule)
    assert found.rise == pytest.approx(one_step_by_hand(make_model(), x, y, rule), rel=1e-10)
    assert worst_case_rise(model, (x, y), rule).rise == pytest.approx(found.rise, rel=1e-10)
    assert found.one_step == found.rise


def test_it_is_where_the_optimizer_climbs_to() -> None:
    model, (x, y) = make_model().eval(), make_batch()
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), SAMSON(rho=0.5))
    clean = nn.functional.cross_entropy(model(x), y)
    clean.backward()
    with optimizer.perturbed(model):
        there = nn.functional.cross_entropy(model(x), y).item()
    found = worst_case_rise(model, (x, y), SAMSON(rho=0.5))
    assert found.losses[0] == pytest.approx(there, rel=1e-12)
    # The check can fail: another radius, another rule.
    assert worst_case_rise(model, (x, y), SAMSON(rho=0.45)).losses[0] != pytest.approx(there, rel=1e-3)
    assert worst_case_rise(model, (x, y), ASAM(rho=0.5)).losses[0] != pytest.approx(there, rel=1e-3)


def largest_on_sphere(hessian: np.ndarray, gradient: np.ndarray, rho: float) -> float:
    """max gᵀu + ½uᵀHu on ‖u‖ = ρ: (λ − H)u = g with λ above every eigenvalue, by the secular equation."""
    values, vectors = np.linalg.eigh(hessian)
    g = vectors.T @ gradient
    top = values[-1]
    multiplier = brentq(lambda m: np.linalg.norm(g / (m - values)) - rho, top + 1e-9, top + 1e6, xtol=1e-13)
    u = g / (multiplier - values)
    return float(g @ u + 0.5 * np.sum(values * u**2))


@pytest.mark.parametrize("rule", [SAM(rho=3.0), ASAM(rho=0.8, eta=0.1, policy="all")])
def test_many_steps_reach_the_worst_case_of_a_quadratic(rule: SAM) -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.randn(40, n, generator=generator, dtype=torch.float64) for n in (4, 1))
    model = nn.Linear(4, 1, bias=False).double()
    w = torch.tensor([[0.5, -1.5, 0.2, 2.0]], dtype=torch.float64)
    model.load_state_dict({"weight": w})
    inputs, start = x.numpy(), w.numpy()[0]
    t = scale_by_hand(rule, "weight", start)
    gradient = 2 / 40 * inputs.T @ (inputs @ start - y.numpy()[:, 0])
    hessian = 2 / 40 * inputs.T @ inputs
    truth = largest_on_sphere(t[:, None] * hessian * t, t * gradient, rule.rho)
    found = worst_case_rise(model, (x, y), rule, loss="mse", steps=100)
    assert found.rise == pytest.approx(truth, rel=1e-8)
    assert found.one_step < 0.999 * truth  # one step would not do
    plain = largest_on_sphere(hessian, gradient, rule.rho)
    assert isinstance(rule, SAM) or truth != pytest.approx(plain, rel=0.01)  # nor a round ball


def test_more_steps_stay_in_the_ball_and_never_give_less() -> None:
    model, data = make_model(), make_batch()
    rule = SAMSON(rho=2.0)
    before = {name: p.detach().clone().numpy() for name, p in model.named_parameters()}
    radii = []

    def measure(*_: object) -> None:
        lengths = [
            (p.detach().numpy() - before[name]) / scale_by_hand(rule, name, before[name])
            for name, p in model.named_parameters()
        ]
        radii.append(math.sqrt(sum(np.sum(part**2) for part in lengths)))

    hook = model.register_forward_pre_hook(measure)
    many = worst_case_rise(model, data, rule, steps=6)
    hook.remove()
    one = worst_case_rise(model, data, rule)
    assert many.losses[0] == one.losses[0]
    assert many.rise == max(many.losses) - many.clean > one.rise
    assert replace(many, losses=many.losses[::-1]).rise == many.rise  # also where the last step is not the highest
    assert radii[0] == 0
    assert radii[1] == pytest.approx(2.0)
    assert max(radii) <= 2.0 + 1e-9
    assert len(radii) == 7  # one pass a step beyond the clean one
    assert worst_case_rise(make_model(), make_batch(), SAM(rho=0.0), steps=3).rise == 0


def fails_at(number: int) -> ExampleMetric:
    """A loss that raises at its n-th call."""
    calls = itertools.count(1)

    def score(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if next(calls) == number:
            raise RuntimeError("interrupted")
        return METRICS["cross-entropy"].score(output, targets)

    return ExampleMetric("fails", score, higher_is_better=False)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails: bool) -> None:
    model = nn.Sequential(make_model(torch.float32), nn.Dropout(0.5)).train()
    model[0][2].eval()
    with torch.no_grad():
        model[0][0].weight[0, 0, 0] = -0.0
        model[0][4].bias[0] = 1e-41  # subnormal
    x, y = make_batch(torch.float32)
    model[0][0].weight.grad = torch.ones_like(model[0][0].weight)
    before, modes, state = snapshot(model), [m.training for m in model.modules()], torch.get_rng_state()
    if fails:
        with pytest.raises(RuntimeError, match="interrupted"):
            worst_case_rise(model, (x, y), SAMSON(), steps=3, loss=fails_at(3))
    else:
        assert worst_case_rise(model, (x, y), SAMSON(), steps=3).rise > 0
    assert equal(snapshot(model), before)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model[0][0].weight.grad, torch.ones_like(model[0][0].weight))
    assert all(p.grad is None for name, p in model.named_parameters() if name != "0.0.weight")


def test_frozen_parameters_do_not_move() -> None:
    model = make_model()
    model[4].requires_grad_(False)
    frozen = worst_case_rise(model, make_batch(), SAM(rho=0.3)).rise
    assert frozen < worst_case_rise(make_model(), make_batch(), SAM(rho=0.3)).rise
    with pytest.raises(ValueError, match="`model` must have a parameter that requires a gradient"):
        worst_case_rise(model.requires_grad_(False), make_batch(), SAM())


def test_autocast_sees_the_moved_weights() -> None:
    model, data = make_model(torch.float32), make_batch(torch.float32)
    exact = worst_case_rise(model, data, SAM(rho=0.5), steps=2).rise
    with torch.autocast("cpu", torch.bfloat16):  # its cache of casts would give the clean weights again: no rise
        assert worst_case_rise(model, data, SAM(rho=0.5), steps=2).rise == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_caller_without_gradients_gets_the_same(steps: int) -> None:
    model, data = make_model(), make_batch()
    found = worst_case_rise(model, data, SAMSON(rho=0.3), steps=steps)
    with torch.no_grad():
        assert worst_case_rise(model, data, SAMSON(rho=0.3), steps=steps) == found
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize(
    "measure",
    [
        lambda model, data: worst_case_rise(model, data, SAM()),
        hessian_top,
        hessian_trace,
        lambda model, data: random_landscape(model, data, [0.0, 0.5]),
    ],
    ids=["rise", "top", "trace", "landscape"],
)
def test_weights_that_are_cached_are_refused(measure: Callable[[nn.Module, Any], object]) -> None:
    """What is computed from moved weights would stay as it was."""
    model = nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(10, 3))).double()
    before = snapshot(model)
    with (
        parametrize.cached(),
        pytest.raises(RuntimeError, match=r"Inside `parametrize.cached\(\)` .* Leave that block"),
    ):
        measure(model, make_batch())
    assert equal(snapshot(model), before)
    assert measure(model, make_batch()) is not None


def test_where_no_weight_moves_there_is_no_rise_in_half_precision() -> None:
    """The loss before and after is computed alike, in float32."""
    model, (x, y) = make_model(torch.float32).bfloat16(), make_batch(torch.float32)
    assert worst_case_rise(model, (x.bfloat16(), y), SAM(rho=1e-9)).rise == 0


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
def test_the_average_rise_is_of_the_same_chips(autocast: str | None) -> None:
    model, (x, y) = make_model(torch.float32), make_batch(torch.float32)
    setting = {"trials": 6, "seed": 4, "layout": Layout(7), "autocast": autocast}
    found = average_rise(model, (x, y), Gaussian(0.3), **setting)
    noisy = evaluate(model, (x, y), Gaussian(0.3), metric="cross-entropy", **setting)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast is not None):
        logits = torch.cat([model.eval()(part) for part in x.split(7)]).double()
    clean = nn.functional.cross_entropy(logits, y).item()
    assert found.trials == pytest.approx([loss - clean for loss in noisy.trials], abs=1e-6)
    assert found.interval.low < found.mean < found.interval.high
    assert found.worst == max(found.trials)
    assert found.scores is None


def test_the_average_rise_of_a_bounded_loss_may_be_negative() -> None:
    error = ExampleMetric("error", lambda o, t: (o.argmax(1) != t).double(), higher_is_better=False, bounds=(0.0, 1.0))
    model, (x, _) = make_model().eval(), make_batch()
    found = average_rise(model, (x, model(x).argmin(1)), Gaussian(0.5), trials=6, metric=error)  # all wrong at first
    assert found.interval.low < found.mean < 0


def test_the_average_rise_of_a_quadratic_is_known() -> None:
    """For w + σ·max|w|·ξ and a squared error, the expected rise is σ²·max|w|²·mean ‖x‖²."""
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.randn(50, n, generator=generator, dtype=torch.float64) for n in (4, 1))
    model = nn.Linear(4, 1, bias=False).double()
    truth = (0.3 * model.weight.abs().max().item()) ** 2 * x.square().sum(1).mean().item()
    found = average_rise(model, (x, y), Gaussian(0.3), trials=1600, metric="mse")
    error = found.std / math.sqrt(1600)
    assert abs(found.mean - truth) < 4 * error
    assert error < 0.1 * truth


def test_the_average_rise_runs_through_its_data_again() -> None:
    model, (x, y) = make_model(), make_batch()
    data, norms = [(x[:10], y[:10]), (x[10:], y[10:])], [(x[:8] + 1,), (x[8:],)]
    once = average_rise(model, iter(data), Gaussian(0.3), trials=3, norm_data=iter(norms))
    assert once.trials == average_rise(model, data, Gaussian(0.3), trials=3, norm_data=norms).trials
    assert once.trials != average_rise(model, data, Gaussian(0.3), trials=3).trials


@pytest.mark.parametrize(
    ("data", "settings", "words"),
    [
        (make_batch(), {"steps": 0}, "`steps` must be at least 1, got 0"),
        (make_batch(), {"loss": "accuracy"}, "must be better when lower, got 'accuracy'. .* or 'cross-entropy'"),
        (make_batch(), {"loss": "perplexity"}, "must have a value for each example, got 'perplexity'"),
        ([], {}, "at least one example"),
    ],
)
def test_bad_input_is_an_error(data: object, settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        worst_case_rise(make_model(), data, SAM(), **settings)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_loss_without_bounds_in_the_ball_is_an_infinite_rise(steps: int) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(10, 8), nn.Linear(8, 3))
    found = worst_case_rise(model, make_batch(torch.float32), SAM(rho=1e30), steps=steps)
    assert found.rise == math.inf
    assert math.isfinite(found.clean)


def test_a_model_that_has_no_answer_is_an_error() -> None:
    model, data = make_model(), make_batch()
    root = ExampleMetric("root", lambda o, t: (o - o.detach()).abs().sum(1).sqrt(), higher_is_better=False)
    with pytest.raises(ValueError, match="finite loss and gradient"):  # here the loss is, its slope is not
        worst_case_rise(model, data, SAM(), loss=root)
    with pytest.raises(ValueError, match="silently be SAM"):
        worst_case_rise(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(10).double()), data, SAMSON(policy="matrices"))
    with torch.no_grad():
        model[4].weight.fill_(math.inf)
    with pytest.raises(ValueError, match="finite loss and gradient"):
        worst_case_rise(model, data, SAM())
    with pytest.raises(TypeError, match="`average_rise` has no argument 'metrik'. Did you mean 'metric'"):
        average_rise(model, data, Gaussian(0.1), metrik="mse")


class Sampling(nn.Module):
    """A model that draws random numbers in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = make_model()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x + 0.5 * torch.randn_like(x))


def test_a_model_that_samples_draws_the_same_in_every_pass() -> None:
    """What differs is where the weights are; the global random state has no part in it, and comes back."""
    model, (x, y) = Sampling(), make_batch()
    batches = [(x[:9], y[:9]), (x[9:], y[9:])]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = torch.cat([torch.randn_like(part) for part, _ in batches])
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        rise = worst_case_rise(model, batches, SAMSON(rho=0.3))
        assert rise.clean == clean_value(model, batches, METRICS["cross-entropy"])
        found.append((rise.rise, hessian_top(model, batches), hessian_trace(model, batches, probes=2).mean))
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]
    still = x + 0.5 * draws, y
    expected = worst_case_rise(model.inner, still, SAMSON(rho=0.3)).rise, hessian_top(model.inner, still)
    assert found[0][:2] == pytest.approx(expected, rel=1e-6)
    assert worst_case_rise(model.inner, (x, y), SAMSON(rho=0.3)).rise != pytest.approx(expected[0], rel=0.01)


class Drawing:
    """Batches that are others in each pass, by numbers of numpy."""

    def __init__(self, size: float) -> None:
        self.size, self.generator = size, np.random.default_rng(0)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        x, y = make_batch()
        yield x + self.size * self.generator.random(), y


@pytest.mark.parametrize(
    "measure",
    [
        lambda model, data: worst_case_rise(model, data, SAM()),
        lambda model, data: worst_case_rise(model, data, SAM(), steps=3),
        lambda model, data: random_landscape(model, data, [0.0, 0.1]),
    ],
)
def test_data_that_change_between_passes_are_refused(measure: Callable[[nn.Module, Any], object]) -> None:
    with pytest.raises(ValueError, match="`data` must hold the same examples in every pass, got others"):
        measure(make_model(), Drawing(0.1))
    measure(make_model(), Drawing(0.0))
