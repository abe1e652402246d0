"""Lookbehind against its algorithm written out, and against `SharpnessAware` where the two are the same."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from samson import ASAM, SAM, SAMSON, Lookbehind, NoiseInjection, SharpnessAware, WeightClipping, param_groups
from samson.noise import Gaussian
from tests.conftest import closure_for, equal, make_batch, make_model, snapshot, weights_of
from tests.optim.reference import DECAY, LR, MOMENTUM, Case, Loop
from tests.optim.test_modes import agrees, every_rule


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(param_groups(model), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)


def run(case: Case, k: int, alpha: float | str, steps: int = 5) -> list[torch.Tensor]:
    model = make_model()
    optimizer = Lookbehind(sgd(model), case.rule, k, alpha)
    for seed in range(steps):
        optimizer.step(closure_for(model, optimizer, make_batch(seed=seed)))
    return [p.detach() for p in model.parameters()]


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    lengths = a.norm().item() * b.norm().item()
    return (a * b).sum().item() / lengths if lengths else 1.0


@every_rule
@pytest.mark.parametrize("alpha", [0.3, "adaptive"])
def test_it_is_the_algorithm(case: Case, alpha: float | str) -> None:
    loop = Loop()
    for i in range(5):
        batch = make_batch(seed=i)
        slow = fast = loop.w
        up = slow
        first = None
        for _ in range(3):
            loop.w = up  # ε is taken at φ′
            up = loop.climbed(case, loop.gradient(up, batch))
            loop.w = list(fast)
            loop.descend(loop.gradient(up, batch))
            fast = loop.w
            first = fast if first is None else first
        shares = [alpha] * len(slow)
        if alpha == "adaptive":
            shares = [(cosine(f - s, w - s) + 1) / 2 for s, f, w in zip(slow, first, fast, strict=True)]
        loop.w = [s + a * (w - s) for s, a, w in zip(slow, shares, fast, strict=True)]
    assert agrees(run(case, 3, alpha), loop.w, run(case, 2, alpha), run(case, 3, 1.0))


@every_rule
def test_one_step_and_no_return_is_sharpness_aware_bitwise(case: Case) -> None:
    ends = []
    for make in (
        lambda base: Lookbehind(base, case.rule, k=1, alpha=1.0),
        lambda base: SharpnessAware(base, case.rule),
        lambda base: Lookbehind(base, case.rule, k=1, alpha=0.9),
    ):
        model = make_model(torch.float32)
        optimizer = make(sgd(model))
        for seed in range(5):
            optimizer.step(closure_for(model, optimizer, make_batch(torch.float32, seed)))
        ends.append(snapshot(model))
    assert equal(ends[0], ends[1])
    assert not equal(ends[0], ends[2])


@pytest.mark.parametrize("make", [partial(Lookbehind, k=3), partial(SharpnessAware, ascent="previous")])
def test_a_base_may_write_into_the_gradients_that_it_steps_with(make: Callable[..., torch.optim.Optimizer]) -> None:
    """As torch's SGD does with Nesterov momentum in its foreach form, which it takes by itself on a GPU."""
    ends = []
    for foreach in (False, True):
        model = make_model()
        base = torch.optim.SGD(param_groups(model), lr=LR, momentum=MOMENTUM, nesterov=True, foreach=foreach)
        optimizer = make(base, SAMSON(rho=0.5))
        for seed in range(5):
            optimizer.step(closure_for(model, optimizer, make_batch(seed=seed)))
        ends.append(snapshot(model))
    assert all(torch.allclose(ends[0][name], ends[1][name], rtol=1e-12, atol=1e-14) for name in ends[0])


def test_the_previous_gradient_is_that_with_which_the_base_stepped() -> None:
    """After the base's own hooks."""
    layer = nn.Linear(4, 4, bias=False)
    base = torch.optim.SGD(param_groups(layer), lr=LR)
    base.register_step_pre_hook(lambda *_: nn.utils.clip_grad_value_(layer.parameters(), 0.1))
    optimizer = SharpnessAware(base, SAM(rho=0.5), ascent="previous")
    with optimizer.perturbed():
        layer.weight.grad = torch.full((4, 4), 5.0)
    optimizer.step()
    assert (optimizer.state[layer.weight]["previous_gradient"] == 0.1).all()


def test_k_plus_one_gradients_and_one_update_of_statistics(batch: tuple) -> None:
    model = make_model()
    optimizer = Lookbehind(sgd(model), SAMSON(rho=0.5), k=3)
    losses: list[float] = []
    loss = optimizer.step(closure_for(model, optimizer, batch, losses))
    assert len(losses) == 4
    assert loss.item() == losses[0]
    assert losses[3] > losses[1] > losses[0]  # each ascent starts where the last one ended
    assert model[1].num_batches_tracked.item() == 1
    assert optimizer.last_ascent.perturbed_loss.item() == losses[3]


def test_weights_come_back_after_an_error(batch: tuple) -> None:
    model = make_model(torch.float32)
    optimizer = Lookbehind(sgd(model), ASAM(), k=2)
    before = weights_of(model)
    calls = 0

    def closure() -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            assert not torch.equal(model[0].weight, before["0.weight"])
            raise ZeroDivisionError
        return closure_for(model, optimizer, make_batch(torch.float32))()

    with pytest.raises(ZeroDivisionError):
        optimizer.step(closure)
    assert equal({name: p.detach() for name, p in model.named_parameters()}, before)


def test_hooks_run_after_the_step(batch: tuple) -> None:
    ends = []
    for alpha in (0.5, 100.0):
        model = make_model()
        optimizer = Lookbehind(sgd(model), SAMSON(), k=2)
        optimizer.register_step_post_hook(WeightClipping(alpha))
        optimizer.step(closure_for(model, optimizer, batch))
        ends.append(model[4].weight.abs().max())
    assert ends[0] < 0.6 * ends[1]


