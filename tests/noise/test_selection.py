"""Which weights lie on the chip, by default and by selection."""

import pytest
import torch
from torch import nn

from samson.noise import Gaussian, Periphery, deploy, on_chip
from tests.conftest import snapshot


class Everything(nn.Module):
    """A layer of each kind; the names are in alphabetical order."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, bias=True, add_bias_kv=True)
        self.bag = nn.EmbeddingBag(5, 3)
        self.bilinear = nn.Bilinear(2, 3, 4)
        self.cell = nn.GRUCell(2, 3)
        self.conv = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ConvTranspose3d(4, 2, 1))
        self.embed = nn.Embedding(5, 3)
        self.norm = nn.LayerNorm(3)
        self.own = nn.Parameter(torch.ones(2, 2))
        self.recurrent = nn.LSTM(2, 3, bidirectional=True)


RECURRENT = [f"recurrent.weight_{kind}_l0{way}" for way in ("", "_reverse") for kind in ("ih", "hh")]
PACKED = [f"attend.in_proj_weight.{part}" for part in "qkv"]
DEFAULT = {
    *PACKED, "attend.out_proj.weight", "bilinear.weight", "cell.weight_ih", "cell.weight_hh", "conv.0.weight",
    "conv.2.weight", *RECURRENT,
}  # fmt: skip


def names(model: nn.Module, select: object = None) -> set[str]:
    return {t.name for t in on_chip(model, select)}


def test_the_default_selection_and_nothing_else_is_noisy() -> None:
    model = Everything()
    assert names(model) == DEFAULT
    before = snapshot(model)
    with deploy(model, Gaussian(0.2)).at():
        changed = {name for name, value in snapshot(model).items() if not torch.equal(value, before[name])}
    assert changed == {name.removesuffix(".q") for name in DEFAULT} - set(PACKED)


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        (nn.Conv1d, {"conv.0.weight"}),
        ((nn.Bilinear, nn.RNNBase), {"bilinear.weight", *RECURRENT}),
        (nn.MultiheadAttention, {*PACKED, "attend.out_proj.weight"}),
        (nn.Linear, {"attend.out_proj.weight"}),
        ([nn.Embedding, "bag"], {"embed.weight", "bag.weight"}),
        ("conv.*", {"conv.0.weight", "conv.2.weight"}),
        ("recurrent.weight_hh_*", {RECURRENT[1], RECURRENT[3]}),
        ("*.q", {PACKED[0]}),
        ("!recurrent", DEFAULT - set(RECURRENT)),
        (["!attend*", "!conv.?", "!*_ih*"], {"bilinear.weight", "cell.weight_hh", RECURRENT[1], RECURRENT[3]}),
        (["conv.*", "!conv.2"], {"conv.0.weight"}),
        (["!*.k", nn.MultiheadAttention], {PACKED[0], PACKED[2], "attend.out_proj.weight"}),
        (["default", nn.Embedding, "!cell"], (DEFAULT | {"embed.weight"}) - {"cell.weight_ih", "cell.weight_hh"}),
        (lambda name, layer: name == "cell", {"cell.weight_ih", "cell.weight_hh"}),
    ],
)
def test_selections(select: object, expected: set[str]) -> None:
    model = Everything()
    assert names(model, select) == expected
    wrapped = torch.compile(nn.DataParallel(model), backend="eager")
    assert names(wrapped, select) == expected


def test_part_of_packed_projections() -> None:
    """Queries are noisy; keys and values in the same parameter are bitwise clean."""
    layer = nn.MultiheadAttention(4, 2)
    before = layer.in_proj_weight.detach().clone()
    with deploy(layer, Gaussian(0.2), select="in_proj_weight.q").at():
        assert (layer.in_proj_weight[:4] != before[:4]).all()
        assert torch.equal(layer.in_proj_weight[4:], before[4:])
    assert torch.equal(layer.in_proj_weight, before)


def test_one_of_two_tied_layers() -> None:
    model = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    model[1].weight = model[0].weight
    before = model[0].weight.detach().clone()
    with deploy(model, Gaussian(0.2), select="1").at():
        assert torch.equal(model[0].weight, before)
        assert (model[1].weight != before).all()
    assert model[1].weight is model[0].weight


def test_an_embedding_that_is_asked_for_has_its_outputs_as_channels() -> None:
    layer = nn.Embedding(6, 3)
    with torch.no_grad():
        layer.weight[:, 0] = 0.0
    with deploy(layer, Gaussian(0.5, per="channel"), select=nn.Embedding).at():
        assert (layer.weight[:, 0] == 0).all()
        assert (layer.weight[:, 1:] != 0).all()


def test_a_selection_that_touches_nothing_is_an_error() -> None:
    model = Everything()
    for select in (nn.BatchNorm1d, "norm", "nothing*", lambda name, layer: False, ()):
        with pytest.raises(ValueError, match=r"`select` must leave a weight.*15 weights to choose from: `attend"):
            deploy(model, Gaussian(0.1), select=select)
    with pytest.raises(ValueError, match="ReLU has none"):
        on_chip(nn.ReLU())
    with pytest.raises(TypeError, match="`select` must be a type, a pattern, a list of these or a function, got 3"):
        on_chip(model, 3)


def test_a_bare_layer_and_a_wrapped_one_have_the_same_name() -> None:
    layer = nn.Linear(2, 2)
    assert names(layer) == names(nn.DataParallel(layer)) == {"weight"}


def test_layers_that_are_called_like_a_wrapper_keep_names_of_their_own() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "module": nn.ModuleDict({"a": nn.Linear(2, 2)})})
    assert names(model) == {"a.weight", "module.a.weight"}


class Own(nn.Module):
    """A layer of a type of one's own, with its outputs along the first axis."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.T * self.scale


