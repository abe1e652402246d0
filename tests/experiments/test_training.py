"""The training loop: against loops written here, cut off at every place, and with disks that fail."""

import errno
import hashlib
import itertools
import json
import math
import pickle
import signal
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from samson import SAMSON, SharpnessAware, param_groups
from samson.experiments import (
    Classification,
    DivergedError,
    Place,
    Recipe,
    Regression,
    Run,
    Saver,
    SetupError,
    Splits,
    StoppedError,
    environment,
    make_task,
    parse_methods,
    plan_suite,
    save_trained,
    train,
    trained,
)
from samson.records import TrainingRecord, read_json
from tests.conftest import equal, loss_of
from tests.integrations.plain import close, schedule_free, schedule_free_weights

U = torch.finfo(torch.float32).eps / 2
"""What rounding to float32 changes a number by at most, as a share of it."""


# What is trained


def images(count: int = 80, test: int = 20, seed: int = 7) -> Splits:
    """Random pixels in four classes, with augmentation: 5 steps of 16 in an epoch."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count + test, 3, 8, 8), generator=generator, dtype=torch.uint8)
    targets = torch.randint(4, (count + test,), generator=generator)
    held = pixels[count:], targets[count:]
    spread = {"mean": (0.5, 0.4, 0.6), "std": (0.3, 0.2, 0.25), "augment": ("crop", "flip")}
    return Splits((pixels[:count], targets[:count]), held, held, outputs=4, **spread)


def alike(count: int) -> Splits:
    """Examples that are all the same one."""
    held = torch.ones(count, 3, 8, 8), torch.ones(count, dtype=torch.int64)
    return Splits(held, held, held, outputs=4)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 12), nn.Tanh(), nn.Linear(12, 4))


def convolutions() -> nn.Module:
    """With all that must outlive an interruption: dropout, running statistics, weights that lie channels last."""
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(5, 6, 3), nn.Dropout2d(0.2),
        nn.Flatten(), nn.Linear(96, 4),
    )  # fmt: skip


def run_of(
    method: str = "sgd",
    network: Callable[[], nn.Module] = mlp,
    *,
    seed: int = 0,
    base: str = "SGD",
    settings: Iterable[str] = (),
    data: Splits | None = None,
    kind: type[Run] = Run,
    asked: dict[str, Any] | None = None,
    **recipe: Any,
) -> Run:
    def made() -> nn.Module:
        torch.manual_seed(seed)
        return network()

    [parsed] = parse_methods([method], settings, base)
    chosen = Recipe(**{"epochs": 2, "batch_size": 16, "precision": "float32"} | recipe)
    return kind(**{"task": Classification()} | (asked or {}), data=data or images(), network=made,
                method=parsed, recipe=chosen, seed=seed)  # fmt: skip


def weights(run: Run) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in train(run).state_dict().items()}


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


class Recording(Run):
    """Looks at network and optimizer after each step."""

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        optimizer = super().optimizer(model)
        self.norms: list[float] = []
        self.states: list[dict[str, Tensor]] = []

        def look(*_: object) -> None:
            squares = [p.grad.double().square().sum() for p in model.parameters()]
            self.norms.append(float(torch.stack(squares).sum().sqrt()))
            self.states.append({name: tensor.double() for name, tensor in model.state_dict().items()})

        optimizer.register_step_post_hook(look)
        return optimizer


# The recipe


@pytest.mark.parametrize("steps", [1, 7, 40, 1000])
def test_schedules_are_those_of_torch(steps: int) -> None:
    milestones = [math.ceil(steps * share) for share in (0.25, 0.5, 0.75)]
    for name, make in (
        ("cosine", partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=steps)),
        ("multi-step", partial(torch.optim.lr_scheduler.MultiStepLR, milestones=milestones, gamma=0.1)),
    ):
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        scheduler, recipe = make(optimizer), Recipe(schedule=name)
        for step in range(steps):
            assert recipe.factor(step, steps) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize("steps", [1, 7, 40, 1000])
def test_schedules_by_closed_forms(steps: int) -> None:
    for step in range(steps):
        done = step / steps
        rises = math.sin(math.pi / 2 * done / 0.3) ** 2
        falls = math.cos(math.pi / 2 * (done - 0.3) / 0.7) ** 2
        factor = Recipe(schedule="one-cycle").factor(step, steps)
        assert factor == pytest.approx(rises if done < 0.3 else falls, abs=1e-12)
        assert Recipe(schedule="constant").factor(step, steps) == 1


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_warm_up_is_a_line_and_the_schedule_follows(schedule: str) -> None:
    recipe = Recipe(schedule=schedule, warmup=0.25)
    found = [recipe.factor(step, 40) for step in range(40)]
    assert found[:10] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert found[10:] == pytest.approx([Recipe(schedule=schedule).factor(step, 30) for step in range(30)])


@pytest.mark.parametrize(
    ("warmup", "steps"),
    [
        (0.1, 7),
        (0.3, 10),
        (0.999, 3),
        (0.07, 100),  # 7.000000000000001 steps
        (0.14, 50),
        (1e-12, 10),
    ],
)
def test_warm_up_ends_at_the_full_rate(warmup: float, steps: int) -> None:
    recipe = Recipe(schedule="constant", warmup=warmup)
    found = [recipe.factor(step, steps) for step in range(steps)]
    rising = sum(step / steps < warmup for step in range(steps))
    assert found == pytest.approx([min(1, (step + 1) / rising) for step in range(steps)])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("batch_size", -1),
        ("accumulate", 0),
        ("schedule", "cosinus"),
        ("precision", "float16"),
        ("warmup", -0.1),
        ("warmup", 1.0),
        ("label_smoothing", math.nan),
        ("ema", 1.0),
        ("ema", -0.5),
        ("clip_norm", 0.0),
        ("clip_norm", -math.inf),
        ("clip_norm", math.nan),
    ],
)
def test_bad_settings_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{name}`( must be .*got|:) {value!r}"):
        Recipe(**{name: value})


def test_a_cycle_has_no_other_warm_up() -> None:
    with pytest.raises(ValueError, match=r"`warmup` must be 0 with the schedule 'one-cycle'.*got 0.1"):
        Recipe(schedule="one-cycle", warmup=0.1)


# Against loops written here


def plain_loop(run: Run, step: Callable[[nn.Module, torch.optim.Optimizer, Tensor, Tensor], Tensor], make: Any) -> Any:
    """What anyone would write; gives the weights, and the losses of all steps by epochs."""
    model = run.network()
    optimizer = make(model)
    size, losses, number = run.recipe.batch_size, [], 0
    total = run.recipe.epochs * (len(run.data.train[0]) // size)
    for epoch in range(run.recipe.epochs):
        losses.append([])
        for x, y in run.data.batches(size, seed=run.seed, epoch=epoch, device="cpu", augment=run.data.augment):
            for group in optimizer.param_groups:
                group["lr"] = run.method.settings["lr"] * run.recipe.factor(number, total)
            losses[-1].append(step(model, optimizer, x, y))
            number += 1
    return model.state_dict(), losses


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)


def sgd_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def samson(model: nn.Module) -> torch.optim.Optimizer:
    groups = param_groups(model)
    base = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    return SharpnessAware(base, SAMSON())


def closure_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return optimizer.step(closure).detach()


@pytest.mark.parametrize(
    ("schedule", "method", "step", "make", "passes"),
    [("one-cycle", "sgd", sgd_step, sgd, 1), ("cosine", "samson", closure_step, samson, 2)],
)
def test_the_loop_is_a_plain_loop_bit_for_bit(schedule: str, method: str, step: Any, make: Any, passes: int) -> None:
    run = run_of(method, seed=3, epochs=3, schedule=schedule)
    found = weights(run)
    expected, losses = plain_loop(run, step, make)
    assert equal(found, expected)
    assert run.losses == [float(torch.stack(of_epoch).mean()) for of_epoch in losses]
    assert run.gradients == 15 * passes
    assert not equal(weights(run_of(method, seed=4, epochs=3, schedule=schedule)), expected)
    other = weights(run_of("sam" if method == "sgd" else "asam", seed=3, epochs=3, schedule=schedule))
    assert not equal(other, expected)


def test_progress_log_and_perturbation() -> None:
    calls, written = [], []

    class Writer:
        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

    run = run_of("samson", data=images(320))
    run.progress, run.log = lambda *state: calls.append(state), Writer()
    assert not train(run).training
    assert calls == [(16, 40), (20, 40), (32, 40), (40, 40)]
    assert [(name, step) for name, _, step in written] == [
        (name, step) for step in (20, 40) for name in ("loss", "lr", "clean_loss", "perturbed_loss", "epsilon_norm")
    ]
    assert [value for name, value, _ in written if name == "loss"] == run.losses
    last = run.perturbation
    assert [last.clean_loss, last.perturbed_loss, last.epsilon_norm] == [value for _, value, _ in written[-3:]]
    assert last.perturbed_loss > last.clean_loss
    plain = run_of("sgd")
    train(plain)
    assert plain.perturbation is None


# Parts of a batch, clipping


def whole_numbers(count: int) -> Splits:
    """Inputs and targets of small whole numbers."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(-4, 5, (count, 2, 3), generator=generator).float()
    held = inputs, inputs.sum((1, 2)) - 3
    return Splits(held, held, held, outputs=1, task="regression")


