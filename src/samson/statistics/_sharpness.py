"""How each measure of sharpness goes with the accuracy on each kind of chip, from a record alone."""

from __future__ import annotations

from samson.records import CorrelationRow, SharpnessRecord
from samson.statistics._correlation import LEAST_METHODS, rank_correlation


def sharpness_correlations(record: SharpnessRecord) -> tuple[CorrelationRow, ...]:
    """Every measure against the metric on every kind of chip; nothing with fewer than 6 methods.

    A measure or an accuracy that is the same for all networks has no row. Accuracies are equal that differ by nothing
    but the order in which chips were added.
    """
    methods = dict.fromkeys(network.method for network in record.networks)
    if len(methods) < LEAST_METHODS:
        return ()
    of_method = {m: [network for network in record.networks if network.method == m] for m in methods}
    rows = []
    for measure in record.measures:
        sharp = {m: [n.measures[measure].mean for n in networks] for m, networks in of_method.items()}
        for number, kind in enumerate(record.kinds):
            sign = 1 if record.problem.higher_is_better else -1
            accurate = {
                m: [sign * round(n.accuracies[number], 12) for n in networks] for m, networks in of_method.items()
            }
            if any(len({value for values in of.values() for value in values}) == 1 for of in (sharp, accurate)):
                continue
            found = rank_correlation(sharp, accurate, confidence=record.confidence, seed=record.settings.seed)
            rows.append(
                CorrelationRow(
                    measure,
                    kind,
                    found.kendall,
                    found.spearman,
                    found.kendall_of_means,
                    found.spearman_of_means,
                    found.points,
                    found.methods,
                )
            )
    return tuple(rows)
