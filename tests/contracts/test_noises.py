"""What every weight noise promises, checked for each row of the catalogue."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Generator, Tensor

from samson.noise import NOISES, Gaussian, WeightNoise

LEVEL = 0.2


@dataclass
class Case:
    """A noise, and the standard deviation of its error on each weight, written independently."""

    noise: WeightNoise
    deviation: Callable[[Tensor], Tensor]


def largest_of_channel(w: Tensor) -> Tensor:
    return torch.stack([torch.full_like(row, max(abs(v) for v in row.flatten().tolist())) for row in w])


CASES = {
    "gaussian": Case(NOISES["gaussian"](LEVEL), lambda w: torch.full_like(w, LEVEL * max(w.max(), -w.min()))),
    "gaussian-channel": Case(NOISES["gaussian-channel"](LEVEL), lambda w: LEVEL * largest_of_channel(w)),
    "gaussian-multiplicative": Case(NOISES["gaussian-multiplicative"](LEVEL), lambda w: LEVEL * w.abs()),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def weights() -> Tensor:
    return torch.tensor([[[-0.9, 0.1], [0.0, 0.3]], [[0.02, -0.5], [0.4, -0.004]]], dtype=torch.float64)


def test_each_noise_of_the_catalogue_has_a_case() -> None:
    assert set(CASES) == set(NOISES)


@every_case
def test_moments_are_the_closed_form(case: Case) -> None:
    n, w = 40_000, weights()
    g = generator()
    errors = torch.stack([case.noise(w, g) for _ in range(n)]) - w
    deviation = case.deviation(w)
    mean_error = errors.mean(dim=0).abs() - 5 * deviation / math.sqrt(n)
    variance_error = (errors.var(dim=0) - deviation**2).abs() - 5 * deviation**2 * math.sqrt(2 / n)
    assert (mean_error <= 0).all()
    assert (variance_error <= 0).all()
    # The check can fail: 5 % more noise is outside.
    louder = errors * 1.05
    assert ((louder.var(dim=0) - deviation**2).abs() > 5 * deviation**2 * math.sqrt(2 / n)).any()
    # Errors of different weights are independent: no correlation beyond its standard error.
    active = errors.flatten(1)[:, (deviation > 0).flatten()]
    off = torch.corrcoef(active.T) - torch.eye(active.shape[1], dtype=torch.float64)
    assert off.abs().max() < 5 / math.sqrt(n)


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_it_is_pure(case: Case, dtype: torch.dtype) -> None:
    w = weights().to(dtype)
    before, state = w.clone(), torch.get_rng_state()
    one, two, other = case.noise(w, generator()), case.noise(w, generator()), case.noise(w, generator(1))
    assert one.dtype == dtype
    assert one.shape == w.shape
    assert torch.equal(w, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_cast_float32_draw(case: Case, dtype: torch.dtype) -> None:
    w = weights().to(dtype)
    assert torch.equal(case.noise(w, generator()), case.noise(w.float(), generator()).to(dtype))


@every_case
def test_a_chip_does_not_depend_on_the_memory_format(case: Case) -> None:
    w = torch.randn(4, 3, 5, 5, generator=generator(3))
    one = case.noise(w, generator())
    assert torch.equal(case.noise(w.to(memory_format=torch.channels_last), generator()), one)
    transposed = w.transpose(0, 1).contiguous().transpose(0, 1)
    assert not transposed.is_contiguous()
    assert torch.equal(case.noise(transposed, generator()), one)


@every_case
def test_edge_cases_stay_finite(case: Case) -> None:
    for w in (torch.zeros(3, 4), torch.tensor([[0.5]]), torch.tensor([2.0, -1.0]), torch.zeros(0, 4)):
        noisy = case.noise(w, generator())
        assert noisy.shape == w.shape
        assert noisy.isfinite().all()
    assert (case.noise(torch.zeros(3, 4), generator()) == 0).all()


@every_case
def test_state_is_read_again_the_same(case: Case) -> None:
    state = case.noise.program(weights(), generator())
    kept = copy.deepcopy(state)
    one, two = (case.noise.read(state, None, generator(seed)) for seed in (0, 1))
    assert torch.equal(one, two)  # none of these noises has read noise
    assert all(torch.equal(state[key], kept[key]) for key in kept)


@pytest.mark.parametrize("name", NOISES)
def test_level_zero_is_no_noise_and_levels_share_their_draws(name: str) -> None:
    w = weights()
    assert torch.equal(NOISES[name](0.0)(w, generator()), w)
    small, large = (NOISES[name](level)(w, generator()) - w for level in (0.1, 0.3))
    assert torch.allclose(3 * small, large, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="must be ≥ 0"):
        NOISES[name](-0.1)


def test_an_unknown_unit_is_named() -> None:
    with pytest.raises(ValueError, match="`per` must be one of layer, channel, weight, got 'row'"):
        Gaussian(0.1, per="row")
