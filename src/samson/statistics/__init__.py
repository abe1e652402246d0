"""Intervals for means, shares, crossed designs and differences; when to stop; rank correlation. No torch."""

from samson.records import Interval
from samson.statistics._correlation import RankCorrelation, rank_correlation, sharpness_correlations
from samson.statistics._crossed import (
    Component,
    combine,
    components,
    crossed_interval,
    crossed_share_interval,
    table_interval,
)
from samson.statistics._crossing import ROUNDING, crossing, fixed_sequence, upper_limit
from samson.statistics._differences import Spread, holm, spread, variance_ratio
from samson.statistics._family import Family, family
from samson.statistics._means import CONFIDENCE, mean_bound, mean_interval, mean_p_value, share_interval, smallest_step
from samson.statistics._pairs import About, Difference, Over, Paired, Trials
from samson.statistics._ranks import MeanRank, critical_difference, mean_ranks
from samson.statistics._stopping import FIRST_LOOK, Look, Stopping, betting_interval, first_look, next_look
from samson.statistics._student import t_below, t_quantile

__all__ = [
    "CONFIDENCE",
    "FIRST_LOOK",
    "ROUNDING",
    "About",
    "Component",
    "Difference",
    "Family",
    "Interval",
    "Look",
    "MeanRank",
    "Over",
    "Paired",
    "RankCorrelation",
    "Spread",
    "Stopping",
    "Trials",
    "betting_interval",
    "combine",
    "components",
    "critical_difference",
    "crossed_interval",
    "crossed_share_interval",
    "crossing",
    "family",
    "first_look",
    "fixed_sequence",
    "holm",
    "mean_bound",
    "mean_interval",
    "mean_p_value",
    "mean_ranks",
    "next_look",
    "rank_correlation",
    "share_interval",
    "sharpness_correlations",
    "smallest_step",
    "spread",
    "t_below",
    "t_quantile",
    "table_interval",
    "upper_limit",
    "variance_ratio",
]
