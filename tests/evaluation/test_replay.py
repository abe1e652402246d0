"""Reused activations: the same bits as computing everything, and a stale recording that shows."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samson.evaluation import Layout, evaluate, sensitivity
from samson.evaluation.layers import LayersTask, layers_on_chip
from samson.evaluation.recording import Recording
from samson.evaluation.replay import hindrance, recorded, replayed
from samson.evaluation.setting import prepare
from samson.experiments.networks import ResidualBlock
from samson.noise import PCM, Gaussian, Periphery, WeightNoise

LOGITS = 4


class Residual(nn.Sequential):
    """Two residual blocks, the second with a shortcut on the chip."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 4, 3, padding=1),
            ResidualBlock(4, 4, stride=1),
            ResidualBlock(4, 8, stride=2),
            nn.Flatten(),
            nn.Linear(8 * 9, LOGITS),
        )


class InPlace(nn.Module):
    """Activations overwrite what comes before them, once also what a shortcut takes."""

    class Halve(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(0.5).abs()  # gives one tensor, and changes another

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True)
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.halve, self.flat, self.head = self.Halve(), nn.Flatten(), nn.Linear(4 * 36, LOGITS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.two(self.act(self.one(self.act(x))))
        y += x  # x has been through the activation too, as it was in place
        y += self.halve(x)
        return self.head(self.flat(y) + self.flat(x))


class Twice(nn.Module):
    """One module is called twice, and a weight is used without calling its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.first, self.shared = nn.Flatten(), nn.Linear(36, 12), nn.Linear(12, 12)
        self.between, self.head = nn.Linear(12, 12), nn.Linear(12, LOGITS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.first(self.flat(x)).relu())
        x = x @ self.head.weight.T @ self.head.weight  # long before the head is called
        return self.head(self.shared(self.between(x).relu()))


class Encoder(nn.Module):
    """Transformer blocks; torch computes them fused, without calling the layers within."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.blocks, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(6, LOGITS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x[:, 0]).mean(1))


class SideChannel(nn.Module):
    """One part leaves a tensor for another, past its own output."""

    class Giver(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.left = nn.Linear(36, 8), torch.zeros(0)

        def forward(self, x: Tensor) -> Tensor:
            self.left = self.layer(x)
            return self.left * 2

    def __init__(self) -> None:
        super().__init__()
        self.giver, self.other, self.head = self.Giver(), nn.Linear(8, 8), nn.Linear(8, LOGITS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.other(self.giver(x.flatten(1))) + self.giver.left)


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(50, 1, 6, 6, generator=generator), torch.randint(LOGITS, (50,), generator=generator)


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


def task(model: nn.Module, noise: WeightNoise, *, reuse: bool, read_block: int | None = None) -> LayersTask:
    prepared = prepare(
        model, data(), noise, metric="cross-entropy", layout=Layout(batch_size=20), read_block=read_block, seed=4
    )
    return LayersTask(**vars(prepared.task), layers=tuple(layers_on_chip(model)), reuse=reuse)


KINDS = (Residual, InPlace, Twice, Encoder, SideChannel)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_row_is_that_of_evaluate_bit_for_bit(kind: type[nn.Module]) -> None:
    model = made(kind)
    assert hindrance(model) is None
    chips = [task(model, Gaussian(0.2), reuse=True)(number) for number in range(2)]
    layers = layers_on_chip(model)
    subsets = [layers, *([one] for one in layers), *([x for x in layers if x != one] for one in layers)]
    for row, subset in enumerate(subsets):
        names = [name for layer in subset for name in layer.tensors]
        plain = evaluate(
            model,
            data(),
            Gaussian(0.2),
            trials=2,
            seed=4,
            metric="cross-entropy",
            select=names,
            layout=Layout(batch_size=20),
        )
        assert plain.examples is not None
        assert np.array_equal(plain.examples.values, np.stack([chip[row] for chip in chips])), names
    assert len({chips[0][row].tobytes() for row in range(len(subsets))}) == len(subsets)  # all rows differ


def test_readings_and_times_are_those_of_evaluate() -> None:
    model = made(Residual)
    noise = PCM(time_s=3600.0)
    ours = task(model, noise, reuse=True, read_block=15)(1)
    assert np.array_equal(ours, task(model, noise, reuse=False, read_block=15)(1))
    assert not np.array_equal(ours, task(model, noise, reuse=True)(1))  # other readings


def test_a_stale_recording_shows() -> None:
    """What is replayed is really used: with a recording of other inputs, the outputs are others."""
    model, (x, _) = made(Residual), data()
    with torch.no_grad():
        expected = model(x)
        for inputs in (x, x + 1):
            with recorded(model) as recording:
                model(inputs)
            until = recording.first_use([model[4].weight])
            with replayed(model, recording, until):
                assert torch.equal(model(x), expected) == (inputs is x)


@pytest.mark.parametrize(
    ("kind", "layer", "calls"),
    [
        (Residual, "4", {"ResidualBlock": 0, "Conv2d": 0, "BatchNorm2d": 0, "Flatten": 1, "Linear": 1}),
        (Residual, "2.conv2", {"ResidualBlock": 1, "Conv2d": 2, "BatchNorm2d": 2, "Flatten": 1, "Linear": 1}),
        (InPlace, "head", {"Conv2d": 0, "ReLU": 2, "Flatten": 2, "Linear": 1}),
        (Twice, "between", {"Linear": 3}),  # between, shared, head: the first call of shared is answered
        (Twice, "head", {"Linear": 3}),
        (SideChannel, "head", {"Giver": 1, "Linear": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_only_what_must_be_computed_is(kind: type[nn.Module], layer: str, calls: dict[str, int]) -> None:
    model, (x, _) = made(kind), data()
    counts = dict.fromkeys(calls, 0)

    with torch.no_grad():
        with recorded(model) as recording:
            model(x)
        until = recording.first_use([model.get_submodule(layer).weight])
        for module in model.modules():
            if type(module).__name__ in counts:
                _count(module, counts)
        with replayed(model, recording, until):
            model(x)
    assert counts == calls


def _count(module: nn.Module, counts: dict[str, int]) -> None:
    forward = type(module).forward

    class Counted(type(module)):
        def forward(self, *args: object) -> object:
            counts[type(module).__mro__[1].__name__] += 1
            return forward(self, *args)

    module.__class__ = Counted


def test_a_weight_that_is_never_used_changes_nothing() -> None:
    model, (x, _) = made(Residual), data()
    with torch.no_grad():
        with recorded(model) as recording:
            expected = model(x)
        until = recording.first_use([torch.ones(3)])
        assert until == float("inf")
        with replayed(model, recording, until):
            assert torch.equal(model(torch.zeros_like(x)), expected)  # the whole model is answered
    assert Recording().first_use([torch.ones(3)]) == float("inf")


def test_what_a_pass_overwrites_unforeseen_is_not_used_again() -> None:
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.mood = nn.Linear(3, 3), nn.Linear(3, 3), False

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            y = self.second(x)
            return y + (x.zero_() if self.mood else x)

    model, x = Moody(), torch.ones(2, 3)
    with torch.no_grad():
        with recorded(model) as recording:
            expected = model(x)
        until = recording.first_use([model.second.weight])
        for model.mood in (False, True, False):
            with replayed(model, recording, until):
                assert torch.equal(model(x), expected) is not model.mood


class Hooked(Residual):
    def __init__(self) -> None:
        super().__init__()
        self[1].register_forward_hook(lambda module, args, output: output * 2)


class Weighed(Residual):
    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self[4])


class Replaced(Residual):
    def __init__(self) -> None:
        super().__init__()
        self[1].forward = lambda x: x


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Hooked(), "`1` has forward hooks"),
        (Weighed(), "computes a weight"),
        (Replaced(), "`1` has had its forward replaced"),
        (torch.compile(Residual(), backend="eager"), "the model is compiled"),
        (nn.DataParallel(Residual()), "the model is a DataParallel"),
    ],
    ids=["hook", "parametrised", "forward", "compiled", "wrapped"],
)
def test_what_cannot_be_recorded_is_told(model: nn.Module, why: str) -> None:
    assert why in str(hindrance(model))


def test_models_are_left_as_they_were() -> None:
    model = made(Twice)
    task(model, Gaussian(0.1), reuse=True)(0)
    assert not any("forward" in vars(module) for module in model.modules())


def test_other_ways_through_a_model_are_computed_in_full() -> None:
    class Wandering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.pause, self.second, self.passes = nn.Linear(36, 6), nn.Identity(), nn.Linear(6, LOGITS), 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            x = x.flatten(1)
            return self.second(self.first(self.pause(x) if self.passes % 2 else x))

    model = made(Wandering)
    assert np.array_equal(task(model, Gaussian(0.1), reuse=True)(0), task(model, Gaussian(0.1), reuse=False)(0))


def test_sparse_tensors_are_computed_in_full() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(36, 6), nn.Linear(6, LOGITS)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.sparse.mm(torch.eye(len(x)).to_sparse(), self.first(x.flatten(1))))

    model = made(Sparse)
    assert np.array_equal(task(model, Gaussian(0.1), reuse=True)(0), task(model, Gaussian(0.1), reuse=False)(0))


def test_a_periphery_draws_as_in_evaluate() -> None:
    model, periphery = made(Residual), Periphery(output_noise=0.1)
    setting = {"trials": 2, "periphery": periphery, "metric": "cross-entropy", "layout": Layout(batch_size=20)}
    found = sensitivity(model, data(), Gaussian(0.1), **setting)
    row = next(row for row in found.rows if row.name == "4")
    assert row.alone == evaluate(model, data(), Gaussian(0.1), select="4", **setting).trials
    assert "periphery" in str(found.not_reused)
