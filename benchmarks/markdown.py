"""What pages are put together with: tables, and parts between marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of a table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def with_part(text: str, maker: str, content: str) -> str:
    """A page with what a script of this folder makes, between its marks."""
    before, mark, rest = text.partition(f"<!-- made by benchmarks/{maker}.py -->\n")
    return "".join([before, mark, "\n", content, "\n\n", *rest.partition("<!-- end -->\n")[1:]])
