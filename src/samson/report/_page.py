"""The report: one self-contained HTML file, a pure function of records and their summary."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape

from samson.records import Configuration, Interval, RunRecord
from samson.report._figures import chips_figure, gain_figure, robustness_figure
from samson.report._html import figure_div, html_row, html_table, page
from samson.report._summary import SummaryRow
from samson.report._tables import by_method, half_width, last_level_within, percent, points
from samson.statistics import CONFIDENCE

Row = Sequence[str]


def render(records: Sequence[RunRecord], rows: Sequence[SummaryRow], baseline: str = "sgd") -> str:
    """Make the report's HTML; it opens offline.

    Args:
        records: Records of one comparison, at least one.
        rows: Their summary.
        baseline: The method to which `rows` compare.

    Raises:
        ValueError: If there is no record.
    """
    if not records:
        raise ValueError("`records` must hold at least one run, got none.")
    plan = records[0].configuration
    planned = len(plan.methods) * plan.seeds
    paired = any(row.gain for row in rows)
    if not rows:
        raise ValueError("`records` must hold a run that did not diverge. Take a smaller learning rate.")
    return page(
        "comparison.html",
        kind="accuracy on noisy chips",
        title=escape(f"{plan.data} under {plan.noise} noise"),
        headline=headline(rows, baseline),
        unfinished=_notes(records, planned),
        robustness=figure_div(robustness_figure(rows, baseline), "robustness"),
        table=accuracy_table(rows),
        gain=figure_div(gain_figure(rows, baseline), "gain") if paired else "",
        gain_table=gain_table(rows) if paired else "<p>There is no run of the baseline to compare with.</p>",
        baseline=escape(baseline),
        chips=figure_div(chips_figure(records, baseline), "chips"),
        what=_what(records),
        settings=_settings(plan, records),
        command=escape(command(plan)),
        versions=_versions(records),
        networks=", ".join(sorted({str(row.seeds) for row in rows})),
        trials=plan.trials,
        examples=records[0].examples,
        split=escape(records[0].split),
    )


def headline(rows: Sequence[SummaryRow], baseline: str) -> str:
    """What the rows say in one sentence: up to which noise each method keeps the baseline's noise-free accuracy."""
    table = by_method(rows)
    reference = table.get(baseline) or next(iter(table.values()))
    clean = reference[0.0].accuracy.mean
    name = baseline if baseline in table else next(iter(table))
    held = {method: last_level_within(rows, method, clean) for method in table}
    farthest = max(-1.0 if level is None else level for level in held.values())
    if farthest < 0:
        return f"No method stays within 5 points of the {100 * clean:.1f} % that {escape(name)} has without noise."
    best = [f"<b>{escape(method)}</b>" for method, level in held.items() if level == farthest]
    sentence = (
        f"Within 5 points of the {100 * clean:.1f} % that {escape(name)} has without noise: "
        f"{_and(best)} up to noise <b>{farthest:g}</b>"
    )
    own = held[name]
    if own is not None and own < farthest:
        sentence += f"; {escape(name)} itself up to {own:g}"
    return sentence + "."


def accuracy_table(rows: Sequence[SummaryRow]) -> str:
    """Accuracy with its 95 % interval, and that over training seeds, method by level, shaded from low to high."""
    table = by_method(rows)
    levels = sorted({row.level for row in rows})
    lines = []
    for method, of_method in table.items():
        cells = [f"<th scope='row'>{escape(method)}</th>"]
        for level in levels:
            row = of_method[level]
            best = max(other[level].accuracy.mean for other in table.values())
            shade = max(row.accuracy.mean, 0)
            detail = f"worst {100 * row.worst:.1f} %, standard deviation between chips {100 * row.std:.1f}"
            cells.append(
                f"<td style='--shade:{shade:.3f}' title='{detail}'"
                f"{' class=best' if row.accuracy.mean == best else ''}>{percent(row.accuracy)}"
                f"<small>worst {100 * row.worst:.1f}<br>sd {100 * row.std:.1f}{_seeds(row.over_seeds)}</small></td>"
            )
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return html_table(["Method", *(f"{level:g}" for level in levels)], lines, "heat")


