"""Attention behind a periphery, against torch's own; `test_parts.py` has it against linear layers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samson.noise import (
    Gaussian,
    Periphery,
    ThroughChip,
    deploy,
)
from tests.noise.test_parts import attention

PARTS = ("q", "k", "v", "out_proj")


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
    case = attention()
    layer, inputs = case.layer, case.inputs
    alone = [x[0] for x in inputs]
    expected = layer(*alone)[0]
    with deploy(layer, Gaussian(0.0), periphery=Periphery()).at():
        torch.testing.assert_close(layer(*alone)[0], expected)


FUSED: dict[str, Callable[[nn.TransformerEncoder, Tensor], AbstractContextManager[Any]]] = {
    "packed": lambda model, x: torch.no_grad(),
    "gradients": lambda model, x: nullcontext(),
    "inputs learn": lambda model, x: nullcontext((model.requires_grad_(False), x.requires_grad_())),
    "training": lambda model, x: nullcontext(model.layers[0].train()),
    "switched off": lambda model, x: without_fast_path(),
    "with a mask": lambda model, x: torch.no_grad(),
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
    mask = torch.ones(5, 5).triu(1).bool() if way == "with a mask" else None
    parts = (*(f"self_attn.{part}" for part in PARTS), "linear1", "linear2")
    with FUSED[way](model, x):
        expected = model(x, mask, src_key_padding_mask=padded)
        for select in (None, "*.linear?"):
            chip = deploy(model, Gaussian(0.0), periphery=Periphery(), select=select)
            with chip.at():
                found = model(x, mask, padded)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            if select is None:
                assert chip.reached == {f"layers.{i}.{part}": 1 for i in range(2) for part in parts}
        alone = model(x[0], src_key_padding_mask=padded[0])
        with deploy(model, Gaussian(0.0), periphery=Periphery()).at():
            torch.testing.assert_close(model(x[0], src_key_padding_mask=padded[0]), alone, rtol=1e-4, atol=1e-5)
    assert model.use_nested_tensor
    zeros = torch.zeros(8) if last is None else last.bias.detach()
    assert torch.equal(expected[1, 4].detach(), zeros) == (way == "packed")


def test_hooks_of_ones_own_see_what_comes_from_the_chip() -> None:
    """In training and on a chip, in a model that was put through the chip in evaluation mode."""
    case = attention()
    layer, inputs = case.layer, case.inputs
    plain = layer(*inputs)[0]
    layer.register_forward_hook(lambda layer, args, output: (2 * output[0], output[1]))
    with ThroughChip(layer.eval(), Periphery(output_noise=0.5), case.batches):
        assert not any(module.training for module in layer.modules())
        with torch.no_grad(), deploy(layer, Gaussian(0.0), periphery=Periphery()).at():
            torch.testing.assert_close(layer(*inputs)[0], 2 * plain)
        layer.train()
        assert (layer(*inputs)[0] - 2 * plain).abs().max() > 0.1
        assert (layer(*inputs)[0] / plain).median().item() == pytest.approx(2, rel=0.3)


def test_several_chips_and_trainings_share_the_projections() -> None:
    case = attention()
    layer, inputs = case.layer, case.inputs
    batches = case.batches
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
    case = attention()
    layer, x = case.layer, case.inputs[0]
    batches = [dict.fromkeys(("query", "key", "value"), x)]
    ThroughChip(layer, Periphery(dac_steps=30, adc_steps=60, adc_bound=2.0), batches, "*.q")
    gradients = []
    for run in (layer, torch.compile(layer, backend="aot_eager")):
        layer.zero_grad()
        run(x, x, x, need_weights=False)[0].square().sum().backward()
        gradients.append(layer.in_proj_weight.grad.clone())
    torch.testing.assert_close(*gradients)
