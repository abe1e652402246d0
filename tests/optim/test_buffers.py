"""Buffers keep the state that the first pass left, whatever kind of layer they belong to and however it writes them."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from samson import SAM, Lookbehind, NoiseInjection, RangeSAM, SharpnessAware, param_groups
from samson.noise import Gaussian
from samson.optim import AscentRule
from tests.conftest import closure_for, equal


class Assigning(nn.BatchNorm1d):
    """Exchanges its running statistics instead of writing into them, as some implementations do."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.running_mean = 0.9 * self.running_mean + 0.1 * x.detach().mean(0)
            self.num_batches_tracked = self.num_batches_tracked + 1
        return x - self.running_mean


class Codebook(nn.Module):
    """Entries that follow the mean of what falls on them, as in VQ-VAE."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("entries", torch.randn(4, 6))
        self.register_buffer("counts", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x.detach(), self.entries).argmin(1)
        if self.training:
            one_hot = nn.functional.one_hot(nearest, 4).float()
            self.counts.mul_(0.9).add_(one_hot.sum(0), alpha=0.1)
            self.entries.data.lerp_(one_hot.t() @ x.detach() / (one_hot.sum(0)[:, None] + 1), 0.1)
        return x + (self.entries[nearest] - x).detach()


class Observed(nn.Module):
    """Fake quantisation by observed ranges, which follow also in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("max_val", torch.tensor(0.0))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.max_val.copy_(torch.maximum(self.max_val, x.detach().abs().max()))
        step = self.max_val / 7
        return x + ((x / step).round() * step - x).detach()


class Unsized(nn.Module):
    """Fake quantisation by the ranges of channels, of which it knows how many at its first input, as torch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("max_val", torch.tensor([]))

    def forward(self, x: Tensor) -> Tensor:
        largest = x.detach().abs().amax(0)
        if not self.max_val.numel():
            self.max_val.resize_(largest.shape).zero_()
        self.max_val.copy_(torch.maximum(self.max_val, largest))
        step = self.max_val / 7
        return x + ((x / step).round() * step - x).detach()


class Queue(nn.Module):
    """Compares with the keys of earlier batches, as MoCo does, and keeps those of this one."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("keys", torch.randn(20, 6))

    def forward(self, x: Tensor) -> Tensor:
        out = x + (x @ self.keys.t()).softmax(1) @ self.keys
        self.keys = torch.cat([self.keys[len(x) :], x.detach()])
        return out


