"""The command line, called in this process."""

from collections.abc import Callable

import pytest

from tests import programs


@pytest.fixture
def samson() -> Callable[..., tuple[int, str, str]]:
    """Run the command line; gives its status and what it wrote to both streams."""
    return programs.samson
