"""Evaluation over ranks: the bits of one process, and no rank that waits for one that failed."""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from samson.evaluation import (
    Evaluation,
    Executor,
    Kept,
    Layout,
    Progress,
    Torchrun,
    compare,
    evaluate,
    layout,
    sensitivity,
)
from samson.evaluation.executors import kept, torchrun
from samson.evaluation.task import Task
from samson.noise import ReRAM
from tests.conftest import equal, make_batch, make_model, snapshot
from tests.distributed import harness
from tests.distributed.evaluate_tasks import Watching
from tests.distributed.harness import Checks, everywhere, main

check = Checks()
DATA = make_batch(torch.float32, size=150)
LAYOUT = Layout(batch_size=64)
NOISE = ReRAM()

SETTINGS: dict[str, dict] = {
    "uneven": {"trials": 7},
    "precision": {"precision": 0.004, "max_trials": 60},
    "betting": {"precision": 0.15, "max_trials": 60, "stopping": "betting"},
    "population": {"trials": 5, "about": "population", "metric": "cross-entropy"},
    "read_block": {"trials": 4, "read_block": 40},
    "lower precision": {"trials": 6, "layout": Layout(64, autocast="bfloat16")},
    "data-set metric": {"trials": 3, "metric": "perplexity"},
}


def answers(result: Evaluation) -> tuple[object, ...]:
    table = result.examples
    return result.trials, None if table is None else (table.packed.dtype, table.packed.tobytes()), str(result)


def make() -> nn.Module:
    return make_model(torch.float32)


@check.for_each(SETTINGS)
def the_bits_are_those_of_one_process(setting: str) -> None:
    states: list[Progress] = []
    arguments = {"seed": 3, "layout": LAYOUT} | SETTINGS[setting]
    spread = evaluate(make(), DATA, NOISE, executor=Torchrun(), progress=states.append, **arguments)
    alone = evaluate(make(), DATA, NOISE, **arguments)
    assert answers(spread) == answers(alone)
    assert len(set(alone.trials)) > 1
    assert len(alone.trials) > 10 or "precision" not in arguments, "more than one look"
    assert [state.done for state in states] == list(range(1, len(alone.trials) + 1))
    assert len(set(everywhere(spread.trials))) == 1


@check.add
def each_rank_runs_its_share_only() -> None:
    watching = Watching(Torchrun(), harness.folder / "share")
    evaluate(make(), DATA, NOISE, trials=7, layout=LAYOUT, executor=watching)
    assert watching.begun() == dict.fromkeys(range(7), 1)
    assert watching.processes() == 2


def threads() -> set[str]:
    return {task.name for task in Path("/proc/self/task").iterdir()}


if sys.platform == "linux":

    @check.for_each(["each call", "calls within calls"])
    def no_thread_outlives_its_evaluation(where: str) -> None:
        """A thread of gloo that drops a last tensor while the interpreter ends would abort the process."""
        during: list[set[str]] = []
        executor = Torchrun() if where == "each call" else Kept(harness.folder / "threads", Torchrun())
        before = threads()
        evaluate(make(), DATA, NOISE, trials=4, executor=executor, progress=lambda _: during.append(threads()))
        assert threads() == before
        assert all(before < at_a_trial for at_a_trial in during)


@check.add
def a_comparison_is_that_of_one_process() -> None:
    models = {"a": [make(), make_model(torch.float32, 4)], "b": [make_model(torch.float32, seed) for seed in (5, 6)]}
    spread, alone = (
        compare(models, DATA, NOISE, trials=5, layout=LAYOUT, executor=executor) for executor in (Torchrun(), None)
    )
    assert str(spread.difference("a", "b")) == str(alone.difference("a", "b"))
    for name, found in spread.models.items():
        assert [answers(e) for e in found] == [answers(e) for e in alone.models[name]]


@check.add
def a_split_by_seeds_of_ranks_would_be_noticed() -> None:
    def spread(seed: int) -> Evaluation:
        return evaluate(make(), DATA, NOISE, trials=6, layout=LAYOUT, seed=seed, executor=Torchrun())

    alone = evaluate(make(), DATA, NOISE, trials=6, layout=LAYOUT)
    with patch.object(torchrun, "_facts", lambda *_: b"{}"):
        assert answers(spread(0)) == answers(alone)
        assert answers(spread(dist.get_rank())) != answers(alone)
    with pytest.raises(ValueError, match="rank 1 has the seed 1, and rank 0 0"):
        spread(dist.get_rank())


