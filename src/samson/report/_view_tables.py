"""The tables of a comparison's page, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import fmean
from typing import Any

from samson._names import counted
from samson.records import CLEAN, Interval, RunRecord, SearchRecord, Training, Tried
from samson.report._html import facts_table, html_row, html_table, row_heading, value_text
from samson.report._subject import said_once
from samson.report._summary import SummaryRow, View
from samson.report._tables import coverage_of, estimate_text, gain_text, kind_text, number, sign, spread_text


def accuracy_table(view: View) -> str:
    """The metric with its 95 % interval, and that over training seeds, method by kind, shaded from worst to best.

    Each method has what its training costs beside it.
    """
    lines = []
    better = max if view.problem.higher_is_better else min
    means = [row.value.mean for row in view.rows]
    ends = (0.0, 1.0) if view.problem.is_fraction else (min(means), max(means))
    low, high = ends if view.problem.higher_is_better else ends[::-1]
    for method, of_method in view.table.items():
        cells = [row_heading(method)]
        for kind in view.kinds:
            row = of_method[kind]
            best = better(other[kind].value.mean for other in view.table.values())
            shade = (row.value.mean - low) / (high - low or 1.0)
            detail = f"worst {'network' if kind == CLEAN else 'chip'} {number(row.worst, view)}"
            detail += "" if kind == CLEAN else f", standard deviation between chips {number(row.std, view)}"
            cells.append(
                f"<td style='--shade:{max(shade, 0):.3f}' title='{detail}'"
                f"{' class=best' if row.value.mean == best else ''}>{estimate_text(row.value, view)}"
                f"{_seeds(row.over_seeds, view)}</td>"
            )
        lines.append("<tr>" + "".join(cells) + f"<td style='--shade:0'>{_cost(view, method)}</td></tr>")
    return html_table(["Method", *map(kind_text, view.kinds), "Training"], lines, "heat")


def _cost(view: View, method: str) -> str:
    """Seconds of a training run, and gradients as a multiple of the baseline's."""
    runs, of_base = (_trainings(view, name) for name in (method, view.baseline))
    own, reference = runs[0].gradients, of_base[0].gradients
    times = f"<small>{own / reference:.3g} × gradients</small>" if own and reference else ""
    return f"{_seconds(fmean(training.seconds for training in runs))} s{times}"


def _trainings(view: View, method: str) -> list[Training]:
    """The trainings of a method that did not diverge; one that did ended early."""
    return [record.training for record in view.records if record.method == method and record.measured]