def line() -> nn.Module:
    layer = nn.Linear(6, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2, 0, 3, 1, -1]]))
        layer.bias.fill_(2)
    return nn.Sequential(nn.Flatten(), layer)


LINE = {
    "network": line,
    "asked": {"task": Regression()},
    "epochs": 1,
    "settings": ["sgd.momentum=0", "sgd.weight_decay=0", "sgd.lr=0.0625"],
}
"""A step of gradient descent on squared errors, with every number on the way a small multiple of a power of two."""


@pytest.mark.parametrize("parts", [2, 16, 99])
def test_parts_of_a_batch_give_its_gradient(parts: int) -> None:
    """Nothing is rounded here, so the order of sums plays no part: the bits must agree."""
    ends = []
    for accumulate in (1, parts):
        run = run_of(**LINE, data=whole_numbers(16), accumulate=accumulate)
        ends.append((weights(run), run.losses, run.gradients))
    assert equal(ends[0][0], ends[1][0])
    assert ends[0][1:] == ends[1][1:]
    assert not equal(ends[0][0], line().state_dict())


@pytest.mark.parametrize("parts", [3, 5])
def test_parts_of_a_batch_may_differ_in_size(parts: int) -> None:
    """The gradient's terms are exact but for their weights; γ = (n + 3)·u of their sizes bounds what sums round off.

    Each of n = 14 terms is multiplied by the share of its part (one rounding of the share, one of the product) and by
    2 / size, and added up n times.
    """
    data = whole_numbers(14)
    run = run_of(**LINE, data=data, batch_size=14, accumulate=parts)
    found = weights(run)["1.weight"].double()
    x, y = data.train[0].flatten(1).double(), data.train[1].double()
    before = line().double()
    errors = (before[1](x).squeeze(1) - y).detach()
    terms = 2 * errors[:, None] * x / 14
    expected = before[1].weight.detach() - 0.0625 * terms.sum(0)
    bound = 0.0625 * (14 + 3) * U * terms.abs().sum(0) + U * expected.abs()
    assert ((found - expected).abs() <= bound).all()


