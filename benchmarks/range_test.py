"""The range test for ρ beside what the search of the evidence chose.

    python -m benchmarks.range_test          # some minutes of a core; what is in the record is not run again
    python -m benchmarks.range_test --page   # the table of docs/choosing-rho.md again, from the record

On the small tasks, with the length, learning rate and weight decay of their trainings. Writes
`benchmarks/records/range-test.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.evidence import CRITERIA, METHODS, TASKS, base_of, data_root, winners
from benchmarks.markdown import table, with_part
from samson.experiments import Place, environment, find_rho, one_thread, plan_suite

RECORD = Path(__file__).parent / "records" / "range-test.json"
PAGE = Path(__file__).parent.parent / "docs" / "choosing-rho.md"
RULES = ("sam", "asam", "samson", "rangesam")
SEEDS = 3


def run(task: str, method: str, seed: int) -> float | None:
    """The suggestion of one range test."""
    methods = [{"method": METHODS[method][0], **base_of(task)}]
    suite = {**TASKS[task].problem, "methods": methods, "data_root": str(data_root())}
    with one_thread():
        return find_rho(plan_suite(suite), seed, Place(), lambda *_: None).suggested


def rows() -> list[dict[str, Any]]:
    """Those of the record."""
    return json.loads(RECORD.read_text(encoding="utf-8"))["rows"] if RECORD.exists() else []


def chosen(task: str, method: str) -> dict[str, float]:
    """By criterion: the ρ that the search of a task chose for a method; none where it was not searched."""
    own = winners(task)
    return {one: own[f"{method}-{one}"][1]["rho"] for one in CRITERIA if f"{method}-{one}" in own}


def suggestions() -> str:
    """A table with a line for each task and method."""
    lines = []
    for task, method in dict.fromkeys((row["task"], row["method"]) for row in rows()):
        found = [row["suggested"] for row in rows() if (row["task"], row["method"]) == (task, method)]
        values = ", ".join("none" if value is None else f"{value:g}" for value in found)
        own = chosen(task, method)
        cells = [f"{own[criterion]:g}" if criterion in own else "–" for criterion in CRITERIA]
        lines.append([task, f"`{method}`", values, *cells])
    return table(["task", "method", "suggested", "best without noise", "best on noisy chips"], lines)


def page(text: str) -> str:
    """The page with the table of the record between its marks."""
    return with_part(text, "range_test", suggestions())


def main() -> None:
    """Run what is missing, or write the page."""
    if "--page" in sys.argv:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return
    for task in [task for task in TASKS if not TASKS[task].large]:
        for method in [method for method in RULES if method in TASKS[task].methods]:
            for seed in range(SEEDS):
                key = {"task": task, "method": method, "seed": seed}
                if any(key.items() <= row.items() for row in rows()):
                    continue
                row = {**key, "suggested": run(task, method, seed), "git": environment().git}
                print(row, flush=True)
                content = {"environment": vars(environment()), "rows": [*rows(), row]}
                RECORD.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
