"""Write what a measurement found, with where and when that was."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samson.experiments import environment
from samson.statistics import mean_interval


def interval(values: NDArray[np.float64], digits: int = 6) -> list[float]:
    """Mean and 95 % interval over chips, or examples."""
    found = mean_interval(values.tolist())
    return [round(value, digits) for value in (found.mean, found.low, found.high)]


def write(path: Path, record: dict[str, Any], **about: Any) -> dict[str, Any]:
    """Write a record, and give it; `about` says more of the machine, or better."""
    where = {"environment": vars(environment()) | about, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record | where, indent=1) + "\n", encoding="utf-8")
    return record | where
