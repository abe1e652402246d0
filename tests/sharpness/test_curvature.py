"""Curvature against the whole Hessian of tiny networks, in float64."""

import statistics
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.data import DataLoader, TensorDataset

from samson import SAM
from samson.evaluation import METRICS, ExampleMetric
from samson.sharpness import hessian_top, hessian_trace, worst_case_rise
from samson.statistics import mean_interval
from tests.conftest import equal, make_batch, make_model, snapshot


def whole_hessian(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The derivative of the gradient by central differences, which asks nothing but first derivatives of torch."""
    names, shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def gradient(vector: Tensor) -> Tensor:
        moved = vector.clone().requires_grad_()
        parts = moved.split([shape.numel() for shape in shapes])
        state = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        output = torch.func.functional_call(model.eval(), state, x)
        return torch.autograd.grad(nn.functional.cross_entropy(output, y), moved)[0]

    step = 1e-5
    rows = [gradient(flat + step * e) - gradient(flat - step * e) for e in torch.eye(len(flat), dtype=flat.dtype)]
    return torch.stack(rows) / (2 * step)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend, self.head = nn.MultiheadAttention(2, 1, batch_first=True), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.transpose(1, 2)
        return self.head(self.attend(steps, steps, steps, need_weights=False)[0][:, -1])


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.LSTM(2, 2, batch_first=True), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x.transpose(1, 2))[0][:, -1])


class Unused(nn.Module):
    """A part of it is not run."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.other = nn.Linear(10, 3), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


@pytest.mark.parametrize(("network", "enabled"), [(Recurrent, False), (make_model, True)])
def test_recurrent_layers_are_differentiated_without_cudnn(network: Callable[[], nn.Module], enabled: bool) -> None:
    """It has no gradient in evaluation mode; other networks keep it."""
    model, seen = network().double(), set[bool]()
    model.register_forward_hook(lambda *_: seen.add(torch.backends.cudnn.enabled))
    worst_case_rise(model, make_batch(), SAM(rho=0.1))
    hessian_top(model, make_batch())
    assert seen == {enabled}
    assert torch.backends.cudnn.enabled


@pytest.mark.parametrize(
    "network",
    [
        make_model,
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(10, 4), nn.LayerNorm(4), nn.Linear(4, 3)),
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(12, 3)),
        lambda: nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(10, 3))),
        Attention,
        Recurrent,
        Unused,
    ],
    ids=["plain", "layer norm", "group norm", "weight norm", "attention", "recurrent", "unused"],
)
def test_the_top_eigenvalue_is_that_of_the_whole_hessian(network: Callable[[], nn.Module]) -> None:
    model, (x, y) = network().double(), make_batch()
    values = torch.linalg.eigvalsh(whole_hessian(model, x, y))
    batches = [(x[:5], y[:5]), (x[5:], y[5:])]  # unequal
    assert hessian_top(model, batches, tolerance=1e-8) == pytest.approx(values[-1].item(), rel=1e-7)
    assert values[-2].item() < 0.99 * values[-1].item()  # another eigenvalue would not do
    single = hessian_top(model.float(), (x.float(), y), tolerance=1e-6)  # by other kernels
    assert single == pytest.approx(values[-1].item(), rel=1e-5)


def test_a_compiled_model_has_the_curvature_of_the_model() -> None:
    data = make_batch()
    compiled = torch.compile(make_model(), backend="aot_eager")
    assert hessian_top(compiled, data, tolerance=1e-8) == pytest.approx(hessian_top(make_model(), data, tolerance=1e-8))


def test_the_trace_is_the_truth_within_its_own_error() -> None:
    x, y = make_batch()
    hessian = whole_hessian(make_model(), x, y)
    found = hessian_trace(make_model(), (x, y), probes=60)
    truth = hessian.trace().item()
    off = hessian - torch.diag(hessian.diagonal())
    std = (2 * off.square().sum().item()) ** 0.5  # of one probe, in theory
    assert abs(found.mean - truth) < 4 * std / 60**0.5
    assert statistics.stdev(found.probes) == pytest.approx(std, rel=0.35)
    assert found.interval == mean_interval(found.probes)
    assert hessian_trace(make_model(), (x, y), probes=2).probes == found.probes[:2]
    assert hessian_trace(make_model(), (x, y), probes=2, seed=1).probes != found.probes[:2]
    # The check can fail: the loss summed over examples has another trace.
    total = ExampleMetric("sum", lambda o, t: len(t) * METRICS["cross-entropy"].score(o, t), higher_is_better=False)
    other = hessian_trace(make_model(), (x, y), loss=total, probes=2)
    assert other.probes == pytest.approx([16 * value for value in found.probes[:2]], rel=1e-10)


def test_vectors_are_the_same_whatever_the_default_device() -> None:
    model, data = make_model(), make_batch()
    here = hessian_top(model, data), hessian_trace(model, data, probes=2)
    with torch.device("meta"):
        assert (hessian_top(model, data), hessian_trace(model, data, probes=2)) == here


def test_the_model_is_left_as_it_was() -> None:
    model = make_model().train()
    before, state = snapshot(model), torch.get_rng_state()
    loader = DataLoader(TensorDataset(*make_batch()), 16)  # which draws from the global state
    hessian_top(model, loader)
    hessian_trace(model, loader, probes=2)
    assert equal(snapshot(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


class Drawing(TensorDataset):
    """Each time that an example is taken, it is another one."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(index)
        return x + torch.randn_like(x), y


def test_every_product_is_of_the_same_examples() -> None:
    model, data = make_model(), Drawing(*make_batch())
    torch.manual_seed(0)
    drawn = next(iter(DataLoader(data, 16)))
    torch.manual_seed(0)
    found = hessian_top(model, DataLoader(data, 16), tolerance=1e-8)
    assert found == pytest.approx(hessian_top(model, [drawn], tolerance=1e-8), rel=1e-7)


def test_what_has_no_curvature_is_named() -> None:
    for loss, words in (
        ("accuracy", "`loss` must be better when lower, got 'accuracy'"),
        ("perplexity", "must have a value for each example, got 'perplexity'"),
    ):
        with pytest.raises(ValueError, match=words):
            hessian_top(make_model(), make_batch(), loss=loss)
    with pytest.raises(ValueError, match="at least one example"):
        hessian_trace(make_model(), [])
    with pytest.raises(TypeError, match="`model` must be a torch.nn.Module"):
        hessian_trace(make_model, make_batch())
    with pytest.raises(ValueError, match="`probes` must be at least 2, got 1"):
        hessian_trace(make_model(), make_batch(), probes=1)
    with pytest.raises(ValueError, match="`tolerance` must lie between 0 and 1, got 0"):
        hessian_top(make_model(), make_batch(), tolerance=0)
    with pytest.raises(ValueError, match="`model` must have at least 2 weights .*, got 1"):
        hessian_top(Scaled(), (torch.randn(8, 3), torch.randint(3, (8,))))


class Scaled(nn.Module):
    """One weight alone."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Silent(nn.Linear):
    """Its outputs are 0 whatever its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return 0 * super().forward(x)


def test_a_hessian_of_zeros_has_the_top_eigenvalue_zero() -> None:
    data = torch.randn(8, 4), torch.randint(3, (8,))
    assert hessian_top(Silent(4, 3), data) == 0
    assert hessian_top(nn.Linear(4, 3), data) > 0
