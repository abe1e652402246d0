"""Attention behind a periphery: against torch's own, and against attention that is built from linear layers."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samson import param_groups
from samson.noise import (
    PCM,
    CustomPCM,
    Gaussian,
    InversePower,
    Periphery,
    ThroughChip,
    calibrate,
    calibrate_adc,
    deploy,
)
from tests.conftest import equal, snapshot

SIZES = {"packed": {}, "separate": {"kdim": 6, "vdim": 10}}
each_size = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)


class Built(nn.Module):
    """Attention by its textbook formula, from linear layers with an attention layer's weights."""

    def __init__(self, like: nn.MultiheadAttention) -> None:
        super().__init__()
        packed = like._qkv_same_embed_dim
        weights = like.in_proj_weight.chunk(3) if packed else (getattr(like, f"{part}_proj_weight") for part in "qkv")
        for part, weight, bias in zip("qkv", weights, like.in_proj_bias.chunk(3), strict=True):
            layer = nn.Linear(weight.shape[1], like.embed_dim, dtype=weight.dtype)
            layer.load_state_dict({"weight": weight, "bias": bias})
            self.add_module(part, layer)
        self.out_proj, self.heads = copy.deepcopy(like.out_proj), like.num_heads

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        found = []
        split = (x.chunk(self.heads, -1) for x in (self.q(query), self.k(key), self.v(value)))
        for q, k, v in zip(*split, strict=True):
            found.append((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v)
        return self.out_proj(torch.cat(found, -1))


def pair(**sizes: int) -> tuple[nn.MultiheadAttention, Built, list[Tensor]]:
    """Attention as a layer and as built, with the same weights, and queries, keys and values."""
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True, **sizes).double()
    nn.init.normal_(layer.in_proj_bias)
    nn.init.normal_(layer.out_proj.bias)
    inputs = [torch.randn(3, n, d).double() for n, d in ((4, 8), (5, layer.kdim), (5, layer.vdim))]
    return layer, Built(layer), inputs


def names_of(layer: nn.MultiheadAttention) -> dict[str, str]:
    """The names of its weights, by those of the layers of `Built`."""
    names = {f"{p}.weight": f"in_proj_weight.{p}" if layer._qkv_same_embed_dim else f"{p}_proj_weight" for p in "qkv"}
    return {**names, "out_proj.weight": "out_proj.weight"}


PARTS = ("q", "k", "v", "out_proj")


@each_size
@pytest.mark.parametrize("time_s", [None, 365 * 86_400.0], ids=["programmed", "a year"])
def test_it_computes_as_linear_layers_on_the_same_devices(sizes: dict[str, int], time_s: float | None) -> None:
    """Also with the compensation of drift, which scales the columns, and with the periphery's own noise."""
    layer, built, inputs = pair(**sizes)
    batches = [dict(zip(("query", "key", "value"), inputs, strict=True))]
    ranges = calibrate(layer, batches)
    assert ranges == calibrate(built, batches)
    around = Periphery(
        dac_steps=30, adc_steps=60, adc_bound=2.0, tile_inputs=5, input_ranges=ranges, output_noise=0.02, ir_drop=1.0
    )
    bounds, expected = (calibrate_adc(model, batches, around) for model in (layer, built))
    assert bounds == pytest.approx(expected)
    noise = CustomPCM(
        constants=replace(PCM().constants, read=InversePower(0.0, 0.65, 1e-3, 0.2))
    )  # read noise goes by names
    chip, other = (deploy(model, noise, periphery=around, seed=3) for model in (layer, built))
    for name, of_layer in names_of(layer).items():
        other.states[name] = chip.states[of_layer]
    before = snapshot(layer)
    with torch.no_grad(), chip.at(time_s), other.at(time_s):
        found, by_hand = layer(*inputs)[0], built(*inputs)
    torch.testing.assert_close(found, by_hand, rtol=1e-9, atol=1e-9)
    assert (found - layer(*inputs)[0]).abs().max() > 0.01  # the check can fail
    assert chip.reached == other.reached == dict.fromkeys(PARTS, 1)
    assert equal(snapshot(layer), before)
    assert list(layer._modules) == ["out_proj"]
    assert not layer._forward_hooks


