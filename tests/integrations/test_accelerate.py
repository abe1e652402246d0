"""Accelerate: the perturbed pass through a prepared optimizer, with accumulation, clipping and a gradient scaler."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

pytest.importorskip("accelerate")

from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer

from samson import SAM, Lookbehind, SharpnessAware
from samson.evaluation import evaluate
from samson.experiments import Run, SetupError, trained
from samson.integrations.accelerate import perturbed, sharpness_aware, step, unwrapped
from samson.noise import Gaussian
from tests.conftest import closure_for, equal, loss_of, make_batch, make_model, snapshot
from tests.experiments.test_training import images, planned
from tests.integrations.plain import (
    MODES,
    close,
    plain_loop,
    schedule_free,
    schedule_free_weights,
    sgd,
    sharp,
)
from tests.optim.test_settings import Modal

BATCHES = [make_batch(torch.float32, seed) for seed in range(7)]


def by_hand(factory: Callable[[nn.Module], Any], accumulate: int = 1, clip: float | None = None) -> dict[str, Tensor]:
    model = make_model(torch.float32)
    clipping = None if clip is None else lambda: nn.utils.clip_grad_norm_(model.parameters(), clip)
    plain_loop(model, factory(model), BATCHES, loss_of, accumulate, clipping)
    return snapshot(model)


def with_accelerate(mode: str, accumulate: int, clip: float | None = None, again: int | None = None) -> nn.Module:
    """The loop of `perturbed`'s docstring; `again` repeats only the last micro-batches, which is wrong."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    plain = make_model(torch.float32)
    model, optimizer, loader = accelerator.prepare(plain, sharp(plain, mode), DataLoader(BATCHES, batch_size=None))
    inner, kept = sharpness_aware(optimizer), []
    for batch in loader:
        with accelerator.accumulate(model):
            kept.append(batch)
            if inner.needs_first_pass or not inner.climbs:
                accelerator.backward(loss_of(model, batch))
            if accelerator.sync_gradients:
                if inner.climbs:
                    with perturbed(optimizer, model):
                        for x in kept[-again:] if again else kept:
                            accelerator.backward(loss_of(model, x))
                if clip is not None:
                    accelerator.clip_grad_norm_(model.parameters(), clip)
                kept.clear()
            optimizer.step()
            optimizer.zero_grad()
    return plain


@pytest.mark.parametrize(("mode", "accumulate"), [*((mode, 3) for mode in MODES), ("two passes", 1)])
def test_the_perturbed_pass_equals_the_plain_loop(mode: str, accumulate: int) -> None:
    found = snapshot(with_accelerate(mode, accumulate))
    assert equal(found, by_hand(lambda model: sharp(model, mode), accumulate))
    assert not equal(found, by_hand(sgd, accumulate))


def test_the_comparison_sees_a_loop_that_repeats_one_micro_batch() -> None:
    assert not equal(snapshot(with_accelerate("two passes", 3, again=1)), by_hand(sharp, 3))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_clipping_acts_on_the_second_gradient(accumulate: int) -> None:
    found = snapshot(with_accelerate("two passes", accumulate, clip=0.05))
    assert equal(found, by_hand(sharp, accumulate, clip=0.05))
    assert not equal(found, by_hand(sharp, accumulate))


def lookbehind(model: nn.Module) -> Lookbehind:
    return Lookbehind(sgd(model), SAM(), k=2)


@pytest.mark.parametrize(("factory", "passes"), [(sharp, 2), (lookbehind, 3), (sgd, 1)])
def test_the_closure_form_is_that_of_the_bare_optimizer(factory: Callable[[nn.Module], Any], passes: int) -> None:
    accelerator = Accelerator(cpu=True)
    plain, bare = make_model(torch.float32), make_model(torch.float32)
    model, optimizer = accelerator.prepare(plain, factory(plain))
    losses: list[float] = []
    clean = [step(optimizer, closure_for(model, optimizer, batch, losses)).item() for batch in BATCHES]
    alone = factory(bare)
    for batch in BATCHES:
        alone.step(closure_for(bare, alone, batch))
    assert equal(snapshot(plain), snapshot(bare))
    assert clean == losses[::passes]
    assert equal(snapshot(plain), by_hand(sharp)) == (factory is sharp)


