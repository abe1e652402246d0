"""Trainers of other libraries: one module each for Lightning, Transformers and Accelerate.

Import the module that you need, `samson.integrations.lightning`, `.transformers` or `.accelerate`: this package itself
imports none of them.
"""

from __future__ import annotations


def missing(extra: str) -> ImportError:
    """The error that says how to install what an integration needs.

    Args:
        extra: Name of the integration, which is also the extra's.

    Example:
        >>> missing("lightning")
        ImportError("`samson.integrations.lightning` needs a package: pip install 'samson-torch[lightning]'")
    """
    return ImportError(f"`samson.integrations.{extra}` needs a package: pip install 'samson-torch[{extra}]'")
