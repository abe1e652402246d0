"""The range ball: its shape for every layout of weights, the gradient through the range, and what lies on the chip."""

import copy
import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import prune

from samson import SAM, SAMSON, Lookbehind, RangeSAM, SharpnessAware, param_groups
from samson.optim import AscentRule, scales
from tests.conftest import closure_for, equal, make_batch, make_model, snapshot, weights_of
from tests.optim.layouts import KINDS, Kind, Products, every_kind, every_per
from tests.optim.reference import Switching

Named = dict[str, Tensor]
LR, MOMENTUM = 0.1, 0.9


def wrapped(model: nn.Module, rule: AscentRule, lr: float = LR, **modes: object) -> SharpnessAware:
    return SharpnessAware(torch.optim.SGD(param_groups(model), lr=lr, momentum=MOMENTUM), rule, **modes)


def gradients(model: nn.Module) -> Named:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def farthest(one: Named, other: Named) -> float:
    assert one.keys() == other.keys()
    return float(np.max([float((one[name] - other[name]).abs().max()) for name in one]))  # NaN counts


def moved(optimizer: SharpnessAware, model: nn.Module) -> Named:
    """ε of each parameter that moves at all."""
    before = weights_of(model)
    with optimizer.perturbed(model):
        steps = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    return {name: step for name, step in steps.items() if step.any()}


# The shape of the ball


def directions(kind: Kind, model: nn.Module, at: Named, per: str, rho: float) -> Named:
    """ε / T of what lies on the chip: ρ·T∘g / ‖T∘g‖, with T and the norm written out in numpy."""
    w = {name: at[name].numpy() for name in kind.on_chip}
    t = {n: kind.on_chip[n].each(v, per, lambda row: np.full_like(row, np.abs(row).max())) for n, v in w.items()}
    scaled = {name: t[name] * model.get_parameter(name).grad.numpy() for name in w}
    norm = math.sqrt(sum((value**2).sum() for value in scaled.values()))
    return {name: torch.from_numpy(rho * value / norm) for name, value in scaled.items()}


@every_kind
@every_per
def test_the_perturbation_of_every_layout(kind: Kind, per: str) -> None:
    model = kind.net()
    optimizer = wrapped(model, RangeSAM(rho=0.5, per=per))
    closure_for(model, optimizer, kind.batch())()
    at = weights_of(model)
    v = directions(kind, model, at, per, 0.5)
    expected = {n: kind.on_chip[n].ranges(at[n], per) * v[n] for n in v}
    other_per = {n: kind.on_chip[n].ranges(at[n], "channel" if per == "layer" else "layer") * v[n] for n in v}
    found = moved(optimizer, model)
    assert farthest(found, expected) < 1e-14  # and no digital parameter is among them
    assert farthest(found, other_per) > 1e-3


@pytest.mark.parametrize("name", ["transposed", "transposed-grouped", "attention", "experts-transposed"])
def test_another_reading_of_a_layout_would_be_noticed(name: str) -> None:
    """Ranges along the first axis as it is stored, or one for all that is packed, are not those of the reference."""
    kind = KINDS[name]
    [first, *_] = kind.on_chip
    w, layout = kind.net().get_parameter(first).detach(), kind.on_chip[first]
    along_first = w.abs().amax(tuple(range(1, w.ndim)), keepdim=True).expand(w.shape)
    assert (layout.ranges(w, "channel") == along_first).all() == (name == "attention")
    assert (layout.ranges(w, "layer") == w.abs().max()).all() == name.startswith("transposed")


def rescaled(model: nn.Sequential, factor: float | Tensor) -> None:
    """Multiply a layer's channels, and undo it in the next: a ReLU in between lets both through."""
    with torch.no_grad():
        factor = torch.as_tensor(factor, dtype=torch.float64).expand(len(model[0].bias))
        model[0].weight.mul_(factor.view(-1, *[1] * (model[0].weight.ndim - 1)))
        model[0].bias.mul_(factor)
        model[-1].weight.div_(factor.repeat_interleave(model[-1].in_features // len(factor)))


def losses(rule: AscentRule, factor: float | Tensor, convolution: bool) -> tuple[float, float]:
    """Clean and perturbed loss of a rescaled network."""
    torch.manual_seed(0)
    first, features = (nn.Conv1d(2, 4, 2), 16) if convolution else (nn.Linear(5, 8), 8)
    model = nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(features, 3)).double()
    rescaled(model, factor)
    found: list[float] = []
    optimizer = wrapped(model, rule)
    x, y = make_batch()
    optimizer.step(closure_for(model, optimizer, (x if convolution else x[:, 0], y), found))
    return found[0], found[1]


@pytest.mark.parametrize("convolution", [False, True])
@pytest.mark.parametrize("factor", [1e-2, 30.0])
def test_the_loss_on_the_ball_does_not_change_when_a_layer_is_rescaled(factor: float, convolution: bool) -> None:
    for rule in (RangeSAM(rho=0.5), RangeSAM(rho=0.5, per="channel")):
        assert losses(rule, factor, convolution) == pytest.approx(losses(rule, 1.0, convolution), rel=1e-12)
    for rule in (SAM(rho=0.5), SAMSON(rho=0.5), SAMSON(rho=0.5, eta=0.0)):
        (clean, there), (again, elsewhere) = losses(rule, 1.0, convolution), losses(rule, factor, convolution)
        assert again == pytest.approx(clean, rel=1e-12)
        assert abs(elsewhere - there) > 1e-2


def test_each_channel_may_be_rescaled_by_itself() -> None:
    """The next layer's ranges must follow, so its channels have equal ranges: here it is one channel."""
    factors = torch.tensor([0.01, 1.0, 5.0, 100.0])

    def rise(per: str, factor: Tensor) -> float:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv1d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).double()
        rescaled(model, factor)
        groups = [{"params": [model[0].weight]}, {"params": [model[3].weight], "perturb": False}]
        optimizer = SharpnessAware(torch.optim.SGD(groups, lr=LR), RangeSAM(rho=0.5, per=per), model=model)
        optimizer.step(closure_for(model, optimizer, make_batch()))
        return float(optimizer.last_ascent.perturbed_loss - optimizer.last_ascent.clean_loss)

    assert rise("channel", factors) == pytest.approx(rise("channel", torch.ones(4)), rel=1e-10)
    assert abs(rise("layer", factors) - rise("layer", torch.ones(4))) > 1e-2


