"""Curvature: the largest eigenvalue and the trace of the loss's Hessian, by products of the Hessian with vectors.

Needs curvlinops, which the extra `curvature` brings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samson._batches import Batch, Examples
from samson._checks import require_between, require_whole
from samson._errors import installing
from samson._shown import Shown
from samson.evaluation import ExampleMetric, Layout, with_targets
from samson.noise import generator_for
from samson.sharpness._surface import differentiable, movable, undisturbed
from samson.statistics import Interval, mean_interval

PROBES = 30


@dataclass(frozen=True, repr=False)
class Trace(Shown):
    """An estimate of a trace.

    Args:
        probes: One unbiased value a probe.
    """

    probes: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The estimate."""
        return float(np.mean(self.probes))

    @property
    def interval(self) -> Interval:
        """The estimate with the interval of `mean_interval` over probes."""
        return mean_interval(self.probes)

    def __str__(self) -> str:
        i = self.interval
        return f"{i.mean:.4g} [{i.low:.4g}, {i.high:.4g}] (95%, {len(self.probes)} probes)"


def hessian_top(
    model: nn.Module,
    data: Examples,
    *,
    loss: str | ExampleMetric = "cross-entropy",
    tolerance: float = 1e-3,
    seed: int = 0,
    layout: Layout | None = None,
) -> float:
    """The largest eigenvalue of the Hessian of the mean loss over all of the data, by Lanczos' method.

    The model runs in evaluation mode, and products are computed in the precision of its parameters. It needs two
    parameters at least, and operations that can be differentiated forward and backward.

    Args:
        model: As for `worst_case_rise`; it is not changed.
        data: As for `evaluate`.
        loss: A name in `METRICS` or an `ExampleMetric`.
        tolerance: Relative accuracy, > 0.
        seed: Seed of the first vector, ≥ 0.
        layout: As for `loss_surface`.

    Raises:
        ImportError: If curvlinops is not installed; says how to.
        ValueError: If `tolerance` is out of its range.

    Reference: Lanczos 1950, J. Res. Natl. Bur. Stand. 45, 255; products by Pearlmutter 1994, Neural Comput. 6, 147.
    """
    require_between(0, 1, tolerance=tolerance)
    require_whole(0, seed=seed)
    from scipy.sparse.linalg import eigsh  # slow to import

    with _hessian(model, data, loss, layout) as operator:
        first = torch.randn(operator.shape[0], generator=generator_for(seed, "lanczos")).double().numpy()
        found = eigsh(
            operator.to_scipy(np.float64), k=1, which="LA", v0=first, tol=tolerance, return_eigenvectors=False
        )
    return float(found[0])


def hessian_trace(
    model: nn.Module,
    data: Examples,
    *,
    loss: str | ExampleMetric = "cross-entropy",
    probes: int = PROBES,
    seed: int = 0,
    layout: Layout | None = None,
) -> Trace:
    """The trace of the Hessian of the mean loss over all of the data, by Hutchinson's estimator.

        tr H ≈ mean of vᵀHv,   v_i = ±1 with probability ½

    Args:
        model: As for `hessian_top`; it is not changed.
        data: As for `evaluate`.
        loss: A name in `METRICS` or an `ExampleMetric`.
        probes: Number of vectors v, ≥ 2.
        seed: Seed of the vectors, ≥ 0; vector 7 is the same whatever their number.
        layout: As for `loss_surface`.

    Raises:
        ImportError: If curvlinops is not installed; says how to.
        ValueError: If `probes` is out of its range.

    Reference: Hutchinson 1989, Commun. Stat. Simul. Comput. 18, 1059.
    """
    require_whole(2, probes=probes)
    require_whole(0, seed=seed)
    found = []
    with _hessian(model, data, loss, layout) as operator:
        for number in range(probes):
            generator = generator_for(seed, number, "hutchinson")
            signs = 2 * torch.randint(2, (operator.shape[0],), generator=generator) - 1
            v = signs.to(operator.device, operator.dtype)
            found.append(float(torch.dot(v.double(), (operator @ v).double())))
    return Trace(tuple(found))


def require_curvlinops() -> Any:
    """The class of curvlinops that is used here.

    Raises:
        ImportError: If curvlinops is not installed; says how to.
    """
    try:
        from curvlinops import HessianLinearOperator
    except ImportError as error:
        raise ImportError(f"Curvature needs curvlinops: {installing('curvature')}.") from error
    return HessianLinearOperator


class _Called(nn.Module):
    """The model as a function of a batch, in the form that curvlinops hands over."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, given: dict[str, Batch]) -> Any:
        return self.model(*given["batch"].inputs, **given["batch"].keywords)


class _MeanLoss(nn.Module):
    """The mean of a loss over the examples of a batch."""

    reduction = "mean"

    def __init__(self, loss: ExampleMetric) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Any, targets: Any) -> Tensor:
        return self.loss.score(output, targets).mean()


@contextmanager
def _hessian(model: nn.Module, data: Examples, loss: str | ExampleMetric, layout: Layout | None) -> Iterator[Any]:
    """The Hessian as curvlinops' linear operator."""
    operator = require_curvlinops()
    metric, layout = differentiable(loss), layout or Layout()
    parameters = list(movable(model).values())
    device = parameters[0].device
    with undisturbed(model):
        found = [b.to(device, channels_last=layout.channels_last) for b in with_targets(layout.batches(data))]
        yield operator(
            _Called(model),
            _MeanLoss(metric),
            parameters,
            [({"batch": batch}, batch.targets) for batch in found],
            check_deterministic=False,
            num_data=sum(map(len, found)),
            batch_size_fn=lambda given: len(given["batch"]),
        )
