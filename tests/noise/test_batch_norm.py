"""Re-estimated batch norms against numpy in float64, on chips, and with everything put back."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from samson.noise import PCM, Periphery, Variation, deploy, reestimated_norms
from tests.conftest import Alike, equal, snapshot
from tests.noise.layers import data


class TwoNorms(nn.Module):
    """A convolution, two norms one after the other, dropout and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first = nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3)
        self.hidden, self.second = nn.Linear(3 * 4 * 4, 5), nn.BatchNorm1d(5)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(torch.relu(self.first(self.conv(x)))).flatten(1)
        return self.head(torch.relu(self.second(self.hidden(x))))


def model(dtype: torch.dtype = torch.float64) -> TwoNorms:
    torch.manual_seed(0)
    made = TwoNorms().to(dtype).eval()
    with torch.no_grad():
        for norm in (made.first, made.second):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
            norm.running_mean.uniform_(-1.0, 1.0)
            norm.running_var.uniform_(0.5, 2.0)
    return made


def statistics(network: nn.Module) -> dict[str, Tensor]:
    return {name.split("module.")[-1]: b.clone() for name, b in network.named_buffers() if "running" in name}


def by_channel(values: np.ndarray) -> np.ndarray:
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(3), (20, 3)),
        (nn.BatchNorm1d(3), (20, 3, 5)),
        (nn.BatchNorm2d(3, momentum=None), (20, 3, 4, 2)),
        (nn.BatchNorm3d(3, affine=False), (20, 3, 2, 2, 3)),
        (nn.SyncBatchNorm(3), (20, 3, 5)),
    ],
)
def test_statistics_are_pooled_over_all_data(norm: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    norm = copy.deepcopy(norm).to(dtype)
    x = (data(*shape) + torch.arange(20.0).view(20, *(1,) * (len(shape) - 1)) + 50).to(dtype)
    pieces = x.split([2, 7, 11])
    with reestimated_norms(norm, pieces):
        mean, variance = (b.clone().double().numpy() for b in (norm.running_mean, norm.running_var))
    values = by_channel(x.double().numpy())
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-5, torch.float16: 1e-3}[dtype]
    np.testing.assert_allclose(mean, values.mean(axis=1), rtol=tolerance)
    np.testing.assert_allclose(variance, values.var(axis=1, ddof=1), rtol=tolerance)
    averaged = np.mean([by_channel(p.double().numpy()).var(axis=1, ddof=1) for p in pieces], axis=0)
    assert (averaged < 0.5 * variance).all()  # torch's `momentum=None`, or any average over batches, would be seen


def normalised(x: np.ndarray, norm: nn.Module, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    view = (1, -1) + (1,) * (x.ndim - 2)
    weight, bias = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    scaled = (x - mean.reshape(view)) / np.sqrt(variance.reshape(view) + norm.eps)
    return np.maximum(scaled * weight.reshape(view) + bias.reshape(view), 0.0)


def by_hand(network: TwoNorms, pieces: list[Tensor]) -> dict[str, np.ndarray]:
    """The pass, with a loop over pixels for the convolution."""
    seen: dict[str, list[np.ndarray]] = {"first": [], "second": []}
    w, v = network.conv.weight.detach().numpy(), network.hidden.weight.detach().numpy()
    for piece in pieces:
        x = piece.numpy()
        y = np.stack(
            [
                [(x[:, :, i : i + 3, j : j + 3].reshape(len(x), -1) @ w.reshape(3, -1).T) for j in range(4)]
                for i in range(4)
            ]
        )
        y = y.transpose(2, 3, 0, 1)
        seen["first"].append(y)
        h = normalised(y, network.first, by_channel(y).mean(axis=1), by_channel(y).var(axis=1, ddof=1))
        seen["second"].append(h.reshape(len(x), -1) @ v.T + network.hidden.bias.detach().numpy())
    found = {}
    for name, parts in seen.items():
        values = by_channel(np.concatenate(parts))
        found[f"{name}.running_mean"] = values.mean(axis=1)
        found[f"{name}.running_var"] = values.var(axis=1, ddof=1)
    return found


@pytest.mark.parametrize("sizes", [[24], [5, 8, 11]])
def test_a_layer_sees_what_the_one_before_it_gives(sizes: list[int]) -> None:
    network, x = model(), data(24, 1, 6, 6)
    own = statistics(network)
    with reestimated_norms(network, [(piece, torch.zeros(len(piece))) for piece in x.split(sizes)]):
        found = statistics(network)
        again: list[Tensor] = []
        with network.second.register_forward_pre_hook(lambda _, args: again.append(args[0])), torch.no_grad():
            network(x)
    hand = by_hand(network, list(x.split(sizes)))
    assert found.keys() == hand.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value.numpy(), hand[name], rtol=1e-10)
        assert not torch.allclose(value, own[name], rtol=0.05)
    in_the_block = again[0].var(dim=0)
    if len(sizes) == 1:  # what the layer sees in the block is what it normalises by
        torch.testing.assert_close(in_the_block, found["second.running_var"], rtol=1e-10, atol=0.0)
        torch.testing.assert_close(again[0].mean(dim=0), found["second.running_mean"], rtol=1e-10, atol=1e-12)
    else:  # about so, and the check can fail
        assert not torch.allclose(in_the_block, found["second.running_var"], rtol=1e-3)


