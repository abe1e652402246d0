"""Trials that are kept: an evaluation that was interrupted goes on, with the bits of one that never was."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from samson.evaluation import (
    METRICS,
    Batched,
    Evaluation,
    Executor,
    Kept,
    Layout,
    Progress,
    Serial,
    compare,
    evaluate,
    layout,
    noise_budget,
    sensitivity,
)
from samson.evaluation.executors import identity, kept
from samson.evaluation.executors.exchange import as_bytes
from samson.evaluation.task import Task
from samson.noise import PCM, Gaussian, preset
from tests.conftest import make_batch, make_model

PASSES: Counter[str] = Counter()
"""How often a model was run: outside the model, whose attributes are part of what it is."""
DATA = make_batch(torch.float32, size=60)
LAYOUT = Layout(batch_size=25)
NOISE = Gaussian(0.3)


class Counting(nn.Module):
    """A model whose passes are counted."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.inner = make_model(torch.float32, seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        PASSES["all"] += 1
        return self.inner(x)


@pytest.fixture(autouse=True)
def _from_zero() -> None:
    PASSES.clear()


def passes() -> int:
    """Forward passes since the last time."""
    return PASSES.pop("all", 0)


def answers(result: Evaluation) -> tuple[Any, ...]:
    table = result.examples
    return result.trials, None if table is None else (table.packed.dtype, table.packed.tobytes()), str(result)


def interrupted_after(chips: int, error: type[BaseException]) -> Callable[..., None]:
    """Progress that stops it; of `compare` and `noise_budget` too."""
    seen = []

    def progress(*arguments: object) -> None:
        seen.append(arguments)
        if len(seen) == chips:
            raise error("stopped")

    return progress


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.npy"))}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize(
    "setting",
    [
        {"trials": 5},
        {"trials": 5, "metric": "cross-entropy", "about": "population", "read_block": 20},
        {"trials": 5, "metric": "perplexity"},
        {"precision": 0.0003, "max_trials": 40},
    ],
    ids=str,
)
def test_an_interrupted_evaluation_goes_on(tmp_path: Path, setting: dict[str, Any], error: type[BaseException]) -> None:
    def run(**more: Any) -> Evaluation:
        return evaluate(Counting(), DATA, NOISE, seed=3, layout=LAYOUT, **setting, **more)

    alone = run()
    chips = len(alone.trials)
    a_chip = passes() // chips
    with pytest.raises(error, match="stopped"):
        run(executor=Kept(tmp_path), progress=interrupted_after(3, error))
    assert passes() == 3 * a_chip
    assert len(files(tmp_path)) == 3
    states: list[Progress] = []
    resumed = run(executor=Kept(tmp_path), progress=states.append)
    assert passes() == (chips - 3) * a_chip
    assert answers(resumed) == answers(alone)
    assert [state.done for state in states] == list(range(1, chips + 1))
    assert answers(run(executor=Kept(tmp_path))) == answers(alone)
    assert not passes()
    assert len(set(alone.trials)) > 1
    assert chips == setting.get("trials", 40), "several looks with `precision`"


def test_more_trials_begin_with_those_that_are_there(tmp_path: Path) -> None:
    def run(trials: int, **more: Any) -> Evaluation:
        return evaluate(Counting(), DATA, NOISE, trials=trials, layout=LAYOUT, **more)

    five = run(5, executor=Kept(tmp_path))
    a_chip = passes() // 5
    ten = run(10, executor=Kept(tmp_path))
    assert passes() == 5 * a_chip
    assert ten.trials[:5] == five.trials
    assert answers(run(5, executor=Kept(tmp_path))) == answers(five)
    assert not passes()
    assert answers(ten) == answers(run(10))


def compared(**more: Any) -> Any:
    return compare({"a": Counting(), "b": [Counting(1)]}, DATA, NOISE, trials=4, **more)


def budgeted(**more: Any) -> Any:
    return noise_budget(Counting(), DATA, Gaussian, 0.01, 1.0, max_drop=0.05, trials=4, refinements=2, **more)


def ranked(**more: Any) -> Any:
    return sensitivity(Counting(), DATA, NOISE, trials=4, reuse=False, **more)


def digital(progress: Callable[..., None] | None = None, **more: Any) -> Any:
    return ranked(progress=progress, **more).keep_digital(0.02, progress=progress)


