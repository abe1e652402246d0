"""The command `report`, and what `compare` writes at its end."""

from __future__ import annotations

import re
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from samson._errors import SetupError, choose, installing, require
from samson.cli._errors import require_writable
from samson.cli._showing import console


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
    """
    from samson.cli._tables import accuracy_table, gain_table, rank_table
    from samson.records import RecordError, load_comparison, replace_file
    from samson.report import Overview, advice, comparable, overview_headline, picture, render, summary_csv, views

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
    mend = "Set a smaller lr: --set lr=0.01, or set = { lr = 0.01 }."
    require(bool(found), "--methods", "such that a training does not diverge", names, mend)
    overview = Overview(found)
    require_writable("--out", None if out is None else out / "summary.csv", mend="Give another folder with --out.")
    out = folder if out is None else out
    replace_file(out / "summary.csv", summary_csv(found).encode())
    if form == "html":
        files = {"report.html": render(comparison, overview).encode()}
    else:
        names = [re.sub(r"[^\w.+-]+", "-", f"{view.problem.name}-{view.family.name}") for view in found]
        before = [names[:place].count(name) for place, name in enumerate(names)]  # of names that differ by a sign
        names = [f"{name}-{count + 1}" if count else name for name, count in zip(names, before, strict=True)]
        files = {f"{name}.{form}": picture(view, form) for name, view in zip(names, found, strict=True)}
    for name, content in files.items():
        replace_file(out / name, content)
    screen = console()
    ranked = comparable(found)
    if ranked:
        screen.print(rank_table(overview))
    for view in found:
        screen.print(accuracy_table(view))
        gains = gain_table(view) if len(found) == 1 else None
        if gains is not None:
            screen.print(gains)
    for record in records:
        where = f"{record.problem.name}, {record.method}, seed {record.seed}"
        if record.training.diverged_at is not None:
            screen.print(f"{where}: diverged at step {record.training.diverged_at}.")
    said = advice(found) if overview.problems == 1 else overview_headline(overview) if ranked else ""
    if said:
        screen.print(unescape(re.sub("<[^>]*>", "", said)))
    for name in files:
        screen.print(f"Report: {(out / name).resolve()}", soft_wrap=True)
