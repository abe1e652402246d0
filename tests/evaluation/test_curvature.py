"""Curvature against the whole Hessian of a tiny network, in float64."""

import sys

import pytest
import torch
from torch import Tensor, nn

from samson.evaluation import ExampleMetric, hessian_top, hessian_trace
from samson.evaluation.metrics import cross_entropy
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


def need_curvlinops() -> None:
    pytest.importorskip("curvlinops", reason="needs curvlinops: pip install 'samson-torch[curvature]'")


def test_the_top_eigenvalue_is_that_of_the_whole_hessian() -> None:
    need_curvlinops()
    x, y = make_batch()
    values = torch.linalg.eigvalsh(whole_hessian(make_model(), x, y))
    batches = [(x[:5], y[:5]), (x[5:], y[5:])]  # unequal
    assert hessian_top(make_model(), batches, tolerance=1e-8) == pytest.approx(values[-1].item(), rel=1e-7)
    assert values[-2].item() < 0.99 * values[-1].item()  # another eigenvalue would not do


def test_the_trace_has_the_truth_and_its_own_standard_error() -> None:
    need_curvlinops()
    x, y = make_batch()
    hessian = whole_hessian(make_model(), x, y)
    found = hessian_trace(make_model(), (x, y), probes=60)
    truth = hessian.trace().item()
    assert abs(found.mean - truth) < 4 * found.standard_error
    off = hessian - torch.diag(hessian.diagonal())
    assert found.standard_error * 60**0.5 == pytest.approx((2 * off.square().sum().item()) ** 0.5, rel=0.35)
    assert found.interval.low < found.mean < found.interval.high
    assert hessian_trace(make_model(), (x, y), probes=2).probes == found.probes[:2]
    # The check can fail: the loss summed over examples has another trace.
    total = ExampleMetric("sum", lambda o, t: len(t) * cross_entropy(o, t), higher_is_better=False)
    other = hessian_trace(make_model(), (x, y), loss=total, probes=2)
    assert other.probes == pytest.approx([16 * value for value in found.probes[:2]], rel=1e-10)


def test_the_model_is_left_as_it_was() -> None:
    need_curvlinops()
    model = make_model().train()
    before, state = snapshot(model), torch.get_rng_state()
    hessian_top(model, make_batch())
    hessian_trace(model, make_batch(), probes=2)
    assert equal(snapshot(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    with pytest.raises(ImportError, match=r"pip install 'samson-torch\[curvature\]'"):
        hessian_top(make_model(), make_batch())


def test_bad_input_is_an_error() -> None:
    with pytest.raises(ValueError, match="`probes` must be at least 2 for a standard error, got 1"):
        hessian_trace(make_model(), make_batch(), probes=1)
    with pytest.raises(ValueError, match="`tolerance` must lie between 0 and 1, got 0"):
        hessian_top(make_model(), make_batch(), tolerance=0)
