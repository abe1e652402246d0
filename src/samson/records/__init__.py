"""Typed, versioned records of runs, and their JSON."""

from samson.records._codec import RecordError, checksum, read_json, replace_file, write_json
from samson.records._evaluation import BudgetRecord, ChipKind, EvaluationRecord, Measured, Subject
from samson.records._interval import Interval
from samson.records._run import Configuration, Environment, Level, RunRecord, Settings, Training, finite
from samson.records._sensitivity import LayerRecord, SensitivityRecord, SuggestionRecord
from samson.records._sharpness import CorrelationRow, NetworkSharpness, SharpnessRecord, SharpnessSettings

__all__ = [
    "BudgetRecord",
    "ChipKind",
    "Configuration",
    "CorrelationRow",
    "Environment",
    "EvaluationRecord",
    "Interval",
    "LayerRecord",
    "Level",
    "Measured",
    "NetworkSharpness",
    "RecordError",
    "RunRecord",
    "SensitivityRecord",
    "Settings",
    "SharpnessRecord",
    "SharpnessSettings",
    "Subject",
    "SuggestionRecord",
    "Training",
    "checksum",
    "finite",
    "read_json",
    "replace_file",
    "write_json",
]
