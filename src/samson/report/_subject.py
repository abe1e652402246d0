"""What was measured, and how: the same table on every page about one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from samson._shown import coverage_text
from samson._times import age_text
from samson.records import ChipKind, Subject
from samson.report._html import html_row, html_table


def subject_table(
    subject: Subject, kinds: Sequence[ChipKind], chips: str, more: Mapping[str, str] | None = None
) -> str:
    """All settings of a measurement and, folded up, the versions that it ran on.

    Args:
        subject: What was measured.
        kinds: The kinds of chips.
        chips: How many there were, in words.
        more: Other lines, by their names, which come first.
    """
    facts = dict(more or {})
    facts |= {
        "Model": subject.model + ("" if subject.weights is None else f", weights {subject.weights}"),
        "Data": subject.data + ("" if subject.examples is None else f", {subject.examples} examples"),
        "Metric": f"{subject.metric}, {'higher' if subject.higher_is_better else 'lower'} is better",
        "Chips": f"{chips} (seed {subject.chip_seed})",
        "Layers on the chip": (", ".join(subject.select) or "all that are by default")
        + ("" if subject.coverage is None else f": {coverage_text(subject.coverage, subject.multiply_adds)}"),
        "Batch norm": "the model's own" if subject.norms_on is None else f"estimated anew from {subject.norms_on}",
        "Readings": "one a chip" if subject.read_block is None else f"one for each {subject.read_block} examples",
        "Forward": "the model as it is" if subject.autocast is None else f"in {subject.autocast}",
        "Batches": ("as the data come" if subject.batch_size is None else f"of {subject.batch_size} examples")
        + (", channels last" if subject.channels_last else ""),
        "Computed by": f"executor {subject.executor}",
        "Finished": subject.finished,
    }
    for name, of in (("Noise", "noise"), ("Periphery", "periphery"), ("Time", "time_s")):
        values = {kind.label: getattr(kind, of) for kind in kinds}
        for value in dict.fromkeys(value for value in values.values() if value is not None):
            labels = [label for label, other in values.items() if other == value]
            where = "" if len(labels) == len(values) else f": {', '.join(labels)}"
            facts[f"{name}{where}"] = age_text(value) if of == "time_s" else value
    settings, versions = (
        html_table([], (html_row([name, str(value)]) for name, value in of.items()), "facts")
        for of in (facts, vars(subject.environment))
    )
    return f"{settings}<details><summary>Versions</summary>{versions}</details>"