def in_a_periphery(**more: Any) -> Any:
    return evaluate(Counting(), DATA, preset("standard-hwa"), trials=4, norm_data=DATA, **more)


def said(found: Any) -> list[Any]:
    """All that a result says, bit for bit."""
    if hasattr(found, "models"):
        return [str(found.difference("a", "b")), *(answers(e) for of in found.models.values() for e in of)]
    if hasattr(found, "evaluations"):
        return [str(found), *((level, answers(e)) for level, e in found.evaluations.items())]
    if hasattr(found, "rows"):
        return [str(found), found.noisy, found.rows]
    return [str(found), *(answers(found) if isinstance(found, Evaluation) else ())]


@pytest.mark.parametrize(
    ("ask", "chips"), [(compared, 6), (budgeted, 6), (ranked, 3), (digital, 6), (in_a_periphery, 3)]
)
def test_every_question_can_be_interrupted(tmp_path: Path, ask: Callable[..., Any], chips: int) -> None:
    expected = said(ask(layout=LAYOUT))
    whole, folder = tmp_path / "whole", tmp_path / "interrupted"
    passes()
    assert said(ask(layout=LAYOUT, executor=Kept(whole))) == expected
    everything = passes()
    with pytest.raises(KeyboardInterrupt):
        ask(layout=LAYOUT, executor=Kept(folder), progress=interrupted_after(chips, KeyboardInterrupt))
    first, kept_first = passes(), files(folder)
    assert len(kept_first) == chips
    assert said(ask(layout=LAYOUT, executor=Kept(folder))) == expected
    second = passes()
    assert said(ask(layout=LAYOUT, executor=Kept(folder))) == expected
    clean = passes()  # the value without noise is no trial
    assert first + second == everything + clean
    assert files(folder) == files(whole)
    assert kept_first.items() < files(folder).items()


def make_task(**changes: Any) -> Task:
    task = Task(Counting(), LAYOUT.batches(DATA), NOISE, METRICS["accuracy"], layout=LAYOUT)
    return replace(task, **changes)


def other_weights() -> Counting:
    model = Counting()
    with torch.no_grad():
        model.inner[4].bias[0].add_(1e-7)
    return model


def other_statistics() -> Counting:
    model = Counting()
    model.inner[1].running_var[0].add_(1e-6)
    return model


CHANGES: dict[str, Callable[[], dict[str, Any]]] = {
    "weights": lambda: {"model": other_weights()},
    "a buffer": lambda: {"model": other_statistics()},
    "a class of a layer": lambda: {"model": nn.Sequential(Counting(), nn.Identity())},
    "a constant of the noise": lambda: {"noise": Gaussian(0.3 + 1e-12)},
    "the noise": lambda: {"noise": PCM()},
    "the seed": lambda: {"seed": 1},
    "an input": lambda: {"batches": LAYOUT.batches((DATA[0] + torch.eye(60)[0, :, None, None] * 1e-6, DATA[1]))},
    "a target": lambda: {"batches": LAYOUT.batches((DATA[0], DATA[1].roll(1)))},
    "the order": lambda: {"batches": LAYOUT.batches((DATA[0].flip(0), DATA[1].flip(0)))},
    "the batch size": lambda: {"batches": Layout(batch_size=20).batches(DATA)},
    "channels_last": lambda: {"layout": Layout(25, channels_last=True)},
    "a lower precision": lambda: {"layout": Layout(25, autocast="bfloat16")},
    "the metric": lambda: {"metric": METRICS["top5"]},
    "a function of the same name": lambda: {
        "metric": replace(METRICS["accuracy"], score=lambda output, targets: output.argmax(1) != targets)
    },
    "the selection": lambda: {"select": "inner.4"},
    "read_block": lambda: {"read_block": 30},
    "time_s": lambda: {"time_s": 1.0},
    "a periphery": lambda: {"periphery": preset("standard-hwa").periphery},
    "norm_data": lambda: {"norm_batches": LAYOUT.batches(DATA)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_decides_a_trial_is_known(tmp_path: Path, change: str) -> None:
    def run(task: Task) -> list[bytes]:
        return [as_bytes(scores) for scores in Kept(tmp_path).run(task, range(2))]

    first = run(make_task())
    passes()
    assert run(make_task()) == first
    assert not passes(), "the same again is known"
    changed = make_task(**CHANGES[change]())
    found = run(changed)
    assert passes(), "what is kept is not for this task"
    assert found == [as_bytes(scores) for scores in Serial().run(changed, range(2))]


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (torch, "__version__", "9.9"),
        (identity, "_processor", lambda: "another"),
        (torch.backends.cpu, "get_cpu_capability", lambda: "AVX1024"),
        (identity.samson, "__version__", "9.9"),
        (identity, "_source", lambda: "another"),
        (torch, "get_num_threads", lambda: 7),
        (torch, "get_float32_matmul_precision", lambda: "medium"),
        *((torch.backends.mkldnn, name, value) for name, value in (("enabled", False), ("deterministic", True))),
        *((torch.backends.cudnn, name, True) for name in ("benchmark", "deterministic")),
        *((torch.backends.cudnn, name, False) for name in ("enabled", "allow_tf32")),
        *((torch.backends.cuda, f"{way}_sdp_enabled", lambda: False) for way in ("flash", "mem_efficient", "math")),
        (torch.backends.cuda, "preferred_linalg_library", lambda: "magma"),
        (torch.backends.mha, "get_fastpath_enabled", lambda: False),
        (torch.nn.modules.module, "_global_forward_hooks", {0: torch.add}),
        (torch.nn.modules.module, "_global_forward_pre_hooks", {0: torch.add}),
    ],
)
def test_where_it_runs_is_known(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, value: Any) -> None:
    def key() -> tuple[str, ...]:
        identity._machine.cache_clear()
        return tuple(fact.fingerprint for fact in identity.facts_of(make_task()).values())

    before = key()
    assert key() == before
    with monkeypatch.context() as patched:
        patched.setattr(where, name, value)
        assert key() != before
    assert key() == before


