"""The layout that is found: the fastest by a clock of the test's own, once for each model and shape of data."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from samson.evaluation import Layout, evaluate, layout
from samson.evaluation.layout import CPU_SIZES, find_layout
from samson.evaluation.scoring import accuracy
from samson.noise import Gaussian

SMALL, MIDDLE, LARGE = (0.0, 1.0), (2.5, 0.001), (1.0, 0.0)
"""Seconds a call, and for the square of the batch size; a pass is fastest with the square root of the ratio."""


class Clock:
    """A clock that only `Timed` moves on, with how long the next calls are held up."""

    def __init__(self) -> None:
        self.now, self.delays = 0.0, list[float]()

    def perf_counter(self) -> float:
        """What `time.perf_counter` would say."""
        return self.now


class Timed(nn.Module):
    """A convolution that takes a known time."""

    def __init__(self, clock: Clock, costs: tuple[float, float], fast_order: torch.memory_format) -> None:
        super().__init__()
        self.layer, self.clock, self.costs, self.fast_order = nn.Conv2d(3, 4, 2), clock, costs, fast_order
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        call, square = self.costs
        seconds = call + square * len(x) ** 2
        self.clock.now += seconds if x.is_contiguous(memory_format=self.fast_order) else 3 * seconds
        self.clock.now += self.clock.delays.pop(0) if self.clock.delays else 0.0
        return self.layer(x).flatten(1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ours = Clock()
    monkeypatch.setattr(layout, "time", SimpleNamespace(perf_counter=ours.perf_counter))
    monkeypatch.setattr(layout, "_FOUND", {})
    return ours


def data(size: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, 3, 5, 5, generator=generator), torch.randint(64, (size,), generator=generator)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("costs", "size"), [(SMALL, CPU_SIZES[0]), (LARGE, CPU_SIZES[-1]), (MIDDLE, 50)])
def test_the_fastest_is_found(clock: Clock, costs: tuple[float, float], size: int, order: torch.memory_format) -> None:
    expected = Layout(size, channels_last=order == torch.channels_last)
    assert find_layout(Timed(clock, costs, order), data()) == expected


def test_a_busy_moment_does_not_decide(clock: Clock) -> None:
    model = Timed(clock, SMALL, torch.channels_last)
    calls = [-(-CPU_SIZES[-1] // size) for size in CPU_SIZES]
    orders = 2 * layout.ROUNDS * calls[len(CPU_SIZES) // 2]
    clock.delays = [1e6] + [0.0] * (orders - 1) + [1e6]  # the first call of both searches
    assert find_layout(model, data()) == Layout(CPU_SIZES[0], channels_last=True)
    assert model.calls == orders + layout.ROUNDS * sum(calls)
    assert not clock.delays


def test_it_is_found_once_and_is_in_the_result(clock: Clock) -> None:
    model = Timed(clock, SMALL, torch.channels_last)
    first = evaluate(model, data(), Gaussian(0.3), trials=2)
    assert first.layout == Layout(CPU_SIZES[0], channels_last=True)
    before, clock.delays = model.calls, []
    model.costs = LARGE  # what would be found now is another one
    again = evaluate(model, data(), Gaussian(0.3), trials=2, seed=1)
    assert again.layout == first.layout
    assert model.calls - before == 2 * 400 // CPU_SIZES[0]  # two chips, and no search
    given = evaluate(model, data(), Gaussian(0.3), trials=2, layout=first.layout)
    assert given.trials == first.trials


def test_another_model_shape_or_number_of_threads_is_timed_anew(clock: Clock) -> None:
    model = Timed(clock, SMALL, torch.channels_last)

    def searches(of: torch.Tensor) -> bool:
        before = model.calls
        find_layout(model, (of, torch.zeros(len(of), dtype=torch.int64)))
        return model.calls > before

    x = data()[0]
    assert searches(x)
    assert not searches(x)
    assert not searches(x[:300])  # more than the largest batch both times
    assert searches(x[:30])
    assert searches(x[..., :4])
    model.to(memory_format=torch.channels_last)
    assert searches(x)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert searches(x)
    finally:
        torch.set_num_threads(threads)


def test_images_are_put_in_order_once() -> None:
    x, y = data(60)
    x_before = x.clone()
    batches = list(Layout(25, channels_last=True).batches((x, y)))
    assert [len(part) for part, _ in batches] == [25, 25, 10]
    assert len({part.untyped_storage().data_ptr() for part, _ in batches}) == 1
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part, _ in batches)
    assert torch.equal(torch.cat([part for part, _ in batches]), x)
    assert x.is_contiguous()
    assert torch.equal(x, x_before)
    plain = next(iter(Layout(25).batches((x, y))))[0]
    assert plain.data_ptr() == x.data_ptr()  # no copy without need
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten())
    assert accuracy(model, batches) == accuracy(model, [(x, y)])
