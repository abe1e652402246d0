"""The command line, called in this process."""

import sys
from collections.abc import Callable

import pytest

from samson.cli import main


@pytest.fixture
def samson(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Run the command line; gives its status and what it wrote to both streams."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["samson", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as error:
            status = int(error.code or 0)
        return status, *capfd.readouterr()

    return call
