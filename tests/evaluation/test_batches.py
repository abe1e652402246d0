"""Every form of the data: the same batches, so the same evaluation."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from samson._batches import Batch, batches_of, moved, repeatable
from samson._modes import evaluation_mode
from samson.evaluation import ExampleMetric, evaluate, noise_budget
from samson.noise import Gaussian, calibrate
from tests.conftest import make_batch, make_model

X, Y = make_batch(size=300)
PARTS = list(zip(X.split(100), Y.split(100), strict=True))


def test_packed_sequences_move_but_for_the_sizes_of_their_batches() -> None:
    """Which torch wants on the CPU."""
    packed = pack_padded_sequence(X, torch.full((len(X),), 2), batch_first=True, enforce_sorted=False)
    there = Batch.of((packed, Y)).to(torch.device("meta")).inputs[0]
    assert [part.device.type for part in there] == ["meta", "cpu", "meta", "meta"]
    here = Batch.of((packed, Y)).to(torch.device("cpu")).inputs[0]
    assert torch.equal(here.data, packed.data)
    assert here.data.data_ptr() != packed.data.data_ptr()


def test_whole_tensors_are_moved_once_and_batches_when_they_come() -> None:
    there = torch.device("meta")
    inputs, targets = moved((X, Y), there)
    assert (inputs.device, targets.device, moved(X, there).device) == (there, there, there)
    assert moved(PARTS, there) is PARTS


class Rows(Dataset[dict[str, Tensor]]):
    """One example at a time, as a dict."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input": X[index], "label": Y[index]}


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Examples without a length."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(X, Y, strict=True))


FORMS: dict[str, Callable[[], Any]] = {
    "a pair of tensors": lambda: (X, Y),
    "a data set": lambda: TensorDataset(X, Y),
    "a data set of dicts": Rows,
    "a data set without a length": Stream,
    "a loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=100),
    "a list": lambda: PARTS,
    "a list of lists": lambda: list(map(list, PARTS)),
    "an iterator": lambda: iter(PARTS),
    "dicts": lambda: [{"input": x, "labels": y} for x, y in PARTS],
    "batches": lambda: [Batch((x,), y) for x, y in PARTS],
    "a mixture": lambda: [PARTS[0], {"input": PARTS[1][0], "target": PARTS[1][1]}, Batch((PARTS[2][0],), PARTS[2][1])],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_evaluation(form: str) -> None:
    setting = {"trials": 3, "seed": 5, "read_block": 70, "norm_data": (X + 1, Y)}
    expected = evaluate(make_model(), (X, Y), Gaussian(0.3), **setting)
    found = evaluate(make_model(), FORMS[form](), Gaussian(0.3), **setting)
    assert np.array_equal(found.scores, expected.scores)
    assert not np.array_equal(found.scores, expected.scores[:, ::-1])
    assert len(set(expected.trials)) == 3
    assert found.layout.batch_size == (50 if form == "a pair of tensors" else None)  # a convolution on a CPU


@pytest.mark.parametrize("form", FORMS)
def test_what_is_repeatable_gives_the_same_batches_again(form: str) -> None:
    batches = batches_of(repeatable(FORMS[form]()), batch_size=100)
    first, again = ([Batch.of(raw) for raw in batches] for _ in range(2))
    assert sum(map(len, first)) == 300
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.targets, other.targets)
    assert torch.equal(torch.cat([batch.targets for batch in first]), Y)


@pytest.mark.parametrize(
    ("loader", "sampler"),
    [
        (lambda data: DataLoader(data, 100, sampler=WeightedRandomSampler(torch.ones(300), 300)), "WeightedRandom"),
        (lambda data: DataLoader(data, 100, sampler=RandomSampler(data, replacement=True)), "Random"),
        (lambda data: DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data, True), 100, False)), "Random"),
        (lambda data: DataLoader(data, 100, shuffle=True), None),
        (lambda data: data, None),
    ],
)
def test_a_loader_that_draws_with_replacement_is_warned_of(
    loader: Callable[[Dataset[Any]], Any], sampler: str | None
) -> None:
    """Once a question, of however many levels."""
    data = loader(TensorDataset(X, Y))
    for ask in (
        lambda: evaluate(make_model(), data, Gaussian(0.3), trials=2),
        lambda: noise_budget(make_model(), data, Gaussian, 0.1, 0.2, trials=2, levels=2, max_drop=0.9, refinements=1),
    ):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            ask()
        expected = [] if sampler is None else [f"with replacement, by a {sampler}Sampler: "]
        assert [part in str(one.message) for one, part in zip(said, expected, strict=True)] == [True] * len(expected)


