"""Scale that moves between layers: the same function, inputs that are even, and nothing else touched."""

import copy
import json
import linecache
import math
import signal
import sys
from collections.abc import Callable
from functools import partial
from threading import Thread
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations, prune
from torch.overrides import _get_current_function_mode_stack

from benchmarks.rescaling import RECORD, findings
from samson.experiments import make_network
from samson.noise import Gaussian, Periphery, ThroughChip, calibrate, deploy, rescale
from tests.conftest import Interruption, equal, snapshot, with_transformers
from tests.noise.layers import data


def uneven(model: nn.Module, seed: int = 5) -> nn.Module:
    """The model with outlier channels: scales of norms, biases and rows of weights over two decades."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1 and name.endswith("bias"):
                p.copy_(0.1 * torch.randn(p.shape, generator=generator))
            elif p.ndim == 1:
                p.copy_(10 ** torch.randn(p.shape, generator=generator).mul(0.5))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model.eval()


def images() -> nn.Sequential:
    """Norm or convolution, rectifier, pooling, convolution; the last norm reaches the head through the mean."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"), nn.LeakyReLU(0.1), nn.Dropout2d(0.5)),
        *(nn.Conv2d(8, 12, 3, stride=2), nn.GroupNorm(3, 12), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(12, 5),
    )


def grouped() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(4, 12, 3, groups=2), nn.ReLU(), nn.Conv2d(12, 12, 3, groups=12), nn.ReLU()),
        *(nn.ConvTranspose2d(12, 8, 3, stride=2, groups=4, output_padding=1), nn.ReLU()),
        *(nn.ConvTranspose2d(8, 6, 2), nn.ReLU(), nn.Conv2d(6, 4, 1, groups=2)),
    )


class RootMeanSquare(nn.Module):
    """As Transformers write it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class Twice(nn.Module):
    """Two readers of one norm, one of them reading twice, and a layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.rms = nn.RMSNorm(6), RootMeanSquare(6)
        self.query, self.key, self.again = nn.Linear(6, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        x = x + torch.sigmoid(self.query(h)) * self.key(h.view(-1, h.shape[-1])).view_as(x) + self.query(torch.relu(h))
        for _ in range(2):
            x = x + self.again(self.rms(x))
        return x


class Conv1DNet(nn.Module):
    """Layers of GPT-2, which store weights as (in, out)."""

    def __init__(self) -> None:
        super().__init__()
        from transformers.pytorch_utils import Conv1D

        self.norm, self.wide, self.narrow = nn.LayerNorm(6), Conv1D(9, 6), Conv1D(4, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(F.relu(self.wide(self.norm(x))))


TOKENS = torch.randint(65, (3, 16), generator=torch.Generator().manual_seed(1))
MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor, list[str]]] = {
    "gpt": (
        lambda: make_network("gpt-tiny", (16,), 65, 0),
        TOKENS,
        [f"blocks.{i}.norm{j}.weight" for i in range(2) for j in (1, 2)] + ["norm.weight"],
    ),
    "mlp": (lambda: make_network("mlp", (1, 6, 6), 4, 0), data(20, 1, 6, 6), ["1.weight", "3.weight"]),
    "images": (images, data(3, 3, 14, 14), ["1.weight", "4.weight", "8.weight"]),
    "grouped": (grouped, data(3, 4, 9, 9), ["0.weight", "2.weight", "4.weight", "6.weight"]),
    "resnet": (
        lambda: make_network("small-resnet", (3, 8, 8), 4, 0),
        data(3, 3, 8, 8),
        [f"blocks.{i}.norm1.weight" for i in range(3)],
    ),
    "twice": (Twice, data(4, 3, 6), ["norm.weight", "rms.weight"]),
    "conv1d": (Conv1DNet, data(4, 3, 6), ["norm.weight", "wide.weight"]),
}
CASES = [pytest.param(k, marks=[with_transformers] if k == "conv1d" else []) for k in MODELS]


def made(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor, list[str]]:
    torch.manual_seed(0)
    make, x, owners = MODELS[name]
    return uneven(make()).to(dtype), x.to(dtype) if x.is_floating_point() else x, owners


@torch.no_grad()
def apart(model: nn.Module, x: Tensor, before: Tensor) -> float:
    return float((model(x) - before).abs().max() / before.abs().max())


