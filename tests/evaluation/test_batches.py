"""Every form of the data: the same batches, so the same evaluation."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from samson._batches import Batch, batches_of, evaluation_mode, repeatable
from samson.evaluation import Layout, evaluate
from samson.noise import Gaussian
from tests.conftest import make_batch, make_model

X, Y = make_batch(size=300)
PARTS = list(zip(X.split(100), Y.split(100), strict=True))


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


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: Batch.of("text"),
            ValueError,
            r"must be \(inputs, targets\), a dict with labels or a tensor .* got str",
        ),
        (lambda: Batch.of(()), ValueError, "got tuple"),
        (lambda: batches_of((X, Y[:3])), ValueError, "got 300 inputs and 3 targets"),
        (lambda: batches_of((X[:0], Y[:0])), ValueError, "got 0 inputs and 0 targets"),
        (lambda: batches_of(3), TypeError, "an iterable of batches, got int"),
        (lambda: evaluate(make_model(), X, Gaussian(0.1)), ValueError, "must have targets.*got inputs alone"),
        (lambda: evaluate(make_model(), [{"input": X}], Gaussian(0.1)), ValueError, "got the keys input"),
        (lambda: evaluate(make_model(), [], Gaussian(0.1), layout=Layout(None)), ValueError, "at least one example"),
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