def gain_table(rows: Sequence[SummaryRow]) -> str:
    """Paired difference to the baseline with its 95 % interval, and that over training seeds.

    Marked where Holm's p-value is below .05 and zero is outside of the interval over seeds.
    """
    levels = sorted({row.level for row in rows})
    lines = []
    for method, of_method in by_method(rows).items():
        found = [of_method[level] for level in levels]
        if not any(row.gain for row in found):
            continue
        cells = [f"<th scope='row'>{escape(method)}</th>"]
        for row in found:
            text = "" if row.gain is None else points(row.gain) + f"<small>{_seeds(row.gain_over_seeds)}</small>"
            detail = "" if row.p_value is None else f"p = {row.p_value:.2g} after Holm"
            cells.append(f"<td class='{_sign(row)}' title='{detail}'>{text}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return html_table(["Method", *(f"{level:g}" for level in levels)], lines, "gain")


def command(plan: Configuration) -> str:
    """The command that runs this comparison again."""
    words = ["samson", "compare", "--data", plan.data, "--methods", ",".join(plan.methods), "--noise", plan.noise]
    words += ["--levels", ",".join(f"{level:g}" for level in plan.levels), "--trials", str(plan.trials)]
    words += ["--seeds", str(plan.seeds), "--epochs", str(plan.epochs)]
    for override in plan.overrides:
        words += ["--set", override]
    return shlex.join([*words, "--out", f"runs/{plan.data}"])


def _sign(row: SummaryRow) -> str:
    """On which side of zero a gain is, if it is sure."""
    if row.gain is None or row.p_value is None or row.p_value >= 1 - CONFIDENCE:
        return ""
    over_seeds = row.gain_over_seeds or row.gain
    return "up" if row.gain.mean > 0 < over_seeds.low else "down" if row.gain.mean < 0 > over_seeds.high else ""


def _seeds(estimate: Interval | None) -> str:
    return "" if estimate is None else f"<br>seeds {half_width(estimate)}"


def _what(records: Sequence[RunRecord]) -> str:
    plan = records[0].configuration
    seconds = [record.training.seconds for record in records]
    facts = {
        "Data": plan.data,
        "Network": f"{plan.network}, {records[0].training.parameters:,} parameters",
        "Training": f"{plan.epochs} epochs, batch {plan.batch_size}; {min(seconds):.0f}–{max(seconds):.0f} s a run",
        "Seeds": f"{plan.seeds} training seeds, 0 to {plan.seeds - 1}",
        "Noise": f"{plan.noise}, on linear and convolution weights; the levels are "
        + ", ".join(f"{level:g}" for level in plan.levels),
        "Chips": f"{plan.trials} per network and level, the same for every method (seed {plan.chip_seed})",
        "Examples": f"{records[0].examples} of the {records[0].split} split",
    }
    return html_table([], (html_row(item) for item in facts.items()), "facts")


def _settings(plan: Configuration, records: Sequence[RunRecord]) -> str:
    names = sorted({name for settings in plan.methods.values() for name in settings})
    lines = []
    for method, settings in plan.methods.items():
        found = [r.training.validation_accuracy for r in records if r.method == method]
        known = [value for value in found if value is not None]
        validation = f"{100 * sum(known) / len(known):.1f}" if known else ""
        values = [_number(settings[name]) if name in settings else "" for name in names]
        lines.append(html_row([method, *values, validation]))
    return html_table(["Method", *names, "validation (%)"], lines, "settings")


def _versions(records: Sequence[RunRecord]) -> str:
    found = {name: sorted({str(vars(r.environment)[name]) for r in records}) for name in vars(records[0].environment)}
    return html_table([], (html_row([name, " and ".join(values)]) for name, values in found.items()), "facts")


def _notes(records: Sequence[RunRecord], planned: int) -> str:
    """What a reader must know first: runs that are missing, diverged, or ran on different things."""
    notes = [
        f"{run.method}, seed {run.seed}: the training diverged at step {run.training.diverged_at}. Figures are of the "
        "other networks."
        for run in records
        if run.training.diverged_at is not None
    ]
    if len(records) < planned:
        notes.append(f"{len(records)} of {planned} runs are finished; this report shows those.")
    for name in ("samson", "torch", "machine", "device", "threads"):
        found = sorted({str(getattr(run.environment, name)) for run in records})
        if len(found) > 1:
            notes.append(f"Runs differ in {name}: {' and '.join(found)}. Their numbers may differ by that too.")
    return "".join(f"<p class='note'>{escape(note)}</p>" for note in notes)


def _number(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else "∞" if value == "inf" else value


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