def test_everything_comes_back_bitwise() -> None:
    network, x = model(torch.float32), data(24, 1, 6, 6).float()
    network.first.train()
    network.dropout.train()
    network.first.running_mean[0] = -0.0
    before, modes = snapshot(network), [m.training for m in network.modules()]
    loader = DataLoader(TensorDataset(x), batch_size=7, shuffle=True)
    state = torch.get_rng_state()

    def untouched() -> bool:
        same_modes = [m.training for m in network.modules()] == modes
        hooks = sum(len(m._forward_pre_hooks) for m in network.modules())
        return same_modes and not hooks and torch.equal(torch.get_rng_state(), state)

    with reestimated_norms(network, loader):
        assert untouched()
        assert torch.is_grad_enabled()
        inside = snapshot(network)
    assert {name for name in before if not torch.equal(before[name], inside[name])} == set(statistics(network))
    assert equal(snapshot(network), before)
    assert untouched()
    with reestimated_norms(network, loader):  # dropout is off, and the shuffled order is the same
        assert equal(snapshot(network), inside)
    with pytest.raises(ZeroDivisionError), reestimated_norms(network, loader):
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="`second` had 1"), reestimated_norms(network, [x[:8], x[:1]]):
        pass
    assert equal(snapshot(network), before)
    assert untouched()


def test_on_a_chip_they_are_the_chips_own() -> None:
    """A linear layer's outputs have mean Wμ and variance diag(WΣWᵀ), W being what the chip holds at that time."""
    network = nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4)).double().eval()
    x = data(500, 6) @ data(6, 6, seed=3) + 1.0
    mean, covariance = x.mean(dim=0).numpy(), np.cov(x.numpy().T)
    chip = deploy(network, PCM(compensation=None), seed=7)
    clean = network[0].weight.detach().numpy().copy()
    found = {}
    for time_s in (0.0, 86_400.0):
        with chip.at(time_s), reestimated_norms(network, x.split(100)):
            w = network[0].weight.detach().numpy().copy()
            found[time_s] = network[1].running_var.numpy().copy()
            np.testing.assert_allclose(network[1].running_mean.numpy(), w @ mean, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(found[time_s], np.diag(w @ covariance @ w.T), rtol=1e-9)
    undrifted = np.diag(clean @ covariance @ clean.T)
    assert (found[86_400.0] < 0.7 * undrifted).all()  # mean ν ≥ .049: (86,420 / 20)^(-2·.049) is .44
    assert (np.abs(found[0.0] / undrifted - 1) < np.abs(found[86_400.0] / undrifted - 1)).all()


def test_a_periphery_is_estimated_with() -> None:
    """Noise of 0.5 in units of the largest weight of a channel times the input range adds its variance."""
    network, x = model(), data(64, 1, 6, 6).clamp(-2.0, 2.0)
    noisy = Periphery(output_noise=0.5, input_ranges={"conv": 2.0, "hidden": 9.0, "head": 9.0})
    chip = deploy(network, Variation(), periphery=noisy)
    with reestimated_norms(network, [x]):
        exact = network.first.running_var.clone()
    with chip.at(), reestimated_norms(network, list(x.split(32))):
        assert chip.reached == {"conv": 2, "hidden": 2, "head": 2}
        added = network.first.running_var - exact
    expected = (0.5 * 2.0 * network.conv.weight.detach().abs().amax(dim=(1, 2, 3))) ** 2
    tolerance = 5 * math.sqrt(2 / (64 * 16)) * (exact + expected)
    assert ((added - expected).abs() < tolerance).all()
    assert (expected > tolerance).any()  # the check can fail


def wrapped(kind: str, network: nn.Module, counter: CompileCounter) -> nn.Module:
    if kind == "in place":
        network.compile(backend=counter)
        return network
    return torch.compile(network, backend=counter, fullgraph=True)


@pytest.mark.parametrize("kind", ["wrapped", "in place"])
def test_a_compiled_model_is_estimated_and_not_compiled_again(kind: str) -> None:
    torch._dynamo.reset()
    plain, x, counter = model(torch.float32), data(24, 1, 6, 6).float(), CompileCounter()
    network = wrapped(kind, copy.deepcopy(plain), counter)
    with torch.no_grad():
        own = network(x)
        for trial in range(2):
            with deploy(plain, PCM(compensation=None), trial=trial).at(60.0), reestimated_norms(plain, x.split(8)):
                expected, values = plain(x), list(statistics(plain).values())
            with deploy(network, PCM(compensation=None), trial=trial).at(60.0), reestimated_norms(network, x.split(8)):
                assert all(map(torch.equal, statistics(network).values(), values))
                torch.testing.assert_close(network(x), expected)
            assert torch.equal(network(x), own)
        assert (expected - own).abs().max() > 0.1
    assert counter.frame_count == 1
    torch._dynamo.reset()


def replicated(network: nn.Module) -> nn.Module:
    return DistributedDataParallel(network)


def channels_last(network: nn.Module) -> nn.Module:
    return network.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("change", [replicated, channels_last])
def test_wrappers_and_memory_formats(change: Callable[[nn.Module], nn.Module]) -> None:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        plain, x = model(), data(24, 1, 6, 6)
        with reestimated_norms(plain, x.split(8)):
            expected = statistics(plain)
        network = change(copy.deepcopy(plain))
        x = x.expand(24, 1, 6, 6).to(memory_format=torch.channels_last)
        before = snapshot(network)
        with reestimated_norms(network, x.split(8)):
            for name, value in statistics(network).items():
                torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-14)
        assert equal(snapshot(network), before)
    finally:
        torch.distributed.destroy_process_group()


