"""What the pages have in common: one self-contained file from a template, tables, figures and numbers."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import PurePath
from string import Template

from samson.records import Interval, Problem, Subject
from samson.report._plot import Plot


def page(sections: str, kind: str, title: str, headline: str, **parts: object) -> str:
    """A page with sections from a template of this package, with style and plotly inside; it opens offline.

    What is inside is plotly's bundle of cartesian plots, `plotly.js-cartesian-dist-min` of npm, packed by gzip.
    """
    folder = files("samson.report")
    style, plots = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "plots.js"))
    bundle = b64encode(folder.joinpath("plotly-cartesian.min.js.gz").read_bytes()).decode()
    frame = {"style": style, "plotly": bundle, "plots": plots, "body": filled(sections, **parts)}
    return filled("frame.html", kind=kind, title=title, headline=headline, **frame)


def filled(template: str, **parts: object) -> str:
    """A template of this package with its parts."""
    return Template(files("samson.report").joinpath(template).read_text(encoding="utf-8")).substitute(parts)


def packed(html: str) -> str:
    """HTML that `plots.js` unpacks when it is first shown: what is hidden is most of a page, and much of it alike."""
    return f"<script type='text/plain' data-packed>{b64encode(gzip.compress(html.encode(), mtime=0)).decode()}</script>"


def html_row(cells: Iterable[str]) -> str:
    """A row of a table; the first cell is its heading."""
    first, *others = cells
    return f"<tr>{row_heading(first)}" + "".join(f"<td>{escape(c)}</td>" for c in others) + "</tr>"


def row_heading(name: str) -> str:
    """The heading of a row; a narrow table breaks a name such as "samson+clip" before its plus, not within a word."""
    return f"<th scope='row'>{escape(name).replace('+', '<wbr>+')}</th>"


def html_table(header: Sequence[str], lines: Iterable[str], kind: str) -> str:
    """A table of rows, of a kind that the style knows."""
    names = "".join(f"<th scope='col'>{escape(h)}</th>" for h in header)
    head = f"<thead><tr>{names}</tr></thead>" if header else ""
    place = f"<div class='scroll' tabindex='0' role='group' aria-label='{escape([*header, kind][0])} table'>"
    return f"{place}<table class='{kind}'>{head}<tbody>{''.join(lines)}</tbody></table></div>"


def facts_table(facts: Mapping[str, object]) -> str:
    """A table without a header: what was measured or run, by what it is."""
    return html_table([], (html_row([name, str(fact)]) for name, fact in facts.items()), "facts")


def figure_div(plot: Plot, name: str) -> str:
    """A plot that `plots.js` draws when it comes into view: numbers of seven digits, null for what is not finite.

    Plotly reads its texts as HTML: a name cannot be a link there. A screen reader says what the axes are.
    """
    short = json.loads(
        json.dumps(plot), parse_float=lambda digits: float(f"{float(digits):.7g}"), parse_constant=lambda _: None
    )
    text = json.dumps(short, ensure_ascii=False, separators=(",", ":"))
    text = re.sub(r"<(?=a\b)", "‹", text, flags=re.IGNORECASE).replace("<", "\\u003c")
    layout = plot["layout"]
    titles = [layout[axis]["title"]["text"] for axis in ("yaxis", "xaxis") if "title" in layout[axis]]
    label = escape(" by ".join(filter(None, titles)).replace("<br>", ", "))
    place = (
        f"<div class='plot' id='{name}' role='img' aria-label='{label}' style='min-height:{layout['height']}px'></div>"
    )
    return f"{place}<script type='application/json' data-plot='{name}'>{text}</script>"


def scale_of(of: Problem | Subject) -> float:
    """By what values of a metric are multiplied where they are shown: 100 for a fraction."""
    return 100.0 if of.is_fraction else 1.0


def value_text(value: float, of: Problem | Subject) -> str:
    """A value of a metric, a fraction in percent: "97.3" for a share of .9731."""
    return f"{100 * value:z.1f}" if of.is_fraction else f"{value:z.4g}"


def listed(words: Sequence[str]) -> str:
    """Words in a sentence: "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def model_name(model: str) -> str:
    """A model as a title says it: of a path the file's name alone.

    Example:
        >>> model_name("runs/first/networks/digits/samson-seed0.safetensors"), model_name("mine.nets:network")
        ('samson-seed0', 'mine.nets:network')
    """
    return PurePath(model).name.removesuffix(".safetensors")


def capital(name: str) -> str:
    """The name of a metric at the start of a sentence: "mIoU" becomes "MIoU"."""
    return name[:1].upper() + name[1:]


def metric_text(of: Problem | Subject) -> str:
    """A metric with its unit, and its direction where that is down: "accuracy (%)", "mse (less is better)"."""
    notes = ["%"] * of.is_fraction + ["less is better"] * (not of.higher_is_better)
    return f"{of.metric} ({', '.join(notes)})" if notes else of.metric


def interval_text(interval: Interval, of: Problem | Subject, *, signed: bool = False) -> str:
    """A mean with the ends of its interval, for example "97.3 [97.0, 97.6]"; with signs for a difference."""
    digits = ".1f" if of.is_fraction else ".3g" if signed else ".4g"
    form = f"{'+' * signed}z{digits}"
    mean, low, high = (f"{scale_of(of) * value:{form}}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"
