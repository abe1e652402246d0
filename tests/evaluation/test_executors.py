"""Executors: the same scores wherever trials run, in order, with lost trials run again."""

import pickle
import random
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

from samson.evaluation import METRICS, Batched, Kept, Ray, Serial, Torchrun, evaluate, executor_named
from samson.evaluation.executors import numerics, ray, torchrun
from samson.evaluation.executors.exchange import as_bytes, from_bytes
from samson.evaluation.task import Task
from samson.noise import Gaussian, ReRAM
from tests.conftest import make_batch, make_model


def make_task(**settings: Any) -> Task:
    x, y = make_batch(torch.float32, size=40)
    noise = settings.pop("noise", Gaussian(0.3))
    return Task(make_model(torch.float32), [(x[:25], y[:25]), (x[25:], y[25:])], noise, METRICS["accuracy"], **settings)


@pytest.mark.parametrize("metric", ["accuracy", "cross-entropy", "perplexity"])
def test_a_task_is_the_same_after_pickling(metric: str) -> None:
    task = replace(make_task(seed=4, read_block=10, noise=ReRAM()), metric=METRICS[metric])
    again: Task = pickle.loads(pickle.dumps(task))
    for number in (0, 7):
        assert as_bytes(again(number)) == as_bytes(task(number))
    assert as_bytes(again(0)) != as_bytes(again(7))


def test_scores_survive_as_bytes() -> None:
    for scores in (np.array([True, False, True]), np.array([0.1, -3.0, np.inf]), np.ones((2, 3), np.bool_), 0.1):
        again = from_bytes(as_bytes(scores))
        assert type(again) is type(scores)
        assert np.asarray(again).dtype == np.asarray(scores).dtype
        np.testing.assert_array_equal(again, scores)


def test_executors_have_names() -> None:
    assert isinstance(executor_named("serial"), Serial)
    assert isinstance(executor_named("torchrun"), Torchrun)
    assert executor_named("batched") == Batched()
    with pytest.raises(ValueError, match="`executor` must be a known one, got 'torchrn'. Did you mean 'torchrun'?"):
        executor_named("torchrn")


def test_what_is_missing_is_told_before_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'samson-torch\[ray\]'"):
        executor_named("ray")
    for name in torchrun._ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    x, y = make_batch(torch.float32)
    with pytest.raises(RuntimeError, match="torchrun --nproc-per-node 2 my_script.py"):
        evaluate(make_model(torch.float32), (x, y), Gaussian(0.1), executor=Torchrun())
    with pytest.raises(ValueError, match="`timeout_s` must be > 0"):
        Torchrun(timeout_s=0)


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="this torch has no gloo"
)
def test_a_run_left_halfway_ends_after_the_groups_of_its_program() -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    rounds = Torchrun().finished(make_task(), range(4))
    assert list(next(rounds)) == [0]
    torch.distributed.destroy_process_group()
    rounds.close()


def test_workers_take_over_the_settings_of_the_driver() -> None:
    def settings() -> tuple[Any, ...]:
        return torch.get_default_dtype(), torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu")

    model, x = torch.nn.Linear(5, 3), make_batch(torch.float32)[0]
    before, exact = settings(), model(x)
    with torch.autocast("cpu", torch.bfloat16):
        driver, coarse = numerics.Numerics.here("cpu"), model(x)
    assert not torch.equal(coarse.float(), exact)
    with driver.held():
        assert torch.equal(model(x), coarse)
    assert settings() == before
    with pytest.raises(RuntimeError, match="torch 1.0, but one has"), replace(driver, torch_version="1.0").held():
        pass


class WorkerCrashedError(Exception):
    pass


class RayTaskError(Exception):
    def __init__(self, cause: Exception) -> None:
        super().__init__(f"traceback of {cause!r}")
        self.cause = cause


class Reference:
    """Trials that were submitted, or an object in the store."""

    def __init__(self, value: Any, trials: Sequence[int] = ()) -> None:
        self.value, self.trials = value, trials

    def hex(self) -> str:
        return str(id(self))


