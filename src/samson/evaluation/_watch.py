"""What a process watches over passes through a model: that noise reaches outputs, and all passes see the same data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

from samson._batches import Batch
from samson.evaluation._scoring import device_of, with_targets
from samson.noise import Chip, Compose, Gaussian, Select, deploy

COLUMNS = 64
"""Entries of an example that are compared, of each of its tensors."""
PROBES = 8
"""Chips with errors as large as the weights on which outputs are compared before noise counts as not reaching them."""


@dataclass(eq=False)
class Watch:
    """What was seen in this process.

    Args:
        ordered: Whether examples must come in the same order for every chip.
        reached: Whether noise was seen to reach the outputs.
        examples: A key of each example of the first pass; None before it.
    """

    ordered: bool = False
    reached: bool = False
    examples: NDArray[np.uint64] | None = None

    def batches(self, batches: Iterable[Any]) -> Iterable[Any]:
        """The batches, which are compared with those of the first pass as they go by; a list gives the same again."""
        return batches if type(batches) in (list, tuple) else self._compared(batches)

    def _compared(self, batches: Iterable[Any]) -> Iterator[Batch]:
        found = [np.empty(0, np.uint64)]
        for batch in with_targets(batches):
            found.append(_keys(batch))
            yield batch
        keys = np.concatenate(found)
        if self.examples is None:
            self.examples = keys
        _require_same(self.examples, keys, self.ordered)

    def look(self, batch: Batch, chip: Chip, time_s: float | None, select: Select, run: Callable[..., Any]) -> None:
        """Look once whether noise and periphery of the user's own are pure, and whether noise reaches the outputs.

        Raises:
            ValueError: If a chip is not the same twice, or outputs without noise or behind such a periphery are not, or
                outputs are the same with errors as large as the weights, though the noise changes these.
        """
        _require_pure(chip, time_s, select)
        self.reached = _reaches(batch, chip, time_s, select, run)
        if not self.reached:
            raise ValueError(
                "`model` must compute with the weights that lie on the chip, but its outputs are the same bit for bit "
                "with their noise and with errors as large as the weights: every chip would give the value without "
                "noise. Give the model before weights were cached, frozen, packaged, scripted or quantised, or leave "
                "out with `select` what it does not use."
            )


def _is_ours(part: object) -> bool:
    return type(part).__module__.startswith("samson.")


def _require_pure(chip: Chip, time_s: float | None, select: Select) -> None:
    """Refuse a noise from outside of this package by which a chip is another each time it is read or programmed."""
    if all(map(_is_ours, chip.noise.noises if isinstance(chip.noise, Compose) else (chip.noise,))):
        return
    program = partial(deploy, chip.model, chip.noise, seed=chip.seed, select=select, periphery=chip.periphery)
    kept = program(trial=chip.trial)  # the chip itself may be programmed anew at each reading
    first, twin = kept.read(time_s), program(trial=chip.trial)
    program(trial=chip.trial + 1)  # what a noise keeps in itself is another chip's from here on
    for other in (kept, twin):
        for name, weight in other.read(time_s).items():
            if not torch.allclose(weight, first[name], rtol=0, atol=0, equal_nan=True):
                raise ValueError(
                    "`noise` must draw from its generator alone, leave its state as it is and keep nothing of a chip "
                    f"elsewhere, but with {chip.noise} the same chip had two values of `{name}`. Pass `generator=` to "
                    "every draw, and change copies. `samson.noise.check_noise` finds where."
                )


def _reaches(batch: Batch, chip: Chip, time_s: float | None, select: Select, run: Callable[..., Any]) -> bool:
    def outputs(drawn: int = 0) -> list[Any]:
        """Of the batch, where so many numbers were drawn from global state before."""
        copy = batch.to(device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for source in {torch.device("cpu"), device}:
                torch.rand(drawn, device=source)
            return _tensors(run(*copy.inputs, **copy.keywords))

    def behind(other: Chip, time_s: float | None, drawn: int = 0) -> list[Any]:
        with other.at(time_s, reading=0):
            return outputs(drawn)

    def changed(other: Chip, time_s: float | None) -> bool:
        there = behind(other, time_s)
        return len(there) != len(clean) or not all(map(torch.equal, there, clean))

    device = device_of(chip.model)
    clean = outputs()
    if not all(map(_alike, clean, outputs())):
        raise ValueError(
            "`model` must draw from torch's global random state alone in evaluation mode, but without noise its "
            "outputs for one batch differ from pass to pass. Draw by `torch.randn` and its like, without a generator, "
            "and change no buffer."
        )
    if chip.periphery is not None and not _is_ours(chip.periphery):
        drawn = int(all(map(_alike, clean, outputs(1))))  # only where the model itself draws nothing
        if not all(map(_alike, behind(chip, time_s), behind(chip, time_s, drawn))):
            raise ValueError(
                f"`periphery` must draw from its generator alone, but with {type(chip.periphery).__name__} the same "
                "chip had two outputs for one batch. Pass `generator=` to every draw, and change nothing."
            )
    if not clean or changed(chip, time_s):
        return True
    if any(
        changed(deploy(chip.model, Gaussian(1.0), trial=trial, select=select, keep=False), None)
        for trial in range(PROBES)
    ):
        return True
    held = chip.read(time_s)
    return all(torch.equal(held[t.name], t.weight) for t in chip.tensors)


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs differ by no more than the order in which a device may add."""
    if not one.is_floating_point() or not one.numel():
        return True
    bound = max(1e-3, 8 * torch.finfo(one.dtype).eps)
    return one.shape == other.shape and not bool((one.float() - other).abs().amax() > bound * one.abs().amax())


