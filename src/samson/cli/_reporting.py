"""The command `report`, and what `compare` writes at its end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samson._errors import SetupError, choose, installing, require
from samson.cli._errors import require_writable
from samson.cli._showing import console

if TYPE_CHECKING:
    from samson.report import View

SMALLER_LR = "Set a smaller lr: --set lr=0.01, or set = { lr = 0.01 }."
"""What to do where a training diverged."""


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a comparison.")],
    baseline: Annotated[
        str | None, typer.Option(help="Method to which the others are compared; by default plain, sgd or the first.")
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="html for the report; svg, png, pdf for a picture of each plot of methods.")
    ] = "html",
    out: Annotated[
        Path | None, typer.Option(help="Folder for summary, report and pictures; by default that of the records.")
    ] = None,
) -> None:
    """Render summary and report again, from the records alone."""
    from samson.report import FORMATS

    choose("--format", format_, ("html", *FORMATS))
    missing = format_ in FORMATS and find_spec("matplotlib") is None
    require(not missing, "--format", "html without matplotlib", format_, f"Install it: {installing('docs')}.")
    write_report(folder, baseline, format_, folder if out is None else out)


def write_report(folder: Path, baseline: str | None = None, form: str = "html", out: Path | None = None) -> None:
    """Write `summary.csv` and `report.html`, or a picture of each view, and show the tables and what to take.

    Args:
        folder: That of the records.
        baseline: As for the command.
        form: As for the command's format.
        out: Where to write, if that is to be checked first; None writes to the folder of the records.

    Raises:
        OSError: If a file cannot be written, after all is shown.
    """
    from samson.cli._tables import accuracy_table, gain_table, rank_table
    from samson.records import RecordError, load_comparison, replace_file
    from samson.report import Overview, advice, comparable, notes, overview_headline, render, summary_csv, views

    rule, mend = "a folder with finished runs in `records/`", "Run `samson compare` first."
    require(folder.is_dir(), "DIR", rule, str(folder), mend)
    try:
        comparison = load_comparison(folder)
    except RecordError as error:
        raise SetupError(f"{error}\nDelete or move that file; `samson compare` then runs what is missing.") from error
    records = comparison.records
    if baseline is not None and records:
        choose("--baseline", baseline, dict.fromkeys(record.method for record in records))
    require(bool(records), "DIR", rule, str(folder), mend)
    found = views(records, baseline)
    names = [record.method for record in records]
    require(bool(found), "--methods", "such that a training does not diverge", names, SMALLER_LR)
    overview = Overview(found)
    require_writable("--out", None if out is None else out / "summary.csv", mend="Give another folder with --out.")
    out = folder if out is None else out
    files = {"report.html": render(comparison, overview).encode()} if form == "html" else _pictures(found, form)
    failed: OSError | None = None
    try:
        replace_file(out / "summary.csv", summary_csv(found).encode())
        for name, content in files.items():
            replace_file(out / name, content)
    except OSError as error:
        failed = error
    screen = console()
    ranked = comparable(found)
    if ranked:
        screen.print(rank_table(overview))
    for view in found:
        screen.print(accuracy_table(view))
        gains = gain_table(view) if len(found) == 1 else None
        if gains is not None:
            screen.print(gains)
    for note in notes(comparison):
        screen.print(note)
    said = advice(found) if overview.problems == 1 else overview_headline(overview) if ranked else ""
    if said:
        screen.print(unescape(re.sub("<[^>]*>", "", said)))
    if failed is not None:
        raise failed
    for name in files:
        screen.print(f"Report: {(out / name).resolve()}", soft_wrap=True)


def _pictures(found: Sequence[View], form: str) -> dict[str, bytes]:
    """A picture of each view by the name of its file."""
    from samson.report import picture

    names = [re.sub(r"[^\w.+-]+", "-", f"{view.problem.name}-{view.family.name}") for view in found]
    before = [names[:place].count(name) for place, name in enumerate(names)]  # of names that differ by a sign
    names = [f"{name}-{count + 1}" if count else name for name, count in zip(names, before, strict=True)]
    return {f"{name}.{form}": picture(view, form) for name, view in zip(names, found, strict=True)}
