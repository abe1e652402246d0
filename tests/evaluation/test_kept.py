"""Trials in a folder: an evaluation that was interrupted goes on, with the bits of one that never was."""

import copy
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from samson.evaluation import (
    METRICS,
    DataSetMetric,
    Evaluation,
    ExampleMetric,
    Executor,
    Kept,
    Layout,
    MeanThen,
    Progress,
    Serial,
    Task,
    compare,
    digest,
    evaluate,
    identity,
    noise_budget,
    sensitivity,
)
from samson.noise import PCM, Gaussian, preset
from tests.evaluation.cases import DATA, LAYOUT, NOISE, Counting, answers, passes

KEYWORDS: dict[str, Any] = {"layout": LAYOUT, "trials": 4}


def measured(**more: Any) -> Evaluation:
    return evaluate(Counting(), DATA, NOISE, **KEYWORDS | more)


RIGHT = DATA[0], Counting().eval()(DATA[0]).argmax(1)


def ranked(**more: Any) -> Any:
    """With `max_drop`, one layer is chosen: four chips rank, four choose and four confirm."""
    return sensitivity(Counting(), RIGHT, NOISE, **KEYWORDS, **more)


ASK: dict[str, tuple[Callable[..., Any], int]] = {
    "evaluate": (measured, 3),
    "examples and readings": (lambda **k: measured(metric="cross-entropy", about="population", read_block=20, **k), 3),
    "a data-set metric": (lambda **k: measured(metric="perplexity", **k), 3),
    "looks": (lambda **k: measured(trials=None, precision=0.0003, max_trials=40, **k), 13),
    "bets": (lambda **k: measured(trials=None, precision=0.2, max_trials=40, stopping="betting", **k), 13),
    "a whole chip": (
        lambda **k: evaluate(Counting(), DATA, preset("standard-hwa"), norm_data=DATA, **KEYWORDS, **k),
        3,
    ),
    "compare": (
        lambda **k: compare({"a/b": Counting(), "c": [Counting(1), Counting(2)]}, DATA, NOISE, **KEYWORDS, **k),
        6,
    ),
    "noise_budget": (
        lambda **k: noise_budget(Counting(), DATA, Gaussian, 0.01, 1.0, max_drop=0.05, refinements=2, **KEYWORDS, **k),
        6,
    ),
    "sensitivity": (ranked, 3),
    "sensitivity, choosing": (lambda **k: ranked(max_drop=0.2, **k), 6),
    "sensitivity, confirming": (lambda **k: ranked(max_drop=0.2, **k), 10),
}
"""A question, and after how many chips it is interrupted."""


def said(found: Any) -> list[Any]:
    """All that a result says, bit for bit."""
    if hasattr(found, "models"):
        return [str(found.difference("a/b", "c")), *(answers(e) for of in found.models.values() for e in of)]
    if hasattr(found, "evaluations"):
        return [str(found), *((level, answers(e)) for level, e in found.evaluations.items())]
    if hasattr(found, "rows"):
        return [str(found), found.noisy, found.rows, found.suggestion]  # a dataclass of numbers and names
    return [answers(found)]


def interrupted_after(chips: int) -> Callable[..., None]:
    """Progress that is interrupted."""
    seen = []

    def progress(*arguments: object) -> None:
        seen.append(arguments)
        if len(seen) == chips:
            raise KeyboardInterrupt

    return progress


LOOK = 3
"""Passes of a first batch, without noise and with it, by which a process sees that noise reaches the outputs."""

PASS = 3
"""Batches of the data."""

CLEAN = PASS + 1
"""Passes of the one without noise, which is no trial, and one in which multiply-adds are counted."""


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.npy"))}


@pytest.mark.parametrize("question", ASK)
def test_every_question_can_be_interrupted(tmp_path: Path, question: str) -> None:
    ask, chips = ASK[question]
    whole, folder = tmp_path / "whole", tmp_path / "interrupted"
    passes()
    expected = said(ask())
    everything = passes()
    assert said(ask(executor=Kept(whole))) == expected
    assert passes() == everything
    with pytest.raises(KeyboardInterrupt):
        ask(executor=Kept(folder), progress=interrupted_after(chips))
    first, saved = passes(), files(folder)
    assert len(saved) == chips
    assert said(ask(executor=Kept(folder))) == expected
    second = passes()
    assert said(ask(executor=Kept(folder))) == expected
    clean = passes()  # the value without noise is no trial
    assert 0 <= first + second - everything <= clean + LOOK  # which both may have taken at the same part
    assert clean == (3 * CLEAN + 2 * LOOK if question == "compare" else CLEAN)
    assert files(folder) == files(whole)
    assert saved.items() < files(folder).items()


