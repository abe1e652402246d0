"""Experiments by name: data sets, networks, tasks, training methods, and comparisons of them on simulated chips."""

from samson._environment import environment
from samson._errors import SetupError, WorkerLostError
from samson.experiments._checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from samson.experiments._chips import USUAL, Kind, chip_family, noise_family, parse_level, parse_time
from samson.experiments._comparing import Comparing, compare_suite
from samson.experiments._defaults import BASES, TUNED, TUNED_FOR
from samson.experiments._distillation import distillation
from samson.experiments._estimate import Estimate, estimate
from samson.experiments._finding import calibrated, chip_by_level, find_chip, find_noise, names_chip
from samson.experiments._folders import look_into, open_folder, read_records, trained_already
from samson.experiments._loop import Loop, train
from samson.experiments._method import Built, Method
from samson.experiments._methods import default_settings, parse_methods
from samson.experiments._models import load_model
from samson.experiments._networks import make_network
from samson.experiments._parts import ADDITIONS, ALIASES, MODES, cores, summary
from samson.experiments._place import Place, check_device, find_device, find_place, one_thread
from samson.experiments._plan import Job, Plan, jobs_of
from samson.experiments._planning import plan_suite, read_suite
from samson.experiments._problems import METHODS
from samson.experiments._ray import run_on_ray
from samson.experiments._recipes import RECIPES, Recipe
from samson.experiments._requests import Request, find_metric, load_data
from samson.experiments._rho import diverged, find_rho, suggest_rho
from samson.experiments._runs import run
from samson.experiments._saved import check_folder, save_trained
from samson.experiments._saving import Saver
from samson.experiments._search import search_settings
from samson.experiments._sharpness import measure_folder, sharpness_path
from samson.experiments._suite import Failure, Silent, default_jobs, run_all
from samson.experiments._sweeps import ranges_of, sweep
from samson.experiments._tasks import TASKS, Classification, LanguageModelling, Regression, Task, make_task
from samson.experiments._trained import planned_run, trained
from samson.experiments._training import DivergedError, Run, StoppedError
from samson.experiments.data import DATA, Pair, Splits, load_data_set, load_splits
from samson.experiments.networks import NETWORKS

__all__ = [
    "BASES",
    "DATA",
    "METHODS",
    "NETWORKS",
    "TASKS",
    "TUNED",
    "Built",
    "Classification",
    "Comparing",
    "DivergedError",
    "Failure",
    "LanguageModelling",
    "Method",
    "Pair",
    "Plan",
    "Recipe",
    "Regression",
    "Run",
    "SetupError",
    "Splits",
    "Task",
    "calibrated",
    "chip_by_level",
    "compare_suite",
    "find_metric",
    "load_data",
    "load_model",
    "load_splits",
    "make_network",
    "parse_methods",
    "plan_suite",
    "suggest_rho",
    "train",
]
