"""Curvature: the largest eigenvalue and the trace of the loss's Hessian, by products of the Hessian with vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from samson._batches import Examples, batches_of, require_module
from samson._checks import require, require_between, require_whole
from samson._shown import Shown
from samson.evaluation import ExampleMetric, same_draws
from samson.noise import generator_for
from samson.sharpness._surface import Surface, loss_surface, undisturbed
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
        return f"{self.interval} (95%, {len(self.probes)} probes)"


def hessian_top(
    model: nn.Module,
    data: Examples,
    *,
    loss: str | ExampleMetric = "cross-entropy",
    tolerance: float = 1e-3,
    seed: int = 0,
) -> float:
    """The largest eigenvalue of the Hessian of the mean loss over all of the data, by Lanczos' method.

    The model runs in evaluation mode, and products are computed in the precision of its parameters, summed over batches
    in float64. It needs two weights at least, and operations that can be differentiated twice.

    Args:
        model: As for `worst_case_rise`; it is not changed.
        data: As for `evaluate`; all batches are kept in memory, since they are run through many times.
        loss: A name in `METRICS` or an `ExampleMetric`.
        tolerance: Relative accuracy, > 0.
        seed: Seed of the first vector, ≥ 0.

    Raises:
        ValueError: If `tolerance` is out of its range, there is one weight alone, or as for `worst_case_rise`.

    Reference: Lanczos 1950, J. Res. Natl. Bur. Stand. 45, 255; products by Pearlmutter 1994, Neural Comput. 6, 147.
    """
    require_between(0, 1, tolerance=tolerance)
    require_whole(0, seed=seed)
    from scipy.sparse.linalg import LinearOperator, eigsh  # slow to import

    with _products(model, data, loss) as (size, product):
        require(size > 1, "model", "have at least 2 weights (for one, ask `hessian_trace`)", size)
        first = torch.randn(size, generator=generator_for(seed, "lanczos"), device="cpu").double()
        if not product(first).any():
            return 0.0  # no curvature at all, from which Lanczos' method cannot start
        hessian = LinearOperator((size, size), lambda v: product(torch.from_numpy(v)).numpy(), dtype=np.float64)
        found = eigsh(hessian, k=1, which="LA", v0=first.numpy(), tol=tolerance, return_eigenvectors=False)
    return float(found[0])


def hessian_trace(
    model: nn.Module,
    data: Examples,
    *,
    loss: str | ExampleMetric = "cross-entropy",
    probes: int = PROBES,
    seed: int = 0,
) -> Trace:
    """The trace of the Hessian of the mean loss over all of the data, by Hutchinson's estimator.

        tr H ≈ mean of vᵀHv,   v_i = ±1 with probability ½

    Args:
        model: As for `hessian_top`; it is not changed.
        data: As for `evaluate`; all batches are kept in memory, since they are run through many times.
        loss: A name in `METRICS` or an `ExampleMetric`.
        probes: Number of vectors v, ≥ 2.
        seed: Seed of the vectors, ≥ 0; vector 7 is the same whatever their number.

    Raises:
        ValueError: If `probes` is out of its range, or as for `worst_case_rise`.

    Reference: Hutchinson 1989, Commun. Stat. Simul. Comput. 18, 1059.
    """
    require_whole(2, probes=probes)
    require_whole(0, seed=seed)
    found = []
    with _products(model, data, loss) as (size, product):
        for number in range(probes):
            generator = generator_for(seed, number, "hutchinson")
            v = 2 * torch.randint(2, (size,), generator=generator, device="cpu").double() - 1
            found.append(float(v @ product(v)))
    return Trace(tuple(found))


@contextmanager
def _products(
    model: nn.Module, data: Examples, loss: str | ExampleMetric
) -> Iterator[tuple[int, Callable[[Tensor], Tensor]]]:
    """The number of weights, and the product of the Hessian with a vector; every product sees the same batches."""
    require_module(model)
    with undisturbed(model), loss_surface(model, list(batches_of(data)), loss) as surface:
        yield sum(p.numel() for p in surface.parameters), partial(_product, surface)


def _product(surface: Surface, vector: Tensor) -> Tensor:
    """The gradient of gᵀv, batch by batch; the vector has all weights in a row, in float64 on the CPU."""
    weights = surface.parameters
    parts = torch.split(vector, [w.numel() for w in weights])
    directions = [part.to(w).view(w.shape) for part, w in zip(parts, weights, strict=True)]
    totals, examples = [torch.zeros_like(w, dtype=torch.float64) for w in weights], 0
    eager = torch.compiler.set_stance("force_eager")  # compiled code has no second derivative
    with eager, torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), _WeightNormByFormula(), same_draws():
        for losses in surface.losses_of_batches():
            gradients = _gradients(losses.sum(), weights, create_graph=True)
            slope = torch.stack([(g * v).sum() for g, v in zip(gradients, directions, strict=True)]).sum()
            if slope.requires_grad:  # a loss that is linear in the weights has no curvature
                for total, part in zip(totals, _gradients(slope, weights), strict=True):
                    total.add_(part.detach())
            examples += len(losses)
    return torch.cat([total.flatten() for total in totals]).cpu() / examples


def _gradients(value: Tensor, weights: Sequence[Tensor], *, create_graph: bool = False) -> tuple[Tensor, ...]:
    """The gradient of a number, zero for a weight that has no part in it."""
    return torch.autograd.grad(value, weights, create_graph=create_graph, allow_unused=True, materialize_grads=True)


class _WeightNormByFormula(TorchFunctionMode):
    """Weight norm without torch's own kernel, whose second derivative takes the norms as constants."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return (_weight_norm if func is torch._weight_norm else func)(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))