def test_a_batch_is_what_the_model_is_called_with() -> None:
    x, mask, y = torch.ones(2, 3), torch.zeros(2, 3), torch.arange(2)
    for raw, inputs, targets, keywords in (
        (x, (x,), None, {}),
        ((x,), (x,), None, {}),
        ([x, y], (x,), y, {}),
        ((x, mask, y), (x, mask), y, {}),
        ({"input_ids": x, "mask": mask, "labels": y}, (), y, {"input_ids": x, "mask": mask}),
        ({"label": y, "targets": x}, (), y, {"targets": x}),  # the first of the known keys
        ({"input_ids": x}, (), None, {"input_ids": x}),
    ):
        batch = Batch.of(raw)
        assert len(batch.inputs) == len(inputs)
        assert all(one is other for one, other in zip(batch.inputs, inputs, strict=True))
        assert batch.targets is targets
        assert batch.keywords.keys() == keywords.keys()
        assert all(batch.keywords[name] is value for name, value in keywords.items())
    cut = Batch((x, torch.tensor(7.0), "text", whole := torch.arange(5)), y, {"pair": (mask, [x])}).part(1, 2)
    assert cut.inputs[0].shape == cut.keywords["pair"][1][0].shape == (1, 3)
    assert cut.inputs[1:3] == (torch.tensor(7.0), "text")
    assert cut.inputs[3] is whole  # one row an example or nothing is cut
    moved = Batch((torch.ones(1, 2, 3, 3), x), y).to(torch.device("cpu"), channels_last=True)
    assert moved.inputs[0].is_contiguous(memory_format=torch.channels_last)
    assert moved.inputs[1].data_ptr() != x.data_ptr()  # a copy that a model may write into


TWO = {"class": Y, "size": X.flatten(1).sum(1)}


def correct_and_close(output: Tensor, targets: Any) -> Tensor:
    """A metric of two targets, a class and a number."""
    right, size = targets.values() if isinstance(targets, dict) else targets
    return (output.argmax(1) == right) * (output.sum(1) - size).abs().clamp(max=1)


class Several(Dataset[tuple[Tensor, Any]]):
    """Examples with two targets each."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        parts = {name: value[index] for name, value in TWO.items()}
        return X[index], parts if self.kind is dict else tuple(parts.values())


SEVERAL: dict[str, Callable[[], Any]] = {
    "a data set of dicts": lambda: Several(dict),
    "a data set of tuples": lambda: DataLoader(Several(tuple), batch_size=100),
    "a batch as long as it has targets": lambda: DataLoader(Several(tuple), batch_size=2),
    "a dict under its key": lambda: [{"input": X, "labels": TWO}],
    "whole tensors in a dict": lambda: (X, TWO),
    "whole tensors in a tuple": lambda: (X, tuple(TWO.values())),
}


def test_targets_of_numpy_are_cut_into_blocks() -> None:
    def error(output: Tensor, targets: Any) -> Tensor:
        return (output.sum(1) - torch.as_tensor(targets)).square()

    metric, numbers = ExampleMetric("own", error, higher_is_better=False), Y.double()
    values = [
        evaluate(
            make_model(), [(X, targets)], Gaussian(0.3), trials=2, metric=metric, about="population", read_block=size
        )
        for targets, size in ((numbers.numpy(), 77), (numbers, 77), (numbers, None))
    ]
    assert values[0].trials == values[1].trials == pytest.approx(values[2].trials, rel=1e-9)


@pytest.mark.parametrize("form", SEVERAL)
def test_targets_of_several_parts(form: str) -> None:
    metric = ExampleMetric("both", correct_and_close, higher_is_better=True)
    setting = {"trials": 2, "metric": metric, "about": "population"}
    expected = evaluate(make_model(), [(X, TWO)], Gaussian(0.3), **setting)
    found = evaluate(make_model(), SEVERAL[form](), Gaussian(0.3), **setting)
    assert found.scores.shape == (2, 300)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-9)
    assert found.scores.std() > 0
    blocks = evaluate(make_model(), SEVERAL[form](), Gaussian(0.3), **setting, read_block=77)
    np.testing.assert_allclose(blocks.scores, found.scores, rtol=1e-9)  # this noise is the same in each reading
    with pytest.raises(TypeError, match="must be a tensor for this metric, got (dict|list|tuple).*metric of your own"):
        evaluate(make_model(), SEVERAL[form](), Gaussian(0.3), trials=2)


class First(nn.Module):
    """Takes its input out of what holds several."""

    def __init__(self, key: int | str) -> None:
        super().__init__()
        self.key, self.inner = key, make_model()

    def forward(self, several: Any) -> Tensor:
        return self.inner(several[self.key])


def test_inputs_of_several_whole_tensors() -> None:
    """They are cut as a pair is; the model gets the batch as it gets it from a list."""
    expected = evaluate(First(0), [((x, x + 1), y) for x, y in PARTS], Gaussian(0.3), trials=2)
    for key, inputs in ((0, (X, X + 1)), ("a", {"b": X + 1, "a": X})):
        assert evaluate(First(key), (inputs, Y), Gaussian(0.3), trials=2).trials == expected.trials
    assert [len(Batch.of(raw)) for raw in batches_of(((X, X), Y), 128)] == [128, 128, 44]
    assert batches_of(two := (PARTS[0], PARTS[1])) is two  # a tuple of batches stays one


def test_a_sequence_with_an_entry_an_example_is_cut_as_such() -> None:
    x, boxes = torch.ones(3, 4), [torch.zeros(2, 4), torch.ones(2, 4), torch.full((2, 4), 2.0)]
    for targets in (boxes, tuple(boxes), ["a", "b", "c"], [{"box": box} for box in boxes]):
        batch = Batch((x,), targets)
        assert len(batch) == 3
        part = batch.part(1, 3)
        assert (len(part), len(part.inputs[0]), list(part.targets)) == (2, 2, list(targets[1:]))
    assert [len(Batch((x,), {"y": torch.ones(3), "weights": torch.ones(7)}).part(0, n)) for n in (1, 2)] == [1, 2]
    with pytest.raises(ValueError, match=r"tensors of \[2, 7\] rows under 'y', 'z'. Leave out"):
        len(Batch((x,), {"y": torch.ones(2), "z": torch.ones(7)}))


class Translation(nn.Module):
    """An encoder and a decoder, as torch has them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.head = nn.Embedding(9, 8), nn.Linear(8, 9)
        self.both = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.head(self.both(self.words(source), self.words(target)))


