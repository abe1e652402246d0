"""The share of multiply-adds on a chip, against counts by hand."""

import copy
import subprocess
import sys
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from samson.noise import Products, coverage, multiply_adds
from tests.conftest import empty_linear, equal, snapshot
from tests.programs import ROOT

LINEAR = nn.Linear(6, 4), torch.randn(5, 6)


class Tied(nn.Module):
    """An embedding of 9 words and a head with its weight, after a digital product of 4 x 4."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head, self.mixer = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False), nn.Linear(4, 4)
        self.head.weight = self.words.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.mixer(self.words(words)))


class Paired(nn.Module):
    """A bilinear layer, then a linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.head = nn.Bilinear(4, 3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(self.pair(x, y))


class OneVector(nn.Module):
    """Two layers whose matrices are multiplied with one vector, the second with a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(6, 4, bias=False), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmv(self.other.bias, self.other.weight, self.one.weight @ x)


class SharedKeys(nn.Module):
    """Attention in which two heads of queries share the keys and values of one."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.keys = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, (k, v) = self.queries(x).unflatten(-1, (2, 4)), self.keys(x).unflatten(-1, (2, 1, 4)).unbind(-3)
        q, k, v = (t.transpose(-2, -3) for t in (q, k, v))
        return nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)


class Halved(nn.Module):
    """A layer that computes in half the precision, which casts its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(6, 4), nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.other(self.one(x))


class Rounded(nn.Linear):
    """A layer that rounds its weight before it multiplies, as quantisation-aware ones do."""

    def forward(self, x: Tensor) -> Tensor:
        step = self.weight.abs().amax(1, keepdim=True) / 7
        return nn.functional.linear(x, (self.weight / step).round().clamp(-7, 7) * step, self.bias)


class FakeQuantised(nn.Conv2d):
    """The same by the operation of torch, which gives two tensors."""

    def forward(self, x: Tensor) -> Tensor:
        scale, zero = self.weight.detach().abs().flatten(1).amax(1) / 127, torch.zeros(self.out_channels).int()
        weight = torch.fake_quantize_per_channel_affine(self.weight, scale, zero, 0, -127, 127)
        return self._conv_forward(x, weight, self.bias)


class Padded(nn.Linear):
    """A layer whose weight is multiplied in another shape."""

    def forward(self, x: Tensor) -> Tensor:
        widened = (nn.functional.pad(one, (0, 2)) for one in (x, self.weight))
        return nn.functional.linear(*widened, self.bias)


class WholeNumbers(nn.Module):
    """A layer after one of whole numbers, 6 to 8, whose products stay digital."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randint(-9, 9, (6, 8), dtype=torch.int8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch._int_mm(x.to(torch.int8), self.codes).float())


class Graph(nn.Module):
    """Layers around sums over neighbours in a graph of 5, by a sparse matrix."""

    def __init__(self, layout: torch.layout) -> None:
        super().__init__()
        self.one, self.other, self.kernel = nn.Linear(6, 4), nn.Linear(4, 6), nn.Parameter(torch.randn(5, 2))
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        with warnings.catch_warnings(action="ignore"):  # torch's: that layout is new
            edges = torch.eye(5).to_sparse(layout=self.layout)
        return self.other(torch.sparse.mm(edges, edges @ self.one(x))) + (edges @ self.kernel).sum()


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))


