"""The chip's weight is the one that each kind of layer computes with: outputs against forwards written by hand.

Each check is made twice: the output agrees with the noisy weight, and it does not with the clean one, so a lost write
fails.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations, parametrize, prune

from samson.noise import Gaussian, deploy, generator_for, on_chip
from tests.conftest import equal, snapshot

NOISE, SEED = Gaussian(0.3), 5


def drawn(name: str, weight: Tensor, output_first: Callable[[Tensor], Tensor] = lambda w: w) -> Tensor:
    """The chip's weight, from the noise's own function and the documented key."""
    return NOISE(output_first(weight.detach()), generator_for(SEED, 0, "program", name))


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {t.name: t.weight.clone() for t in on_chip(model)}


def check(
    model: nn.Module,
    forward: Callable[[dict[str, Tensor]], Tensor],
    run: Callable[[], Tensor],
    noisy: dict[str, Tensor] | None = None,
) -> None:
    """`forward` computes the output by hand from the weights on the chip, `run` runs the model."""
    clean = weights(model)
    noisy = noisy or {name: drawn(name, w) for name, w in clean.items()}
    before, objects = snapshot(model), list(model.state_dict(keep_vars=True).items())
    torch.testing.assert_close(run(), forward(clean))
    chip = deploy(model, NOISE, seed=SEED)
    for _ in range(2):
        with chip.at():
            inside = run()
        torch.testing.assert_close(inside, forward(noisy))
        for name in clean:  # each write alone would be missed
            lost = forward(noisy | {name: clean[name]})
            assert (lost - inside).abs().max() > 1e-3, name
        torch.testing.assert_close(run(), forward(clean))
    assert equal(snapshot(model), before)
    with pytest.raises(ZeroDivisionError), chip.at():
        raise ZeroDivisionError
    assert equal(snapshot(model), before)
    after = list(model.state_dict(keep_vars=True).items())
    assert [(name, id(value)) for name, value in after] == [(name, id(value)) for name, value in objects]


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def in_out(groups: int) -> Callable[[Tensor], Tensor]:
    """Transposed convolutions' weight with the output channels first, written with loops."""

    def swap(w: Tensor) -> Tensor:
        blocks = [torch.stack([block[:, o] for o in range(w.shape[1])]) for block in w.chunk(groups)]
        return torch.cat(blocks)

    return swap


