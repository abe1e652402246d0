"""timm and torchvision for tests that are marked as needing them."""

import importlib
import sys
from types import ModuleType

import torch

_OPERATORS: list[torch.library.Library] = []
"""Kept, as an operator lives as long as its library."""


def require_vision(name: str) -> ModuleType:
    """The module.

    A regular build of torchvision beside a CPU build of torch misses two operators that no network needs; they are
    declared here, so that the networks can be tested.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        for module in [module for module in sys.modules if module.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _OPERATORS.append(library)
        importlib.import_module("torchvision")
    return importlib.import_module(name)
