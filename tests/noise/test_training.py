"""Training through a chip: its forward is the periphery's, its gradients are a float64 reference's, and it leaves."""

import copy
import itertools
import math
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.nn.utils import parametrizations, prune

from samson.noise import STANDARD_HWA, Gaussian, Periphery, ThroughChip, deploy
from tests.conftest import equal, make_model, snapshot
from tests.noise.layers import KINDS, LAYERS, Bypass, data, even_kernels, made, products_of, unbatched
from tests.noise.products import Products, range_gradient, through

CLEAN = Gaussian(0.0)
RANGE = 1.2


EXACT = {
    "nothing": Periphery(),
    "dac": Periphery(dac_steps=6),
    "saturation": Periphery(adc_bound=0.5),
    "one tile": Periphery(dac_steps=14, adc_steps=30, adc_bound=1.5),
    "tiles": Periphery(dac_steps=14, adc_steps=20, adc_bound=0.8, tile_inputs=4),
    "ir drop": Periphery(dac_steps=14, adc_steps=30, adc_bound=1.5, ir_drop=1.0, wire_ratio=20.0),
}
EXACT["ir drop in tiles"] = replace(EXACT["tiles"], ir_drop=1.0, wire_ratio=6.0)
TELLING = (
    "one tile",
    "ir drop in tiles",
)  # layers differ in nothing but their products: by torch's kernels, and in tiles
ROWS = [pytest.param(*kind.values, name, marks=kind.marks) for kind in KINDS for name in TELLING]
ROWS += [(kind, name) for kind in ("linear", "transposed1d") for name in EXACT if name not in TELLING]


def put(model: nn.Module, p: Periphery, r: float = RANGE, **settings: float) -> ThroughChip:
    """Train a model, all of whose layers have the range r, through a chip."""
    names = [name for name, layer in model.named_modules() if hasattr(layer, "weight") and layer.weight.ndim >= 2]
    return ThroughChip(model, replace(p, input_ranges=dict.fromkeys(names, r)), **settings)


# The forward


def test_a_layer_keeps_its_way_of_being_called_and_shows_its_output_to_hooks() -> None:
    layer, x, seen = nn.Linear(4, 3).double(), data(2, 4), []
    layer.register_forward_hook(lambda layer, args, output: seen.append(output))
    put(layer, EXACT["one tile"])
    outputs = [layer(x), layer(input=x)]
    assert torch.equal(*outputs)
    assert torch.equal(seen[0], outputs[0])  # a hook of before sees what the chip gives
    assert not torch.equal(seen[0], layer.eval()(x))


