"""What a LightningModule needs whose training step runs more than once: logs and metrics from the first run only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningModule
from torchmetrics import Metric, MetricCollection

from samson.integrations.lightning._settings import SettingsCheck


class RepeatedPasses(LightningModule):
    """A LightningModule that can run its training step again without a trace in logs and metrics."""

    repeats = False
    """Whether the pass at hand repeats a batch that is logged already. `self.log` and the module's torchmetrics heed
    it; a `training_step` with other side effects can ask for it."""

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """Add the check of the trainer's settings, which also switches the modes of the base."""
        others = super().configure_callbacks()
        return [SettingsCheck(), *([others] if isinstance(others, Callback) else others)]

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

    @contextmanager
    def _unlogged(self) -> Iterator[None]:
        kinds = (Metric, MetricCollection)
        found = [
            (parent, name, child)
            for parent in self.modules()
            if not isinstance(parent, kinds)
            for name, child in parent.named_children()
            if isinstance(child, kinds)
        ]
        self.repeats = True
        try:
            for parent, name, metric in found:
                setattr(parent, name, metric.clone())  # a stand-in, whose counts are thrown away
            yield
        finally:
            self.repeats = False
            for parent, name, metric in found:
                setattr(parent, name, metric)
