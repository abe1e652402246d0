"""Peripheries against a float64 loop over outputs and inputs, and proof that they reach the layers."""

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations, prune

from samson.noise import (
    PCM,
    STANDARD_HWA,
    Compose,
    DeviceNoise,
    Gaussian,
    Mapping,
    Operation,
    Periphery,
    Variation,
    calibrate,
    calibrate_adc,
    deploy,
    describe,
    generator_for,
    preset,
)
from tests.conftest import Alike, empty_linear, equal, make_model, snapshot, with_transformers
from tests.noise.layers import (
    KINDS,
    LAYERS,
    Bypass,
    data,
    even_kernels,
    every_layer,
    made,
    of_transformers,
    products_of,
    unbatched,
)
from tests.noise.products import Products, rows
from tests.noise.test_forward import Twice

CLEAN = Gaussian(0.0)
DAY, YEAR = 86_400.0, 365 * 86_400.0


def rounded(value: float, bound: float, steps: int | None) -> float:
    value = min(max(value, -bound), bound)
    return value if steps is None else round(value / (2 * bound / steps)) * (2 * bound / steps)


def conversions(
    p: Periphery, x: list[float], w: list[list[float]], given: float | None, target: list[list[float]] | None = None
) -> Iterator[tuple[int, float, float]]:
    """Of one product without random parts, tile after tile: the output's number, what its ADC sees, and its scale.

    The scale of a column is that of the target, the weight that was to be programmed.
    """
    size = p.tile_inputs or len(x)
    for start in range(0, len(x), size):
        part = x[start : start + size]
        n, scale = len(part), given if given is not None else (max(map(abs, part)) or 1.0)
        volts = [rounded(v / scale, 1.0, p.dac_steps) for v in part]
        for i, row in enumerate(w):
            weights = row[start : start + size]
            column = max(map(abs, (target or w)[i][start : start + size])) or 1.0
            weights = [v / column for v in weights]
            y = sum(a * b for a, b in zip(weights, volts, strict=True))
            a = n / p.wire_ratio * sum(abs(a * b) for a, b in zip(weights, volts, strict=True))
            c = a * (a * (0.05 * a - 0.2) + 0.5)
            y -= p.ir_drop * c * sum(weights[j] * volts[j] * (1 - (1 - j / n) ** 2) for j in range(n))
            yield i, y, column * scale


def product(
    p: Periphery, x: list[float], w: list[list[float]], given: float | None, target: list[list[float]] | None = None
) -> list[float]:
    """One product without random parts, by the published formulas."""
    total = [0.0] * len(w)
    for i, y, scale in conversions(p, x, w, given, target):
        total[i] += rounded(y, p.adc_bound, p.adc_steps) * scale
    return total


EXACT = {
    "dac": Periphery(dac_steps=6),
    "adc": Periphery(adc_steps=14, adc_bound=2.0),
    "saturation": Periphery(adc_bound=0.5),
    "tiles": Periphery(adc_steps=20, adc_bound=1.5, tile_inputs=4),
    "ir drop": Periphery(ir_drop=1.0, wire_ratio=20.0),
    "ir drop in tiles": Periphery(ir_drop=1.0, wire_ratio=6.0, tile_inputs=5),
    "all": Periphery(dac_steps=254, adc_steps=254, adc_bound=10.0, ir_drop=1.0, wire_ratio=20.0, tile_inputs=5),
}