WIDE = 0.03
NOISES = {
    "output": (
        Periphery(output_noise=WIDE),
        lambda v, w, column: torch.full_like(column, WIDE),
    ),
    "weight": (
        Periphery(weight_noise=WIDE),
        lambda v, w, column: WIDE * ((w / column[:, None]).abs() * v**2).sum(dim=-1).sqrt(),
    ),
    "weight-flat": (
        Periphery(weight_noise=WIDE, weight_noise_grows=False),
        lambda v, w, column: WIDE * (v**2).sum(dim=-1).sqrt(),
    ),
    "input": (
        Periphery(input_noise=WIDE),
        lambda v, w, column: WIDE * (w / column[:, None]).norm(dim=-1),
    ),
    "input-and-weight": (  # where products are computed tile by tile with what goes on inside
        Periphery(input_noise=WIDE, weight_noise=1e-9),
        lambda v, w, column: WIDE * (w / column[:, None]).norm(dim=-1),
    ),
    "output-and-weight": (
        Periphery(output_noise=WIDE, weight_noise=WIDE),
        lambda v, w, column: WIDE * (1 + ((w / column[:, None]).abs() * v**2).sum(dim=-1)).sqrt(),
    ),
}


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize(("kind", "tile"), [("conv", None), ("linear", 2)])
def test_noise_has_its_closed_form(name: str, kind: str, tile: int | None) -> None:
    """Mean and variance of the first position's outputs, within 5 standard errors; some inputs lie at the range."""
    n, (p, deviation) = 40_000, NOISES[name]
    layer = (nn.Linear(5, 3) if kind == "linear" else nn.Conv1d(1, 3, 5)).double()
    r, x = 2.0, 2 * torch.tensor([1.0, -0.5, 0.25, 0.0, 1.0], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(data(*layer.weight.shape))
        layer.weight[1] = 0.0
        weight, variance = layer.weight.view(3, 5), torch.zeros(3, dtype=torch.float64)
        for v, w in zip((x / r).split(tile or 5), weight.split(tile or 5, dim=1), strict=True):
            column = w.abs().amax(dim=1)
            column = torch.where(column > 0, column, weight.abs().max())
            variance += (deviation(v, w, column) * column * r) ** 2
        clean = layer(x if kind == "linear" else x.view(1, 5)).flatten()
        put(layer, replace(p, tile_inputs=tile), r)
        errors = layer(x.expand(n, 5) if kind == "linear" else x.expand(n, 1, 5)).view(n, 3) - clean
        if name == "input":  # a column of zeros gives zero, whatever comes in
            assert variance[1] == 0
    assert (errors.mean(dim=0).abs() <= 5 * (variance / n).sqrt() + 1e-9).all()
    assert ((errors.var(dim=0) - variance).abs() <= 5 * variance * math.sqrt(2 / n) + 1e-12).all()
    louder = 1.05 * errors
    assert ((louder.var(dim=0) - variance).abs() > 5 * variance * math.sqrt(2 / n)).any()  # the check can fail


def test_noise_is_drawn_anew_from_global_state_while_training() -> None:
    layer, x = nn.Linear(6, 3).double(), data(2, 6)
    put(layer, replace(STANDARD_HWA, tile_inputs=4, input_noise=0.1))

    def run(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [layer(x), layer(x)]

    one, again, other = run(0), run(0), run(1)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one[0], other[0])
    layer.eval()
    state = torch.get_rng_state()
    assert torch.equal(layer(x), layer(x))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["parametrised", "pruned", "shared"])
def test_weights_that_are_computed_or_shared(kind: str) -> None:
    """The chip's forward, and gradients to the tensors from which the weight comes."""
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).double(), data(6, 4)
    if kind == "parametrised":
        parametrizations.weight_norm(model[2])
    if kind == "pruned":
        prune.l1_unstructured(model[2], "weight", 0.5)
    if kind == "shared":
        model[2].weight = model[0].weight
    own, weight = list(model.parameters()), (model[2](torch.eye(4).double()) - model[2].bias).T  # as it computes
    training = ThroughChip(model, replace(EXACT["tiles"], input_ranges={"0": 0.9, "2": 0.5}))
    found = model(x)
    hidden = through(Products(model[0], (4,)), x, 0.9, EXACT["tiles"], model[0].weight, model[0].bias).tanh()
    expected = through(Products(model[2], (4,)), hidden, 0.5, EXACT["tiles"], weight, model[2].bias)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    gradients = [torch.autograd.grad(y.square().sum(), own) for y in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    with deploy(model.eval(), CLEAN, periphery=training.periphery).at():
        torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-12)


# Gradients


@even_kernels
@pytest.mark.parametrize(("kind", "name"), ROWS)
def test_forward_and_gradients_are_those_of_the_reference_and_of_the_chip(kind: str, name: str) -> None:
    """Roundings pass gradients, clamps stop them; the range has its own from what arrives at its converter."""
    (layer, x), p, decay = made(kind), EXACT[name], 0.3
    x.requires_grad_()
    leaves = [x, *layer.parameters()]
    plain = layer(x)
    towards = data(*plain.shape, seed=5)
    straight = torch.autograd.grad((plain * towards).sum(), leaves)
    seen: list[Tensor] = []
    expected = unbatched(x, through(products_of(layer, x), x, RANGE, p, layer.weight, layer.bias, seen.append))
    *by_loop, at_converter = torch.autograd.grad((expected * towards).sum(), [*leaves, *seen])
    training = put(layer, p, decay=decay)
    found = layer(x)
    gradients = torch.autograd.grad((found * towards).sum(), [*leaves, layer.input_range])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    for one, other in zip(gradients, by_loop, strict=False):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    by_hand = range_gradient(x, at_converter, RANGE, decay)
    assert gradients[-1].item() == pytest.approx(by_hand, rel=1e-9)
    with deploy(layer.eval(), CLEAN, periphery=training.periphery).at():
        torch.testing.assert_close(found, layer(x), rtol=1e-9, atol=1e-12)
    # The checks can fail: without a chip all is otherwise (with nothing on it, inputs saturate), and signs matter.
    assert (plain - found).abs().max() > 1e-2
    assert (gradients[0] - straight[0]).abs().max() > 1e-3
    assert x.ndim == 1 or abs(by_hand - range_gradient(x, -at_converter, RANGE, decay)) > 1e-3