@check.add
def the_rows_of_every_layer_are_those_of_one_process() -> None:
    spread, alone = (
        sensitivity(make(), DATA, NOISE, trials=3, reuse=False, layout=LAYOUT, executor=executor)
        for executor in (Torchrun(), None)
    )
    assert spread.rows == alone.rows
    assert spread.noisy == alone.noisy


@check.add
def the_layout_is_found_by_the_first_rank_alone() -> None:
    asked = []

    def find(*_: object, **mode: object) -> Layout:
        assert mode == {"autocast": None, "compiled": False}
        asked.append(dist.get_rank())
        return Layout(batch_size=32 + dist.get_rank())

    with patch.object(torchrun, "find_layout", find):
        assert evaluate(make(), DATA, NOISE, trials=2, executor=Torchrun()).layout == Layout(32)
        paired = compare({"a": make(), "b": make()}, DATA, NOISE, trials=2, executor=Torchrun())
        assert {e.layout for of_method in paired.models.values() for e in of_method} == {Layout(32)}
    assert asked == [0, 0] * (dist.get_rank() == 0)
    # A forward pass of replicas would wait for the other ranks; so would one of a sharded model.
    layout._FOUND.clear()
    evaluate(DistributedDataParallel(make()), DATA, NOISE, trials=2, executor=Torchrun())
    # Layouts that are given must be the same.
    given = Layout(batch_size=32 + dist.get_rank())
    quickly(
        lambda: evaluate(make(), DATA, NOISE, trials=2, layout=given, executor=Torchrun()),
        ValueError,
        "rank 1 has a first batch",
    )


@check.add
def an_error_while_the_first_rank_finds_the_layout_is_raised_on_all() -> None:
    with patch.object(torchrun, "find_layout", side_effect=ValueError("no layout")):
        quickly(
            lambda: evaluate(make(), DATA, NOISE, trials=2, executor=Torchrun()),
            RuntimeError,
            "What rank 0 does for all failed on rank 0: ValueError: no layout",
        )
    assert len(evaluate(make(), DATA, NOISE, trials=2, executor=Torchrun()).trials) == 2


@check.add
def an_interrupted_evaluation_goes_on_from_the_folder_of_the_first_rank() -> None:
    """Each rank has a file system of its own, and buffers of its own."""
    own = harness.folder / f"kept on rank {dist.get_rank()}"

    def run(executor: Executor, **more: object) -> Evaluation:
        ddp = DistributedDataParallel(make())
        if dist.get_rank():
            ddp.module.train()(DATA[0])
        return evaluate(ddp, DATA, NOISE, trials=7, executor=executor, **more)

    def stop(state: Progress) -> None:
        if state.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Kept(own, Torchrun()), progress=stop)
    assert [len(list(own.rglob("*.npy"))), own.exists()] == ([4, True] if dist.get_rank() == 0 else [0, False])
    watching = Watching(Torchrun(), harness.folder / "resumed")
    resumed = run(Kept(own, watching))
    assert watching.begun() == dict.fromkeys(range(4, 7), 1)  # both trials of a round were kept
    assert answers(resumed) == answers(evaluate(make(), DATA, NOISE, trials=7, layout=resumed.layout))
    assert len(set(everywhere(resumed.trials))) == 1
    with patch.object(Task, "__call__", side_effect=AssertionError("nothing is left to run")):
        assert answers(run(Kept(own, Torchrun()))) == answers(resumed)


@check.add
def keeping_a_round_makes_no_group_of_its_own() -> None:
    made = []
    for trials in (2, 8):
        executor = Kept(harness.folder / f"{trials} trials", Torchrun())
        with patch.object(torchrun.dist, "new_group", wraps=dist.new_group) as new_group:
            evaluate(make(), DATA, NOISE, trials=trials, layout=LAYOUT, executor=executor)
        made.append(new_group.call_count)
    assert made[0] == made[1] > 0


