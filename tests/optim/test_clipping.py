"""Clipping to a share of the spread, to a fixed and to a learned range, against references written out in float64."""

import copy
import gc
import math
import pickle
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import prune

from samson import (
    SAMSON,
    FixedClipping,
    LearnedRange,
    Lookbehind,
    NoiseInjection,
    SharpnessAware,
    WeightClipping,
    param_groups,
)
from tests.conftest import closure_for, equal, make_batch, make_model, snapshot
from tests.optim.layouts import BY_SHAPE, KINDS, ON_CHIP, Kind, Products, every_kind, every_per, everything

Arrays = dict[str, np.ndarray]
Clipping = WeightClipping | FixedClipping | LearnedRange
LR, MOMENTUM = 0.1, 0.9
CLIPPINGS: dict[str, Clipping] = {
    "std": WeightClipping(alpha=0.5),
    "std-channel": WeightClipping(alpha=0.5, per="channel"),
    "std-long": WeightClipping(alpha=0.5, keep_norm=True),
    "fixed": FixedClipping(w_max=0.05),
    "learned": LearnedRange(start=0.5),
    "learned-channel": LearnedRange(start=0.5, per="channel"),
}
"""Each so narrow that it changes whatever it reaches."""


without_perturbation = pytest.mark.filterwarnings("ignore:SharpnessAware. no perturbation was made")
"""For a step that only clips."""


@pytest.fixture(params=["std", "learned"])
def clipping(request: pytest.FixtureRequest) -> Clipping:
    """One with a range of the moment and one with a range that is kept, not used before."""
    return replace(CLIPPINGS[request.param])


def arrays(model: nn.Module) -> Arrays:
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def apart(one: Arrays, other: Arrays) -> float:
    assert one.keys() == other.keys()
    return float(np.max([np.abs(one[name] - other[name]).max() for name in one]))  # NaN counts


def clip(model: nn.Module, clipping: Clipping, optimizer: torch.optim.Optimizer | None = None) -> set[str]:
    """Clip after a step that itself changes nothing; gives the names of the parameters that clipping changes."""
    before = snapshot(model)
    optimizer = torch.optim.SGD(param_groups(model), lr=LR) if optimizer is None else optimizer
    handle = optimizer.register_step_post_hook(clipping)
    optimizer.step()
    handle.remove()
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


# The range that is given


def within_spread(alpha: float) -> Callable[[np.ndarray], np.ndarray]:
    def clamped(row: np.ndarray) -> np.ndarray:
        bound = alpha * math.sqrt(((row - row.mean()) ** 2).mean())
        return row.clip(-bound, bound) if bound else row

    return clamped


def expected(kind: Kind, per: str, change: Callable[[np.ndarray], np.ndarray]) -> Arrays:
    start = arrays(kind.net())
    return start | {name: layout.each(start[name], per, change) for name, layout in kind.on_chip.items()}


@every_kind
@every_per
def test_clipping_to_the_spread_in_every_layout(kind: Kind, per: str) -> None:
    """The packed queries, keys and values each by themselves; outputs of transposed convolutions within their group."""
    model = kind.net()
    clip(model, WeightClipping(alpha=1.1, per=per))
    assert apart(arrays(model), expected(kind, per, within_spread(1.1))) < 1e-15
    assert apart(arrays(model), expected(kind, "channel" if per == "layer" else "layer", within_spread(1.1))) > 1e-3
    assert all((arrays(model)[name] != arrays(kind.net())[name]).any() for name in kind.on_chip)


