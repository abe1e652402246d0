"""The commands. Each imports what it needs when it runs, so that help answers at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import typer

from samson import __version__
from samson._errors import SetupError, WorkerLostError, require
from samson._names import visible
from samson.cli import _listing as listing
from samson.cli._budgeting import budget_model
from samson.cli._calibrating import calibrate_model
from samson.cli._comparing import compare
from samson.cli._doctor import doctor
from samson.cli._errors import FileError, as_options
from samson.cli._evaluating import evaluate_model
from samson.cli._layering import sensitivity_of_model
from samson.cli._reporting import report
from samson.cli._sharpness import sharpness
from samson.cli._training import train

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train networks that stay accurate on noisy inference hardware, and measure how well.",
    epilog="Exit status: 0 done; 1 a run, a training or a file failed; 2 what was asked for cannot be; 130 Ctrl-C; "
    "143 a notice to end.",
)
app.add_typer(listing.app, name="list")
for function in (compare, train, report):
    app.command()(function)
app.command(name="evaluate")(evaluate_model)
app.command(name="budget")(budget_model)
app.command(name="sensitivity")(sensitivity_of_model)
app.command(name="calibrate")(calibrate_model)
app.command()(sharpness)
app.command()(doctor)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"samson {__version__}")
        raise typer.Exit


@app.callback()
def _everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Options before a command."""


def run() -> None:
    """Run the command line; its exit status is as its help says."""
    try:
        for before, word in pairwise(sys.argv):
            text = not any("\ud800" <= letter <= "\udfff" for letter in word)  # what Python makes of other bytes
            require(text, "what is given", "text in UTF-8, as records are", word, "Rename the file.")
            if not word or re.fullmatch(r"--[\w-]+=", word):
                raise SetupError(f"what follows {word or before} must not be empty.\nIs a variable of the shell unset?")
        app(standalone_mode=True)
    except SetupError as error:
        said = str(error) if isinstance(error, FileError) else as_options(str(error))
        sys.stderr.write(f"samson: {visible(said)}\n")
        sys.exit(2)
    except (WorkerLostError, OSError) as error:
        where = f"{error.filename!r}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        sys.stderr.write(f"samson: {visible(str(where))}\n{_kept(sys.argv[1:])}")
        sys.exit(1)


def _kept(words: Sequence[str]) -> str:
    """What of a command that broke off is kept."""
    resumes = any(word.partition("=")[0] == "--resume" for word in words)
    kept = "runs" if next(iter(words), "") in ("compare", "train", "sharpness") else "chips" if resumes else ""
    return f"Finished {kept} are kept; repeat the command to go on.\n" if kept else ""