def test_the_bias_gets_the_whole_gradient_where_the_output_saturates() -> None:
    for tile in (None, 2):
        layer, x = nn.Linear(4, 3).double(), 0.5 + data(6, 4).abs()
        with torch.no_grad():
            layer.weight.copy_(data(3, 4).abs().clamp(min=0.1))
        put(layer, Periphery(adc_steps=14, adc_bound=0.01, tile_inputs=tile), 9.0)
        towards = data(6, 3, seed=5)
        (layer(x) * towards).sum().backward()
        assert torch.allclose(layer.bias.grad, towards.sum(dim=0), rtol=1e-12)
        assert not layer.weight.grad.any()
        assert layer.input_range.grad.item() == pytest.approx(0.001 * 9.0, rel=1e-12)  # it decays, and that is all


@pytest.mark.parametrize("tile", [None, 2])
def test_weight_noise_gives_no_nan_where_all_inputs_are_zero(tile: int | None) -> None:
    layer = nn.Linear(4, 3).double()
    put(layer, Periphery(weight_noise=0.1, ir_drop=1.0, adc_steps=14, adc_bound=2.0, tile_inputs=tile))
    for x in (torch.zeros(2, 4).double(), data(2, 4).where(torch.arange(4) < 2, 0.0)):
        x.requires_grad_()
        gradients = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
        assert all(g.isfinite().all() for g in gradients)
    assert gradients[1].any()


def identity(
    n: int, r: float, dtype: torch.dtype = torch.float64, decay: float = 0.0, steps: int | None = None
) -> nn.Linear:
    """A layer whose output is its converted input, so that the gradient at its converter is that of its output."""
    layer = nn.Linear(n, n, bias=False).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(n))
    put(layer, Periphery(dac_steps=steps), r, decay=decay)
    return layer


def slope(layer: nn.Linear, x: Tensor, g: Tensor) -> float:
    layer.input_range.grad = None
    layer(x).backward(g)
    return layer.input_range.grad.item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("r", [1.0, 0.3, 0.7, 1.1, 1.3, 2.9])
def test_a_range_follows_what_wants_beyond_it(r: float, dtype: torch.dtype) -> None:
    """By hand for each side and each sign; also where an input lies exactly at the range."""
    exact = torch.tensor([r], dtype=dtype).item()
    cases = (
        (2 * r, -3.0, -3 * exact),  # more input would lower the loss: a wider range
        (2 * r, 3.0, 0.0),
        (-2 * r, 3.0, -3 * exact),
        (-2 * r, -3.0, 0.0),
        (r, -3.0, -3 * exact),
        (r, 3.0, 0.0),
        (-r, 3.0, -3 * exact),
        (-r, -3.0, 0.0),
        (0.99 * r, -3.0, 0.0),
        (-0.99 * r, 3.0, 0.0),
        (0.0, -3.0, 0.0),
    )
    for steps in (None, 6, 254):
        layer = identity(1, r, dtype, steps=steps)
        for x, g, expected in cases:
            found = slope(layer, torch.tensor([[x]], dtype=dtype), torch.tensor([[g]], dtype=dtype))
            assert found == pytest.approx(expected, rel=1e-6, abs=10 * torch.finfo(dtype).eps), (x, g, steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(40,), (5, 8), (2, 4, 5), (2, 2, 5, 2)])