def test_more_trials_begin_with_those_that_are_there(tmp_path: Path) -> None:
    states: list[Progress] = []
    four = measured(executor=Kept(tmp_path))
    passes()
    ten = measured(trials=10, executor=Kept(tmp_path), progress=states.append)
    assert passes() == 6 * PASS + CLEAN + LOOK
    assert [state.done for state in states] == list(range(1, 11))
    assert answers(measured(executor=Kept(tmp_path))) == answers(four)
    assert passes() == CLEAN
    assert answers(ten) == answers(measured(trials=10))
    assert len(set(ten.trials)) > 1


def make_task(**changes: Any) -> Task:
    return replace(Task(Counting(), LAYOUT.batches(DATA), NOISE, METRICS["accuracy"], layout=LAYOUT), **changes)


def changed(edit: Callable[[Counting], None]) -> Counting:
    model = Counting()
    with torch.no_grad():
        edit(model)
    return model


X, Y = DATA
CHANGES: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "a weight": ("model", lambda: {"model": changed(lambda m: m.inner[4].bias[0].add_(1e-7))}),
    "a buffer": ("model", lambda: {"model": changed(lambda m: m.inner[1].running_var[0].add_(1e-6))}),
    "a name": ("model, select, modules", lambda: {"model": nn.Sequential(Counting())}),
    "a constant of the noise": ("noise", lambda: {"noise": Gaussian(0.3 + 1e-12)}),
    "the noise": ("noise", lambda: {"noise": PCM()}),
    "the seed": ("seed", lambda: {"seed": 1}),
    "an input": ("batches", lambda: {"batches": LAYOUT.batches((X + torch.eye(60)[0, :, None, None] * 1e-6, Y))}),
    "a target": ("batches", lambda: {"batches": LAYOUT.batches((X, Y.roll(1)))}),
    "the order": ("batches", lambda: {"batches": LAYOUT.batches((X.flip(0), Y.flip(0)))}),
    "the batch size": ("batches", lambda: {"batches": Layout(20).batches(DATA)}),
    "the layout": ("layout", lambda: {"layout": Layout(25, channels_last=True)}),
    "the metric": ("metric", lambda: {"metric": METRICS["top5"]}),
    "the selection": ("select", lambda: {"select": "inner.4"}),
    "the block of a reading": ("read_block", lambda: {"read_block": 30}),
    "a layer's setting": ("modules", lambda: {"model": changed(lambda m: m.inner.__setitem__(2, nn.Sigmoid()))}),
    "the time": ("time_s", lambda: {"time_s": 1.0}),
    "the periphery": ("periphery", lambda: {"periphery": preset("standard-hwa").periphery}),
    "data for norms": ("norm_batches", lambda: {"norm_batches": LAYOUT.batches(DATA)}),
    "the precision": ("autocast", lambda: {"autocast": "bfloat16"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_evaluation_is_refused_by_what_differs(tmp_path: Path, change: str) -> None:
    name, make = CHANGES[change]
    list(Kept(tmp_path).run(make_task(), range(2)))
    before = files(tmp_path)
    passes()
    with pytest.raises(ValueError, match=rf"holds trials of another evaluation; different: {name}\. Give another"):
        list(Kept(tmp_path).run(make_task(**make()), range(2)))
    assert not passes()
    list(Kept(tmp_path).run(make_task(), range(2)))  # the same again, in a model of its own, is known
    assert not passes()
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "where", "value"),
    [
        ("samson", "samson.__version__", "9.9"),
        ("process.torch_version", "torch.__version__", "9.9"),
        ("process.threads", "torch.get_num_threads", lambda: 7),
        ("process.deterministic", "torch.are_deterministic_algorithms_enabled", lambda: True),
        ("process.matmul_precision", "torch.get_float32_matmul_precision", lambda: "medium"),
        ("machine", "platform.machine", lambda: "another"),
    ],
)
def test_another_machine_or_setting_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str, value: Any
) -> None:
    list(Kept(tmp_path).run(make_task(), range(2)))
    monkeypatch.setattr(where, value)
    with pytest.raises(ValueError, match=rf"different: {name}\."):
        list(Kept(tmp_path).run(make_task(), range(2)))


