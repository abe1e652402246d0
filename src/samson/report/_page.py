"""The report: one self-contained HTML file, a pure function of a comparison's records."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from samson.records import CLEAN, Comparison, Interval, RunRecord, SearchRecord
from samson.report._figures import chips_figure, gain_figure, robustness_figure, training_figure
from samson.report._html import figure_div, html_row, html_table, page
from samson.report._overview import Overview, band_text, comparable, overview_headline, rank_figure, rank_table
from samson.report._summary import View, against_each, views
from samson.report._tables import (
    clean_value,
    estimate_text,
    gain_text,
    half_width,
    last_kind_within,
    number,
    scale_of,
    sign,
)

TOLERANCE = 0.05
"""How much worse than the baseline without noise the headline allows: points of a fraction, a share of the rest."""


def render(comparison: Comparison, found: Sequence[View] | None = None) -> str:
    """Make the report's HTML; it opens offline.

    Args:
        comparison: Records of one comparison.
        found: Their views, if they are at hand.

    Raises:
        ValueError: If no run has a result.
    """
    records = comparison.records
    if not records:
        raise ValueError("`records` must hold at least one run, got none.")
    found = views(records) if found is None else found
    if not found:
        raise ValueError("`records` must hold a run that did not diverge. Take a smaller learning rate.")
    several, overview = len(found) > 1, Overview(found) if comparable(found) else None
    problems = list(dict.fromkeys(view.problem.name for view in found))
    families = list(dict.fromkeys(view.family.name for view in found))
    only = found[0]
    title = f"{only.problem.data} under {only.family.name} noise"
    if several:
        title = (
            f"{len(problems)} {_plural('problem', problems)}, {len(families)} {_plural('family', families)} of chips"
        )
    return page(
        "comparison.html",
        kind="accuracy on noisy chips",
        title=escape(title),
        headline=overview_headline(overview) if overview else headline(only),
        unfinished=_notes(comparison),
        overview=_section(
            "overview.html",
            figure=figure_div(rank_figure(overview), "ranks"),
            table=rank_table(overview),
            band=band_text(overview),
        )
        if overview
        else "",
        choice=_choice(problems, families) if several else "",
        views="".join(_view(view, place, several=several) for place, view in enumerate(found)),
        searches=_searches(comparison.searches),
        command=escape(comparison.command or "samson compare … (the plan is not in the folder)"),
        versions=_versions(records),
    )


def headline(view: View) -> str:
    """What a view says in one sentence: up to which chip each method keeps the baseline's noise-free value."""
    clean, name = clean_value(view, view.baseline), view.baseline
    drop = TOLERANCE if view.problem.is_fraction else TOLERANCE * abs(clean)
    near = "Within 5 points of" if view.problem.is_fraction else "Within 5 % of"
    reference = (
        f"the {number(clean, view)}{' %' if view.problem.is_fraction else ''} that {escape(name)} has without noise"
    )
    held = {method: last_kind_within(view, method, clean, drop) for method in view.table}
    places = {method: -1 if kind is None else view.kinds.index(kind) for method, kind in held.items()}
    farthest = max(places.values())
    if farthest < 0:
        return f"No method stays {near.lower()} {reference}."
    best = [f"<b>{escape(method)}</b>" for method, place in places.items() if place == farthest]
    sentence = f"{near} {reference}: {_and(best)} up to <b>{escape(_named(view, view.kinds[farthest]))}</b>"
    own = held[name]
    if own is not None and places[name] < farthest:
        sentence += f"; {escape(name)} itself up to {escape(_named(view, own))}"
    return sentence + "."


def _named(view: View, kind: str) -> str:
    return f"noise {kind}" if view.family.unit == "level" and kind != CLEAN else kind


def accuracy_table(view: View) -> str:
    """The metric with its 95 % interval, and that over training seeds, method by kind, shaded from worst to best.

    Each method has what its training costs beside it.
    """
    lines = []
    better = max if view.problem.higher_is_better else min
    means = [row.value.mean for row in view.rows]
    low, high = (0.0, 1.0) if view.problem.is_fraction else (max(means), min(means))
    for method, of_method in view.table.items():
        cells = [f"<th scope='row'>{escape(method)}</th>"]
        for kind in view.kinds:
            row = of_method[kind]
            best = better(other[kind].value.mean for other in view.table.values())
            shade = (row.value.mean - low) / (high - low or 1.0)
            worst, deviation = number(row.worst, view), number(row.std, view)
            cells.append(
                f"<td style='--shade:{max(shade, 0):.3f}' title='worst {worst}, standard deviation between chips "
                f"{deviation}'{' class=best' if row.value.mean == best else ''}>{estimate_text(row.value, view)}"
                f"<small>worst {worst}<br>sd {deviation}{_seeds(row.over_seeds, view)}</small></td>"
            )
        lines.append("<tr>" + "".join(cells) + f"<td style='--shade:0'>{_cost(view, method)}</td></tr>")
    return html_table(["Method", *view.kinds, "Training"], lines, "heat")


