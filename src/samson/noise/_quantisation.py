"""Weights with few bits: uniform quantisation, symmetric and signed or asymmetric and unsigned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from samson._checks import require, require_one_of
from samson.noise._base import FixedNoise
from samson.noise._types import require_types
from samson.noise._units import reduce_by


@dataclass(frozen=True)
class Quantize(FixedNoise):
    """Weights rounded to the values that a few bits can hold; deterministic.

        symmetric    w ≈ Δ·round(w/Δ),                     Δ = max|w|/(2^(bits−1) − 1)
        asymmetric   w ≈ min w + Δ·round((w − min w)/Δ),   Δ = (max w − min w)/(2^bits − 1)

    Halves are rounded to even: those of the quotient as it is computed, in float32 (float64 for weights of float64),
    where an exact half may come out beside it. A range of zero has Δ = 0: such weights are exact, and no error in a
    code moves them. The lowest code of two's complement, −2^(bits−1), is not used.

    Args:
        bits: 2 to 8.
        scheme: "symmetric" (signed) or "asymmetric" (unsigned).
        per: Weights that share one step: "tensor" or "channel" (output channel).

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> Quantize(2)(torch.tensor([[0.9, -0.2, 0.5]]), torch.Generator())
        tensor([[0.9000, 0.0000, 0.9000]])

    Reference: Stutz et al. 2021, arXiv 2006.13977 [MEM]; no constants.
    """

    bits: int = 8
    scheme: str = "symmetric"
    per: str = "tensor"

    def __post_init__(self) -> None:
        require_types(self)
        require(self.bits in range(2, 9), "bits", "be a whole number from 2 to 8", self.bits)
        require_one_of(("symmetric", "asymmetric"), scheme=self.scheme)
        require_one_of(("tensor", "channel"), per=self.per)

    @property
    def is_random(self) -> bool:
        """False; a type derived from it may round by chance."""
        return type(self) is not Quantize

    def noisy(self, weight: Tensor, generator: Generator) -> Tensor:
        """Round."""
        return self.decode(*self.encode(weight))

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (int32, contiguous), and Δ and the weight of code 0, one a part, which broadcast with the weight."""
        granularity = "layer" if self.per == "tensor" else "channel"
        if self.scheme == "symmetric":
            zero = weight.new_zeros(())
            step = reduce_by(weight.abs(), granularity, "amax") / (2 ** (self.bits - 1) - 1)
        else:
            zero = reduce_by(weight, granularity, "amin")
            step = (reduce_by(weight, granularity, "amax") - zero) / (2**self.bits - 1)
        shares = (weight - zero) / step.where(step > 0, 1.0)
        return shares.round_().to(torch.int32, memory_format=torch.contiguous_format), step, zero

    def decode(self, codes: Tensor, step: Tensor, zero: Tensor) -> Tensor:
        """Weights of codes: code·Δ + weight of code 0."""
        return (codes * step).add_(zero)

    def to_words(self, codes: Tensor) -> Tensor:
        """The lowest bits of codes of any integer type, as a memory holds them: from 0 to 2^bits − 1, a byte each.

        Raises:
            ValueError: If the codes are of no integer type.
        """
        require(not codes.is_floating_point(), "words", "be of an integer type", codes.dtype)
        return codes.to(torch.uint8).bitwise_and(2**self.bits - 1)

    def from_words(self, words: Tensor) -> Tensor:
        """The inverse of `to_words`: codes in int32."""
        codes = words.to(torch.int32)
        if self.scheme == "asymmetric":
            return codes
        half = 2 ** (self.bits - 1)
        return codes.bitwise_xor(half).sub_(half)