def test_another_source_is_refused_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout has one version at many commits."""
    for name, text in (("one", "x = 1"), ("copy", "x = 1"), ("other", "x = 2")):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "noise.py").write_text(text)
    kept = Kept(tmp_path / "kept")
    for name in ("one", "copy"):
        monkeypatch.setattr("samson.__file__", str(tmp_path / name / "__init__.py"))
        list(kept.run(make_task(), range(2)))
    monkeypatch.setattr("samson.__file__", str(tmp_path / "other" / "__init__.py"))
    with pytest.raises(ValueError, match=r"different: source\."):
        list(kept.run(make_task(), range(2)))


def accumulators() -> Iterator[tuple[Any, Any]]:
    """Two each that differ by what their `repr` leaves out."""
    yield MeanThen(METRICS["cross-entropy"].score, torch.exp), MeanThen(METRICS["cross-entropy"].score, torch.log)
    yield MeanThen(METRICS["cross-entropy"].score, torch.exp), MeanThen(METRICS["accuracy"].score, torch.exp)
    if find_spec("torchmetrics") is not None:
        torchmetrics = import_module("torchmetrics")
        once, twice = (torchmetrics.Accuracy("multiclass", num_classes=3, top_k=k, average="micro") for k in (1, 2))
        yield once, twice
        yield once * 1.0, twice * 1.0


def test_another_setting_of_an_accumulator_is_another_metric(tmp_path: Path) -> None:
    for number, pair in enumerate(accumulators()):
        first, other = (make_task(metric=DataSetMetric("m", one, higher_is_better=True)) for one in pair)
        kept = Kept(tmp_path / str(number))
        list(kept.run(first, range(2)))
        passes()
        pair[0].update(torch.eye(3), torch.arange(3))  # what it has seen is no setting
        list(kept.run(first, range(2)))
        assert not passes()
        with pytest.raises(ValueError, match=r"different: metric\."):
            list(kept.run(other, range(2)))


def test_levels_that_hardly_differ_have_folders_of_their_own(tmp_path: Path) -> None:
    """A search ends at such levels."""
    few = {"trials": 2, "levels": 2, "refinements": 0, "layout": LAYOUT, "max_drop": 0.99}
    found = noise_budget(Counting(), DATA, Gaussian, 0.1, 0.1 + 1e-12, **few, executor=Kept(tmp_path))
    assert list(found.evaluations) == [0.1, 0.1 + 1e-12]


def test_a_block_of_autocast_or_another_question_is_refused(tmp_path: Path) -> None:
    list(Kept(tmp_path).run(make_task(), range(2)))
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ValueError, match=r"different: process\.autocast\. Give another"),
    ):
        list(Kept(tmp_path).run(make_task(), range(2)))
    ranked(executor=Kept(tmp_path / "ranked"))
    with pytest.raises(ValueError, match=r"different: batches, parts, kind\. Give another"):
        measured(executor=Kept(tmp_path / "ranked" / "layers"))


def test_results_name_the_weights_as_the_manifest_does(tmp_path: Path) -> None:
    """A change in the last digit of a buffer is another hash; what has no bits to look at is no reason to stop."""
    found = measured(executor=Kept(tmp_path))
    own = json.loads((tmp_path / "manifest.json").read_text())["facts"]["model"].strip("'")
    assert found.subject.weights_hash == own
    budget = noise_budget(Counting(), DATA, Gaussian, 0.1, 0.2, levels=2, refinements=0, trials=2, layout=LAYOUT)
    assert {budget.subject.weights_hash, ranked().subject.weights_hash} == {own}
    other = changed(lambda m: m.inner[1].running_var[0].add_(1e-6))
    assert evaluate(other, DATA, NOISE, **KEYWORDS).subject.weights_hash not in (None, own)
    assert compare({"a": Counting(), "b": other}, DATA, NOISE, **KEYWORDS).subject.weights_hash is None
    sparse = Counting()
    sparse.register_buffer("links", torch.eye(3).to_sparse())
    assert evaluate(sparse, DATA, NOISE, **KEYWORDS).subject.weights_hash not in (None, own)


def test_data_count_by_their_bits_whatever_holds_them(tmp_path: Path) -> None:
    class Holder(dict[str, Any]):
        """A mapping that torch does not look into, and that shows only the ends of large tensors."""

    def held(targets: torch.Tensor) -> list[Holder]:
        return [Holder(input=x, labels=y) for x, y in LAYOUT.batches((DATA[0], targets))]

    class Keyed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Counting()

        def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
            return self.model(input)

    def run(data: Any, folder: str, model: nn.Module) -> Evaluation:
        state = torch.get_rng_state()
        found = evaluate(model, data, NOISE, trials=2, executor=Kept(tmp_path / folder))
        assert torch.equal(torch.get_rng_state(), state)
        return found

    first = run(held(DATA[1]), "held", Keyed())
    passes()
    assert run([dict(batch) for batch in held(DATA[1])], "held", Keyed()).trials == first.trials
    assert passes() == CLEAN
    with pytest.raises(ValueError, match="different: batches"):
        run(held((DATA[1] + 1) % 3), "held", Keyed())

    class Either(Keyed):
        def forward(self, plus: Any = None, minus: Any = None) -> torch.Tensor:
            return super().forward(plus if minus is None else -minus)

    run([{"plus": DATA[0], "labels": DATA[1]}], "named", Either())
    with pytest.raises(ValueError, match="different: batches"):  # the same tensors under another name
        run([{"minus": DATA[0], "labels": DATA[1]}], "named", Either())
    loader = DataLoader(TensorDataset(*DATA), batch_size=25, shuffle=True)
    model = Counting()
    torch.manual_seed(3)
    shuffled = run(loader, "shuffled", model)
    assert run(list(loader), "in another order", model).trials == shuffled.trials  # accuracy does not see the order
    torch.manual_seed(4)
    passes()
    assert run(loader, "shuffled", model).trials == shuffled.trials
    assert passes() == CLEAN, "whatever the global state, the order is the same"
    with pytest.raises(ValueError, match="different: batches"):
        run(list(loader), "in another order", model)  # drawn from the global state by the caller


class Graph:
    """Inputs that show their shape alone, as graphs do, and hold themselves and a lock."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x, self.itself, self.lock = x, self, Lock()

    def __repr__(self) -> str:
        return f"Graph(x={list(self.x.shape)})"