def test_accumulation_needs_the_whole_step() -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=3)
    plain = make_model(torch.float32)
    model, optimizer = accelerator.prepare(plain, sharp(plain))
    before = snapshot(plain)["4.weight"]
    with accelerator.accumulate(model):
        accelerator.backward(loss_of(model, BATCHES[0]))
        with (
            pytest.raises(RuntimeError, match=r"does not complete a step.*if accelerator.sync_gradients"),
            perturbed(optimizer, model),
        ):
            pytest.fail("entered")
        with pytest.raises(RuntimeError, match=r"closure at a micro-batch that does not complete a step"):
            step(optimizer, closure_for(model, optimizer, BATCHES[0]))
    assert torch.equal(plain[4].weight, before)


def scaled(factory: Callable[[nn.Module], Any] = sharp) -> tuple[nn.Module, AcceleratedOptimizer, torch.amp.GradScaler]:
    """What `prepare` makes with mixed_precision="fp16", which Accelerate refuses on a CPU."""
    Accelerator(cpu=True)
    model, scaler = make_model(torch.float32), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    return model, AcceleratedOptimizer(factory(model), scaler=scaler), scaler


def test_a_gradient_scaler_goes_with_the_perturbed_pass() -> None:
    model, optimizer, scaler = scaled()
    for batch in BATCHES:
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch)).backward()
        with perturbed(optimizer, model):
            scaler.scale(loss_of(model, batch)).backward()
        scaler.unscale_(optimizer.optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        assert not optimizer.step_was_skipped
    assert equal(snapshot(model), by_hand(sharp, clip=0.05))  # the scale is a power of two


def test_an_overflow_in_the_second_pass_skips_the_step() -> None:
    model, optimizer, scaler = scaled()
    before = snapshot(model)
    scaler.scale(loss_of(model, BATCHES[0])).backward()
    with perturbed(optimizer, model):
        scaler.scale(loss_of(model, BATCHES[0]) * torch.inf).backward()
    optimizer.step()
    assert optimizer.step_was_skipped
    assert scaler.get_scale() == 2.0**9
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("backward_before", [False, True])
def test_a_closure_with_a_scaler_is_an_error(backward_before: bool) -> None:
    model, optimizer, scaler = scaled()
    before = snapshot(model)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = scaler.scale(loss_of(model, BATCHES[0]))
        loss.backward()
        return loss

    with pytest.raises(RuntimeError, match=r"`closure` cannot be used with a gradient scaler.*with perturbed"):
        step(optimizer, closure)
    if backward_before:
        closure()
    # Past our function it is torch that objects, or, once there are gradients, our optimizer.
    with pytest.raises(RuntimeError if backward_before else AssertionError):
        optimizer.step(closure)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_scaler_that_is_off_is_none() -> None:
    Accelerator(cpu=True)
    model = make_model(torch.float32)
    optimizer = AcceleratedOptimizer(sharp(model), scaler=torch.amp.GradScaler("cpu", enabled=False))
    for batch in BATCHES:
        step(optimizer, closure_for(model, optimizer, batch))
    assert equal(snapshot(model), by_hand(sharp))


def test_gradients_unscaled_before_the_perturbed_pass_are_refused() -> None:
    model, optimizer, scaler = scaled()
    scaler.scale(loss_of(model, BATCHES[0])).backward()
    scaler.unscale_(optimizer.optimizer)  # what `Accelerator.clip_grad_norm_` does
    with perturbed(optimizer, model):
        scaler.scale(loss_of(model, BATCHES[0])).backward()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="unscaled already"):
        optimizer.step()
    assert equal(snapshot(model), before)


def test_another_optimizer_is_refused() -> None:
    model, optimizer, _ = scaled(sgd)
    for wrong in (optimizer, optimizer.optimizer):
        with (
            pytest.raises(TypeError, match="must be or wrap a SharpnessAware, got SGD"),
            perturbed(wrong, model),
        ):
            pytest.fail("entered")
    plain = sharp(model)
    assert isinstance(plain, SharpnessAware)
    assert sharpness_aware(plain) is plain


def test_a_schedule_free_base_is_put_in_its_modes() -> None:
    base = Modal(make_model(torch.float32).parameters(), lr=0.1)
    optimizer = Accelerator(cpu=True).prepare(SharpnessAware(base, SAM()))
    optimizer.eval()
    assert base.mode == "eval"
    optimizer.train()
    assert base.mode == "train"