def as_long(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """With the norm of before."""
    return lambda row: change(row) * np.sqrt((row**2).sum() / (change(row) ** 2).sum())


@every_kind
@every_per
def test_clipping_that_keeps_the_norm_in_every_layout(kind: Kind, per: str) -> None:
    model = kind.net()
    clip(model, WeightClipping(alpha=1.1, per=per, keep_norm=True))
    assert apart(arrays(model), expected(kind, per, as_long(within_spread(1.1)))) < 1e-14
    assert apart(arrays(model), expected(kind, per, within_spread(1.1))) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_thousand_clippings_keep_the_norm_but_shrink_without_it(dtype: torch.dtype) -> None:
    """In a layer that is shaken at each step, as by gradients; in 16 bits each step rounds its entries."""

    def length(*, keep_norm: bool) -> float:
        generator = torch.Generator().manual_seed(0)
        layer = nn.Linear(64, 64, bias=False).to(dtype)
        layer.weight.data.normal_(generator=generator)
        clipping = WeightClipping(alpha=1.2, keep_norm=keep_norm)
        for _ in range(1000):
            with torch.no_grad():
                before = layer.weight.double().norm()
                shaken = layer.weight + 0.05 * torch.randn(64, 64, generator=generator) * layer.weight.std()
                layer.weight.copy_(shaken * (before / shaken.double().norm()))
            clip(layer, clipping)
        return layer.weight.double().norm().item() / 64

    assert 0.9 < length(keep_norm=True) < 1.1
    assert length(keep_norm=False) < 0.1


@every_kind
def test_clipping_to_a_fixed_range_in_every_layout(kind: Kind) -> None:
    model = kind.net()
    clip(model, FixedClipping(w_max=0.1))
    assert apart(arrays(model), expected(kind, "layer", lambda row: row.clip(-0.1, 0.1))) == 0
    assert apart(arrays(model), arrays(kind.net())) > 1e-3


@pytest.mark.parametrize("name", ["attention", "transposed-grouped", "experts-transposed"])
def test_another_reading_of_a_layout_would_be_noticed(name: str) -> None:
    """One spread for all that is packed, and channels along the first axis as it is stored."""
    model = KINDS[name].net()
    [first, *_] = KINDS[name].on_chip
    start = arrays(model)[first]
    clip(model, WeightClipping(alpha=1.1, per="layer"))
    differs = np.abs(arrays(model)[first] - within_spread(1.1)(start)).max() > 1e-3
    assert differs == (name != "transposed-grouped")  # which is one range by itself
    model = KINDS[name].net()
    clip(model, WeightClipping(alpha=1.1, per="channel"))
    by_first = np.stack([within_spread(1.1)(row) for row in start.reshape(len(start), -1)]).reshape(start.shape)
    assert (np.abs(arrays(model)[first] - by_first).max() > 1e-3) == (name != "attention")


def test_a_layer_without_spread_is_left_alone() -> None:
    layers = nn.ModuleList([nn.Linear(3, 3, bias=False), nn.Linear(1, 1, bias=False)])
    nn.init.ones_(layers[0].weight)
    assert clip(layers, WeightClipping(alpha=0.5)) == set()
    assert clip(layers, FixedClipping(w_max=0.5)) >= {"0.weight"}
    for clipping in (WeightClipping(alpha=2.0), LearnedRange(start=2.0)):
        layer = nn.Linear(100, 10, bias=False)
        nn.init.constant_(layer.weight, 0.1)
        assert layer.weight.std(correction=0) > 0  # by rounding alone
        assert clip(layer, clipping) == set()


def test_channels_without_spread_are_left_alone() -> None:
    for clipping in (WeightClipping(alpha=0.5, per="channel"), LearnedRange(start=0.5, per="channel")):
        layer = nn.Linear(4, 3, bias=False).double()
        with torch.no_grad():
            layer.weight[0], layer.weight[1] = -0.3, 0.0
            layer.weight[2] = torch.tensor([1.0, -2.0, 0.5, 0.1])
        before = layer.weight.detach().clone()
        clip(layer, clipping)
        assert torch.equal(layer.weight[:2], before[:2])
        clamped = torch.from_numpy(within_spread(0.5)(before[2].numpy()))
        assert torch.allclose(layer.weight[2], clamped, rtol=1e-14)


def test_clipping_comes_after_the_step() -> None:
    model, other = make_model(), make_model()
    optimizer = torch.optim.SGD(param_groups(model), lr=LR)
    optimizer.register_step_post_hook(FixedClipping(w_max=0.2))
    plain = torch.optim.SGD(other.parameters(), lr=LR)
    for one, of_one in ((model, optimizer), (other, plain)):
        closure_for(one, of_one, make_batch())()
        of_one.step()
    for name, p in other.named_parameters():
        value = p.detach().clamp(-0.2, 0.2) if name in ("0.weight", "4.weight") else p
        assert torch.equal(model.get_parameter(name), value)


def test_a_step_at_a_rate_of_zero_clips_nothing() -> None:
    """It makes the state that a checkpoint is loaded into."""
    for clipping in CLIPPINGS.values():
        model = make_model()
        optimizer = torch.optim.SGD(param_groups(model), lr=0.0)
        optimizer.register_step_post_hook(clipping)
        before = snapshot(model)
        optimizer.step(closure_for(model, optimizer, make_batch()))
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


# The range that is learned


@dataclass
class ByHand:
    """Training with learned ranges: gradients by autograd, all else in numpy.

    Args:
        kind: The network.
        clipping: Gives the settings.
        lr: The learning rate.
        adam: Whether the steps are Adam's, else those of SGD with momentum.
        there: Where the gradient is taken, from the weights and the gradient there.
        root: Whether the slope is divided by √n.
    """

    kind: Kind
    clipping: LearnedRange
    lr: float = LR
    adam: bool = False
    there: Callable[[Arrays, Callable[[Arrays], Arrays]], Arrays] = lambda at, gradient: at
    root: bool = True
    at: Arrays = field(init=False)
    ranges: Arrays = field(init=False)

    def __post_init__(self) -> None:
        self.model = self.kind.net()
        self.at, self.ranges, self.steps = arrays(self.model), {}, 0
        self.speed, self.squares = ({n: np.zeros_like(w) for n, w in self.at.items()} for _ in range(2))

    def train(self, steps: int) -> "ByHand":
        for seed in range(steps):
            batch = self.kind.batch(seed)
            g = self.gradient(self.there(self.at, lambda at, batch=batch: self.gradient(at, batch)), batch)
            self.steps += 1
            for name, w in self.at.items():
                self.at[name] = self.stepped(name, w, g[name])
                if name in self.kind.on_chip:
                    self.at[name] = self.clipped(name, self.at[name], g[name])
        return self

    def gradient(self, at: Arrays, batch: tuple[Tensor, Tensor]) -> Arrays:
        leaves = {name: torch.from_numpy(w.copy()).requires_grad_() for name, w in at.items()}
        loss = nn.functional.cross_entropy(torch.func.functional_call(self.model, leaves, batch[0]), batch[1])
        found = torch.autograd.grad(loss, list(leaves.values()))
        return {name: g.numpy() for name, g in zip(leaves, found, strict=True)}

    def stepped(self, name: str, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        if not self.adam:
            self.speed[name] = MOMENTUM * self.speed[name] + g
            return w - self.lr * self.speed[name]
        self.speed[name] = 0.9 * self.speed[name] + 0.1 * g
        self.squares[name] = 0.999 * self.squares[name] + 0.001 * g**2
        mean, square = self.speed[name] / (1 - 0.9**self.steps), self.squares[name] / (1 - 0.999**self.steps)
        return w - self.lr * mean / (np.sqrt(square) + 1e-8)

    def clipped(self, name: str, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        layout, per = self.kind.on_chip[name], self.clipping.per
        rows, slopes = layout.rows(w, per), layout.rows(g, per)
        found = []
        for i, (row, slope) in enumerate(zip(rows, slopes, strict=True)):
            r = self.ranges[name][i] if name in self.ranges else self.clipping.start * row.std()
            wanted = sum(min(0.0, math.copysign(1, x) * s) for x, s in zip(row, slope, strict=True) if abs(x) >= r)
            size = math.sqrt(len(row)) if self.root else 1
            found.append(max(0.0, r - self.lr * (wanted / size + self.clipping.penalty * r)))
        self.ranges[name] = np.array(found)
        return layout.stored(rows.clip(-self.ranges[name][:, None], self.ranges[name][:, None]), per).reshape(w.shape)


Make = Callable[[list], torch.optim.Optimizer]


def sgd(groups: list) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM)


def train(
    kind: Kind, clipping: Clipping | None, steps: int, make: Make = sgd
) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = kind.net()
    optimizer = make(param_groups(model))
    if clipping is not None:
        optimizer.register_step_post_hook(clipping)
    for seed in range(steps):
        optimizer.step(closure_for(model, optimizer, kind.batch(seed)))
    return model, optimizer


def ranges_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> Arrays:
    return {
        name: optimizer.state[p]["ranges"].numpy()
        for name, p in model.named_parameters()
        if "ranges" in optimizer.state.get(p, {})
    }


def agrees(found: tuple[nn.Module, torch.optim.Optimizer], by_hand: ByHand, without: str = "") -> bool:
    weights = [{n: w for n, w in of_one.items() if n != without} for of_one in (arrays(found[0]), by_hand.at)]
    return apart(*weights) < 1e-12 and apart(ranges_of(*found), by_hand.ranges) < 1e-12


@every_kind
@every_per
def test_learned_ranges_equal_the_reference(kind: Kind, per: str) -> None:
    clipping = LearnedRange(start=1.2, penalty=0.3, per=per)
    found = train(kind, clipping, 4)
    assert agrees(found, ByHand(kind, clipping).train(4))
    other = replace(clipping, per="channel" if per == "layer" else "layer")
    assert apart(arrays(found[0]), ByHand(kind, other).train(4).at) > 1e-6


@every_per
@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_each_setting_of_a_learned_range_counts(per: str, penalty: float) -> None:
    kind, clipping = KINDS["attention"], LearnedRange(start=1.2, penalty=penalty, per=per)
    found = train(kind, clipping, 5)
    assert agrees(found, ByHand(kind, clipping).train(5))
    for other in (None, WeightClipping(alpha=1.2, per=per)):
        assert apart(arrays(found[0]), arrays(train(kind, other, 5)[0])) > 1e-4
    for other in (replace(clipping, penalty=penalty + 0.1), replace(clipping, start=1.3)):
        assert apart(arrays(found[0]), ByHand(kind, other).train(5).at) > 1e-6
    assert apart(ranges_of(*found), ByHand(kind, clipping, root=False).train(5).ranges) > 1e-6


@every_per
def test_learned_ranges_under_adam(per: str) -> None:
    """The ranges move by plain descent. No loss depends on the bias of keys, so Adam moves that by rounding alone."""
    clipping = LearnedRange(start=1.2, penalty=0.3, per=per)
    for name in ("attention", "transposed-grouped"):
        found = train(KINDS[name], clipping, 5, lambda groups: torch.optim.Adam(groups, lr=0.02))
        assert agrees(found, ByHand(KINDS[name], clipping, 0.02, adam=True).train(5), without="layer.in_proj_bias")
        assert not agrees(found, ByHand(KINDS[name], clipping, 0.02).train(5), without="layer.in_proj_bias")


def samson(at: Arrays, gradient: Callable[[Arrays], Arrays]) -> Arrays:
    """w + ε by the authors' policy, with ρ = .3."""
    g = gradient(at)
    t = {n: (np.abs(w) + 0.01) / np.abs(w).max() if "weight" in n else np.ones_like(w) for n, w in at.items()}
    norm = math.sqrt(sum(((t[n] * g[n]) ** 2).sum() for n in at))
    return {n: w + 0.3 * t[n] ** 2 * g[n] / norm for n, w in at.items()}


@every_per
def test_learned_ranges_under_samson(per: str) -> None:
    """What moves them is the gradient at w + ε."""
    clipping, kind = LearnedRange(start=1.2, penalty=0.3, per=per), KINDS["attention"]
    found = train(kind, clipping, 5, lambda groups: SharpnessAware(sgd(groups), SAMSON(rho=0.3)))
    assert agrees(found, ByHand(kind, clipping, there=samson).train(5))
    assert not agrees(found, ByHand(kind, clipping).train(5))
    [hook] = found[1]._optimizer_step_post_hooks.values()
    assert hook is clipping


@every_per
def test_learned_ranges_under_injected_noise(per: str) -> None:
    """The noise is none that is drawn: each weight of the chip is moved by a tenth of its range."""
    kind = KINDS["attention"]

    def noisy(at: Arrays, _: Callable[[Arrays], Arrays]) -> Arrays:
        moved = {
            n: layout.each(at[n], "layer", lambda row: row + 0.1 * np.abs(row).max())
            for n, layout in kind.on_chip.items()
        }
        return at | moved

    clipping = LearnedRange(start=1.2, penalty=0.3, per=per)
    rule = NoiseInjection(lambda w, generator: w + 0.1 * w.abs().max())
    found = train(kind, clipping, 5, lambda groups: SharpnessAware(sgd(groups), rule))
    assert agrees(found, ByHand(kind, clipping, there=noisy).train(5))
    assert not agrees(found, ByHand(kind, clipping).train(5))


def pulled(gradient: float, clipping: LearnedRange, steps: int, **settings: object) -> list[float]:
    """The range of a layer whose weights are all pulled outwards (a negative gradient) or inwards, step by step."""
    layer = nn.Linear(4, 4, bias=False).double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=LR, **settings)
    optimizer.register_step_post_hook(clipping)
    found = []
    for _ in range(steps):
        layer.weight.grad = gradient * layer.weight.detach().sign()
        optimizer.step()
        found.append(float(optimizer.state[layer.weight]["ranges"]))
        assert float(layer.weight.detach().abs().max()) <= found[-1]
    return found


def test_the_loss_widens_a_range_and_the_penalty_narrows_it() -> None:
    assert np.diff(pulled(-1.0, LearnedRange(start=1.0, penalty=0.0), 20)).min() > 0
    narrowing = pulled(0.1, LearnedRange(start=1.0, penalty=0.5), 20)
    assert np.allclose(np.divide(narrowing[1:], narrowing[:-1]), 1 - LR * 0.5, rtol=1e-12)
    still = pulled(0.1, LearnedRange(start=1.0, penalty=0.0), 20)  # a weight that wants back inside does not count
    assert len(set(still)) == 1


class Still(torch.optim.SGD):
    """Leaves the weights where they are, as momentum may that points the other way."""

    def step(self, closure: None = None) -> None:
        pass


def test_weights_at_the_very_range_count() -> None:
    layer = nn.Linear(4, 4, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -1.0, 0.1, 0.1]).expand(4, 4))
    optimizer = Still(layer.parameters(), lr=LR)
    optimizer.register_step_post_hook(LearnedRange(start=1.0, penalty=0.0))
    found = []
    for gradient in (0.0, -1.0):
        layer.weight.grad = gradient * layer.weight.detach().sign()
        optimizer.step()
        found.append(float(optimizer.state[layer.weight]["ranges"]))
    assert found[0] == float(layer.weight.detach().abs().max()) < 1  # eight of them were clamped to it
    assert found[1] - found[0] == pytest.approx(LR * 8 / 4)


