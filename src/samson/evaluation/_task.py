"""One trial: a model on one chip, scored on all of the data."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from samson._batches import Batch
from samson._errors import reason
from samson._modes import evaluation_mode
from samson.evaluation._layout import Layout
from samson.evaluation._metric import Metric
from samson.evaluation._scoring import Scores, device_of, same_draws, scores, with_targets
from samson.evaluation._watch import Watch
from samson.noise import Chip, Periphery, Select, WeightNoise, deploy, multiply_adds, reestimated_norms


@dataclass(frozen=True, eq=False)
class Task:
    """All that a trial needs, except its number: the same number gives the same scores in every process.

    Args:
        model: The model.
        batches: The data, in batches.
        noise: What the hardware does to a weight.
        metric: What is measured.
        seed: Seed of the set of chips.
        layout: How examples are put through the model.
        select: Which layers lie on the chip.
        read_block: Examples of one reading.
        time_s: Time of the readings, in seconds.
        periphery: What surrounds the weights.
        norm_batches: Data from which each chip's batch-norm statistics are estimated anew, on its first reading.
        autocast: The lower precision in which the model runs; None leaves it as it is.
        watch: What this process has seen of noise and data.
    """

    model: nn.Module
    batches: Iterable[Any]
    noise: WeightNoise
    metric: Metric
    seed: int = 0
    layout: Layout = field(default_factory=Layout)
    select: Select = None
    read_block: int | None = None
    time_s: float | None = None
    periphery: Periphery | None = None
    norm_batches: Iterable[Any] | None = None
    autocast: str | None = None
    watch: Watch = field(default_factory=Watch, repr=False)

    @property
    def is_random(self) -> bool:
        """Whether chips may differ."""
        return self.noise.is_random or (self.periphery is not None and self.periphery.is_random)

    def __call__(self, number: int) -> Scores:
        """Run the trial of a number."""
        return self.on(self.chip(number))

    def chip(self, number: int) -> Chip:
        """The chip of a number."""
        with evaluation_mode(self.model):
            return deploy(
                self.model,
                self.noise,
                seed=self.seed,
                trial=number,
                select=self.select,
                periphery=self.periphery,
                keep=self._rereads,
            )

    @property
    def _rereads(self) -> bool:
        """Whether a trial reads its chip more than once."""
        return self.read_block is not None or self.norm_batches is not None

    def on(self, chip: Chip) -> Scores:
        """The scores on a chip; where batch norm is estimated anew, that takes the first reading."""
        with ExitStack() as stack:
            first = 0
            if self.norm_batches is not None:
                with self._lowered(), chip.at(self.time_s, reading=0), same_draws():
                    stack.enter_context(reestimated_norms(self.model, self.norm_batches))
                first = 1
            return self._scores(
                read_block=self.read_block,
                reading=lambda block: chip.at(self.time_s, reading=first + block),
                before=None if self.watch.reached else partial(self._look, chip),
            )

    def look(self) -> None:
        """Look whether noise reaches the outputs, before any trial (see `Watch.look`)."""
        alone = replace(self, model=unwrapped(self.model))
        with evaluation_mode(alone.model), torch.no_grad(), same_draws():
            for batch in with_targets(islice(self.batches, 1)):
                alone._look(alone.chip(0), batch)

    def _look(self, chip: Chip, batch: Batch) -> None:
        _require_decoder_inputs(self.model, batch)
        self.watch.look(batch, chip, self.time_s, self.select, self._first_run)

    def clean(self) -> tuple[Scores, float | None]:
        """The scores without noise or periphery, in the same layout and precision: a drop compares like with like.

        Returns:
            The scores, and the share of multiply-adds on the chip (see `multiply_adds`).
        """
        alone = replace(self, model=unwrapped(self.model))
        shares: list[float | None] = []

        def count(batch: Batch) -> None:
            _require_decoder_inputs(alone.model, batch)
            products = multiply_adds(alone.model, [batch], self.select, forward=alone._first_run)
            shares.append(None if products is None else products.share)

        return alone._scores(before=count), shares[0]

    def _scores(self, **how: Any) -> Scores:
        return scores(
            self.model,
            self.watch.batches(self.batches),
            self.metric,
            channels_last=self.layout.channels_last,
            forward=self._run,
            **how,
        )

    def _run(self, *inputs: Any, **keywords: Any) -> Any:
        """A pass, in the precision of `autocast`."""
        with self._lowered():
            return self.model(*inputs, **keywords)

    def _first_run(self, *inputs: Any, **keywords: Any) -> Any:
        """A pass; where the model cannot be called so, the error says what it is called with."""
        try:
            return self._run(*inputs, **keywords)
        except TypeError as error:
            raise TypeError(
                f"`model` must take the inputs of a batch of `data`: {reason(error)}. Several inputs are given as "
                '[(input, …, targets)], keywords as [{"name": …, "labels": …}].'
            ) from error

    def _lowered(self) -> AbstractContextManager[object]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(device_of(self.model).type, dtype=getattr(torch, self.autocast))


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, if that is outermost."""
    return cast("nn.Module", model.module) if isinstance(model, DistributedDataParallel) else model


def _require_decoder_inputs(model: nn.Module, batch: Batch) -> None:
    """Refuse a batch from which an encoder-decoder model of Transformers would have to make its decoder's inputs."""
    decodes = getattr(getattr(unwrapped(model), "config", None), "is_encoder_decoder", False)
    if decodes and batch.keywords and not any(name.startswith("decoder_input") for name in batch.keywords):
        raise ValueError(
            "A batch of `data` must have `decoder_input_ids` for an encoder-decoder model, got the keys "
            f"{', '.join(batch.keywords)}. DataCollatorForSeq2Seq(tokenizer, model=model) makes them from the labels."
        )