def test_wrong_use_is_an_error(batch: tuple) -> None:
    model = make_model()
    with pytest.raises(ValueError, match="`k` must be at least 1, got 0"):
        Lookbehind(sgd(model), SAM(), k=0)
    with pytest.raises(ValueError, match="`alpha` must be between 0 and 1, or 'adaptive', got 1.5"):
        Lookbehind(sgd(model), SAM(), alpha=1.5)
    with pytest.raises(ValueError, match="`alpha` must be between 0 and 1, or 'adaptive', got 'auto'"):
        Lookbehind(sgd(model), SAM(), alpha="auto")
    with pytest.raises(TypeError, match="must be an ascent rule"):
        Lookbehind(sgd(model), NoiseInjection(Gaussian(0.1)))
    optimizer = Lookbehind(sgd(model), SAM())
    with pytest.raises(RuntimeError, match="Lookbehind needs several passes"):
        optimizer.step()
    with pytest.raises(RuntimeError, match="The closure must call `loss.backward"):
        optimizer.step(lambda: model(batch[0]).sum().detach())
    optimizer = Lookbehind(sgd(model), SAM(), k=1)
    model(batch[0]).sum().backward()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="left no gradient in the perturbed pass"):
        optimizer.step(lambda: None)  # after a backward of one's own
    assert equal(snapshot(model), before)


@pytest.mark.parametrize("alpha", [0.5, "adaptive"])
def test_frozen_parameters_are_left_alone(alpha: float | str) -> None:
    """Quantised ones, and a mask whose entries have no finite difference."""
    model = nn.Linear(3, 2)
    model.levels = nn.Parameter(torch.arange(6, dtype=torch.uint8), requires_grad=False)
    model.choice = nn.Parameter(torch.tensor([True, False]), requires_grad=False)
    model.mask = nn.Parameter(torch.tensor([-torch.inf, 0.0]), requires_grad=False)
    optimizer = Lookbehind(sgd(model), SAM(rho=0.1), alpha=alpha)
    before = snapshot(model)
    optimizer.step(closure_for(model, optimizer, (torch.ones(4, 3), torch.ones(4, dtype=torch.int64))))
    assert {name for name, p in model.named_parameters() if not torch.equal(p, before[name])} == {"weight", "bias"}


def test_a_frozen_weight_that_still_has_a_gradient_comes_back_from_the_ascent() -> None:
    """It steps with that gradient as the bare base would, and has no perturbation left in it."""
    ends = []
    for rho in (0.0, 0.3):
        model = make_model()
        optimizer = Lookbehind(sgd(model), SAM(rho=rho), k=2, alpha=1)
        frozen = model[0].weight.requires_grad_(False)
        frozen.grad = torch.ones_like(frozen)

        def closure(model: nn.Module = model) -> torch.Tensor:
            for p in model.parameters():
                p.grad = None if p.requires_grad else p.grad
            loss = nn.functional.cross_entropy(model(make_batch()[0]), make_batch()[1])
            loss.backward()
            return loss

        optimizer.step(closure)
        ends.append(frozen.clone())
    assert torch.equal(*ends)


@pytest.mark.parametrize("alpha", [0.3, "adaptive"])
def test_an_infinite_entry_stays_and_does_not_count(alpha: float | str) -> None:
    """As in a mask: a tensor with it moves as the one without it."""
    ends = []
    for start in ([1.0, -2.0, -math.inf], [1.0, -2.0]):
        p = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        optimizer = Lookbehind(torch.optim.SGD([p], lr=LR), SAM(rho=0.5), k=3, alpha=alpha)

        def closure(p: nn.Parameter = p, optimizer: Lookbehind = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss = (torch.tensor([1.0, 3.0]) * p[:2].square()).sum()
            loss.backward()
            return loss

        with pytest.warns(UserWarning, match="no model is known, so running statistics.*pass `model=` to Lookbehind"):
            optimizer.step(closure)
        ends.append(p.detach())
    assert ends[0][2] == -math.inf
    assert torch.equal(ends[0][:2], ends[1])
    assert not torch.equal(ends[1], torch.tensor([1.0, -2.0]))


def test_a_tensor_that_does_not_move_has_no_angle() -> None:
    """A parameter without gradient keeps its bits under the adaptive α: 0/0 is no NaN."""
    model = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    optimizer = Lookbehind(sgd(model), SAM(rho=0.1), k=2, alpha="adaptive")
    before = snapshot(model)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model[0](torch.ones(4, 3)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(model[1].weight, before["1.weight"])
    assert not torch.equal(model[0].weight, before["0.weight"])
    assert all(math.isfinite(p.sum().item()) for p in model.parameters())


def test_a_tensor_without_a_first_step_goes_the_whole_way() -> None:
    """Under the adaptive α no angle is known where the gradient comes with the second descent only."""
    model = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)]).double()
    optimizer = Lookbehind(torch.optim.SGD(param_groups(model), lr=LR), SAM(rho=0.1), k=2, alpha="adaptive")
    before = snapshot(model)
    passes, seen = 0, torch.zeros(())

    def closure() -> torch.Tensor:
        nonlocal passes, seen
        optimizer.zero_grad()
        passes += 1
        x = torch.ones(4, 3, dtype=torch.float64)
        loss = model[0](x).square().mean() + (model[1](x).square().mean() if passes == 3 else 0.0)
        loss.backward()
        seen = seen if passes < 3 else model[1].weight.grad.clone()
        return loss

    optimizer.step(closure)
    assert torch.allclose(model[1].weight, before["1.weight"] - LR * seen, rtol=1e-12)
