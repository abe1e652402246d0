"""Experiments by name: data sets, networks, training methods, and comparisons of them on simulated chips."""

from samson.experiments.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from samson.experiments.chips import find_chip
from samson.experiments.data import DATA, Pair, Splits
from samson.experiments.defaults import BASE, DEFAULTS
from samson.experiments.environment import commit, environment
from samson.experiments.errors import SetupError, choose, require
from samson.experiments.measurements import (
    budget_record,
    evaluation_record,
    kind_of,
    sensitivity_record,
    subject_of,
)
from samson.experiments.methods import ADDITIONS, Method, cores, default_settings, parse_methods
from samson.experiments.models import load_model
from samson.experiments.networks import NETWORKS, build_network
from samson.experiments.planning import (
    LEVELS,
    METHODS,
    checked_levels,
    load_records,
    plan_comparison,
    prepare_folder,
)
from samson.experiments.requests import SPLITS, Request, load_data
from samson.experiments.runs import one_thread, record_path, run, run_name, sweep
from samson.experiments.sharpness import FILE, STEPS, correlations, measure_folder
from samson.experiments.suite import WorkerLostError, default_jobs, missing, run_all
from samson.experiments.training import Plan, train
