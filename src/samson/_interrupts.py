"""Interrupts: context managers that Ctrl-C does not break, wherever it arrives, and how a notice to end is answered."""

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
    """Let a function that `uninterrupted` calls be interrupted all the same.

    It may take long, and changes nothing but what its caller puts back.
    """
    _INTERRUPTIBLE.add(function.__code__)
    return function


def uninterrupted(function: Callable[P, Iterator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """A `contextmanager` whose enter and exit are not interrupted by Ctrl-C: it waits until they are done.

    Before the end of an enter it is raised from there, after what was changed is back; in the block it is raised as
    ever. Only the main thread has interrupts. In what torch compiles this is a `contextmanager` and no more.
    """
    from torch.compiler import is_compiling  # here: the command line, which has no such block, starts without torch

    make = contextmanager(function)

    @wraps(function)
    def manager(*args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T]:
        made = make(*args, **kwargs)
        return made if is_compiling() else _Uninterrupted(made)

    return manager


@contextmanager
def heeded() -> Iterator[Callable[[], None]]:
    """A block in which no Ctrl-C is lost: Python drops what it raises in a destructor or a weak reference's callback.

    Yields:
        What is to be called now and then: it raises an interrupt that was lost.
    """
    before = signal.getsignal(signal.SIGINT)
    if not _is_main_thread() or before is not signal.default_int_handler:
        yield lambda: None
        return
    arrived = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal arrived
        arrived = True
        signal.default_int_handler(number, frame)

    def raise_lost() -> None:
        if arrived:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield raise_lost
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def answered(answer: Callable[[], None]) -> Iterator[None]:
    """A block in which a notice to end (SIGTERM) is answered by this call; only the main thread hears one."""
    if not _is_main_thread():
        yield
        return
    before: Any = signal.signal(signal.SIGTERM, lambda *_: answer())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Handler:
    """What happens at Ctrl-C while blocks are entered, open or left: what happened before, but not within a change.

    One for all blocks, which may end in any order.
    """

    def __init__(self) -> None:
        self.blocks, self.waiting = 0, False
        self.before: Callable[[int, FrameType | None], Any] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        at = frame
        while at is not None and at.f_code not in _INTERRUPTIBLE:
            if at.f_code in _PROTECTED:
                self.waiting = True
                return
            at = at.f_back
        if self.before:
            self.before(number, frame)

    def hold(self) -> None:
        """A block begins; only the main thread counts, which alone has interrupts."""
        if not _is_main_thread():
            return
        before = signal.getsignal(signal.SIGINT)
        if not self.blocks and callable(before) and before is not self:
            self.before = before
            signal.signal(signal.SIGINT, self)
        self.blocks += 1

    def release(self) -> None:
        """A block has ended."""
        if not _is_main_thread():
            return
        self.blocks = max(0, self.blocks - 1)
        before, now = self.before, signal.getsignal(signal.SIGINT)
        if before and not self.blocks and now is self:
            signal.signal(signal.SIGINT, before)
        self.deliver()

    def deliver(self) -> None:
        """Let what was waiting happen."""
        if self.waiting and self.before and _is_main_thread():
            self.waiting = False
            self.before(signal.SIGINT, None)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


_HANDLER = _Handler()


class _Uninterrupted(AbstractContextManager[T], Generic[T]):
    def __init__(self, inner: AbstractContextManager[T]) -> None:
        self._inner = inner

    def __enter__(self) -> T:
        _HANDLER.hold()
        try:
            entered = self._inner.__enter__()
            try:
                _HANDLER.deliver()
            except BaseException as error:
                self._inner.__exit__(type(error), error, error.__traceback__)
                raise
        except BaseException:
            _HANDLER.release()
            raise
        return entered

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return self._inner.__exit__(kind, error, trace)
        finally:
            _HANDLER.release()


_PROTECTED = {_Uninterrupted.__enter__.__code__, _Uninterrupted.__exit__.__code__}
