"""What besides a task decides the bits of its results: settings of the process that runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Numerics:
    """Settings of torch on which the bits of a result depend.

    Args:
        torch_version: Version of torch, which a worker must have.
        threads: Threads of an operation.
        dtype: The default dtype.
        matmul_precision: Of float32 matrix products (`torch.set_float32_matmul_precision`).
        deterministic: Whether only deterministic algorithms are used.
        device_type: Where the model is.
        autocast: The dtype of automatic mixed precision there; None is off.
    """

    torch_version: str
    threads: int
    dtype: torch.dtype
    matmul_precision: str
    deterministic: bool
    device_type: str
    autocast: torch.dtype | None

    @classmethod
    def here(cls, device_type: str) -> Numerics:
        """Those of this process, inside the blocks that are open."""
        autocast = torch.is_autocast_enabled(device_type)
        return cls(
            torch.__version__,
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
            device_type,
            torch.get_autocast_dtype(device_type) if autocast else None,
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Set them in this process; automatic mixed precision ends with the block.

        Raises:
            RuntimeError: If this process has another version of torch.
        """
        if torch.__version__ != self.torch_version:
            raise RuntimeError(
                f"Every worker must have the driver's torch {self.torch_version}, but one has {torch.__version__}: "
                "results would differ. Install the same version on all nodes."
            )
        torch.set_num_threads(self.threads)
        torch.set_default_dtype(self.dtype)
        torch.set_float32_matmul_precision(self.matmul_precision)
        if torch.are_deterministic_algorithms_enabled() != self.deterministic:  # the call itself takes seconds
            torch.use_deterministic_algorithms(self.deterministic)
        with torch.autocast(self.device_type, dtype=self.autocast, enabled=self.autocast is not None):
            yield
