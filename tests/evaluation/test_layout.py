"""Layouts: a default that no timing decides, and a search that finds the fastest by a clock of the test's own."""

import subprocess
import sys
from itertools import chain, repeat

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from samson.evaluation import Layout, evaluate, find_layout
from samson.noise import Gaussian

SIZES = (25, 50, 100, 200)
SMALL, MIDDLE, LARGE = (0.0, 1.0), (2.5, 0.001), (1.0, 0.0)
"""Seconds a call, and for the square of the batch size; a pass is fastest with the square root of the ratio."""


class Clock:
    """What `time.perf_counter` says: only `Timed` moves it on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Timed(nn.Module):
    """A convolution that takes a known time, and is held up at some calls."""

    def __init__(self, clock: Clock, costs: tuple[float, float], fast_order: torch.memory_format) -> None:
        super().__init__()
        self.layer, self.clock, self.costs, self.fast_order = nn.Conv2d(3, 4, 2), clock, costs, fast_order
        self.calls, self.delays = 0, repeat(0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        call, square = self.costs
        seconds = call + square * len(x) ** 2
        self.clock.now += seconds if x.is_contiguous(memory_format=self.fast_order) else 3 * seconds
        self.clock.now += next(self.delays)
        return self.layer(x).flatten(1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ours = Clock()
    monkeypatch.setattr("time.perf_counter", ours)
    return ours


def data(size: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, 3, 5, 5, generator=generator), torch.randint(64, (size,), generator=generator)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("costs", "size"), [(SMALL, 25), (LARGE, 200), (MIDDLE, 50)])
def test_the_fastest_is_found(clock: Clock, costs: tuple[float, float], size: int, order: torch.memory_format) -> None:
    expected = Layout(size, channels_last=order == torch.channels_last)
    assert find_layout(Timed(clock, costs, order), data()) == expected


def test_a_busy_moment_does_not_decide(clock: Clock) -> None:
    model = Timed(clock, SMALL, torch.channels_last)
    orders = 2 * 2 * 2  # two orders, two rounds, two batches of 100
    model.delays = chain([1e6], repeat(0.0, orders - 1), [1e6], repeat(0.0))  # the first call of both searches
    assert find_layout(model, data()) == Layout(25, channels_last=True)
    assert model.calls == orders + 2 * sum(200 // size for size in SIZES)


def test_a_search_leaves_the_model_as_it_was_and_data_in_batches_as_they_come() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(75, 64), nn.BatchNorm1d(64)).train()
    before = model[2].running_mean.clone()
    assert find_layout(model, data(30)).batch_size == 25
    assert torch.equal(model[2].running_mean, before)
    assert model.training
    assert find_layout(model, [data(30)]) == find_layout(model, TensorDataset(*data(30))) == Layout(None)


PROGRAM = """
import torch
from torch import nn
from samson.evaluation import Layout, evaluate
from samson.noise import Gaussian

torch.set_num_threads(1)
torch.manual_seed(0)
x, y = torch.randn(120, 3, 6, 6), torch.randint(4, (120,))
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
found = evaluate(model, (x, y), Gaussian(0.3), trials=3, metric="cross-entropy")
assert found.layout == Layout.of(model, (x, y))
print(found.layout, found.trials)
"""


def test_the_default_is_the_same_in_every_process(capsys: pytest.CaptureFixture) -> None:
    """And so are the bits of results; a search would time anew."""
    there = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    exec(PROGRAM, {})
    assert there == capsys.readouterr().out
    assert there.startswith("Layout(batch_size=50, channels_last=True) (")


def test_the_default_follows_the_model_and_the_form_of_the_data() -> None:
    images, rows = data(30), (torch.randn(30, 4), torch.zeros(30))
    assert Layout.of(nn.Sequential(nn.Conv2d(3, 4, 2)), images) == Layout(50, channels_last=True)
    assert Layout.of(nn.Conv1d(4, 2, 1), rows) == Layout(50)
    assert Layout.of(nn.Linear(4, 2), rows) == Layout.of(nn.Linear(5, 2), images) == Layout(256)
    assert Layout.of(nn.Conv2d(3, 4, 2).to("meta"), images) == Layout(256)  # on another device than a CPU
    for given in ([images], DataLoader(TensorDataset(*images), 7), TensorDataset(*images)):
        assert Layout.of(nn.Conv2d(3, 4, 2), given) == Layout(None)


def test_the_layout_changes_how_and_not_what() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(200, 64)).double()
    x, y = data(40)
    seen: list[tuple[int, bool]] = []
    model[0].register_forward_pre_hook(
        lambda _, args: seen.append((len(args[0]), args[0].is_contiguous(memory_format=torch.channels_last)))
    )
    trials = []
    for layout, parts in (
        (Layout(16), {(16, False), (8, False)}),
        (Layout(25, channels_last=True), {(25, True), (15, True)}),
        (None, {(40, True)}),
    ):
        seen.clear()
        found = evaluate(model, (x.double(), y), Gaussian(0.3), trials=2, layout=layout)
        trials.append(found.trials)
        assert set(seen) == parts
        assert found.layout == layout or layout is None
    assert len(set(trials)) == 1
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        Layout(0)


def test_images_are_put_in_order_once_in_memory_of_their_own() -> None:
    x, y = data(60)
    before = x.clone()
    batches = list(Layout(25, channels_last=True).batches((x, y)))
    assert [len(part) for part, _ in batches] == [25, 25, 10]
    assert len({part.untyped_storage().data_ptr() for part, _ in batches}) == 1
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part, _ in batches)
    assert torch.equal(torch.cat([part for part, _ in batches]), x)
    assert x.is_contiguous()
    assert torch.equal(x, before)
    assert next(iter(Layout(25).batches((x, y))))[0].data_ptr() == x.data_ptr()  # no copy without need
