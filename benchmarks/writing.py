"""Write what a measurement found, with where and when that was."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from samson.experiments import environment


def write(path: Path, record: dict[str, Any], **about: Any) -> dict[str, Any]:
    """Write a record, and give it; `about` says more of the machine, or better."""
    where = {"environment": vars(environment()) | about, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record | where, indent=1) + "\n", encoding="utf-8")
    return record | where