@dataclass(slots=True, repr=False)
class Slotted:
    x: torch.Tensor


@pytest.mark.parametrize("form", [Graph, Slotted])
def test_objects_of_another_class_count_by_what_they_hold(tmp_path: Path, form: Callable[[torch.Tensor], Any]) -> None:
    class Opened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Counting()

        def forward(self, held: Any) -> torch.Tensor:
            return self.model(held.x)

    def run(inputs: torch.Tensor) -> Evaluation:
        return evaluate(Opened(), [(form(inputs), Y)], NOISE, trials=2, executor=Kept(tmp_path))

    first = run(X)
    passes()
    assert run(X.clone()).trials == first.trials
    assert passes() == 2  # without noise, and a look at whether it reaches the outputs
    with pytest.raises(ValueError, match="different: batches"):
        run(X.flip(0))


def scaled(k: float) -> Callable[..., torch.Tensor]:
    return lambda output, targets: k * output.sum(1)


def by_default(k: float) -> Callable[..., torch.Tensor]:
    def score(output: torch.Tensor, targets: torch.Tensor, *, factor: float = k) -> torch.Tensor:
        return factor * output.sum(1)

    return score


class Scaled:
    def __init__(self, k: float) -> None:
        self.k = k

    def __call__(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.k * output.sum(1)

    def __repr__(self) -> str:
        return "Scaled()"


@pytest.mark.parametrize(
    "make",
    [
        scaled,
        Scaled,
        lambda k: Scaled(k).__call__,
        lambda k: partial(scaled(1.0), weights=torch.full((2000,), k)),
        lambda k: nn.CrossEntropyLoss(weight=torch.full((3,), k), reduction="none"),
        by_default,
    ],
    ids=["closure", "object", "method", "partial", "module", "keyword"],
)
def test_a_metric_counts_by_what_its_function_holds(make: Callable[[float], Any]) -> None:
    once, again, other = (identity(ExampleMetric("own", make(k), higher_is_better=True)) for k in (1.0, 1.0, 2.0))
    assert once == again != other


def test_a_metric_counts_the_same_in_another_mode_or_on_another_device() -> None:
    def own(loss: nn.Module, device: str = "cuda:0") -> Any:
        where = torch.device(device)
        return ExampleMetric("own", lambda output, targets: loss(output.to(where), targets), higher_is_better=False)

    loss = nn.CrossEntropyLoss(reduction="none")
    found = [identity(own(loss)), identity(own(loss.eval())), identity(own(loss, "cuda:1"))]
    assert found == [identity(own(nn.CrossEntropyLoss(reduction="none")))] * 3
    assert identity(own(nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1))) not in found


