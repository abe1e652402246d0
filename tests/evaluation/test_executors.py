"""Executors: the same scores wherever trials run, in order, with lost trials run again."""

import itertools
import pickle
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from samson.evaluation import (
    EXECUTORS,
    METRICS,
    Kept,
    Ray,
    Serial,
    Task,
    Torchrun,
    evaluate,
)
from samson.noise import Compose, Gaussian, Periphery, Quantize, ReRAM
from tests.conftest import make_batch, make_model


def make_task(**settings: Any) -> Task:
    x, y = make_batch(torch.float32, size=40)
    noise = settings.pop("noise", Gaussian(0.3))
    return Task(make_model(torch.float32), [(x[:25], y[:25]), (x[25:], y[25:])], noise, METRICS["accuracy"], **settings)


def bits(scores: Any) -> tuple[str, bytes]:
    return str(np.asarray(scores).dtype), np.asarray(scores).tobytes()


@pytest.mark.parametrize("metric", ["accuracy", "cross-entropy", "perplexity"])
def test_a_task_is_the_same_after_pickling_and_in_a_folder(metric: str, tmp_path: Path) -> None:
    task = make_task(seed=4, read_block=10, noise=ReRAM(), autocast="bfloat16")
    task = replace(task, metric=METRICS[metric])
    again: Task = pickle.loads(pickle.dumps(task))
    list(Kept(tmp_path).run(task, [0, 7]))
    for number, saved in zip((0, 7), Kept(tmp_path).run(task, [0, 7]), strict=True):
        assert bits(again(number)) == bits(task(number)) == bits(saved)
        assert type(saved) is type(task(number))
    assert bits(again(0)) != bits(again(7))


def test_chips_that_are_alike_are_computed_once() -> None:
    class Told(Serial):
        def finished(self, task: Task, numbers: Sequence[int]) -> Iterator[dict[int, Any]]:
            asked.append(list(numbers))
            return super().finished(task, numbers)

    class Stochastic(Quantize):
        def noisy(self, weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return super().noisy(weight + 0.1 * torch.randn(weight.shape, generator=generator), generator)

    assert (Stochastic(3).is_random, Compose(Quantize(3), Stochastic(3)).is_random) == (True, True)
    converters = Periphery(dac_steps=6, adc_steps=6, adc_bound=2.0, ir_drop=1.0)
    for periphery, differ in ((None, False), (converters, False), (replace(converters, output_noise=0.2), True)):
        task, asked = make_task(noise=Compose(Quantize(3), Quantize(2)), periphery=periphery), list[list[int]]()
        task = replace(task, metric=METRICS["cross-entropy"])
        found = [bits(row) for row in Told().run(task, range(3, 7))]
        assert found == [bits(task(number)) for number in range(3, 7)]
        assert (asked, len(set(found))) == (([[3, 4, 5, 6]], 4) if differ else ([[3]], 1))
        assert list(Told().run(task, [])) == []


def test_executors_have_names() -> None:
    for name, kind in (("serial", Serial), ("torchrun", Torchrun)):
        executor = EXECUTORS[name]()
        assert isinstance(executor, kind)
        assert executor.name == Kept("folder", executor).name == name


def test_what_is_missing_is_named_before_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'pip install -c constraints.txt "\.\[ray\]"'):
        EXECUTORS["ray"]()
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RuntimeError, match="torchrun --nproc-per-node 2 my_script.py"):
        list(Torchrun().run(make_task(), range(2)))


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="this torch has no gloo"
)
def test_a_run_left_halfway_ends_after_the_groups_of_its_program() -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    rounds = Torchrun().finished(make_task(), range(4))
    assert list(next(rounds)) == [0]
    torch.distributed.destroy_process_group()
    rounds.close()


class WorkerCrashedError(Exception):
    pass


class RayTaskError(Exception):
    def __init__(self, cause: Exception) -> None:
        super().__init__(f"traceback of {cause!r}")
        self.cause = cause


