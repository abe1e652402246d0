"""The commands `compare`, `report` and `evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from samson.cli import _listing as listing
from samson.cli._budgeting import budget_model
from samson.cli._evaluating import evaluate_model
from samson.cli._kinds import parse_levels
from samson.cli._layering import sensitivity_of_model
from samson.cli._options import Levels
from samson.cli._progress import Bars, Lines
from samson.cli._sharpness import sharpness
from samson.cli._showing import console
from samson.cli._tables import accuracy_table, gain_table
from samson.experiments import (
    ADDITIONS,
    DATA,
    METHODS,
    SetupError,
    WorkerLostError,
    cores,
    default_jobs,
    load_records,
    missing,
    plan_comparison,
    prepare_folder,
    require,
    run_all,
)
from samson.noise import NOISES
from samson.records import RunRecord, replace_file
from samson.report import BASELINE, render, summarise, summary_csv

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train networks that stay accurate on noisy inference hardware, and prove it.",
)
app.add_typer(listing.app, name="list")


def run() -> None:
    """Run the command line; bad input is exit status 2, an interruption 130."""
    try:
        app(standalone_mode=True)
    except SetupError as error:
        print(f"samson: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except (WorkerLostError, OSError) as error:
        where = f"{error.filename!r}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        print(f"samson: {where}\nFinished runs are kept; repeat the command to go on.", file=sys.stderr)  # noqa: T201
        sys.exit(1)


@app.command()
def compare(
    out: Annotated[Path, typer.Option(help="Folder for records, networks, summary and report.")],
    data: Annotated[str, typer.Option(help=f"Data set: {', '.join(DATA)}.")] = "digits",
    methods: Annotated[
        str,
        typer.Option(
            help=f"Methods, separated by commas: {', '.join((*cores(), *ADDITIONS))}; cores also with "
            f"{', '.join(f'+{name}' for name in ADDITIONS)}."
        ),
    ] = ",".join(METHODS),
    noise: Annotated[str, typer.Option(help=f"Noise on the chips: {', '.join(NOISES)}.")] = "gaussian",
    levels: Levels = None,
    trials: Annotated[int, typer.Option(help="Chips per network and level.")] = 20,
    seeds: Annotated[int, typer.Option(help="Training seeds.")] = 3,
    epochs: Annotated[int, typer.Option(help="Passes over the training split.")] = 30,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="METHOD.PARAM=VALUE", help="A setting.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Runs side by side; default: one a processor.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="One line a run instead of progress bars.")] = False,
) -> None:
    """Train by several methods, put every network on the same noisy chips, and write a report.

    A repeated command goes on where an interrupted one stopped.
    """
    require(jobs is None or jobs >= 1, "--jobs", "at least 1", jobs, "The default is one a processor.")
    configuration, chosen = plan_comparison(
        data=data,
        methods=methods.split(","),
        noise=noise,
        levels=None if levels is None else parse_levels(levels),
        trials=trials,
        seeds=seeds,
        epochs=epochs,
        overrides=set_ or (),
    )
    found = prepare_folder(configuration, out)
    todo = missing(configuration, chosen, found)
    screen = console(stderr=True)
    if found and todo:
        screen.print(f"Going on: {len(found)} of {len(found) + len(todo)} runs are finished.")
    watcher = (Lines if quiet else Bars)(screen, len(found) + len(todo), len(found))
    try:
        with watcher:
            run_all(configuration, todo, out, processes=jobs or default_jobs(), watcher=watcher)
    except KeyboardInterrupt:
        done = len(load_records(out, configuration))
        screen.print(f"Stopped with {done} of {len(found) + len(todo)} runs finished. Repeat the command to go on,")
        screen.print(f"or see these with `samson report {out}`.")
        raise typer.Exit(130) from None
    records = load_records(out, configuration)
    gone = missing(configuration, chosen, records)
    if gone:
        raise WorkerLostError(
            f"Records of {len(gone)} runs are gone from {str(out)!r}: was the folder changed meanwhile?"
        )
    write_report(out, records)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Folder of a comparison.")]) -> None:
    """Render summary and report again, from the records alone."""
    records = load_records(folder)
    require(
        bool(records), "DIR", "a folder with finished runs in `records/`", str(folder), "Run `samson compare` first."
    )
    write_report(folder, records)


app.command(name="evaluate")(evaluate_model)
app.command(name="budget")(budget_model)
app.command(name="sensitivity")(sensitivity_of_model)


def write_report(folder: Path, records: Sequence[RunRecord]) -> None:
    """Write `summary.csv` and `report.html`, and show the tables."""
    rows = summarise(records)
    require(
        bool(rows),
        "--methods",
        "such that a training does not diverge",
        [r.method for r in records],
        "Try a smaller lr.",
    )
    replace_file(folder / "summary.csv", summary_csv(rows).encode())
    replace_file(folder / "report.html", render(records, rows, BASELINE).encode())
    plan = records[0].configuration
    console().print(
        accuracy_table(rows, f"Test accuracy (%) on {plan.data} by {plan.noise} noise, with 95 % intervals over chips")
    )
    for record in records:
        if record.training.diverged_at is not None:
            console().print(f"{record.method}, seed {record.seed}: diverged at step {record.training.diverged_at}.")
    gains = gain_table(rows, BASELINE)
    if gains is not None:
        console().print(gains)
    console().print(f"Report: {(folder / 'report.html').resolve()}", soft_wrap=True)


app.command()(sharpness)