class Digital(nn.Module):
    """Tokens, attention, and much that stays digital though it has two axes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.bag = nn.EmbeddingBag(7, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = nn.LayerNorm([5, 4])
        self.scale = nn.ParameterDict({"gamma": torch.rand(5, 1) + 0.5})
        self.head = nn.Linear(20, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.bag(tokens).unsqueeze(1)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0]) * self.scale["gamma"]
        return self.head(x.flatten(1))


def tokens(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(7, (16, 5), generator=generator), torch.randint(3, (16,), generator=generator)


@every_per
def test_what_is_digital_does_not_move(per: str) -> None:
    model = Digital().double()
    optimizer = wrapped(model, RangeSAM(rho=0.5, per=per, through_range=True))
    closure_for(model, optimizer, tokens())()
    on_chip = {"attention.in_proj_weight", "attention.out_proj.weight", "head.weight"}
    assert moved(optimizer, model).keys() == on_chip
    other = wrapped(model, SAM(rho=0.5))
    closure_for(model, other, tokens())()
    assert moved(other, model).keys() == set(weights_of(model))  # all have a gradient


def test_the_norm_is_of_what_lies_on_the_chip_alone() -> None:
    """A huge gradient of what is digital leaves the perturbation as it is."""
    ends, model = [], Digital().double()
    for factor in (1.0, 1e6):
        optimizer = wrapped(model, RangeSAM(rho=0.5))
        closure_for(model, optimizer, tokens())()
        for name in ("embedding.weight", "norm.weight", "head.bias", "scale.gamma"):
            model.get_parameter(name).grad.mul_(factor)
        ends.append(moved(optimizer, model))
    assert farthest(*ends) == 0
    other = wrapped(model, SAM(rho=0.5))
    closure_for(model, other, tokens())()
    before = moved(other, model)["head.weight"]
    closure_for(model, other, tokens())()
    model.head.bias.grad.mul_(1e6)
    assert (moved(other, model)["head.weight"] - before).abs().max() > 1e-3


# The gradient through the range


def clamped(model: nn.Module, names: Sequence[str]) -> None:
    """As clipping leaves the weights: many are the largest of their layer, of either sign."""
    with torch.no_grad():
        for name in names:
            w = model.get_parameter(name)
            w.clamp_(-0.7 * w.abs().max(), 0.7 * w.abs().max())


def loss_of(model: nn.Module, at: Named, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(torch.func.functional_call(model, at, batch[0]), batch[1])


def through(
    kind: Kind, model: nn.Module, at: Named, v: Named, per: str, batch: tuple[Tensor, Tensor], fixed: bool = False
) -> Named:
    """By autograd: the gradient of w → L(w + T(w)·v); or with T held fixed as well."""
    leaves = {name: w.clone().requires_grad_() for name, w in at.items()}
    t = {name: kind.on_chip[name].ranges(leaves[name], per) for name in v}
    there = {n: w + (t[n].detach() if fixed else t[n]) * v[n] if n in v else w for n, w in leaves.items()}
    found = torch.autograd.grad(loss_of(model, there, batch), list(leaves.values()), allow_unused=True)
    return {name: g for name, g in zip(leaves, found, strict=True) if g is not None}


@every_kind
@every_per
@pytest.mark.parametrize("ties", [False, True], ids=["one-largest", "ties"])
def test_the_gradient_through_the_range(kind: Kind, per: str, ties: bool) -> None:
    model, batch = kind.net(), kind.batch()
    if ties:
        clamped(model, [*kind.on_chip])
    at = weights_of(model)
    optimizer = wrapped(model, RangeSAM(rho=0.5, per=per, through_range=True))
    closure = closure_for(model, optimizer, batch)
    closure()
    v = directions(kind, model, at, per, 0.5)
    expected, plain = (through(kind, model, at, v, per, batch, fixed) for fixed in (False, True))
    optimizer.step(closure)
    found = gradients(model)
    assert farthest(found, expected) < 1e-13
    for name, layout in kind.on_chip.items():
        largest = at[name].abs() == layout.ranges(at[name], per)
        rise = found[name] - plain[name]
        assert rise[largest].abs().min() > 1e-10  # every range adds something
        assert not (rise.abs() > 1e-13)[~largest].any()
    assert all(torch.allclose(w, at[n] - LR * found[n], rtol=1e-13) for n, w in weights_of(model).items())


def test_largest_weights_share_evenly() -> None:
    """By hand: 2 of 4 entries are the largest, so each gets half, by its own sign."""
    layer = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, -2.0], [1.0, 0.5]]))
    optimizer = wrapped(layer, RangeSAM(rho=0.5, through_range=True))
    first, second = torch.tensor([[3.0, 0.0], [4.0, 0.0]]).double(), torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double()
    layer.weight.grad = first.clone()
    with optimizer.perturbed(layer):
        layer.weight.grad = second.clone()
    half = 0.5 * (3 * 1 + 4 * 3) / 5 / 2  # of ⟨second, v⟩ with v = ρ·T∘g / ‖T∘g‖
    assert torch.allclose(layer.weight.grad - second, torch.tensor([[half, -half], [0, 0]]).double(), rtol=1e-13)


def one_step(
    prepare: Callable[[nn.Module], SharpnessAware], second: Callable[[nn.Module, Callable], object] | None = None
) -> tuple[Named, Named, Named, Named]:
    """Both passes on the packed attention; gives the gradients, the expected ones, those at a fixed T, the clean."""
    kind = KINDS["attention"]
    model, batch = kind.net(), kind.batch()
    optimizer, at = prepare(model), weights_of(model)
    closure = closure_for(model, optimizer, batch)
    closure()
    clean, v = gradients(model), directions(kind, model, at, "layer", optimizer.param_groups[0]["rho"])
    with optimizer.perturbed(model):
        (second or (lambda _, run: run()))(model, closure)
    expected, plain = (through(kind, model, at, v, "layer", batch, fixed) for fixed in (False, True))
    return gradients(model), expected, plain, clean


RULE = RangeSAM(rho=0.5, through_range=True)


def test_mixing_mixes_the_whole_gradient() -> None:
    found, expected, plain, clean = one_step(lambda model: wrapped(model, RULE, mix=0.3))
    for whole, agrees in ((expected, True), (plain, False)):
        mixed = {name: 0.3 * whole[name] + 0.7 * clean[name] for name in clean}
        assert (farthest(found, mixed) < 1e-13) == agrees
    assert farthest(found, expected) > 1e-3


def test_accumulated_micro_batches_count_as_one() -> None:
    """The mean over two halves is the mean over all, so the part through the range is added once, not twice."""

    def halves(model: nn.Module, _: Callable) -> None:
        x, y = KINDS["attention"].batch()
        for rows in (slice(0, 6), slice(6, 12)):
            (nn.functional.cross_entropy(model(x[rows]), y[rows]) / 2).backward()

    found, expected, plain, _ = one_step(lambda model: wrapped(model, RULE), halves)
    assert farthest(found, expected) < 1e-13
    twice = {name: 2 * expected[name] - plain[name] for name in expected}
    assert farthest(found, twice) > 1e-4


def test_a_scaled_loss_gives_a_scaled_gradient() -> None:
    """As under a GradScaler, which unscales after the block."""

    def scaled(model: nn.Module, _: Callable) -> None:
        x, y = KINDS["attention"].batch()
        (1024 * nn.functional.cross_entropy(model(x), y)).backward()

    found, expected, _, _ = one_step(lambda model: wrapped(model, RULE), scaled)
    assert farthest({name: g / 1024 for name, g in found.items()}, expected) < 1e-13


def test_under_maximize_the_perturbation_goes_downhill() -> None:
    def descending(model: nn.Module) -> SharpnessAware:
        groups = [group | {"maximize": True} for group in param_groups(model)]
        return SharpnessAware(torch.optim.SGD(groups, lr=LR), RULE)

    kind = KINDS["attention"]
    found, uphill, _, _ = one_step(descending)
    model, batch = kind.net(), kind.batch()
    at = weights_of(model)
    loss_of(model, dict(model.named_parameters()), batch).backward()
    v = {name: -value for name, value in directions(kind, model, at, "layer", 0.5).items()}
    assert farthest(found, through(kind, model, at, v, "layer", batch)) < 1e-13
    assert farthest(found, uphill) > 1e-3


def test_the_previous_gradient_is_the_whole_one() -> None:
    """One pass a step: it climbs along what the step before descended, the part through the range included."""
    kind = KINDS["attention"]
    model, other = kind.net(), kind.net()
    optimizer = wrapped(model, RULE, ascent="previous")
    at, speed = weights_of(other), {}
    for seed in range(4):
        batch = kind.batch(seed)
        if speed:
            v = directions(kind, other, at, "layer", 0.5)
            found = through(kind, other, at, v, "layer", batch)
        else:
            found = through(kind, other, at, {}, "layer", batch)
        speed = {name: MOMENTUM * speed.get(name, 0.0) + g for name, g in found.items()}
        at = {name: w - LR * speed[name] for name, w in at.items()}
        for name, g in found.items():
            other.get_parameter(name).grad = g
        optimizer.step(closure_for(model, optimizer, batch))
        assert farthest(weights_of(model), at) < 1e-12
    plain = kind.net()
    without = wrapped(plain, RangeSAM(rho=0.5), ascent="previous")
    for seed in range(4):
        without.step(closure_for(plain, without, kind.batch(seed)))
    assert farthest(weights_of(plain), at) > 1e-4


def test_a_weight_without_a_second_gradient_gets_none() -> None:
    """One head has a gradient in the clean pass alone, the other in the perturbed one alone, where it did not climb."""
    model = Switching().double()
    optimizer = wrapped(model, RULE)
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.randint(3, (8,))
    closure = closure_for(model, optimizer, (x, y))
    at = weights_of(model)
    closure()
    perturbed = ("body.weight", "heads.0.weight")
    t = {name: at[name].abs().max() for name in perturbed}
    norm = math.sqrt(sum(float((t[name] * model.get_parameter(name).grad).square().sum()) for name in perturbed))
    v = {name: 0.5 * t[name] * model.get_parameter(name).grad / norm for name in perturbed}
    with optimizer.perturbed(model):
        closure()
    assert model.heads[0].weight.grad is None
    leaves = {name: w.clone().requires_grad_() for name, w in at.items()}
    body = leaves["body.weight"] + leaves["body.weight"].abs().amax() * v["body.weight"]
    hidden = nn.functional.linear(x, body, leaves["body.bias"])
    loss = nn.functional.cross_entropy(nn.functional.linear(hidden, leaves["heads.1.weight"], at["heads.1.bias"]), y)
    expected = torch.autograd.grad(loss, [leaves["body.weight"], leaves["heads.1.weight"]])
    assert torch.allclose(model.body.weight.grad, expected[0], rtol=1e-12)
    assert torch.allclose(model.heads[1].weight.grad, expected[1], rtol=1e-12)
    optimizer.step()


def test_groups_have_settings_of_their_own() -> None:
    """A radius, a kind of range and a way of the gradient for each group; one norm over all that is perturbed."""
    kind = KINDS["attention"]
    model, batch = kind.net(), kind.batch()
    groups = [
        {"params": [model.layer.in_proj_weight], "rho": 0.2},
        {"params": [model.layer.out_proj.weight], "perturb": False},
        {"params": [model.head.weight], "per": "channel", "through_range": False},
    ]
    optimizer = SharpnessAware(torch.optim.SGD(groups, lr=LR), RULE, model=model)
    closure_for(model, optimizer, batch)()
    packed, head = kind.on_chip["layer.in_proj_weight"], kind.on_chip["head.weight"]
    at = weights_of(model)
    t = {
        "layer.in_proj_weight": packed.ranges(at["layer.in_proj_weight"], "layer"),
        "head.weight": head.ranges(at["head.weight"], "channel"),
    }
    g = {name: model.get_parameter(name).grad.clone() for name in t}
    norm = math.sqrt(sum(float((t[name] * g[name]).square().sum()) for name in t))
    rho = {"layer.in_proj_weight": 0.2, "head.weight": 0.5}
    expected = {name: rho[name] * t[name] ** 2 * g[name] / norm for name in t}
    assert farthest(moved(optimizer, model), expected) < 1e-14
    optimizer.zero_grad()
    closure_for(model, optimizer, batch)()
    with optimizer.perturbed(model):
        closure_for(model, optimizer, batch)()
    leaves = {name: w.clone().requires_grad_() for name, w in at.items()}
    whole = packed.ranges(leaves["layer.in_proj_weight"], "layer")
    steps = {  # only the packed weight's range is a function of it
        "layer.in_proj_weight": whole * (expected["layer.in_proj_weight"] / t["layer.in_proj_weight"]),
        "head.weight": expected["head.weight"],
    }
    loss = loss_of(model, leaves | {name: leaves[name] + step for name, step in steps.items()}, batch)
    on_chip = ["layer.in_proj_weight", "head.weight"]
    for name, g in zip(on_chip, torch.autograd.grad(loss, [leaves[name] for name in on_chip]), strict=True):
        assert torch.allclose(model.get_parameter(name).grad, g, rtol=1e-11, atol=1e-15)


def test_a_group_may_take_ranges_by_channel_in_any_layout() -> None:
    kind = KINDS["transposed-grouped"]
    ends = []
    for rule, group in ((RangeSAM(per="channel"), {}), (RangeSAM(), {"per": "channel"}), (RangeSAM(), {})):
        model = kind.net()
        groups = [one | group for one in param_groups(model)]
        optimizer = SharpnessAware(torch.optim.SGD(groups, lr=LR), rule)
        closure_for(model, optimizer, kind.batch())()
        ends.append(moved(optimizer, model))
    assert farthest(ends[1], ends[0]) == 0
    assert farthest(ends[2], ends[0]) > 1e-3


@every_per
def test_a_weight_of_zeros_stays_where_it_is(per: str) -> None:
    model, batch = make_model(), make_batch()
    nn.init.zeros_(model[4].weight)
    optimizer = wrapped(model, RangeSAM(rho=0.5, per=per, through_range=True))
    closure_for(model, optimizer, batch)()
    model[0].weight.grad.fill_(1.0)  # nothing flows back through a weight of zeros
    assert moved(optimizer, model).keys() == {"0.weight"}
    optimizer.zero_grad()
    optimizer.step(closure_for(model, optimizer, batch))
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert model[4].weight.any()


def test_radius_zero_is_the_base_optimizer_bitwise() -> None:
    ends = []
    for rho in (0.0, None, 0.5):
        model = make_model(torch.float32)
        base = torch.optim.SGD(param_groups(model), lr=LR, momentum=MOMENTUM)
        optimizer = base if rho is None else SharpnessAware(base, RangeSAM(rho=rho, through_range=True))
        for seed in range(5):
            optimizer.step(closure_for(model, optimizer, make_batch(torch.float32, seed)))
        ends.append(snapshot(model))
    assert equal(ends[0], ends[1])
    assert not equal(ends[2], ends[1])


@every_per
def test_an_infinite_gradient_gives_no_perturbation(per: str) -> None:
    """Then ε is 0, and nothing comes through the range."""
    model, batch = make_model(), make_batch()
    optimizer = wrapped(model, RangeSAM(rho=0.5, per=per, through_range=True))
    closure = closure_for(model, optimizer, batch)
    closure()
    model[1].eval()  # so that each pass uses the same statistics
    closure()
    clean = gradients(model)
    model[4].weight.grad[0, 0] = math.inf
    with optimizer.perturbed(model):
        closure()
    assert farthest(gradients(model), clean) == 0
    assert int(optimizer.skipped_ascents) == 1


# What never waits, other precisions, the compiled climb


@every_per
@pytest.mark.parametrize("through_range", [False, True])
def test_a_whole_step_never_waits_for_the_device(
    per: str, through_range: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samson.optim._perturbed.exclusive", list)  # it looks at addresses: fake tensors have none
    with FakeTensorMode():
        model = nn.ModuleList([nn.MultiheadAttention(4, 2), nn.ConvTranspose2d(4, 6, 2, groups=2), nn.Linear(3, 3)])
        optimizer = wrapped(model, RangeSAM(rho=0.5, per=per, through_range=through_range))
        for _ in range(2):
            for p in model.parameters():
                p.grad = torch.randn(p.shape)
            with optimizer.perturbed(model):
                for p in model.parameters():
                    p.grad = torch.randn(p.shape)
            optimizer.step()
        with pytest.raises(Exception, match="_local_scalar_dense"):  # it would be noticed
            optimizer.last_ascent.gradient_norm.item()


@every_per
def test_half_precision(per: str) -> None:
    """Against float64 from the same numbers: the climb is rounded once, the part through the range by its terms."""
    model = nn.Sequential(nn.Linear(64, 32), nn.Conv2d(8, 8, 3)).bfloat16()
    with pytest.warns(UserWarning, match="half-precision weights absorb"):
        optimizer = wrapped(model, RangeSAM(rho=2.0, per=per, through_range=True))
    rounding = torch.finfo(torch.bfloat16).eps / 2
    at = {name: w.double() for name, w in weights_of(model).items()}
    first, second = ({n: torch.randn(w.shape).bfloat16() for n, w in at.items()} for _ in range(2))
    for name, p in model.named_parameters():
        p.grad = first[name].clone()
    names = ("0.weight", "1.weight")
    axes = {n: tuple(range(0 if per == "layer" else 1, at[n].ndim)) for n in names}
    t = {name: at[name].abs().amax(axes[name], keepdim=True) for name in names}
    norm = math.sqrt(sum(float((t[name] * first[name].double()).square().sum()) for name in names))
    with optimizer.perturbed(model):
        there = {name: model.get_parameter(name).detach().double() for name in names}
        for name, p in model.named_parameters():
            p.grad = second[name].clone()
    for name in names:
        exact = at[name] + 2.0 * t[name] ** 2 * first[name].double() / norm
        assert ((there[name] - exact).abs() <= rounding * exact.abs() + 1e-6).all()
        assert ((exact - at[name]).abs() > 4 * rounding * exact.abs()).float().mean() > 0.5  # most are seen to move
        largest = at[name].abs() == t[name]
        terms = second[name].double() * (there[name] - at[name])
        share = largest.sum(axes[name], keepdim=True) * t[name]
        extra = torch.where(largest, at[name].sign() * terms.sum(axes[name], keepdim=True) / share, 0.0)
        expected = second[name].double() + extra
        slack = 4 * rounding * torch.where(largest, terms.abs().sum(axes[name], keepdim=True) / share, 0.0)
        error = (model.get_parameter(name).grad.double() - expected).abs()
        assert (error <= slack + rounding * expected.abs()).all()
        assert (extra.abs() > slack + rounding * expected.abs()).any()
    assert all(torch.equal(p.double(), at[name]) for name, p in model.named_parameters())


@pytest.mark.filterwarnings("ignore:.*half-precision weights absorb")
def test_more_weights_at_the_range_than_half_precision_can_count() -> None:
    layer = nn.Linear(512, 512, bias=False).half()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(512, 512).sign())
    optimizer = wrapped(layer, RangeSAM(rho=64.0, through_range=True))
    layer.weight.grad = torch.full((512, 512), 0.25).half()
    with optimizer.perturbed(layer):
        layer.weight.grad = torch.full((512, 512), 0.5).half()  # every weight has moved by ρ/512 = .125
    expected = 0.5 + layer.weight.detach() * 0.5 * 0.125
    assert torch.allclose(layer.weight.grad, expected, rtol=2e-3)


@every_kind
def test_the_compiled_climb_takes_every_layout(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's own tracing and without code of its own, which `test_compile` has."""
    torch._dynamo.reset()
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda run, **settings: real(run, backend="eager", **settings))
    ends = []
    for settings in ({"compiled": True}, {}):
        model = kind.net()
        optimizer = wrapped(model, RangeSAM(rho=0.5, through_range=True), **settings)
        for seed in range(2):
            optimizer.step(closure_for(model, optimizer, kind.batch(seed)))
        ends.append(weights_of(model))
    assert farthest(*ends) < 1e-13