def test_a_range_of_nothing_can_open_again() -> None:
    """A penalty beyond 1 / lr closes it at once, not below zero; then the loss opens it."""
    layer = nn.Linear(4, 4, bias=False).double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=LR)
    optimizer.register_step_post_hook(LearnedRange(penalty=100.0))
    layer.weight.grad = torch.zeros(4, 4).double()
    optimizer.step()
    assert float(optimizer.state[layer.weight]["ranges"]) == 0
    assert not layer.weight.any()
    layer.weight.grad = -torch.ones(4, 4).double()
    optimizer.step()
    assert float(optimizer.state[layer.weight]["ranges"]) == pytest.approx(LR * 16 / 4)
    assert (layer.weight == LR).all()


def test_under_maximize_a_range_moves_as_for_the_negated_loss() -> None:
    clipping = LearnedRange(start=1.0, penalty=0.1)
    found = []
    for gradient, settings in ((-1.0, {}), (1.0, {"maximize": True})):
        torch.manual_seed(0)
        found.append(pulled(gradient, clipping, 10, **settings))
    assert found[1] == pytest.approx(found[0], rel=1e-12)


def test_each_group_has_its_own_learning_rate() -> None:
    """Also one that is a tensor, as compiled training has it."""
    layers = nn.ModuleList([nn.Linear(4, 4, bias=False).double() for _ in range(2)])
    groups = [{"params": layers[0].weight, "lr": 0.1}, {"params": layers[1].weight, "lr": torch.tensor(0.4)}]
    optimizer = torch.optim.SGD(groups, foreach=False)
    optimizer.register_step_post_hook(LearnedRange(penalty=0.5))
    found = []
    for _ in range(2):
        for layer in layers:
            layer.weight.grad = 1e-9 * layer.weight.detach().sign()
        optimizer.step()
        found.append([float(optimizer.state[layer.weight]["ranges"]) for layer in layers])
    assert np.divide(found[1], found[0]).tolist() == pytest.approx([1 - 0.1 * 0.5, 1 - 0.4 * 0.5], rel=1e-7)