class Tangent(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.func.jvp(super().forward, (x,), (x,))[1]


class Attention(nn.Module):
    """Of nested tensors with themselves."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(-1, (2, 2)).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(x, x, x).transpose(1, 2).values()


def neighbours() -> nn.Module:
    """Two layers in one memory, as recurrent ones have theirs on a GPU."""
    model, memory = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 6)), torch.randn(48)
    model[0].weight, model[1].weight = nn.Parameter(memory[:24].view(4, 6)), nn.Parameter(memory[24:].view(6, 4))
    return model


torch.manual_seed(0)
CONVOLUTIONS = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.Conv2d(6, 6, 3, groups=3))
# 4 x 4 places of 6 · 4 · 9 products, then 2 x 2 places of 6 · 2 · 9
FIRST, SECOND = 16 * 216, 4 * 108
ATTENTION = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
# of 5 tokens: q, k, v and the projection, 5 x 5 products of 8 twice, and the two layers
PROJECTED, BETWEEN, FED = 5 * 4 * 64, 2 * 25 * 8, 2 * 5 * 8 * 16


def pruned(layer: nn.Module, name: str = "weight") -> nn.Module:
    prune.random_unstructured(layer, name, 0.5)
    setattr(layer, name, getattr(layer, name).detach())  # or it could not be copied; each pass makes it anew
    return layer


PRUNED = copy.deepcopy(ATTENTION)
pruned(PRUNED.self_attn, "in_proj_weight")
ORTHOGONAL = nn.Sequential(parametrizations.orthogonal(nn.Linear(6, 6)), nn.Linear(6, 6))
WORDS = torch.randint(9, (2, 3))
STEPS = torch.randn(7, 2, 4)


class Summed(nn.Module):
    """A table is added to activations, which go through a layer on the chip and through a digital one."""

    def __init__(self, *, looked_up: bool) -> None:
        super().__init__()
        self.looked_up, self.added = looked_up, nn.Parameter(torch.ones(5, 8))
        self.digital, self.layer = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu() + (self.added[torch.arange(5)] if self.looked_up else self.added)
        return self.layer(x) + self.digital(x.relu())


CASES = {
    "one layer": (*LINEAR, None, 1.0),
    "convolutions": (CONVOLUTIONS, torch.randn(3, 4, 8, 8), "0", FIRST / (FIRST + SECOND)),
    "grouped": (CONVOLUTIONS, torch.randn(3, 4, 8, 8), "1", SECOND / (FIRST + SECOND)),
    "transposed": (
        nn.Sequential(nn.ConvTranspose2d(2, 3, 3), nn.Flatten(), nn.Linear(48, 2)),
        torch.randn(3, 2, 2, 2),
        "0",
        4 * 54 / (4 * 54 + 96),
    ),
    "attention": (ATTENTION, torch.randn(3, 5, 8), None, (PROJECTED + FED) / (PROJECTED + FED + BETWEEN)),
    "queries": (
        nn.MultiheadAttention(8, 2, batch_first=True),
        (torch.randn(3, 5, 8),) * 3,
        "in_proj_weight.q",
        5 * 64 / (PROJECTED + BETWEEN),
    ),
    "shared keys": (SharedKeys(), torch.randn(3, 5, 8), "queries", 5 * 64 / (2 * 5 * 64 + BETWEEN)),
    "bilinear": (Paired(), (torch.randn(5, 2, 4), torch.randn(5, 2, 3)), "pair", 96 / (96 + 16)),
    "a vector": (OneVector(), torch.randn(6), "one", 24 / (24 + 12)),
    "another": (OneVector(), torch.randn(6), "other", 12 / (24 + 12)),
    "LSTM": (nn.LSTM(4, 3), STEPS, "weight_ih_l0", 4 / (4 + 3)),
    "GRU": (nn.GRU(4, 3, num_layers=2), STEPS, "weight_ih_l0", 4 / (4 + 3 + 3 + 3)),
    "tied": (Tied(), WORDS, "head", 36 / (36 + 16)),
    "computed": (
        nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 4)), nn.Linear(4, 6)), LINEAR[1], "0", 0.5
    ),
    "computed by products": (ORTHOGONAL, LINEAR[1], "0", 0.5),
    "beside computed": (ORTHOGONAL, LINEAR[1], "1", 0.5),
    "a sparse matrix": (Graph(torch.sparse_coo), LINEAR[1], "one", 0.5),
    "in rows": (Graph(torch.sparse_csr), LINEAR[1], "one", 0.5),
    "pruned": (
        nn.Sequential(pruned(nn.Linear(6, 4)), pruned(nn.Linear(4, 6))), LINEAR[1], "0", 0.5
    ),
    "pruned attention": (
        PRUNED, torch.randn(3, 5, 8), None, (PROJECTED + FED) / (PROJECTED + FED + BETWEEN)
    ),
    "lower precision": (Halved(), LINEAR[1], "one", 0.5),
    "rounded": (Rounded(6, 4), LINEAR[1], "weight", 1.0),
    "half rounded": (nn.Sequential(Rounded(6, 4), nn.Linear(4, 6)), LINEAR[1], "0.weight", 0.5),
    "fake-quantised": (
        nn.Sequential(FakeQuantised(4, 6, 3, stride=2, padding=1), nn.Conv2d(6, 6, 3, groups=3)),
        torch.randn(3, 4, 8, 8),
        "0.weight",
        FIRST / (FIRST + SECOND),
    ),
    "whole numbers": (WholeNumbers(), torch.randn(20, 6), None, 24 / (24 + 48)),
    "neighbours": (neighbours(), LINEAR[1], None, 1.0),
    "a neighbour": (neighbours(), LINEAR[1], "0", 0.5),
    "a table": (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 6)), WORDS, "0.weight", 0.0),
    "a table by index": (Summed(looked_up=True), torch.randn(4, 5, 8), ["added", "layer"], 0.5),
    "a sum with activations": (Summed(looked_up=False), torch.randn(4, 5, 8), ["added", "layer"], 0.5),
}  # fmt: skip


@pytest.mark.parametrize("inference", [False, True], ids=["", "inference mode"])
@pytest.mark.parametrize("name", CASES)
def test_the_share_is_the_count_by_hand(name: str, inference: bool) -> None:
    """Also in inference mode, where layers reach torch's dispatcher whole."""
    model, inputs, select, expected = CASES[name]
    model = copy.deepcopy(model).train()
    before, state = snapshot(model), torch.get_rng_state()
    batch = (*inputs, torch.zeros(3)) if isinstance(inputs, tuple) else (inputs,)
    with torch.inference_mode(inference):
        found = multiply_adds(model, [batch], select)
    assert found.share == pytest.approx(expected, rel=1e-9)
    assert equal(snapshot(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_numbers_are_those_of_the_whole_batch() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, groups=1), nn.Flatten(), nn.Linear(8 * 16, 10))
    convolved, multiplied = 5 * 16 * 8 * 27, 5 * 128 * 10  # 5 pictures, 4 x 4 places
    assert multiply_adds(model, [torch.ones(5, 3, 6, 6)], "0") == Products(convolved, convolved + multiplied)
    assert multiply_adds(model, [torch.ones(5, 3, 6, 6)]).share == 1.0
    with torch.inference_mode():
        assert multiply_adds(model, [torch.ones(5, 3, 6, 6)], "0") == Products(convolved, convolved + multiplied)


@pytest.mark.parametrize(
    "implementation",
    ["eager", "batched_mm", *["grouped_mm"] * hasattr(nn.functional, "grouped_mm")],  # of torch since 2.10
)
def test_the_experts_of_transformers_are_counted(implementation: str) -> None:
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    config = mixtral.MixtralConfig(
        hidden_size=8, intermediate_size=16, num_local_experts=3, num_experts_per_tok=2, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, vocab_size=11,
    )  # fmt: skip
    model, words = mixtral.MixtralForCausalLM(config).eval(), torch.arange(11)[None]
    model.set_experts_implementation(implementation)
    experts, linear, router = 2 * (8 * 32 + 16 * 8), 8 * 8 + 2 * 8 * 4 + 8 * 8 + 8 * 11, 8 * 3
    total = 11 * (experts + linear + router) + 2 * 11 * 11 * 8  # and words with words
    assert multiply_adds(model, [words], "*.experts") == Products(11 * experts, total)
    assert multiply_adds(model, [words], ["default", "!*.experts"]) == Products(11 * linear, total)


def test_what_cannot_be_counted_is_unknown() -> None:
    assert multiply_adds(torch.compile(LINEAR[0], backend="eager"), [LINEAR[1]]) is None
    assert multiply_adds(nn.Sequential(nn.Linear(3, 2)), [torch.ones(0, 3)]) is None
    assert multiply_adds(Graph(torch.sparse_coo), [LINEAR[1]], "kernel") is None
    padded = nn.Sequential(Padded(6, 4), nn.Linear(4, 6))
    assert multiply_adds(padded, [LINEAR[1]], ["default", "0.weight"]) is None
    assert multiply_adds(padded, [LINEAR[1]], "1") == Products(120, 5 * 32 + 120)
    ragged = torch.nested.nested_tensor([torch.ones(2, 6), torch.ones(3, 6)], layout=torch.jagged)
    for inference in (False, True):
        with torch.inference_mode(inference):
            assert multiply_adds(LINEAR[0], [ragged]) is None
    for model, batches, words in ((LINEAR[0], [], "at least one batch"), (nn.ReLU(), [LINEAR[1]], "leave a weight")):
        with pytest.raises(ValueError, match=words):
            multiply_adds(model, batches)


RAGGED = [torch.ones(2, 6), torch.ones(3, 6)]


@pytest.mark.filterwarnings("ignore")  # torch's own, of nested tensors
@pytest.mark.parametrize(
    ("model", "make", "select"),
    [
        (nn.Sequential(LINEAR[0], Branch()), lambda: LINEAR[1], None),
        (nn.Sequential(LINEAR[0], Attention()), lambda: torch.nested.nested_tensor(RAGGED, layout=torch.jagged), None),
        (LINEAR[0], lambda: torch.nested.nested_tensor(RAGGED), None),
        (Tangent(6, 4), lambda: LINEAR[1], "weight"),
    ],
    ids=["branches", "attention", "nested", "tangents"],
)
def test_a_model_that_torch_cannot_count_runs_on(model: nn.Module, make: Callable[[], Tensor], select: str) -> None:
    x = make()
    with torch.no_grad():
        before = model(x)
        assert multiply_adds(model, [x], select) is None
        assert all(map(torch.equal, model(x).unbind(), before.unbind()))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        multiply_adds(model, [torch.ones(2, 7)], select)


def test_a_model_that_torch_cannot_count_runs_on_where_it_ran_never_before() -> None:
    """In a process of its own, in which torch loads its compiler while it counts."""
    program = """
import torch
from torch import nn
from samson.noise import multiply_adds
from tests.noise.test_multiply_adds import Branch

model, x = nn.Sequential(nn.Linear(3, 2), Branch()), torch.ones(4, 3)
assert multiply_adds(model, [x]) is None
assert torch.isin(model(x), torch.stack([model[0](x).sin(), model[0](x).cos()])).all()
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_layers_without_weights_count_nothing() -> None:
    empty = [empty_linear(2, 0), empty_linear(0, 3)]
    model = nn.Sequential(*empty, nn.Linear(3, 2))
    assert multiply_adds(model, [torch.ones(4, 2)], "2") == Products(24, 24)  # 4 examples, 3 inputs, 2 outputs
    assert multiply_adds(model, [torch.ones(4, 2)]) == Products(24, 24)
    assert coverage(empty[1]).share == 0.0
