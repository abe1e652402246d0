"""What a LightningModule needs whose training step runs more than once: logs and metrics from the first run only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningModule
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary
from torchmetrics import Metric, MetricCollection

from samson.integrations.lightning._settings import SettingsCheck

_STAND_INS = WeakIdKeyDictionary()
"""An empty copy for each metric."""


class NoLossError(Exception):
    """Raised in a closure where `training_step` gave no loss: the optimizer puts the weights back and makes no step."""


class RepeatedPasses(LightningModule):
    """A LightningModule that can run its training step again without a trace in logs and metrics."""

    repeats = False
    """Whether the pass at hand repeats a batch that is logged already. `self.log` and the module's torchmetrics heed
    it; a `training_step` with other side effects can ask for it."""

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """Add the check of the trainer's settings, which also switches the modes of the base."""
        others = super().configure_callbacks()
        return [SettingsCheck(), *([others] if isinstance(others, Callback) else others)]

    def on_train_start(self) -> None:
        """Make a stand-in for each metric, before one holds tensors of a graph, which cannot be copied."""
        for _, _, metric in self._metrics():
            _stand_in(metric)
        super().on_train_start()

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Log a value as Lightning does, except in a repeated pass."""
        if not self.repeats:
            super().log(*args, **kwargs)

    @contextmanager
    def _passes(self, first: Callable[[], Any], again: Callable[[], Any]) -> Iterator[Callable[[], Any]]:
        """A closure that runs `first`, then `again` at each further call; from there to the end nothing is logged."""
        runs = 0
        with ExitStack() as until_the_end:

            def closure() -> Any:
                nonlocal runs
                runs += 1
                if runs == 1:
                    return first()
                if runs == 2:
                    until_the_end.enter_context(self._unlogged())
                return again()

            yield closure

    def _metrics(self) -> list[tuple[nn.Module, str, Metric | MetricCollection]]:
        """Every metric, with the module that holds it and its name there."""
        kinds = (Metric, MetricCollection)
        return [
            (parent, name, child)
            for parent in self.modules()
            if not isinstance(parent, kinds)
            for name, child in parent.named_children()
            if isinstance(child, kinds)
        ]

    @contextmanager
    def _unlogged(self) -> Iterator[None]:
        found = self._metrics()
        stand_ins = [_stand_in(metric).to(self.device) for _, _, metric in found]
        self.repeats = True
        try:
            for (parent, name, _), stand_in in zip(found, stand_ins, strict=True):
                setattr(parent, name, stand_in)
            yield
        finally:
            self.repeats = False
            for (parent, name, metric), stand_in in zip(found, stand_ins, strict=True):
                stand_in.reset()
                setattr(parent, name, metric)


def _stand_in(metric: Metric | MetricCollection) -> Metric | MetricCollection:
    """A copy whose counts are thrown away. It is made once: what a metric has kept grows from step to step."""
    if metric not in _STAND_INS:
        _STAND_INS[metric] = metric.clone()
        _STAND_INS[metric].reset()
    found: Metric | MetricCollection = _STAND_INS[metric]
    return found