def gain_table(view: View) -> str:
    """Paired gain over the baseline with its 95 % interval, and that over training seeds.

    Marked where Holm's p-value over seeds is below .05.
    """
    lines = []
    for method, of_method in view.table.items():
        if not any(row.gain for row in of_method.values()):
            continue
        cells = [row_heading(method)]
        for row in of_method.values():
            text = ""
            if row.gain is not None:
                text = gain_text(row.gain, view) + _seeds(row.gain_over_seeds, view, signed=True)
            cells.append(f"<td class='{sign(row)}' title='{_p_values(row)}'>{text}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return html_table(["Method", *map(kind_text, view.kinds)], lines, "gain")


def _p_values(row: SummaryRow) -> str:
    if row.p_value is None:
        return ""
    others = "" if row.p_value_seeds is None else f", {row.p_value_seeds:.2g} for others trained likewise"
    return f"after Holm, p = {row.p_value:.2g} for these networks{others}"


def _seeds(estimate: Interval | None, view: View, *, signed: bool = False) -> str:
    return "" if estimate is None else f"<small>seeds {spread_text(estimate, view, signed=signed)}</small>"


def _seconds(seconds: float) -> str:
    """A number of seconds, with one decimal below ten."""
    return f"{seconds:.1f}" if seconds < 9.95 else f"{seconds:,.0f}"


def what_table(view: View) -> str:
    """What was run: data, network, training, chips; a recipe only where samson's own loop followed it."""
    first, problem = view.records[0], view.problem
    seconds = [training.seconds for method in view.table for training in _trainings(view, method)]
    took = "–".join(dict.fromkeys(_seconds(of(seconds)) for of in (min, max))) + " s a run"
    training = {"Training": f"{problem.base}; by {problem.trainer}; {took}"}
    if problem.trainer == "samson":
        recipe = dict(problem.recipe)
        epochs, batch = (_number(recipe.pop(name, "–")) for name in ("epochs", "batch_size"))
        training = {
            "Training": f"{problem.base}, {epochs} epochs, batch {batch}; {took}",
            "Recipe": ", ".join(f"{name} {_number(value)}" for name, value in recipe.items() if value),
        }
    seeds = sorted({record.seed for record in view.records})
    facts = {
        "Data": f"{problem.data}: {first.examples} examples of the {first.split} split",
        "Network": f"{problem.network}, {max(r.training.parameters for r in view.records):,} parameters",
        **training,
        "Seeds": f"{len(seeds)} training seeds, {seeds[0]} to {seeds[-1]}",
        "Chips": f"{first.trials} per network and kind, the same for every method (seed {first.chip_seed})",
        "On the chips": coverage_of(view) or "unknown",
        **({"Selected": ", ".join(problem.select)} if problem.select else {}),
    }
    noises = said_once({kind.label: kind.noise for kind in view.family.kinds})
    return facts_table(facts | {f"Noise{where}": noise for where, noise in noises.items()})


def settings_table(view: View) -> str:
    """The settings of every method, with what its training gave and cost."""
    records = {record.method: record for record in view.records}
    names = sorted({name for record in records.values() for name in record.settings})
    lines = []
    for method, record in records.items():
        of_method = _trainings(view, method)
        known = [training.validation for training in of_method if training.validation is not None]
        validation = number(sum(known) / len(known), view) if known else ""
        seconds = _seconds(fmean(training.seconds for training in of_method)) if of_method else ""
        gradients = of_method[0].gradients if of_method else None
        values = [_number(record.settings[name]) if name in record.settings else "" for name in names]
        lines.append(html_row([method, *values, validation, seconds, "" if gradients is None else f"{gradients:,}"]))
    unit = " (%)" if view.problem.is_fraction else ""
    return html_table(["Method", *names, f"validation{unit}", "seconds", "gradients"], lines, "settings")


def searches_section(found: Sequence[SearchRecord]) -> str:
    """How settings were chosen, if they were: each choice with what it scored, the chosen one bold."""
    if not found:
        return ""
    search = found[0].search
    how = (
        "without noise: the chips are unknown (blind)"
        if search.chosen_by == "blind"
        else (f"on chips of the family {escape(search.chosen_by)} (informed)")
    )
    lines = [
        f"<tr>{row_heading(f'{one.problem.name}: {one.method}')}<td>{escape(_chosen(one))}</td>"
        f"<td>{'<br>'.join(_scored(choice, one) for choice in one.tried)}</td></tr>"
        for one in found
    ]
    return (
        "<h3>How settings were chosen</h3><p>By the validation split, measured "
        f"{how}, in {search.trials} choices for each method, drawn by “{escape(search.sampler)}”, each trained with "
        f"{counted(search.seeds, 'seed')}; of equal choices the later is taken. The test split chose nothing.</p>"
        f"{html_table(['Method', 'chosen', 'tried'], lines, 'settings')}"
    )


def _chosen(record: SearchRecord) -> str:
    """The chosen settings; those at an edge of what was tried say so, since a better one may lie beyond."""
    said = []
    for name, value in record.chosen.items():
        tried = {choice.settings[name] for choice in record.tried}
        sizes = sorted(float(one) for one in tried if one == "inf" or not isinstance(one, str))
        edge = ""
        if len(sizes) == len(tried) > 1:
            edge = {sizes[0]: " (the smallest tried)", sizes[-1]: " (the largest tried)"}.get(float(value), "")
        said.append(f"{name} {_number(value)}{edge}")
    return ", ".join(said)


def _scored(choice: Tried, record: SearchRecord) -> str:
    """One choice with its mean over seeds, as HTML."""
    known = [value for value in choice.values if value is not None]
    score = "diverged"
    if len(known) == len(choice.values):
        score = value_text(fmean(known), record.problem) + " %" * record.problem.is_fraction
    text = escape(", ".join(f"{name} {_number(value)}" for name, value in choice.settings.items()) + f": {score}")
    return f"<b>{text}</b>" if choice.settings == record.chosen else text


def versions_table(records: Sequence[RunRecord]) -> str:
    """The versions and machines of the runs, folded up by the page."""
    places = [vars(place) for run in records for place in (run.environment, *run.chips_added_on)]
    return facts_table({name: " and ".join(sorted({str(place[name]) for place in places})) for name in places[0]})


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "∞" if value == "inf" else str(value)
