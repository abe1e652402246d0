"""Mixed precision: autocast regions, gradient scaling, accumulation and clipping, each against the plain loop."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from samson import SAM, SAMSON, Lookbehind, NoiseInjection, SharpnessAware, param_groups
from samson.noise import Gaussian
from tests.conftest import closure_for, equal, make_batch, make_model, snapshot


def pair(dtype: torch.dtype = torch.float32, rho: float = 0.5) -> tuple[nn.Sequential, SharpnessAware]:
    model = make_model(dtype)
    return model, SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1, momentum=0.9), SAMSON(rho=rho))


def loss_of(model: nn.Module, batch: tuple) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch[0]).float(), batch[1])


def autocast() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda base: SharpnessAware(base, SAMSON(rho=0.5)),
        lambda base: Lookbehind(base, SAMSON(rho=0.5)),
        lambda base: SharpnessAware(base, NoiseInjection(Gaussian(0.3)), mix=0.5),
    ],
    ids=["ascent", "lookbehind", "injection"],
)
def test_a_closure_may_run_inside_autocast(wrap: Callable[[torch.optim.Optimizer], torch.optim.Optimizer]) -> None:
    """Whose cache of casts would give each pass the weights of the one before."""
    ends = []
    for around in (True, False):
        model = make_model(torch.float32)
        optimizer = wrap(torch.optim.SGD(param_groups(model), lr=0.1, momentum=0.9))

        def closure(model=model, optimizer=optimizer, around=around) -> torch.Tensor:
            optimizer.zero_grad()
            with autocast() if not around else torch.enable_grad():
                loss = loss_of(model, make_batch(torch.float32))
            loss.backward()
            return loss

        with autocast() if around else torch.enable_grad():
            for _ in range(3):
                optimizer.step(closure)
        ends.append(snapshot(model))
    assert equal(*ends)


def scaled_steps(scale: float, batches: list, unscale: bool = False, clip: float | None = None) -> dict:
    model, optimizer = pair(torch.float64)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale != 1)
    for batch in batches:
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch)).backward()
        with optimizer.perturbed(model):
            scaler.scale(loss_of(model, batch)).backward()
        if unscale:
            scaler.unscale_(optimizer)
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
    return snapshot(model)


def close(one: dict, other: dict, tolerance: float = 1e-12) -> bool:
    return all(torch.allclose(one[k].double(), other[k].double(), rtol=0, atol=tolerance) for k in one)


@pytest.mark.parametrize("unscale", [False, True])
def test_gradient_scaling_changes_nothing(unscale: bool) -> None:
    batches = [make_batch(seed=seed) for seed in range(4)]
    scaled, plain = scaled_steps(2.0**12, batches, unscale), scaled_steps(1.0, batches)
    assert close(scaled, plain)
    assert not close(plain, scaled_steps(1.0, batches[:3]), 1e-3)


def test_a_step_that_the_scaler_skips_is_repeated_well() -> None:
    model, optimizer = pair(torch.float64)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = snapshot(model)
    for bad in (True, False):
        loss_of(model, make_batch()).backward()
        with optimizer.perturbed(model):
            scaler.scale(loss_of(model, make_batch())).backward()
            if bad:
                model[4].weight.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        same = all(torch.equal(p, before[name]) for name, p in model.named_parameters())
        assert same == bad
        model.zero_grad()
    assert scaler.get_scale() == 2.0


def test_gradients_unscaled_too_early_are_refused() -> None:
    model, optimizer = pair()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    batch = make_batch(torch.float32)
    scaler.scale(loss_of(model, batch)).backward()
    scaler.unscale_(optimizer)
    with optimizer.perturbed(model):
        scaler.scale(loss_of(model, batch)).backward()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="only after the `with optimizer.perturbed"):
        scaler.step(optimizer)
    assert equal(snapshot(model), before)
    scaler.update()
    model.zero_grad()  # and the next step is a new one, whatever clears the gradients
    scaler.scale(loss_of(model, batch)).backward()
    with optimizer.perturbed(model):
        scaler.scale(loss_of(model, batch)).backward()
    scaler.step(optimizer)


@pytest.mark.parametrize("kind", [SharpnessAware, Lookbehind])
def test_a_closure_and_a_scaler_are_refused(kind: type) -> None:
    model = make_model(torch.float32)
    optimizer = kind(torch.optim.SGD(param_groups(model), lr=0.1), SAM())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = scaler.scale(loss_of(model, make_batch(torch.float32)))
        loss.backward()
        return loss

    closure()
    with pytest.raises(RuntimeError, match="give no closure to `scaler.step`"):
        scaler.step(optimizer, closure)  # past the scaler's own check, which sees keywords alone
    with pytest.raises(RuntimeError, match="[Cc]losure"):
        scaler.step(optimizer, closure=closure)


@pytest.mark.parametrize(
    "wrap", [lambda base: SharpnessAware(base, SAMSON(), every=2), lambda base: Lookbehind(base, SAM())]
)
def test_a_step_after_a_refusal_or_a_question_is_a_new_one(wrap: Callable) -> None:
    """Trainers ask for `_step_supports_amp_scaling` too, when they clip in a closure."""
    model = make_model(torch.float32)
    optimizer = wrap(torch.optim.SGD(param_groups(model), lr=0.1))
    closure = closure_for(model, optimizer, make_batch(torch.float32))

    def asking() -> torch.Tensor:
        assert not optimizer._step_supports_amp_scaling
        return closure()

    assert not optimizer._step_supports_amp_scaling
    with pytest.raises(RuntimeError, match="give no closure"):
        optimizer.step(closure)
    for _ in range(3):
        optimizer.step(asking)
    assert "_scaler_steps" not in optimizer.__getstate__() | optimizer.state_dict()


def test_a_fused_base_does_not_show_through() -> None:
    model = make_model(torch.float32)
    base = torch.optim.SGD(param_groups(model), lr=0.1, fused=True)
    assert base._step_supports_amp_scaling
    assert not SharpnessAware(base, SAM())._step_supports_amp_scaling


def accumulated(micro: int, perturbed_whole: bool = True) -> dict:
    """The mean loss over 12 examples in `micro` parts, on a network without batch norm."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1, momentum=0.9), SAMSON(rho=0.5))

    def passes(batch: tuple, parts: int) -> None:
        for x, y in zip(batch[0].chunk(micro)[:parts], batch[1].chunk(micro)[:parts], strict=True):
            (loss_of(model, (x, y)) / micro).backward()

    for seed in range(4):
        batch = make_batch(seed=seed, size=12)
        optimizer.zero_grad()
        passes(batch, micro)
        with optimizer.perturbed(model):
            passes(batch, micro if perturbed_whole else 1)
        optimizer.step()
    return snapshot(model)


