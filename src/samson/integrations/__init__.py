"""Trainers of other libraries: one module each for Lightning, Transformers and Accelerate.

Import the module that you need, `samson.integrations.lightning`, `.transformers` or `.accelerate`: this package itself
imports none of them.
"""

from __future__ import annotations

from samson._errors import installing


def missing(extra: str) -> ImportError:
    """The error that says how to install what an integration needs.

    Args:
        extra: Name of the integration, which is also the extra's.

    Example:
        >>> print(str(missing("lightning")).partition(": ")[0])
        `samson.integrations.lightning` needs a package
    """
    return ImportError(f"`samson.integrations.{extra}` needs a package: {installing(extra)}.")
