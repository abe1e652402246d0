"""Chips: which tensors they hold, common random numbers, and weights that come back bitwise."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from samson.noise import Gaussian, deploy, generator_for, on_chip
from tests.conftest import equal, make_model, snapshot


def noisy(model: nn.Module, sigma: float = 0.2, **keys: int) -> dict[str, torch.Tensor]:
    with deploy(model, Gaussian(sigma), **keys).at():
        return snapshot(model)


def test_weights_are_noisy_inside_and_bitwise_back_outside() -> None:
    model = make_model(torch.float32)
    with torch.no_grad():
        model[4].weight[0, 0] = -0.0
    before, state = snapshot(model), torch.get_rng_state()
    inside = noisy(model)
    assert {name for name in before if not torch.equal(before[name], inside[name])} == {"0.weight", "4.weight"}
    assert equal(snapshot(model), before)
    with pytest.raises(ZeroDivisionError), deploy(model, Gaussian(0.2)).at():
        raise ZeroDivisionError
    assert equal(snapshot(model), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_caller_keeps_its_gradient_mode() -> None:
    model = make_model()
    with torch.no_grad(), deploy(model, Gaussian(0.1)).at():
        assert not torch.is_grad_enabled()
    with deploy(model, Gaussian(0.1)).at():
        assert torch.is_grad_enabled()


def test_common_random_numbers() -> None:
    one, other = make_model(seed=0), make_model(seed=1)

    def errors(model: nn.Module, name: str = "4.weight", **keys: int) -> torch.Tensor:
        w = model.get_parameter(name).detach()
        return (noisy(model, **keys)[name] - w) / w.abs().max()

    assert torch.allclose(errors(one, seed=3, trial=7), errors(other, seed=3, trial=7), atol=1e-12)
    for keys in ({"seed": 3, "trial": 8}, {"seed": 4, "trial": 7}, {"seed": 7, "trial": 3}, {"seed": 4, "trial": 6}):
        assert not torch.allclose(errors(one, seed=3, trial=7), errors(one, **keys), atol=1e-3)
    wrapped = torch.compile(nn.DataParallel(one), backend="eager")
    name = "_orig_mod.module.4.weight"
    assert torch.allclose(errors(wrapped, name, seed=3, trial=7), errors(one, seed=3, trial=7), atol=1e-12)
    assert [t.name for t in on_chip(wrapped)] == ["0.weight", "4.weight"]


def test_a_path_is_hashed_not_added() -> None:
    keys = [(0, 1), (1, 0), (0, 1, ""), (0, "1"), (0, 11), (0, 1, 1)]
    draws = {generator_for(*key).initial_seed() for key in keys}
    assert len(draws) == len(keys)
    with pytest.raises(ValueError, match="`seed` must be ≥ 0"):
        generator_for(-1)


@pytest.mark.parametrize("groups", [1, 2])
def test_channels_of_a_transposed_convolution_are_its_outputs(groups: int) -> None:
    """Only output channel 1 has weights, so only it has noise."""
    layer = nn.ConvTranspose1d(4, 6, 3, groups=groups, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:2, 1] = 1.0  # inputs 0 and 1 lie in the first group
    with deploy(layer, Gaussian(0.5, per="channel")).at():
        output = layer(torch.ones(1, 4, 1))
    assert output.shape[1] == 6
    silent = [channel for channel in range(6) if (output[0, channel] == 0).all()]
    assert silent == [0, 2, 3, 4, 5]
    weight = torch.randn(4, 6 // groups, 3)
    [tensor] = on_chip(layer)
    assert torch.equal(tensor.stored(tensor.output_first(weight)), weight)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(2, 4, 3),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv3d(1, 2, 3),
        nn.ConvTranspose2d(2, 4, 3),
        nn.Linear(3, 2),
    ],
)
def test_layers_on_the_chip(layer: nn.Module) -> None:
    before = layer.weight.detach().clone()
    with deploy(layer, Gaussian(0.2)).at():
        assert (layer.weight != before).all()
    assert torch.equal(layer.weight, before)


def test_tied_weights_are_drawn_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    assert [t.name for t in on_chip(model)] == ["0.weight"]


def test_what_noise_cannot_reach_is_an_error() -> None:
    tied = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "head": nn.Linear(3, 5)})
    tied["head"].weight = tied["embedding"].weight
    cases = {
        "with none": nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()),
        "shared with `embedding`, which stays digital": tied,
        "`0` is computed": nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3))),
        "`layer` is computed": nn.ModuleDict({"layer": prune.l1_unstructured(nn.Linear(3, 3), "weight", 0.5)}),
        "cannot be put on a chip yet": nn.TransformerEncoderLayer(4, 2, 8),
        "`0` is a LSTM": nn.Sequential(nn.LSTM(3, 3), nn.Linear(3, 3)),
    }
    for message, model in cases.items():
        with pytest.raises(ValueError, match=message):
            deploy(model, Gaussian(0.1))
    with pytest.raises(ValueError, match="`trial` must be ≥ 0"):
        deploy(make_model(), Gaussian(0.1), trial=-1)
