"""The page of several methods on the same chips."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from samson._shown import coverage_text
from samson.records import PairedMethod, PairedRecord
from samson.report._html import (
    figure_div,
    html_row,
    html_table,
    interval_text,
    listed,
    metric_text,
    page,
    scale_of,
    value_text,
)
from samson.report._plot import Plot, axis, colours, error_bars, plot
from samson.report._subject import subject_table


def paired_figure(record: PairedRecord) -> Plot:
    """Every chip as a dot, and the mean with its interval, method by method."""
    subject = record.subject
    scale = scale_of(subject)
    palette = colours([method.name for method in record.methods], record.baseline)
    data: list[dict[str, Any]] = []
    for method in _best_first(record):
        mean, low, high = (scale * end for end in (method.mean.mean, method.mean.low, method.mean.high))
        dots = {
            "type": "box",
            "y": [scale * value for of_network in method.trials for value in of_network],
            "name": method.name,
            "boxpoints": "all",
            "pointpos": 0,
            "jitter": 0.6,
            "marker": {"color": palette[method.name], "size": 5, "opacity": 0.4},
            "line": {"width": 0},
            "fillcolor": "rgba(0,0,0,0)",
            "hovertemplate": "%{y:.4g}",
        }
        estimate = {
            "type": "scatter",
            "x": [method.name],
            "y": [mean],
            "error_y": error_bars([method.mean], scale),
            "mode": "markers",
            "marker": {"color": palette[method.name], "size": 10},
            "name": method.name,
            "hovertemplate": f"{mean:.4g} [{low:.4g}, {high:.4g}]",
        }
        data += [dots, estimate]
    return plot(data, {}, axis(metric_text(subject)), showlegend=False)


def paired_page(record: PairedRecord) -> str:
    """Make the page's HTML; it opens offline."""
    subject, best_first, lines = record.subject, _best_first(record), []
    for method in best_first:
        gain = "" if method.gain is None else interval_text(method.gain, subject, signed=True)
        clean = ", ".join("" if value is None else value_text(value, subject) for value in method.clean)
        p_value = "" if method.p_value is None else f"{method.p_value:.2g}"
        where = "" if method.gain is None else f"{method.unit}, {'the same' if method.common_chips else 'other'} chips"
        mean = interval_text(method.mean, subject)
        covered = "" if method.coverage is None else coverage_text(method.coverage, method.multiply_adds)
        lines.append(html_row([method.name, clean, mean, gain, p_value, where, covered]))
    header = ["Method", "without noise", f"{metric_text(subject)} on chips", f"− {record.baseline}"]
    header += ["p (Holm)", "counts", "on the chip"]
    best = best_first[0]
    chips = f"{len(best.trials[0])}, the same for every method of the same shape"
    return page(
        "paired.html",
        kind="methods on the same chips",
        title=escape(f"{len(record.methods)} methods on the same chips: {record.kind}"),
        headline=escape(_headline(record)),
        figure=figure_div(paired_figure(record), "methods"),
        table=html_table(header, lines, "gain"),
        what=subject_table(subject, [record.kind], chips),
        confidence=f"{100 * subject.confidence:g} %",
        about="these examples" if subject.about == "test_set" else "other examples of the same kind",
    )


def _headline(record: PairedRecord) -> str:
    """Which method has the best mean, if not all have."""
    best, *others = _best_first(record)
    alike = [other.name for other in others if math.isclose(other.mean.mean, best.mean.mean, rel_tol=1e-12)]
    if len(alike) == len(others):
        return f"No method is ahead: the mean is {value_text(best.mean.mean, record.subject)}."
    if alike:
        return f"{listed([best.name, *alike])} share the best mean: {value_text(best.mean.mean, record.subject)}."
    return f"{best.name} has the best mean: {interval_text(best.mean, record.subject)}."


def _best_first(record: PairedRecord) -> list[PairedMethod]:
    return sorted(record.methods, key=lambda method: method.mean.mean, reverse=record.subject.higher_is_better)
