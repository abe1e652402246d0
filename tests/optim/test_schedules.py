"""The radius over a training."""

import math
from pathlib import Path

import numpy as np
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


def shares(count: int, seed: int = 0, steps: int = 10, start: int = 0) -> list[float]:
    """The drawn shares of the full radius, step after step."""
    _, optimizer = optimizer_of()
    schedule = RhoSchedule(optimizer, "drawn", steps=steps, seed=seed)
    schedule.load_state_dict({"done": start, "full": [0.4]})
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["rho"] / 0.4)
        schedule.step()
    return found


def test_a_drawn_strength_depends_on_seed_and_step_alone() -> None:
    """Not on the training's length, on what went before, or on global random state, which stays as it is."""
    one = shares(30)
    assert shares(30) == shares(30, steps=3) == one
    assert shares(10, start=20) == one[20:]
    _, optimizer = optimizer_of()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    schedule = RhoSchedule(optimizer, "drawn", steps=10)
    schedule.step()
    assert optimizer.param_groups[0]["rho"] / 0.4 == one[1]
    assert torch.equal(torch.get_rng_state(), state)
    assert len({*one}) == 30  # another for each step, also behind the last
    assert not {*one} & {*shares(30, seed=1)}
    assert not {*shares(30, seed=1)} & {*shares(30, seed=11)}  # seed and step are not written into one number


def test_drawn_strengths_are_uniform() -> None:
    """Moments within 5 standard errors, and none of neighbouring steps or seeds tells of the other."""
    n = 20_000

    def uniform(found: list[float]) -> bool:
        u = torch.tensor(found, dtype=torch.float64)
        assert ((u >= 0) & (u < 1)).all()
        close = True
        for power in (1, 2, 3, 4):  # E u^k = 1/(k + 1)
            error = math.sqrt((1 / (2 * power + 1) - 1 / (power + 1) ** 2) / n)
            close &= abs(float((u**power).mean()) - 1 / (power + 1)) < 5 * error
        cells = torch.histc(u, 10, 0.0, 1.0)
        return close and bool(((cells - n / 10).abs() < 5 * math.sqrt(n * 0.09)).all())

    one, other = shares(n), shares(n, seed=1)
    assert uniform(one)
    assert uniform(other)
    u, v = (torch.tensor(found, dtype=torch.float64) - 0.5 for found in (one, other))
    for a, b in ((u[1:], u[:-1]), (u, v), (u[1:], v[:-1]), (u[:-1], v[1:])):
        assert abs(float((a * b).mean())) * 12 < 5 / math.sqrt(n)
    assert not uniform([share**1.05 for share in one])  # the checks can fail
    assert abs(float((u * (u + 0.1 * v)).mean())) * 12 > 5 / math.sqrt(n)


@pytest.mark.parametrize("shape", ["quadratic", "drawn"])
def test_injected_noise_has_the_strength_of_the_step(shape: str) -> None:
    model, optimizer = optimizer_of(NoiseInjection(lambda w, generator: w + 1.0))
    schedule = RhoSchedule(optimizer, shape, steps=2, seed=5)
    weight = model[4].weight.detach().clone()
    for share in (0.0, 0.25, 1.0) if shape == "quadratic" else shares(4, seed=5):
        with optimizer.perturbed(model):
            assert torch.allclose(model[4].weight, weight + share, rtol=1e-12)
        schedule.step()


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_drawn_strength_is_that_of_the_step_in_every_group(as_tensor: bool) -> None:
    model = make_model()
    full = [torch.tensor(r, dtype=torch.float64) if as_tensor else r for r in (0.4, 0.1)]
    groups = [
        {"params": [model[0].weight], "rho": full[0]},
        {"params": [model[4].weight], "rho": full[1]},
    ]
    optimizer = SharpnessAware(torch.optim.SGD(groups, lr=0.1), SAM(), model=model)
    schedule = RhoSchedule(optimizer, "drawn", steps=4, seed=3)
    for share in shares(6, seed=3):
        rho = [float(group["rho"]) for group in optimizer.param_groups]
        assert rho == pytest.approx([0.4 * share, 0.1 * share], rel=1e-12)
        assert (optimizer.param_groups[0]["rho"] is full[0]) == as_tensor
        closure_for(model, optimizer, make_batch())()
        before = model[4].weight.detach().clone()
        g = [model[i].weight.grad.clone() for i in (0, 4)]
        norm = sum(one.square().sum() for one in g).sqrt()
        with optimizer.perturbed(model):
            step = model[4].weight.detach() - before
        assert torch.allclose(step, 0.1 * share * g[1] / norm, rtol=1e-9, atol=1e-14)
        optimizer.zero_grad()
        schedule.step()


