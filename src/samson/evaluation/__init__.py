"""Evidence: what a model is worth on many simulated chips, with intervals and paired differences."""

from samson.evaluation.crossed import crossed_interval
from samson.evaluation.digital import Attempt, Suggestion
from samson.evaluation.executors import Executor, Serial
from samson.evaluation.layers import Layer
from samson.evaluation.layout import Layout
from samson.evaluation.metrics import METRICS, DataSetMetric, ExampleMetric, MeanThen
from samson.evaluation.pairs import Difference, Family, Paired, compare, family
from samson.evaluation.ranking import LayerRow, Sensitivity
from samson.evaluation.result import Evaluation
from samson.evaluation.scoring import accuracy
from samson.evaluation.sensitivity import sensitivity
from samson.evaluation.statistics import Interval, mean_interval, paired_interval, share_interval
from samson.evaluation.stopping import betting_interval, looks
from samson.evaluation.summary import summarise
from samson.evaluation.table import ScoreTable
from samson.evaluation.trials import Progress, Setting, evaluate

__all__ = [
    "METRICS",
    "Attempt",
    "DataSetMetric",
    "Difference",
    "Evaluation",
    "ExampleMetric",
    "Executor",
    "Family",
    "Interval",
    "Layer",
    "LayerRow",
    "Layout",
    "MeanThen",
    "Paired",
    "Progress",
    "ScoreTable",
    "Sensitivity",
    "Serial",
    "Setting",
    "Suggestion",
    "accuracy",
    "betting_interval",
    "compare",
    "crossed_interval",
    "evaluate",
    "family",
    "looks",
    "mean_interval",
    "paired_interval",
    "sensitivity",
    "share_interval",
    "summarise",
]