@pytest.mark.parametrize(
    ("settings", "overwrites"),
    [
        ({}, True),
        *(({name: value}, False) for name, value in (("weight_decay", 0.1), ("foreach", None), ("nesterov", False))),
    ],
)
def test_a_base_that_overwrites_gradients_is_refused(settings: dict[str, Any], overwrites: bool) -> None:
    """A range would move by the look ahead of Nesterov's momentum in place of its gradient."""
    layer = nn.Linear(4, 4)
    base = torch.optim.SGD(
        layer.parameters(), **{"lr": LR, "momentum": 0.9, "nesterov": True, "foreach": True} | settings
    )
    base.register_step_post_hook(LearnedRange())
    for _ in range(1 if overwrites else 2):
        before = layer.weight.grad = torch.randn(4, 4)
        given = before.clone()
        if overwrites:
            with pytest.raises(ValueError, match="`foreach` must be False, or `fused` True, with Nesterov"):
                base.step()
        else:
            base.step()
        assert torch.equal(layer.weight.grad, given) != overwrites


def test_a_step_at_a_rate_of_zero_leaves_a_range_that_has_begun() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(param_groups(model), lr=LR)
    optimizer.register_step_post_hook(LearnedRange(start=0.5))
    found = []
    for rate in (LR, 0.0):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step(closure_for(model, optimizer, make_batch()))
        found.append(optimizer.state[model[4].weight]["ranges"].clone())
    assert torch.equal(*found)
    assert found[0].isfinite().all()