@pytest.mark.parametrize(
    ("dtype", "most"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.09)],
    ids=["float64", "float32", "bfloat16"],
)
@pytest.mark.parametrize("name", CASES)
def test_the_function_is_the_same_up_to_rounding(name: str, dtype: torch.dtype, most: float) -> None:
    model, x, owners = made(name, dtype)
    before, weights = model(x).detach(), snapshot(model)
    found = rescale(model, [x])
    assert list(found) == owners
    assert min(found.values()) > 1.3
    assert apart(model, x, before) < most
    assert all(not torch.equal(weights[owner], model.state_dict()[owner]) for owner in owners)
    with torch.no_grad():  # the check can fail
        model.get_parameter(owners[0]).mul_(1.5)
    assert apart(model, x, before) > min(most, 1e-3)


class TwoReaders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.owner, self.one, self.two = nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.relu(self.owner(x))
        return self.one(h), self.two(h)


@pytest.mark.parametrize("strength", [0, 0.5, 0.8, 1.0])
def test_factors_are_the_formula(strength: float) -> None:
    model, x = TwoReaders().double(), data(50, 5)
    w1, b1, w2, b2, w3, b3 = (p.detach().numpy().copy() for p in model.parameters())
    largest = np.maximum(x.numpy() @ w1.T + b1, 0).max(axis=0)
    s = largest**strength / np.abs(np.concatenate([w2, w3])).max(axis=0) ** (1 - strength)
    s /= np.exp(np.log(s).mean())
    found = rescale(model, [x[:20], x[20:]], strength=strength)
    assert found == {"owner.weight": pytest.approx(s.max() / s.min())}
    for now, expected in zip(model.parameters(), (w1 / s[:, None], b1 / s, w2 * s, b2, w3 * s, b3), strict=True):
        np.testing.assert_allclose(now.detach().numpy(), expected, rtol=1e-12)


def spread(values: Tensor) -> float:
    return float(values.max() / values.min())


def largest_inputs(model: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    """The largest |input| of each channel of a layer with channels along the last axis."""
    seen: list[Tensor] = []
    with layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().abs().flatten(0, -2))):
        model(x)
    return torch.cat(seen).amax(dim=0)


def test_inputs_are_evened_out() -> None:
    spreads, columns = {}, {}
    for strength in (None, 0.0, 0.5, 1.0):
        model, x, _ = made("gpt")
        if strength is not None:
            rescale(model, [x], strength=strength)
        layer = model.blocks[1].attention.qkv
        spreads[strength] = spread(largest_inputs(model, layer, x))
        columns[strength] = spread(layer.weight.detach().abs().amax(dim=0))
    assert spreads[None] > 30
    assert spreads[1.0] == pytest.approx(1)
    assert 2 * spreads[0.5] < spreads[None]
    assert spreads[0.0] > 0.5 * spreads[None]  # the control: inputs are not what strength 0 evens out
    assert columns[0.0] == pytest.approx(1)


def test_eight_step_converters_err_less_where_channels_are_outliers() -> None:
    errors: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(5):
        for outliers, found in errors.items():
            torch.manual_seed(seed)
            model = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 8)).eval()
            if outliers:
                model[0].weight.data[:2] *= 30.0
                model[1].weight.data[:, :2] /= 30.0
            x = data(256, 32, seed=seed).float()
            clean = model(x).detach()
            both = []
            for strength in (None, 1.0):
                if strength is not None:
                    rescale(model, [x], strength=strength)
                periphery = Periphery(dac_steps=8, input_ranges=calibrate(model, [x]))
                with deploy(model, Gaussian(0.0), periphery=periphery).at(), torch.no_grad():
                    both.append(float((model(x) - clean).square().mean().sqrt()))
            found.append(both[1] / both[0])
    assert max(errors[True]) < 0.5
    assert min(errors[False]) > 0.7  # the control: nothing to gain


def test_dead_channels_keep_their_weights() -> None:
    model, x = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double(), data(30, 4)
    with torch.no_grad():
        model[0].bias[0] = -100.0  # never on
        model[2].weight[:, 1] *= 1e-6  # as good as never read
        model[0].bias[2] = 50.0
    before, out = snapshot(model), model(x).detach()
    rescale(model, [x], strength=0.7)
    assert apart(model, x, out) < 1e-12
    for channel in (0, 1):
        assert torch.equal(model[0].weight[channel], before["0.weight"][channel])
        assert torch.equal(model[2].weight[:, channel], before["2.weight"][:, channel])
    live = (model[2].weight / before["2.weight"])[0, 2:]
    assert live.prod().item() == pytest.approx(1.0)  # the dead have no part in the mean
    assert live.std() > 0.1


