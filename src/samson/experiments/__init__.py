"""Experiments by name: data sets, networks, training methods, and comparisons of them on simulated chips."""

from samson.experiments._checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from samson.experiments._chips import find_chip
from samson.experiments._data import DATA, Pair, Splits
from samson.experiments._defaults import BASE, DEFAULTS
from samson.experiments._environment import commit, environment
from samson.experiments._errors import SetupError, choose, require
from samson.experiments._measurements import (
    budget_record,
    evaluation_record,
    kind_of,
    sensitivity_record,
    subject_of,
)
from samson.experiments._methods import ADDITIONS, Method, cores, default_settings, parse_methods
from samson.experiments._models import load_model
from samson.experiments._networks import NETWORKS, build_network
from samson.experiments._planning import (
    LEVELS,
    METHODS,
    checked_levels,
    load_records,
    plan_comparison,
    prepare_folder,
)
from samson.experiments._requests import SPLITS, Request, load_data
from samson.experiments._runs import one_thread, record_path, run, run_name, sweep
from samson.experiments._sharpness import FILE, STEPS, correlations, measure_folder
from samson.experiments._suite import WorkerLostError, default_jobs, missing, run_all
from samson.experiments._training import Plan, train