def test_a_clipped_gradient_is_no_longer_than_its_bound() -> None:
    free = run_of(kind=Recording)
    train(free)
    bound = 0.5 * min(free.norms)
    clipped = run_of(kind=Recording, clip_norm=bound, accumulate=2)
    train(clipped)
    assert len(clipped.norms) == 10
    # torch divides by norm + 1e-6, so it stays below the bound by that share; float32 rounds each entry
    assert clipped.norms == pytest.approx([bound] * 10, rel=1e-6 / min(free.norms) + 100 * U)
    assert max(clipped.norms) < bound * (1 + 4 * U)


def test_a_bound_beyond_every_gradient_changes_nothing() -> None:
    assert equal(weights(run_of(clip_norm=1e6)), weights(run_of()))


# Averages


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_average_is_the_result(decay: float) -> None:
    run = run_of("samson", convolutions, kind=Recording, ema=decay)
    found = weights(run)
    states = run.states
    names = [name for name in found if found[name].is_floating_point()]
    expected = states[0]
    for state in states[1:]:
        expected = {name: decay * expected[name] + (1 - decay) * state[name] for name in names}
    largest = max(float(state[name].abs().max()) for state in states for name in names)
    rounding = len(states) * 4 * U * largest  # each step rounds a difference, a product and a sum, and 1 - decay
    kept = {name: found[name] for name in names}
    assert distance(kept, expected) < rounding
    assert distance(kept, states[-1]) > 1000 * rounding
    assert "1.running_var" in names


class Shifted(nn.Module):
    """Has a table of places, as relative positions have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("places", torch.arange(192))
        self.register_buffer("mask", torch.ones(192, dtype=torch.bool))
        self.linear = nn.Linear(192, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)[:, self.places] * self.mask)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_buffers_of_whole_numbers_survive_an_average(decay: float) -> None:
    found = weights(run_of(network=Shifted, ema=decay))
    assert found["places"].equal(torch.arange(192))
    assert found["mask"].equal(torch.ones(192, dtype=torch.bool))


# Loss, precision, layout


def test_label_smoothing_reaches_the_loss() -> None:
    """With a learning rate of 0 the loss of an epoch is that of the initial weights."""
    for smoothing in (0.0, 0.3):
        run = run_of(settings=["sgd.lr=0"], epochs=1, augment="none", label_smoothing=smoothing)
        train(run)
        x, y = run.data.examples("train")
        scores = run.network()(x).detach().double().log_softmax(1)
        right, all_of_them = scores.gather(1, y[:, None]).mean(), scores.mean()
        expected = -float((1 - smoothing) * right + smoothing * all_of_them)
        assert run.losses[0] == pytest.approx(expected, rel=1e-5)
        assert abs(float(right - all_of_them)) * 0.3 > 1e-3 * abs(expected)


class Fast(Place):
    fast_bfloat16 = True


class Slow(Place):
    fast_bfloat16 = False


def depthwise() -> nn.Module:
    """As it may be on phones: dense convolutions, and one for each channel."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "place", "network", "expected"),
    [
        ("float32", Fast(), convolutions, torch.float32),
        ("bfloat16", Slow(), mlp, torch.bfloat16),
        ("auto", Fast(), convolutions, torch.bfloat16),
        ("auto", Slow(), convolutions, torch.float32),
        ("auto", Fast(), depthwise, torch.float32),  # slower in bfloat16 on processors
        ("auto", Fast(), mlp, torch.float32),
    ],
)
def test_the_forward_pass_has_the_precision_that_was_asked_for(precision, place, network, expected) -> None:
    seen = set()
    named = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

    def watched() -> nn.Module:
        model = network()
        model[-1].register_forward_hook(lambda layer, _, out: seen.add((out.dtype, layer.weight.dtype)))
        return model

    run = run_of("samson", watched, precision=precision, asked={"place": place})
    found = weights(run)
    assert run.precision == named[expected]
    assert seen == {(expected, torch.float32)}
    assert {tensor.dtype for tensor in found.values() if tensor.is_floating_point()} == {torch.float32}
    assert equal(found, weights(run_of("samson", network))) == (expected == torch.float32)
    assert all(map(math.isfinite, run.losses))


def test_a_gpu_trains_any_network_in_bfloat16() -> None:
    assert Fast(torch.device("cuda")).precision_for(depthwise()) == "bfloat16"


@pytest.mark.parametrize("method", ["sgd", "samson"])
def test_a_callers_autocast_keeps_no_weights_of_steps_before(method: str) -> None:
    """Its cache of casts lasts until it ends; so does one whose end never came."""

    def trained() -> dict[str, Tensor]:
        return weights(run_of(method, mlp, precision="bfloat16"))

    alone = trained()
    with torch.autocast("cpu", torch.bfloat16):
        assert distance(trained(), alone) == 0
    assert distance(weights(run_of(method, mlp, precision="bfloat16", epochs=3)), alone) > 0


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_compiled_network_trains_as_the_eager_one() -> None:
    torch._dynamo.reset()
    graphs = torch._dynamo.utils.counters["stats"]
    graphs.clear()
    eager = weights(run_of("samson"))
    assert not graphs["unique_graphs"]
    compiled = weights(run_of("samson", compile=True))
    assert graphs["unique_graphs"]
    assert list(compiled) == list(eager)  # no prefix of a wrapper
    assert distance(compiled, eager) < 100 * U
    assert distance(weights(run_of("samson", seed=1)), eager) > 1e-2


