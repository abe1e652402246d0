"""Data sets by name, from files, folders and hubs, each split once and for all into train, validation and test."""

from samson.experiments.data._augment import AUGMENTATIONS
from samson.experiments.data._catalogue import DATA, digits
from samson.experiments.data._files import package
from samson.experiments.data._forms import load_data_set, load_splits
from samson.experiments.data._found import check_targets, check_tokens, splits_from
from samson.experiments.data._loading import Pair
from samson.experiments.data._splits import SPLIT_SEED, SPLITS, Split, Splits, length
from samson.experiments.data._text import text_splits

__all__ = [
    "AUGMENTATIONS",
    "DATA",
    "SPLITS",
    "SPLIT_SEED",
    "Pair",
    "Split",
    "Splits",
    "check_targets",
    "check_tokens",
    "digits",
    "length",
    "load_data_set",
    "load_splits",
    "package",
    "splits_from",
    "text_splits",
]
