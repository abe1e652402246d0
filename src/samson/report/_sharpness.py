"""Sharpness against robustness: a figure for each measure, and one HTML file, from a record alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from statistics import fmean

from samson._checks import require_one_of
from samson.records import CLEAN, CorrelationRow, Interval, NetworkSharpness, SharpnessRecord
from samson.report._html import capital, facts_table, figure_div, html_table, metric_text, page, row_heading, scale_of
from samson.report._plot import Plot, axis, colours, dashes, menu, plot
from samson.report._summary import baseline_of
from samson.report._tables import kind_text

AXES = {
    "loss": "Loss",
    "noise": "Average rise of the loss under noise",
    "hessian top": "Largest eigenvalue of the Hessian",
    "hessian trace": "Trace of the Hessian",
}


def correlation(estimate: Interval) -> str:
    """A correlation with its interval, for example "−0.62 [−0.81, −0.30]"."""
    return f"{_signed(estimate.mean)} [{_signed(estimate.low)}, {_signed(estimate.high)}]"


def sharpness_figure(record: SharpnessRecord, measure: str) -> Plot:
    """A measure against the metric on chips, one dot a network, with buttons for the noise level.

    The title has both rank correlations with their intervals. The axis of a measure that is always above 0 is
    logarithmic.

    Args:
        record: Sharpness and robustness of a comparison's networks.
        measure: One of its measures.

    Raises:
        ValueError: If the record does not have the measure.
    """
    require_one_of(record.measures, measure=measure)
    by_method: dict[str, list[NetworkSharpness]] = {}
    for network in record.networks:
        by_method.setdefault(network.method, []).append(network)
    palette = colours(list(by_method), baseline_of(by_method))
    symbols = {method: symbol for method, (_, symbol) in dashes(palette).items()}
    levels = record.kinds
    shown = max(len(levels) - 2, 0)
    problem = record.problem
    scale = scale_of(problem)
    methods = sorted(by_method, key=lambda name: _robustness(by_method[name]), reverse=problem.higher_is_better)
    accuracies = [
        [[scale * network.accuracies[number] for network in by_method[method]] for method in methods]
        for number in range(len(levels))
    ]
    data = [
        {
            "type": "scatter",
            "x": [network.measures[measure].mean for network in by_method[method]],
            "y": of_method,
            "text": [f"seed {network.seed}" for network in by_method[method]],
            "name": method,
            "mode": "markers",
            "marker": {"color": palette[method], "symbol": symbols[method], "size": 10, "opacity": 0.85},
            "hovertemplate": "%{text}: %{x:.3g}, %{y:.4g}<extra>" + method + "</extra>",
        }
        for method, of_method in zip(methods, accuracies[shown], strict=True)
    ]
    titles = [_title(record, measure, level) for level in levels]
    buttons = (
        (kind_text(level), [{"y": accuracies[number]}, {"title.text": titles[number]}])
        for number, level in enumerate(levels)
    )
    means = [network.measures[measure].mean for network in record.networks]
    scaled = {"type": "linear"}
    if min(means) > 0:  # ticks at 1, 2 and 5, and plotly's own where two of them would not be seen
        scaled = {"type": "log", "tickformat": ".3~g"} | ({"dtick": "D2"} if max(means) >= 5 * min(means) else {})
    title = {"text": titles[shown], "x": 0, "xref": "paper", "y": 0.97, "yanchor": "top", "font": {"size": 14}}
    return plot(
        data,
        axis(measure_text(record, measure), **scaled),
        axis(f"{capital(metric_text(problem))}, {record.robustness_split} split"),
        top=120,
        title=title,
        updatemenus=menu(buttons, shown, 1.1),
    )


def _robustness(of_method: Sequence[NetworkSharpness]) -> float:
    """The mean over networks and over kinds of chips with noise."""
    return fmean(value for network in of_method for value in network.accuracies[1:])


def measure_text(record: SharpnessRecord, measure: str) -> str:
    """What a measure is, in words."""
    if measure == "noise":
        return f"{AXES[measure]} ({record.settings.noise} {record.settings.kind})"
    name, _, kind = measure.partition(" ")
    if name in record.settings.rules:
        rho = record.settings.rules[name].get("rho")
        steps = "one step" if kind == "one step" else f"{record.settings.steps} steps"
        return f"Rise of the loss in the ball of {name}, ρ = {rho}, {steps}"
    return AXES.get(measure, measure)


def render_sharpness(record: SharpnessRecord) -> str:
    """Make the HTML; it opens offline, and looks like the report of the comparison.

    Args:
        record: Sharpness and robustness of a comparison's networks, at least one.

    Raises:
        ValueError: If there is no network.
    """
    if not record.networks:
        raise ValueError("`record` must hold at least one network, got none.")
    problem, settings = record.problem, record.settings
    return page(
        "sharpness.html",
        kind="sharpness and robustness",
        title=escape(f"Sharpness on {problem.data}, {record.family.name} noise"),
        headline=_headline(record),
        sharp_split=escape(settings.split),
        metric=escape(problem.metric),
        robust_split=escape(record.robustness_split),
        examples=settings.examples,
        figures="".join(
            f"<h3>{escape(measure)}</h3>" + figure_div(sharpness_figure(record, measure), f"measure-{number}")
            for number, measure in enumerate(record.measures)
        ),
        kendall=_correlations(record, lambda row: (row.kendall, row.kendall_of_means)),
        spearman=_correlations(record, lambda row: (row.spearman, row.spearman_of_means)),
        what=_what(record),
        methods=len({network.method for network in record.networks}),
    )


def _title(record: SharpnessRecord, measure: str, kind: str) -> str:
    row = next((r for r in record.correlations if (r.measure, r.kind) == (measure, kind)), None)
    start = (
        f"{escape(measure)} and {escape(record.problem.metric)}, {escape(record.family.name)} {escape(kind_text(kind))}"
    )
    if row is None:
        return f"{start}: no correlation with an interval"
    return (
        f"{start}<br>Kendall {correlation(row.kendall)}, Spearman {correlation(row.spearman)} "
        f"({100 * record.confidence:g}%, {row.methods} methods, {row.networks} networks)"
    )


def _headline(record: SharpnessRecord) -> str:
    noisy = [row for row in record.correlations if row.kind != CLEAN]
    if not noisy:
        return "There are too few methods for a correlation with an interval: at least 6 are needed."
    below = sum(row.kendall.high < 0 for row in noisy)
    above = sum(row.kendall.low > 0 for row in noisy)
    return (
        f"Of {len(noisy)} Kendall correlations between a measure and the {escape(record.problem.metric)} on a kind of "
        f"chip, {below} have an "
        f"interval below zero (sharper networks are less robust), {above} one above zero, and "
        f"{len(noisy) - below - above} one that holds zero."
    )


def _correlations(record: SharpnessRecord, pick: Callable[[CorrelationRow], tuple[Interval, float]]) -> str:
    found = {(row.measure, row.kind): pick(row) for row in record.correlations}
    lines = []
    for measure in record.measures:
        cells = (_cell(found.get((measure, kind))) for kind in record.kinds)
        lines.append(f"<tr>{row_heading(measure)}{''.join(cells)}</tr>")
    return html_table(["Measure", *map(kind_text, record.kinds)], lines, "heat")


def _cell(found: tuple[Interval, float] | None) -> str:
    if found is None:
        return "<td></td>"
    estimate, of_means = found
    sure = " class=best" if estimate.low > 0 or estimate.high < 0 else ""
    detail = f"[{_signed(estimate.low)}, {_signed(estimate.high)}]<br>means {_signed(of_means)}"
    return f"<td style='--shade:0'{sure}>{_signed(estimate.mean)}<small>{detail}</small></td>"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _what(record: SharpnessRecord) -> str:
    problem, settings = record.problem, record.settings
    methods = dict.fromkeys(network.method for network in record.networks)
    balls = {
        name: ", ".join(f"{key} {value}" for key, value in of_rule.items()) for name, of_rule in settings.rules.items()
    }
    facts = {
        "Networks": f"{len(record.networks)} of {problem.network} on {problem.data}, by {', '.join(methods)}",
        "Sharpness": f"on the {settings.split} split, {settings.examples} examples, in evaluation mode",
        "Robustness": f"mean {problem.metric} over {record.chips} chips on the {record.robustness_split} split",
        "Noise of the average rise": f"{settings.noise} {settings.kind}, {settings.trials} chips",
        "Balls": "; ".join(f"{name}: {words}" for name, words in balls.items()),
        "Steps": f"{settings.steps} for the worst case",
    }
    return facts_table(facts)