@pytest.mark.parametrize(
    ("layer", "x", "function"),
    [
        (nn.Linear(3, 4), (2, 3), F.linear),
        (nn.Conv1d(4, 6, 3, groups=2), (2, 4, 7), lambda x, w, b: F.conv1d(x, w, b, groups=2)),
        (nn.Conv2d(4, 4, 3, groups=4), (2, 4, 5, 5), lambda x, w, b: F.conv2d(x, w, b, groups=4)),
        (nn.Conv3d(2, 3, 2), (1, 2, 3, 3, 3), F.conv3d),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_linear_and_convolution(layer: nn.Module, x: tuple[int, ...], function: Callable[..., Tensor]) -> None:
    data = inputs(*x)
    model = nn.Sequential(layer)
    check(model, lambda w: function(data, w["0.weight"], layer.bias), lambda: model(data))


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution(groups: int) -> None:
    layer, data = nn.ConvTranspose2d(4, 6, 3, groups=groups), inputs(2, 4, 5, 5)
    swapped = drawn("weight", layer.weight, in_out(groups))
    back = torch.cat([torch.stack([b[:, i] for i in range(4 // groups)]) for b in swapped.chunk(groups)])
    check(
        layer,
        lambda w: F.conv_transpose2d(data, w["weight"], layer.bias, groups=groups),
        lambda: layer(data),
        {"weight": back},
    )


def test_bilinear() -> None:
    layer, a, b = nn.Bilinear(3, 4, 2), inputs(5, 3), inputs(5, 4)
    check(layer, lambda w: torch.einsum("ni,oij,nj->no", a, w["weight"], b) + layer.bias, lambda: layer(a, b))


def attention(layer: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor, w: dict[str, Tensor], at: str) -> Tensor:
    """Multi-head attention by its textbook formula, one head after another."""
    packed = layer._qkv_same_embed_dim
    names = [f"{at}in_proj_weight.{p}" if packed else f"{at}{p}_proj_weight" for p in "qkv"]
    biases = layer.in_proj_bias.chunk(3)
    q, k, v = (x @ w[name].T + bias for x, name, bias in zip((q, k, v), names, biases, strict=True))
    heads = []
    for a, b, c in zip(*(x.chunk(layer.num_heads, -1) for x in (q, k, v)), strict=True):
        heads.append((a @ b.transpose(-1, -2) / a.shape[-1] ** 0.5).softmax(-1) @ c)
    return torch.cat(heads, -1) @ w[f"{at}out_proj.weight"].T + layer.out_proj.bias


@pytest.mark.parametrize("sizes", [{}, {"kdim": 6, "vdim": 10}], ids=["packed", "separate"])
@pytest.mark.parametrize("training", [True, False])
def test_attention(sizes: dict[str, int], training: bool) -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True, **sizes).train(training)
    q, k, v = inputs(2, 5, 8), inputs(2, 5, sizes.get("kdim", 8)), inputs(2, 5, sizes.get("vdim", 8))
    assert len(on_chip(layer)) == 4
    with torch.no_grad():
        check(layer, lambda w: attention(layer, q, k, v, w, ""), lambda: layer(q, k, v)[0])


def test_the_fused_path_of_a_transformer_layer() -> None:
    """In evaluation mode without gradients torch calls no submodule: hooks would be passed by."""
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), inputs(2, 5, 8)
    calls: list[int] = []
    with torch.no_grad():
        layer.norm1.weight.uniform_(0.5, 1.5)
    original = layer.linear1.forward
    layer.linear1.forward = lambda data: calls.append(1) or original(data)

    def run() -> Tensor:
        calls.clear()  # what the look at the replaced forward left
        output = layer(x)
        assert not calls
        return output

    def forward(w: dict[str, Tensor]) -> Tensor:
        y = F.layer_norm(x + attention(layer.self_attn, x, x, x, w, "self_attn."), (8,), *layer.norm1.parameters())
        hidden = F.relu(y @ w["linear1.weight"].T + layer.linear1.bias)
        return F.layer_norm(y + hidden @ w["linear2.weight"].T + layer.linear2.bias, (8,), *layer.norm2.parameters())

    with torch.no_grad():
        check(layer, forward, run)


def test_pruned_projections_of_the_fused_path() -> None:
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), inputs(2, 5, 8)
    prune.l1_unstructured(layer.self_attn.out_proj, "weight", 0.5)
    with torch.no_grad():
        attend = layer.self_attn
        check(attend, lambda w: attention(attend, x, x, x, w, ""), lambda: attend(x, x, x)[0])


def lstm(w: dict[str, Tensor], layer: nn.LSTM, x: Tensor) -> Tensor:
    h, c, steps = x.new_zeros(x.shape[1], layer.hidden_size), x.new_zeros(x.shape[1], layer.hidden_size), []
    for step in x:
        gates = step @ w["weight_ih_l0"].T + layer.bias_ih_l0 + h @ w["weight_hh_l0"].T + layer.bias_hh_l0
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        steps.append(h)
    return torch.stack(steps)


@pytest.mark.parametrize("change", ["plain", "flattened", "pruned", "parametrised", "tied"])
def test_recurrent_layers(change: str) -> None:
    model, x = nn.LSTM(3, 4), inputs(6, 2, 3)
    if change == "flattened":
        model.flatten_parameters()
        assert all(a is getattr(model, n) for a, n in zip(model._flat_weights, model._flat_weights_names, strict=True))
    if change == "pruned":
        prune.random_unstructured(model, "weight_hh_l0", 0.3)
    if change == "parametrised":
        parametrize.register_parametrization(model, "weight_hh_l0", Doubled())
    if change == "tied":
        holder = nn.Module()
        holder.digital = model.weight_hh_l0
        model = nn.ModuleList([model, holder])
    inner = model[0] if change == "tied" else model
    prefix = "0." if change == "tied" else ""

    def forward(w: dict[str, Tensor]) -> Tensor:
        return lstm({name.removeprefix(prefix): value for name, value in w.items()}, inner, x)

    assert [t.name for t in on_chip(model)] == [f"{prefix}weight_ih_l0", f"{prefix}weight_hh_l0"]
    check(model, forward, lambda: inner(x)[0])


def test_recurrent_cells_and_projections() -> None:
    cell, x = nn.RNNCell(3, 4), inputs(2, 3)
    h = inputs(2, 4)
    check(
        cell,
        lambda w: (x @ w["weight_ih"].T + cell.bias_ih + h @ w["weight_hh"].T + cell.bias_hh).tanh(),
        lambda: cell(x, h),
    )
    names = [t.name for t in on_chip(nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2))]
    assert len(names) == len(set(names)) == 12
    assert "weight_hr_l1_reverse" in names


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / 2


def make(kind: str) -> tuple[nn.Sequential, int]:
    """A model with a layer of a kind at the given index, fed with three numbers or words."""
    torch.manual_seed(0)
    linear = nn.Linear(3, 3)
    if kind == "parametrised":
        parametrizations.weight_norm(linear)
    elif kind == "parametrised twice":
        parametrize.register_parametrization(parametrizations.orthogonal(linear), "weight", Doubled())
    elif kind == "spectral":
        parametrizations.spectral_norm(linear)
    elif kind == "pruned":
        prune.l1_unstructured(linear, "weight", 0.5)
    elif kind == "pruned twice":
        prune.random_unstructured(prune.l1_unstructured(linear, "weight", 0.3), "weight", 0.3)
    return nn.Sequential(nn.Tanh(), nn.Sequential(linear)), 1


KINDS = ["plain", "parametrised", "parametrised twice", "spectral", "pruned", "pruned twice"]


@pytest.mark.parametrize("kind", KINDS)
def test_computed_weights_of_children(kind: str) -> None:
    model, _ = make(kind)
    model.eval()
    x, bias = inputs(4, 3), model[1][0].bias
    check(model, lambda w: F.linear(x.tanh(), w["1.0.weight"], bias), lambda: model(x))


def test_a_spectral_norm_in_training_keeps_its_state() -> None:
    model, _ = make("spectral")
    before = snapshot(model)
    chip = deploy(model, NOISE, seed=SEED)
    assert model[1][0].parametrizations.weight[0].training
    assert equal(snapshot(model), before)
    with chip.at():
        w = drawn("1.0.weight", on_chip(model.eval())[0].place.weight)  # the last step: the chip's weight itself
        assert w.shape == (3, 3)
    assert equal(snapshot(model), before)


def test_a_parametrisation_in_another_mode_than_the_one_after_it_keeps_its_mode() -> None:
    layer = parametrizations.spectral_norm(nn.Linear(3, 3))
    parametrize.register_parametrization(layer, "weight", nn.Identity())
    steps = layer.parametrizations.weight
    steps[0].eval()
    deploy(layer, NOISE, seed=SEED).read()
    assert [step.training for step in steps] == [False, True]


def test_a_chip_inside_cached_parametrisations_is_an_error() -> None:
    model, x = make("parametrised")[0], inputs(4, 3)
    chip = deploy(model, NOISE, seed=SEED)
    with parametrize.cached(), pytest.raises(RuntimeError, match="Enter `cached\\(\\)` inside the chip's block"):
        chip.at().__enter__()
    assert chip.readings == 0  # one that was refused is none
    with chip.at():
        plain = model(x)
        with parametrize.cached():
            assert torch.equal(model(x), plain)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("plain", lambda layer: prune.l1_unstructured(layer, "weight", 0.5)),
        ("plain", parametrizations.weight_norm),
        ("tied", parametrizations.weight_norm),
        ("pruned", lambda layer: prune.remove(layer, "weight")),
        ("parametrised", lambda layer: parametrize.remove_parametrizations(layer, "weight")),
    ],
)
def test_a_weight_that_is_of_another_kind_since_is_named(kind: str, change: Callable[[nn.Module], object]) -> None:
    model = tied_model() if kind == "tied" else make(kind)[0]
    chip = deploy(model, NOISE)
    change(model[2] if kind == "tied" else model[1][0])
    before = snapshot(model)
    words = "`weight` of this Linear was pruned, parametrised or made plain after `deploy`. Deploy the model as it is"
    with pytest.raises(RuntimeError, match=words), chip.at():
        pass
    assert equal(snapshot(model), before)
    assert chip.readings == 0
    with deploy(model, NOISE).at():
        pass


def tied_model() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 3), nn.Tanh(), nn.Linear(3, 7))
    model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize("by", ["object", "memory"])
