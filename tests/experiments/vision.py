"""timm and torchvision for tests that need them: skipped where they are not installed."""

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest
import torch

_OPERATORS: list[torch.library.Library] = []
"""Kept, as an operator lives as long as its library."""


def require_vision(name: str) -> ModuleType:
    """The module, or a skipped test.

    A regular build of torchvision beside a CPU build of torch misses two operators that no network needs; they are
    declared here, so that the networks can be tested.
    """
    for package in {name.partition(".")[0], "torchvision"}:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'samson-torch[vision]'")
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
