"""Single-line changes of the code that decides results, and whether the tests catch them.

    python -m benchmarks.mutants --most 50     # the next fifty changes; goes on where it stopped
    python -m benchmarks.mutants --page        # the survivors, from the record

Changes are drawn with a fixed seed: a comparison turned round, an operator exchanged, a number made another, a
condition negated, the name of a reduction exchanged. Each is made in a copy of the project, and the tests of its room
run on it until the first failure. Writes `benchmarks/records/mutants.json` after each: what was changed, and whether it
was caught. A change that survives and makes no difference is named in `EQUIVALENT` with the reason.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).parent / "records" / "mutants.json"
SEED = 2211
TIMEOUT_S = 300
ROOMS = {
    "optim": ("tests/optim", "tests/contracts/test_rules.py"),
    "noise": ("tests/noise", "tests/contracts/test_noises.py"),
    "statistics": ("tests/statistics", "tests/report/test_summary.py"),
    "evaluation": ("tests/evaluation",),
    "records": ("tests/records",),
    "experiments": ("tests/experiments", "tests/cli/test_hostile.py"),
}
"""The rooms whose code is changed, with their tests."""

LEFT_OUT = {"__init__.py", "_description.py"}
"""Files that decide no result."""

EQUIVALENT: dict[str, str] = {}
"""Changes that make no difference, by `file:line:change`, with the reason."""

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
}
NAMES = {"amax": "amin", "amin": "amax", "minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min"}


def changed(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr, str]]:
    """The changes of one expression: what stands there, what takes its place, and a word for it."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            other = COMPARISONS[type(operator)]
            yield (
                node,
                ast.Compare(node.left, [other()], node.comparators),
                f"{type(operator).__name__}→{other.__name__}",
            )
        case ast.BinOp(op=operator) if type(operator) in OPERATORS and not isinstance(
            node.left, ast.Constant | ast.JoinedStr
        ):
            other = OPERATORS[type(operator)]
            yield node, ast.BinOp(node.left, other(), node.right), f"{type(operator).__name__}→{other.__name__}"
        case ast.BoolOp():
            other = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield node, ast.BoolOp(other(), node.values), f"→{other.__name__}"
        case ast.IfExp():
            yield node, ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse), "negated"
        case ast.Constant(value=bool()):
            yield node, ast.Constant(not node.value), f"{node.value}→{not node.value}"
        case ast.Constant(value=int() | float()):
            other = node.value * 10 if node.value else 1
            yield node, ast.Constant(other), f"{node.value}→{other}"
        case ast.Attribute(attr=name) if name in NAMES:
            yield node, ast.Attribute(node.value, NAMES[name]), f"{name}→{NAMES[name]}"
        case ast.Name(id=name) if name in NAMES:
            yield node, ast.Name(NAMES[name]), f"{name}→{NAMES[name]}"


def mutants(path: Path) -> Iterator[tuple[str, str]]:
    """The changes of a file, each with its name and the whole text of the changed file."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    tree = ast.parse(text)
    inside = [n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for s in f.body for n in ast.walk(s)]
    texts = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in ast.walk(n)}
    for node in {id(n): n for n in inside if id(n) not in texts}.values():
        for old, new, word in changed(node):
            if old.lineno != old.end_lineno:
                continue
            line = lines[old.lineno - 1].encode()
            changed_line = line[: old.col_offset] + f"({ast.unparse(new)})".encode() + line[old.end_col_offset :]
            place = f"{path.relative_to(ROOT / 'src' / 'samson')}:{old.lineno}:{word}@{old.col_offset}"
            yield place, "".join([*lines[: old.lineno - 1], changed_line.decode(), *lines[old.lineno :]])


def drawn() -> list[tuple[str, str, str]]:
    """All changes in a fixed order, in which rooms take turns: room, name and text."""
    by_room: dict[str, list[tuple[str, str, str]]] = {}
    for room in ROOMS:
        files = sorted(p for p in (ROOT / "src" / "samson" / room).rglob("*.py") if p.name not in LEFT_OUT)
        by_room[room] = [(room, name, text) for path in files for name, text in mutants(path)]
        random.Random(SEED).shuffle(by_room[room])
    longest = max(map(len, by_room.values()))
    return [of[i] for i in range(longest) for of in by_room.values() if i < len(of)]


def caught(copy: Path, room: str, name: str, text: str) -> str:
    """Make a change in the copy, run the room's tests, and put the file back; says how it was caught, if it was."""
    target = copy / "src" / "samson" / name.partition(":")[0]
    before = target.read_text(encoding="utf-8")
    target.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *ROOMS[room]]
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "time"
    finally:
        target.write_text(before, encoding="utf-8")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return "" if done.returncode == 0 else (failed or ["ERROR"])[0].split(" - ")[0]


def page(record: dict[str, Any]) -> str:
    """How many were caught, and which were not."""
    found = record["mutants"]
    survivors = [name for name, by in found.items() if not by]
    unnamed = [name for name in survivors if name not in EQUIVALENT]
    lines = [
        f"{len(found) - len(survivors)} of {len(found)} caught; {len(survivors) - len(unnamed)} make no difference"
    ]
    return "\n".join([*lines, *(f"SURVIVED {name}" for name in unnamed)])


def main() -> None:
    """Try the next changes and write the record after each."""
    parser = argparse.ArgumentParser(description="Do the tests catch changes?")
    parser.add_argument("--most", type=int, default=50, help="Changes to try now.")
    parser.add_argument("--page", action="store_true", help="Show what the record says.")
    arguments = parser.parse_args()
    record: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {"seed": SEED, "mutants": {}}
    if not arguments.page:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "project"
            shutil.copytree(
                ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv*", "runs", "__pycache__", ".*_cache")
            )
            waiting = [one for one in drawn() if one[1] not in record["mutants"]][: arguments.most]
            for number, (room, name, text) in enumerate(waiting, start=1):
                record["mutants"][name] = caught(copy, room, name, text)
                RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
                print(f"{number}/{len(waiting)} {name}: {record['mutants'][name] or 'SURVIVED'}", flush=True)
    print(page(record))


if __name__ == "__main__":
    main()
