"""How much memory a function takes, counted where torch's allocator hands it out."""

from __future__ import annotations

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def memory_of(run: Callable[[], object]) -> tuple[int, int]:
    """The most bytes on the CPU that tensors held at once while a function ran, and those left after it.

    What there was before does not count.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    held = peak = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak, held
