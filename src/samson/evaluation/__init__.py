"""Evidence: what a model is worth on many simulated chips, with intervals and paired differences."""

from samson.evaluation.budget import noise_budget
from samson.evaluation.budget_result import Budget
from samson.evaluation.checking import Check
from samson.evaluation.correlation import RankCorrelation, rank_correlation
from samson.evaluation.crossed import crossed_interval
from samson.evaluation.curvature import Trace, hessian_top, hessian_trace
from samson.evaluation.digital import Attempt, Suggestion
from samson.evaluation.executors import EXECUTORS, Batched, Executor, Kept, Ray, Serial, Torchrun, executor_named
from samson.evaluation.families import Family, family
from samson.evaluation.landscape import Landscape, ascent_landscape, random_landscape
from samson.evaluation.layers import Layer
from samson.evaluation.layout import Layout, find_layout
from samson.evaluation.metrics import METRICS, DataSetMetric, ExampleMetric, MeanThen
from samson.evaluation.pairs import Difference, Paired, compare
from samson.evaluation.ranking import LayerRow, Sensitivity
from samson.evaluation.result import Evaluation
from samson.evaluation.scoring import accuracy
from samson.evaluation.sensitivity import sensitivity
from samson.evaluation.setting import Setting
from samson.evaluation.sharpness import WorstCase, average_rise, worst_case_rise
from samson.evaluation.statistics import Interval, mean_interval, paired_interval, share_interval
from samson.evaluation.stopping import betting_interval
from samson.evaluation.summary import summarise
from samson.evaluation.table import ScoreTable
from samson.evaluation.trials import Progress, evaluate

__all__ = [
    "EXECUTORS",
    "METRICS",
    "Attempt",
    "Batched",
    "Budget",
    "Check",
    "DataSetMetric",
    "Difference",
    "Evaluation",
    "ExampleMetric",
    "Executor",
    "Family",
    "Interval",
    "Kept",
    "Landscape",
    "Layer",
    "LayerRow",
    "Layout",
    "MeanThen",
    "Paired",
    "Progress",
    "RankCorrelation",
    "Ray",
    "ScoreTable",
    "Sensitivity",
    "Serial",
    "Setting",
    "Suggestion",
    "Torchrun",
    "Trace",
    "WorstCase",
    "accuracy",
    "ascent_landscape",
    "average_rise",
    "betting_interval",
    "compare",
    "crossed_interval",
    "evaluate",
    "executor_named",
    "family",
    "find_layout",
    "hessian_top",
    "hessian_trace",
    "mean_interval",
    "noise_budget",
    "paired_interval",
    "random_landscape",
    "rank_correlation",
    "sensitivity",
    "share_interval",
    "summarise",
    "worst_case_rise",
]
