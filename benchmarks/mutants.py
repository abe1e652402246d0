"""Single-line changes of the code that decides results, and whether the tests catch them.

    pip install -c constraints.txt pytest-cov
    python -m benchmarks.mutants --most 50     # the next fifty changes; goes on where it stopped
    python -m benchmarks.mutants --page        # the survivors, from the record

Changes are drawn with a fixed seed: a comparison turned round, an operator exchanged, a number made another, a
condition negated, the name of a reduction exchanged. The whole suite runs once in a copy of the project, to see which
tests reach which lines. Each change is then made in the copy, and the tests that reach its line run on it until the
first failure, those first that reach the fewest lines; then all of the room, since what a compiler traces, and what
other processes run, is not seen to be reached. The test that fails must pass without the change. Writes
`benchmarks/records/mutants.json` after each: what was changed, and whether it was caught. A change that survives and
makes no difference is named in `EQUIVALENT` with the reason.
"""

from __future__ import annotations

import argparse
import ast
import json
import multiprocessing
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from coverage.numbits import numbits_to_nums

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).parent / "records" / "mutants.json"
REACH = ROOT / ".coverage"
"""Which test reaches which line; not committed."""

SEED = 2211
TIMEOUT_S = 900
ROOMS: dict[str, tuple[str, ...]] = {
    "optim": ("tests/optim", "tests/contracts/test_rules.py"),
    "noise": ("tests/noise", "tests/contracts/test_noises.py"),
    "statistics": ("tests/statistics", "tests/report"),
    "evaluation": ("tests/evaluation",),
    "records": ("tests/records", "tests/report"),
    "experiments": ("tests/experiments", "tests/cli"),
}
"""The rooms whose code is changed, with their own tests."""

PRELOADED = ["torch", "torch._dynamo", "pytest", "scipy.stats", "transformers.trainer", "lightning", "accelerate"]
"""Modules that take long to import: once, for all changes."""

LEFT_OUT = {"__init__.py", "_description.py"}
"""Files that decide no result."""

EQUIVALENT: dict[str, str] = {
    "optim/_memory.py:143:True→False@42": "both lists are made from the same weights, so strict never raises",
    "optim/_compiled.py:30:True→False@80": "the lists have equal lengths by construction, so strict never raises",
    "optim/_ascent.py:180:False→True@17": "Nesterov's form is that of the momentum, which is 0",
    "optim/_climber.py:264:4→40@74": "where a warning points to, not whether it is given",
    "statistics/_crossing.py:148:1→10@38": "the array of sizes is longer, and only its first entries are used",
    "statistics/_crossed.py:170:1→10@37": "there are no combinations of more axes than there are",
    "evaluation/_trials.py:136:Gt→GtE@74": "differs only where two floats are equal to the last bit",
    "evaluation/executors/_exchange.py:25:False→True@50": "an array of numbers is never pickled",
    "noise/_faults.py:114:Lt→LtE@30": "differs only where a uniform draw equals the share to the last bit",
    "noise/_forward.py:105:1→10@32": "how many rows the probe of an embedding has",
    "experiments/_problems.py:146:1→10@33": "of how many images an augmentation is tried before the training",
    "experiments/_place.py:81:True→False@73": "where gathered weights lie before they are saved",
    "experiments/networks/_gpt.py:44:Add→Sub@17": "learned positions may have either sign",
    "experiments/_estimate.py:59:0→1@25": "which initial weights the timed steps have",
    "experiments/_problems.py:127:0→1@52": "which example a network is tried with",
    "records/_run.py:220:1→10@76": "how many wrong values a message shows",
    "experiments/networks/_mobilenet.py:37:Add→Sub@15": "the norm before it may have a scale of either sign",
    "records/_codec.py:32:False→True@97": "the checksum, computed first, refuses such numbers too",
    "records/_codec.py:32:False→True@80": "escapes in JSON read as the letters that they stand for",
    "records/_codec.py:32:1→10@64": "how far lines are indented",
    "records/_codec.py:39:False→True@61": "writing the text refuses such numbers too",
}
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


def drawn() -> list[tuple[str, str]]:
    """All changes in a fixed order, in which rooms take turns: name and text."""
    by_room: dict[str, list[tuple[str, str]]] = {}
    for room in ROOMS:
        files = sorted(p for p in (ROOT / "src" / "samson" / room).rglob("*.py") if p.name not in LEFT_OUT)
        by_room[room] = [change for path in files for change in mutants(path)]
        random.Random(SEED).shuffle(by_room[room])
    longest = max(map(len, by_room.values()))
    return [of[i] for i in range(longest) for of in by_room.values() if i < len(of)]


