"""Evaluation over ranks: the bits of one process, and no rank that waits for one that failed."""

import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from samson.evaluation import (
    Evaluation,
    Executor,
    Kept,
    Layout,
    Progress,
    Torchrun,
    compare,
    evaluate,
    noise_budget,
    sensitivity,
)
from samson.noise import Gaussian, Periphery, ReRAM
from tests.conftest import equal, make_batch, make_model, snapshot
from tests.distributed import harness
from tests.distributed.evaluate_tasks import Watching
from tests.distributed.harness import Checks, everywhere
from tests.evaluation.cases import answers

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
    "lower precision": {"trials": 6, "autocast": "bfloat16"},
    "data-set metric": {"trials": 3, "metric": "perplexity"},
}


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
def each_question_is_that_of_one_process_and_goes_on_from_its_folder() -> None:
    models = {"a": [make(), make_model(torch.float32, 4)], "b": [make_model(torch.float32, seed) for seed in (5, 6)]}

    def ask(executor: Executor | None) -> list[str]:
        setting = {"layout": LAYOUT, "executor": executor}
        compared = compare(models, DATA, NOISE, trials=5, **setting)
        budget = noise_budget(make(), DATA, Gaussian, 0.1, 0.4, trials=3, levels=2, refinements=1, **setting)
        ranked = sensitivity(make(), DATA, NOISE, trials=3, max_drop=0.5, **setting)
        every = [e for found in (*compared.models.values(), budget.evaluations.values()) for e in found]
        return [*map(str, (compared.difference("a", "b"), budget, ranked, ranked.rows)), *map(str, map(answers, every))]

    alone = ask(None)
    assert ask(Torchrun()) == alone
    kept = Kept(harness.folder / "questions", Torchrun())
    assert ask(kept) == alone
    saved = {path: path.stat().st_mtime_ns for path in sorted(harness.folder.glob("questions/*/*.npy"))}
    assert ask(kept) == alone
    assert saved == {path: path.stat().st_mtime_ns for path in sorted(harness.folder.glob("questions/*/*.npy"))}
    assert len(saved) > 4 * 5 + 2 * 3


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
    again = Watching(Torchrun(), harness.folder / "resumed again")
    assert answers(run(Kept(own, again))) == answers(resumed)
    assert not again.begun()
    everywhere_the_same(
        lambda: run(Kept(own, Torchrun()), seed=9), RuntimeError, "holds trials of another evaluation; different: seed"
    )


@check.add
def keeping_a_round_makes_no_group_of_its_own() -> None:
    made = []
    for trials in (2, 8):
        executor = Kept(harness.folder / f"{trials} trials", Torchrun())
        with patch.object(dist, "new_group", wraps=dist.new_group) as new_group:
            evaluate(make(), DATA, NOISE, trials=trials, layout=LAYOUT, executor=executor)
        made.append(new_group.call_count)
    assert made[0] == made[1] > 0


@check.add
def an_error_while_the_first_rank_writes_is_raised_on_all() -> None:
    own = harness.folder / f"full on rank {dist.get_rank()}"
    (own / "1.npy").mkdir(parents=True)  # where a file is to be
    everywhere_the_same(
        lambda: evaluate(make(), DATA, NOISE, trials=2, executor=Kept(own, Torchrun())),
        RuntimeError,
        "What rank 0 does for all failed on rank 0: ",
    )