def _cost(view: View, method: str) -> str:
    """Seconds of a training run, and gradients as a multiple of the baseline's."""
    runs = {name: [r.training for r in view.records if r.method == name] for name in (method, view.baseline)}
    seconds = sum(training.seconds for training in runs[method]) / len(runs[method])
    own, reference = (of[0].gradients for of in runs.values()) if len(runs) > 1 else [runs[method][0].gradients] * 2
    times = f"<small>{own / reference:.3g} × gradients</small>" if own and reference else ""
    return f"{seconds:.3g} s{times}"


def gain_table(view: View) -> str:
    """Paired gain over the baseline with its 95 % interval, and that over training seeds.

    Marked where Holm's p-value is below .05 and zero is outside of the interval over seeds.
    """
    lines = []
    for method, of_method in view.table.items():
        if not any(row.gain for row in of_method.values()):
            continue
        cells = [f"<th scope='row'>{escape(method)}</th>"]
        for row in of_method.values():
            text = ""
            if row.gain is not None:
                text = gain_text(row.gain, view) + f"<small>{_seeds(row.gain_over_seeds, view)}</small>"
            detail = "" if row.p_value is None else f"p = {row.p_value:.2g} after Holm"
            cells.append(f"<td class='{sign(row)}' title='{detail}'>{text}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return html_table(["Method", *view.kinds], lines, "gain")


def _gains(view: View, place: int) -> str:
    """A menu of methods to compare with, and for each the gains over it."""
    methods = list(view.table)
    if len(methods) < 2:
        return "<p>There is no run of another method to compare with.</p>"
    each = against_each(view)
    options = "".join(f"<option value='{number}'>{escape(one.baseline)}</option>" for number, one in enumerate(each))
    parts = [
        f"<div data-value='{number}'{' hidden' if number else ''}>"
        f"{figure_div(gain_figure(one), f'gain-{place}-{number}')}{gain_table(one)}</div>"
        for number, one in enumerate(each)
    ]
    return (
        f"<label>Compared to <select data-shows='gains-{place}'>{options}</select></label>"
        f"<div id='gains-{place}'>{''.join(parts)}</div>"
    )


def _view(view: View, place: int, *, several: bool) -> str:
    first = view.records[0]
    return _section(
        "view.html",
        hidden="hidden" if place else "",
        problem=escape(view.problem.name),
        family=escape(view.family.name),
        headline=f"<p>{headline(view)}</p>" if several else "",
        metric=escape(view.problem.metric.capitalize()),
        better="higher" if view.problem.higher_is_better else "lower",
        percent=" in percent" if view.problem.is_fraction else "",
        robustness=figure_div(robustness_figure(view), f"robustness-{place}"),
        table=accuracy_table(view),
        gains=_gains(view, place),
        baseline=escape(view.baseline),
        chips=figure_div(chips_figure(view), f"chips-{place}"),
        training=figure_div(training_figure(view), f"training-{place}"),
        what=_what(view),
        settings=_settings(view),
        networks=", ".join(sorted({str(row.seeds) for row in view.rows})),
        trials=first.trials,
        examples=first.examples,
        split=escape(first.split),
    )


def _section(name: str, **parts: object) -> str:
    return Template(files("samson.report").joinpath(name).read_text(encoding="utf-8")).substitute(parts)


def _choice(problems: Sequence[str], families: Sequence[str]) -> str:
    """Two menus: which problem and which family is looked at."""
    menus = []
    for name, words, values in (("problem", "Problem", problems), ("family", "Chips", families)):
        options = "".join(f"<option>{escape(value)}</option>" for value in values)
        only = " disabled" if len(values) == 1 else ""
        menus.append(f"<label>{words} <select data-choice='{name}'{only}>{options}</select></label>")
    return f"<nav>{' '.join(menus)}</nav>"


def _seeds(estimate: Interval | None, view: View) -> str:
    return "" if estimate is None else f"<br>seeds {half_width(estimate, view)}"


def _what(view: View) -> str:
    first, problem = view.records[0], view.problem
    seconds = [record.training.seconds for record in view.records]
    recipe = problem.recipe
    changed = [
        f"{name} {_number(value)}" for name, value in recipe.items() if name not in ("epochs", "batch_size") and value
    ]
    seeds = sorted({record.seed for record in view.records})
    facts = {
        "Data": f"{problem.data}: {first.examples} examples of the {first.split} split",
        "Network": f"{problem.network}, {max(r.training.parameters for r in view.records):,} parameters",
        "Training": f"{problem.base}, {_number(recipe['epochs'])} epochs, batch {_number(recipe['batch_size'])}; "
        f"{min(seconds):.0f}–{max(seconds):.0f} s a run"
        + ("" if problem.trainer == "samson" else f"; by {problem.trainer}"),
        "Recipe": ", ".join(changed),
        "Seeds": f"{len(seeds)} training seeds, {seeds[0]} to {seeds[-1]}",
        "Chips": f"{first.trials} per network and kind, the same for every method (seed {first.chip_seed})",
        "Kinds": "; ".join(f"{kind.label}: {kind.noise}" for kind in view.family.kinds),
    }
    return html_table([], (html_row(item) for item in facts.items()), "facts")


def _settings(view: View) -> str:
    records = {record.method: record for record in view.records}
    names = sorted({name for record in records.values() for name in record.settings})
    lines = []
    for method, record in records.items():
        of_method = [r.training for r in view.records if r.method == method]
        known = [training.validation for training in of_method if training.validation is not None]
        validation = number(sum(known) / len(known), view) if known else ""
        seconds = f"{sum(training.seconds for training in of_method) / len(of_method):.1f}"
        gradients = of_method[0].gradients
        values = [_number(record.settings[name]) if name in record.settings else "" for name in names]
        lines.append(html_row([method, *values, validation, seconds, "" if gradients is None else f"{gradients:,}"]))
    unit = " (%)" if scale_of(view) == 100 else ""
    return html_table(["Method", *names, f"validation{unit}", "seconds", "gradients"], lines, "settings")


def _searches(found: Sequence[SearchRecord]) -> str:
    """How settings were chosen, if they were."""
    if not found:
        return ""
    search = found[0].search
    how = (
        "without noise: the chips are unknown (blind)"
        if search.chosen_by == "blind"
        else (f"on chips of the family {escape(search.chosen_by)} (informed)")
    )
    lines = [
        html_row(
            [
                f"{one.problem.name}: {one.method}",
                ", ".join(f"{name} {_number(value)}" for name, value in one.chosen.items()),
                str(len(one.tried)),
            ]
        )
        for one in found
    ]
    return (
        "<h3>How settings were chosen</h3><p>By the validation split, measured "
        f"{how}, in {search.trials} choices for each method, drawn by “{escape(search.sampler)}”; the test split chose "
        f"nothing.</p>{html_table(['Method', 'chosen', 'tried'], lines, 'settings')}"
    )


def _versions(records: Sequence[RunRecord]) -> str:
    found = {name: sorted({str(vars(r.environment)[name]) for r in records}) for name in vars(records[0].environment)}
    return html_table([], (html_row([name, " and ".join(values)]) for name, values in found.items()), "facts")


def _notes(comparison: Comparison) -> str:
    """What a reader must know first: runs that are missing, diverged, or ran on different things."""
    records = comparison.records
    notes = [
        f"{run.problem.name}, {run.method}, seed {run.seed}: the training diverged at step {run.training.diverged_at}. "
        "Figures are of the other networks."
        for run in records
        if run.training.diverged_at is not None
    ]
    if comparison.planned is not None and len(records) < comparison.planned:
        notes.append(f"{len(records)} of {comparison.planned} runs are finished; this report shows those.")
    for name in ("samson", "torch", "machine", "device", "threads"):
        found = sorted({str(getattr(run.environment, name)) for run in records})
        if len(found) > 1:
            notes.append(f"Runs differ in {name}: {' and '.join(found)}. Their numbers may differ by that too.")
    return "".join(f"<p class='note'>{escape(note)}</p>" for note in notes)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "∞" if value == "inf" else str(value)


def _plural(word: str, of: Sequence[object]) -> str:
    several = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return word if len(of) == 1 else several


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
