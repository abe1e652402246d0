"""Training through a chip with rules, injected noise, clipping, accumulation, autocast, the compiler, and resuming.

Whole trainings are held against loops written out by hand: passes, the chip's forward, and the ranges' gradient.
"""

import copy
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samson import SAM, SAMSON, NoiseInjection, SharpnessAware, WeightClipping, norm_layers, param_groups
from samson.noise import PCM, STANDARD_HWA, Gaussian, Periphery, ThroughChip
from samson.optim import chip_weights
from tests.conftest import closure_for, equal, loss_of, make_batch, make_model, snapshot, weights_of
from tests.noise.products import Products, range_gradient, through
from tests.optim.reference import CASES, Case

LR, MOMENTUM, WEIGHT_DECAY, RANGE_DECAY, STEPS = 0.1, 0.9, 1e-2, 0.05, 5
CHIP = Periphery(dac_steps=30, adc_steps=60, adc_bound=1.5, tile_inputs=4)
RANGES = {"0": 1.4, "2": 0.6}
Values = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]


def network(dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).to(dtype)


def examples(seed: int, dtype: torch.dtype = torch.float64, size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 5, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randint(3, (size,), generator=generator)


def on_chip(model: nn.Module, p: Periphery = CHIP, decay: float = RANGE_DECAY) -> ThroughChip:
    return ThroughChip(model, Periphery(**{**vars(p), "input_ranges": RANGES}), decay=decay)


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(param_groups(model), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


@dataclass
class ByHand:
    """SGD with momentum on weights and ranges, with gradients of the chip's published formulas anywhere."""

    weights: Values = field(default_factory=lambda: {n: p.detach().clone() for n, p in network().named_parameters()})
    ranges: dict[str, float] = field(default_factory=lambda: dict(RANGES))
    speed: dict[str, Tensor | float] = field(default_factory=dict)

    def gradients(self, at: Values, batch: Batch) -> tuple[Values, dict[str, float]]:
        leaves = {name: value.detach().clone().requires_grad_() for name, value in at.items()}
        inputs: list[Tensor] = []
        converted: list[Tensor] = []
        y, shapes = batch[0], network()
        for name, limit in self.ranges.items():
            inputs.append(y.detach())
            products = Products(shapes[int(name)], (y.shape[-1],))
            weight, bias = leaves[f"{name}.weight"], leaves[f"{name}.bias"]
            y = through(products, y.requires_grad_(), limit, CHIP, weight, bias, converted.append)
            y = y.tanh() if name == "0" else y
        loss = nn.functional.cross_entropy(y, batch[1])
        *found, first, second = torch.autograd.grad(loss, [*leaves.values(), *converted])
        slopes = [
            range_gradient(x, g, limit, RANGE_DECAY)
            for x, g, limit in zip(inputs, (first, second), self.ranges.values(), strict=True)
        ]
        return dict(zip(leaves, found, strict=True)), dict(zip(self.ranges, slopes, strict=True))

    def climbed(self, case: Case, g: Values) -> Values:
        t = {n: torch.as_tensor(case.scale(n, w.numpy()), dtype=w.dtype) for n, w in self.weights.items()}
        norm = sum((t[n] * g[n]).square().sum() for n in g).sqrt()
        return {n: w + case.rule.rho * t[n] ** 2 * g[n] / norm for n, w in self.weights.items()}

    def drawn(self, rule: NoiseInjection, step: int) -> Values:
        at = {n: w.clone() for n, w in self.weights.items()}
        values = [w for w in at.values() if w.ndim >= 2]
        rule.displace(chip_weights(values, [], "noise"), dict.fromkeys(values, 1.0), step=step)
        return at

    def descend(self, g: Values, slopes: dict[str, float]) -> None:
        for name, value in g.items():
            speed = MOMENTUM * self.speed.get(name, 0.0) + value + WEIGHT_DECAY * self.weights[name]
            self.speed[name], self.weights[name] = speed, self.weights[name] - LR * speed
        for name, slope in slopes.items():
            speed = MOMENTUM * self.speed.get(name, 0.0) + slope  # without weight decay
            self.speed[name], self.ranges[name] = speed, self.ranges[name] - LR * speed

    def clip(self, alpha: float) -> None:
        for name, w in self.weights.items():
            if w.ndim >= 2:
                bound = alpha * (w - w.mean()).square().mean().sqrt()
                self.weights[name] = w.clamp(-bound, bound)


def distance(model: nn.Module, hand: ByHand) -> float:
    expected = hand.weights | {
        f"{n}.input_range": torch.tensor([r], dtype=torch.float64) for n, r in hand.ranges.items()
    }
    found = weights_of(model)
    assert found.keys() == expected.keys()
    return float(np.max([float((found[name] - expected[name]).abs().max()) for name in found]))  # NaN counts


def trained(rule: object, alpha: float | None = None, explicit: bool = False, chip: bool = True) -> nn.Module:
    model = network()
    if chip:
        on_chip(model)
    optimizer = SharpnessAware(sgd(model), rule)
    if alpha is not None:
        optimizer.register_step_post_hook(WeightClipping(alpha=alpha))
    for seed in range(STEPS):
        closure = closure_for(model, optimizer, examples(seed))
        if explicit:
            if optimizer.needs_first_pass:
                closure()
            with optimizer.perturbed(model):
                closure()
            optimizer.step()
        else:
            optimizer.step(closure)
    return model


@pytest.mark.parametrize(
    ("name", "explicit"),
    [*((name, False) for name in ("sam", "samson", "samson-p2", "asam", "rangesam")), ("rangesam-channel", True)],
)
def test_rules_equal_the_loop_of_two_passes(name: str, explicit: bool) -> None:
    hand, plain, case = ByHand(), ByHand(), CASES[name]
    for seed in range(STEPS):
        batch = examples(seed)
        clean, _ = hand.gradients(hand.weights, batch)
        hand.descend(*hand.gradients(hand.climbed(case, clean), batch))
        plain.descend(*plain.gradients(plain.weights, batch))
    model = trained(case.rule, explicit=explicit)
    assert distance(model, hand) < 1e-10
    assert distance(model, plain) > 1e-4  # what plain SGD would give
    assert all(abs(hand.ranges[n] - r) > 1e-3 for n, r in RANGES.items())  # ranges learn
    assert all(abs(hand.ranges[n] - r) > 1e-6 for n, r in plain.ranges.items())  # from the perturbed pass


def test_injected_noise_equals_the_loop_of_one_pass() -> None:
    for noise in (Gaussian(0.2), PCM(time_s=3600.0), PCM(time_s=86_400.0, compensation="global")):
        rule, hand, plain = NoiseInjection(noise, seed=3), ByHand(), ByHand()
        for seed in range(STEPS):
            hand.descend(*hand.gradients(hand.drawn(rule, seed), examples(seed)))
            plain.descend(*plain.gradients(plain.weights, examples(seed)))
        model = trained(rule)
        assert distance(model, hand) < 1e-10
        assert distance(model, plain) > 1e-4


def test_clipping_leaves_the_ranges_of_inputs_alone() -> None:
    case, hand, free = CASES["samson"], ByHand(), ByHand()
    for seed in range(STEPS):
        for one in (hand, free):
            clean, _ = one.gradients(one.weights, examples(seed))
            one.descend(*one.gradients(one.climbed(case, clean), examples(seed)))
        hand.clip(1.2)
    model = trained(case.rule, alpha=1.2)
    assert distance(model, hand) < 1e-10
    assert distance(model, free) > 1e-3


def test_ranges_are_a_group_that_rules_and_weight_decay_leave_alone() -> None:
    model = make_model()
    names = [name for name, _ in model.named_parameters()]
    [plain] = param_groups(model)
    assert plain.keys() == {"params", "param_names"}
    ThroughChip(model, Periphery(input_ranges={"0": 0.9, "4": 0.7}))
    weights, ranges = param_groups(model)
    assert weights["param_names"] == names
    assert weights.keys() == {"params", "param_names"}
    assert {key: ranges[key] for key in ranges if key != "params"} == {
        "param_names": ["0.input_range", "4.input_range"],
        "perturb": False,
        "weight_decay": 0.0,
    }
    assert [p.shape for p in ranges["params"]] == [(1,), (1,)]
    norms, rest, own = param_groups(model, perturb=norm_layers)
    assert (norms["param_names"], own["param_names"]) == (["1.weight", "1.bias"], ranges["param_names"])
    assert rest["perturb"] is own["perturb"] is False
    optimizer = SharpnessAware(torch.optim.AdamW(param_groups(model), lr=0.1, weight_decay=0.5), SAMSON(rho=2.0))
    nn.functional.cross_entropy(model(make_batch()[0]), make_batch()[1]).backward()
    before = weights_of(model)
    with optimizer.perturbed(model):
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(names)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.base.step()
    shrunk = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert shrunk == set(names)
    loose = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAMSON(rho=2.0), model=model)
    nn.functional.cross_entropy(model(make_batch()[0]), make_batch()[1]).backward()
    before = weights_of(model)
    with loose.perturbed(model):  # by their names, where all are in one group
        assert {name for name, p in model.named_parameters() if not torch.equal(p, before[name])} == set(names)
    other = copy.deepcopy(model)  # whose parameters have no names here
    nameless = SharpnessAware(torch.optim.SGD(other.parameters(), lr=0.1), SAM(rho=2.0))
    nn.functional.cross_entropy(other(make_batch()[0]), make_batch()[1]).backward()
    before = weights_of(other)
    with pytest.warns(UserWarning, match="no model is known"), nameless.perturbed():  # the check can fail
        assert not torch.equal(other[0].input_range, before["0.input_range"])


@pytest.mark.parametrize("decay", [0.0, RANGE_DECAY])
def test_micro_batches_add_up_to_their_batch_without_decay(decay: float) -> None:
    """The decay comes with each backward pass, as a term of its own does with each micro-batch."""

    def run(parts: int) -> nn.Module:
        model = network()
        on_chip(model, decay=decay)
        optimizer = SharpnessAware(sgd(model), SAMSON(rho=0.3))
        for seed in range(STEPS):
            x, y = examples(seed)
            x = 0.5 * x  # few lie beyond the range, so that decay has its say
            optimizer.zero_grad()
            for last in (False, True):
                with optimizer.perturbed(model) if last else torch.enable_grad():
                    for micro in zip(x.chunk(parts), y.chunk(parts), strict=True):
                        (loss_of(model, micro) / parts).backward()
            optimizer.step()
        return model

    whole, halves = weights_of(run(1)), weights_of(run(2))
    weights = max(float((whole[n] - halves[n]).abs().max()) for n in whole if "range" not in n)
    ranges = max(float((whole[n] - halves[n]).abs().max()) for n in whole if "range" in n)
    if decay:
        assert ranges > 1e-3
    else:
        assert max(weights, ranges) < 1e-12
    assert all(abs(float(whole[f"{n}.input_range"]) - r) > 1e-5 for n, r in RANGES.items() if decay or n == "2")


@pytest.mark.parametrize("decay", [0.0, RANGE_DECAY])
def test_a_scaled_loss_scales_all_but_the_decay(decay: float) -> None:
    """So a GradScaler, which divides every gradient by its scale, divides the decay away."""
    found = []
    for scale in (1.0, 1024.0):
        model = network()
        on_chip(model, decay=decay)
        x, y = examples(0)
        (loss_of(model, (0.5 * x, y)) * scale).backward()
        found.append({name: p.grad / scale for name, p in model.named_parameters()})
    missing = {name: float((found[0][name] - found[1][name]).abs().max()) for name in found[0]}
    assert missing.pop("0.input_range") == pytest.approx(decay * RANGES["0"] * (1 - 1 / 1024), rel=1e-9)
    assert max(missing.values()) < 1e-14  # of the second range more than 5 % lie outside
    assert float(found[0]["2.input_range"].abs()) > 1e-5


@pytest.mark.parametrize("kind", [CHIP, Periphery(**{**vars(STANDARD_HWA), "output_noise": 0.0, "weight_noise": 0.0})])
def test_under_autocast_ranges_stay_float32_and_near(kind: Periphery) -> None:
    """bfloat16 has 8 bits: after a few steps ranges agree with those of float32 within a few of its units."""
    found = []
    for autocast in (True, False):
        model = network(torch.float32)
        on_chip(model, kind)
        optimizer = SharpnessAware(sgd(model), SAMSON(rho=0.3))
        for seed in range(STEPS):
            x, y = examples(seed, torch.float32, size=64)

            for perturbed in (False, True):
                with optimizer.perturbed(model) if perturbed else torch.enable_grad():
                    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                        output = model(x)
                    assert output.dtype == (torch.bfloat16 if autocast else torch.float32)
                    nn.functional.cross_entropy(output.float(), y).backward()
            optimizer.step()
            assert all(p.grad.dtype == torch.float32 for p in model.parameters())
            optimizer.zero_grad()
        assert all(p.dtype == torch.float32 for p in model.parameters())
        found.append(weights_of(model))
    for name, r in RANGES.items():
        one, other = (float(values[f"{name}.input_range"]) for values in found)
        moved = abs(other - r)
        assert 0 < abs(one - other) < max(4 * 2**-8 * r, 0.1 * moved)
        assert moved > 4 * 2**-8 * r  # the check can fail: a range that stayed where it was is further away


@pytest.mark.parametrize("name", ["tiles", "inside"])
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's compiler, of itself
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'> should not be instantiated")
def test_a_compiled_model_computes_as_the_eager_one(name: str) -> None:
    """Compiled whole around the hooks: outputs and every gradient; and a training gives the same weights."""
    torch._dynamo.reset()
    kinds = {
        "tiles": CHIP,
        "inside": Periphery(dac_steps=30, adc_steps=60, adc_bound=1.5, ir_drop=1.0, wire_ratio=20.0, tile_inputs=4),
    }
    results = []
    for compiled in (False, True):
        model = network()
        on_chip(model, kinds[name])
        run = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
        optimizer = SharpnessAware(sgd(model), SAMSON(rho=0.3))
        for seed in range(STEPS):
            loss = optimizer.step(closure_for(run, optimizer, examples(seed)))
        gradients = {f"{name} gradient": p.grad.clone() for name, p in model.named_parameters()}
        results.append({**weights_of(model), **gradients, "loss": loss.detach()})
        plain = model.eval()(examples(9)[0])
        assert torch.allclose(run(examples(9)[0]), plain, rtol=1e-12)
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(results[0]["0.weight"], trained(SAMSON(rho=0.3), chip=False)[0].weight, atol=1e-3)


NOISY = Periphery(**{**vars(STANDARD_HWA), "input_noise": 0.05, "tile_inputs": 4})


@pytest.mark.parametrize("kind", [CHIP, NOISY], ids=["exact", "noisy"])
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_resuming_is_bit_exact(kind: Periphery, base: type[torch.optim.Optimizer]) -> None:
    def make(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = network(torch.float32, seed)
        on_chip(model, kind)
        settings = {"momentum": 0.9} if base is torch.optim.SGD else {}
        return model, SharpnessAware(base(param_groups(model), lr=0.01, **settings), SAMSON(rho=0.3))

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> Values:
        for seed in seeds:
            torch.manual_seed(seed)
            optimizer.step(closure_for(model, optimizer, examples(seed, torch.float32)))
        return snapshot(model)

    model, optimizer = make(0)
    weights, state = train(model, optimizer, range(4)), copy.deepcopy(optimizer.state_dict())
    assert {"0.input_range", "2.input_range"} <= weights.keys()
    other, with_it = copy.deepcopy((model, optimizer))
    end = train(model, optimizer, range(4, 8))
    resumed, again = make(5)
    resumed.load_state_dict(weights)
    again.load_state_dict(state)
    assert equal(train(resumed, again, range(4, 8)), end)
    assert equal(train(other, with_it, range(4, 8)), end)
    forgetful, fresh = make(5)
    forgetful.load_state_dict(weights | {"0.input_range": torch.tensor([RANGES["0"]])})
    fresh.load_state_dict(state)
    assert not equal(train(forgetful, fresh, range(4, 8)), end)
