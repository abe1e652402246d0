"""How a result shows itself, and any other value."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from html import escape
from typing import Any

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


def number_form(*values: float) -> str:
    """How numbers that stand together are written: with four decimals, or four digits if all are small or one is large.

    Example:
        >>> [f"{value:{number_form(value, 1e-7)}}" for value in (0.25, 2.5e-6, 1e90)]
        ['0.2500', '2.5e-06', '1e+90']
    """
    return ".4f" if 0.01 <= max(map(abs, values)) < 1e6 else ".4g"


def plain(value: Any) -> str:
    """The `repr` of a value without addresses, which differ from process to process.

    Example:
        >>> plain(object())
        '<object object>'
    """
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def coverage_text(weights: float, multiply_adds: float | None) -> str:
    """How much of a model lies on a chip, from the shares of its weights and of its multiply-adds, if that is known.

    Example:
        >>> coverage_text(1.0, 0.9876)
        '100% of the weights, 98.76% of the multiply-adds'
    """
    products = "" if multiply_adds is None else f", {_percent(multiply_adds)} of the multiply-adds"
    return f"{_percent(weights)} of the weights{products}"


def _percent(share: float) -> str:
    """A share, rounded, but never to all where something is missing."""
    return f"{100 * not_all(share, 0.9999):.4g}%"


def not_all(share: float, most: float = 0.999) -> float:
    """A share that rounding makes no whole where something is missing: at most `most` then.

    Example:
        >>> f"{not_all(0.9996):.1%}", f"{not_all(1.0):.1%}"
        ('99.9%', '100.0%')
    """
    return share if share > 1 - 1e-9 else min(share, most)  # a sum of shares may be a little less


def limit_text(value: float, *, fraction: bool) -> str:
    """A value that someone asked for, with as many digits as it was given with; a fraction in percent.

    Example:
        >>> limit_text(0.0004, fraction=True)
        '0.04'
    """
    return f"{100 * value:.3g}" if fraction else f"{value:.4g}"


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
