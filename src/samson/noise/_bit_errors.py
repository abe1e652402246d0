"""Low-voltage memory: bits of quantised weights that flip at random, or cells that are stuck."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from samson._checks import require_one_of
from samson.noise._base import State, WeightNoise
from samson.noise._faults import check_rates
from samson.noise._quantisation import Quantize
from samson.noise._types import require_types
from samson.noise._voltage import RATES, RatesByVoltage, bit_error_rate, in_tuples, rate_at

DIGITS = 24
"""Binary digits of a bit error rate: those of a uniform float32."""


@dataclass(frozen=True)
class BitErrors(WeightNoise):
    """Weights quantised to a few bits, whose memory has faulty bits; read with the scale of the clean weights.

    Each bit of each weight is faulty independently with probability p: it flips (`fault="flip"`), or its cell is stuck
    at 0 or at 1, one as likely as the other (`fault="stuck"`), so that about half the faulty cells change a value.
    Faults at p' ≤ p are a subset of those at p, within one format.

    Faults are drawn anew at each reading. With `persistent=True` the pattern is the chip's own, drawn once. Cells that
    are stuck for good need both: `fault="stuck"` alone draws other cells in each reading.

    Args:
        rate: p, a fraction from 0 to 1, rounded to a multiple of 2^−24 = 6e-8; or
        voltage: V/V_min in place of `rate`; see `bit_error_rate`.
        bits: 2 to 8.
        scheme: "asymmetric" (unsigned) or "symmetric" (signed, two's complement).
        per: Weights that share one step: "tensor" or "channel".
        fault: "flip" or "stuck".
        persistent: Whether the pattern is fixed for the chip's life.
        rates_by_voltage: The memory's bit error rates as pairs (V/V_min, rate), in tuples, lists or an array (see
            `bit_error_rate`); those of Stutz et al. by default. It matters only with `voltage`.

    Raises:
        ValueError: If an argument is out of range, or not exactly one of `rate` and `voltage` is given.

    Example:
        >>> BitErrors(0.01, bits=4)(torch.eye(3), torch.Generator().manual_seed(0)).shape
        torch.Size([3, 3])

    Reference: Stutz et al. 2021, arXiv 2006.13977 (flips); NeuralFuse (stuck cells) [MEM].
    """

    rate: float | None = None
    voltage: float | None = None
    bits: int = 8
    scheme: str = "asymmetric"
    per: str = "tensor"
    fault: str = "flip"
    persistent: bool = False
    rates_by_voltage: RatesByVoltage = RATES

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates_by_voltage", in_tuples(self.rates_by_voltage))
        require_types(self)
        if (self.rate is None) == (self.voltage is None):
            raise ValueError(f"Give one of `rate` and `voltage`, got {self.rate!r} and {self.voltage!r}.")
        if self.rate is not None:
            check_rates(rate=self.rate)
        if self.voltage is not None:
            bit_error_rate(self.voltage, self.rates_by_voltage)
        require_one_of(("flip", "stuck"), fault=self.fault)
        _ = self.format
        if self.probability > 0 and round(self.probability * 2**DIGITS) == 0:
            warnings.warn(
                f"A bit error rate of {self.probability!r} is rounded to 0, the nearest multiple of 2**-{DIGITS} = "
                "6e-8: no bit is faulty. Give a rate above 3e-8, or a lower voltage.",
                stacklevel=3,
            )

    @property
    def format(self) -> Quantize:
        """How the weights are stored."""
        return Quantize(self.bits, self.scheme, self.per)

    @property
    def is_fixed(self) -> bool:
        """Whether the pattern persists."""
        return self.persistent

    @property
    def probability(self) -> float:
        """p, also where a voltage was given."""
        if self.rate is not None:
            return self.rate
        assert self.voltage is not None
        return rate_at(self.voltage, self.rates_by_voltage)

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes of any integer type, and the step and the weight of code 0, which broadcast with the weight.

        A subclass with a quantiser of its own replaces this. Of codes the lowest `bits` are stored.
        """
        return self.format.encode(weight)

    def program(self, weight: Tensor, generator: Generator) -> State:
        """Store the words, with the faults if they persist."""
        codes, step, zero = self.encode(weight)
        words = self.format.to_words(codes)
        if self.persistent:
            words = self._faulty(words, generator)
        return {"words": words, "step": step, "zero": zero}

    def read(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Read the words, with new faults unless they persist."""
        words = self.format.to_words(state["words"])
        if not self.persistent:
            words = self._faulty(words, generator)
        return self.format.decode(self.format.from_words(words), state["step"], state["zero"])

    def _faulty(self, words: Tensor, generator: Generator) -> Tensor:
        faulty = bits_at_rate(self.probability, words, generator).bitwise_and_(2**self.format.bits - 1)
        if self.fault == "flip":
            return words.bitwise_xor(faulty)
        stuck_at = torch.randint(256, words.shape, generator=generator, dtype=torch.uint8, device=words.device)
        return words.bitwise_and(~faulty).bitwise_or_(stuck_at.bitwise_and_(faulty))


def bits_at_rate(rate: float, words: Tensor, generator: Generator) -> Tensor:
    """Bytes in the shape of `words` whose bits are 1 independently, each where its uniform number is below the rate.

    The binary digits of the uniform numbers are compared with those of the rate, for all bits of a byte at once; what
    is drawn are their inverted digits. Every rate takes the same draw: the bits at a rate are a subset of those above.
    """
    size = words.numel() * DIGITS // 8
    drawn = torch.empty(size, dtype=torch.int64, device=words.device).random_(-(2**63), None, generator=generator)
    largest = round(rate * 2**DIGITS) - 1  # of the numbers below the rate, in units of the last digit
    if largest < 0:
        return torch.zeros_like(words)
    at_most = torch.full_like(words, 255)
    for place, inverted in enumerate(drawn.view(torch.uint8).view(DIGITS, *words.shape)):  # from the last digit on
        if largest >> place & 1:
            at_most.bitwise_or_(inverted)  # a 0 below a 1 decides for the bit
        else:
            at_most.bitwise_and_(inverted)  # and a 1 above a 0 against it
    return at_most