def test_a_weight_without_a_gradient_has_no_state_yet() -> None:
    """Some optimizers begin theirs only where there is none."""
    layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
    optimizer = torch.optim.Adam(param_groups(layers), lr=LR)
    optimizer.register_step_post_hook(LearnedRange(start=1.0))
    layers[0](torch.randn(8, 4)).sum().backward()
    optimizer.step()
    assert {*optimizer.state} == {*layers[0].parameters()}


def test_a_range_narrows_in_half_precision_too() -> None:
    """A thousandth a step is less than bfloat16 can tell, so the range itself must be kept in more."""
    layer = nn.Linear(16, 16, bias=False).bfloat16()
    optimizer = torch.optim.SGD(layer.parameters(), lr=LR)
    optimizer.register_step_post_hook(LearnedRange(start=1.0, penalty=0.01))
    layer.weight.grad = torch.zeros_like(layer.weight)
    found = []
    for _ in range(101):
        optimizer.step()
        found.append(float(optimizer.state[layer.weight]["ranges"]))
    assert found[-1] / found[0] == pytest.approx((1 - LR * 0.01) ** 100, rel=1e-2)


def test_a_layer_that_has_its_first_gradient_later() -> None:
    """Adam makes its own state when the gradient comes, though a range was looked for before."""
    for make, keys in ((torch.optim.Adam, {"step", "exp_avg", "exp_avg_sq"}), (torch.optim.SGD, set())):
        layers = nn.ModuleList([nn.Linear(4, 4).double() for _ in range(2)])
        optimizer = make(param_groups(layers), lr=LR)
        optimizer.register_step_post_hook(LearnedRange(start=1.0, penalty=0.5))
        seen: list[list[float | None]] = []
        for used in (1, 2, 2, 1):
            optimizer.zero_grad()
            x = torch.randn(8, 4, dtype=torch.float64)
            sum(layer(x).square().sum() for layer in layers[:used]).backward()
            optimizer.step()
            ranges = [optimizer.state.get(layer.weight, {}).get("ranges") for layer in layers]
            seen.append([None if r is None else float(r) for r in ranges])
        first, second = zip(*seen, strict=True)
        assert len(set(first)) == 4  # another after each step
        assert second[0] is None
        assert second[1] != second[2] == second[3]  # it moves only with a gradient
        for layer in layers:
            state = optimizer.state[layer.weight]
            assert {key for key, value in state.items() if value is not None} == keys | {"ranges"}


# States