def test_an_encoder_with_a_decoder() -> None:
    source, target, following = torch.randint(9, (3, 20, 7))
    forms = [(source, target, following)], [{"source": source, "target": target, "labels": following}]
    results = [evaluate(Translation(), form, Gaussian(0.3), trials=2, metric="perplexity") for form in forms]
    layer = "both.decoder.layers.0.multihead_attn.*"
    part = evaluate(Translation(), forms[0], Gaussian(0.3), trials=2, metric="perplexity", select=layer)
    assert results[0].trials == results[1].trials != part.trials
    assert calibrate(Translation(), forms[0], "head") == calibrate(Translation(), forms[1], "head")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: Batch.of("text"),
            ValueError,
            r"must be \(inputs, targets\), a dict with labels or a tensor .* got str",
        ),
        (lambda: Batch.of(()), ValueError, "got tuple"),
        (lambda: batches_of((X, {"a": Y, "b": Y[:3]})), ValueError, "got 300 inputs and 3, 300 targets"),
        (lambda: batches_of(((X, X[:2]), Y)), ValueError, "got 2, 300 inputs and 300 targets"),
        (lambda: batches_of({"input": X, "labels": Y}), TypeError, r"got dict.*put a single batch in a list: \[batch"),
        (lambda: evaluate(make_model(), (X, X, Y), Gaussian(0.1)), ValueError, r"a list: \[\(inputs, targets\)\]"),
        (
            lambda: evaluate(Translation(), ((X, X), Y), Gaussian(0.1)),
            TypeError,
            r"'target'. Several .* as \[\(input, …",
        ),
        (
            lambda: evaluate(make_model(), ({"input": X}, Y), Gaussian(0.1)),
            TypeError,
            r"got \(dict,.* Several .*labels",
        ),
        (lambda: evaluate(make_model(), [{"input": X}], Gaussian(0.1)), ValueError, "got the keys input"),
    ],
)
def test_what_is_no_batch_is_named(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_each_module_gets_its_own_mode_back() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    model[1].eval()
    model[1][0].train()
    before = [module.training for module in model.modules()]
    with contextlib.suppress(ZeroDivisionError), evaluation_mode(model):
        assert not any(module.training for module in model.modules())
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == before