def test_a_change_that_was_not_looked_for_would_give_wrong_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above can fail: with a key that is blind for the seed, another seed's trials are taken."""
    facts_of = identity.facts_of
    monkeypatch.setattr(kept, "facts_of", lambda task: {k: v for k, v in facts_of(task).items() if k != "seed"})
    one, other = make_task(), make_task(seed=1)
    rows = list(map(as_bytes, Kept(tmp_path).run(one, range(2))))
    assert list(map(as_bytes, Kept(tmp_path).run(other, range(2)))) == rows
    assert list(map(as_bytes, Serial().run(other, range(2)))) != rows


def truncated(content: bytes) -> bytes:
    return content[:-1]


def one_bit(content: bytes) -> bytes:
    return content[:140] + bytes([content[140] ^ 1]) + content[141:]


@pytest.mark.parametrize("damage", [truncated, one_bit, lambda _: b"", lambda _: b"\x80\x04.", lambda _: bytes(200)])
def test_a_damaged_file_is_not_trusted(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    task = make_task()
    expected = list(map(as_bytes, Kept(tmp_path).run(task, range(3))))
    before = files(tmp_path)
    path = next(tmp_path.rglob("1.npy"))
    path.write_bytes(damage(path.read_bytes()))
    assert files(tmp_path) != before
    passes()
    assert list(map(as_bytes, Kept(tmp_path).run(make_task(), range(3)))) == expected
    assert passes() == 3  # one trial of three batches
    assert files(tmp_path) == before


def test_a_file_is_of_one_trial_of_one_task_and_can_be_read_by_numpy(tmp_path: Path) -> None:
    rows = list(Kept(tmp_path).run(make_task(), range(2)))
    folder = next(tmp_path.glob("*/task.json")).parent
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(np.load(folder / f"{number}.npy", allow_pickle=False), row)
    said = json.loads((folder / "task.json").read_text())
    assert said["noise"].startswith("Gaussian(sigma=0.3, per='layer') [")
    assert said["on_chip"].startswith("('inner.0.weight', 'inner.4.weight') [")
    (folder / "1.npy").write_bytes((folder / "0.npy").read_bytes())
    other = make_task(seed=1)
    list(Kept(tmp_path).run(other, range(1)))
    passes()
    assert as_bytes(list(Kept(tmp_path).run(make_task(), range(2)))[1]) == as_bytes(rows[1])
    assert passes() == 3


def test_an_interruption_while_writing_leaves_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Kept(tmp_path).run(make_task(), range(5))
    next(rows)
    write = Path.write_bytes

    def half(self: Path, content: bytes) -> int:
        write(self, content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        next(rows)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"0.npy", "task.json"}


def test_the_layout_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timings of another process would choose another layout, with which no trial is known."""
    searches: list[int] = []

    def other_each_time(*_: object) -> Layout:
        searches.append(20 + len(searches))
        return Layout(batch_size=searches[-1])

    monkeypatch.setattr(layout, "_timed", other_each_time)

    def in_another_process(**more: Any) -> Evaluation:
        monkeypatch.setattr(layout, "_FOUND", {})
        return evaluate(Counting(), DATA, NOISE, trials=3, **more)

    assert in_another_process().layout != in_another_process().layout
    first = in_another_process(executor=Kept(tmp_path))
    passes()
    again = in_another_process(executor=Kept(tmp_path))
    assert answers(again) == answers(first)
    assert again.layout == first.layout == Layout(22)
    assert not passes()
    assert len(searches) == 3
    assert in_another_process(executor=Kept(tmp_path), layout=LAYOUT).layout == LAYOUT
    assert passes(), "what is asked for wins"
    path = next((tmp_path / "layouts").iterdir())
    path.write_text("{")
    assert in_another_process(executor=Kept(tmp_path)).layout == Layout(23)
    assert in_another_process(executor=Kept(tmp_path)).layout == Layout(23)

    monkeypatch.setattr(layout, "_FOUND", {})
    compared(executor=Kept(tmp_path / "compared"))
    passes()
    monkeypatch.setattr(layout, "_FOUND", {})
    compared(executor=Kept(tmp_path / "compared"))
    assert not passes()


def loader(**settings: Any) -> DataLoader:
    return DataLoader(TensorDataset(*DATA), batch_size=25, **settings)


def test_data_in_batches_are_known_again(tmp_path: Path) -> None:
    def run(data: Any, seed: int = 0) -> Evaluation:
        torch.manual_seed(seed)
        model = Counting()
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        result = evaluate(model, data, NOISE, trials=3, executor=Kept(tmp_path))
        assert torch.equal(torch.get_rng_state(), state)
        return result

    plain = run(loader())
    passes()
    assert answers(run(list(loader()))) == answers(plain)
    assert answers(run(iter(list(loader())))) == answers(plain)
    assert not passes()
    shuffled = run(loader(shuffle=True))
    assert passes(), "another order"
    assert answers(run(loader(shuffle=True))) == answers(shuffled)
    assert not passes(), "the same global state gives the same order"
    run(loader(shuffle=True), seed=1)
    assert passes()
    own = loader(shuffle=True, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="`data` must come the same each time .* Use shuffle=False"):
        run(own)
    assert not passes()


def test_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(ValueError, match="`folder` must be a folder, or not be there yet, got the file"):
        Kept(path)


class Order(Executor):
    """An executor that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def finished(self, task: Task, numbers: Any) -> Iterator[Any]:
        """What comes last is there first."""
        self.asked.append(list(numbers))
        return Serial().finished(task, numbers[::-1])


def test_only_what_is_missing_is_asked_for_and_all_comes_in_order(tmp_path: Path) -> None:
    expected = list(map(as_bytes, Serial().run(make_task(), range(6))))
    list(Kept(tmp_path).run(make_task(), [4, 1]))
    inner = Order()
    assert list(map(as_bytes, Kept(tmp_path, inner).run(make_task(), range(6)))) == expected
    assert list(map(as_bytes, Kept(tmp_path, inner).run(make_task(), [5, 0, 3]))) == [expected[n] for n in (5, 0, 3)]
    assert inner.asked == [[0, 2, 3, 5], []]


def test_chips_at_once_are_kept_apart_from_those_alone(tmp_path: Path) -> None:
    """They round in another way, and another number at once may too."""
    setting: dict[str, Any] = {"metric": "cross-entropy", "layout": LAYOUT, "trials": 4}
    for executor in (Serial(), Batched(chips=4), Batched(chips=2)):
        evaluate(Counting(), DATA, NOISE, executor=Kept(tmp_path, executor), **setting)
        assert passes() > 0
        evaluate(Counting(), DATA, NOISE, executor=Kept(tmp_path, executor), **setting)
        assert passes() == 0
