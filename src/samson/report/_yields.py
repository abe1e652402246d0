"""The yield: the share of chips that are good enough, for every value that could be asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from samson.records import EvaluationRecord
from samson.report._plot import PALETTE, Plot, axis, dashes, plot, transparent


def yield_figure(record: EvaluationRecord) -> Plot:
    """The share of chips that are at least as good as a value, against that value.

    The last kind's line has a band, unless its chips are all the same.
    """
    scale = 100 if record.subject.is_fraction else 1
    higher = record.subject.higher_is_better
    values = sorted({value for row in record.measured for value in row.trials})
    step = "vh" if higher else "hv"  # what lies between two values
    palette = {row.kind.label: PALETTE[(5 + number) % len(PALETTE)] for number, row in enumerate(record.measured)}
    looks = dashes(palette)
    data: list[dict[str, Any]] = []
    for row in record.measured:
        label, colour = row.kind.label, palette[row.kind.label]
        shares = shares_at(values, row.trials, higher_is_better=higher)
        half = half_width(len(row.trials), record.subject.confidence)
        banded = row is record.measured[-1] and not row.kind.alike
        for bound, fill in ((half, {}), (-half, {"fill": "tonexty"})) if banded else ():
            data.append(
                {
                    "type": "scatter",
                    "x": [scale * value for value in values],
                    "y": [100 * min(1.0, max(0.0, share + bound)) for share in shares],
                    "mode": "lines",
                    "line": {"width": 0, "shape": step},
                    **fill,
                    "fillcolor": transparent(colour, 0.1),
                    "legendgroup": label,
                    "showlegend": False,
                    "hoverinfo": "skip",
                }
            )
        data.append(
            {
                "type": "scatter",
                "x": [scale * value for value in values],
                "y": [100 * share for share in shares],
                "mode": "lines+markers",
                "marker": {"size": 4, "symbol": looks[label][1]},
                "line": {"width": 2.5, "shape": step, "color": colour, "dash": looks[label][0]},
                "name": label,
                "legendgroup": label,
                "hovertemplate": "%{x:.4g}: %{y:.0f} % of the chips",
            }
        )
    x = axis(f"{'At least' if higher else 'At most'} this {record.subject.metric}{' (%)' if scale == 100 else ''}")
    return plot(data, x, axis("Share of chips (%)", range=[-2, 102]))


def shares_at(values: Sequence[float], trials: Sequence[float], *, higher_is_better: bool) -> list[float]:
    """The share of chips that are at least as good as each value.

    Example:
        >>> shares_at([0.7, 0.8, 0.9], [0.9, 0.7], higher_is_better=True)
        [1.0, 0.5, 0.5]
    """
    return [sum(t >= v if higher_is_better else t <= v for t in trials) / len(trials) for v in values]


def half_width(chips: int, confidence: float) -> float:
    """Half the width of a band that holds the whole line of shares: √(ln(2 / (1 − confidence)) / (2·chips)).

    Reference: Dvoretzky, Kiefer and Wolfowitz 1956, with the constant of Massart 1990, Ann. Probab. 18, 1269.
    """
    return math.sqrt(math.log(2 / (1 - confidence)) / (2 * chips))