@pytest.mark.parametrize("last", [True, False])
def test_images_and_weights_lie_channels_last_if_asked(last: bool) -> None:
    seen = set()

    def watched() -> nn.Module:
        model = convolutions()
        lies = partial(Tensor.is_contiguous, memory_format=torch.channels_last)
        model[0].register_forward_hook(lambda layer, given, _: seen.add((lies(given[0]), lies(layer.weight))))
        return model

    train(run_of("samson", watched, channels_last=last))
    assert seen == {(last, last)}


def test_one_process_alone_shares_nothing() -> None:
    """Whatever it would do beside others."""
    assert equal(weights(run_of(asked={"place": Place(parallel="fsdp2")})), weights(run_of()))


def test_what_is_no_image_lies_as_it_is() -> None:
    held = torch.randn(32, 6, 2), torch.arange(32) % 4
    series = Splits(held, held, held, outputs=4)
    run = run_of(network=lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), data=series)
    train(run)
    assert len(run.losses) == 2


def test_a_network_that_comes_in_evaluation_mode_is_trained_in_training_mode() -> None:
    """As those come that a hub has trained; running statistics then stay at 0."""
    found = weights(run_of(network=lambda: convolutions().eval()))
    assert found["1.running_mean"].abs().max() > 0


def test_what_dropout_draws_depends_on_seed_and_step() -> None:
    drawn: list[bytes] = []

    def watched() -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 4))
        model[1].register_forward_hook(lambda _, given, out: drawn.append((out != 0).numpy().tobytes()))
        return model

    for seed in (0, 1):
        train(run_of("sgd", watched, seed=seed, data=alike(80)))
    assert len({*drawn}) == len(drawn) == 2 * 10  # seeds and steps


# Cut off and started again


class CutError(Exception):
    """A training is cut off."""


class Cut(Classification):
    """A task that cuts a training off at some calls of its loss, counted over all beginnings."""

    def __init__(self, *calls: int) -> None:
        self.left, self.number = set(calls), itertools.count(1)

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        number = next(self.number)
        if number in self.left:
            self.left.remove(number)
            raise CutError
        return super().loss(outputs, targets, label_smoothing)


def saving_every(patch: pytest.MonkeyPatch, steps: int) -> None:
    count = itertools.count(1)
    patch.setattr(Saver, "due", lambda _: next(count) % steps == 0)


def until_done(make: Callable[[], Run]) -> tuple[Run, dict[str, Tensor], int]:
    """Begin again and again, with everything made anew as a new process does; gives also the number of beginnings."""
    for beginnings in itertools.count(1):
        run = make()
        try:
            return run, weights(run), beginnings
        except CutError:
            torch.manual_seed(beginnings)
    raise AssertionError


def remembering(model: nn.Module, lr: float = 0.1) -> SharpnessAware:
    """A method whose state is a direction, whose norm is a sum in the order in which it lies in memory."""
    base = torch.optim.SGD(param_groups(model), lr=lr, momentum=0.9)
    return SharpnessAware(base, SAMSON(rho=0.5), ascent="previous", every=2)


def without_schedule(model: nn.Module) -> SharpnessAware:
    return schedule_free(model)


ALL: dict[str, dict[str, Any]] = {
    "sgd": {"method": "sgd"},
    "samson": {"method": "samson"},
    "samson-adamw": {"method": "samson", "base": "AdamW"},
    "own": {"method": f"{__name__}:remembering"},
    "schedule-free": {"method": f"{__name__}:without_schedule"},
    "rwp": {"method": "rwp"},
    "drawn": {"method": "rangesam", "settings": ["rangesam.ramp=drawn", "rangesam.through_range=1"]},
    "learned-range": {"method": "samson+learned-range"},
    "converters": {"method": "noise+channel-clip+converters"},
}
EVERYTHING: dict[str, Any] = {"network": convolutions, "ema": 0.9, "accumulate": 2, "clip_norm": 1.0, "warmup": 0.2}
"""Dropout, running statistics, an average, and augmentation by the data."""


