"""The report: one self-contained HTML file, a pure function of a comparison's records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from html import escape

from samson.records import CLEAN, Comparison
from samson.report._advice import LEVEL, advice
from samson.report._figures import (
    allowed_drop,
    chips_figure,
    gain_figure,
    in_full,
    robustness_figure,
    tolerance_text,
    training_figure,
)
from samson.report._html import capital, figure_div, filled, listed, packed, page
from samson.report._overview import (
    Overview,
    band_text,
    comparable,
    overview_headline,
    rank_figure,
    rank_table,
    unranked,
)
from samson.report._summary import View, against_each, views
from samson.report._tables import clean_value, last_kind_within, number
from samson.report._view_tables import (
    accuracy_table,
    gain_table,
    searches_section,
    settings_table,
    versions_table,
    what_table,
)


def render(comparison: Comparison, overview: Overview | None = None) -> str:
    """Make the report's HTML; it opens offline.

    Args:
        comparison: Records of one comparison.
        overview: Of their views, if it is at hand.

    Raises:
        ValueError: If no run has a result.
    """
    records = comparison.records
    if not records:
        raise ValueError("`records` must hold at least one run, got none.")
    overview = Overview(views(records)) if overview is None else overview
    found = overview.views
    if not found:
        raise ValueError("`records` must hold a run that did not diverge. Take a smaller learning rate.")
    several, ranked = len(found) > 1, comparable(found)
    problems = list(dict.fromkeys(view.problem.name for view in found))
    families = list(dict.fromkeys(view.family.name for view in found))
    one = len(problems) == 1
    title = f"{len(families)} {'family' if len(families) == 1 else 'families'} of chips"
    title = f"{found[0].problem.data} on {title}" if one else f"{len(problems)} problems, {title}"
    if not several:
        title = f"{found[0].problem.data} under {families[0]} noise"
    ranking = (
        filled(
            "overview.html",
            what="all chips" if one else "all problems and chips",
            figure=figure_div(rank_figure(overview), "ranks"),
            table=rank_table(overview),
            line="" if overview.one_seed else ", a line its 95 % interval over training seeds",
            interval=" is" if overview.one_seed else ", its interval over training seeds, and",
            band=band_text(overview) + unranked(overview),
        )
        if ranked
        else ""
    )
    looks = (_choice(problems, families) if several else "") + "".join(
        _view(view, place, f"<p>{advice([view], LEVEL / len(found))}</p>" if several else "")
        for place, view in enumerate(found)
    )
    return page(
        "comparison.html",
        kind=escape(f"{listed(list(dict.fromkeys(view.problem.metric for view in found)))} on noisy chips"),
        title=escape(title),
        headline=advice(found) if one else overview_headline(overview),
        unfinished="".join(f"<p class='note'>{escape(note)}</p>" for note in notes(comparison)),
        results=looks + ranking if one else ranking + looks,
        searches=searches_section(comparison.searches),
        command=escape(comparison.command or "samson compare … (the plan is not in the folder)"),
        versions=versions_table(records),
    )


def headline(view: View) -> str:
    """What a view says in one sentence: up to which chip each method keeps the baseline's noise-free value."""
    clean, name = clean_value(view, view.baseline), view.baseline
    near = f"within {tolerance_text(view)} of"
    reference = (
        f"the {number(clean, view)}{' %' if view.problem.is_fraction else ''} that {escape(name)} has without noise"
    )
    held: dict[str | None, list[str]] = {}
    for method in view.table:
        held.setdefault(last_kind_within(view, method, clean, allowed_drop(view)), []).append(escape(method))
    farthest, *others = (kind for kind in (*reversed(view.kinds), None) if kind in held)
    if farthest is None:
        return f"No method stays surely {near} {reference}."
    said = [f"{listed([f'<b>{method}</b>' for method in held[farthest]])} {_up_to(view, farthest)}"]
    said += [f"{listed(held[kind])} {'nowhere' if kind is None else _up_to(view, kind)}" for kind in others]
    return f"Surely {near} {reference}: {'; '.join(said)}."


def _up_to(view: View, kind: str) -> str:
    if kind == CLEAN:
        return "only without noise"
    return f"up to <b>{escape(f'noise {kind}' if view.family.unit == 'level' else kind)}</b>"