def measure_reach(copy: Path) -> None:
    """Run the whole suite with a look at which test reaches which line, unless that was done for this very code."""
    changed = max(path.stat().st_mtime for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.py"))
    if REACH.exists() and REACH.stat().st_mtime > changed:
        return
    report = ["--cov=samson", "--cov-context=test", "--cov-report="]
    command = [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", *report]
    subprocess.run(command, cwd=copy, env=_environment(copy), check=True)
    shutil.copy(copy / ".coverage", REACH)


def reaching_tests() -> dict[str, dict[int, list[str]]]:
    """The tests that reach each line of each file, those first that reach the fewest lines in all."""
    found: dict[str, dict[int, list[str]]] = {}
    with sqlite3.connect(REACH) as database:
        rows = database.execute(
            "select path, context, numbits from line_bits join file on file.id = file_id "
            "join context on context.id = context_id where context != ''"
        ).fetchall()
    lines = {(path, context): numbits_to_nums(bits) for path, context, bits in rows}
    reach: dict[str, int] = {}
    for (_, context), numbers in lines.items():
        reach[_test(context)] = reach.get(_test(context), 0) + len(numbers)
    for (path, context), numbers in sorted(lines.items(), key=lambda item: reach[_test(item[0][1])]):
        of_file = found.setdefault(path.partition("/src/samson/")[2], {})
        for number in numbers:
            of_line = of_file.setdefault(number, [])
            if _test(context) not in of_line:
                of_line.append(_test(context))
    return found


def _test(context: str) -> str:
    """The name of a test without the stage that was at work."""
    return context.rpartition("|")[0]


def _environment(copy: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def first_failure(copy: Path, tests: Sequence[str]) -> str:
    """Run tests in a process of their own until one fails: its name, or nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_tests, args=(copy, list(tests), sorted(_unsound), sender))
    process.start()
    sender.close()
    process.join(TIMEOUT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return "time"
    return receiver.recv() if process.exitcode == 0 else "crash"


def _run_tests(copy: Path, tests: list[str], left_out: list[str], sender: Any) -> None:
    import pytest

    class Failures:
        first = ""

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed:
                self.first = self.first or report.nodeid

        def pytest_collectreport(self, report: Any) -> None:
            if report.failed:
                self.first = self.first or report.nodeid

    os.chdir(copy)
    os.environ.update(_environment(copy))
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(copy / "src"))
    with (copy / "tests.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        failures = Failures()
        options = ["-x", "--assert=plain", "-p", "no:cacheprovider", "--timeout", "120"]
        options += [f"--deselect={test}" for test in left_out]
        status = pytest.main([*options, *(test for test in tests if test not in left_out)], plugins=[failures])
        sender.send(failures.first or ("" if status == 0 else f"status {int(status)}"))


def caught(copy: Path, name: str, text: str, tests: Sequence[str]) -> str:
    """Make a change in the copy, run tests, and put the file back; says how it was caught, if it was."""
    target = copy / "src" / "samson" / name.partition(":")[0]
    before = target.read_text(encoding="utf-8")
    target.write_text(text, encoding="utf-8")
    try:
        by = ""
        for wanted in (tests, ROOMS[name.partition("/")[0]]):
            while not by and wanted:
                by = first_failure(copy, wanted)
                if "::" not in by or by in _sound:
                    break
                target.write_text(before, encoding="utf-8")
                (_unsound if first_failure(copy, [by]) else _sound).add(by)
                target.write_text(text, encoding="utf-8")
                by = "" if by in _unsound else by
    finally:
        target.write_text(before, encoding="utf-8")
    return by


_sound: set[str] = set()
"""Tests that pass without a change."""

_unsound: set[str] = set()
"""Tests that fail without a change where they are run here, and are left out."""


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
            measure_reach(copy)
            reaching = reaching_tests()
            waiting = [one for one in drawn() if one[0] not in record["mutants"]][: arguments.most]
            for number, (name, text) in enumerate(waiting, start=1):
                file, line, _ = name.split(":", 2)
                tests = reaching.get(file, {}).get(int(line), [])
                record["mutants"][name] = caught(copy, name, text, tests)
                RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
                print(f"{number}/{len(waiting)} {name}: {record['mutants'][name] or 'SURVIVED'}", flush=True)
    print(page(record))


if __name__ == "__main__":
    main()