# What lies on the chip


def two_kinds() -> nn.ModuleDict:
    layers = {"body": nn.Conv2d(2, 3, 2), "attention": nn.MultiheadAttention(4, 2), "head": nn.Linear(4, 3)}
    return nn.ModuleDict(layers)


def fill(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)


ATTENTION = {"attention.in_proj_weight", "attention.out_proj.weight"}


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        (None, {"body.weight", "head.weight"} | ATTENTION),
        (nn.Conv2d, {"body.weight"}),
        (nn.MultiheadAttention, ATTENTION),
        ("head", {"head.weight"}),
        ("attention*", ATTENTION),
        ([nn.Conv2d, "head"], {"body.weight", "head.weight"}),
        (lambda name, layer: name != "head", {"body.weight"} | ATTENTION),
    ],
    ids=["default", "type", "type-with-parts", "name", "pattern", "list", "function"],
)
def test_a_selection_says_what_moves(select: object, expected: set[str]) -> None:
    model = two_kinds()
    optimizer = wrapped(model, RangeSAM(rho=0.5, select=select))
    fill(model)
    assert moved(optimizer, model).keys() == expected
    fill(model)
    assert moved(optimizer, model).keys() == expected  # also the second time, from what is remembered


@pytest.mark.parametrize(("given", "select"), [("none", "!0"), ("whole", "!body.0"), ("list", "!0.0")])
def test_a_layer_of_several_models_is_left_out_by_one_name(given: str, select: str) -> None:
    """Parts with rates of their own are models with names of their own, unless the optimizer is given the whole."""
    model = nn.ModuleDict({"body": nn.Sequential(nn.Linear(4, 4)), "head": nn.Linear(4, 2)})
    base = torch.optim.SGD([*param_groups(model["body"]), *param_groups(model["head"])], lr=LR)
    known = {"whole": model, "list": nn.ModuleList(model.values())}.get(given)
    optimizer = SharpnessAware(base, RangeSAM(rho=0.5, select=select), model=known)
    fill(model)
    assert moved(optimizer, model).keys() == {"head.weight"}


