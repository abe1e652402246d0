"""What the pages have in common: one self-contained file from a template, tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import plotly.io
from plotly.offline import get_plotlyjs


def page(sections: str, kind: str, title: str, headline: str, **parts: object) -> str:
    """A page with sections from a template of this package, with style and plotly inside; it opens offline."""
    folder = files("samson.report")
    frame, body, style = (
        folder.joinpath(name).read_text(encoding="utf-8") for name in ("frame.html", sections, "style.css")
    )
    body = Template(body).substitute(parts)
    return Template(frame).substitute(
        style=style, plotly=get_plotlyjs(), kind=kind, title=title, headline=headline, body=body
    )


def html_row(cells: Iterable[str]) -> str:
    """A row of a table; the first cell is its heading."""
    first, *others = cells
    return f"<tr><th scope='row'>{escape(first)}</th>" + "".join(f"<td>{escape(c)}</td>" for c in others) + "</tr>"


def html_table(header: Sequence[str], lines: Iterable[str], kind: str) -> str:
    """A table of rows, of a kind that the style knows."""
    head = (
        "<thead><tr>" + "".join(f"<th scope='col'>{escape(h)}</th>" for h in header) + "</tr></thead>" if header else ""
    )
    return f"<div class='scroll'><table class='{kind}'>{head}<tbody>{''.join(lines)}</tbody></table></div>"


def figure_div(figure: Any, name: str) -> str:
    """A figure of plotly, drawn when it is first seen; the script that draws it stands in the page's frame."""
    text = plotly.io.to_json(figure).replace("</", "<\\/")
    return f"<div class='plot' id='{name}'></div><script type='application/json' data-plot='{name}'>{text}</script>"
