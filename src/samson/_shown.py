"""How a result shows itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from html import escape

LINES, WIDTH = 10, 160


class Shown(ABC):
    """A result that shows itself in at most ten lines, at the prompt and in a notebook; `print` shows all of it."""

    @abstractmethod
    def __str__(self) -> str: ...

    def __repr__(self) -> str:
        lines = f"{type(self).__name__}: {self}".splitlines()
        if len(lines) > LINES:
            lines = [*lines[: LINES - 1], f"… {len(lines) - LINES + 1} more lines: print it to see them"]
        return "\n".join(line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in lines)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


def table_text(header: list[str], rows: list[list[str]]) -> str:
    """A table in plain text: the first column to the left, the others to the right.

    Example:
        >>> print(table_text(["method", "mean"], [["sgd", "0.9"]]))
        method  mean
        sgd      0.9
    """
    columns = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:{'>' if place else '<'}{width}}"
            for place, (cell, width) in enumerate(zip(row, columns, strict=True))
        ).rstrip()
        for row in (header, *rows)
    )
