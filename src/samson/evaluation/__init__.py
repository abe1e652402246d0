"""Evidence: accuracy on many simulated chips, with intervals and paired differences."""

from samson.evaluation.accuracy import accuracy
from samson.evaluation.statistics import Interval, mean_interval, paired_interval
from samson.evaluation.summary import summarise
from samson.evaluation.trials import Evaluation, Paired, compare, evaluate

__all__ = [
    "Evaluation",
    "Interval",
    "Paired",
    "accuracy",
    "compare",
    "evaluate",
    "mean_interval",
    "paired_interval",
    "summarise",
]