class Case(nn.Module):
    """Layers that stay as they are, in front of a norm and a layer that are rescaled, which shows that one looked."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.other = nn.LayerNorm(6), nn.LayerNorm(6)
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.last, self.head = nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.last(self.before(x)))

    def before(self, x: Tensor) -> Tensor:
        return self.two(torch.tanh(self.one(self.norm(x))))


def case(before: Callable[[Any, Tensor], Tensor], change: Callable[[Any], Any] = lambda model: None) -> nn.Module:
    model = uneven(type("Own", (Case,), {"before": before})()).double()
    change(model)
    return model.double()


def in_place(m: Any, x: Tensor) -> Tensor:
    h = m.norm(x)
    y = torch.tanh(m.one(h))
    h += 1.0
    return m.two(y)


def in_a_list(m: Any, x: Tensor) -> Tensor:
    h = m.norm(x)
    return m.two(torch.tanh(m.one(h))) + torch.stack([x, h]).sum(0)


def on_one_path(m: Any, x: Tensor) -> Tensor:
    return torch.tanh(m.one(m.norm(x))) + torch.tanh(m.one(m.other(x)))


def two_for_one(m: Any, x: Tensor) -> Tensor:
    return torch.tanh(m.one(m.norm(x))) + torch.tanh(m.one(x))


def of_the_numbers(m: Any, x: Tensor) -> Tensor:
    h = m.norm(x)
    return torch.tanh(m.one(h)) + float(h.flatten()[0].item())


def as_an_array(m: Any, x: Tensor) -> Tensor:
    h = m.norm(x)
    return torch.tanh(m.one(h)) + torch.from_numpy(np.abs(h.numpy()))


def tied(m: Any) -> None:
    m.two.weight = m.one.weight


def buffered(m: Any) -> None:
    m.register_buffer("view", m.norm.weight.detach()[:2])


def hook(m: Any) -> None:
    m.norm.register_forward_hook(lambda module, args, output: output + 1.0)


def own_forward(m: Any) -> None:
    m.one = type("Standardised", (nn.Linear,), {"forward": lambda s, x: F.linear(x, s.weight - s.weight.mean())})(6, 6)


def plain(m: Any, x: Tensor) -> Tensor:
    return torch.tanh(m.one(m.norm(x)))


def beside_a_norm(m: Any, x: Tensor) -> Tensor:
    h = m.norm(x)
    return torch.tanh(m.one(h)) + m.other(h).tanh()


def channels_and_places(m: Any, x: Tensor) -> Tensor:
    """Reads channels and places mixed, as many as there are channels."""
    return torch.tanh(m.one(m.norm(x.transpose(1, 2)).reshape(-1, 6))).view_as(x)


def channels_first(m: Any) -> None:
    m.norm = nn.BatchNorm1d(6).eval()


def two_axes(m: Any) -> None:
    m.norm = nn.LayerNorm((3, 6))


def wrong_axis(m: Any) -> None:
    m.one = nn.Conv1d(3, 3, 1)


def attention(m: Any) -> None:
    m.one = nn.MultiheadAttention(6, 2, batch_first=True)


def attended(m: Any, x: Tensor) -> Tensor:
    h = m.norm(x)
    return m.one(h, h, h)[0].tanh()


UNTOUCHED: dict[str, Callable[[], nn.Module]] = {
    "shortcut": partial(case, lambda m, x: m.norm(x) + torch.tanh(m.one(m.norm(x)))),
    "norm last": partial(case, lambda m, x: m.norm(x + torch.tanh(m.one(x)))),
    "matmul": partial(case, lambda m, x: m.norm(x) @ m.one.weight),
    "matmul beside": partial(case, lambda m, x: torch.tanh(m.one(m.norm(x))) @ m.one.weight.T),
    "functional": partial(case, lambda m, x: torch.tanh(F.linear(m.norm(x), m.one.weight, m.one.bias))),
    "weight beside": partial(case, lambda m, x: torch.tanh(m.one(m.norm(x))) * m.one.weight.norm()),
    "scale beside": partial(case, lambda m, x: torch.tanh(m.one(m.norm(x))) + m.norm.weight),
    "bias beside": partial(case, lambda m, x: torch.tanh(m.one(m.norm(x))) + m.norm.bias),
    "gelu": partial(case, lambda m, x: torch.tanh(m.one(F.gelu(m.norm(x))))),
    "relu6": partial(case, lambda m, x: torch.tanh(m.one(F.relu6(m.norm(x))))),
    "softmax": partial(case, lambda m, x: torch.tanh(m.one(m.norm(x).softmax(-1)))),
    "channels apart": partial(case, lambda m, x: torch.tanh(m.one(m.norm(x).unflatten(-1, (2, 3)).flatten(-2)))),
    "channels mixed": partial(case, lambda m, x: torch.tanh(m.one(m.norm(x).flip(-1)))),
    "pooled channels": partial(case, lambda m, x: torch.tanh(m.one(F.max_pool1d(m.norm(x), 3, 1, 1)))),
    "whole numbers": partial(case, lambda m, x: torch.tanh(m.one(m.norm(x).to(torch.int64).to(x.dtype)))),
    "compared": partial(case, lambda m, x: torch.tanh(m.one(m.norm(x))) * (m.norm(x) > 0.5)),
    "squared scale": partial(case, lambda m, x: torch.tanh(m.one(m.norm.weight * m.norm.weight)) + x.tanh()),
    "shifted scale": partial(case, lambda m, x: torch.tanh(m.one(x * (1.0 + m.norm.weight)))),
    "in place": partial(case, in_place),
    "in a list": partial(case, in_a_list),
    "two owners": partial(case, on_one_path),
    "two inputs": partial(case, two_for_one),
    "a number": partial(case, of_the_numbers),
    "an array": partial(case, as_an_array),
    "data": partial(case, lambda m, x: torch.tanh(m.one(m.norm(x).data))),
    "its type": partial(case, lambda m, x: torch.tanh(m.one(x.to(m.norm(x))))),
    "read by a norm too": partial(case, beside_a_norm),
    "channels and places": partial(case, channels_and_places, channels_first),
    "norm of two axes": partial(case, plain, two_axes),
    "norm of a norm": partial(case, lambda m, x: m.other(m.norm(x)).tanh()),
    "tied": partial(case, lambda m, x: torch.tanh(m.one(m.norm(x))) + m.two(x), tied),
    "same memory": partial(case, plain, buffered),
    "hook": partial(case, plain, hook),
    "own forward": partial(case, plain, own_forward),
    "wrong axis": partial(case, plain, wrong_axis),
    "attention": partial(case, attended, attention),
    "weight norm": partial(case, plain, lambda m: parametrizations.weight_norm(m.one)),
    "spectral norm": partial(case, plain, lambda m: parametrizations.spectral_norm(m.one)),
    "parametrised bias": partial(
        case,
        lambda m, x: m.two(torch.relu(m.one(torch.tanh(x)))).tanh(),
        lambda m: nn.utils.parametrize.register_parametrization(m.one, "bias", nn.Tanh()),
    ),
    "pruned": partial(case, plain, lambda m: prune.l1_unstructured(m.one, "weight", 0.5)),
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_other_uses_leave_an_owner_as_it_is(name: str) -> None:
    model, x = UNTOUCHED[name](), data(4, 3, 6)
    with torch.no_grad():
        out, before = model(x), snapshot(model)
    assert list(rescale(model, [x], ["one", "two", "head"])) == ["last.weight"]
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"last.weight", "last.bias", "head.weight"}
    assert apart(model, x, out) < 1e-12


def test_the_same_layers_used_plainly_are_owners() -> None:
    """The control of the test above."""
    assert list(rescale(case(plain), [data(4, 3, 6)])) == ["norm.weight", "last.weight"]


def test_readers_that_are_digital_or_returned_leave_an_owner_as_it_is() -> None:
    model, x = case(plain), data(4, 3, 6)
    assert list(rescale(copy.deepcopy(model), [x], ["one"])) == ["norm.weight"]

    class Returned(Case):
        def forward(self, x: Tensor) -> Any:
            h = self.norm(x)
            return {"logits": self.head(self.last(torch.tanh(self.one(h)))), "features": [h]}

    assert list(rescale(Returned().double(), [x])) == ["last.weight"]
    with pytest.raises(ValueError, match="`model` must have a layer whose output only layers on the chip read, but"):
        rescale(nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.LayerNorm(6)).double(), [x])


class OutOfSight(Case):
    """Takes the output of a norm where no function of torch is seen: in another thread."""

    def before(self, x: Tensor) -> Tensor:
        h, found = self.norm(x), []
        thread = Thread(target=lambda: found.append(h.detach().abs()))
        thread.start()
        thread.join()
        return torch.tanh(self.one(h)) + found[0]


class Random(Case):
    """Computes something else each time."""

    calls = 0

    def before(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.roll(self.calls, -1)


@pytest.mark.parametrize("kind", [OutOfSight, Random])
def test_another_function_is_refused_and_all_comes_back(kind: type[Case]) -> None:
    model, x = uneven(kind()), data(4, 3, 6).float()
    before, objects = snapshot(model), [id(p) for p in model.parameters()]
    with pytest.raises(RuntimeError, match="`model` must compute the same after it is rescaled, but an output changes"):
        rescale(model, [x])
    assert equal(snapshot(model), before)
    assert objects == [id(p) for p in model.parameters()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_error_in_the_second_run_brings_all_back(error: type[BaseException]) -> None:
    class Failing(Case):
        calls = 0

        def before(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls == 3:
                assert not equal(snapshot(self), before)  # it is rescaled by now
                raise error
            return super().before(x)

    model, x = uneven(Failing()).train(), data(4, 3, 6).float()
    before = snapshot(model)
    with pytest.raises(error):
        rescale(model, [x, x])
    assert equal(snapshot(model), before)
    assert all(module.training for module in model.modules())


class AsPythonInterrupts(Interruption):
    """Not between the end of a block and its exit, where only tracing stops."""

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        return self if event == "line" and line.startswith("with ") else super().__call__(frame, event, argument)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Ctrl-C as Python ends a generator
def test_ctrl_c_anywhere_leaves_the_weights_as_they_were() -> None:
    x, model = data(4, 3, 6).float(), uneven(Case())
    start = snapshot(model)
    rescale(model, [x])
    done = snapshot(model)

    def interrupted(number: int) -> tuple[bool, bool, int]:
        """Whether Ctrl-C was raised, whether the model is rescaled all the same, and the number of events."""
        model.load_state_dict(start)
        interruption, error = AsPythonInterrupts(number), None
        try:
            sys.settrace(interruption)
            rescale(model, [x])
        except KeyboardInterrupt as caught:
            error = caught
        finally:
            sys.settrace(None)
        now = snapshot(model)
        assert equal(now, done) or (equal(now, start) and error)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert not _get_current_function_mode_stack()
        return error is not None, equal(now, done), interruption.seen

    *_, events = interrupted(0)
    results = [interrupted(number) for number in range(1, events + 1, max(1, events // 300))]
    late = [changed for raised, changed, _ in results if raised]
    assert len(late) > 290
    assert not any(late[: round(0.95 * len(late))])  # only once all is done and compared


def test_vectors_of_a_spectral_norm_in_training_stay_as_they_are() -> None:
    model = case(plain, lambda model: parametrizations.spectral_norm(model.two)).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    rescale(model, [data(4, 3, 6)])
    assert len(before) == 2
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_autocast_is_no_matter() -> None:
    x, models = data(20, 3, 6).float(), [uneven(Case()) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    rescale(models[0], [x])
    with torch.autocast("cpu", torch.bfloat16):
        before = models[1](x).detach()  # the block keeps casts of weights
        rescale(models[1], [x])
        assert apart(models[1], x, before) < 0.09
    assert equal(*map(snapshot, models))


def test_rounding_is_that_of_the_weights() -> None:
    class Cast(Case):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x.bfloat16()).float()

    model, x = uneven(Cast()).bfloat16(), data(50, 3, 6).float()
    out = model(x).detach()
    rescale(model, [x])
    assert 4e-4 < apart(model, x, out) < 0.09  # more than the rounding of outputs


def test_compiled_and_wrapped_models_are_rescaled_too() -> None:
    model, x = uneven(Case()).double(), data(4, 3, 6)
    out = model(x).detach()
    assert list(rescale(torch.compile(model, backend="eager"), [x])) == ["norm.weight", "last.weight"]
    assert apart(model, x, out) < 1e-12


def test_what_does_not_fit_is_refused_before_anything_changes() -> None:
    x = data(4, 3, 6)
    model = case(plain)
    before = snapshot(model)
    for strength in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"`strength` must be in \[0, 1\], got"):
            rescale(model, [x], strength=strength)
    with pytest.raises(ValueError, match="`strength` must be a number, got '1'"):
        rescale(model, [x], strength="1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there were none"):
        rescale(model, [])
    with pytest.raises(ValueError, match="`batches` must give every layer finite numbers, but `one` had NaN"):
        rescale(model, [x / 0])
    with deploy(model, Gaussian(0.1)).at(), pytest.raises(RuntimeError, match="lies on a chip already"):
        rescale(model, [x])
    model = Case().double()
    before = snapshot(model)
    with ThroughChip(model, Periphery(dac_steps=14), [x]), pytest.raises(RuntimeError, match="`one` is trained thr"):
        rescale(model, [x])
    with pytest.raises(TypeError, match="`model` must be an nn.Module"):
        rescale(torch.ones(2), [x])  # type: ignore[arg-type]
    assert equal(snapshot(model), before)


def test_the_findings_of_the_measurement_are_those_of_its_results() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    assert findings(record["results"]) == record["findings"]
    for own in record["results"]["outliers"].values():
        assert own["difference"][2] < 0
    record["results"]["trained"]["14"]["difference"][0] += 0.1
    assert findings(record["results"]) != record["findings"]  # the check can fail
