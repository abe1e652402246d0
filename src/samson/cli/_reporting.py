"""The command `report`, and what `compare` writes at its end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samson._errors import SetupError, choose, installing, require
from samson.cli._errors import require_writable
from samson.cli._showing import console, kind_table, show_whole, text_of

if TYPE_CHECKING:
    from rich.table import Table

    from samson.report import Overview, View

SMALLER_LR = (
    "Set a smaller lr: --set lr=0.01, or set = { lr = 0.01 }. If it is at the first step, look at data and loss."
)
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
    if comparable(found):
        show_whole(_rank_table(overview))
    for view in found:
        show_whole(_accuracy_table(view))
        gains = _gain_table(view) if len(found) == 1 else None
        if gains is not None:
            show_whole(gains)
    for note in notes(comparison):
        screen.print(note)
    said = advice(found) if overview.problems == 1 else overview_headline(overview)
    screen.print(text_of(said))
    if failed is not None:
        raise failed
    for name in files:
        screen.print(f"Report: {(out / name).resolve()}", soft_wrap=True)


def _accuracy_table(view: View) -> Table:
    """The metric with its 95 % interval, method by kind of chip."""
    from samson.report import coverage_of, estimate_text, metric_text

    metric = metric_text(view.problem)
    title = f"Test {metric} on {view.problem.name} by {view.family.name}, 95 % intervals over chips"
    table = kind_table(title, "Method", view.kinds)
    covered = coverage_of(view)
    table.caption, table.caption_justify = f"On the chips: {covered}" if covered else None, "left"
    for method, of_method in view.table.items():
        table.add_row(method, *(estimate_text(row.value, view) for row in of_method.values()))
    return table


def _gain_table(view: View) -> Table | None:
    """Paired gain over the baseline with its 95 % interval; None if there is nothing to compare."""
    from samson.report import gain_text

    what = "Points" if view.problem.is_fraction else "Gain"
    what += "" if view.problem.higher_is_better else " (+ is better)"
    title = f"{what} over {view.baseline} on the same chips, with 95 % intervals over chips, for these networks"
    table = kind_table(title, "Method", view.kinds)
    for method, of_method in view.table.items():
        gains = [row.gain for row in of_method.values()]
        if any(gains):
            table.add_row(method, *("" if gain is None else gain_text(gain, view) for gain in gains))
    return table if table.rows else None


def _rank_table(overview: Overview) -> Table:
    """Mean ranks over problems, and wins, ties and losses against the baseline."""
    from samson.report import against_baseline

    found = overview.views
    over = "families of chips" if overview.problems == 1 else f"{overview.problems} problems"
    title = f"Mean rank over {over}; 1 is best"
    table = kind_table(title, "Method", [*overview.ranks, f"+ / = / − {found[0].baseline}"])
    table.caption, table.caption_justify = "= means: these seeds do not tell them apart.", "left"
    for method, _ in overview.order:
        cells = [f"{of[method].interval.mean:.2f}" if method in of else "" for of in overview.ranks.values()]
        table.add_row(method, *cells, " / ".join(map(str, against_baseline(found, method))))
    return table


def _pictures(found: Sequence[View], form: str) -> dict[str, bytes]:
    """A picture of each view by the name of its file."""
    from samson.report import picture

    names = [re.sub(r"[^\w.+-]+", "-", f"{view.problem.name}-{view.family.name}") for view in found]
    before = [names[:place].count(name) for place, name in enumerate(names)]  # of names that differ by a sign
    names = [f"{name}-{count + 1}" if count else name for name, count in zip(names, before, strict=True)]
    return {f"{name}.{form}": picture(view, form) for name, view in zip(names, found, strict=True)}