def test_a_wrapped_model_and_another_form_of_the_data_are_the_same(tmp_path: Path) -> None:
    def run(model: nn.Module, data: Any) -> Evaluation:
        return evaluate(model, data, NOISE, trials=2, executor=Kept(tmp_path), metric=METRICS["accuracy"])

    first = run(Counting(), [(X, Y)])
    passes()
    assert run(nn.DataParallel(Counting()), [[X, Y]]).trials == first.trials
    assert passes() == 2  # without noise, and a look at whether it reaches the outputs


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array(["a", "b"]), np.array(["a", "c"])),
        (np.array([1, 2, 3])[::-1], np.array([1, 2, 3])),
        (np.array([{}, None]), np.array([{1: 2}, None])),
        (torch.eye(3).to_sparse(), 2 * torch.eye(3).to_sparse()),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        ({"a", "b"}, {"a", "c"}),
        (MappingProxyType(dict.fromkeys(range(5000), 0)), MappingProxyType(dict.fromkeys(range(5000), 1))),
    ],
    ids=["texts", "reversed", "objects", "sparse", "shapes", "dtypes", "sets", "proxies"],
)
def test_data_of_any_kind_have_a_hash(one: Any, other: Any) -> None:
    assert digest(one) == digest(one)
    assert digest(one) != digest(other)


def test_a_hash_is_the_same_in_every_process() -> None:
    """Sets of texts have another order there."""
    code = "from samson.evaluation import digest; print(digest([{'a', 'b', 'c', 'd'}, frozenset('xyz')]))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_objects_that_all_know_each_other_have_a_hash_soon() -> None:
    nodes = [SimpleNamespace() for _ in range(40)]
    for node in nodes:
        node.neighbours = nodes
    assert digest(nodes) == digest(copy.deepcopy(nodes))