CALLS: dict[str, dict[str, Any]] = {
    "weights": {},
    "weights of each head": {"average_attn_weights": False},
    "no weights": {"need_weights": False},
    "padding": {"key_padding_mask": torch.arange(5) >= torch.tensor([[5], [3], [4]])},
    "mask": {"attn_mask": torch.ones(5, 5).triu(1).bool()},
    "numbers as mask": {"attn_mask": torch.linspace(-2, 2, 25).view(5, 5).double()},
    "causal": {"attn_mask": torch.ones(5, 5).triu(1).bool(), "is_causal": True, "need_weights": False},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "kind", [{}, {"batch_first": True}, {"bias": False}, {"add_bias_kv": True}, {"add_zero_attn": True, "kdim": 8}]
)
def test_behind_an_exact_periphery_it_is_torchs_own(call: str, kind: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, **kind).double().eval()
    q, k, v = (x if kind.get("batch_first") else x.transpose(0, 1) for x in torch.randn(3, 3, 5, 8).double())
    with torch.no_grad():
        expected, weights = layer(q, k, v, **CALLS[call])
        with deploy(layer, Gaussian(0.0), periphery=Periphery()).at():
            found, own = layer(q, key=k, value=v, **CALLS[call])
    torch.testing.assert_close(found, expected)
    assert (own is None) == (weights is None)
    if weights is not None:
        torch.testing.assert_close(own, weights)


def test_inputs_without_a_batch() -> None:
    layer, _, inputs = pair()
    alone = [x[0] for x in inputs]
    expected = layer(*alone)[0]
    with deploy(layer, Gaussian(0.0), periphery=Periphery()).at():
        torch.testing.assert_close(layer(*alone)[0], expected)


@pytest.mark.parametrize("select", ["*.q", "out_proj"])
def test_a_part_may_lie_on_the_chip_alone(select: str) -> None:
    layer, _, inputs = pair()
    plain = layer(*inputs)[0]
    chip = deploy(layer, Gaussian(0.0), periphery=Periphery(dac_steps=6), select=select)
    with chip.at():
        found = layer(*inputs)[0]
    assert chip.reached == {select.removeprefix("*."): 1}
    assert (found - plain).abs().max() > 1e-3
    exact = deploy(layer, Gaussian(0.0), periphery=Periphery(), select=select)
    with exact.at():
        torch.testing.assert_close(layer(*inputs)[0], plain)


FUSED: dict[str, Callable[[nn.TransformerEncoder, Tensor], AbstractContextManager[Any]]] = {
    "packed": lambda model, x: torch.no_grad(),
    "gradients": lambda model, x: nullcontext(),
    "inputs learn": lambda model, x: nullcontext((model.requires_grad_(False), x.requires_grad_())),
    "training": lambda model, x: nullcontext(model.layers[0].train()),
    "switched off": lambda model, x: without_fast_path(),
}


@contextmanager
def without_fast_path() -> Iterator[None]:
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("norm", [False, True], ids=["", "norm"])
@pytest.mark.parametrize("way", FUSED)
def test_an_encoder_gives_on_a_chip_what_it_gives_elsewhere_for_padded_inputs(way: str, norm: bool) -> None:
    """Torch may pack the inputs into a nested tensor, which no layer on a chip takes: padded places then have zeros."""
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    last = nn.LayerNorm(8) if norm else None
    model, x = nn.TransformerEncoder(block, 2, last).eval(), torch.randn(3, 5, 8)
    if last is not None:
        nn.init.normal_(last.bias)
    padded = torch.arange(5) >= torch.tensor([[5], [3], [4]])
    parts = (*(f"self_attn.{part}" for part in PARTS), "linear1", "linear2")
    with FUSED[way](model, x):
        expected = model(x, src_key_padding_mask=padded)
        for select in (None, "*.linear?"):
            chip = deploy(model, Gaussian(0.0), periphery=Periphery(), select=select)
            with chip.at():
                found = model(x, None, padded)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            if select is None:
                assert chip.reached == {f"layers.{i}.{part}": 1 for i in range(2) for part in parts}
        alone = model(x[0], src_key_padding_mask=padded[0])
        with deploy(model, Gaussian(0.0), periphery=Periphery()).at():
            torch.testing.assert_close(model(x[0], src_key_padding_mask=padded[0]), alone, rtol=1e-4, atol=1e-5)
    assert model.use_nested_tensor
    zeros = torch.zeros(8) if last is None else last.bias.detach()
    assert torch.equal(expected[1, 4].detach(), zeros) == (way == "packed")