BASES: dict[str, Make] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=LR),
    "momentum": sgd,
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.02),
    "samson": lambda groups: SharpnessAware(sgd(groups), SAMSON(rho=0.3)),
}


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
@every_per
def test_resuming_is_bit_exact(base: Make, per: str) -> None:
    kind = KINDS["attention"]

    def make(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = kind.net().float()
        torch.manual_seed(seed)
        for p in model.parameters() if seed else ():
            nn.init.normal_(p)
        optimizer = base(param_groups(model))
        optimizer.register_step_post_hook(LearnedRange(start=1.2, penalty=0.3, per=per))
        return model, optimizer

    def run(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> dict[str, Tensor]:
        for seed in seeds:
            x, y = kind.batch(seed)
            optimizer.step(closure_for(model, optimizer, (x.float(), y)))
        return snapshot(model) | {n: torch.from_numpy(r) for n, r in ranges_of(model, optimizer).items()}

    model, optimizer = make(0)
    run(model, optimizer, range(3))
    weights, state = snapshot(model), copy.deepcopy(optimizer.state_dict())
    end = run(model, optimizer, range(3, 6))
    for forget in (False, True):
        other, again = make(5)
        run(other, again, range(1))  # ranges of its own, to be replaced
        other.load_state_dict(weights)
        again.load_state_dict(copy.deepcopy(state))
        for of_parameter in again.state.values() if forget else ():
            of_parameter.pop("ranges", None)
        assert equal(run(other, again, range(3, 6)), end) != forget


@pytest.mark.parametrize(
    ("of", "into", "sizes"), [("channel", "layer", "4, here: 1"), ("layer", "channel", "1, here: 4")]
)
def test_a_state_with_other_ranges_is_refused(of: str, into: str, sizes: str) -> None:
    """The range of the first channel would be that of the layer, in silence."""
    layer = nn.Linear(4, 4)
    optimizer = with_gradients(layer)
    clip(layer, LearnedRange(per=of), optimizer)
    again = with_gradients(layer)
    again.load_state_dict(optimizer.state_dict())
    clip(layer, LearnedRange(per=of), again)
    with pytest.raises(ValueError, match=rf"`per` must be as in the loaded state.* there: {sizes}\), got '{into}'"):
        clip(layer, LearnedRange(per=into), again)


@every_per
def test_a_step_that_a_fused_base_leaves_out_leaves_the_ranges(per: str) -> None:
    """Under a GradScaler: with one gradient not finite, all others are still scaled when the hook comes."""
    ends = []
    for overflows in ([False, False], [False, True, False], [True, True, False, False], [False, False, False]):
        torch.manual_seed(0)
        layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        optimizer = torch.optim.SGD(param_groups(layers), lr=LR, fused=True)
        optimizer.register_step_post_hook(LearnedRange(start=1.0, penalty=0.5, per=per))
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for overflow in overflows:
            optimizer.zero_grad()
            scaler.scale(sum(layer(torch.ones(1, 4)).sum() for layer in layers)).backward()
            if overflow:
                layers[0].weight.grad[0, 0] = math.nan
            scaler.step(optimizer)
            scaler.update()
        ends.append(arrays(layers) | {f"{n} range": r for n, r in ranges_of(layers, optimizer).items()})
    assert apart(ends[0], ends[1]) < 1e-6
    assert apart(ends[0], ends[2]) < 1e-6
    assert apart(ends[0], ends[3]) > 1e-2  # a step that is made would be noticed


def test_there_is_one_range_for_each_part_and_channel() -> None:
    expected_sizes = {
        "attention": {"layer": 3, "channel": 12},
        "transposed-grouped": {"layer": 1, "channel": 6},
        "experts-transposed": {"layer": 4, "channel": 20},
    }
    for name, sizes in expected_sizes.items():
        for per, size in sizes.items():
            model, optimizer = train(KINDS[name], LearnedRange(per=per), 1)
            found = ranges_of(model, optimizer)
            assert found.keys() == KINDS[name].on_chip.keys()
            assert len(found[next(iter(found))]) == size


# What is reached


def with_gradients(model: nn.Module) -> torch.optim.Optimizer:
    """One whose step itself changes nothing, with a gradient for all that may have one."""
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.zeros_like(p)
    return torch.optim.SGD(param_groups(model), lr=LR)


def test_what_is_digital_frozen_quantised_or_complex_is_left_alone(clipping: Clipping) -> None:
    model = everything()
    optimizer = with_gradients(model)
    assert clip(model, clipping, optimizer) == ON_CHIP
    learned = {name for name, p in model.named_parameters() if "ranges" in optimizer.state.get(p, {})}
    assert learned == (ON_CHIP if isinstance(clipping, LearnedRange) else set())


@without_perturbation
def test_without_a_model_it_goes_by_shape(clipping: Clipping) -> None:
    model = everything()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    assert clip(model, clipping, optimizer) == BY_SHAPE
    model = everything()
    wrapper = SharpnessAware(torch.optim.SGD(model.parameters(), lr=LR), SAMSON(), model=model)
    assert clip(model, clipping, wrapper) == ON_CHIP


@pytest.mark.parametrize(
    ("select", "reached"),
    [
        (nn.MultiheadAttention, {"attention.in_proj_weight", "attention.out_proj.weight"}),
        (
            [nn.ConvTranspose2d, "linear", nn.Embedding, "scale.mix"],
            {*("up.weight", "linear.weight", "embedding.weight", "scale.mix")},
        ),
        (lambda name, layer: name.startswith("lin"), {"linear.weight"}),
    ],
    ids=["type-with-parts", "list", "function"],
)
def test_a_selection_says_what_is_clipped(clipping: Clipping, select: object, reached: set[str]) -> None:
    """Those of `test_range_ball`, by the same notion."""
    model = everything()
    assert clip(model, replace(clipping, select=select), with_gradients(model)) == reached


def test_a_part_of_a_packed_weight_may_be_selected(clipping: Clipping) -> None:
    model = everything()
    before, optimizer = model["attention"].in_proj_weight.detach().clone(), with_gradients(model)
    chosen = replace(clipping, select="attention.in_proj_weight.k")
    assert clip(model, chosen, optimizer) == {"attention.in_proj_weight"}
    changed = (model["attention"].in_proj_weight != before).view(3, -1).any(1)
    assert changed.tolist() == [False, True, False]
    if isinstance(clipping, LearnedRange):
        assert optimizer.state[model["attention"].in_proj_weight]["ranges"].shape == (1,)


@pytest.mark.parametrize(
    ("select", "error", "words"),
    [
        ("tpyo", ValueError, "'tpyo'"),
        ("!heed", ValueError, "`select` must have entries that each meet a weight, but '!heed' meets none"),
        (["body*", "heed"], ValueError, "`select` must have entries that each meet a weight, but 'heed' meets none"),
        (3, TypeError, "`select` must be a type, a pattern, a list of these or a function, got 3"),
    ],
)
def test_a_selection_that_picks_other_than_was_meant_is_refused(select: Any, error: type, words: str) -> None:
    """A mistyped name would leave weights as they are, or clip them, in silence."""
    model = body_and_head()
    with pytest.raises(error, match=words):
        clip(model, WeightClipping(select=select), with_gradients(model))


def test_a_selection_needs_the_model() -> None:
    model = body_and_head()
    with pytest.raises(ValueError, match="`select` needs the model, got 'head'.*param_groups"):
        clip(model, WeightClipping(select="head"), torch.optim.SGD(model.parameters(), lr=LR))


def body_and_head() -> nn.ModuleDict:
    return nn.ModuleDict({"body": nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "head": nn.Linear(4, 2)})


@pytest.mark.parametrize(("given", "select"), [("base", "!0"), ("none", "!0"), ("whole", "!body.0"), ("list", "!0.0")])
@without_perturbation
def test_a_layer_of_several_models_is_left_out_by_one_name(given: str, select: str) -> None:
    """Parts with rates of their own are models with names of their own, unless the optimizer is given the whole."""
    model = body_and_head()
    base = torch.optim.SGD([*param_groups(model["body"]), *param_groups(model["head"])], lr=LR)
    known = {"whole": model, "list": nn.ModuleList([model["body"], model["head"]])}.get(given)
    hooked = base if given == "base" else SharpnessAware(base, SAMSON(), model=known)
    assert clip(model, WeightClipping(alpha=0.5, select=select), hooked) == {"head.weight"}


@pytest.mark.parametrize("kind", ["weight norm", "pruned"])
def test_computed_weights_are_refused(clipping: Clipping, kind: str) -> None:
    """Also where a layer is pruned after clipping has begun."""
    left_out = ["default", "!0"]
    match = "`0.weight` must be a parameter for clipping, got .* computes. Leave its layer out with "
    match += re.escape(f"`select={left_out}`. For quantisation-aware training take `NoiseInjection(Quantize(…))` on")
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    optimizer = with_gradients(model)
    assert clip(model, clipping, optimizer) == {"0.weight", "1.weight"}
    if kind == "pruned":
        prune.l1_unstructured(model[0], "weight", 4)
    else:
        nn.utils.parametrizations.weight_norm(model[0])
        optimizer = with_gradients(model)
    with pytest.raises(ValueError, match=match):
        clip(model, clipping, optimizer)
    nn.init.normal_(model[1].weight)
    assert clip(model, replace(clipping, select=left_out), with_gradients(model)) == {"1.weight"}
    several = nn.Sequential(*(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)) for _ in range(2)), *model[1:])
    with pytest.raises(ValueError, match=re.escape("with `select=['default', '!0', '!1']`")):
        clip(several, clipping, with_gradients(several))
    none = several[:2]
    with pytest.raises(ValueError, match="Make it one: remove what computes it"):
        clip(none, clipping, with_gradients(none))