class Reference:
    """Trials that were submitted, or an object in the store."""

    numbers = itertools.count()

    def __init__(self, value: Any, trials: Sequence[int] = ()) -> None:
        self.value, self.trials, self.number = value, trials, next(self.numbers)

    def hex(self) -> str:
        return f"{self.number:x}"


class FakeRay:
    """The module `ray` with a cluster in this process that ends tasks in any order, and loses trials with their worker.

    Args:
        loses: How often each trial is lost before it comes to its end.
        connected: Whether the program is connected to it already.
    """

    def __init__(self, loses: dict[int, int] | None = None, connected: bool = True) -> None:
        self.connected, self.started = connected, []
        self.loses, self.random = Counter(loses), random.Random(0)
        self.running: list[Reference] = []
        self.cancelled: list[Reference] = []
        self.begun: list[int] = []
        self.largest = 0
        errors = dict.fromkeys(("NodeDiedError", "LocalRayletDiedError", "ObjectLostError", "OutOfMemoryError"))
        errors = {name: type(name, (Exception,), {}) for name in errors}
        self.exceptions = SimpleNamespace(WorkerCrashedError=WorkerCrashedError, RayTaskError=RayTaskError, **errors)
        self.store: list[Any] = []
        self.__spec__ = ModuleSpec("ray", None)

    def is_initialized(self) -> bool:
        return self.connected

    def init(self, **settings: Any) -> None:
        self.connected = True
        self.started.append(settings)

    def shutdown(self) -> None:
        self.connected = False

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 8.0}}]

    def put(self, value: Any) -> Reference:
        self.store.append(value)
        return Reference(pickle.dumps(value))

    def remote(self, function: Callable[..., Any]) -> Any:
        def submit(*arguments: Any) -> Reference:
            self.running.append(Reference(lambda: function(*arguments), arguments[1]))
            self.begun += arguments[1]
            self.largest = max(self.largest, len(self.running))
            return self.running[-1]

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=submit))

    def wait(self, references: list[Reference]) -> tuple[list[Reference], list[Reference]]:
        ready = self.random.choice(references)
        return [ready], [other for other in references if other is not ready]

    def get(self, reference: Reference) -> Any:
        if isinstance(reference.value, bytes):
            return pickle.loads(reference.value)
        self.running.remove(reference)
        for number in reference.trials:
            if self.loses[number]:
                self.loses[number] -= 1
                raise WorkerCrashedError("the worker died")
        try:
            return reference.value()
        except Exception as error:
            raise RayTaskError(error) from error

    def cancel(self, reference: Reference, force: bool) -> None:
        self.cancelled.append(reference)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FakeRay]]:
    def install(**settings: Any) -> FakeRay:
        found = FakeRay(**settings)
        monkeypatch.setitem(sys.modules, "ray", found)
        return found

    precision = torch.get_float32_matmul_precision()
    yield install
    torch.set_float32_matmul_precision(precision)


