"""Typed, versioned records of runs, and their JSON."""

from samson.records._chips import CLEAN, ChipFamily, ChipKind
from samson.records._codec import RecordError, checksum, delete_partial, read_json, replace_file, write_json
from samson.records._evaluation import BudgetRecord, EvaluationRecord, Measured, PairedMethod, PairedRecord, Subject
from samson.records._folders import (
    PLAN,
    Comparison,
    load_comparison,
    load_records,
    on_common_chips,
    record_path,
    run_name,
)
from samson.records._interval import Interval
from samson.records._plan import Candidates, Configuration, Planned, Problem, Search, Settings, finite
from samson.records._run import LARGEST, Environment, Perturbation, RunRecord, Training, TrainingRecord
from samson.records._search import RhoPoint, RhoRecord, SearchRecord, Tried
from samson.records._sensitivity import LayerRecord, SensitivityRecord, SuggestionRecord
from samson.records._sharpness import CorrelationRow, NetworkSharpness, SharpnessRecord, SharpnessSettings

__all__ = [
    "CLEAN",
    "LARGEST",
    "PLAN",
    "BudgetRecord",
    "Candidates",
    "ChipFamily",
    "ChipKind",
    "Comparison",
    "Configuration",
    "CorrelationRow",
    "Environment",
    "EvaluationRecord",
    "Interval",
    "LayerRecord",
    "Measured",
    "NetworkSharpness",
    "PairedMethod",
    "PairedRecord",
    "Perturbation",
    "Planned",
    "Problem",
    "RecordError",
    "RhoPoint",
    "RhoRecord",
    "RunRecord",
    "Search",
    "SearchRecord",
    "SensitivityRecord",
    "Settings",
    "SharpnessRecord",
    "SharpnessSettings",
    "Subject",
    "SuggestionRecord",
    "Training",
    "TrainingRecord",
    "Tried",
    "checksum",
    "delete_partial",
    "finite",
    "load_comparison",
    "load_records",
    "on_common_chips",
    "read_json",
    "record_path",
    "replace_file",
    "run_name",
    "write_json",
]