def test_one_object_may_serve_several_optimizers(clipping: Clipping) -> None:
    models = [make_model(seed=seed) for seed in range(2)]
    optimizers = [with_gradients(model) for model in models]
    alone = make_model(seed=1)
    clip(alone, replace(clipping), with_gradients(alone))
    for model, optimizer in zip(models, optimizers, strict=True):
        assert clip(model, clipping, optimizer) == {"0.weight", "4.weight"}
    assert equal(snapshot(models[1]), snapshot(alone))
    with torch.no_grad():
        models[0][4].weight.fill_(1.0).view(-1)[0] = 9.0
    assert clip(models[0], clipping, optimizers[0]) >= {"4.weight"}


def test_it_copies_as_its_settings_alone(clipping: Clipping) -> None:
    """What it found in the last step belongs to a model, which a copy shall not take along, also not to a worker."""
    fresh = len(pickle.dumps(clipping))
    model = nn.Sequential(nn.Linear(100, 100))
    clip(model, clipping)
    assert len(pickle.dumps(clipping)) < 2 * fresh
    again = pickle.loads(pickle.dumps(clipping))
    assert again == clipping == copy.deepcopy(clipping)
    others = [make_model(), make_model()]
    for other, one in zip(others, (clipping, again), strict=True):
        clip(other, one, with_gradients(other))
    assert equal(snapshot(others[0]), snapshot(others[1]))


@pytest.mark.parametrize("wrap", [SharpnessAware, Lookbehind])
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@pytest.mark.parametrize("on_base", [False, True])
def test_a_copied_optimizer_goes_on_clipping(clipping: Clipping, wrap: Callable, how: str, on_base: bool) -> None:
    clipping = replace(clipping, select="4")  # needs the model, which the copy has to know too

    def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        for seed in range(3):
            optimizer.step(closure_for(model, optimizer, make_batch(torch.float32, seed)))
        return snapshot(model)

    model = make_model(torch.float32)
    optimizer = wrap(sgd(param_groups(model)), SAMSON(rho=0.3))
    pair = model, optimizer
    hooked = optimizer.base if on_base else optimizer
    handle = hooked.register_step_post_hook(clipping)
    train(*pair)
    copied = copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))
    handle.remove()  # the copy has a hook of its own
    bare = copy.deepcopy(pair)
    hooked.register_step_post_hook(clipping)
    end = train(*pair)
    assert equal(train(*copied), end)
    assert not equal(train(*bare), end)


def test_a_shallow_copy_clips_no_second_time() -> None:
    model = make_model(torch.float32)
    optimizer = SharpnessAware(sgd(param_groups(model)), SAMSON(rho=0.3))
    optimizer.base.register_step_post_hook(LearnedRange())
    copied = copy.copy(optimizer)
    assert copied.base is optimizer.base
    assert len(optimizer.base._optimizer_step_post_hooks) == 1


def test_it_keeps_no_model_alive() -> None:
    clipping = LearnedRange()

    def used(one: Clipping) -> weakref.ref[nn.Module]:
        model = make_model()
        optimizer = with_gradients(model)
        clip(model, one, optimizer)
        model.optimizer = optimizer  # as a module of Lightning has, by its trainer
        return weakref.ref(model)

    of_one_that_is_gone, of_one_that_stays = used(replace(clipping)), used(clipping)
    gc.collect()
    assert of_one_that_is_gone() is None
    assert of_one_that_stays() is None


