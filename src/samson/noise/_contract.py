"""What every weight noise promises, checked alike for those of the catalogue and for one of a user's own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from safetensors.torch import load, save
from torch import Generator, Tensor

from samson._checks import promise
from samson.noise._base import State, WeightNoise, program_weight, read_weight
from samson.noise._device import DeviceNoise
from samson.noise._types import require_type

TIMES_S = (0.0, 1.0, 86_400.0, 1e8)
PAIRS = 20
"""Pairs of chips whose errors are compared."""


def check_noise(noise: WeightNoise) -> None:
    """Check that a noise keeps what `WeightNoise` promises, on small weights: a test for a noise of one's own.

    The same generator gives the same chip, in each dtype and memory format, and others give chips whose errors have
    nothing in common (no pattern in fixed places). All of a chip is in its state, which reading leaves as it is, and
    which may be stored. Readings are finite, of the weight's shape and of the time that they are asked for. Whether the
    formula is right is for a test of its own to say.

    Args:
        noise: At a level at which it changes many weights.

    Raises:
        AssertionError: If it breaks a promise: says which, and the mend. Errors of its own come as they are.
        ValueError: If it is no `WeightNoise`.

    Example:
        >>> from samson.noise import Gaussian
        >>> check_noise(Gaussian(0.1))
    """
    require_type("noise", noise, WeightNoise)
    for check in (
        _check_shape,
        _check_sizes,
        _check_state,
        _check_reading,
        _check_times,
        _check_draws,
        _check_formats,
        _check_chips,
    ):
        check(copy.deepcopy(noise))


def _check_shape(noise: WeightNoise) -> None:
    """A state of tensors, and a reading of the weight's shape and dtype."""
    for dtype in (torch.float32, torch.float64):
        w = _weights(dtype)
        state = _programmed(noise, w)
        for key, value in state.items():
            _promise(
                isinstance(value, Tensor),
                f"return tensors alone from `program`, but `{key}` is {_form(value)}. Make it a tensor",
            )
        read = noise.read(state, None, _generator())
        _promise(
            isinstance(read, Tensor) and (read.shape, read.dtype) == (w.shape, dtype),
            f"read {_form(w)}, as was programmed, but gave {_form(read)}. Read the whole weight, and convert what you "
            "draw or make by `.to(weight)`",
        )


def _check_sizes(noise: WeightNoise) -> None:
    """Finite readings, also of weights without a scale, alone or without axes."""
    for w in (_weights(), torch.zeros(3, 4), torch.tensor([[0.5]]), torch.tensor([2.0, -1.0]), torch.ones(())):
        state = _programmed(noise, w)
        for time_s in (None, TIMES_S[0], TIMES_S[-1]):
            read = _read_at(noise, state, time_s)
            _promise(
                read is None or (read.shape == w.shape and bool(read.isfinite().all())),
                f"read finite numbers of the weight's shape, but did not for {w.tolist()} at time_s={time_s}. Weights "
                "may all be zero, and have few axes: divide by nothing that may be 0",
            )


def _check_state(noise: WeightNoise) -> None:
    """Purity of programming and reading, and that a chip lies in its state alone."""
    w, fresh = _weights(), copy.deepcopy(noise)
    before = w.clone()
    state = _programmed(noise, w)
    _promise(torch.equal(w, before), "leave the weight that it programs as it is, but changed it. Change a copy")
    kept = copy.deepcopy(state)
    one = noise.read(state, None, _generator()).clone()
    _promise(
        torch.equal(noise.read(state, None, _generator()), one)
        and all(torch.equal(state[key], value) for key, value in kept.items()),
        "leave its state as it is and draw from its generator alone where it is read, but one generator gave two "
        "readings of a chip. Change copies, and pass `generator` to every draw",
    )
    loaded = load(save({key: value.clone(memory_format=torch.contiguous_format) for key, value in kept.items()}))
    noise.program(2 * w, _generator(7))
    _promise(
        all(_reads(one, loaded, reader) for reader in (noise, fresh)),
        "hold all of a chip in the state that `program` returns, but read another weight from it where another chip "
        "was programmed since, or none. Put what `read` needs into the state, and nothing into `self`",
    )


def _check_reading(noise: WeightNoise) -> None:
    """The weight and the factor of `reading`."""
    w = _weights()
    state = _programmed(noise, w)
    weight, factor = noise.reading(state, None, _generator())
    _promise(
        torch.equal(weight, noise.read(state, None, _generator())),
        "give one weight by `read` and `reading`, but they differ. Let one of them call the other",
    )
    _promise(
        factor is None or _spreads(factor, w.shape),
        f"give None by `reading`, or a factor that broadcasts to the weight's shape {tuple(w.shape)}, but gave "
        f"{_form(factor)}. Reduce with `keepdim=True`",
    )


def _check_times(noise: WeightNoise) -> None:
    """Readings at the noise's own time, and at others."""
    state = _programmed(noise, _weights())
    own, one = noise.default_time_s, noise.read(state, None, _generator())
    _promise(
        own is None or torch.equal(noise.read(state, own, _generator()), one),
        f"read at its `default_time_s`, {own}, where a reading names no time, but read another weight. Take that for "
        "None",
    )
    for time_s in TIMES_S:
        read = _read_at(noise, state, time_s)
        if isinstance(noise, DeviceNoise) and read is not None:
            aged = replace(noise, time_s=time_s)
            _promise(
                torch.equal(read, aged.read(state, None, _generator())),
                f"read at the time that is asked for, but at {time_s} s gave another weight than {aged}. Let "
                "`read_devices` use its `time_s`, not `self.time_s`",
            )
        other = _read_at(noise, state, time_s, seed=1) if noise.is_fixed else None
        _promise(
            other is None or torch.equal(one, other),
            f"give the same in each reading where `is_fixed` is True, but at {time_s} s gave another weight. Say False",
        )