@pytest.mark.parametrize(("method", "saved"), [*((method, 3) for method in ALL), ("samson", 1), ("learned-range", 1)])
def test_a_training_that_is_cut_off_ends_as_one_that_is_not(
    method: str, saved: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_of(**ALL[method], **EVERYTHING)
    expected = weights(whole)
    saving_every(monkeypatch, saved)
    task = Cut(1, 9, 10, 21)  # before anything is saved; in a second pass or part; at once; later

    def again(**more: Any) -> Run:
        return run_of(**ALL[method], **EVERYTHING, asked={"task": task, "folder": tmp_path}, **more)

    run, found, beginnings = until_done(again)
    assert beginnings == 5
    assert equal(found, expected)
    assert (run.losses, run.gradients, run.perturbation) == (whole.losses, whole.gradients, whole.perturbation)
    for path in tmp_path.iterdir():
        path.unlink()
    task = Cut(9)
    _, found, beginnings = until_done(lambda: again(seed=1))
    assert beginnings == 2
    assert not equal(found, expected)


def test_a_schedule_free_base_trains_at_y_and_gives_x() -> None:
    run = run_of(f"{__name__}:without_schedule", augment="none", schedule="constant")
    batches = [
        batch for epoch in range(2) for batch in run.data.batches(16, seed=0, epoch=epoch, device="cpu", augment=())
    ]
    x = schedule_free_weights(run.network(), batches, loss_of)
    found = train(run)
    assert close(found.state_dict(), x[-1])
    assert not close(found.state_dict(), x[-2])


def test_a_method_may_be_cut_off_in_its_second_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every call of the loss, one after another: 10 steps of two passes."""
    whole = run_of("samson", convolutions)
    expected = weights(whole)
    saving_every(monkeypatch, 1)
    task = Cut(*range(2, 70, 3))  # every third call, while a step needs two
    run, found, beginnings = until_done(
        lambda: run_of("samson", convolutions, asked={"task": task, "folder": tmp_path})
    )
    assert beginnings > 10
    assert equal(found, expected)
    assert (run.losses, run.gradients) == (whole.losses, whole.gradients)


@pytest.mark.parametrize("lost", ["momentum_buffer", "running_mean", "average"])
def test_a_state_that_is_not_put_back_would_be_noticed(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = weights(run_of(**EVERYTHING))
    saving_every(monkeypatch, 1)

    def emptied(value: Any) -> Any:
        return {} if isinstance(value, dict) else torch.zeros_like(value)

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: emptied(one) if lost in str(key) else without(one) for key, one in value.items()}
        return value

    load = Saver.load
    monkeypatch.setattr(Saver, "load", lambda self: without(load(self)))
    task = Cut(9)
    _, found, beginnings = until_done(lambda: run_of(**EVERYTHING, asked={"task": task, "folder": tmp_path}))
    assert beginnings == 2
    assert not equal(found, expected)


@pytest.mark.parametrize("at", [16, 20, 40])
def test_progress_may_stop_a_training(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called before the step is saved, which is then made again."""
    saving_every(monkeypatch, 1)
    data = images(320)
    whole = run_of("samson", data=data)
    expected = weights(whole)
    stops = [at]

    def stop(done: int, total: int) -> None:
        if [done] == stops:
            stops.clear()
            raise CutError

    run, found, beginnings = until_done(
        lambda: run_of("samson", data=data, asked={"folder": tmp_path, "progress": stop})
    )
    assert beginnings == 2
    assert equal(found, expected)
    assert (run.losses, run.gradients) == (whole.losses, whole.gradients)


def test_a_finished_training_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when it is cut off while its network is put on chips."""
    saving_every(monkeypatch, 1)
    first = run_of("samson", asked={"folder": tmp_path, "task": Cut()})
    expected = weights(first)
    second = run_of("samson", asked={"folder": tmp_path, "task": Cut(1)})
    assert equal(weights(second), expected)
    assert (second.losses, second.gradients) == (first.losses, first.gradients)
    assert second.perturbation == first.perturbation


class Notice(Classification):
    """A task in the midst of which a notice to end comes, once."""

    def __init__(self, call: int) -> None:
        self.left = call

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGTERM)
        return super().loss(outputs, targets, label_smoothing)


@pytest.mark.parametrize("call", [1, 10, 20])
def test_a_notice_to_end_saves_the_step_at_hand(call: int, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    whole = run_of("samson", convolutions)
    expected = weights(whole)
    with pytest.raises(StoppedError) as stopped:
        train(run_of("samson", convolutions, asked={"task": Notice(call), "folder": tmp_path}))
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    [path] = tmp_path.iterdir()
    assert path.name == "training.safetensors"
    assert saved_step(path) == (call + 1) // 2
    run = run_of("samson", convolutions, asked={"task": Notice(0), "folder": tmp_path})
    assert equal(weights(run), expected)
    assert (run.losses, run.gradients) == (whole.losses, whole.gradients)


def saved_step(path: Path) -> int:
    """The step that a file is of, read without the code that wrote it."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    [step] = [value for key, value in json.loads(header["__metadata__"]["state"])["table"] if key == "step"]
    return step


def test_a_training_in_another_thread_hears_no_notices() -> None:
    ends = [weights(run_of())]
    thread = threading.Thread(target=lambda: ends.append(weights(run_of())))
    thread.start()
    thread.join()
    assert equal(*ends)


def test_saving_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    saver = Saver(tmp_path / "state.safetensors", "one")
    asked = []
    for took, waits in ((0.0, 1.0), (0.2, 4.0), (0.01, 1.0)):
        with monkeypatch.context() as slow:
            slow.setattr(
                "samson.experiments._saving.save", lambda *_, took=took: now.__setitem__(0, now[0] + took) or b""
            )
            saver.save({"step": 1})
        for share in (0.99, 1.01):
            began = now[0]
            now[0] += share * waits
            asked.append(saver.due())
            now[0] = began
    assert asked == [False, True] * 3
    assert not Saver(None, "one").due()


# Losses that are no numbers


@pytest.mark.parametrize(("power", "saved"), [(3, 1), (9, 1000)])
@pytest.mark.parametrize(("method", "step", "make"), [("sgd", sgd_step, sgd), ("samson", closure_step, samson)])
def test_a_training_that_diverges_says_at_which_step(
    method: str, step: Any, make: Any, power: int, saved: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving_every(monkeypatch, saved)
    data, asked = images(640), {"folder": tmp_path}
    run = run_of(method, deep, data=data, settings=[f"{method}.lr=1e{power}"], asked=asked, schedule="constant")
    _, losses = plain_loop(run, step, make)
    bad = [math.isfinite(float(loss)) for loss in itertools.chain(*losses)].index(False) + 1
    assert bad in (2, 3, 4)
    with pytest.raises(DivergedError, match=f"no finite number at step {bad}.*smaller learning rate") as diverged:
        train(run)
    assert diverged.value.step == bad
    assert [saved_step(path) for path in tmp_path.iterdir()] == ([bad - 1] if saved == 1 and bad > 1 else [])


class Endless(Classification):
    """A task whose loss is infinite at one call."""

    def __init__(self, call: int) -> None:
        self.left = call

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        self.left -= 1
        return super().loss(outputs, targets, label_smoothing) * (1 if self.left else math.inf)


@pytest.mark.parametrize("saved", [1, 7])
@pytest.mark.parametrize("bad", [1, 17, 21, 40])
def test_the_step_at_which_it_diverges_may_be_any(
    bad: int, saved: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are looked at when 16 steps or an epoch are done, and before they are saved; there are 20 in an epoch."""
    saving_every(monkeypatch, saved)
    done, asked = [], {"task": Endless(bad), "folder": tmp_path, "progress": lambda step, _: done.append(step)}
    with pytest.raises(DivergedError) as diverged:
        train(run_of(data=images(320), asked=asked))
    assert diverged.value.step == bad
    assert done == [step for step in (16, 20, 32, 40) if step < bad]
    last = (bad - 1) // saved * saved
    assert [saved_step(path) for path in tmp_path.iterdir()] == ([last] if last else [])


def deep() -> nn.Module:
    """Products of weights, which grow beyond every number in some steps."""
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Linear(8, 8), nn.Linear(8, 4))


# Files


STATES: list[Any] = [
    {},
    {"step": 3, "none": None, "yes": True, "no": False, "text": "ε \n \"'", "empty": ""},
    {"inf": math.inf, "less": -math.inf, "small": 5e-324, "share": 0.1, "huge": 1 << 80},
    {"betas": (0.9, 0.999), "list": [1, [2, (3, [])], ()], "tables": {"a": {"b": {}}, "c": [{"d": (None,)}]}},
    {"state": {0: {"step": 1.0}, 1: {}}, "names": ["0.weight"], 5: "five"},
]


@pytest.mark.parametrize("state", STATES)
def test_what_is_saved_comes_back(state: dict, tmp_path: Path) -> None:
    saver = Saver(tmp_path / "of" / "state.safetensors", "one")
    assert saver.load() is None
    saver.save(state)
    found = saver.load()
    assert found == state
    assert repr(found) == repr(state)  # 1 is not True, nor a list a tuple


def test_not_a_number_comes_back(tmp_path: Path) -> None:
    saver = Saver(tmp_path / "state.safetensors", "one")
    saver.save({"loss": math.nan})
    assert math.isnan(saver.load()["loss"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_tensors_come_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    bits = torch.randint(0, 2 if dtype == torch.bool else 256, (6 * dtype.itemsize,), dtype=torch.uint8)
    tensor = bits.view(dtype).view(2, 3)
    saver = Saver(tmp_path / "state.safetensors", "one")
    state = {
        "one": tensor,
        "turned": tensor.T,
        "list": [tensor[0], (tensor[1, 2],)],
        "none": tensor[:0],
        "same": tensor,
    }
    saver.save(state)
    found = saver.load()
    assert found.keys() == state.keys()
    [row, (number,)] = found["list"]
    for one, other in (
        *((found[name], state[name]) for name in state if name != "list"),
        (row, tensor[0]),
        (number, tensor[1, 2]),
    ):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.contiguous().view(-1).view(torch.uint8).equal(other.contiguous().view(-1).view(torch.uint8))


def test_values_at_paths_that_read_alike_are_kept_apart(tmp_path: Path) -> None:
    state = {"a": {"b": torch.zeros(1)}, "a/b": torch.ones(1), "c": {1: torch.ones(1), "1": torch.zeros(1)}}
    saver = Saver(tmp_path / "state.safetensors", "one")
    saver.save(state)
    found = saver.load()
    assert [float(found["a"]["b"]), float(found["a/b"]), float(found["c"][1]), float(found["c"]["1"])] == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"optimizer": {"hook": print}}, "'optimizer/hook' of type builtin_function_or_method"),
        ({"list": [1, {2}]}, "'list/1' of type set"),
        ({(1, 2): 3}, r"the key \(1, 2\)"),
    ],
)
def test_what_cannot_be_saved_is_named(state: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=f"A training with {words}.* cannot be saved"):
        Saver(tmp_path / "state.safetensors", "one").save(state)
    assert not list(tmp_path.iterdir())


class Bomb:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("exploded"),)


def held(state: str, tensors: dict[str, Tensor] | None = None) -> bytes:
    """A file as it is written, with a checksum of its own."""
    tensors = tensors or {}
    digest = hashlib.sha256(state.encode() + b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors)))
    return save(tensors, {"identity": "one", "state": state, "checksum": digest.hexdigest()})


GOOD = held('{"table": [["w", {"tensor": ["0", false]}]]}', {"0": torch.ones(50)})


def damaged(good: bytes) -> dict[str, bytes]:
    size = 8 + int.from_bytes(good[:8], "little")
    return {
        "empty": b"",
        "short": good[:100],
        "cut off": good[:-1],
        "no header": b"\xff" * 8 + good[8:],
        "header": good[:20] + b"\xff\xff" + good[22:],
        "longer": good + b"0",
        "no tensors": good[:size],
        "a flipped bit": good[:-1] + bytes([good[-1] ^ 1]),
        "pickle": pickle.dumps(Bomb()),
        "no state": save({}, {"identity": "one"}),
        "no checksum": save({}, {"identity": "one", "state": '{"table": []}'}),
        "no json": held("{"),
        "a missing tensor": held('{"table": [["w", {"tensor": ["0", false]}]]}'),
        "two kinds": held('{"table": [], "list": []}'),
        "no table": held("5"),
        "no pairs": held('{"table": 5}'),
        "no name": held('{"tensor": []}'),
    }


@pytest.mark.parametrize("kind", damaged(GOOD))
def test_a_damaged_file_is_nothing_saved(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for function in ("pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load"):
        monkeypatch.setattr(function, lambda *_, **__: pytest.fail("something was unpickled"))
    path = tmp_path / "training.safetensors"
    saver = Saver(path, "one")
    path.write_bytes(GOOD)
    assert saver.load()["w"].equal(torch.ones(50))
    path.write_bytes(damaged(GOOD)[kind])
    with pytest.warns(UserWarning, match=r"`.*training.safetensors` is damaged \(.*\): the training starts again"):
        assert saver.load() is None
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def wider() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 13), nn.Tanh(), nn.Linear(13, 4))


def rectified() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 12), nn.ReLU(), nn.Linear(12, 4))


class Bent(nn.Module):
    """A network whose bend is an attribute, and which shows where it lies in memory."""

    def __init__(self, bend: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.bend = bend
        self.first, self.last = nn.Linear(192, 12), nn.Linear(12, 4)

    def extra_repr(self) -> str:
        return f"{self.bend} {object()}"

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.bend(self.first(x.flatten(1))))


def test_what_a_network_shows_of_itself_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving_every(monkeypatch, 1)
    task = Cut(5)
    make = partial(Bent, torch.tanh)
    _, _, beginnings = until_done(lambda: run_of(network=make, asked={"task": task, "folder": tmp_path}))
    assert beginnings == 2


def test_what_the_parts_are_called_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions in attributes are not seen; their networks have other names."""
    saving_every(monkeypatch, 1)
    train(run_of(network=partial(Bent, torch.tanh), asked={"folder": tmp_path, "about": "mine:tanh"}))
    with pytest.raises(SetupError, match="belongs to another training"):
        train(run_of(network=partial(Bent, torch.relu), asked={"folder": tmp_path, "about": "mine:relu"}))


class Doubled(Classification):
    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return 2 * super().loss(outputs, targets, label_smoothing)


OTHERS: dict[str, dict[str, Any]] = {
    "seed": {"seed": 1},
    "method": {"method": "sam"},
    "settings": {"settings": ["samson.rho=1"]},
    "epochs": {"epochs": 3},
    "average": {"ema": 0.9},
    "amount of data": {"data": images(64)},
    "other data of the same size": {"data": images(seed=8)},
    "other targets": {"data": replace(images(), train=(images().train[0], 3 - images().train[1]))},
    "widths": {"network": wider},
    "a network of the same widths": {"network": rectified},
    "task": {"asked": {"task": Doubled()}},
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_state_of_another_training_is_refused(other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving_every(monkeypatch, 1)
    train(run_of("samson", asked={"folder": tmp_path}))
    changed = {"method": "samson", **OTHERS[other]}
    changed["asked"] = {"folder": tmp_path, **changed.get("asked", {})}
    with pytest.raises(SetupError, match=r"training.safetensors` belongs to another training.\nDelete it, or take"):
        train(run_of(**changed))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"data": alike(80)}, {"data": alike(64)}),
        ({"asked": {"place": Slow()}}, {"asked": {"place": Fast()}}),  # as on another machine
    ],
    ids=["amount of equal examples", "precision"],
)
def test_a_state_of_another_amount_of_equal_data_or_another_precision_is_refused(
    first: dict[str, Any], second: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving_every(monkeypatch, 1)

    def begun(case: dict[str, Any]) -> Run:
        asked = {"folder": tmp_path, **case.get("asked", {})}
        return run_of("samson", convolutions, precision="auto", **case | {"asked": asked})

    train(begun(first))
    train(begun(first))
    with pytest.raises(SetupError, match="belongs to another training"):
        train(begun(second))


def failing(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let the disk fail at one of the writings, in the midst of it."""
    count, write = itertools.count(1), Path.write_bytes

    def written(path: Path, content: bytes) -> int:
        if next(count) == number:
            write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "the disk is full", str(path))
        return write(path, content)

    patch.setattr(Path, "write_bytes", written)


def test_a_disk_that_fails_leaves_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_of("samson", convolutions)
    expected = weights(whole)
    saving_every(monkeypatch, 2)
    with monkeypatch.context() as patch:
        failing(patch, 3)
        with pytest.raises(OSError, match="the disk is full") as failed:
            train(run_of("samson", convolutions, asked={"folder": tmp_path}))
    assert failed.value.errno == errno.ENOSPC
    [path] = tmp_path.iterdir()
    assert saved_step(path) == 4
    run = run_of("samson", convolutions, asked={"folder": tmp_path})
    assert equal(weights(run), expected)
    assert (run.losses, run.gradients) == (whole.losses, whole.gradients)


@pytest.mark.parametrize(("function", "code"), [("write_bytes", errno.EACCES), ("mkdir", errno.EROFS)])
def test_a_folder_that_cannot_be_written_is_an_error(
    function: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving_every(monkeypatch, 1)

    def refused(path: Path, *_: object, **__: object) -> None:
        raise OSError(code, "not allowed", str(path))

    monkeypatch.setattr(Path, function, refused)
    with pytest.raises(OSError, match="not allowed"):
        train(run_of(asked={"folder": tmp_path / "new"}))
    assert not list(tmp_path.rglob("*.*"))


# A planned training


def own_data() -> Splits:
    return images()


def own_network(outputs: int) -> nn.Module:
    return convolutions()


def no_network(run: Run) -> str:
    return "trained"


def planned(**table: Any) -> Any:
    recipe = {"epochs": 2, "batch_size": 16, "precision": "float32"}
    return plan_suite({"data": own_data, "network": own_network, "methods": ["samson"], "recipe": recipe} | table)


def test_a_planned_training_is_saved_and_leaves_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving_every(monkeypatch, 1)
    stages = []
    training = save_trained(planned(), 0, tmp_path, Place(), lambda *state: stages.append(state))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors", "training.json"]
    made = read_json(tmp_path / "training.json", TrainingRecord)
    [problem] = planned().problems
    assert (made.problem, made.settings, made.training) == (problem.record, problem.methods[0].record(), training)
    assert (made.method, made.seed, made.environment) == ("samson", 0, environment("cpu"))
    assert training.precision == "float32"
    assert stages == [("training", 5, 10), ("training", 10, 10)]
    assert training.gradients == 20
    assert training.diverged_at is None
    assert len(training.loss) == 2
    assert 0 <= training.validation <= 1
    assert training.parameters == sum(p.numel() for p in convolutions().parameters())
    assert training.perturbation.perturbed_loss is not None


def test_a_planned_training_leaves_random_numbers_as_they_were() -> None:
    plan = planned()
    [problem] = plan.problems
    before = torch.get_rng_state()
    ends = []
    for _ in range(2):
        model, _ = trained(problem, problem.methods[0], 0, images(), None, lambda *_: None)
        ends.append(model.state_dict())
        assert torch.get_rng_state().equal(before)
    assert equal(*ends)


def test_a_planned_training_that_diverges_has_no_network(tmp_path: Path) -> None:
    """Neither its own nor that of an earlier one."""
    save_trained(planned(methods=["sgd"]), 0, tmp_path, Place(), lambda *_: None)
    assert (tmp_path / "model.safetensors").exists()
    plan = planned(set={"samson.lr": 1e12})
    training = save_trained(plan, 0, tmp_path, Place(), lambda *_: None)
    assert training.diverged_at >= 1
    assert training.validation is None
    assert [path.name for path in tmp_path.iterdir()] == ["training.json"]


@pytest.mark.parametrize(
    ("method", "settings", "figures"),
    [
        ("samson+converters", {"lr": 1e12}, False),  # learned ranges are NaN too
        ("sam", {"lr": 1e-3, "rho": 1e25}, True),  # the last step looks at a loss that is none, and moves to NaN
    ],
)
def test_what_diverges_in_any_way_is_recorded(
    method: str, settings: dict[str, float], figures: bool, tmp_path: Path
) -> None:
    set_ = {f"{method}.{key}": value for key, value in settings.items()}
    recipe = {"epochs": 1, "batch_size": 80, "precision": "float32"}
    plan = planned(methods=[method], set=set_, recipe=recipe if figures else {**recipe, "batch_size": 16})
    training = save_trained(plan, 0, tmp_path, Place(), lambda *_: None)
    assert read_json(tmp_path / "training.json", TrainingRecord).training == training
    assert (training.validation, training.input_ranges) == (None, {})
    assert training.diverged_at == 1 if figures else training.diverged_at > 1
    if figures:
        assert math.isfinite(training.perturbation.clean_loss)
        assert training.perturbation.perturbed_loss is None


@pytest.mark.parametrize(("method", "epochs"), [("samson", 2), ("distil", 4)])
def test_seconds_before_an_interruption_count(
    method: str, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that moves by five seconds in an epoch, also of a teacher; what was not saved is lost."""
    now = [0.0]
    monkeypatch.setattr("samson.experiments._loop.time.monotonic", lambda: now[0])
    steps = itertools.count(1)

    def progress(*_: object) -> None:
        now[0] += 5
        if next(steps) == epochs:
            raise CutError

    saving_every(monkeypatch, 3)
    [problem] = planned(methods=[method]).problems

    def once() -> Any:
        return trained(problem, problem.methods[0], 0, images(), tmp_path, progress)[1]

    with pytest.raises(CutError):
        once()
    assert once().seconds == 5 * epochs


def with_wild_losses(run: Run) -> nn.Module:
    run.losses[:] = [torch.tensor(2.0), 1.0, math.nan, 3.0]
    return run.network()


def test_losses_of_ones_own_are_recorded_up_to_one_that_is_not_finite() -> None:
    [problem] = planned(train=with_wild_losses).problems
    _, training = trained(problem, problem.methods[0], 0, images(), None, lambda *_: None)
    assert repr(training.loss) == "(2.0, 1.0)"


NOTE: dict[str, Any] = {}


def with_a_note(run: Run) -> nn.Module:
    vars(run).update(NOTE)
    return run.network()


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ({"losses": [torch.ones(2)]}, "`run.losses` must be numbers: .*\nAppend each epoch's mean"),
        ({"losses": ["0.5 (mean)"]}, "`run.losses` must be numbers: "),
        ({"gradients": 3.5}, "`run.gradients` must be a whole number ≥ 0, got 3.5"),
        ({"gradients": -1}, "`run.gradients` must be a whole number ≥ 0, got -1"),
        ({"precision": "bf16"}, "`run.precision`: 'bf16' is unknown"),
    ],
)
def test_what_no_record_can_hold_is_refused_after_the_training(
    note: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [problem] = planned(train=with_a_note).problems
    monkeypatch.setitem(globals(), "NOTE", note)
    with pytest.raises(SetupError, match=words):
        trained(problem, problem.methods[0], 0, images(), None, lambda *_: None)


def test_a_trainer_of_ones_own_must_return_a_network() -> None:
    [problem] = planned(train=no_network).problems
    with pytest.raises(SetupError, match="`train` must be a function that returns an nn.Module, got 'str'"):
        trained(problem, problem.methods[0], 0, images(), None, lambda *_: None)
    assert make_task(problem.record.task).metric == "accuracy"
