"""Errors in what a user asked for, found before any compute starts, and that of work lost with its process."""

from __future__ import annotations

from collections.abc import Iterable

from samson._names import suggestion


class SetupError(ValueError):
    """Bad input: the message names the parameter, the value, the rule and the mend, in at most four lines."""


class WorkerLostError(RuntimeError):
    """A process that did a piece of work died, for example for lack of memory."""


def choose(parameter: str, value: str, available: Iterable[str]) -> str:
    """Return the value if it is one of the available names.

    Raises:
        SetupError: Otherwise, with the nearest name as a suggestion.
    """
    names = list(available)
    if isinstance(value, str) and value in names:
        return value
    raise SetupError(f"{parameter}: {value!r} is unknown.\n{suggestion(str(value), names)}")


def require(holds: bool, parameter: str, rule: str, value: object, mend: str) -> None:
    """Raise a SetupError unless the condition holds."""
    if not holds:
        raise SetupError(f"{parameter} must be {rule}, got {value!r}.\n{mend}")


def installing(extra: str) -> str:
    """How to install what an extra brings: from the source, since the package is on no index.

    Example:
        >>> print(installing("cli"))
        pip install -c constraints.txt ".[cli]" in the folder of the source
    """
    return f'pip install -c constraints.txt ".[{extra}]" in the folder of the source'


def reason(error: BaseException) -> str:
    """What an error says, in a line.

    Example:
        >>> reason(KeyError("name"))
        "KeyError: 'name'"
    """
    lines = str(error).splitlines() or [""]
    if lines[1:2] == ["Original Traceback (most recent call last):"]:  # torch's, of a worker process
        return lines[-1]
    return f"{type(error).__name__}: {lines[0]}"
