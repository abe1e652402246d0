"""Words for a user: what to say to an unknown name, how many there are of something, and text of others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and newline, and what turns the direction of a text."""


def suggestion(name: str, available: Iterable[str]) -> str:
    """The nearest of the available names, if one is near, and all of them.

    Args:
        name: What was given, which is none of them.
        available: The names; that of a model which is itself a layer is empty.

    Example:
        >>> suggestion("int6", ["pcm", "int4"])
        "Did you mean 'int4'? Available: pcm, int4."

        >>> suggestion("head", [""])
        "Available: ''."
    """
    names = list(available)
    return f"{nearest(name, names)} Available: {', '.join(each or repr(each) for each in names)}.".lstrip()


def nearest(name: str, available: Iterable[str]) -> str:
    """The nearest of the available names as a question after a sentence; empty if none is near.

    Example:
        >>> nearest("chanel", ["layer", "channel"])
        " Did you mean 'channel'?"
    """
    near = get_close_matches(name, available, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def counted(number: int, noun: str) -> str:
    """How many there are of something whose plural ends in s.

    Example:
        >>> counted(1, "run"), counted(2000, "run")
        ('1 run', '2,000 runs')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def visible(text: str) -> str:
    r"""A text, perhaps from a file of others, with nothing in it that commands a terminal.

    Control characters and what turns the direction of a text are written as ``\uXXXX``.

    Example:
        >>> print(visible("net\x1b[2J"))
        net\u001b[2J
    """
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
