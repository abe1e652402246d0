"""Typed, versioned records of runs, and their JSON."""

from samson.records.codec import RecordError, read_json, replace_file, write_json
from samson.records.evaluation import BudgetRecord, CheckRecord, EvaluationRecord, Measured, Subject
from samson.records.run import Configuration, Environment, Level, RunRecord, Settings, Training, finite
from samson.records.sensitivity import LayerRecord, SensitivityRecord, SuggestionRecord
from samson.records.summary import Estimate, SummaryRow

__all__ = [
    "BudgetRecord",
    "CheckRecord",
    "Configuration",
    "Environment",
    "Estimate",
    "EvaluationRecord",
    "LayerRecord",
    "Level",
    "Measured",
    "RecordError",
    "RunRecord",
    "SensitivityRecord",
    "Settings",
    "Subject",
    "SuggestionRecord",
    "SummaryRow",
    "Training",
    "finite",
    "read_json",
    "replace_file",
    "write_json",
]