def test_the_ascent_is_along_the_accumulated_gradient() -> None:
    assert close(accumulated(3), accumulated(1), 1e-7)  # the loss is float32
    assert not close(accumulated(3, perturbed_whole=False), accumulated(1), 1e-3)


def test_clipping_acts_on_the_second_gradient() -> None:
    """By hand: the step of plain SGD with the perturbed gradient, clipped."""
    model, optimizer = pair(torch.float64, rho=0.3)
    optimizer.param_groups[0]["momentum"] = 0.0
    batch = make_batch()
    before = snapshot(model)
    loss_of(model, batch).backward()
    with optimizer.perturbed(model):
        loss_of(model, batch).backward()
    g = {name: p.grad.clone() for name, p in model.named_parameters()}
    length = sum(v.square().sum() for v in g.values()).sqrt()
    nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    optimizer.step()
    assert length > 0.02
    for name, p in model.named_parameters():
        assert torch.allclose(p, before[name] - 0.1 * 0.01 / (length + 1e-6) * g[name], rtol=1e-9)
    batches = [make_batch(seed=seed) for seed in range(3)]
    assert close(scaled_steps(2.0**10, batches, unscale=True, clip=0.05), scaled_steps(1.0, batches, clip=0.05))
    assert not close(scaled_steps(1.0, batches, clip=0.05), scaled_steps(1.0, batches), 1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_warn(dtype: torch.dtype) -> None:
    model = nn.Linear(4, 4).to(dtype)
    with pytest.warns(UserWarning, match="half-precision weights absorb"):
        SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), SAM())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups = [
            {"params": list(model.parameters()), "perturb": False},
            {"params": list(nn.Linear(2, 2).parameters())},
        ]
        SharpnessAware(torch.optim.SGD(groups, lr=0.1), SAM())