def test_a_layer_of_ones_own_type_goes_on_the_chip_where_it_is_named() -> None:
    model = nn.Sequential(Own(), nn.Linear(3, 2))
    assert [t.name for t in on_chip(model)] == ["1.weight"]
    assert [t.name for t in on_chip(model, "*")] == ["1.weight"]  # a pattern that may mean anything
    for select in (Own, "0.weight", ["0.weight"]):
        assert [t.name for t in on_chip(model, select)] == ["0.weight"]
    assert [t.name for t in on_chip(model, [Own, nn.Linear])] == ["0.weight", "1.weight"]
    assert [t.name for t in on_chip(model, "?.weight")] == ["0.weight", "1.weight"]  # a pattern with its own name
    assert [t.name for t in on_chip(model, ["?.weight", "!0*"])] == ["1.weight"]
    assert [t.name for t in on_chip(model, ["default", "0.weight"])] == ["0.weight", "1.weight"]
    x, before = torch.randn(5, 4), model[0].weight.clone()
    with deploy(model, Gaussian(0.5), select="0.weight").at():
        assert not torch.equal(model[0].weight, before)
        assert torch.equal(model[0](x), x @ model[0].weight.T)
    assert torch.equal(model[0].weight, before)


class Odd(nn.Module):
    """A layer of an unknown type with a parameter that has one axis, and one that has two."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.scale = nn.Parameter(torch.randn(3, 3)), nn.Parameter(torch.ones(3))


class Encoder(nn.Module):
    """A layer that holds both: a matrix of a known layer, and a table that stays digital."""

    def __init__(self) -> None:
        super().__init__()
        self.positions, self.linear = nn.Parameter(torch.randn(1, 3)), nn.Linear(3, 3)


@pytest.mark.parametrize("select", ["kernel", "*kernel", "*.kernel", "k*", ["default", "*.kernel"], Odd])
def test_a_model_that_is_an_unknown_layer(select: object) -> None:
    assert names(Odd(), select) == {"kernel"}
    for nothing in (None, "*", "?*", ["default", "*"]):
        with pytest.raises(ValueError, match=r'no layer of a known type, but `kernel`. Name it: select="kernel".') as e:
            on_chip(Odd(), nothing)
        assert "None" not in str(e.value)


class Pairs(nn.Module):
    """Biases with two axes, before the weights by name."""

    def __init__(self) -> None:
        super().__init__()
        self.a_bias, self.a_weight = nn.Parameter(torch.randn(1, 3)), nn.Parameter(torch.randn(3, 3))


def test_what_is_proposed_is_no_bias_where_there_are_weights() -> None:
    with pytest.raises(ValueError, match=r'but `a_weight`. Name it: select="a_weight".'):
        on_chip(Pairs())
    biases = Pairs()
    del biases.a_weight
    with pytest.raises(ValueError, match=r'but `a_bias`. Name it: select="a_bias".'):
        on_chip(biases)


def test_patterns_reach_unknown_layers_where_they_mean_no_known_one() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Odd(), nn.BatchNorm1d(3), Encoder())
    known = {"0.weight", "3.linear.weight"}
    for select in ("1", "1.*", "*kernel", "*.kern*", "*1.k*", Odd):
        assert names(model, select) == {"1.kernel"}
    assert names(model) == names(model, "*") == names(model, "*.*") == known
    assert names(model, ["*", "*.kernel"]) == known | {"1.kernel"}
    assert names(model, "3*") == {"3.linear.weight"}  # about a known layer, and nothing beside it
    assert names(model, "*.positions") == {"3.positions"}
    for digital in ("2", "2.*", "*.bias", "1.scale"):
        with pytest.raises(ValueError, match="`select` must leave a weight"):
            on_chip(model, digital)


def test_every_entry_of_a_list_must_select_something() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"'1.wieght' meets none. Did you mean '1.weight'"):
        on_chip(model, ["0", "1.wieght"])
    with pytest.raises(ValueError, match="Conv1d'> meets none"):
        on_chip(model, [nn.Linear, nn.Conv1d])
    for select in ("!head*", ["0", "!head*"]):
        with pytest.raises(ValueError, match=r"'!head\*' meets none"):
            on_chip(model, select)


def test_the_linear_layers_of_gpt2_are_known() -> None:
    utils = pytest.importorskip("transformers.pytorch_utils")
    layer = utils.Conv1D(nf=5, nx=3)  # stores (in, out)
    [found] = on_chip(nn.Sequential(layer))
    assert found.output_first(found.weight).shape == (5, 3)
    assert torch.equal(found.output_first(found.weight), layer.weight.T)


class Linear(nn.Module):
    """As that of PyTorch Geometric, which is no `nn.Linear`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(outputs, inputs)), nn.Parameter(torch.randn(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


def test_the_linear_layer_of_pytorch_geometric_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = Linear(3, 5), torch.randn(7, 3)
    with pytest.raises(ValueError, match="has no layer of a known type"):
        on_chip(nn.Sequential(layer))
    monkeypatch.setattr(Linear, "__module__", "torch_geometric.nn.dense.linear")
    [found] = on_chip(nn.Sequential(layer))
    assert torch.equal(found.output_first(found.weight), layer.weight)
    twin = nn.Linear(3, 5)
    twin.load_state_dict(layer.state_dict())
    outputs = []
    for one in (layer, twin):
        model = nn.Sequential(one)
        with deploy(model, Gaussian(0.1), periphery=Periphery(dac_steps=8)).at():
            outputs.append(model(x))
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], layer(x))


def test_parts_have_the_names_that_they_have_behind_a_periphery() -> None:
    model = nn.ModuleDict({"rnn": nn.LSTM(3, 4), "attention": nn.MultiheadAttention(4, 2, kdim=3)})
    names = [t.name for t in on_chip(model, ["default", "!rnn.hh_l0", "!attention.k"])]
    assert names == [
        "rnn.weight_ih_l0", "attention.q_proj_weight", "attention.v_proj_weight", "attention.out_proj.weight"
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"'!rnn.hh_l1' meets none. Did you mean 'rnn.weight_"):
        on_chip(model, ["default", "!rnn.hh_l1"])


def test_a_name_with_brackets_is_that_name() -> None:
    model = nn.ModuleDict({"a[0]": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    assert names(model, "a[0]") == names(model, "a[0].weight") == {"a[0].weight"}
    assert names(model, ["default", "!a[0]"]) == {"b.weight"}