class Doubtful(nn.Module):
    """Drops inputs in evaluation mode too, as networks do that say how sure they are."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(nn.functional.dropout(x.flatten(1), 0.5, training=True))


def test_what_is_drawn_in_evaluation_mode_does_not_depend_on_the_global_seed(tmp_path: Path) -> None:
    """Two chips under one seed, and three more under another: the five of a run under a third."""
    model, data = Doubtful(), TensorDataset(DATA[0], DATA[1])
    norms = DataLoader(data, batch_size=25, shuffle=True)

    def run(seed: int, trials: int, data: Any = DATA, **more: Any) -> Evaluation:
        torch.manual_seed(seed)
        return evaluate(model, data, NOISE, trials=trials, metric="cross-entropy", norm_data=norms, **more)

    whole = run(1, 5)
    run(2, 2, executor=Kept(tmp_path))
    assert answers(run(3, 5, executor=Kept(tmp_path))) == answers(whole)
    assert whole.clean == run(4, 2).clean
    one, other = (run(seed, 2, DataLoader(data, batch_size=25, shuffle=True)) for seed in (5, 6))
    assert answers(one) == answers(other)
    assert answers(one) != answers(run(5, 2))  # the order counts, by what is dropped
    identical = evaluate(model, DATA, Gaussian(0.0), trials=2, metric="cross-entropy")
    assert identical.trials == (identical.clean,) * 2  # every chip drops the same


def test_the_manifest_and_the_files_can_be_read_without_samson(tmp_path: Path) -> None:
    rows = list(Kept(tmp_path).run(make_task(), range(2)))
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(np.load(tmp_path / f"{number}.npy", allow_pickle=False), row)
    facts = json.loads((tmp_path / "manifest.json").read_text())["facts"]
    assert facts["noise"] == "Gaussian(sigma=0.3, per='layer')"
    assert facts["select"] == "['inner.0.weight', 'inner.4.weight']"
    assert " at 0x" not in str(facts)


@pytest.mark.parametrize("content", [b"{", b'{"facts": {}, "version": 3, "more": 1}', b'{"facts": 3, "version": 3}'])
def test_a_manifest_that_is_damaged_or_gone_is_refused(tmp_path: Path, content: bytes) -> None:
    """Its trials could be of anything."""
    list(Kept(tmp_path).run(make_task(), range(2)))
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`folder` .*manifest\.json.*Delete it, or give another one"):
        list(Kept(tmp_path).run(make_task(), range(2)))
    path.unlink()
    with pytest.raises(ValueError, match=r"holds trials without the manifest\.json"):
        list(Kept(tmp_path).run(make_task(seed=1), range(1)))


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[20:], lambda b: bytes(200)])
def test_a_damaged_file_is_run_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    list(Kept(tmp_path).run(make_task(), range(3)))
    before = files(tmp_path)
    (tmp_path / "1.npy").write_bytes(damage(before["1.npy"]))
    assert files(tmp_path) != before
    passes()
    list(Kept(tmp_path).run(make_task(), range(3)))
    assert passes() == 3 + LOOK  # one trial of three batches
    assert files(tmp_path) == before


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
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"0.npy", "manifest.json"}


@pytest.mark.parametrize("name", ["configuration.json", "training.json"])
def test_the_folder_of_a_comparison_or_a_training_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match="`folder` must be for trials alone, got .*\\nIt is that of a comparison"):
        Kept(tmp_path)


def test_each_part_has_a_folder_of_its_own_whatever_its_name(tmp_path: Path) -> None:
    long = "x" * 300
    names = ["a/b", "a\\b", "..", "a%2Fb", "é", "0.1", long, long + "y", long + "z", ""]
    folders = [Kept(tmp_path).named(name).folder for name in names]
    assert len({str(folder).casefold() for folder in folders}) == len(names)
    assert all(folder.parent == tmp_path and len(folder.name) < 100 for folder in folders)
    assert all(folder.resolve().parent == tmp_path for folder in folders)
    for folder in folders:
        folder.mkdir()
    assert Kept(tmp_path).named(long).folder == folders[names.index(long)]
    assert Serial().named("a") == Serial()  # where nothing is saved, names do not matter
    inner = Order()
    assert Kept(tmp_path, inner).named("0.1").executor is inner


class Order(Executor):
    """An executor that notes what it is asked for; what comes last is there first."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def finished(self, task: Task, numbers: Sequence[int]) -> Iterator[Any]:
        self.asked.append(list(numbers))
        return Serial().finished(task, numbers[::-1])


def test_only_what_is_missing_is_asked_for_and_all_comes_in_order(tmp_path: Path) -> None:
    expected = [row.tolist() for row in Serial().run(make_task(), range(6))]
    list(Kept(tmp_path).run(make_task(), [4, 1]))
    inner = Order()
    assert [row.tolist() for row in Kept(tmp_path, inner).run(make_task(), range(6))] == expected
    again = Kept(tmp_path, inner).run(make_task(), [5, 0, 3])
    assert [row.tolist() for row in again] == [expected[n] for n in (5, 0, 3)]
    assert inner.asked == [[0, 2, 3, 5], []]


def test_a_trial_that_fails_is_not_kept(tmp_path: Path) -> None:
    broken = make_task(model=changed(lambda m: m.inner[4].weight.fill_(math.nan)), metric=METRICS["cross-entropy"])
    with pytest.raises(ValueError, match="must be finite"):
        list(Kept(tmp_path / "new").run(broken, range(2)))
    assert not files(tmp_path)
