"""The command line: parse, call, show."""

import io
import sys

from samson._errors import installing


def main() -> None:
    """Run the `samson` command; without the extra that it needs, say which."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # where an encoding lacks a sign such as ±
            stream.reconfigure(errors="replace")
    try:
        from samson.cli._app import run

        run()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich", "sklearn"):
            raise
        sys.exit(f"samson: the command line needs {error.name!r}. Install it: {installing('cli')}.")
