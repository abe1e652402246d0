"""Layouts: a default that no timing decides, and one that is given."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from samson.evaluation import Layout, evaluate
from samson.noise import Gaussian


def data(size: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, 3, 5, 5, generator=generator), torch.randint(64, (size,), generator=generator)


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