@check.add
def replicas_count_with_the_buffers_of_the_first_rank() -> None:
    """After training, each rank has the running statistics of its own last batch."""

    def trained(model: nn.Module, rank: int) -> nn.Module:
        model.train()(make_batch(torch.float32, seed=rank)[0])
        return model

    def measured(model: nn.Module, executor: Executor | None = None) -> Evaluation:
        return evaluate(model, DATA, NOISE, trials=5, metric="cross-entropy", layout=LAYOUT, executor=executor)

    ddp = DistributedDataParallel(make())
    trained(ddp.module, dist.get_rank())
    before = snapshot(ddp.module)
    assert len(set(everywhere(float(before["1.running_mean"].sum())))) == 2
    alone, of_the_other = (measured(trained(make(), rank)) for rank in (0, 1))
    # Two ranks and five trials: a forward pass that communicates would wait for ever in the last round.
    assert answers(measured(ddp, Torchrun())) == answers(alone)
    assert equal(snapshot(ddp.module), before)
    assert all(mine != theirs for mine, theirs in zip(of_the_other.trials, alone.trials, strict=True))


def everywhere_the_same(run: Callable[[], object], error: type[Exception], message: str) -> None:
    """It fails on every rank with the same words; one that waited for another would end by torchrun's limit."""
    with pytest.raises(error, match=message) as caught:
        run()
    assert len(set(everywhere(str(caught.value)))) == 1


@check.add
def an_error_on_one_rank_is_raised_on_all() -> None:
    watching = Watching(Torchrun(), harness.folder / "fails", fails=3)
    everywhere_the_same(
        lambda: evaluate(make(), DATA, NOISE, trials=20, layout=LAYOUT, executor=watching),
        RuntimeError,
        "Trial 3 failed on rank 1: ValueError: trial 3 is bad",
    )
    assert max(watching.begun()) == 3
    # The ranks are still together.
    assert len(evaluate(make(), DATA, NOISE, trials=3, layout=LAYOUT, executor=Torchrun()).trials) == 3


DIFFERENT: dict[str, Callable[[int], dict]] = {
    "parameters": lambda rank: {"model": make_model(torch.float32, seed=rank)},
    "a first batch": lambda rank: {"data": (DATA[0].roll(rank, 0), DATA[1])},
    "seed": lambda rank: {"seed": rank},
    "the trials": lambda rank: {"trials": 4 + rank},
    "noise": lambda rank: {"noise": Gaussian(0.1) if rank else NOISE},
    "metric": lambda rank: {"metric": "top5" if rank else "accuracy"},
    "layout": lambda rank: {"layout": Layout(64, channels_last=rank > 0)},
    "autocast": lambda rank: {"autocast": "bfloat16" if rank else None},
    "read_block": lambda rank: {"read_block": 10 if rank else None},
    "time_s": lambda rank: {"time_s": 86_400.0 if rank else None},
    "select": lambda rank: {"select": "!4" if rank else None},
    "periphery": lambda rank: {"periphery": Periphery(dac_steps=254) if rank else None},
    "a first norm batch": lambda rank: {"norm_data": DATA if rank else None},
}


@check.for_each(DIFFERENT)
def ranks_that_evaluate_different_things_are_an_error(name: str) -> None:
    """Also where all trials are saved, so that there is nothing to run."""
    same = {"model": make(), "data": DATA, "noise": NOISE, "trials": 4, "layout": LAYOUT}
    kept = Kept(harness.folder / "different", Torchrun())
    evaluate(**same, executor=kept)
    for executor in (Torchrun(), kept):
        everywhere_the_same(
            lambda e=executor: evaluate(**same | DIFFERENT[name](dist.get_rank()), executor=e),
            ValueError,
            f"rank 1 has {name} .* give all of the data to each rank",
        )


@check.add
def sharded_models_are_refused() -> None:
    from torch.distributed.fsdp import fully_shard

    def norm_sharded() -> nn.Module:
        """What is on the chip is whole, and a layer beside it is sharded."""
        model = make()
        fully_shard(model[1])
        return model

    for executor in (Torchrun(), Kept(harness.folder / "sharded")):
        for model, refusal in (
            (fully_shard(make()), "no chip holds quantised, sharded or complex weights"),
            (norm_sharded(), "must be whole in every process"),
        ):
            everywhere_the_same(
                lambda m=model, e=executor: evaluate(m, DATA, NOISE, trials=4, executor=e), ValueError, refusal
            )