@pytest.mark.parametrize("select", ["!heed", ["body", "heed"]])
def test_an_entry_that_meets_no_weight_is_refused(select: str | list[str]) -> None:
    with pytest.raises(ValueError, match="`select` must have entries that each meet a weight, but '!?heed' meets none"):
        wrapped(two_kinds(), RangeSAM(rho=0.5, select=select))


@every_per
def test_a_part_of_a_packed_weight_may_be_selected(per: str) -> None:
    model = two_kinds().double()
    optimizer = wrapped(model, RangeSAM(rho=0.5, per=per, select="attention.in_proj_weight.k", through_range=True))
    fill(model)
    w, g = model["attention"].in_proj_weight.detach()[4:8].clone(), model["attention"].in_proj_weight.grad[4:8].clone()
    t = w.abs().amax((0, 1) if per == "layer" else 1, keepdim=True)
    [(name, step)] = moved(optimizer, model).items()
    assert name == "attention.in_proj_weight"
    assert torch.allclose(step[4:8], 0.5 * t**2 * g / (t * g).norm(), rtol=1e-10)
    assert not step[:4].any()
    assert not step[8:].any()
    fill(model)
    with optimizer.perturbed(model):
        fill(model)
    found = model["attention"].in_proj_weight.grad.clone()
    fill(model)
    changed = found - model["attention"].in_proj_weight.grad
    assert changed[4:8].any()
    assert not changed[:4].any()
    assert not changed[8:].any()