@check.add
def an_error_while_the_first_rank_writes_is_raised_on_all() -> None:
    with patch.object(kept, "replace_file", side_effect=OSError("the disk is full")):
        quickly(
            lambda: evaluate(make(), DATA, NOISE, trials=2, executor=Kept(harness.folder / "full", Torchrun())),
            RuntimeError,
            "failed on rank 0: OSError: the disk is full",
        )


@check.add
def replicas_count_with_the_buffers_of_the_first_rank() -> None:
    """After training, each rank has the running statistics of its own last batch."""

    def trained(model: nn.Module, rank: int) -> nn.Module:
        model.train()(make_batch(torch.float32, seed=rank)[0])
        return model

    ddp = DistributedDataParallel(make())
    trained(ddp.module, dist.get_rank())
    before = snapshot(ddp.module)
    assert len(set(everywhere(float(before["1.running_mean"].sum())))) == 2
    alone = evaluate(trained(make(), 0), DATA, NOISE, trials=5, layout=LAYOUT)
    # Two ranks and five trials: a forward pass that communicates would wait for ever in the last round.
    assert answers(evaluate(ddp, DATA, NOISE, trials=5, layout=LAYOUT, executor=Torchrun())) == answers(alone)
    assert equal(snapshot(ddp.module), before)
    with patch.object(torchrun, "_buffers", lambda *_: nullcontext()):
        assert answers(evaluate(ddp, DATA, NOISE, trials=5, layout=LAYOUT, executor=Torchrun())) != answers(alone)


def quickly(run: Callable[[], object], error: type[Exception], message: str) -> None:
    """It fails on every rank with the same words, long before any timeout."""
    start = time.perf_counter()
    with pytest.raises(error, match=message) as caught:
        run()
    assert time.perf_counter() - start < 20
    assert len(set(everywhere(str(caught.value)))) == 1


@check.add
def an_error_on_one_rank_is_raised_on_all() -> None:
    watching = Watching(Torchrun(), harness.folder / "fails", fails=3)
    quickly(
        lambda: evaluate(make(), DATA, NOISE, trials=20, layout=LAYOUT, executor=watching),
        RuntimeError,
        "Trial 3 failed on rank 1: ValueError: trial 3 is bad",
    )
    assert max(watching.begun()) == 3
    # The ranks are still together.
    assert len(evaluate(make(), DATA, NOISE, trials=3, layout=LAYOUT, executor=Torchrun()).trials) == 3


@check.add
def ranks_are_compared_also_where_everything_is_kept() -> None:
    with TemporaryDirectory() as folder:
        executor = Kept(folder, Torchrun())
        evaluate(make(), DATA, NOISE, trials=4, layout=LAYOUT, executor=executor)
        other = make_model(torch.float32, seed=dist.get_rank())
        for model, trials, words in (
            (other, 4, "rank 1 has parameters"),
            (make(), 4 + dist.get_rank(), "rank 1 has the trials"),
        ):
            quickly(
                lambda m=model, n=trials: evaluate(m, DATA, NOISE, trials=n, layout=LAYOUT, executor=executor),
                ValueError,
                words,
            )


@check.add
def ranks_that_evaluate_different_things_are_told() -> None:
    other = make_model(torch.float32, seed=dist.get_rank())
    quickly(
        lambda: evaluate(other, DATA, NOISE, trials=4, layout=LAYOUT, executor=Torchrun()),
        ValueError,
        "rank 1 has parameters",
    )
    dataset = TensorDataset(*DATA)
    loader = DataLoader(dataset, 64, sampler=DistributedSampler(dataset, shuffle=False))
    quickly(lambda: evaluate(make(), loader, NOISE, trials=4, executor=Torchrun()), ValueError, "no DistributedSampler")


@check.add
def sharded_models_are_refused() -> None:
    from torch.distributed.fsdp import fully_shard

    quickly(
        lambda: evaluate(fully_shard(make()), DATA, NOISE, trials=4, executor=Torchrun()),
        ValueError,
        "must be whole in every process",
    )
    quickly(
        lambda: evaluate(fully_shard(make()), DATA, NOISE, executor=Kept(harness.folder / "sharded")),
        ValueError,
        "must be whole in every process",
    )


if __name__ == "__main__":
    main(check)
