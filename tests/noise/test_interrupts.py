"""Ctrl-C and threads: a model comes back bitwise, is not refused afterwards, and lies on one chip at a time."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from samson._interrupts import uninterrupted
from samson._modes import evaluation_mode
from samson.noise import PCM, STANDARD_HWA, Gaussian, deploy, reestimated_norms
from tests.conftest import equal, interrupted, snapshot

OPCODES = False
"""Whether Ctrl-C arrives at each instruction, not only at some 150 lines: the long way."""


def a_model() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3), nn.Linear(3, 3), nn.Embedding(3, 3))
    model.append(nn.Linear(3, 3))
    parametrizations.weight_norm(model[2])
    prune.l1_unstructured(model[3], "weight", 0.5)
    model[5].weight = model[4].weight
    return model


def at(model: nn.Module) -> AbstractContextManager[Any]:
    return deploy(model, Gaussian(0.1)).at()


def once(model: nn.Module) -> AbstractContextManager[Any]:
    return deploy(model, PCM(60.0, compensation="global"), keep=False).at()


def with_periphery(model: nn.Module) -> AbstractContextManager[Any]:
    return deploy(model, PCM(60.0, compensation="global"), periphery=STANDARD_HWA).at()


def norms(model: nn.Module) -> AbstractContextManager[Any]:
    return reestimated_norms(model[:4], [torch.linspace(-1, 1, 12).view(4, 3)])


BLOCKS: dict[str, Callable[[nn.Module], AbstractContextManager[Any]]] = {
    "at": at,
    "at, nothing kept": once,
    "periphery": with_periphery,
    "evaluation mode": evaluation_mode,
    "norms": norms,
}


def through(make: Callable[[nn.Module], AbstractContextManager[Any]], model: nn.Module) -> Callable[[], None]:
    """Enters and leaves a block that is made here."""
    block = make(model)

    def run() -> None:
        with block:
            for layer in (model[0], *model[2:4], model[5]) if make is with_periphery else ():
                layer(torch.ones(2, 3))
            if make is evaluation_mode:
                torch.rand(1)

    return run


def broken_by_interrupts(make: Callable[[nn.Module], AbstractContextManager[Any]]) -> tuple[int, int]:
    """Number of events, and of interrupts after which the model was another one or refused."""
    model, bad = a_model(), 0
    before, modes = snapshot(model), [module.training for module in model.modules()]
    objects = [id(value) for value in model.state_dict(keep_vars=True).values()]
    handler, drawn = signal.getsignal(signal.SIGINT), torch.get_rng_state()
    interrupted(through(make, model), 0, OPCODES)  # imports what torch imports late
    _, events = interrupted(through(make, model), 0, OPCODES)
    for number in range(1, events + 1, 1 if OPCODES else max(1, events // 150)):
        # Kept, as a notebook does: what it holds is not collected.
        error, _ = interrupted(through(make, model), number, OPCODES)
        same = equal(snapshot(model), before) and modes == [module.training for module in model.modules()]
        same = same and objects == [id(value) for value in model.state_dict(keep_vars=True).values()]
        same = same and not any(m._forward_hooks or m._forward_pre_hooks for m in model if m is not model[3])
        same = same and torch.is_grad_enabled() and error is not None and signal.getsignal(signal.SIGINT) is handler
        same = same and (make is not evaluation_mode or torch.equal(torch.get_rng_state(), drawn))
        try:
            with at(model):
                pass
        except RuntimeError:
            same = False
        if not same:
            bad, model = bad + 1, a_model()
            objects = [id(value) for value in model.state_dict(keep_vars=True).values()]
    return events, bad


@pytest.mark.parametrize("name", BLOCKS)
def test_ctrl_c_anywhere_leaves_the_model_as_it_was(name: str) -> None:
    tried, bad = broken_by_interrupts(BLOCKS[name])
    assert tried > 30
    assert not bad


@contextmanager
def careless(model: nn.Module) -> Iterator[None]:
    """What the check must notice."""
    weight = model[0].weight.detach()
    kept = weight.clone()
    weight.add_(1.0)
    try:
        yield
    finally:
        weight.copy_(kept)


def test_the_check_notices_a_careless_block() -> None:
    assert broken_by_interrupts(careless)[1]


@uninterrupted
def told(steps: list[str]) -> Iterator[None]:
    signal.raise_signal(signal.SIGINT)
    steps.append("entered")
    try:
        yield
    finally:
        signal.raise_signal(signal.SIGINT)
        steps.append("left")


def test_an_interrupt_waits_for_the_end_of_an_enter_and_is_handled_once() -> None:
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), told(steps):
        steps.append("never")
    assert steps == ["entered", "left"]
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        steps.clear()
        with told(steps):
            steps.append("block")
            signal.raise_signal(signal.SIGINT)
            assert len(heard) == 2  # in the block it is heard at once
        assert (steps, len(heard)) == (["entered", "block", "left"], 3)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with told(steps):
            pass
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_blocks_may_end_in_any_order() -> None:
    before = signal.getsignal(signal.SIGINT)
    one, two = nn.Linear(2, 2), nn.Linear(2, 2)
    blocks = [at(one), evaluation_mode(two)]
    for block in blocks:
        block.__enter__()
    for block in blocks:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        block.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_block_that_another_thread_began_leaves_the_next_one_protected() -> None:
    before = signal.getsignal(signal.SIGINT)
    block = at(nn.Linear(2, 2))
    thread = threading.Thread(target=block.__enter__)
    thread.start()
    thread.join()
    block.__exit__(None, None, None)
    test_an_interrupt_waits_for_the_end_of_an_enter_and_is_handled_once()
    assert signal.getsignal(signal.SIGINT) is before


class Slow(Gaussian):
    """Lets another thread run in the middle of a reading or of programming."""

    def read(self, *args: Any) -> torch.Tensor:
        threading.Event().wait(0.002)
        return super().read(*args)

    @property
    def is_fixed(self) -> bool:
        return False

    def program(self, *args: Any) -> dict[str, torch.Tensor]:
        threading.Event().wait(0.002)
        return super().program(*args)


def raced(model: nn.Module, work: Callable[[int], None]) -> list[BaseException]:
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            for _ in range(20):
                work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_threads_never_share_a_model_on_a_chip() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    before, inside, refused = snapshot(model), [], []
    chips = [deploy(model, Slow(0.1), trial=trial) for trial in range(4)]
    expected = []
    for chip in chips:
        with chip.at():
            expected.append(snapshot(model))

    def work(number: int) -> None:
        try:
            if number == 3:
                again = deploy(model, Slow(0.1), trial=3)
                assert all(torch.equal(again.states[n]["weight"], chips[3].states[n]["weight"]) for n in again.states)
                assert equal(deploy(model, Slow(0.1), trial=3, keep=False).read(), again.read())
            with chips[number].at():
                inside.append(number)
                threading.Event().wait(0.001)
                assert equal(snapshot(model), expected[number])
                assert inside.count(number) - inside.count(-number - 1) == 1
                inside.append(-number - 1)
        except RuntimeError as error:
            refused.append(str(error))

    assert not raced(model, work)
    assert refused
    assert all("lies on a chip already" in words for words in refused)
    assert len(inside) > 8
    assert equal(snapshot(model), before)
