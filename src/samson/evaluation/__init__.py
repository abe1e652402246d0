"""Evidence: what a model is worth on many simulated chips, with intervals and paired differences."""

from samson.evaluation.crossed import crossed_interval
from samson.evaluation.executors import EXECUTORS, Executor, Ray, Serial, Torchrun, executor_named
from samson.evaluation.layout import Layout
from samson.evaluation.metrics import METRICS, DataSetMetric, ExampleMetric, MeanThen
from samson.evaluation.pairs import Difference, Family, Paired, compare, family
from samson.evaluation.result import Evaluation
from samson.evaluation.scoring import accuracy
from samson.evaluation.statistics import Interval, mean_interval, paired_interval, share_interval
from samson.evaluation.stopping import betting_interval, looks
from samson.evaluation.summary import summarise
from samson.evaluation.table import ScoreTable
from samson.evaluation.trials import Progress, Setting, evaluate

__all__ = [
    "EXECUTORS",
    "METRICS",
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
    "Ray",
    "ScoreTable",
    "Serial",
    "Setting",
    "Torchrun",
    "accuracy",
    "betting_interval",
    "compare",
    "crossed_interval",
    "evaluate",
    "executor_named",
    "family",
    "looks",
    "mean_interval",
    "paired_interval",
    "share_interval",
    "summarise",
]
