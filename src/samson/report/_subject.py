"""What was measured, and how: the same table on every page about one model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from samson._shown import coverage_text
from samson._times import age_text
from samson.records import ChipKind, Subject
from samson.report._html import facts_table


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
        "Model": subject.model
        + ("" if subject.weights is None else f", weights {subject.weights}")
        + ("" if subject.weights_hash is None else f" (hash {subject.weights_hash})"),
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
    for name, values in (
        ("Noise", {kind.label: kind.noise for kind in kinds}),
        ("Periphery", {kind.label: kind.periphery for kind in kinds}),
    ):
        facts |= {f"{name}{where}": text for where, text in said_once(values).items()}
    aged = {kind.label: age_text(kind.time_s) for kind in kinds if kind.time_s is not None}
    if aged:
        several = len(aged) < len(kinds)
        facts["Time"] = ", ".join(dict.fromkeys(f"{age} ({label})" if several else age for label, age in aged.items()))
    versions = facts_table(vars(subject.environment))
    return f"{facts_table(facts)}<details><summary>Versions</summary>{versions}</details>"


def said_once(values: Mapping[str, str | None]) -> dict[str, str]:
    """Texts of several kinds of chips by the labels that they are of, ": 0.1, 0.2", or "" for all of them.

    Texts that differ in one value only are one text, with the values beside it, and labels that say anything else.

    Example:
        >>> said_once({"0.1": "Gaussian(sigma=0.1)", "0.2": "Gaussian(sigma=0.2)"})
        {'': 'Gaussian(sigma=…), … is 0.1, 0.2'}
        >>> said_once({"int8": "Quantize(bits=8)", "pcm": "PCM()"})
        {': int8': 'Quantize(bits=8)', ': pcm': 'PCM()'}
    """
    texts = [text for text in dict.fromkeys(values.values()) if text is not None]
    words = [re.split(r"([\w.+-]+)", text) for text in texts]
    if len(texts) == len(values) > 1 and len({len(of_text) for of_text in words}) == 1:
        differ = [place for place, column in enumerate(zip(*words, strict=True)) if len(set(column)) > 1]
        if len(differ) == 1:
            own = [of_text[differ[0]] for of_text in words]
            words[0][differ[0]] = "…"
            said = (label if label == value else f"{value} ({label})" for label, value in zip(values, own, strict=True))
            return {"": f"{''.join(words[0])}, … is {', '.join(said)}"}
    found = {}
    for text in texts:
        labels = [label for label, other in values.items() if other == text]
        found["" if len(labels) == len(values) else f": {', '.join(labels)}"] = text
    return found