class Auxiliary(TwoNorms):
    """With a norm that evaluation does not reach, and an instance norm."""

    def __init__(self) -> None:
        super().__init__()
        self.unused, self.instance = nn.BatchNorm1d(2), nn.InstanceNorm2d(1, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.instance(x))


def test_what_is_not_reached_or_of_another_kind_stays() -> None:
    network = Auxiliary().double().eval()
    before = statistics(network)
    with reestimated_norms(network, [data(24, 1, 6, 6)]):
        changed = {name for name, value in statistics(network).items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} == {"first", "second"}


def test_what_cannot_be_estimated_is_named() -> None:
    batches = [data(4, 1, 6, 6)]
    untracked = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False), nn.LayerNorm(2))
    with pytest.raises(ValueError, match="batch-norm layer with running statistics, but this Sequential has none"):
        reestimated_norms(untracked, iter("never read")).__enter__()
    spent = iter(batches)
    with reestimated_norms(model(), spent):
        pass
    for nothing in ([], spent):
        with pytest.raises(ValueError, match="none had an input. An iterator can be run through only once"):
            reestimated_norms(model(), nothing).__enter__()
    with reestimated_norms(model(), batches) as seconds:
        assert 0 < seconds < 60


def test_statistics_come_back_where_the_block_moved_the_model() -> None:
    net = model(torch.float32)
    before = snapshot(net)
    with deploy(net, Variation()).at(), reestimated_norms(net, [data(16, 1, 6, 6).float()]):
        net.double()
    assert all(torch.equal(tensor, before[name].to(tensor.dtype)) for name, tensor in net.state_dict().items())


def test_layers_whose_plain_names_are_alike_are_each_estimated() -> None:
    net = nn.Sequential(Alike(lambda: nn.BatchNorm1d(3)), nn.Linear(3, 2))
    x = 3 + data(64, 3).float()
    with deploy(net, Variation()).at(), reestimated_norms(net, [x]):
        torch.testing.assert_close(net[0].own.running_mean, x.mean(dim=0))
        torch.testing.assert_close(net[0].module["own"].running_var, torch.ones(3), atol=1e-3, rtol=0)
        assert net[0].module["own"].running_mean.abs().max() < 1e-5
        assert not torch.equal(net[0].module["own"].running_var, torch.ones(3))