@even_kernels
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(pytest.param(*kind.values, "all", marks=kind.marks) for kind in KINDS),
        *((kind, name) for kind in ("linear", "conv2d-reflect", "transposed1d") for name in EXACT if name != "all"),
    ],
)
def test_a_layer_is_the_loop(kind: str, name: str) -> None:
    """A tile takes inputs in the order of the weight's own axes, as it does for the noise of weights."""
    (layer, x), p = made(kind), EXACT[name]
    if x.ndim > 1:
        x.view(-1, x.shape[-1])[0] = 0.0
    chip = deploy(layer, CLEAN, periphery=p)
    with torch.no_grad(), chip.at():
        output = layer(x)
    products = products_of(layer, x)
    total = torch.zeros(*products.vectors(x).shape[:3], products.outputs, dtype=torch.float64)
    for key, inputs, weights in rows(products, x, layer.weight):
        total[key] = torch.tensor(product(p, inputs, weights, None), dtype=torch.float64)
    expected = unbatched(x, products.output(total, x, layer.bias)).detach()
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-12)
    assert chip.reached == {"": 1}
    assert (layer(x) - output).abs().max() > 1e-4  # the check can fail


@even_kernels
@every_layer
@pytest.mark.parametrize("tile", [None, 5])
def test_a_layer_without_errors_is_torchs(kind: str, tile: int | None) -> None:
    layer, x = made(kind)
    plain = layer(x).detach()
    along = data(*plain.shape)

    def slope() -> Tensor:
        return torch.autograd.functional.vjp(layer, x, along)[1]

    expected = slope()
    with deploy(layer, CLEAN, periphery=Periphery(tile_inputs=tile)).at():
        torch.testing.assert_close(layer(x), plain)
        torch.testing.assert_close(slope(), expected)


@with_transformers
def test_a_linear_layer_of_transformers_may_be_called_by_its_own_keyword() -> None:
    layer, x = of_transformers().double(), data(4, 11)
    assert calibrate(layer, [{"x": x}]) == {"": x.abs().max().item()}
    with deploy(layer, CLEAN, periphery=EXACT["all"]).at(), torch.no_grad():
        assert torch.equal(layer(x=x), layer(x))