def _check_draws(noise: WeightNoise) -> None:
    """Draws from the generator alone, the same in each precision."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        w = _weights(dtype)
        with torch.random.fork_rng(devices=[]):
            torch.rand(3)  # no seed leads here
            before = torch.get_rng_state()
            one, two = _noisy(noise, w), _noisy(noise, w)
            untouched = torch.equal(torch.get_rng_state(), before)
        _promise(
            untouched and torch.equal(one, two),
            "draw from its generator alone, but one generator gave two chips, or torch's global random state was "
            "changed. Pass `generator` to every draw, and seed nothing",
        )
        if dtype.itemsize == 2:
            _promise(
                torch.equal(one, _noisy(noise, w.float()).to(dtype)),
                f"give in {dtype} the chip of float32, rounded, but gave another. Leave dtypes to the chip",
            )


def _check_formats(noise: WeightNoise) -> None:
    """Draws in logical order, whatever the strides."""
    w = torch.randn(4, 3, 5, 5, generator=_generator(3))
    one = _noisy(noise, w)
    for other in (w.to(memory_format=torch.channels_last), w.transpose(0, 1).contiguous().transpose(0, 1)):
        _promise(
            torch.equal(_noisy(noise, other), one),
            "give the same chip in any memory format, but channels-last or transposed weights gave another. Draw by "
            "`standard_normal(weight, generator)`, not into tensors with the weight's strides",
        )


def _check_chips(noise: WeightNoise) -> None:
    """Other generators give other chips, whose errors have nothing in common where weights are equal."""
    levels = torch.tensor([1.0, -1.0, 0.5, -0.25, 0.1], dtype=torch.float64)
    place = (torch.arange(20).view(-1, 1) + torch.arange(30)) % len(levels)  # each in every row, column and tile
    chips = torch.stack([_noisy(noise, levels[place], seed) for seed in range(2 * PAIRS)])
    differ = bool((chips != chips[0]).any())
    _promise(
        noise.is_random == differ,
        f"say by `is_random` whether chips may differ, but says {noise.is_random}, and chips of {2 * PAIRS} generators "
        f"{'differed' if differ else 'were the same'}. Draw from the generator, or say the other (errors that are rare "
        "are checked at a higher rate)",
    )
    if not noise.is_random:
        return
    errors = chips.flatten(1)
    for level in range(len(levels)):
        equal = place.flatten() == level
        errors[:, equal] -= errors[:, equal].mean(1, keepdim=True)
    shared = (errors[:PAIRS] * errors[PAIRS:]).mean(1)  # of each pair: few draws a chip make it large, of either sign
    shared = shared.where(shared.abs() > 1e-20, 0.0)  # what rounding leaves where a chip has one error
    _promise(
        not shared.mean() > 6 * shared.std() / PAIRS**0.5,
        "draw each chip from its own generator, but chips of different generators have errors in common: at the same "
        "places, where weights are equal. Make no generator with a fixed seed; hardware that errs by place keeps all "
        "else that was checked before",
    )


def _promise(kept: bool, words: str) -> None:
    promise(kept, f"`noise` must {words}")


def _generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def _weights(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor([[[-0.9, 0.1], [0.0, 0.3]], [[0.02, -0.5], [0.4, -0.004]]], dtype=dtype)


def _programmed(noise: WeightNoise, weight: Tensor) -> State:
    state = noise.program(weight, _generator())
    _promise(
        isinstance(state, Mapping),
        f"return a dict of tensors from `program`, but gave {_form(state)}. Give it a name: {{'weight': …}}",
    )
    return {**state, **noise.program_chip(_generator())}


def _noisy(noise: WeightNoise, weight: Tensor, seed: int = 0) -> Tensor:
    """A weight as a chip reads it."""
    state = program_weight(noise, weight, _generator(seed), noise.program_chip(_generator(seed)))
    return read_weight(noise, state, weight.shape, None, _generator(seed + 1_000))[0]


def _read_at(noise: WeightNoise, state: State, time_s: float | None, seed: int = 0) -> Tensor | None:
    """A reading; None at a time for which the noise has no model."""
    try:
        return noise.read(state, time_s, _generator(seed))
    except ValueError:
        if time_s is None:
            raise
        return None


def _reads(weight: Tensor, state: State, noise: WeightNoise) -> bool:
    try:
        return torch.equal(noise.read(state, None, _generator()), weight)
    except AttributeError:  # of what it holds itself
        return False


def _form(value: object) -> str:
    """What a message says of a tensor, or of what should be one."""
    kind = f"a {type(value).__name__}"
    return f"{kind} of shape {tuple(value.shape)} in {value.dtype}" if isinstance(value, Tensor) else kind


def _spreads(factor: object, shape: torch.Size) -> bool:
    """Whether it is a tensor that broadcasts to a shape."""
    return (
        isinstance(factor, Tensor)
        and factor.ndim <= len(shape)
        and all(one in (1, size) for one, size in zip(factor.shape[::-1], shape[::-1], strict=False))
    )
