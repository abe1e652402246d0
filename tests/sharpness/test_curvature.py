"""Curvature against the whole Hessian of a tiny network, in float64."""

import statistics
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from samson.evaluation import METRICS, ExampleMetric
from samson.sharpness import hessian_top, hessian_trace
from samson.statistics import mean_interval
from tests.conftest import equal, make_batch, make_model, snapshot

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # a package of curvlinops


def whole_hessian(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([shape.numel() for shape in shapes])
        state = dict(model.named_buffers()) | {
            name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)
        }
        return nn.functional.cross_entropy(torch.func.functional_call(model.eval(), state, x), y)

    return torch.func.hessian(loss)(flat)


@pytest.mark.needs("curvlinops")
def test_the_top_eigenvalue_is_that_of_the_whole_hessian() -> None:
    x, y = make_batch()
    values = torch.linalg.eigvalsh(whole_hessian(make_model(), x, y))
    batches = [(x[:5], y[:5]), (x[5:], y[5:])]  # unequal
    assert hessian_top(make_model(), batches, tolerance=1e-8) == pytest.approx(values[-1].item(), rel=1e-7)
    assert values[-2].item() < 0.99 * values[-1].item()  # another eigenvalue would not do


@pytest.mark.needs("curvlinops")
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
    # The check can fail: the loss summed over examples has another trace.
    total = ExampleMetric("sum", lambda o, t: len(t) * METRICS["cross-entropy"].score(o, t), higher_is_better=False)
    other = hessian_trace(make_model(), (x, y), loss=total, probes=2)
    assert other.probes == pytest.approx([16 * value for value in found.probes[:2]], rel=1e-10)


@pytest.mark.needs("curvlinops")
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


def test_a_missing_package_or_a_bad_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    with pytest.raises(ImportError, match=r'pip install .* "\.\[curvature\]"'):
        hessian_top(make_model(), make_batch())
    with pytest.raises(ValueError, match="`probes` must be at least 2, got 1"):
        hessian_trace(make_model(), make_batch(), probes=1)
    with pytest.raises(ValueError, match="`tolerance` must lie between 0 and 1, got 0"):
        hessian_top(make_model(), make_batch(), tolerance=0)
