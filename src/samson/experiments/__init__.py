"""Experiments by name: data sets, networks, training methods, and comparisons of them on simulated chips."""

from samson.experiments.errors import SetupError
from samson.experiments.planning import load_records, plan_comparison, prepare_folder
from samson.experiments.suite import run_all

__all__ = ["SetupError", "load_records", "plan_comparison", "prepare_folder", "run_all"]