def _gains(view: View, place: int, full: Sequence[str]) -> str:
    """A menu of methods to compare with, and for each the gains over it."""
    methods = list(view.table)
    if len(methods) < 2:
        return "<p>There is no run of another method to compare with.</p>"
    each = against_each(view)
    options = "".join(f"<option value='{number}'>{escape(one.baseline)}</option>" for number, one in enumerate(each))
    first, *others = (
        f"<div data-value='{number}'{' hidden' if number else ''}>"
        f"{figure_div(gain_figure(one, full), f'gain-{place}-{number}')}{gain_table(one)}</div>"
        for number, one in enumerate(each)
    )
    return (
        f"<label>Compared to <select data-shows='gains-{place}'>{options}</select></label>"
        f"<div id='gains-{place}'>{first}{packed(''.join(others))}</div>"
    )


def _view(view: View, place: int, told: str) -> str:
    """A view's sections, the first of which says what it is told."""
    first, full = view.records[0], in_full(view)
    few = "" if len(full) == len(view.table) else f", of {listed(full)} alone, since there are many methods"
    training = ""
    if any(record.training.loss for record in view.records if record.measured):
        figure = figure_div(training_figure(view), f"training-{place}")
        training = filled("training.html", figure=figure, few=escape(few)).rstrip()
    found = filled(
        "view.html",
        headline=f"{told}<p>{headline(view)}</p>",
        few=escape(few),
        tint="from 0 to 100 %" if view.problem.is_fraction else "from the worst to the best",
        metric=escape(capital(view.problem.metric)),
        better="higher" if view.problem.higher_is_better else "lower",
        percent=" in percent" if view.problem.is_fraction else "",
        robustness=figure_div(robustness_figure(view), f"robustness-{place}"),
        table=accuracy_table(view),
        gains=_gains(view, place, full),
        baseline=escape(view.baseline),
        chips=figure_div(chips_figure(view), f"chips-{place}"),
        training=training,
        what=what_table(view),
        settings=settings_table(view),
        networks=", ".join(sorted({str(row.seeds) for row in view.rows})),
        trials=first.trials,
        examples=first.examples,
        split=escape(first.split),
    )
    where = f'data-problem="{escape(view.problem.name)}" data-family="{escape(view.family.name)}"'
    return f'<div class="view" {where}{" hidden" if place else ""}>{packed(found) if place else found}</div>'


def _choice(problems: Sequence[str], families: Sequence[str]) -> str:
    """Two menus: which problem and which family is looked at."""
    menus = []
    for name, words, values in (("problem", "Problem", problems), ("family", "Chips", families)):
        options = "".join(f"<option>{escape(value)}</option>" for value in values)
        only = " disabled" if len(values) == 1 else ""
        menus.append(f"<label>{words} <select data-choice='{name}'{only}>{options}</select></label>")
    return f"<nav>{' '.join(menus)}</nav>"


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know first, in sentences: runs that are missing, diverged, or ran on different things."""
    records = comparison.records
    said = [
        f"{run.problem.name}, {run.method}, seed {run.seed}: the training diverged at step {run.training.diverged_at}. "
        "Figures are of the other networks."
        for run in records
        if run.training.diverged_at is not None
    ]
    if comparison.planned is not None and len(records) < comparison.planned:
        said.append(f"{len(records)} of {comparison.planned} runs are finished; this report shows those.")
    asked = {(run.problem.name, run.families, run.trials) for run in records}
    said += [
        f"{name}: some networks are not on all chips yet. Figures are of what all are on; repeat the command."
        for name, several in Counter(name for name, *_ in asked).items()
        if several > 1
    ]
    names = ("samson", "torch", "machine", "device", "threads")
    places = [place for run in records for place in (run.environment, *run.chips_added_on)]
    found = {name: {str(getattr(place, name)) for place in places} for name in names}
    found["commit"] = {re.sub(r"\b([0-9a-f]{7})[0-9a-f]+", r"\1", place.git or "none") for place in places}
    auto = {run.training.precision for run in records if run.problem.recipe.get("precision") == "auto"}
    found["precision"] = {precision for precision in auto if precision is not None}
    return said + [
        f"Runs differ in {name}: {_few(sorted(values))}. Their numbers may differ by that too."
        for name, values in found.items()
        if len(values) > 1
    ]


def _few(values: list[str]) -> str:
    """All of a few values, else the first of them and a number."""
    return listed(values if len(values) < 4 else [*values[:2], f"{len(values) - 2} others"])
