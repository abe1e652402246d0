"""Noise-injection training: every mini-batch sees freshly drawn noisy weights, the clean ones are updated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch
from torch import Generator, Tensor

from samson._checks import require_whole
from samson._select import Select
from samson.optim._matrices import ChipWeight, change_matrices
from samson.optim.rules._base import Rule


@dataclass(frozen=True)
class NoiseInjection(Rule):
    """Run the one forward and backward pass at noisy weights, then step from the clean ones.

    What lies on a chip is drawn anew for each step: the weight matrices of linear, convolution, attention, recurrent
    and bilinear layers (if no model is known, what has two axes or more with more than one element). Scales, biases
    and embeddings stay clean, and so do groups with `perturb=False`. The draw derives from (seed, step), so a resumed
    training repeats it, and every process draws the same. Weights that a layer computes (weight norm, pruning, other
    parametrizations) are refused: noise on their parts has another size. Devices whose drift is compensated (`PCM` at
    a time) wait for a GPU at each weight; `compensation=None` does not.

    Args:
        noise: Gives a noisy copy of a weight from `(weight, generator)`; any noise of `samson.noise` does.
        seed: Seed of the draws, ≥ 0.
        rho: Share ρ ≥ 0 of the noise that is added.
        select: Which layers lie on the chip, as for `samson.noise.on_chip`; needs the model.

    Raises:
        TypeError: If `noise` cannot be called, or is a class.
        ValueError: If `seed` or `rho` is out of its range.

    Example:
        >>> rule = NoiseInjection(lambda w, generator: w + 0.1 * torch.randn(w.shape, generator=generator))

    Reference: Joshi et al. 2020, Nature Communications 11, 2473 (noise relative to the layer's largest weight).
    """

    noise: Callable[[Tensor, Generator], Tensor]
    seed: int = 0
    rho: float = field(default=1.0, kw_only=True)
    select: Select = field(default=None, kw_only=True)

    on_chip = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.noise) or isinstance(self.noise, type):
            raise TypeError(
                f"`noise` must be callable as noise(weight, generator), such as Gaussian(0.1), got {self.noise!r}."
            )
        require_whole(0, seed=self.seed)

    def group_settings(self) -> dict[str, Any]:
        """The share of the noise, and how many draws a parameter group has seen, which a checkpoint then holds."""
        return super().group_settings() | {"injections": 0}

    def displace(self, weights: Sequence[ChipWeight], shares: Mapping[Tensor, float | Tensor], step: int) -> None:
        """Overwrite each weight with its noisy copy of this step; on one device the order of weights is the draw's.

        Args:
            weights: What lies on the chip.
            shares: The share of the noise for each parameter.
            step: Number of the draw.
        """
        key = blake2b(f"{self.seed}/{step}".encode(), digest_size=8).digest()
        generators: dict[torch.device, Generator] = {}

        def drawn(weight: ChipWeight, matrix: Tensor) -> Tensor:
            if matrix.device not in generators:
                generators[matrix.device] = Generator(matrix.device).manual_seed(int.from_bytes(key) >> 1)
            noisy, share = self.noise(matrix, generators[matrix.device]), shares[weight.parameter]
            whole = isinstance(share, (int, float)) and share == 1
            share = share.to(matrix.device) if isinstance(share, Tensor) else share
            return noisy if whole else matrix.lerp(noisy.to(matrix.dtype), share)

        change_matrices(weights, drawn)