def test_the_ranges_gradient_is_the_loop(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    for share in (0.0, 0.5, 1.4):
        x, g = (share * data(*shape)).to(dtype), data(*shape, seed=5).to(dtype)
        layer = identity(shape[-1], 0.7, dtype, decay=0.3)
        expected = range_gradient(x, g, layer.input_range.item(), 0.3)
        assert slope(layer, x, g) == pytest.approx(expected, rel=1e-12 if dtype == torch.float64 else 1e-5)
    assert expected != pytest.approx(range_gradient(x, g, 0.7, 9.0) + 0.3 * 0.7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [20, 40, 60, 100, 200, 1000])
def test_a_range_decays_while_more_than_95_of_100_inputs_lie_inside(n: int, dtype: torch.dtype) -> None:
    """One more or less is the difference; an input at the range does not lie inside."""
    r, decay, layer = 1.5, 0.3, identity(1, 1.5, dtype, decay=0.3)
    for beyond in (0, n // 20 - 1, n // 20, n // 20 + 1, n):
        x = torch.full((n, 1), 0.5, dtype=dtype)
        x[:beyond] = -r if beyond % 2 else 2.0
        found = slope(layer, x, torch.zeros_like(x))
        assert found == pytest.approx(decay * r if 20 * beyond < n else 0.0), beyond


def test_a_range_that_went_below_zero_counts_by_its_magnitude() -> None:
    x, g, layer = data(3, 4), data(3, 4, seed=5), identity(4, 0.7, decay=0.3)
    output, upwards = layer(x), slope(layer, x, g)
    with torch.no_grad():
        layer.input_range.neg_()
    assert torch.equal(layer(x), output)
    assert slope(layer, x, g) == -upwards != 0  # further from zero is wider on either side


def test_calls_of_one_layer_before_backward_add_up() -> None:
    layer, inputs, slopes = identity(4, 0.7, decay=0.3), data(3, 5, 4), data(3, 5, 4, seed=5)
    inputs[1] *= 0.1  # here the range decays
    outputs = [layer(x) for x in inputs]
    torch.autograd.backward(outputs, list(slopes))
    expected = sum(range_gradient(x, g, 0.7, 0.3) for x, g in zip(inputs, slopes, strict=True))
    assert layer.input_range.grad.item() == pytest.approx(expected, rel=1e-12)
    assert expected != pytest.approx(range_gradient(inputs, slopes, 0.7, 0.3))
    chained = identity(4, 0.7)
    chained(2 * chained(inputs[0])).sum().backward()
    volts = inputs[0].clamp(-0.7, 0.7)
    inner = torch.ones(5, 4).double().where((2 * volts).abs() < 0.7, 0.0) * 2
    by_hand = range_gradient(2 * volts, torch.ones(5, 4), 0.7, 0.0) + range_gradient(inputs[0], inner, 0.7, 0.0)
    assert chained.input_range.grad.item() == pytest.approx(by_hand, rel=1e-12)


# The first ranges


def network() -> nn.Sequential:
    """With a norm layer and dropout, so that training and evaluation mode give layers other inputs."""
    model = make_model()
    model.insert(4, nn.Dropout(0.5))
    return model


def inputs_seen(model: nn.Module, batches: list[Tensor], training: bool) -> dict[str, list[Tensor]]:
    """What each layer sees of each batch, in a copy of the model."""
    model = copy.deepcopy(model).train(training)
    found: dict[str, list[Tensor]] = {"0": [], "5": []}
    for name, seen in found.items():
        model.get_submodule(name).register_forward_pre_hook(lambda layer, args, seen=seen: seen.append(args[0]))
    with torch.no_grad(), torch.random.fork_rng():
        for batch in batches:
            model(batch)
    return found


def mean_deviation(seen: list[Tensor]) -> float:
    """The mean over batches of their standard deviations, by Python's floats."""
    total = 0.0
    for batch in seen:
        values = batch.flatten().tolist()
        mean = sum(values) / len(values)
        total += math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    return total / len(seen)


@pytest.mark.parametrize("deviations", [3.0, 1.7])
@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_ranges_come_from_data_in_training_mode_and_leave_all_else(deviations: float, mode: bool) -> None:
    model = network().train(mode)
    model[1].train(not mode)
    batches = [size * data(6, 2, 5, seed=seed) for seed, size in enumerate((0.5, 1.0, 3.0))]
    before, state, modes = snapshot(model), torch.get_rng_state(), [module.training for module in model.modules()]
    seen, other = inputs_seen(model, batches, True), inputs_seen(model, batches, False)
    training = ThroughChip(model, Periphery(), batches, deviations=deviations)
    after = {name: value for name, value in snapshot(model).items() if "input_range" not in name}
    assert equal(after, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    expected = {name: deviations * mean_deviation(found) for name, found in seen.items()}
    assert training.ranges == pytest.approx(expected, rel=1e-6)
    assert training.ranges["5"] != pytest.approx(deviations * mean_deviation(other["5"]), rel=0.05)
    together = deviations * torch.cat(seen["0"]).std(correction=0).item()
    assert training.ranges["0"] != pytest.approx(together, rel=0.05)  # the mean of deviations, not theirs of all


def test_looking_at_a_computed_weight_leaves_its_vectors_alone() -> None:
    """In training mode each look at a weight under spectral norm changes a buffer."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), parametrizations.spectral_norm(nn.Linear(5, 3))).double()
    before, batches = snapshot(model), [data(6, 4)]
    model(batches[0])
    assert not equal(snapshot(model), before)  # the check can fail
    before = snapshot(model)
    ThroughChip(model, Periphery(), batches).remove()
    assert equal(snapshot(model), before)


def refuse() -> Iterator[Tensor]:
    raise AssertionError("no data are needed")
    yield


def test_given_ranges_are_taken() -> None:
    model, ranges = network(), {"0": 0.7, "5": 2.3}
    training = ThroughChip(model, Periphery(dac_steps=6, input_ranges=ranges), refuse())
    assert training.ranges == ranges
    assert training.periphery == Periphery(dac_steps=6, input_ranges=ranges)
    assert {name for name, _ in model.named_parameters() if "range" in name} == {"0.input_range", "5.input_range"}
    assert all(layer.input_range.dtype == torch.float64 for layer in (model[0], model[5]))
    alone = ThroughChip(make_model(torch.float32), Periphery(input_ranges={"0": 0.7, "4": 2.3}), select="4")
    assert alone.ranges == {"4": pytest.approx(2.3, rel=1e-6)}
    half = nn.Linear(2, 2).to(torch.bfloat16)
    put(half, Periphery())
    assert half.input_range.dtype == torch.float32


def test_inputs_that_are_all_equal_have_the_range_one() -> None:
    for value in (0.0, 0.1):  # rounding gives 0.1 a deviation
        assert ThroughChip(nn.Linear(3, 2), Periphery(), [torch.full((4, 3), value)]).ranges == {"": 1.0}


def ones(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.ones_(layer.weight)


SMALL = partial(nn.Linear, 3, 3)
REFUSED: dict[str, tuple[Callable[[], nn.Module], dict]] = {
    "`batches` must be training data .* got None. Or give a periphery with `input_ranges`": (SMALL, {"batches": None}),
    "`batches` must run every layer on the chip, but `taken` had no input": (Bypass, {}),
    "`batches` must run every layer on the chip, but `model` had no input": (SMALL, {"batches": []}),
    "`batches` must give every layer finite numbers, but `0` had NaN or infinity": (
        lambda: nn.Sequential(SMALL()),
        {"batches": [torch.full((2, 3), math.nan)]},
    ),
    "but `model` had NaN or infinity": (SMALL, {"batches": [torch.full((2, 3), math.nan)]}),
    "but `1` had NaN or infinity": (
        lambda: nn.Sequential(SMALL(), SMALL()).apply(ones),
        {"batches": [torch.full((2, 3), 3e38)]},
    ),
    "`deviations` must be > 0": (SMALL, {"deviations": 0.0}),
    "`deviations` must be > 0.* got -1.0": (SMALL, {"deviations": -1.0}),
    "`deviations` must be > 0.* got nan": (SMALL, {"deviations": math.nan}),
    "`decay` must be ≥ 0.* got -0.1": (SMALL, {"decay": -0.1}),
    "`decay` must be ≥ 0.* got nan": (SMALL, {"decay": math.nan}),
    "not compiled, but the model is": (lambda: torch.compile(SMALL(), backend="eager"), {}),
    "but `0` is a Bilinear, which hooks do not reach": (lambda: nn.Sequential(nn.Bilinear(3, 3, 3)), {}),
    "but `model` is a Bilinear, which hooks do not reach": (lambda: nn.Bilinear(3, 3, 3), {}),
    "`select` must leave a weight for the chip": (SMALL, {"select": "nothing"}),
    "`input_ranges` must name each layer on the chip; '1' is not there": (
        lambda: nn.Sequential(SMALL(), SMALL()),
        {"periphery": Periphery(input_ranges={"0": 1.0})},
    ),
}


class Crosstalk(Periphery):
    """Adds a share of each output to the next."""

    def __call__(self, *arguments: object) -> Tensor:
        y = super().__call__(*arguments)
        return y + 0.5 * y.roll(1, -1)


class Shifted(Periphery):
    """Another way to the ADCs."""

    def conversions(self, *arguments: object) -> Iterator[tuple[Tensor, Tensor | float]]:
        return ((y + 0.1, scale) for y, scale in super().conversions(*arguments))


REFUSED |= {
    "`periphery` must compute as .* but Crosstalk has its own `__call__`, which": (SMALL, {"periphery": Crosstalk()}),
    "`periphery` must compute as .* but Shifted has its own `conversions`, which": (SMALL, {"periphery": Shifted()}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_trained_so_is_refused_and_left_as_it_was(message: str) -> None:
    make, settings = REFUSED[message]
    model = make()
    before, hooks = snapshot(model), hooks_of(model)
    settings = {"periphery": Periphery(), "batches": [torch.randn(2, 3)], **settings}
    with pytest.raises(ValueError, match=message):
        ThroughChip(model, **settings)
    assert equal(snapshot(model), before)
    assert hooks_of(model) == hooks


def test_a_wrapped_model_and_other_types_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrapped(nn.Module):
        """Stands for the wrapper, which needs processes; tests/distributed has the true one."""

    monkeypatch.setattr("torch.nn.parallel.DistributedDataParallel", Wrapped)
    with pytest.raises(ValueError, match="must not be wrapped in DistributedDataParallel yet. Pass the module"):
        ThroughChip(Wrapped(), Periphery())
    with pytest.raises(ValueError, match="`periphery` must be a Periphery, got Gaussian"):
        ThroughChip(SMALL(), Gaussian(0.1))


def test_twice_is_refused() -> None:
    model = nn.Sequential(SMALL())
    training = put(model, Periphery())
    with pytest.raises(RuntimeError, match="`0` is trained through a chip already, or has an `input_range` of its own"):
        put(model, Periphery())
    training.remove()
    put(model, Periphery())


def test_a_size_of_the_output_is_refused() -> None:
    layer, x = nn.ConvTranspose1d(2, 3, 3, stride=2), torch.randn(1, 2, 4)
    put(layer, Periphery())
    with pytest.raises(RuntimeError, match="ConvTranspose1d that is trained through .* its input alone"):
        layer(x, output_size=[10])
    assert layer.eval()(x, output_size=[10]).shape == (1, 3, 10)


# Coming and going


def hooks_of(model: nn.Module) -> list[list[object]]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
    return [[*getattr(layer, kind).items()] for layer in model.modules() for kind in kinds]


def test_evaluation_mode_is_the_plain_model_to_the_bit() -> None:
    model, x = network().float(), data(8, 2, 5).float()
    plain = copy.deepcopy(model)
    put(model, replace(STANDARD_HWA, adc_bound=0.5))
    found, expected = model.eval()(x), plain.eval()(x)
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(m(x).sum(), m[0].weight)[0] for m in (model, plain)]
    assert torch.equal(*gradients)
    model[5].train()  # a layer is trained, or not, by itself
    assert not torch.equal(model(x), expected)


def test_removing_leaves_the_model_as_it_was_and_hands_the_ranges_over() -> None:
    model, x = network(), data(8, 2, 5)
    model[0].register_forward_hook(lambda *_: None)
    names, hooks, before = [name for name, _ in model.named_parameters()], hooks_of(model), snapshot(model)
    parameters = list(model.parameters())
    p = Periphery(dac_steps=6, adc_steps=30, adc_bound=2.0)
    training = ThroughChip(model, p, [x])
    assert hooks_of(model) != hooks
    assert {"0.input_range", "5.input_range"} == snapshot(model).keys() - before.keys()
    with torch.no_grad():
        model[0].input_range.fill_(-0.7)
        model[5].input_range.fill_(2.3)
    assert training.ranges == {"0": 0.7, "5": 2.3}
    learned = replace(p, input_ranges={"0": 0.7, "5": 2.3})
    assert training.periphery == training.remove() == training.remove() == training.periphery == learned
    assert [name for name, _ in model.named_parameters()] == names
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert hooks_of(model) == hooks
    assert equal(snapshot(model), before)
    with deploy(model.eval(), CLEAN, periphery=training.periphery).at():
        model(x)


def test_it_is_a_block() -> None:
    model, x = network(), data(8, 2, 5)
    hooks, before = hooks_of(model), snapshot(model)
    with put(model, EXACT["one tile"]) as training:
        assert hooks_of(model) != hooks
        model.eval()(x)
    assert hooks_of(model) == hooks
    assert equal(snapshot(model), before)
    assert training.periphery.input_ranges == {"0": RANGE, "5": RANGE}
    with pytest.raises(ZeroDivisionError), put(model, EXACT["one tile"]):
        raise ZeroDivisionError
    assert hooks_of(model) == hooks
    assert equal(snapshot(model), before)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_the_model_takes_its_hooks_along(way: Callable[[nn.Module], nn.Module]) -> None:
    model, x = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double(), data(6, 4)
    plain = model(x)
    training = put(model, EXACT["tiles"])
    other = way(model)
    assert torch.equal(other(x), model(x))
    assert not torch.allclose(other(x), plain)
    with torch.no_grad():
        other[0].input_range.fill_(0.3)
    assert not torch.allclose(other(x), model(x))  # with ranges of its own
    other(x).sum().backward()
    assert model[0].input_range.grad is None
    assert other[0].input_range.grad is not None
    training.remove()
    assert torch.equal(model(x), plain)
    assert not torch.allclose(other(x), plain)


class Pair(nn.Module):
    """Two linear layers, of a class that nothing else compiles."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.one(x).relu())


def as_a_process_begins() -> None:
    torch._dynamo.reset()
    torch._dynamo.config._config["skip_nnmodule_hook_guards"].default = True
    torch._dynamo.config.skip_nnmodule_hook_guards = True


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_so_it_does_in_another_thread() -> None:
    """Where the compiler's settings may be others."""
    as_a_process_begins()
    x, plain = data(4, 6).float(), Pair()
    model = copy.deepcopy(plain)
    put(model, Periphery(dac_steps=4))

    def through() -> Tensor:
        torch.compile(plain, backend="eager")(x)
        return torch.compile(model, backend="eager")(x)

    with ThreadPoolExecutor(1) as pool:
        torch.testing.assert_close(pool.submit(through).result(), model(x))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_a_compiled_model_computes_through_its_own_chip() -> None:
    """Whatever was compiled before: for another model of its class, or for itself."""
    as_a_process_begins()
    x, counter = data(4, 6).float(), CompileCounter()
    plain = Pair()
    early = torch.compile(plain, backend=counter)
    torch.testing.assert_close(early(x), plain(x))
    for steps in (4, 8, 4):
        model = copy.deepcopy(plain)
        put(model, Periphery(dac_steps=steps))
        assert (model(x) - plain(x)).abs().max() > 0.01  # the check can fail
        torch.testing.assert_close(torch.compile(model, backend=counter)(x), model(x))
    assert counter.frame_count <= 4  # once each
    training = put(plain, Periphery(dac_steps=4))
    torch.testing.assert_close(early(x), plain(x))
    training.remove()
    torch.testing.assert_close(early(x), plain(x))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_so_does_one_that_another_process_made() -> None:
    x, plain = data(4, 6).float(), Pair()
    model = copy.deepcopy(plain)
    put(model, Periphery(dac_steps=4))
    packed = pickle.dumps(model)
    as_a_process_begins()
    early = torch.compile(plain, backend="eager")
    torch.testing.assert_close(early(x), plain(x))
    there = pickle.loads(packed)
    torch.testing.assert_close(torch.compile(there, backend="eager")(x), model(x))
    assert (model(x) - plain(x)).abs().max() > 0.01  # the check can fail


# Another implementation


@pytest.mark.needs("aihwkit_lightning")
@pytest.mark.filterwarnings("ignore")  # aihwkit-lightning's
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("steps", [None, 254])
def test_aihwkit_lightning_has_the_same_input_ranges(spread: float, steps: int | None) -> None:
    """Output and gradients, in its plain variant without triton; also with inputs at the range."""
    from aihwkit_lightning.nn import AnalogLinear
    from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig

    config = TorchInferenceRPUConfig()
    config.forward.inp_res, config.mapping.max_input_size = -1 if steps is None else steps, -1
    own = config.pre_post.input_range
    own.enable, own.init_from_data, own.init_value, own.decay = True, 0, RANGE, 0.3
    layer, x, towards = nn.Linear(7, 3).double(), spread * data(5, 4, 7), data(5, 4, 3, seed=5)
    theirs = AnalogLinear.from_digital(layer, config).double()
    nn.init.constant_(theirs.input_range, RANGE)  # it was rounded to float32
    x[0, 0, :2] = torch.tensor([RANGE, -RANGE])
    put(layer, Periphery(dac_steps=steps), decay=0.3)
    found = [one(x) for one in (layer, theirs)]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    for output in found:
        (output * towards).sum().backward()
    torch.testing.assert_close(layer.weight.grad, theirs.weight.grad, rtol=1e-12, atol=1e-12)
    assert layer.input_range.grad.item() == pytest.approx(theirs.input_range.grad.item(), rel=1e-12)
    assert layer.input_range.grad.item() != pytest.approx(0.3 * RANGE if spread > 0.5 else 0.0)


def test_every_kind_of_layer_and_chip_is_there() -> None:
    """The catalogue of layers covers what the class says that it does."""
    kinds = {type(make()).__name__ for kind, (make, _) in LAYERS.items() if "transformers" not in kind}
    expected = {"Linear", *(f"Conv{t}{n}d" for t, n in itertools.product(("", "Transpose"), (1, 2, 3)))}
    assert kinds == expected


class Routed(nn.Module):
    """Two experts, each for the rows whose first entry has its sign."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 2) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_empty(len(x), 2)
        for expert, mine in zip(self.experts, (x[:, 0] > 0, x[:, 0] <= 0), strict=True):
            out[mine] = expert(x[mine])
        return out


def test_a_batch_without_rows_for_a_layer_says_nothing_about_its_range() -> None:
    model, x = Routed(), data(12, 4).float()
    positive = torch.cat([x[:, :1].abs(), x[:, 1:]], dim=1)
    with ThroughChip(model, Periphery(dac_steps=254), [positive, -positive], deviations=2.0) as through:
        size = 2.0 * float(positive.double().std(correction=0))
        assert through.ranges == pytest.approx({"experts.0": size, "experts.1": size}, rel=1e-6)
    with pytest.raises(ValueError, match="`experts.1` had no input"):
        ThroughChip(model, Periphery(dac_steps=254), [positive])


def test_hooks_are_taken_off_also_where_a_range_is_no_number() -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    through = ThroughChip(model, Periphery(dac_steps=254, input_ranges={"0": 1.0}))
    with torch.no_grad():
        model[0].input_range.fill_(math.nan)
    with pytest.raises(ValueError, match=r"`input_ranges` must be > 0 and finite, got nan"):
        through.remove()
    assert not model[0]._forward_hooks
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