def test_an_embedding_and_an_unknown_layer_move_where_they_are_asked_for() -> None:
    model = Digital()
    fill(model)
    assert moved(wrapped(model, RangeSAM(select=[nn.Embedding, "scale.gamma"])), model).keys() == {
        "embedding.weight",
        "scale.gamma",
    }


@every_per
def test_the_outputs_of_an_embedding_lie_along_its_second_axis(per: str) -> None:
    model = nn.Sequential(nn.Embedding(7, 4)).double()
    optimizer = wrapped(model, RangeSAM(rho=0.5, per=per, select=nn.Embedding))
    fill(model)
    w, g = model[0].weight.detach().clone(), model[0].weight.grad.clone()
    t = w.abs().amax((0, 1) if per == "layer" else 0, keepdim=True)
    assert torch.allclose(moved(optimizer, model)["0.weight"], 0.5 * t**2 * g / (t * g).norm(), rtol=1e-10)


@pytest.mark.parametrize("rule", [RangeSAM(select="head"), RangeSAM(select=nn.Linear)])
def test_a_selection_needs_the_model(rule: RangeSAM) -> None:
    model = two_kinds()
    with pytest.raises(ValueError, match="`select` needs the model, got .*param_groups.*`model=`"):
        SharpnessAware(torch.optim.SGD(model.parameters(), lr=LR), rule)
    SharpnessAware(torch.optim.SGD(model.parameters(), lr=LR), rule, model=model)
    with pytest.raises(TypeError, match="`select` must be a type, a pattern"):
        wrapped(model, RangeSAM(select=3))


