"""Scores of every example on every chip, with right and wrong answers kept as bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """A table of chips x examples.

    Args:
        packed: Bits, eight examples a byte, of shape (chips, ⌈examples / 8⌉), if the scores are right or wrong; else
            the scores themselves, float64 of shape (chips, examples).
        examples: Number of examples.
    """

    packed: NDArray[Any]
    examples: int

    @classmethod
    def of(cls, rows: Sequence[NDArray[Any]]) -> ScoreTable:
        """Make a table of one row a chip.

        Raises:
            ValueError: If the rows have different lengths: the data changed from chip to chip.
        """
        lengths = {len(row) for row in rows}
        if len(lengths) > 1:
            raise ValueError(
                f"`data` must hold the same examples for every chip, got {' and '.join(map(str, sorted(lengths)))} of "
                "them. Give a list of batches, or a loader of fixed length and order."
            )
        table = np.stack(rows)
        return cls(np.packbits(table, axis=1) if table.dtype == np.bool_ else table, table.shape[1])

    @property
    def is_binary(self) -> bool:
        """Whether the scores are right or wrong."""
        return self.packed.dtype == np.uint8

    @property
    def values(self) -> NDArray[Any]:
        """The scores, of shape (chips, examples), booleans or float64."""
        if not self.is_binary:
            return self.packed
        bits = self.packed.view(np.uint8)
        return np.unpackbits(bits, axis=1, count=self.examples).astype(np.bool_)