@each_size
def test_it_is_trained_as_linear_layers_are(sizes: dict[str, int]) -> None:
    """Outputs, gradients of weights and of the ranges that are learned."""
    layer, built, inputs = pair(**sizes)
    around = Periphery(dac_steps=30, adc_steps=60, adc_bound=2.0, tile_inputs=5)
    batches = [dict(zip(("query", "key", "value"), inputs, strict=True))]
    keys = layer.state_dict().keys()
    one, other = (ThroughChip(model, around, batches, deviations=1.5) for model in (layer, built))
    assert one.ranges == pytest.approx(other.ranges)
    assert set(param_groups(layer)[1]["param_names"]) == {f"{part}.input_range" for part in PARTS}
    twin = copy.deepcopy(layer)
    found, by_hand = layer(*inputs)[0], built(*inputs)
    torch.testing.assert_close(found, by_hand)
    torch.testing.assert_close(twin(*inputs)[0], found)
    assert twin.q.whole is twin
    for y in (found, by_hand):
        y.square().mean().backward()
    for part in PARTS:
        torch.testing.assert_close(*(model.get_submodule(part).input_range.grad for model in (layer, built)))
    assert any(layer.get_submodule(part).input_range.grad.abs() > 0 for part in "qkv")
    for name, of_layer in names_of(layer).items():
        grad = built.get_parameter(name).grad
        attribute, _, part = of_layer.partition(".")
        packed = attribute == "in_proj_weight"
        own = layer.in_proj_weight.grad.chunk(3)["qkv".index(part)] if packed else layer.get_parameter(of_layer).grad
        torch.testing.assert_close(own, grad)
    chip = deploy(layer.eval(), Gaussian(0.0), periphery=one.periphery)  # while it is still trained
    with torch.no_grad(), chip.at():
        torch.testing.assert_close(layer(*inputs)[0], found)
    learned = one.remove()
    assert set(learned.input_ranges) == set(PARTS)
    assert layer.state_dict().keys() == keys
    assert not layer._forward_hooks
    with pytest.raises(
        ValueError, match="layers of the model and parts of them, got 'p'. Available: out_proj, q, k, v"
    ):
        deploy(layer, Gaussian(0.0), periphery=Periphery(input_ranges={"p": 1.0}))


class Twice(nn.MultiheadAttention):
    def forward(self, *args: Any, **keywords: Any) -> Any:
        return 2 * super().forward(*args, **keywords)[0], None


@pytest.mark.parametrize("select", [None, "*.q", "out_proj"])
def test_attention_with_a_forward_of_its_own_is_refused(select: str | None) -> None:
    with pytest.raises(ValueError, match="a Twice, has a `forward` of its own|change their weight before"):
        deploy(Twice(4, 2), Gaussian(0.0), periphery=Periphery(), select=select)


def test_hooks_of_ones_own_see_what_comes_from_the_chip() -> None:
    """In training and on a chip, in a model that was put through the chip in evaluation mode."""
    layer, _, inputs = pair()
    plain = layer(*inputs)[0]
    layer.register_forward_hook(lambda layer, args, output: (2 * output[0], output[1]))
    with ThroughChip(
        layer.eval(), Periphery(output_noise=0.5), [dict(zip(("query", "key", "value"), inputs, strict=True))]
    ):
        assert not any(module.training for module in layer.modules())
        with torch.no_grad(), deploy(layer, Gaussian(0.0), periphery=Periphery()).at():
            torch.testing.assert_close(layer(*inputs)[0], 2 * plain)
        layer.train()
        assert (layer(*inputs)[0] - 2 * plain).abs().max() > 0.1
        assert (layer(*inputs)[0] / plain).median().item() == pytest.approx(2, rel=0.3)


def test_several_chips_and_trainings_share_the_projections() -> None:
    layer, _, inputs = pair()
    batches = [dict(zip(("query", "key", "value"), inputs, strict=True))]
    before = deploy(layer, Gaussian(0.0), periphery=Periphery(dac_steps=6))
    with torch.no_grad(), before.at():
        expected = layer(*inputs)[0]
    one = ThroughChip(layer, Periphery(), batches, "out_proj")
    other = ThroughChip(layer, Periphery(), batches, "*.q")
    layer.eval()
    with torch.no_grad(), before.at():
        assert torch.equal(layer(*inputs)[0], expected)
    one.remove()
    layer.train()(*inputs)[0].sum().backward()
    assert layer.q.input_range.grad is not None  # it is still trained
    other.remove()
    assert list(layer._modules) == ["out_proj"]
    assert not layer._forward_hooks


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_it_is_trained_in_a_compiled_model() -> None:
    """Gradients of what is transposed come in other strides."""
    torch.manual_seed(0)
    model, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0), torch.randn(2, 5, 8)
    ThroughChip(model, Periphery(dac_steps=30, adc_steps=60, adc_bound=2.0), [x])
    gradients = []
    for run in (model, torch.compile(model, backend="aot_eager")):
        model.zero_grad()
        run(x).square().sum().backward()
        gradients.append(model.self_attn.in_proj_weight.grad.clone())
    torch.testing.assert_close(*gradients)