def test_a_selection_leaves_out_what_no_model_owns() -> None:
    """By shape it could be a matrix, but nobody selected it."""
    model, loose = two_kinds(), nn.Parameter(torch.randn(3, 3))
    base = torch.optim.SGD([*model.parameters(), loose], lr=LR)
    before = loose.detach().clone()
    for select, moves in ((None, True), ("head", False)):
        optimizer = SharpnessAware(base, RangeSAM(select=select), model=model)
        fill(model)
        loose.grad = torch.ones(3, 3)
        with optimizer.perturbed(model):
            assert torch.equal(loose, before) != moves, f"select={select!r}"


def test_without_a_model_matrices_move() -> None:
    parameters = [nn.Parameter(torch.randn(shape)) for shape in ((3, 4), (4,), (4, 1, 1), (2, 2, 2))]
    optimizer = SharpnessAware(torch.optim.SGD(parameters, lr=LR), RangeSAM(rho=0.5))
    before = [p.detach().clone() for p in parameters]
    for p in parameters:
        p.grad = torch.ones_like(p)
    with pytest.warns(UserWarning, match="no model is known"), optimizer.perturbed():
        assert [torch.equal(p, b) for p, b in zip(parameters, before, strict=True)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("model", "rule", "message"),
    [
        (nn.Embedding(4, 4), RangeSAM(), "`RangeSAM` needs a weight that lies on a chip, got 1 parameters"),
        (nn.LayerNorm([4, 5]), RangeSAM(), "`RangeSAM` needs a weight that lies on a chip, got 2 parameters"),
        (nn.LayerNorm(4), RangeSAM(), "on a chip, got 2 parameters without one. Give it a model with linear, .* rule"),
        (Products(), RangeSAM(), "without one. Say by name what lies there, such as `select='first'`, or take another"),
        (nn.Linear(4, 4), RangeSAM(select=nn.Conv2d), "`select` must pick .*2 parameters are.*, got .*Conv2d"),
        (nn.Linear(4, 4), RangeSAM(select="nothing*"), r"`select` must pick .*2 parameters are.*, got 'nothing\*'"),
    ],
)
def test_a_rule_that_reaches_nothing_is_refused(model: nn.Module, rule: RangeSAM, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrapped(model, rule)


def make_computed(layer: nn.Linear, kind: str) -> None:
    match kind:
        case "weight norm":
            nn.utils.parametrizations.weight_norm(layer)
        case "orthogonal":
            nn.utils.parametrizations.orthogonal(layer)
        case "pruned":
            prune.l1_unstructured(layer, "weight", 4)
        case _:
            with pytest.warns(FutureWarning):
                nn.utils.weight_norm(layer)


LEFT_OUT = ["default", "!0"]
REFUSED = re.escape(f"computes. Leave its layer out with `select={LEFT_OUT}`. For quantisation-aware training take ")
REFUSED = f"`0.weight` must be a parameter for RangeSAM, got .* {REFUSED}" + r"`NoiseInjection\(Quantize\(…\)\)`"


@pytest.mark.parametrize("kind", ["weight norm", "orthogonal", "pruned", "weight norm by hooks"])
def test_computed_weights_are_refused(kind: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    make_computed(model[0], kind)
    with pytest.raises(ValueError, match=REFUSED):
        wrapped(model, RangeSAM())
    optimizer = wrapped(model, RangeSAM(select=LEFT_OUT))  # the computed one stays digital
    fill(model)
    assert moved(optimizer, model).keys() == {"1.weight"}


@pytest.mark.parametrize("kind", ["weight norm", "pruned"])
def test_a_weight_that_is_computed_later_is_noticed(kind: str) -> None:
    """Also where the parameter stays the same and has another name or place."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    optimizer = wrapped(model, RangeSAM())
    x, y = torch.randn(8, 4), torch.randint(3, (8,))
    optimizer.step(closure_for(model, optimizer, (x, y)))
    make_computed(model[0], kind)
    optimizer.param_groups[0]["params"] = list(model.parameters())
    closure_for(model, optimizer, (x, y))()
    before = snapshot(model)
    with pytest.raises(ValueError, match=REFUSED), optimizer.perturbed(model):
        raise AssertionError("the block was entered")
    assert equal(snapshot(model), before)


def test_pruning_is_noticed_though_the_optimizer_holds_the_same_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    optimizer = wrapped(model, RangeSAM())
    x, y = torch.randn(8, 4), torch.randint(3, (8,))
    optimizer.step(closure_for(model, optimizer, (x, y)))
    held = [id(p) for p in optimizer.param_groups[0]["params"]]
    prune.l1_unstructured(model[0], "weight", 4)
    assert id(model[0].weight_orig) in held
    with pytest.raises(ValueError, match=REFUSED):
        optimizer.step(closure_for(model, optimizer, (x, y)))
    prune.remove(model[0], "weight")
    model[0].weight = nn.Parameter(model[0].weight.detach())
    optimizer.param_groups[0]["params"] = list(model.parameters())
    closure_for(model, optimizer, (x, y))()
    assert moved(optimizer, model).keys() == {"0.weight", "1.weight"}


def test_a_layer_that_is_added_later_moves_as_its_type_says() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    optimizer = wrapped(model, RangeSAM(rho=0.5))
    fill(model)
    assert moved(optimizer, model).keys() == {"0.weight"}
    model.append(nn.Linear(1, 3))  # by shape it would be no matrix
    model.append(nn.Embedding(3, 4))  # by shape it would be one
    optimizer.add_param_group({"params": [*model[1].parameters(), *model[2].parameters()]})
    fill(model)
    assert moved(optimizer, model).keys() == {"0.weight", "1.weight"}


def test_a_head_that_shares_its_weight_with_an_embedding_moves() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(7, 4), "head": nn.Linear(4, 7, bias=False)})
    model["head"].weight = model["embedding"].weight
    optimizer = wrapped(model, RangeSAM(rho=0.5))
    fill(model)
    assert moved(optimizer, model).keys() == {"embedding.weight"}
    model["head"] = nn.Identity()
    with pytest.raises(ValueError, match="needs a weight that lies on a chip"):
        wrapped(model, RangeSAM())


def test_a_weight_that_is_shared_with_a_head_later_moves_from_then_on() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(7, 4), "body": nn.Linear(4, 4), "head": nn.Linear(4, 7)})
    optimizer = wrapped(model, RangeSAM(rho=0.5))
    fill(model)
    assert moved(optimizer, model).keys() == {"body.weight", "head.weight"}
    model["head"].weight = model["embedding"].weight
    fill(model)
    assert moved(optimizer, model).keys() == {"body.weight", "embedding.weight"}


# Copies


def test_a_copy_finds_its_own_weights() -> None:
    model = two_kinds()
    optimizer = wrapped(model, RangeSAM(rho=0.5))
    fill(model)
    moved(optimizer, model)  # both hold what they found
    other, again = copy.deepcopy((model, optimizer))
    fill(other)
    before = weights_of(model)
    with again.perturbed(other):
        assert farthest(weights_of(model), before) == 0
        assert not torch.equal(other["head"].weight, before["head.weight"])


# T on its own


@every_kind
@every_per
def test_scales_of_every_layout(kind: Kind, per: str) -> None:
    model = kind.net()
    for (name, w), t in zip(
        model.named_parameters(), scales(RangeSAM(per=per), model.named_parameters(), model), strict=True
    ):
        expected = kind.on_chip[name].ranges(w.detach(), per) if name in kind.on_chip else torch.zeros_like(w)
        assert torch.equal(t, expected), name


def test_scales_of_digital_weights_and_of_a_selection() -> None:
    """By the model's layers, for weights that are not the model's own; without it, by shape."""
    model = Digital()
    named = [(name, 3 * p.detach()) for name, p in model.named_parameters()]
    found = {n: t for (n, _), t in zip(named, scales(RangeSAM(), named, model), strict=True)}
    packed = dict(named)["attention.in_proj_weight"]
    for part, size in zip(found["attention.in_proj_weight"].chunk(3), packed.chunk(3), strict=True):
        assert (part == size.abs().max()).all()
    assert {n for n, t in found.items() if t.any()} == {
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "head.weight",
    }
    chosen = scales(RangeSAM(select=nn.Embedding), named, model)
    assert {n for (n, _), t in zip(named, chosen, strict=True) if t.any()} == {"embedding.weight"}
    by_shape = {n: t for (n, _), t in zip(named, scales(RangeSAM(), named), strict=True)}
    assert (by_shape["embedding.weight"] == dict(named)["embedding.weight"].abs().max()).all()
    assert (by_shape["attention.in_proj_weight"] == packed.abs().max()).all()
    assert not by_shape["scale.gamma"].any()


# What is refused


given_to = pytest.mark.parametrize(
    ("rule", "group"), [(RULE, {}), (RangeSAM(), {"through_range": True})], ids=["rule", "group"]
)


@given_to
def test_one_gradient_for_each_process_is_refused_through_the_range(rule: RangeSAM, group: dict) -> None:
    """Each process would add what its own perturbation gives, and the replicas would drift apart."""
    model = make_model()
    groups = [one | group for one in param_groups(model)]
    with pytest.raises(ValueError, match="`own_ascent` must be False with through_range=True"):
        SharpnessAware(torch.optim.SGD(groups, lr=LR), rule, own_ascent=True)
    with pytest.raises(ValueError, match="pass `model=ddp`"):  # without it, it is refused for another reason
        wrapped(make_model(), RangeSAM(), own_ascent=True)


@given_to
def test_several_ascents_are_refused_through_the_range(rule: RangeSAM, group: dict) -> None:
    model = make_model()
    groups = [one | group for one in param_groups(model)]
    with pytest.raises(ValueError, match="`through_range` must be False in Lookbehind"):
        Lookbehind(torch.optim.SGD(groups, lr=LR), rule)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rho": -0.1}, "`rho` must be ≥ 0 and finite, got -0.1"),
        ({"rho": math.inf}, "`rho` must be ≥ 0 and finite, got inf"),
        ({"per": "row"}, "`per` must be one of layer, channel, got 'row'"),
    ],
)
def test_bad_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RangeSAM(**settings)
    model = make_model()
    with pytest.raises(ValueError, match=message):
        SharpnessAware(torch.optim.SGD([one | settings for one in param_groups(model)], lr=LR), RangeSAM())


@pytest.mark.parametrize("wrap", [SharpnessAware, Lookbehind])
def test_gradients_of_what_does_not_move_alone_are_named(wrap: type) -> None:
    model = make_model()
    optimizer = wrap(torch.optim.SGD(param_groups(model), lr=LR), RangeSAM(rho=0.5))
    closure = closure_for(model, optimizer, make_batch())
    model[0].requires_grad_(False)
    model[4].weight.requires_grad_(False)  # its bias and the norm layer are trained
    with pytest.raises(RuntimeError, match="of no weight that RangeSAM moves: those on the chip are frozen, or had no"):
        optimizer.step(closure)
    with pytest.raises(RuntimeError, match="No perturbed parameter has a gradient"):
        optimizer.step(optimizer.zero_grad)