class State(nn.Module):
    """Goes on from where the last batch ended, as a stateful recurrent or spiking layer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.tanh(x + self.state)
        self.state.copy_(out.detach().mean(0))
        return out


def spectral(old: bool) -> nn.Module:
    layer = nn.Linear(6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.spectral_norm(layer) if old else nn.utils.parametrizations.spectral_norm(layer)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm1d(6),
    "frozen batch norm": lambda: nn.BatchNorm1d(6).eval(),
    "assigned": lambda: Assigning(6),
    "spectral norm": lambda: spectral(old=False),
    "spectral norm by hooks": lambda: spectral(old=True),
    "codebook": Codebook,
    "observer": Observed,
    "unsized observer": Unsized,
    "queue": Queue,
    "state": State,
}


def make(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), LAYERS[kind](), nn.Linear(6, 3))


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


@pytest.mark.parametrize("wrap", [SharpnessAware, Lookbehind])
@pytest.mark.parametrize("kind", LAYERS)
def test_buffers_are_those_of_the_first_pass(kind: str, wrap: type) -> None:
    model = make(kind)
    x = torch.randn(16, 5)
    plain = copy.deepcopy(model)
    plain(x)
    optimizer = wrap(torch.optim.SGD(param_groups(model), lr=0.1), SAM(rho=2.0))
    objects = dict(model.named_buffers())
    passes: list[dict[str, Tensor]] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        passes.append(buffers(model))
        return loss

    optimizer.step(closure)
    assert equal(buffers(model), buffers(plain))
    assert kind == "frozen batch norm" or not equal(passes[1], passes[0])  # a second pass would be noticed
    if kind not in ("assigned", "queue"):
        assert all(objects[name] is buffer for name, buffer in model.named_buffers())


@pytest.mark.parametrize("kind", LAYERS)
def test_a_second_pass_begins_with_the_buffers_of_the_first(kind: str) -> None:
    """A radius of 0 is then the base optimizer, bitwise."""
    x = torch.randn(3, 16, 5)
    ends = []
    for rho in (None, 0.0):
        model = make(kind)
        base = torch.optim.SGD(param_groups(model), lr=0.1)
        optimizer = base if rho is None else SharpnessAware(base, SAM(rho))

        def closure(batch: Tensor, model: nn.Module = model, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = model(batch).square().mean()
            loss.backward()
            return loss

        for batch in x:
            optimizer.step(lambda batch=batch: closure(batch))
            if rho is not None:
                assert optimizer.last_ascent.clean_loss == optimizer.last_ascent.perturbed_loss
        ends.append(model.state_dict())
    assert equal(*ends)


@pytest.mark.parametrize("wrap", [SharpnessAware, Lookbehind])
def test_every_pass_of_a_closure_begins_with_the_same_buffers(wrap: type) -> None:
    model = make("state")
    optimizer = wrap(torch.optim.SGD(param_groups(model), lr=0.1), SAM(rho=2.0))
    seen: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        seen.append(model[1].state.clone())
        loss = model(torch.ones(4, 5)).square().mean()
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    passes = len(seen) // 2
    assert passes == (2 if wrap is SharpnessAware else 3)
    assert all(torch.equal(one, seen[0]) for one in seen[:passes])
    assert all(torch.equal(one, seen[passes]) for one in seen[passes:])
    assert not torch.equal(seen[0], seen[passes])


class Started(nn.Module):
    """Takes its shift from the first batch, as an ActNorm, and says by a flag that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(6))
        self.register_buffer("started", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if not self.started:
            self.shift.data.copy_(-x.detach().mean(0))
            self.started.fill_(1)
        return x + self.shift


@pytest.mark.parametrize("wrap", [SharpnessAware, Lookbehind])
@pytest.mark.parametrize("rule", [SAM(2.0), RangeSAM(0.5)])
def test_a_layer_that_starts_from_the_first_batch_does_so_once(wrap: type, rule: AscentRule) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 6), Started(), nn.Linear(6, 3)), torch.randn(16, 5)
    optimizer = wrap(torch.optim.SGD(param_groups(model), lr=1e-9), rule)
    wanted = -model[0](x).mean(0)
    optimizer.step(closure_for(model, optimizer, (x, torch.zeros(16, dtype=torch.long))))
    assert torch.allclose(model[1].shift, wanted, atol=1e-6)


def test_a_buffer_that_is_a_view_of_a_weight_moves_with_it() -> None:
    model, x = make("batch norm"), torch.randn(16, 5)
    model[0].register_buffer("view", model[0].weight.data)
    optimizer, seen = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), SAM(rho=2.0)), []

    def closure() -> Tensor:
        optimizer.zero_grad()
        seen.append(model[0].weight.detach().clone())
        loss = model(x).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert not torch.equal(*seen)


