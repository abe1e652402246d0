"""Times on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from samson._times import age_text

_TICKS = (1.0, 60.0, 3600.0, 86_400.0, 30 * 86_400.0, 365 * 86_400.0, 10 * 365 * 86_400.0)


def age_places(seconds: Sequence[float]) -> list[float]:
    """Where times ≥ 0 stand on an axis of powers of ten; 0, which has no power, is one to the left of all others."""
    left = min((math.log10(time) for time in seconds if time), default=1.0) - 1
    return [math.log10(time) if time else left for time in seconds]


def age_axis(low: float, high: float) -> dict[str, Any]:
    """The settings of a logarithmic axis from one time to another: ticks at times that a person knows."""
    ticks = [tick for tick in _TICKS if low <= tick <= high] or [low, high]
    return {"type": "log", "title": {"text": "Age"}, "tickvals": ticks, "ticktext": [age_text(tick) for tick in ticks]}
