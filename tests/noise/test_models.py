"""Models and weights that no chip can hold are refused in a sentence, and weights within other memory do not leak."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from samson.noise import Gaussian, Periphery, calibrate, calibrate_adc, deploy, on_chip, reestimated_norms
from tests.conftest import equal, snapshot


def linear() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def quietly(make: Callable[[], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's: these ways will go
        return make()


def scripted() -> nn.Module:
    return torch.jit.script(linear())


def partly_scripted() -> nn.Module:
    model = linear()
    model[2] = torch.jit.script(model[2])
    return model


def quantised(*names: str) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(linear(), set(names) or {nn.Linear})


def exported() -> nn.Module:
    return torch.export.export(linear(), (torch.ones(1, 3),)).module()


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "scripted": (scripted, "the model, a RecursiveScriptModule, is scripted"),
    "partly scripted": (partly_scripted, "`2`, a RecursiveScriptModule, is scripted"),
    "quantised": (quantised, "`0`, a Linear, is quantised by torch"),
    "partly quantised": (lambda: quantised("2"), "`2`, a Linear, is quantised by torch"),
    "exported": (exported, "the model, a .*, is exported"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_whose_layers_noise_does_not_reach_are_refused(name: str) -> None:
    make, words = MODELS[name]
    with pytest.raises(ValueError, match=f"`model` must have layers that noise reaches, but {words}. Put the chip on"):
        deploy(quietly(make), Gaussian(0.1))
    if "partly" in name:
        assert [t.name for t in on_chip(quietly(make), "0")] == ["0.weight"]


def test_the_weights_of_an_exported_model_are_named_in_its_layers() -> None:
    model, x = linear(), torch.ones(1, 3)
    layers = quietly(lambda: torch.export.unflatten(torch.export.export(model, (x,))))
    outputs = []
    for one, select in ((model, None), (layers, ["0.weight", "2.weight"])):
        with deploy(one, Gaussian(0.1), select=select).at():
            outputs.append(one(x))
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], model(x))


@pytest.mark.parametrize("model", [linear, torch.ones(2), "resnet", torch.export.export(linear(), (torch.ones(1, 3),))])
def test_what_is_no_module_is_refused(model: object) -> None:
    with pytest.raises(TypeError, match=f"`model` must be an nn.Module, got {type(model).__name__}"):
        deploy(model, Gaussian(0.1))


class Packed(Tensor):
    """A weight that is no plain tensor, as quantising libraries have them."""


def with_weight(weight: Tensor) -> nn.Module:
    model = linear()
    model[0].weight = nn.Parameter(weight, requires_grad=False)
    return model


def buffered() -> nn.Module:
    model = linear()
    weight = model[0].weight.detach()
    del model[0].weight
    model[0].register_buffer("weight", weight)
    return model


WEIGHTS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "subclass": (lambda: with_weight(torch.ones(4, 3).as_subclass(Packed)), "got Packed of torch.float32"),
    "whole numbers": (lambda: with_weight(torch.ones(4, 3, dtype=torch.int8)), "got Tensor of torch.int8"),
    "complex": (lambda: nn.Sequential(nn.Linear(3, 4, dtype=torch.complex64)), "got Tensor of torch.complex64"),
    "8 bits": (lambda: with_weight(torch.ones(4, 3).to(torch.float8_e4m3fn)), "got Tensor of torch.float8_e4m3fn"),
    "expanded": (lambda: with_weight(torch.ones(4, 1).expand(4, 3)), "is expanded from fewer or sparse"),
    "sparse": (lambda: with_weight(torch.ones(4, 3).to_sparse()), "is expanded from fewer or sparse"),
    "sparse rows": (
        lambda: quietly(lambda: with_weight(torch.ones(4, 3).to_sparse_csr())), "is expanded from fewer or sparse"
    ),
    "meta": (lambda: nn.Sequential(nn.Linear(3, 4, device="meta")), "must have values, but is on the meta device"),
    "buffer": (buffered, "must be a parameter, but is a buffer"),
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_no_chip_holds_are_refused(name: str) -> None:
    make, words = WEIGHTS[name]
    with pytest.raises(ValueError, match=f"`weight` of layer `0` .*{words}"):
        deploy(make(), Gaussian(0.1))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8])
def test_a_noise_refuses_numbers_that_it_would_halve_or_cut(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="`weight` must hold real floating-point numbers, got torch"):
        Gaussian(0.1)(torch.ones(2, 3, dtype=dtype), torch.Generator())


def test_an_offloaded_model_is_refused() -> None:
    accelerate = pytest.importorskip("accelerate")
    model = accelerate.cpu_offload(linear(), torch.device("cpu"))
    with pytest.raises(
        ValueError, match="`weight` of layer `0` must have values, but is on the meta device: offloaded"
    ):
        deploy(model, Gaussian(0.1))


class Sliced(nn.Module):
    """A head whose weight is a part of the embedding's memory."""

    def __init__(self, start: int, buffer: bool = False) -> None:
        super().__init__()
        table = torch.randn(9, 3)
        if buffer:
            self.register_buffer("table", table)
        else:
            self.embed = nn.Embedding.from_pretrained(table, freeze=False)
        self.head = nn.Linear(3, 4)
        self.head.weight = nn.Parameter(table[start : start + 4])