def test_a_head_tied_to_a_digital_embedding(by: str) -> None:
    model, words = tied_model(), torch.arange(7)
    if by == "memory":
        model[2].weight = nn.Parameter(model[0].weight.data)
    embedding = model[0].weight.detach().clone()

    def forward(w: dict[str, Tensor]) -> Tensor:
        return F.linear(embedding[words].tanh(), w["2.weight"], model[2].bias)

    check(model, forward, lambda: model(words))
    with deploy(model, NOISE, seed=SEED).at():
        assert torch.equal(model[0].weight, embedding)
    leaked = F.linear(drawn("2.weight", embedding)[words].tanh(), drawn("2.weight", embedding), model[2].bias)
    assert (leaked - forward({"2.weight": drawn("2.weight", embedding)})).abs().max() > 1e-3


def test_two_heads_tied_to_an_embedding_have_one_draw() -> None:
    model = nn.ModuleList([nn.Embedding(7, 3), nn.Linear(3, 7, bias=False), nn.Linear(3, 7, bias=False)])
    model[1].weight = model[2].weight = model[0].weight
    x = inputs(2, 3)
    assert [t.name for t in on_chip(model)] == ["1.weight"]
    check(model, lambda w: torch.cat([x @ w["1.weight"].T] * 2), lambda: torch.cat([model[1](x), model[2](x)]))