def test_a_rule_with_a_tensor_serves_several_optimizers() -> None:
    """Its tensor is where each group starts, and no group's own, which a schedule fills."""
    rule = SAM(rho=torch.tensor(0.4, dtype=torch.float64))
    models = [make_model() for _ in range(2)]
    bases = [torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=0.1) for model in models]
    first, second = (SharpnessAware(base, rule, model=model) for base, model in zip(bases, models, strict=True))
    RhoSchedule(first, "linear", steps=4).step()
    first.param_groups[0]["rho"].fill_(0.7)
    assert [float(group["rho"]) for group in first.param_groups[:2]] == pytest.approx([0.7, 0.1])
    assert {float(group["rho"]) for group in second.param_groups} == {0.4}
    assert float(rule.rho) == 0.4


def test_resuming_draws_what_would_have_come() -> None:
    _, optimizer = optimizer_of()
    schedule = RhoSchedule(optimizer, "drawn", steps=10, seed=2)
    for _ in range(4):
        schedule.step()
    state, saved = schedule.state_dict(), optimizer.state_dict()
    _, other = optimizer_of()
    again = RhoSchedule(other, "drawn", steps=10, seed=2)
    other.load_state_dict(saved)
    again.load_state_dict(state)
    for share in shares(5, seed=2, start=4):
        for one, its in ((schedule, optimizer), (again, other)):
            assert its.param_groups[0]["rho"] == pytest.approx(0.4 * share, rel=1e-12)
            one.step()


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_second_schedule_starts_from_the_full_radius(as_tensor: bool) -> None:
    """Also after a checkpoint, and from a `rho` that was set by hand after the first one."""
    own = [torch.tensor(0.4) for _ in range(2)] if as_tensor else [None, None]
    _, optimizer = optimizer_of(rho=own[0])
    RhoSchedule(optimizer, "quadratic", steps=2)
    _, other = optimizer_of(rho=own[1])
    other.load_state_dict(optimizer.state_dict())
    for one in (optimizer, other):
        RhoSchedule(one, "linear", steps=2).step()
        assert float(one.param_groups[0]["rho"]) == pytest.approx(0.2)
    optimizer.param_groups[0]["rho"] = 0.1
    RhoSchedule(optimizer, "linear", steps=2).step()
    assert optimizer.param_groups[0]["rho"] == pytest.approx(0.05)
    optimizer.param_groups[0]["rho"] = 0.0
    with pytest.warns(UserWarning, match="the full `rho` of every group is 0"):
        RhoSchedule(optimizer, "linear", steps=2)


def test_another_rule_forgets_the_ramp() -> None:
    _, optimizer = optimizer_of()
    RhoSchedule(optimizer, "linear", steps=4).step()
    again = SharpnessAware(optimizer.base, NoiseInjection(lambda w, generator: w + 1.0, rho=0.1))
    RhoSchedule(again, "constant", steps=4)
    assert again.param_groups[0]["rho"] == 0.1


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


def test_groups_that_come_by_the_base_keep_their_own_radii() -> None:
    """Also where the first of them has none before a step, and the second has one."""
    model = make_model()
    optimizer = SharpnessAware(torch.optim.SGD([model[0].weight], lr=0.1), SAM(rho=0.4), model=model)
    schedule = RhoSchedule(optimizer, "linear", steps=4)
    for group in ({"params": [model[1].weight]}, {"params": [model[4].weight], "rho": 0.8}):
        optimizer.base.add_param_group(group)
    schedule.step()
    assert [group.get("rho") for group in optimizer.param_groups] == [0.1, None, 0.2]
    optimizer.step(closure_for(model, optimizer, make_batch()))
    schedule.step()
    schedule.load_state_dict(schedule.state_dict())
    assert [group["rho"] for group in optimizer.param_groups] == [0.2, 0.2, 0.4]


def test_a_radius_of_numpy_is_a_plain_number_in_the_state(tmp_path: Path) -> None:
    """Which `torch.load` else refuses as unsafe."""
    _, optimizer = optimizer_of(SAM(rho=np.float64(0.4)))
    for shape in (None, lambda t: np.float64(0.5)):
        schedule = shape and RhoSchedule(optimizer, shape, steps=np.int64(4))
        torch.save(optimizer.state_dict(), tmp_path / "state.pt")
        [group] = torch.load(tmp_path / "state.pt", weights_only=True)["param_groups"]
        assert group["rho"] == (0.4 if schedule is None else 0.2)
    assert repr(schedule) == "RhoSchedule: 0 of 4 steps done, rho 0.2"


def test_bad_settings_are_named() -> None:
    _, optimizer = optimizer_of()
    with pytest.raises(
        ValueError, match="`shape` must be one of constant, linear, quadratic, drawn or a function, got 'cos'"
    ):
        RhoSchedule(optimizer, "cos", steps=4)
    with pytest.raises(ValueError, match="`steps` must be ≥ 1, got 0"):
        RhoSchedule(optimizer, "linear", steps=0)
    with pytest.raises(ValueError, match="`steps` must be a number, got '4'"):
        RhoSchedule(optimizer, "linear", steps="4")
    for bad in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"`shape` must give values ≥ 0, got {bad}"):
            RhoSchedule(optimizer, lambda t, bad=bad: bad, steps=4)
    with pytest.raises(ValueError, match="make SharpnessAware first"):
        RhoSchedule(torch.optim.SGD(make_model().parameters(), lr=0.1), "linear", steps=4)