@pytest.mark.parametrize("mode", ["two passes", "previous gradient", "every second step"])
def test_a_schedule_free_base_has_its_modes_through_the_prepared_optimizer(mode: str) -> None:
    accelerator = Accelerator(cpu=True)
    plain = make_model(torch.float32)
    model, optimizer = accelerator.prepare(plain, schedule_free(plain, mode))
    inner = sharpness_aware(optimizer)
    found = []
    for batch in BATCHES:
        optimizer.train()
        if inner.needs_first_pass or not inner.climbs:
            accelerator.backward(loss_of(model, batch))
        if inner.climbs:
            with perturbed(optimizer, model):
                accelerator.backward(loss_of(model, batch))
        optimizer.step()
        optimizer.zero_grad()
        y = snapshot(plain)
        optimizer.eval()
        found.append(snapshot(plain))
    expected = schedule_free_weights(make_model(torch.float32), BATCHES, loss_of, mode)
    names = [name for name, _ in plain.named_parameters()]
    for one, x in zip(found, expected, strict=True):
        assert close({name: one[name] for name in names}, {name: x[name] for name in names})
    assert not close(y, {name: expected[-1][name] for name in names})
    with pytest.raises(RuntimeError, match="not in training mode"):
        inner.base.step()


def train(run: Run) -> nn.Module:
    """A trainer of one's own for `samson compare`."""
    accelerator = Accelerator(cpu=True)
    model = run.network()
    model, optimizer = accelerator.prepare(model, run.optimizer(model))
    return loop(run, model, optimizer, accelerator.backward, step)


def train_plainly(run: Run) -> nn.Module:
    model = run.network()
    return loop(run, model, run.optimizer(model), Tensor.backward, lambda optimizer, closure: optimizer.step(closure))


def loop(run: Run, model: nn.Module, optimizer: Any, backward: Callable, step: Callable) -> nn.Module:
    for x, y in run.data.batches(16, seed=run.seed, epoch=0, device=run.device, augment=()):

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = run.task.loss(model(x), y)
            backward(loss)
            return loss

        step(optimizer, closure)
    return model


def tenfold(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(forward)
    def made(*inputs: Any) -> Tensor:
        return 10 * forward(*inputs)

    return made


def network_of(train: Callable[[Run], nn.Module], method: str) -> nn.Module:
    [problem] = planned(train=train, methods=[method]).problems
    model, _ = trained(problem, problem.methods[0], 0, images(), None, lambda *_: None)
    assert model is not None
    return model


@pytest.mark.parametrize("method", ["sgd", "samson"])
def test_a_comparison_trains_every_method_by_one_trainer(method: str) -> None:
    found = snapshot(network_of(train, method))
    assert equal(found, snapshot(network_of(train_plainly, method)))
    assert not equal(found, snapshot(network_of(train, "sam")))


def mixed(run: Run) -> nn.Module:
    return Accelerator(cpu=True, mixed_precision="bf16").prepare(run.network())


def mixed_and_unwrapped(run: Run) -> nn.Module:
    return Accelerator(cpu=True).unwrap_model(mixed(run))


def mixed_and_whole(run: Run) -> nn.Module:
    return unwrapped(mixed(run))


def test_a_network_that_would_compute_in_bfloat16_on_chips_is_refused() -> None:
    """Accelerate's autocast is in the network's own `forward`, and stays when it is unwrapped."""
    for left in (mixed, mixed_and_unwrapped):
        with pytest.raises(SetupError, match=r"computes in float32.*\n.*accelerate.unwrapped"):
            network_of(left, "sgd")
    found, x = network_of(mixed_and_whole, "sgd"), torch.rand(2, 3, 8, 8)
    assert torch.equal(found(x), network_of(own_network, "sgd")(x))


class Scaled(nn.Linear):
    """Its `forward` has a decorator of the user's own."""

    @tenfold
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def test_that_a_network_computes_in_bfloat16_on_chips_is_said() -> None:
    data, chips = (torch.randn(6, 5), torch.randint(3, (6,))), {"trials": 2, "metric": "cross-entropy"}
    network = Scaled(5, 3)
    before = network(data[0])
    prepared = Accelerator(mixed_precision="bf16", cpu=True).prepare(network)
    with pytest.warns(UserWarning, match=r"Accelerate's mixed precision on chips too.*accelerate.unwrapped"):
        cast = evaluate(prepared, data, Gaussian(0.1), **chips)
    evaluate(prepared, data, Gaussian(0.1), autocast="bfloat16", **chips)  # the record says so
    whole = unwrapped(prepared)
    assert evaluate(whole, data, Gaussian(0.1), **chips).clean != cast.clean
    assert torch.equal(whole(data[0]), before)
    assert "forward" not in vars(whole), "it is that of its class again"
    patched = nn.Linear(5, 3)
    patched._original_forward, patched.forward = patched.forward, patched.forward
    evaluate(patched, data, Gaussian(0.1), **chips)  # another's mark
    assert "forward" in vars(unwrapped(patched))


def own_network(run: Run) -> nn.Module:
    return run.network().eval()
