"""Several models that one optimizer knows."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


class Models(nn.ModuleList):
    """Models that one optimizer knows as one; in a selection each has its own names, without a number before them."""


def each(models: Iterable[nn.Module | None]) -> list[nn.Module]:
    """The models themselves; None is none."""
    known = (model for model in models if model is not None)
    return [one for model in known for one in (model if isinstance(model, Models) else [model])]