@without_perturbation
def test_a_group_that_is_not_perturbed_is_clipped_too(clipping: Clipping) -> None:
    model = make_model()
    groups = [{"params": [model[0].weight]}, {"params": [model[4].weight], "perturb": False}]
    wrapper = SharpnessAware(torch.optim.SGD(groups, lr=LR), SAMSON(), model=model)
    assert clip(model, clipping, wrapper) == {"0.weight", "4.weight"}


@pytest.mark.parametrize("clipping", CLIPPINGS.values(), ids=CLIPPINGS)
def test_clipping_never_waits_for_the_device(clipping: Clipping) -> None:
    with FakeTensorMode():
        model = nn.ModuleList([nn.MultiheadAttention(4, 2), nn.ConvTranspose2d(4, 6, 2, groups=2), nn.Linear(3, 3)])
        optimizer = torch.optim.SGD(param_groups(model), lr=0.1)
        optimizer.register_step_post_hook(clipping)
        for _ in range(2):
            for p in model.parameters():
                p.grad = torch.randn(p.shape)
            optimizer.step()
        with pytest.raises(Exception, match="_local_scalar_dense"):  # it would be noticed
            model[2].weight.sum().item()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightClipping(alpha=0.0), "`alpha` must be > 0 and finite, got 0.0"),
        (lambda: WeightClipping(alpha=-1.0), "`alpha` must be > 0 and finite, got -1.0"),
        (lambda: WeightClipping(alpha=math.inf), "`alpha` must be > 0 and finite, got inf"),
        (lambda: WeightClipping(alpha=math.nan), "`alpha` must be > 0 and finite, got nan"),
        (lambda: WeightClipping(keep_norm=1.0), "`keep_norm` must be True or False, got 1.0"),
        (lambda: WeightClipping(per="row"), "`per` must be one of layer, channel, got 'row'"),
        (lambda: FixedClipping(w_max=0.0), "`w_max` must be > 0 and finite, got 0.0"),
        (lambda: FixedClipping(w_max=math.inf), "`w_max` must be > 0 and finite, got inf"),
        (lambda: LearnedRange(start=0.0), "`start` must be > 0 and finite, got 0.0"),
        (lambda: LearnedRange(start=math.nan), "`start` must be > 0 and finite, got nan"),
        (lambda: LearnedRange(penalty=-0.1), "`penalty` must be ≥ 0 and finite, got -0.1"),
        (lambda: LearnedRange(penalty=math.inf), "`penalty` must be ≥ 0 and finite, got inf"),
        (lambda: LearnedRange(per="tensor"), "`per` must be one of layer, channel, got 'tensor'"),
    ],
)
def test_bad_settings_are_named(make: Callable[[], Clipping], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("known", ["groups", "wrapper"])
@without_perturbation
def test_a_model_of_no_known_layers_is_refused_with_a_name(known: str) -> None:
    """Else nothing is clipped, in silence, though the model is known; the name that is told says what is."""
    model = Products()
    base = torch.optim.SGD(param_groups(model) if known == "groups" else model.parameters(), lr=LR)
    optimizer = base if known == "groups" else SharpnessAware(base, SAMSON(policy="all"), model=model)
    words = "`WeightClipping` needs a weight that lies on a chip, .* nothing is clipped. .*`select='first'`"
    for _ in range(2):
        with pytest.raises(ValueError, match=words):
            clip(model, WeightClipping(), optimizer)
    assert clip(model, WeightClipping(alpha=0.5, select="first"), with_gradients(model)) == {"first"}
    for model in (nn.LayerNorm(4), nn.Embedding(4, 3)):  # of a hook that several optimizers share
        assert clip(model, WeightClipping(), with_gradients(model)) == set()


@pytest.mark.parametrize("held", ["biases", "biases of computed weights", "frozen weights"])
def test_an_optimizer_without_what_lies_on_the_chip_is_let_be(
    clipping: Clipping, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model has such weights, which another optimizer may hold. That is looked up once."""
    model = body_and_head()
    if held == "biases of computed weights":
        for layer in (model["body"][0], model["head"]):
            nn.utils.parametrizations.weight_norm(layer)
    [group] = param_groups(model)
    if held == "frozen weights":
        model.requires_grad_(False)
    else:
        group = {"params": [p for p in group["params"] if p.ndim == 1]}
    optimizer = torch.optim.SGD([group], lr=LR)
    for _ in range(3):
        assert clip(model, clipping, optimizer) == set()
        monkeypatch.setattr("samson.optim._clipping.is_all_unknown", None)  # not called again


def test_a_selection_may_be_frozen_for_a_while(clipping: Clipping) -> None:
    """As a backbone is at first: what is selected is there, and clipped from when it is trained."""
    model = body_and_head()
    model["body"].requires_grad_(False)
    optimizer = with_gradients(model)
    clipping = replace(clipping, select="body.0")
    assert clip(model, clipping, optimizer) == set()
    model["body"].requires_grad_(True)
    assert clip(model, clipping, optimizer) == {"body.0.weight"}


class Whole(torch.optim.SGD):
    """Is copied with all that it holds, but for hooks."""

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if "hook" not in key}


def test_a_base_that_copies_all_of_itself_copies_no_model() -> None:
    model = nn.Linear(3, 2)
    model.own = lambda x: x  # cannot be pickled
    base = Whole(param_groups(model), lr=0.1)
    base.register_step_post_hook(WeightClipping(alpha=1.5))
    model(torch.randn(4, 3)).sum().backward()
    base.step()
    assert pickle.loads(pickle.dumps(base)).defaults == base.defaults
