"""Context managers that Ctrl-C does not break: what they change comes back, wherever it arrives."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from types import CodeType, FrameType, TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_F = TypeVar("_F", bound=Callable[..., Any])

_INTERRUPTIBLE: set[CodeType] = set()


def interruptible(function: _F) -> _F:
    """Let a function that `uninterrupted` calls be interrupted all the same: it may take long, and changes nothing."""
    _INTERRUPTIBLE.add(function.__code__)
    return function


def uninterrupted(function: Callable[P, Iterator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """A `contextmanager` whose enter and exit are not interrupted by Ctrl-C: it waits until they are done.

    Before the end of an enter it is raised from there, after what was changed is back; in the block it is raised as
    ever. Only the main thread has interrupts.
    """
    make = contextmanager(function)

    @wraps(function)
    def manager(*args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T]:
        return _Uninterrupted(make(*args, **kwargs))

    return manager


class _Handler:
    """What happens at Ctrl-C: what happened before, but not inside an enter or exit."""

    def __init__(self) -> None:
        here = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGINT) if here else None
        self.before = before if callable(before) else None
        self.waiting = False
        if self.before:
            signal.signal(signal.SIGINT, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        at = frame
        while at is not None and at.f_code not in _INTERRUPTIBLE:
            if at.f_code in _PROTECTED:
                self.waiting = True
                return
            at = at.f_back
        if self.before:
            self.before(number, frame)

    def deliver(self) -> None:
        """Let what was waiting happen."""
        if self.waiting and self.before:
            self.waiting = False
            self.before(signal.SIGINT, None)

    def release(self) -> None:
        """Let the handler of before come back, and what was waiting happen."""
        before = self.before
        if before and signal.getsignal(signal.SIGINT) is self:
            signal.signal(signal.SIGINT, before)
        self.deliver()


class _Uninterrupted(AbstractContextManager[T], Generic[T]):
    def __init__(self, inner: AbstractContextManager[T]) -> None:
        self._inner = inner

    def __enter__(self) -> T:
        self._handler = _Handler()
        try:
            entered = self._inner.__enter__()
            try:
                self._handler.deliver()
            except BaseException as error:
                self._inner.__exit__(type(error), error, error.__traceback__)
                raise
        except BaseException:
            self._handler.release()
            raise
        return entered

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return self._inner.__exit__(kind, error, trace)
        finally:
            self._handler.release()


_PROTECTED = {_Uninterrupted.__enter__.__code__, _Uninterrupted.__exit__.__code__}
