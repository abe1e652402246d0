"""Evidence: what a model is worth on many simulated chips, with intervals and paired differences."""

from samson.evaluation.budget import Budget, noise_budget
from samson.evaluation.crossed import crossed_interval
from samson.evaluation.executors import Executor, Serial
from samson.evaluation.layout import Layout
from samson.evaluation.metrics import METRICS, DataSetMetric, ExampleMetric, MeanThen
from samson.evaluation.pairs import Difference, Family, Paired, compare, family
from samson.evaluation.result import Evaluation
from samson.evaluation.scoring import accuracy
from samson.evaluation.statistics import Interval, mean_interval, paired_interval, share_interval
from samson.evaluation.stopping import betting_interval
from samson.evaluation.summary import summarise
from samson.evaluation.table import ScoreTable
from samson.evaluation.trials import Progress, Setting, evaluate

__all__ = [
    "METRICS",
    "Budget",
    "DataSetMetric",
    "Difference",
    "Evaluation",
    "ExampleMetric",
    "Executor",
    "Family",
    "Interval",
    "Layout",
    "MeanThen",
    "Paired",
    "Progress",
    "ScoreTable",
    "Serial",
    "Setting",
    "accuracy",
    "betting_interval",
    "compare",
    "crossed_interval",
    "evaluate",
    "family",
    "mean_interval",
    "noise_budget",
    "paired_interval",
    "share_interval",
    "summarise",
]
