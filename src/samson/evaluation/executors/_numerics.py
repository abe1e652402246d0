"""What besides a task decides the bits of its results: settings of the process that runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch

_SWITCHES = (
    *("fp32_precision", "cuda.matmul.fp32_precision"),
    *("cudnn.fp32_precision", "cudnn.conv.fp32_precision", "cudnn.rnn.fp32_precision"),
    *("mkldnn.fp32_precision", "mkldnn.matmul.fp32_precision", "mkldnn.conv.fp32_precision"),
    *("mkldnn.rnn.fp32_precision", "mkldnn.enabled", "mkldnn.deterministic"),
    *("cudnn.enabled", "cudnn.benchmark", "cudnn.deterministic", "cudnn.allow_tf32"),
    *("cuda.matmul.allow_fp16_reduced_precision_reduction", "cuda.matmul.allow_bf16_reduced_precision_reduction"),
    *("cuda.matmul.allow_fp16_accumulation", "quantized.engine"),
)
"""Attributes of `torch.backends`; a precision that others inherit stands before them."""
_ATTENTION = "flash", "mem_efficient", "math", "cudnn"
"""Ways of `scaled_dot_product_attention`."""


@dataclass(frozen=True)
class Numerics:
    """Settings of torch on which the bits of a result depend.

    Args:
        torch_version: Version of torch, which a worker must have.
        threads: Threads of an operation.
        dtype: The default dtype.
        matmul_precision: Of float32 matrix products (`torch.set_float32_matmul_precision`); None if it was set through
            `fp32_precision`, which is among the switches.
        deterministic: Whether only deterministic algorithms are used.
        device_type: Where the model is.
        autocast: The dtype of automatic mixed precision there; None is off.
        switches: Of `torch.backends` (cuDNN, oneDNN, reduced precisions), by name.
        attention: Ways of `scaled_dot_product_attention` that may be taken.
        fast_path: Whether attention layers may take their fast path.
        flushes_denormals: Whether numbers below the smallest normal one count as 0.
    """

    torch_version: str
    threads: int
    dtype: torch.dtype
    matmul_precision: str | None
    deterministic: bool
    device_type: str
    autocast: torch.dtype | None
    switches: tuple[tuple[str, Any], ...]
    attention: tuple[str, ...]
    fast_path: bool
    flushes_denormals: bool

    @classmethod
    def here(cls, device_type: str) -> Numerics:
        """Those of this process, inside the blocks that are open."""
        autocast = torch.is_autocast_enabled(device_type)
        return cls(
            torch.__version__,
            torch.get_num_threads(),
            torch.get_default_dtype(),
            _matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
            device_type,
            torch.get_autocast_dtype(device_type) if autocast else None,
            tuple((name, _switch(name)) for name in _SWITCHES),
            tuple(way for way in _ATTENTION if getattr(torch.backends.cuda, f"{way}_sdp_enabled")()),
            torch.backends.mha.get_fastpath_enabled(),
            bool(torch.tensor(5e-324, dtype=torch.float64, device="cpu") * 1 == 0),
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
        if self.matmul_precision not in (None, _matmul_precision()):
            torch.set_float32_matmul_precision(self.matmul_precision)
        if torch.are_deterministic_algorithms_enabled() != self.deterministic:  # the call itself takes seconds
            torch.use_deterministic_algorithms(self.deterministic)
        for name, value in self.switches:
            if value not in (None, _switch(name)):
                owner, _, attribute = f"backends.{name}".rpartition(".")
                setattr(attrgetter(owner)(torch), attribute, value)
        for way in _ATTENTION:
            getattr(torch.backends.cuda, f"enable_{way}_sdp")(way in self.attention)
        torch.backends.mha.set_fastpath_enabled(self.fast_path)
        torch.set_flush_denormal(self.flushes_denormals)
        with torch.autocast(self.device_type, dtype=self.autocast, enabled=self.autocast is not None):
            yield


def _switch(name: str) -> Any:
    """A setting of `torch.backends`; None where this torch has none, or does not say it as others were set."""
    try:
        return attrgetter(name)(torch.backends)
    except (AttributeError, RuntimeError):
        return None


def _matmul_precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # where `fp32_precision` of a backend was set
        return None
