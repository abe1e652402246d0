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


def coverage_text(weights: float, multiply_adds: float | None) -> str:
    """How much of a model lies on a chip, from the shares of its weights and of its multiply-adds, if that is known.

    Example:
        >>> coverage_text(1.0, 0.9876)
        '100% of the weights, 98.76% of the multiply-adds'
    """
    products = "" if multiply_adds is None else f", {100 * multiply_adds:.4g}% of the multiply-adds"
    return f"{100 * weights:.4g}% of the weights{products}"


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
