"""What every ascent rule promises, checked for each row of the catalogue against a reference written without torch."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samson import ASAM, SAM, SAMSON, SharpnessAware, param_groups
from samson.optim import (
    RULES,
    Part,
    Rule,
    ScalingRule,
    Workspace,
    check_rule,
    climb,
    compiled_climb,
    scales,
)
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


@pytest.mark.parametrize("fused", [True, False])
@every_case
def test_each_rule_keeps_the_contract(case: Case, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fused:  # torch's fused kernel away, as on a device that has none
        monkeypatch.setattr("samson.optim._ascent._fusable", lambda *_: False)
    random_state = torch.get_rng_state()
    check_rule(case.rule, case.scale)
    assert torch.equal(torch.get_rng_state(), random_state)


@every_case
def test_each_rule_takes_complex_weights(case: Case) -> None:
    """As the contract does not ask of a rule of one's own; it compares their T."""
    if not isinstance(case.rule, SAM):
        w = torch.randn(3, 4, dtype=torch.complex128)
        [t] = case.rule.scale([w], lambda tensors, p: [torch.linalg.vector_norm(t, p) for t in tensors])
        assert np.allclose(t.numpy(), case.scale("weight", w.numpy()), rtol=1e-12)


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


def test_samson_leaves_a_tensor_of_zeros_where_it_is(model: nn.Sequential, batch: tuple) -> None:
    nn.init.zeros_(model[1].weight)
    optimizer = wrapped(model, SAMSON())
    closure_for(model, optimizer, batch)()
    with optimizer.perturbed(model):
        assert not model[1].weight.any()


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