class FakeRay:
    """A cluster in this process that ends tasks in any order, and loses trials with their worker.

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
        monkeypatch.setattr(ray, "_ray", lambda: found)
        monkeypatch.setattr(ray, "find_spec", lambda name: ModuleSpec(name, None))
        return found

    precision = torch.get_float32_matmul_precision()
    yield install
    torch.set_float32_matmul_precision(precision)
    ray._KEPT.clear()


def run(executor: Any, task: Task, count: int = 11) -> list[bytes]:
    return [as_bytes(scores) for scores in executor.run(task, range(count))]


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
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*make_batch(torch.float32)), batch_size=4)
    for each in (task, replace(task, batches=loader)):
        assert run(executor, each) == run(executor, each)
    assert len(cluster.store) == 2
    assert len(cluster.store[1].batches) == 4


def test_a_batch_is_sent_without_what_it_was_cut_from(fake: Callable[..., FakeRay]) -> None:
    images = torch.randn(40, 2, 50, 50, generator=torch.Generator().manual_seed(0))
    data = images.contiguous(memory_format=torch.channels_last), torch.zeros(40, dtype=torch.int64)
    cut = list(zip(*(part.split(4) for part in data), strict=True))
    task = replace(make_task(), batches=cut, norm_batches=cut)
    cluster = fake()
    Ray()._send(cluster, task)
    sent = cluster.store[0]
    assert len(pickle.dumps(cut)) > 9 * images.nbytes  # what was sent before
    assert len(pickle.dumps(sent)) < 2.2 * images.nbytes
    for (x, y), (own_x, own_y) in zip(cut, sent.batches, strict=True):
        assert torch.equal(x, own_x)
        assert torch.equal(y, own_y)
        assert x.stride() == own_x.stride()  # the order of sums, so the bits of results, follows it


def test_lost_trials_are_run_again(fake: Callable[..., FakeRay]) -> None:
    cluster, task = fake(loses={3: 1, 5: 2}), make_task()
    assert run(Ray(), task) == run(Serial(), task)
    assert Counter(cluster.begun) == Counter(range(11)) + Counter({3: 1, 5: 2})


def test_trials_that_always_kill_their_worker_are_told(fake: Callable[..., FakeRay]) -> None:
    cluster = fake(loses={5: 99})
    with pytest.raises(RuntimeError, match=r"Trials \[4, 5\] were lost with their worker 3 times.* WorkerCrashedError"):
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


def test_what_a_cluster_finished_is_kept(fake: Callable[..., FakeRay], tmp_path: Path) -> None:
    def rows(cluster: FakeRay) -> Iterator[Any]:
        assert not cluster.begun
        return Kept(tmp_path, Ray()).run(make_task(), range(11))

    first = rows(fake())
    for _ in range(4):
        next(first)
    first.close()
    kept = {int(path.stem) for path in tmp_path.rglob("*.npy")}
    assert kept > set(range(4))  # also what was there before its turn
    cluster = fake()
    assert list(map(as_bytes, rows(cluster))) == run(Serial(), make_task())
    assert set(cluster.begun) == set(range(11)) - kept
    connected = fake(connected=False)
    list(rows(connected))
    assert not connected.started, "nothing is left to run"


def test_ray_is_started_once_where_it_is_asked_for(
    fake: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for address, started in ((None, {"address": "local", "include_dashboard": False}), ("a:1", {"address": "a:1"})):
        cluster, executor, task = fake(connected=False), Ray(address=address), make_task()
        assert run(executor, task) == run(executor, task)
        assert cluster.started == [started]
        executor.close()
        assert not cluster.connected


def test_what_ray_cannot_do_is_told(fake: Callable[..., FakeRay]) -> None:
    fake()
    with pytest.raises(ValueError, match="`workers` must be ≥ 1, got 0"):
        Ray(0)
    with pytest.raises(TypeError, match="must be able to pickle"):
        run(Ray(), make_task(select=lambda name, module: True))
    torch.set_num_threads(3)
    try:
        with pytest.raises(ValueError, match="a node with 3 CPUs for each worker"):
            run(Ray(), make_task())
    finally:
        torch.set_num_threads(1)