class Momentum(nn.Module):
    """An encoder and one that follows it, in the forward pass or when it is told to."""

    def __init__(self, *, in_forward: bool) -> None:
        super().__init__()
        self.online, self.follower = nn.Linear(5, 3), nn.Linear(5, 3).requires_grad_(False)
        self.in_forward = in_forward

    @torch.no_grad()
    def follow(self) -> None:
        for mine, other in zip(self.follower.parameters(), self.online.parameters(), strict=True):
            mine.data.mul_(0.9).add_(other.data, alpha=0.1)

    def forward(self, x: Tensor) -> Tensor:
        if self.in_forward:
            self.follow()
        return self.online(x) - self.follower(x)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda base: SharpnessAware(base, SAM(0.5)),
        lambda base: SharpnessAware(base, SAM(0.5), ascent="previous"),
        lambda base: Lookbehind(base, SAM(0.5)),
        lambda base: SharpnessAware(base, NoiseInjection(Gaussian(0.1))),
    ],
)
def test_a_frozen_weight_does_not_follow_perturbed_ones(
    wrap: Callable[[torch.optim.Optimizer], SharpnessAware],
) -> None:
    for in_forward in (True, False):
        model = Momentum(in_forward=in_forward)
        optimizer = wrap(torch.optim.SGD(param_groups(model), lr=0.0))

        def closure(model: Momentum = model, optimizer: SharpnessAware = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = model(torch.ones(4, 5)).square().mean()
            loss.backward()
            return loss

        before = {name: p.detach().clone() for name, p in model.online.named_parameters()}
        if in_forward:
            with pytest.raises(RuntimeError, match=r"`follower\.weight` is frozen, but changed .* Update it after"):
                optimizer.step(closure)
            with pytest.raises(RuntimeError, match="is frozen, but changed"):  # and not what a block left behind
                optimizer.step(closure)
            optimizer.hold = ""
            optimizer.step(closure)
        else:
            optimizer.step(closure)
            model.follow()
            optimizer.step(closure)
        assert equal(before, {name: p.detach() for name, p in model.online.named_parameters()})


def test_a_pattern_says_which_buffers_are_held() -> None:
    for pattern, held in (("*", True), ("1.max_val", True), ("", False)):
        model, x = make("observer"), torch.randn(16, 5)
        base, wrapped = torch.optim.SGD(param_groups(model), lr=0.1), nn.DataParallel(model)
        optimizer = SharpnessAware(base, SAM(rho=20.0), hold=pattern, model=wrapped)
        model(x).square().mean().backward()
        before = buffers(model)
        with optimizer.perturbed():
            model(10 * x).square().mean().backward()
        assert equal(buffers(model), before) == held
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), SAM(), hold="*running_*")
    model(x).square().mean().backward()
    with (
        pytest.raises(ValueError, match=r"`hold` must match .* got '\*running_\*', which none of 1 has.*'1.max_val'"),
        optimizer.perturbed(),
    ):
        pass


@pytest.mark.parametrize(("listed", "pattern"), [(False, "1.max_val"), (True, "?.1.max_val")])
def test_several_models_keep_their_names(listed: bool, pattern: str) -> None:
    """A list of the user's own is one model, with numbers before its names."""
    models, x = [make("observer"), make("observer")], torch.randn(16, 5)
    base = torch.optim.SGD([group for model in models for group in param_groups(model)], lr=0.1)
    optimizer = SharpnessAware(base, SAM(), hold=pattern, model=nn.ModuleList(models) if listed else None)
    sum(model(x).square().mean() for model in models).backward()
    before = [buffers(model) for model in models]
    with optimizer.perturbed():
        sum(model(10 * x).square().mean() for model in models).backward()
        assert not any(equal(buffers(model), held) for model, held in zip(models, before, strict=True))
    assert all(equal(buffers(model), held) for model, held in zip(models, before, strict=True))


def test_buffers_that_no_layer_can_write_are_left_alone() -> None:
    model = make("batch norm")
    model[1].register_buffer("expanded", torch.ones(1).expand(6))
    model[1].register_buffer("lazy", nn.parameter.UninitializedBuffer())
    with torch.inference_mode():
        model[1].register_buffer("inferred", torch.ones(6))
    before = dict(model.named_buffers())
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), SAM())
    model(torch.randn(16, 5)).square().mean().backward()
    with optimizer.perturbed():
        model[1].inferred = model[1].inferred + 1  # exchanged
        model(torch.randn(16, 5)).square().mean().backward()
    assert all(before[name] is buffer for name, buffer in model.named_buffers())
    assert int(model[1].num_batches_tracked) == 1
