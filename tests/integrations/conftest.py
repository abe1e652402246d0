"""Accelerate keeps its state in the process: each test begins anew."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    yield
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