def test_memory_that_other_layers_use_a_part_of_is_found() -> None:
    """Also by a part that the memory's first part does not reach, and where there is one element alone."""
    model = nn.Sequential(*(nn.Linear(3, size, bias=False) for size in (9, 2, 2)))
    for layer, rows in ((model[1], slice(1, 3)), (model[2], slice(5, 7))):
        layer.weight = nn.Parameter(model[0].weight.data[rows])
    for select in ("1", "2"):
        with pytest.raises(ValueError, match="share memory in different layouts"):
            on_chip(model, select)
    one = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    one[1].weight = nn.Parameter(one[0].weight.data)
    assert [t.name for t in on_chip(one)] == ["0.weight"]


def test_tied_linear_layers_are_both_noisy() -> None:
    model, x = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)), inputs(4, 3)
    model[2].weight = model[0].weight

    def forward(w: dict[str, Tensor]) -> Tensor:
        hidden = F.relu(F.linear(x, w["0.weight"], model[0].bias))
        return F.linear(hidden, w["0.weight"], model[2].bias)

    check(model, forward, lambda: model(x))


@pytest.mark.parametrize("kind", ["plain", "parametrised twice", "spectral", "pruned twice", "tied"])
def test_compiled_models(kind: str) -> None:
    """Compiled before the chip; the chip costs at most one compilation more, however often it is entered."""
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Tensor]:
        graphs.append(1)
        return graph.forward

    torch._dynamo.reset()
    model = tied_model() if kind == "tied" else make(kind)[0].eval()
    compiled = torch.compile(model, backend=backend)
    head = model[2] if kind == "tied" else model[1][0]
    x = torch.arange(7) if kind == "tied" else inputs(4, 3)
    name = "2.weight" if kind == "tied" else "1.0.weight"
    embedding = snapshot(model)["0.weight"] if kind == "tied" else None

    def forward(w: dict[str, Tensor]) -> Tensor:
        hidden = x if embedding is None else embedding[x]
        return F.linear(hidden.tanh(), w[name], head.bias)

    with torch.no_grad():
        compiled(x)
        first = len(graphs)
        assert first
        check(compiled, forward, lambda: compiled(x))
        clean = weights(compiled)[name]
        for trial in range(12):
            with deploy(compiled, NOISE, trial=trial).at():
                inside = compiled(x)
            noisy = NOISE(clean, generator_for(0, trial, "program", name))
            torch.testing.assert_close(inside, forward({name: noisy}))
    assert len(graphs) <= first + (kind not in {"plain", "pruned twice"})


@pytest.fixture
def process_group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", KINDS)
def test_distributed_data_parallel(kind: str, process_group: None) -> None:
    model, _ = make(kind)
    model.eval()
    x, bias = inputs(4, 3), model[1][0].bias
    wrapped = nn.parallel.DistributedDataParallel(model)
    check(wrapped, lambda w: F.linear(x.tanh(), w["1.0.weight"], bias), lambda: wrapped(x))


@pytest.mark.parametrize("kind", ["plain", "parametrised", "spectral", "pruned", "tied"])
def test_the_checks_notice_a_lost_write(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [tensor] = on_chip(tied_model() if kind == "tied" else make(kind)[0])
    monkeypatch.setattr(type(tensor.place), "holding", lambda self, value: nullcontext())
    if kind == "plain":
        with pytest.raises(AssertionError, match="not close"):
            test_compiled_models(kind)
    with pytest.raises(AssertionError, match="not close"):
        test_a_head_tied_to_a_digital_embedding("object") if kind == "tied" else test_computed_weights_of_children(kind)


def test_a_copy_of_a_model_has_its_own_chip() -> None:
    model, x = make("plain")[0], inputs(4, 3)
    other = copy.deepcopy(model)
    with deploy(model, NOISE).at(), deploy(other, NOISE).at():
        assert torch.equal(model(x), other(x))


@pytest.mark.parametrize("kind", ["stored", "pruned", "tied"])
@pytest.mark.parametrize("change", [nn.Module.double, lambda m: m.to(memory_format=torch.channels_last)])
def test_the_weights_come_back_where_the_block_moved_the_model(
    kind: str, change: Callable[[nn.Module], nn.Module]
) -> None:
    def make() -> nn.Module:
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4, 3))
        if kind == "pruned":
            prune.l1_unstructured(model[2], "weight", 0.5)
        if kind == "tied":
            model.append(nn.Embedding(3, 4))
            model[3].weight = model[2].weight
        return model

    model, expected = make(), change(make()).state_dict()
    with deploy(model, NOISE, select=["0", "2"]).at():
        change(model)
        assert not torch.equal(model.state_dict()["0.weight"], expected["0.weight"])
    found = model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert all(found[name].dtype == tensor.dtype for name, tensor in expected.items())
