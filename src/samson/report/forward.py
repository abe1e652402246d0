"""What pages say of a faster forward: the precision, whether compiled, and what that changed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from samson.records import CheckRecord
from samson.report.values import value_text


def forward_text(autocast: str | None, compiled: bool) -> str:
    """How the model was run, for example "in bfloat16 and compiled"."""
    words = ([] if autocast is None else [f"in {autocast}"]) + ["compiled"] * compiled
    return " and ".join(words) or "as it is"


def check_note(metric: str, checks: Sequence[tuple[str, CheckRecord | None]], how: str) -> str:
    """What a faster forward changed; a warning where that is not shown to be within the interval.

    Args:
        metric: Name of the metric.
        checks: By what they are about.
        how: What `forward_text` says.
    """
    found = [(label, check) for label, check in checks if check is not None]
    if not found:
        return ""
    failed = [label for label, check in found if not check.passed]
    largest = max(max(abs(check.change.low), abs(check.change.high)) for _, check in found)
    text = (
        f"The model was run {how}: on {len(found[0][1].differences)} chips that were run plainly too, that changes the "
        f"mean by at most {value_text(metric, largest)}, with confidence."
    )
    if not failed:
        return f"<p class='soft'>{text} That is within the intervals.</p>"
    return (
        f"<p class='note'>{text} At {escape(', '.join(failed))} it is <b>not shown to be within</b> the interval: do "
        "not rely on these values before they are measured plainly.</p>"
    )
