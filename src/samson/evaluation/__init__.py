"""Evidence: what a model is worth on many simulated chips, with intervals and paired differences."""

from samson.evaluation._budget import LEVELS, REFINEMENTS, noise_budget, unit_of
from samson.evaluation._budget_result import Budget
from samson.evaluation._compared import Compared
from samson.evaluation._layers import Layer, layers_on_chip
from samson.evaluation._layout import Layout
from samson.evaluation._metric import DataSetMetric, ExampleMetric, NotFiniteError, require_reachable
from samson.evaluation._metrics import METRICS, MeanThen, as_metric, bits, token_losses
from samson.evaluation._pairs import compare
from samson.evaluation._question import MAX_TRIALS, TRIALS
from samson.evaluation._result import Evaluation
from samson.evaluation._scoring import Scores, clean_value, same_draws, scores, value_of, with_targets
from samson.evaluation._sensitivity import sensitivity
from samson.evaluation._sensitivity_result import Attempt, Sensitivity, Suggestion
from samson.evaluation._setting import PRECISIONS, Noise, Setting, prepare, takes_setting
from samson.evaluation._task import Task
from samson.evaluation._trials import Progress, chips_alone, evaluate
from samson.evaluation._watch import Watch
from samson.evaluation.executors import EXECUTORS, Executor, Kept, Numerics, Ray, Serial, Torchrun
from samson.evaluation.executors._facts import digest, identity
from samson.records import Interval
from samson.statistics import Difference, Family, Paired, family

__all__ = [
    "EXECUTORS",
    "LEVELS",
    "MAX_TRIALS",
    "METRICS",
    "PRECISIONS",
    "REFINEMENTS",
    "TRIALS",
    "Attempt",
    "Budget",
    "Compared",
    "DataSetMetric",
    "Difference",
    "Evaluation",
    "ExampleMetric",
    "Executor",
    "Family",
    "Interval",
    "Kept",
    "Layer",
    "Layout",
    "MeanThen",
    "Noise",
    "NotFiniteError",
    "Paired",
    "Progress",
    "Ray",
    "Scores",
    "Sensitivity",
    "Serial",
    "Setting",
    "Suggestion",
    "Task",
    "Torchrun",
    "Watch",
    "as_metric",
    "bits",
    "chips_alone",
    "clean_value",
    "compare",
    "evaluate",
    "family",
    "noise_budget",
    "prepare",
    "require_reachable",
    "same_draws",
    "scores",
    "sensitivity",
    "takes_setting",
    "token_losses",
    "unit_of",
    "value_of",
    "with_targets",
]