@pytest.mark.parametrize("model", [Sliced(0), Sliced(2), Sliced(5), Sliced(2, buffer=True)])
def test_a_head_within_other_memory_is_refused(model: nn.Module) -> None:
    names = "(`embed.weight`, `head.weight`|`.table`, `head.weight`)"
    with pytest.raises(ValueError, match=f"{names} share memory in different layouts"):
        deploy(model, Gaussian(0.1))


def test_neighbours_in_one_memory_are_two_weights() -> None:
    memory, model = torch.randn(8, 3), linear()
    model[0].weight, model[2].weight = nn.Parameter(memory[:4]), nn.Parameter(memory[4:].T[:2])
    before = snapshot(model)
    with deploy(model, Gaussian(0.1), select="0").at():
        assert torch.equal(model[2].weight, before["2.weight"])
        assert not torch.equal(model[0].weight, before["0.weight"])
    assert equal(snapshot(model), before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_batch_that_is_not_finite_calibrates_nothing(bad: float) -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), torch.randn(6, 3)
    broken = x.clone()
    broken[2, 1] = bad
    before = snapshot(model)
    for measure in (calibrate, lambda model, data, **how: calibrate_adc(model, data, Periphery(), **how)):
        for quantile in (1.0, 0.5):
            with pytest.raises(ValueError, match="`batches` must give every layer finite numbers, but `0` had"):
                measure(model, [x, broken], quantile=quantile)
    with pytest.raises(ValueError, match="but `1` had NaN or inf"), reestimated_norms(model, [x, broken]):
        pass
    assert equal(snapshot(model), before)


class Experts(nn.Module):
    """Packed experts, (expert, out, in), or (expert, in, out) where `is_transposed`."""

    def __init__(self, count: int, size: int, out: int, is_transposed: bool = False) -> None:
        super().__init__()
        self.num_experts, self.is_transposed = count, is_transposed
        shape = (count, size, out) if is_transposed else (count, out, size)
        self.proj = nn.Parameter(torch.randn(shape))
        self.proj_bias = nn.Parameter(torch.randn(count, out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x @ (w if self.is_transposed else w.T) for w in self.proj]).sum(0)


@pytest.mark.parametrize("is_transposed", [False, True])
def test_each_expert_is_a_matrix_of_its_own(is_transposed: bool) -> None:
    model = nn.Sequential(Experts(3, 5, 4, is_transposed), nn.Linear(4, 2))
    tensors = on_chip(model)
    assert [t.name for t in tensors] == ["0.proj.0", "0.proj.1", "0.proj.2", "1.weight"]
    assert [tuple(t.output_first(t.weight).shape) for t in tensors] == [(4, 5)] * 3 + [(2, 4)]
    with torch.no_grad():
        model[0].proj[1] *= 100  # its errors are large, those of the others not
        model[0].proj[2] = 0.0
    before = snapshot(model)
    with deploy(model, Gaussian(0.1)).at():
        errors = [(noisy - clean).detach().std() for noisy, clean in zip(model[0].proj, before["0.proj"], strict=True)]
        largest = [clean.abs().max() for clean in before["0.proj"]]
        assert errors[0] / largest[0] == pytest.approx(0.1, rel=0.5)
        assert errors[1] / largest[1] == pytest.approx(0.1, rel=0.5)
        assert errors[0] / largest[1] != pytest.approx(0.1, rel=0.5)  # the check can fail: one scale for all
        assert errors[2] == 0
        x = torch.randn(2, 5)
        weights = model[0].proj if is_transposed else model[0].proj.mT
        torch.testing.assert_close(model[0](x), sum(x @ w for w in weights))
    assert equal(snapshot(model), before)
    assert [t.name for t in on_chip(model, "0.proj.1")] == ["0.proj.1"]
    with deploy(model, Gaussian(0.1), select="*.proj.1").at():
        assert torch.equal(model[0].proj[0], before["0.proj"][0])


def test_a_packed_parameter_is_copied_once_for_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not once for each of its experts."""
    model = nn.Sequential(Experts(8, 5, 4))
    chip, copies, clone = deploy(model, Gaussian(0.1)), [], Tensor.clone
    monkeypatch.setattr(Tensor, "clone", lambda t, **more: copies.append(t.shape) or clone(t, **more))
    chip.read()
    assert copies.count((8, 4, 5)) == 1


def test_the_experts_of_transformers_are_on_the_chip() -> None:
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    config = mixtral.MixtralConfig(
        hidden_size=8, intermediate_size=16, num_local_experts=3, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=11,
    )  # fmt: skip
    model = mixtral.MixtralForCausalLM(config).eval()
    experts = [t for t in on_chip(model) if ".experts." in t.name]
    assert [tuple(t.weight.shape) for t in experts] == [(32, 8)] * 3 + [(8, 16)] * 3
    words = torch.arange(11)[None]
    with torch.no_grad():
        clean = model(words).logits
        with deploy(model, Gaussian(0.3), select="*.experts.*").at():
            assert (model(words).logits - clean).abs().max() > 1e-4
        assert torch.equal(model(words).logits, clean)
