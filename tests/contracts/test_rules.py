"""What every ascent rule promises, checked for each row of the catalogue against a reference written without torch."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from samson import ASAM, SAM, SAMSON, SharpnessAware, param_groups
from samson.optim import RULES, Part, Rule, ScalingRule, Workspace, climb, compiled_climb, scales
from tests.conftest import closure_for, equal, make_batch, make_model, snapshot
from tests.optim.reference import CASES, DECAY, LR, MOMENTUM, Case, Loop, Switching, apart

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def test_each_rule_of_the_catalogue_has_a_case() -> None:
    assert {type(case.rule) for case in CASES.values()} == set(RULES.values())


def wrapped(model: nn.Module, rule: Rule, lr: float = LR) -> SharpnessAware:
    return SharpnessAware(torch.optim.SGD(param_groups(model), lr=lr, momentum=MOMENTUM, weight_decay=DECAY), rule)


@every_case
def test_twenty_steps_equal_the_reference(case: Case) -> None:
    batches = [make_batch(seed=seed) for seed in range(20)]

    def reference(rho: float) -> list[Tensor]:
        loop = Loop()
        for batch in batches:
            loop.descend(loop.gradient(loop.climbed(case, loop.gradient(loop.w, batch), rho), batch))
        return loop.w

    model = make_model()
    optimizer = wrapped(model, case.rule)
    for batch in batches:
        optimizer.step(closure_for(model, optimizer, batch))
    found = list(model.parameters())
    assert apart(found, reference(case.rule.rho)) < 1e-10
    # The check can fail: plain SGD, or another radius, is somewhere else.
    assert apart(found, reference(0.0)) > 1e-4
    assert apart(found, reference(2 * case.rule.rho)) > 1e-4


def perturbation(model: nn.Module, optimizer: SharpnessAware) -> dict[str, np.ndarray]:
    before = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    with optimizer.perturbed(model):
        return {name: p.detach().numpy() - before[name] for name, p in model.named_parameters()}


@every_case
def test_the_perturbation_lies_on_the_ball(case: Case, model: nn.Sequential, batch: tuple) -> None:
    weights = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    optimizer = wrapped(model, case.rule)
    closure_for(model, optimizer, batch)()
    steps = perturbation(model, optimizer)
    total = 0.0
    for name, step in steps.items():
        t = np.broadcast_to(case.scale(name, weights[name]), step.shape)
        assert (step[t == 0] == 0).all()
        total += ((step[t > 0] / t[t > 0]) ** 2).sum()
    assert math.sqrt(total) == pytest.approx(case.rule.rho, rel=1e-9)


@every_case
def test_radius_zero_is_the_base_optimizer_bitwise(case: Case) -> None:
    results = []
    for rule in (replace(case.rule, rho=0.0), None, case.rule):
        model = make_model(torch.float32)
        base = torch.optim.SGD(param_groups(model), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
        optimizer = base if rule is None else SharpnessAware(base, rule)
        for seed in range(5):
            optimizer.step(closure_for(model, optimizer, make_batch(torch.float32, seed)))
        results.append(snapshot(model))
    assert equal(results[0], results[1])
    assert not equal(results[2], results[1])


@every_case
def test_learning_rate_zero_leaves_the_weights_alone(case: Case) -> None:
    for passes in (0, 1):
        model = Switching(passes)
        before = snapshot(model)
        optimizer = wrapped(model, case.rule, lr=0.0)
        x, y = torch.randn(8, 4), torch.randint(3, (8,))
        for _ in range(3):
            optimizer.step(closure_for(model, optimizer, (x, y)))
        assert equal(snapshot(model), before)


@every_case
def test_weights_come_back_bitwise_also_after_an_error(case: Case) -> None:
    model = make_model(torch.float32)
    batch = make_batch(torch.float32)
    optimizer = wrapped(model, case.rule)
    before = snapshot(model)
    calls = 0

    def closure() -> torch.Tensor:
        nonlocal calls
        calls += 1
        loss = closure_for(model, optimizer, batch)()
        if calls == 2:
            moved = {n for n, p in snapshot(model).items() if not torch.equal(p, before[n])}
            expected = {n for n, p in model.named_parameters() if np.any(case.scale(n, p.detach().numpy()))}
            assert moved & {n for n, _ in model.named_parameters()} - {"0.bias"} == expected - {
                "0.bias"
            }  # before a batch norm: no gradient but rounding
            raise ZeroDivisionError
        return loss

    with pytest.raises(ZeroDivisionError):
        optimizer.step(closure)
    parameters = dict(model.named_parameters())
    assert equal({n: p.detach() for n, p in parameters.items()}, {n: before[n] for n in parameters})
    optimizer.step(closure_for(model, optimizer, batch))  # and the optimizer works on


def parts_of(rule: Rule, weights: list[torch.Tensor], fast: bool = True) -> list[Part]:
    """The first weight is scaled, where the rule scales at all; the others are not."""
    first = 0 if isinstance(rule, SAM) else 1
    return [
        Part(rule, rule.rho, scaled, some, [w.grad for w in some], Workspace(some, scaled and fast))
        for some, scaled in ((weights[:first], True), (weights[first:], False))
        if some
    ]


@every_case
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64])
@pytest.mark.parametrize("fast", [True, False])
def test_a_norm_that_is_not_finite_gives_no_perturbation(
    case: Case, bad: float, dtype: torch.dtype, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fast:  # torch's fused kernel away, as on a device that has none
        monkeypatch.setattr("samson.optim._ascent._fusable", lambda *_: False)
    weights = [torch.randn(3, 4).to(dtype).requires_grad_() for _ in range(2)]
    for value in (1.0, bad, 1.0):
        before = [w.detach().clone() for w in weights]
        for w in weights:
            w.grad = torch.ones_like(w)
        weights[0].grad[0, 0] = value
        climb(parts_of(case.rule, weights, fast))
        assert [torch.equal(w, b) for w, b in zip(weights, before, strict=True)] == [not math.isfinite(value)] * 2


@every_case
def test_the_climb_never_waits_for_the_device(case: Case) -> None:
    with FakeTensorMode():
        weights = [torch.randn(3, 4).requires_grad_() for _ in range(3)]
        for w in weights:
            w.grad = torch.randn(3, 4)
        climb(parts_of(case.rule, weights))
        with pytest.raises(Exception, match="_local_scalar_dense"):  # it would be noticed
            weights[0].sum().item()


@every_case
def test_a_tensor_of_zeros_stays_finite(case: Case) -> None:
    model = make_model()
    nn.init.zeros_(model[1].weight)
    batch = make_batch()
    optimizer = wrapped(model, case.rule)
    closure_for(model, optimizer, batch)()
    steps = perturbation(model, optimizer)
    assert all(np.isfinite(step).all() for step in steps.values())
    if isinstance(case.rule, SAMSON) and case.rule.policy == "authors":
        assert (steps["1.weight"] == 0).all()
    assert any((step != 0).any() for step in steps.values())


@every_case
def test_complex_weights_use_the_modulus(case: Case) -> None:
    weight = torch.randn(3, 4, dtype=torch.complex128).requires_grad_()
    weight.grad = torch.randn(3, 4, dtype=torch.complex128)
    w, g = weight.detach().numpy().copy(), weight.grad.numpy().copy()
    climb(parts_of(case.rule, [weight]))
    t = case.scale("weight", w)
    expected = w + case.rule.rho * t**2 * g / np.sqrt((np.abs(t * g) ** 2).sum())
    assert np.abs(weight.detach().numpy() - expected).max() < 1e-12


def test_samson_scale_does_not_change_when_a_layer_is_rescaled() -> None:
    w = torch.randn(4, 5, dtype=torch.float64)
    for rule, factor in ((SAMSON(eta=0.0), 1), (SAMSON(eta=0.0, p=2), 1), (ASAM(eta=0.0), 4)):
        [one], [four] = scales(rule, [("weight", w)]), scales(rule, [("weight", 4 * w)])
        assert torch.allclose(factor * one, four, rtol=1e-12)


@pytest.mark.parametrize(("eta", "low", "high"), [(0.0, 0.0, 1.0), (0.01, 100.0, 101.0)])
def test_weights_near_zero_move_by_the_radius_only_without_eta(eta: float, low: float, high: float) -> None:
    """With max|w| = 1e-4, T lies between η/max|w| and 1 + η/max|w|; ‖ε‖ = ρ·‖T²∘g‖/‖T∘g‖ lies between these times ρ."""
    weight = 1e-4 * torch.linspace(-1.0, 1.0, 12, dtype=torch.float64)
    weight.grad, before = torch.randn_like(weight), weight.clone()
    rule = SAMSON(rho=0.5, eta=eta)
    climb([Part(rule, rule.rho, True, [weight], [weight.grad], Workspace([weight], True))])
    assert low * rule.rho < (weight - before).norm() <= high * rule.rho


@every_case
def test_scales_of_named_weights(case: Case, model: nn.Sequential) -> None:
    for (name, w), t in zip(model.named_parameters(), scales(case.rule, model.named_parameters()), strict=True):
        assert np.allclose(t.numpy(), case.scale(name, w.detach().numpy()), rtol=1e-12)
    if isinstance(case.rule, ScalingRule):
        with pytest.raises(ValueError, match="would silently be SAM"):
            scales(replace(case.rule, policy="authors"), [("bias", torch.ones(2))])


@pytest.mark.parametrize("base", [ScalingRule, ASAM, SAMSON])
def test_the_scale_of_a_subclass_is_the_one_that_is_taken(base: type[ScalingRule]) -> None:
    """On the path by blocks, on the compiled one and on the plain one, whatever fast form the subclass inherits."""

    @dataclass(frozen=True)
    class RootASAM(base):
        def scale(self, weights, norms):
            return [(w.abs() + self.eta).sqrt() for w in weights]

    assert {f.name: f.default for f in fields(RootASAM)}["rho"] == RootASAM().rho == 0.5  # the command line lists these
    rule = RootASAM(eta=0.3)
    for move, fast in ((climb, True), (climb, False), (compiled_climb(), True)):
        w, g = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
        t = (w.abs() + 0.3).sqrt()
        expected = w + rule.rho * t**2 * g / (t * g).norm()
        move([Part(rule, rule.rho, True, [w], [g], Workspace([w], fast))], False)
        assert torch.allclose(w, expected, rtol=1e-12)


def test_a_high_order_does_not_underflow() -> None:
    """In float32, .05 to the power of 40 is 0, and the tensor would be left where it is."""
    weight = torch.full((64,), 0.05).requires_grad_()
    weight.grad = torch.ones(64)
    rule = SAMSON(rho=0.1, p=40, eta=0.0)
    climb([Part(rule, rule.rho, True, [weight], [weight.grad], Workspace([weight], True))])
    assert torch.allclose(weight - 0.05, torch.full((64,), 0.1 * 64**-0.5 * 64 ** (-1 / 40)), rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SAM(rho=-0.1), "`rho` must be ≥ 0"),
        (lambda: SAM(rho=math.nan), "`rho` must be ≥ 0"),
        (lambda: ASAM(eta=-1.0), "`eta` must be ≥ 0"),
        (lambda: SAMSON(p=0.5), "`p` must be ≥ 1"),
        (lambda: SAMSON(policy="some"), "`policy` must be one of authors, matrices, all, got 'some'"),
    ],
)
def test_bad_settings_are_named(make: Callable[[], Rule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