@with_transformers
def test_gpt2_goes_on_a_chip_whole() -> None:
    """Every linear layer is reached, and without errors nothing changes."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=11, n_positions=6)
    model, tokens = GPT2LMHeadModel(config).eval().double(), torch.randint(11, (2, 6))
    plain = model(tokens).logits
    chip = deploy(model, CLEAN, periphery=Periphery(tile_inputs=5))
    with chip.at():
        torch.testing.assert_close(model(tokens).logits, plain)
    layers = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    names = [f"transformer.h.{number}.{layer}" for number in range(2) for layer in layers]
    assert chip.reached == dict.fromkeys([*names, "lm_head"], 1)
    with deploy(model, CLEAN, periphery=Periphery(adc_steps=14, adc_bound=2.0)).at():
        assert not torch.allclose(model(tokens).logits, plain)


RANDOM = {
    "output": (Periphery(output_noise=0.04), lambda v, w: 0.04**2 * torch.ones(len(w), dtype=v.dtype)),
    "weight": (Periphery(weight_noise=0.02), lambda v, w: 0.02**2 * (w.abs() @ v**2)),
    "flat": (Periphery(weight_noise=0.02, weight_noise_grows=False), lambda v, w: (0.02 * v.norm()) ** 2 + 0 * w[:, 0]),
    "input": (Periphery(input_noise=0.03), lambda v, w: 0.03**2 * (w**2).sum(dim=1)),
    "both": (Periphery(weight_noise=0.02, output_noise=0.01), lambda v, w: 0.02**2 * (w.abs() @ v**2) + 0.01**2),
}


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize(
    ("kind", "given", "tile"),
    [
        ("linear", None, None),
        ("transposed1d", 1.5, 3),
        ("transposed-cut", 1.5, None),
        pytest.param("conv1d-of-transformers", 1.5, None, marks=with_transformers),
    ],
)
def test_noise_has_its_closed_form(name: str, kind: str, given: float | None, tile: int | None) -> None:
    """Mean and variance of every output within 5 standard errors; what lies between spread inputs has noise too."""
    n, (p, variance_of), (make, shape) = 20_000, RANDOM[name], LAYERS[kind]
    layer = make().double()
    products = products_of(layer, data(*shape))
    x = data(1, *products.shape)
    if given is not None:
        x = x.clamp(-given, given)
        p = replace(p, tile_inputs=tile, input_ranges={"": given})
    variance = torch.zeros(1, len(products.inputs), products.groups, products.outputs, dtype=torch.float64)
    size = tile or products.weights.shape[-1]
    for key, inputs, weights in rows(products, x, layer.weight):
        r = given or max(map(abs, inputs))
        for v, w in zip(
            torch.tensor(inputs).double().split(size), torch.tensor(weights).double().split(size, dim=1), strict=True
        ):
            column = w.abs().amax(dim=1)
            variance[key] += variance_of(v / r, w / column[:, None]) * (column * r) ** 2
    expected = products.output(variance, x, None)
    with torch.no_grad(), deploy(layer, CLEAN, periphery=p).at():
        many = layer(x.expand(n, *x.shape[1:]))
    errors = many - layer(x).detach()
    assert (errors.mean(dim=0).abs() <= 5 * (expected[0] / n).sqrt()).all()
    assert ((errors.var(dim=0) - expected[0]).abs() <= 5 * expected[0] * math.sqrt(2 / n)).all()
    louder = 1.05 * errors
    assert ((louder.var(dim=0) - expected[0]).abs() > 5 * expected[0] * math.sqrt(2 / n)).any()


def test_a_column_of_zeros_has_the_noise_of_the_layers_largest_weight() -> None:
    n, layer, p = 40_000, nn.Linear(4, 3, bias=False).double(), Periphery(output_noise=0.04)
    with torch.no_grad():
        layer.weight.copy_(0.05 * data(3, 4))
        layer.weight[1] = 0.0
        y = p(Operation(), torch.ones(n, 4, dtype=torch.float64), layer.weight, generator_for(0))
        largest = layer.weight.abs().amax(dim=1)
        largest[1] = largest.max()
        quiet = Periphery(output_noise=0.04)(Operation(), torch.ones(2, 4), torch.zeros(3, 4), generator_for(0))
    error = 5 / math.sqrt(2 * n)
    assert ((y.std(dim=0) / (0.04 * largest) - 1).abs() < error).all()
    assert abs(y.std(dim=0)[1] / 0.04 - 1) > error  # the check can fail: a scale of 1 would be louder
    assert quiet.abs().max() > 0.01  # an all-zero layer keeps the scale 1


def test_weights_of_zero_have_noise_too_where_it_does_not_grow_with_them() -> None:
    n, weight = 20_000, torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64)
    x = torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64).expand(n, 3)
    for grows, expected in ((True, 0.0), (False, 0.1 * 2.0)):
        noisy = Periphery(weight_noise=0.1, weight_noise_grows=grows)
        y = noisy(Operation(input_range=1.0), x, weight, generator_for(0))
        assert y.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * n))


AGED = {0.0: 0.040, 3600.0: 0.052, DAY: 0.060, YEAR: 0.080}
"""Output noise over the largest programmed weight: .04 times the drift compensation."""
ONE_INPUT = torch.eye(512)[:1].expand(4000, 512)


def output_noise(layer: nn.Linear) -> float:
    """Of products of one input, over the largest weight of each output."""
    with torch.no_grad():
        return float((layer(ONE_INPUT).std(dim=0) / WIDE.weight.abs().amax(dim=1)).mean())


WIDE = nn.Linear(512, 64, bias=False)
OUTPUT_NOISE = Periphery(output_noise=0.04, input_ranges={"": 1.0})


def test_output_noise_grows_with_the_drift_compensation() -> None:
    layer = copy.deepcopy(WIDE)
    chip = deploy(layer, PCM(mapping=Mapping(per="channel"), compensation="global"), periphery=OUTPUT_NOISE)
    for time_s, expected in AGED.items():
        with chip.at(time_s):
            assert output_noise(layer) == pytest.approx(expected, rel=0.015)
    plain = deploy(layer, Compose(PCM(compensation=None), Variation(gain=0.5)), periphery=OUTPUT_NOISE)
    for time_s in (None, YEAR):  # nothing is multiplied by digitally: drift and gain leave the noise alone
        with plain.at(time_s):
            assert output_noise(layer) == pytest.approx(0.04, rel=0.015)


@pytest.mark.needs("aihwkit")
@pytest.mark.filterwarnings("ignore")  # aihwkit's, under this torch
def test_aihwkit_has_the_same_output_noise_at_every_age() -> None:
    from aihwkit.inference.compensation.drift import GlobalDriftCompensation
    from aihwkit.inference.noise.pcm import PCMLikeNoiseModel
    from aihwkit.nn import AnalogLinear
    from aihwkit.simulator.configs import TorchInferenceRPUConfig
    from aihwkit.simulator.parameters.enums import BoundManagementType, NoiseManagementType

    config = TorchInferenceRPUConfig()
    config.mapping.weight_scaling_omega, config.mapping.weight_scaling_columnwise = 1.0, True
    config.mapping.max_input_size = 512
    exact = {"inp_res": -1, "out_res": -1, "out_bound": 0, "inp_bound": 1.0, "inp_noise": 0, "w_noise": 0, "ir_drop": 0}
    for name, value in {**exact, "out_noise": 0.04}.items():
        setattr(config.forward, name, value)
    config.forward.noise_management = NoiseManagementType.NONE
    config.forward.bound_management = BoundManagementType.NONE
    config.noise_model, config.drift_compensation = PCMLikeNoiseModel(g_max=25.0), GlobalDriftCompensation()
    layer = AnalogLinear(512, 64, bias=False, rpu_config=config)
    layer.set_weights(WIDE.weight.detach().clone(), None)
    layer.eval().program_analog_weights()
    for time_s, expected in AGED.items():
        layer.drift_analog_weights(time_s or 0.01)  # it has no reading at 0 s
        assert output_noise(layer) == pytest.approx(expected, rel=0.015)


MAPPINGS = [Mapping(), Mapping(per="channel"), *(Mapping(per="tile", tile_inputs=n) for n in (4, 6))]
AGED_LAYERS = {
    "linear and varied": (lambda: nn.Linear(11, 3, bias=False), (8, 11), Variation(gain=0.3)),
    "transposed": (lambda: nn.ConvTranspose1d(8, 6, 3, stride=2, padding=1, groups=2, bias=False), (2, 8, 5)),
    "two axes": (lambda: nn.ConvTranspose2d(2, 3, (3, 2), stride=(1, 2), bias=False), (1, 2, 3, 2)),
    "transformers": (of_transformers, (2, 11)),
}
"""With the shape of their inputs, and what changes their weights after the devices."""


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[with_transformers] if k == "transformers" else []) for k in AGED_LAYERS]
)
@pytest.mark.parametrize("compensation", ["global", "column"])
@pytest.mark.parametrize("mapping", MAPPINGS, ids=[f"{m.per}{m.tile_inputs or ''}" for m in MAPPINGS])
def test_an_aged_layer_is_the_loop(kind: str, compensation: str, mapping: Mapping) -> None:
    """Drift compensation multiplies the digital output of each column of each tile, with columns as programmed."""
    make, shape, *later = AGED_LAYERS[kind]
    layer, x = make().double(), data(*shape)
    tile = {4: 4, 6: 3}.get(mapping.tile_inputs, 5)  # that of the mapping, or a part of it
    p = Periphery(dac_steps=14, adc_steps=20, adc_bound=1.5, ir_drop=1.0, wire_ratio=20.0, tile_inputs=tile)
    clean, weights, outputs = layer.weight.detach().clone(), [], []
    for own in (compensation, None):
        with deploy(layer, Compose(PCM(YEAR, mapping, own), *later), periphery=p).at(), torch.no_grad():
            weights.append(layer.weight.clone())
            outputs.append(layer(x))
    products = Products(layer, shape[1:])
    sizes = [products.matrices(weight.abs()).split(p.tile_inputs, dim=-1) for weight in weights]
    factors = torch.stack([one.sum(dim=-1) / other.sum(dim=-1) for one, other in zip(*sizes, strict=True)])
    target = products.matrices(clean).tolist()
    total = torch.zeros(len(x), len(products.inputs), products.groups, products.outputs, dtype=torch.float64)
    for key, inputs, drifted in rows(products, x, weights[1]):
        for k, (i, y, scale) in enumerate(conversions(p, inputs, drifted, None, target[key[2]])):
            alpha = factors[k // products.outputs, key[2], i]  # of this tile's column
            total[(*key, i)] += rounded(y, p.adc_bound, p.adc_steps) * scale * alpha
    expected = products.output(total, x, getattr(layer, "bias", None))
    torch.testing.assert_close(outputs[0], expected.detach(), rtol=1e-9, atol=1e-9)
    assert factors.min() > 1.2
    assert factors.std() > 1e-3 or (compensation, mapping.per) == ("global", "layer")
    with deploy(layer, CLEAN, periphery=p).at(), torch.no_grad():  # the check can fail: scaled back before the ADC
        layer.weight.copy_(weights[0])
        assert not torch.allclose(layer(x), expected, rtol=1e-3)


def test_one_factor_for_part_of_a_tile_is_refused() -> None:
    layer = nn.Linear(11, 3)
    noise = PCM(YEAR, Mapping(per="tile", tile_inputs=6), "global")
    chip = deploy(layer, noise, periphery=Periphery(tile_inputs=4))
    with (
        pytest.raises(ValueError, match="`tile_inputs` of the periphery must divide that of the mapping.* got 4"),
        chip.at(),
    ):
        pass
    with deploy(layer, noise, periphery=Periphery(tile_inputs=3)).at():
        layer(torch.ones(1, 11))


def test_inputs_that_fill_a_tile_up_have_no_noise() -> None:
    """Nine inputs on tiles of eight: the second tile has one."""
    p = Periphery(input_noise=0.5, weight_noise=0.1, weight_noise_grows=False, tile_inputs=8)
    y = p(Operation(input_range=1.0), torch.zeros(40_000, 9), torch.zeros(1, 9), generator_for(0))
    assert y.var().item() == pytest.approx(0.1**2 * 0.5**2 * 9, rel=0.05)
    assert y.var().item() != pytest.approx(0.1**2 * 0.5**2 * 16, rel=0.05)  # the check can fail
    full = p(Operation(input_range=1.0), torch.zeros(40_000, 16), torch.zeros(1, 16), generator_for(0))
    assert full.var().item() == pytest.approx(0.1**2 * 0.5**2 * 16, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_layer_in_half_precision_computes_in_float32_and_gives_its_own_dtype(dtype: torch.dtype) -> None:
    layer, x = nn.Linear(300, 3).to(dtype), (8 * data(4, 300)).to(dtype)
    wide = copy.deepcopy(layer).float()
    p = replace(STANDARD_HWA, adc_bound=30.0, tile_inputs=128)
    with deploy(layer, CLEAN, periphery=p).at(), deploy(wide, CLEAN, periphery=p).at(), torch.no_grad():
        output, exact = layer(x), wide(x.float())
    assert (output.dtype, exact.dtype) == (dtype, torch.float32)
    products = [output - layer.bias, exact - wide.bias]
    torch.testing.assert_close(products[0].float(), products[1], rtol=3 * torch.finfo(dtype).eps, atol=0.02)
    with deploy(wide, CLEAN, periphery=p).at(), torch.no_grad(), torch.autocast("cpu", dtype):
        lowered = wide(x.float())
    assert lowered.dtype == dtype
    torch.testing.assert_close(lowered, exact.to(dtype))


def test_it_is_pure_and_partial_sums_have_noise_of_their_own() -> None:
    layer, x = nn.Linear(40, 2).double(), data(1, 40).expand(20_000, 40)
    before, state = layer.weight.detach().clone(), torch.get_rng_state()
    noisy = Periphery(output_noise=0.1, input_ranges={"": 1.0})
    one, two = (noisy(Operation(), x, layer.weight, generator_for(1)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(layer.weight, before)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        layer.weight.fill_(0.5)
    for tile, count in ((None, 1), (10, 4)):
        p = Periphery(output_noise=0.1, tile_inputs=tile)
        operation = Operation(input_range=8.0)
        variance = p(operation, x, layer.weight, generator_for(1)).var(dim=0)
        assert variance.detach() == pytest.approx(count * (0.1 * 0.5 * 8.0) ** 2, rel=0.05)


def test_noise_is_drawn_once_a_reading_by_layer_and_trial() -> None:
    model, (x, _) = make_model().eval(), (data(4, 2, 5), None)

    def run(reading: int, trial: int = 0) -> Tensor:
        with deploy(model, CLEAN, periphery=STANDARD_HWA, trial=trial).at(reading=reading), torch.no_grad():
            return model(x)

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))
    assert not torch.equal(run(0), run(0, trial=1))


def test_hooks_of_ones_own_see_what_comes_from_the_chip() -> None:
    layer, x, seen = nn.Linear(5, 3).double(), data(4, 5), []

    def doubled(layer: nn.Module, args: object, output: Tensor) -> Tensor:
        seen.append(output)
        return 2 * output

    layer.register_forward_hook(doubled)
    with torch.no_grad(), deploy(layer, CLEAN, periphery=Periphery(output_noise=0.5)).at():
        found = layer(x)
    assert torch.equal(found, 2 * seen[0])
    assert not torch.allclose(seen[0], nn.functional.linear(x, layer.weight, layer.bias))


def test_layers_that_are_alike_have_noise_of_their_own() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).double(), data(3, 4)
    for layer in model:
        nn.init.eye_(layer.weight)
    ranges = {"0": 9.0, "1": 9.0}
    for size, alike in ((0.0, True), (0.1, False)):  # without noise the check fails
        noisy = Periphery(output_noise=size, input_ranges=ranges)
        with deploy(model, CLEAN, periphery=noisy).at(), torch.no_grad():
            errors = [layer(x) - x for layer in model]
        assert torch.allclose(*errors) == alike
        bounds = calibrate_adc(model, [x], noisy)
        assert (bounds["0"] == bounds["1"]) == alike


@pytest.mark.parametrize("kind", ["plain", "parametrised", "pruned", "tied"])
def test_the_periphery_computes_with_the_chips_weight(kind: str) -> None:
    linear = nn.Linear(3, 3)
    model = nn.Sequential(nn.Tanh(), linear)
    if kind == "parametrised":
        parametrizations.weight_norm(linear)
    if kind == "pruned":
        prune.l1_unstructured(linear, "weight", 0.5)
    if kind == "tied":
        model.append(nn.Embedding(3, 3))
        model[2].weight = linear.weight
        model[2].forward = lambda y: y
    x, p, noise = torch.randn(4, 3), Periphery(adc_steps=8, adc_bound=2.0), Gaussian(0.3)
    clean = linear.weight.detach()
    noisy = noise(clean, generator_for(0, 0, "program", "1.weight"))
    before, hooks = snapshot(model), len(linear._forward_hooks)
    chip = deploy(model, noise, periphery=p)
    with chip.at():
        output = model(x)
    hand = (
        torch.tensor([product(p, row, noisy.tolist(), None, clean.tolist()) for row in x.tanh().tolist()]) + linear.bias
    )
    torch.testing.assert_close(output, hand)
    assert chip.reached == {"1": 1}
    assert equal(snapshot(model), before)
    assert len(linear._forward_hooks) == hooks
    with pytest.raises(ZeroDivisionError), chip.at():
        raise ZeroDivisionError
    assert len(linear._forward_hooks) == hooks


def test_models_that_hooks_do_not_reach_are_refused() -> None:
    compiled = nn.Sequential(nn.Linear(2, 2))
    compiled[0].compile(backend="eager")
    cases = {
        "but the model is. Deploy the original": torch.compile(nn.Linear(2, 2), backend="eager"),
        "not compiled, but `0` is": compiled,
        r"but `0` is a Bilinear, .*Leave out with `select` .*: \[\"default\", \"!0\", \"!2\"\]": nn.Sequential(
            nn.Bilinear(2, 2, 2), nn.Linear(2, 2), nn.Bilinear(2, 2, 2)
        ),
    }
    for message, model in cases.items():
        with pytest.raises(ValueError, match=message):
            deploy(model, CLEAN, periphery=STANDARD_HWA)


def test_the_count_finds_a_layer_that_the_model_does_not_call() -> None:
    model, x = Bypass(), torch.randn(2, 3)
    before = snapshot(model)
    chip = deploy(model, CLEAN, periphery=STANDARD_HWA)
    with pytest.raises(RuntimeError, match="The model was not run, .* was not reached: taken\\."), chip.at():
        model(x)
    assert chip.reached == {"called": 2, "taken": 0}
    assert equal(snapshot(model), before)
    with pytest.raises(RuntimeError, match="The model was not run, .* was not reached: called, taken\\."), chip.at():
        pass
    with pytest.raises(ZeroDivisionError), chip.at():  # the error in the block is the one to be seen
        raise ZeroDivisionError


@pytest.mark.parametrize("gradients", [True, False])
def test_the_layers_around_attention_are_reached(gradients: bool) -> None:
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), torch.randn(2, 5, 8)
    chip = deploy(layer, CLEAN, periphery=STANDARD_HWA, select="linear?")
    with chip.at(), torch.set_grad_enabled(gradients):
        layer(x)
    assert chip.reached == {"linear1": 1, "linear2": 1}


def test_inputs_beyond_the_range_saturate() -> None:
    layer = nn.Linear(1, 1, bias=False)
    p = Periphery(input_ranges={"": 2.0})
    with deploy(layer, CLEAN, periphery=p).at(), torch.no_grad():
        outputs = [layer(input=torch.tensor([v])).item() for v in (1.0, 2.0, 3.0)]
    w = layer.weight.item()
    assert outputs == pytest.approx([w, 2 * w, 2 * w])


def test_a_layer_with_a_forward_of_its_own_is_refused() -> None:
    replaced = nn.Linear(4, 3)
    replaced.forward = partial(F.linear, weight=replaced.weight)  # as some libraries do
    for layer in (Twice(4, 3), replaced):
        with pytest.raises(ValueError, match="has a `forward` of its own, which would be lost"):
            deploy(nn.Sequential(layer), Gaussian(0.0), periphery=Periphery())
    parametrised = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    deploy(nn.Sequential(parametrised), Gaussian(0.0), periphery=Periphery())  # computes as torch's does


def test_a_kind_of_chip_brings_its_periphery() -> None:
    model, x = nn.Sequential(nn.Linear(600, 3)), torch.randn(2, 600)
    kind = preset("standard-hwa")
    with deploy(model, kind).at(), torch.no_grad():
        found = model(x)
    with deploy(model, kind.noise, periphery=kind.periphery).at(), torch.no_grad():
        assert torch.equal(model(x), found)
    with deploy(model, kind.noise).at(), torch.no_grad():
        assert not torch.equal(model(x), found)
    assert describe(model, kind)[0].tiles == 2


@pytest.mark.parametrize(("layer", "shape"), [(nn.Linear(4, 2), (0, 4)), (nn.Conv2d(4, 2, 3, groups=2), (0, 4, 5, 5))])
@pytest.mark.parametrize("p", [Periphery(dac_steps=254, input_noise=0.1), Periphery(dac_steps=254, tile_inputs=3)])
def test_an_input_without_rows_gives_an_output_without_rows(
    layer: nn.Module, shape: tuple[int, ...], p: Periphery
) -> None:
    model = nn.Sequential(copy.deepcopy(layer))
    expected = model(torch.empty(shape)).shape
    with deploy(model, CLEAN, periphery=p).at():
        assert model(torch.empty(shape)).shape == expected


def test_layers_whose_plain_names_are_alike_have_a_periphery_each() -> None:
    model = Alike(lambda: nn.Linear(4, 4))
    chip = deploy(model, CLEAN, periphery=Periphery(output_noise=0.1))
    x, seen = torch.randn(8, 4), []
    for layer in (model.own, model.module["own"]):
        layer.register_forward_hook(
            lambda layer, args, out: seen.append(float((out - plain(layer, args)).detach().abs().max()))
        )
    with chip.at():
        model(x)
    assert [t.name for t in chip.tensors] == ["own.weight", "module.own.weight"]
    assert dict(chip.reached) == {"own": 1, "module.own": 1}
    assert min(seen) > 0.01


def plain(layer: nn.Linear, args: tuple[Tensor, ...]) -> Tensor:
    return F.linear(args[0], layer.weight, layer.bias)


def test_a_layer_without_weights_is_named() -> None:
    model = nn.Sequential(empty_linear(4, 0), empty_linear(0, 2))
    with pytest.raises(ValueError, match="`periphery` must go on layers with weights, but `0` has none"):
        deploy(model, CLEAN, periphery=Periphery(dac_steps=254))


def test_entering_a_block_leaves_the_vectors_of_a_spectral_norm_alone() -> None:
    model = nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 3))).train()
    chip = deploy(model, CLEAN, periphery=Periphery(dac_steps=254))
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="was not reached"), chip.at():
        pass
    assert equal(snapshot(model), before)


HWA = preset("standard-hwa")


def error_by_row(noise: DeviceNoise, w: Tensor) -> Tensor:
    return (noise(w, generator_for(0)) - w).square().mean(dim=1).sqrt()


def test_the_standard_model_has_the_published_constants() -> None:
    p = HWA.periphery
    assert p is not None
    assert (p.dac_steps, p.adc_steps, p.adc_bound, p.tile_inputs) == (254, 254, 10.0, 512)
    assert (p.output_noise, p.weight_noise, p.weight_noise_grows, p.ir_drop) == (0.04, 0.0175, True, 1.0)
    assert p.wire_ratio == pytest.approx(1 / (0.35 * 5e-6))
    assert HWA.noise == PCM(mapping=Mapping(per="channel"), compensation="global")
    w = torch.randn(1, 20_000, generator=generator_for(1)) * torch.tensor([[1.0], [0.01]])
    scaled, plain = (error_by_row(noise, w) for noise in (HWA.noise, PCM()))
    assert (scaled[1] / scaled[0]).item() == pytest.approx(0.01, rel=4 / 20_000**0.5)  # a scale for each channel
    assert plain[1] / plain[0] > 0.1  # the check can fail


def test_its_read_noise_is_drawn_for_each_product_and_its_programming_once() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(64, 1, bias=False), torch.ones(400, 64)
    chip = deploy(layer, HWA.noise, periphery=replace(HWA.periphery, output_noise=0.0, adc_steps=None))
    with torch.no_grad(), chip.at():
        held = layer.weight.clone()
        outputs = layer(x).flatten()
    assert not torch.equal(held, layer.weight)
    largest = layer.weight.detach().abs().max()  # as it was to be programmed
    expected = 0.0175 * (held.abs() / largest).sum().sqrt() * largest  # inputs are 1, the column is scaled to 1
    assert outputs.std().item() == pytest.approx(expected.item(), rel=4 / (2 * 400) ** 0.5)
    with torch.no_grad(), chip.at():
        assert torch.equal(layer.weight, held)
        assert not torch.equal(layer(x).flatten(), outputs)
    quiet = deploy(layer, HWA.noise, periphery=replace(chip.periphery, weight_noise=0.0))
    with torch.no_grad(), quiet.at():
        assert layer(x).std() < 1e-6  # the check can fail
