"""What commands show: tables, progress, numbers with intervals, and pages."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table

from samson._names import visible
from samson.records import Subject, replace_file, write_json

if TYPE_CHECKING:
    from samson.evaluation import DataSetMetric, ExampleMetric
    from samson.evaluation import Progress as State

    Metric = ExampleMetric | DataSetMetric

T = TypeVar("T")


class _Console(Console):
    """A console to which a text gives no commands."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console that writes names as they are: square brackets are no markup, colons no emoji, and nothing a command.

    It is made anew for each use, since the stream may be another one.
    """
    quiet = stderr and not speaks()
    return _Console(stderr=stderr, width=width, quiet=quiet, markup=False, emoji=False, highlight=False)


def show_whole(table: Table) -> None:
    """Show a table with whole numbers and names: in a narrow terminal headings are broken, and then lines go on."""
    screen = console()
    wide = screen.options.update(max_width=10_000)
    if screen.measure(table, options=wide).maximum > screen.width:
        for column in table.columns:
            cells = [screen.measure(cell, options=wide).maximum for cell in column.cells]
            column.no_wrap = False  # that would cut the heading
            column.width = max([screen.measure(column.header, options=wide).minimum, *cells])
    console(width=max(screen.width, screen.measure(table, options=wide).maximum)).print(table)


def speaks() -> bool:
    """Whether this process shows and writes results: of several that torchrun started, the first."""
    return os.environ.get("RANK", "0") == "0"


def empty_table(title: str | None = None) -> Table:
    """A table in the style of all of them."""
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def kind_table(title: str, first: str, kinds: Iterable[str]) -> Table:
    """An empty table with a column for each kind of chip."""
    from samson.report import kind_text

    table = empty_table(title)
    table.add_column(first, no_wrap=True)
    for kind in kinds:
        table.add_column(kind_text(kind), justify="right")
    return table


def table_of(title: str, subject: Subject, at_least: str = "") -> Table:
    """An empty table of kinds of chips, with a column for a yield if one is asked for."""
    from samson.report import metric_text

    table = empty_table(title)
    for name in (
        "Noise",
        f"Mean {metric_text(subject)} over chips [95 %]",
        "Worst",
        *([at_least] * bool(at_least)),
        "Chips",
    ):
        table.add_column(name, justify="left" if name == "Noise" else "right", no_wrap=name != "Noise")
    return table


def text_of(html: str) -> str:
    """What a page says, as a terminal shows it."""
    return unescape(re.sub("<[^>]*>", "", html.replace("</p><p", "</p>\n<p")))


@contextmanager
def results_written(out: Path | None, page: Path | None, record: T, render: Callable[[T], str]) -> Iterator[None]:
    """Write the record and the page that were asked for, and say where they are, before a block that shows the numbers.

    Raises:
        OSError: After the block, if one cannot be written: what was measured is shown all the same.
    """
    written, failed = dict[str, Path](), list[OSError]()
    for name, path in (("Record", out), ("Page", page)):
        if path is not None:
            try:
                write_json(path, record) if name == "Record" else replace_file(path, render(record).encode())
                written[name] = path
            except OSError as error:
                failed.append(error)
    for name, path in written.items():
        console().print(f"{name}: {path.resolve()}", soft_wrap=True)
    yield
    if failed:
        raise failed[0]


def _progress(*columns: ProgressColumn) -> Progress:
    """Bars that are gone at the end, and write nothing where no terminal shows them."""
    screen = console(stderr=True)
    return Progress(*columns, console=screen, transient=True, disable=not screen.is_interactive)


@contextmanager
def stage_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar that says what is at hand, how much of it is done, and of how much."""
    with _progress() as bars:
        task = bars.add_task("", total=None)
        yield lambda stage, done, total: bars.update(task, description=stage, completed=done, total=total)


@contextmanager
def chip_bar() -> Iterator[Callable[[str, Metric], Callable[[State], None]]]:
    """A progress bar that also shows the interval of the chips so far."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[so_far]}", markup=False),
    )
    with _progress(*columns) as bars:
        task = bars.add_task("chips", total=None, so_far="")

        def show(label: str, metric: Metric) -> Callable[[State], None]:
            form = ".1%" if metric.bounds == (0.0, 1.0) else ".4g"

            def update(state: State) -> None:
                i = state.interval
                so_far = "" if i is None else f"{i:{form}}"
                bars.update(task, description=label, completed=state.done, total=state.planned, so_far=so_far)

            return update

        yield show
