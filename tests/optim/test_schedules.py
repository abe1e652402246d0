"""The radius over a training."""

import pytest
import torch

from samson import SAM, NoiseInjection, RhoSchedule, SharpnessAware, param_groups
from tests.conftest import closure_for, make_batch, make_model


def optimizer_of(rule: object = None, rho: object = None) -> tuple:
    model = make_model()
    [group] = param_groups(model)
    if rho is not None:
        group["rho"] = rho
    return model, SharpnessAware(torch.optim.SGD([group], lr=0.1), rule or SAM(rho=0.4))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("constant", [0.4] * 6),
        ("linear", [0.0, 0.1, 0.2, 0.3, 0.4, 0.4]),
        ("quadratic", [0.0, 0.025, 0.1, 0.225, 0.4, 0.4]),
        (lambda t: 1 - t / 2, [0.4, 0.35, 0.3, 0.25, 0.2, 0.2]),
    ],
)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_ramps(shape: object, expected: list[float], as_tensor: bool) -> None:
    own = torch.tensor(0.4, dtype=torch.float64) if as_tensor else None
    _, optimizer = optimizer_of(rho=own)
    schedule = RhoSchedule(optimizer, shape, steps=4)
    seen = []
    for _ in expected:
        seen.append(float(optimizer.param_groups[0]["rho"]))
        schedule.step()
    assert seen == pytest.approx(expected)
    assert (optimizer.param_groups[0]["rho"] is own) == as_tensor  # a tensor is filled, not replaced


def test_the_step_takes_the_scheduled_radius() -> None:
    model, optimizer = optimizer_of()
    schedule = RhoSchedule(optimizer, "linear", steps=2)
    lengths = []
    for _ in range(3):
        closure_for(model, optimizer, make_batch())()
        before = [p.detach().clone() for p in model.parameters()]
        with optimizer.perturbed(model):
            moves = [p.detach() - b for p, b in zip(model.parameters(), before, strict=True)]
        lengths.append(sum(m.square().sum() for m in moves).sqrt().item())
        schedule.step()
    assert lengths == pytest.approx([0.0, 0.2, 0.4])


def test_injected_noise_ramps_too() -> None:
    model, optimizer = optimizer_of(NoiseInjection(lambda w, generator: w + 1.0))
    schedule = RhoSchedule(optimizer, "quadratic", steps=2)
    weight = model[4].weight.detach().clone()
    for share in (0.0, 0.25, 1.0):
        with optimizer.perturbed(model):
            assert torch.allclose(model[4].weight, weight + share, rtol=1e-12)
        schedule.step()


def test_resuming_goes_on() -> None:
    _, optimizer = optimizer_of()
    schedule = RhoSchedule(optimizer, "linear", steps=10)
    for _ in range(4):
        schedule.step()
    _, other = optimizer_of()
    again = RhoSchedule(other, "linear", steps=10)
    again.load_state_dict(schedule.state_dict())
    assert other.param_groups[0]["rho"] == optimizer.param_groups[0]["rho"] == pytest.approx(0.16)


@pytest.mark.parametrize("by", ["wrapper", "base"])
def test_a_group_that_comes_later_has_its_own_ramp(by: str) -> None:
    model = make_model()
    optimizer = SharpnessAware(torch.optim.SGD([model[0].weight], lr=0.1), SAM(rho=0.4), model=model)
    schedule = RhoSchedule(optimizer, "linear", steps=4)
    schedule.step()
    (optimizer if by == "wrapper" else optimizer.base).add_param_group({"params": [model[4].weight]})
    schedule.step()
    optimizer.step(closure_for(model, optimizer, make_batch()))
    schedule.step()
    assert [group["rho"] for group in optimizer.param_groups] == pytest.approx([0.3, 0.3])


def test_bad_settings_are_named() -> None:
    _, optimizer = optimizer_of()
    with pytest.raises(
        ValueError, match="`shape` must be one of constant, linear, quadratic, drawn or a function, got 'cos'"
    ):
        RhoSchedule(optimizer, "cos", steps=4)
    with pytest.raises(ValueError, match="`steps` must be ≥ 1, got 0"):
        RhoSchedule(optimizer, "linear", steps=0)
    with pytest.raises(ValueError, match="`shape` must give values ≥ 0, got -1"):
        RhoSchedule(optimizer, lambda t: -1.0, steps=4)
    with pytest.raises(ValueError, match="make SharpnessAware first"):
        RhoSchedule(torch.optim.SGD(make_model().parameters(), lr=0.1), "linear", steps=4)