def _tensors(output: Any) -> list[Tensor]:
    """All tensors in an output, also in objects with attributes."""
    leaves = [leaf for leaf in tree_leaves(output) if leaf is not None]
    opened = [[leaf] if isinstance(leaf, Tensor) else tree_leaves(getattr(leaf, "__dict__", None)) for leaf in leaves]
    return [leaf for group in opened for leaf in group if isinstance(leaf, Tensor)]


def _keys(batch: Batch) -> NDArray[np.uint64]:
    """A number for each example, from its tensors' bits at up to 64 places each."""
    size = len(batch)
    keys = np.zeros(size, np.uint64)
    weights = np.random.default_rng(0)
    for leaf in tree_leaves((batch.inputs, batch.targets, batch.keywords)):
        if (
            isinstance(leaf, Tensor)
            and leaf.layout is torch.strided
            and leaf.ndim
            and len(leaf) == size
            and leaf.numel()
        ):
            rows = leaf.detach().flatten(1) if leaf.ndim > 1 else leaf.detach()[:, None]
            picked = rows[:, :: math.ceil(rows.shape[1] / COLUMNS)].cpu().resolve_conj()
            bits = picked.contiguous().view(torch.uint8).numpy()
            keys += bits.astype(np.uint64) @ weights.integers(2**63, size=bits.shape[1], dtype=np.uint64)
    return keys


def _require_same(first: NDArray[np.uint64], later: NDArray[np.uint64], ordered: bool) -> None:
    if np.array_equal(first, later):
        return
    require_as_many([len(first), len(later)])
    if not np.array_equal(np.sort(first), np.sort(later)):
        raise ValueError(
            "`data` must hold the same examples in every pass, got others in a later one: they change from pass to "
            "pass, by random numbers of numpy or Python, or in workers that persist. Leave random changes out, or give "
            "list(data)."
        )
    if ordered:
        raise ValueError(
            "`data` must come in the same order for every chip for a population, got another on a later one. Use "
            "shuffle=False."
        )


def require_as_many(counts: Iterable[int]) -> None:
    """Refuse numbers of examples that differ from chip to chip."""
    found = sorted(set(counts))
    if len(found) > 1:
        raise ValueError(
            f"`data` must hold the same examples in every pass, got {' and '.join(map(str, found))} of them. Give a "
            "list of batches, or a loader of fixed length and order."
        )