def run(executor: Any, task: Task, count: int = 11) -> list[tuple[str, bytes]]:
    return [bits(scores) for scores in executor.run(task, range(count))]


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("workers", [None, 1, 5])
def test_scores_come_in_order_from_any_number_of_workers(
    fake: Callable[..., FakeRay], workers: int | None, chunk: int
) -> None:
    cluster, task = fake(), make_task()
    assert run(Ray(workers, chunk=chunk), task) == run(Serial(), task)
    assert cluster.largest == min(workers or 2, -(-11 // chunk))
    assert sorted(cluster.begun) == list(range(11))
    assert not cluster.cancelled
    assert run(Serial(), task) != run(Serial(), make_task(seed=1))


def test_a_task_is_sent_once_and_data_are_read_once(fake: Callable[..., FakeRay]) -> None:
    cluster, executor, task = fake(), Ray(), make_task()
    data = torch.utils.data.TensorDataset(*make_batch(torch.float32))
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    state = torch.get_rng_state()
    for each in (task, replace(task, batches=loader, norm_batches=loader)):
        assert run(executor, each) == run(executor, each) == run(Serial(), each)
        assert torch.equal(torch.get_rng_state(), state)  # from which the loader takes its order
    assert len(cluster.store) == 2
    assert len(cluster.store[1].batches) == 4


def test_a_batch_is_sent_without_what_it_was_cut_from(fake: Callable[..., FakeRay]) -> None:
    images = torch.randn(40, 2, 50, 50, generator=torch.Generator().manual_seed(0))
    data = images.contiguous(memory_format=torch.channels_last), torch.zeros(40, dtype=torch.int64)
    cut = list(zip(*(part.split(4) for part in data), strict=True))
    cluster = fake()
    with pytest.raises(RuntimeError):  # no input of this model: what counts is what was sent
        run(Ray(), replace(make_task(), batches=cut))
    sent = cluster.store[0]
    assert len(pickle.dumps(cut)) > 9 * images.nbytes  # what was sent before
    assert len(pickle.dumps(sent)) < 1.2 * images.nbytes
    for (x, y), (own_x, own_y) in zip(cut, sent.batches, strict=True):
        assert torch.equal(x, own_x)
        assert torch.equal(y, own_y)
        assert x.stride() == own_x.stride()  # the order of sums, so the bits of results, follows it


def test_lost_trials_are_run_again_and_those_that_always_kill_their_worker_named(fake: Callable[..., FakeRay]) -> None:
    cluster, task = fake(loses={3: 1, 5: 2}), make_task()
    assert run(Ray(), task) == run(Serial(), task)
    assert Counter(cluster.begun) == Counter(range(11)) + Counter({3: 1, 5: 2})
    cluster = fake(loses={5: 99})
    with pytest.raises(RuntimeError, match=r"3 times, at last by WorkerCrashedError: the worker died: trials \[4, 5\]"):
        run(Ray(chunk=2), make_task())
    assert Counter(cluster.begun)[5] == 3
    assert cluster.cancelled == cluster.running


def test_an_error_in_a_trial_is_raised_at_once(fake: Callable[..., FakeRay]) -> None:
    cluster = fake()
    with pytest.raises(ValueError, match="at least one example"):
        run(Ray(), replace(make_task(), batches=[]))
    assert len(cluster.begun) == 2
    assert cluster.cancelled == cluster.running


@pytest.mark.parametrize("connected", [True, False])
def test_an_interrupt_ends_what_was_started(fake: Callable[..., FakeRay], connected: bool) -> None:
    cluster, data = fake(connected=connected), make_batch(torch.float32)

    def interrupt(state: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(make_model(torch.float32), data, Gaussian(0.1), executor=Ray(), progress=interrupt)
    assert cluster.running
    assert cluster.cancelled == cluster.running
    assert cluster.connected == connected


def test_ray_is_started_once_where_it_is_asked_for(
    fake: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for address, started in ((None, {"address": "local", "include_dashboard": False}), ("a:1", {"address": "a:1"})):
        cluster, executor, task = fake(connected=False), Ray(address=address), make_task()
        assert run(executor, task, count=0) == []
        assert not cluster.started
        assert run(executor, task) == run(executor, task)
        assert cluster.started == [started]
        executor.close()
        assert not cluster.connected


def test_what_ray_cannot_do_is_named(fake: Callable[..., FakeRay]) -> None:
    fake()
    with pytest.raises(ValueError, match="`workers` must be at least 1, got 0"):
        Ray(0)
    with pytest.raises(TypeError, match="must be able to pickle"):
        run(Ray(), make_task(select=lambda name, module: True))
    torch.set_num_threads(3)
    try:
        with pytest.raises(ValueError, match="a node with 3 CPUs for each worker"):
            run(Ray(), make_task())
    finally:
        torch.set_num_threads(1)
