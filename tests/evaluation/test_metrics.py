"""Any task: metrics per example and per data set, any source of batches, any output."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from samson.evaluation import (
    METRICS,
    DataSetMetric,
    ExampleMetric,
    MeanThen,
    NotFiniteError,
    as_metric,
    evaluate,
    scores,
    value_of,
)
from samson.experiments import LanguageModelling
from samson.noise import Gaussian, deploy

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(50, 6, generator=GENERATOR)
Y = torch.randint(7, (50,), generator=GENERATOR)
BATCHES = [(X[:20], Y[:20]), (X[20:], Y[20:])]


def value(metric: ExampleMetric | DataSetMetric, output: Any, targets: torch.Tensor) -> float:
    """A metric of one batch."""
    if isinstance(metric, ExampleMetric):
        return metric.score(output, targets).double().mean().item()
    accumulator = metric.fresh(torch.device("cpu"))
    accumulator.update(output, targets)
    return float(accumulator.compute())


def linear(outputs: int = 7) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(6, outputs)


def test_the_named_metrics_are_what_they_say() -> None:
    model = linear()
    logits, targets = model(X).detach().double().numpy(), Y.numpy()
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    losses = -np.log(exponents[np.arange(50), targets] / exponents.sum(1))
    ranks = (logits > logits[np.arange(50), targets][:, None]).sum(1)
    expected = {"accuracy": ranks == 0, "top5": ranks < 5, "cross-entropy": losses}
    for name, wanted in expected.items():
        found = scores(model, BATCHES, METRICS[name])
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert not np.array_equal(expected["accuracy"], expected["top5"])
    assert scores(model, BATCHES, METRICS["perplexity"]) == pytest.approx(math.exp(losses.mean()), rel=1e-5)
    regression = linear(2)
    t = torch.randn(50, 2)
    wanted = ((regression(X) - t) ** 2).mean(1).detach().numpy()
    np.testing.assert_allclose(scores(regression, [(X, t)], METRICS["mse"]), wanted, rtol=1e-5)


ANSWERS = {
    "mse": (torch.randn(50, 3, generator=GENERATOR), torch.randn(50, 3, generator=GENERATOR)),
    "perplexity-causal": (torch.randn(50, 4, 7, generator=GENERATOR), torch.randint(7, (50, 4), generator=GENERATOR)),
}
"""Outputs and targets of 50 examples, for metrics that do not take the logits of classes."""


def check_contract(metric: ExampleMetric | DataSetMetric, outputs: torch.Tensor, targets: torch.Tensor) -> None:
    """It is of the data, whatever the batches, and whatever another copy of it has seen."""

    def found(size: int) -> Any:
        return scores(nn.Identity(), zip(outputs.split(size), targets.split(size), strict=True), metric)

    whole = found(50)
    value(metric, outputs[:9], targets[:9])
    np.testing.assert_allclose(found(7), whole, rtol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_of_the_data_whatever_the_batches_and_other_copies(name: str) -> None:
    check_contract(METRICS[name], *ANSWERS.get(name, (linear()(X).detach(), Y)))


class Errors:
    """The mean squared error: of what this copy has seen, over all that it has seen."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.seen: list[torch.Tensor] = []

    def update(self, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.seen.append((outputs - targets).square().mean(1))

    def compute(self) -> torch.Tensor:
        return torch.cat(self.seen).mean()


class ByBatch(Errors):
    """The mean of the batches' means, of which the last is of one example."""

    def compute(self) -> torch.Tensor:
        return torch.stack([one.mean() for one in self.seen]).mean()


class Common(Errors):
    """All copies have one list."""

    seen: list[torch.Tensor] = []  # noqa: RUF012

    def reset(self) -> None:
        """Forgets nothing."""


def test_the_contract_of_metrics_sees_what_is_wrong() -> None:
    check_contract(DataSetMetric("good", Errors(), higher_is_better=False), *ANSWERS["mse"])
    for wrong in (ByBatch(), Common()):
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            check_contract(DataSetMetric("bad", wrong, higher_is_better=False), *ANSWERS["mse"])


class Tokens(nn.Module):
    """Logits for each token, as Transformers give them: (batch, tokens, classes) in an object."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.layer = nn.Linear(6, 7)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> SimpleNamespace:
        return SimpleNamespace(logits=self.layer(input_ids))


IDS = torch.randn(8, 5, 6, generator=GENERATOR)
LABELS = torch.randint(7, (8, 5), generator=GENERATOR).masked_fill(torch.arange(5) == 4, -100)


def dict_batches() -> list[dict[str, torch.Tensor]]:
    return [
        {"input_ids": IDS[a:b], "attention_mask": torch.ones(b - a, 5), "labels": LABELS[a:b]}
        for a, b in ((0, 3), (3, 8))
    ]


def test_dict_batches_and_outputs_with_logits_are_understood() -> None:
    model = Tokens()
    right = (model(IDS).logits.argmax(-1) == LABELS)[:, :4].double().mean(1).numpy()
    np.testing.assert_allclose(scores(model, dict_batches(), METRICS["accuracy"]), right)
    token = functional.cross_entropy(model(IDS).logits[:, :4].reshape(-1, 7), LABELS[:, :4].reshape(-1))
    assert scores(model, dict_batches(), METRICS["perplexity"]) == pytest.approx(token.exp().item(), rel=1e-5)
    following = functional.cross_entropy(model(IDS).logits[:, :3].reshape(-1, 7), LABELS[:, 1:4].reshape(-1))
    assert scores(model, dict_batches(), METRICS["perplexity-causal"]) == pytest.approx(
        following.exp().item(), rel=1e-5
    )


def test_transformers_models_work_as_they_are() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3
    )
    model = transformers.BertForSequenceClassification(config)
    ids, labels = torch.randint(30, (12, 5)), torch.randint(3, (12,))
    batches = [
        transformers.BatchEncoding({"input_ids": ids[:6], "labels": labels[:6]}),
        {"input_ids": ids[6:], "labels": labels[6:]},
    ]
    result = evaluate(model, batches, Gaussian(0.3), trials=3)
    model.eval()
    for trial, value in enumerate(result.trials):
        with deploy(model, Gaussian(0.3), trial=trial).at(), torch.no_grad():
            by_hand = (model(input_ids=ids).logits.argmax(1) == labels).float().mean().item()
        assert value == pytest.approx(by_hand)
    assert len(set(result.trials)) > 1


class Second(Tokens):
    """Logits with the classes second, as torchmetrics want them."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> SimpleNamespace:
        return SimpleNamespace(logits=super().forward(input_ids).logits.movedim(-1, 1))


@pytest.mark.parametrize("about_tokens", [False, True])
def test_metrics_of_torchmetrics_are_of_the_data_set(about_tokens: bool) -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    if about_tokens:
        model, batches = Second(), dict_batches()
        metric = torchmetrics.JaccardIndex("multiclass", num_classes=7, ignore_index=-100)
    else:
        model, batches = linear(), BATCHES
        metric = torchmetrics.F1Score("multiclass", num_classes=7, average="macro")
    result = evaluate(model, batches, Gaussian(0.2), trials=3, metric=metric)
    model.eval()
    for trial, value in enumerate(result.trials):
        with deploy(model, Gaussian(0.2), trial=trial).at(), torch.no_grad():
            if about_tokens:
                expected = torchmetrics.functional.jaccard_index(
                    model(IDS).logits, LABELS, "multiclass", num_classes=7, ignore_index=-100
                )
            else:
                expected = torchmetrics.functional.f1_score(model(X), Y, "multiclass", num_classes=7, average="macro")
        assert value == pytest.approx(expected.item())
    assert (result.metric.name, result.metric.bounds, result.examples) == (type(metric).__name__, None, None)
    assert result.metric.higher_is_better
    assert metric.update_count == 0  # the user's own object is left alone
    with pytest.raises(ValueError, match="`about` must be 'test_set' for 'Multiclass"):
        evaluate(model, batches, Gaussian(0.2), metric=metric, about="population")


def test_metrics_of_torchmetrics_merge_nothing_with_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a default group, as under torchrun: a metric, and those within it, would gather from all ranks."""
    torchmetrics = pytest.importorskip("torchmetrics")
    f1 = torchmetrics.F1Score("multiclass", num_classes=7, average="macro")
    alone = scores(linear(), BATCHES, as_metric(f1))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for metric in (f1, f1 * 1.0):
        assert scores(linear(), BATCHES, DataSetMetric("f1", metric, higher_is_better=True)) == alone
    f1.update(linear()(X), Y)
    with pytest.raises(ValueError, match="process group"):
        f1.compute()


def test_a_shuffled_loader_gives_every_chip_the_same_order_and_touches_no_random_state() -> None:
    model, labels = linear(), torch.arange(50) % 7
    shuffled = DataLoader(TensorDataset(X, labels), batch_size=8, shuffle=True)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = evaluate(model, shuffled, Gaussian(0.3), trials=4, about="population")
    assert torch.equal(torch.get_rng_state(), before)
    in_order = evaluate(model, [(X, labels)], Gaussian(0.3), trials=4, about="population")
    # One order for all chips: the columns are a permutation of the list's.
    columns = sorted(map(tuple, found.scores.T.tolist()))
    assert columns == sorted(map(tuple, in_order.scores.T.tolist()))
    assert found.interval.low == pytest.approx(in_order.interval.low)
    own = DataLoader(TensorDataset(X, labels), batch_size=8, shuffle=True, generator=torch.Generator())
    before = own.generator.get_state()
    replayed = evaluate(model, own, Gaussian(0.3), trials=4, about="population")
    assert sorted(map(tuple, replayed.scores.T.tolist())) == columns
    assert torch.equal(own.generator.get_state(), before)


def test_outputs_with_as_many_tokens_as_classes_have_classes_last() -> None:
    tokens = torch.tensor([[0, 0, 1]])
    perfect = SimpleNamespace(logits=nn.functional.one_hot(tokens, 3).float())
    assert METRICS["accuracy"].score(perfect, tokens).item() == 1.0
    for name, metric in METRICS.items():
        if name not in ANSWERS:
            with pytest.raises(ValueError, match=r"which axis .* got \(1, 3, 3\) for targets of shape \(1, 3\)"):
                value(metric, perfect.logits, tokens)


def test_the_task_of_language_has_the_vocabulary_last() -> None:
    """Also where a text is as long as that is large; −100 does not count."""
    generator = torch.Generator().manual_seed(0)
    logits, tokens = torch.randn(4, 7, 7, generator=generator), torch.randint(7, (4, 7), generator=generator)
    tokens[1, 2] = -100
    p = np.exp(logits.double().numpy())
    p /= p.sum(2, keepdims=True)
    bits = [-math.log2(p[i, j, tokens[i, j]]) for i in range(4) for j in range(7) if tokens[i, j] >= 0]
    found = value(LanguageModelling.metric, logits, tokens)
    assert found == pytest.approx(np.mean(bits), rel=1e-6)
    assert value(LanguageModelling.metric, logits.mT, tokens) != pytest.approx(found, rel=0.01)


def test_squared_errors_of_one_output_have_no_axis_for_it() -> None:
    model = linear(1)
    assert value_of(scores(model, [(X, model(X).detach().squeeze(1))], METRICS["mse"])) == 0.0


class Waves(nn.Module):
    """Two complex numbers for each example."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.view_as_complex(self.layer(x).reshape(-1, 2, 2))


def test_squared_errors_of_complex_numbers_are_those_of_their_parts() -> None:
    model = Waves()
    with torch.no_grad():
        wanted = ((torch.view_as_real(model(X)) - 1) ** 2).sum(-1).mean(-1)  # of both parts
    found = scores(model, [(X, torch.full((50, 2), 1 + 1j))], METRICS["mse"])
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_losses_do_not_overflow_where_the_model_is_in_lower_precision() -> None:
    """Outputs of some 400 are numbers in float16; their squares are none, and bfloat16 has two digits."""
    for dtype in (torch.float16, torch.bfloat16):
        model, x = linear(2).to(dtype), (300 * X).to(dtype)
        with torch.no_grad():
            output = model(x).double()
        assert (output**2).max() > torch.finfo(torch.float16).max
        found = evaluate(model, (x, torch.zeros(50, 2, dtype=dtype)), Gaussian(0.0), trials=2, metric="mse")
        assert found.clean == pytest.approx(float((output**2).mean()), rel=1e-5)
        assert found.trials == (found.clean,) * 2
        close = ExampleMetric("close", lambda a, b: torch.isclose(a, b).all(1), higher_is_better=True)  # of one dtype
        assert evaluate(model, (x, model(x).detach()), Gaussian(0.0), trials=2, metric=close).clean == 1


def broken() -> nn.Linear:
    model = linear()
    with torch.no_grad():
        model.weight[0, 0] = math.nan
    return model


class WithoutFloat64(torch.Tensor):
    """As on a device that has none, such as MPS."""

    def double(self) -> torch.Tensor:
        raise TypeError

    def cpu(self) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)


def test_scores_come_from_a_device_without_float64() -> None:
    metric = of_examples(lambda output: output[:, 0].as_subclass(WithoutFloat64))
    model = nn.Linear(6, 3)
    assert np.array_equal(scores(model, [(X, Y)], metric), model(X)[:, 0].detach().double().numpy())


WHOLE = ExampleMetric("whole", lambda output, targets: output.mean(), higher_is_better=True)


def of_examples(score: Callable[[torch.Tensor], Any]) -> ExampleMetric:
    return ExampleMetric("own", lambda output, targets: score(output), higher_is_better=True)


def of_data(value: Any) -> DataSetMetric:
    own = SimpleNamespace(reset=lambda: None, update=lambda outputs, targets: None, compute=lambda: value)
    return DataSetMetric("own", own, higher_is_better=True, bounds=(0.0, 1.0))


UNCOUNTED = [{"input_ids": IDS, "labels": torch.full((8, 5), -100)}]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: as_metric("acuracy"), ValueError, "Did you mean 'accuracy'"),
        (lambda: as_metric(lambda output, targets: output), TypeError, "A function becomes one by ExampleMetric"),
        (
            lambda: as_metric(["accuracy", "mse"]),
            TypeError,
            "must be one metric, got a list of 2. Evaluate once for each",
        ),
        (
            lambda: as_metric(nn.ModuleDict({"f1": nn.Identity()})),
            TypeError,
            "must be one metric, got a ModuleDict of 1",
        ),
        (lambda: as_metric(MeanThen), TypeError, r"must be an instance, got the class. Write MeanThen\(...\)"),
        (lambda: as_metric(SimpleNamespace(reset=1, update=1, compute=1)), ValueError, "must state its direction"),
        (
            lambda: scores(linear(), BATCHES, of_examples(lambda y: 1.0)),
            TypeError,
            "'own' must give a tensor .* got float",
        ),
        (
            lambda: scores(linear(), BATCHES, of_examples(lambda y: y.numpy())),
            TypeError,
            "got ndarray.*torch.as_tensor",
        ),
        (
            lambda: scores(linear(), BATCHES, of_examples(lambda y: y[:, 0] * 1j)),
            TypeError,
            "'own' must give real values, got a tensor of torch.complex64",
        ),
        (lambda: scores(linear(), BATCHES, of_data(torch.ones(3))), ValueError, "'own' must give one number .*'macro'"),
        (
            lambda: scores(linear(), BATCHES, of_data({"f1": 1.0})),
            ValueError,
            "'own' must give one number .* got {'f1'",
        ),
        (lambda: scores(linear(), BATCHES, WHOLE), ValueError, "must give one value for each of 20 examples"),
        (
            lambda: scores(linear(), [(X, Y[:, None].expand(50, 3))], METRICS["accuracy"]),
            ValueError,
            "Logits must be of shape",
        ),
        (lambda: METRICS["accuracy"].score("text", Y), TypeError, "a tensor or an output with `logits`, got str"),
        (
            lambda: scores(linear(1), [(X, torch.zeros(50, 2))], METRICS["mse"]),
            ValueError,
            r"got \(50, 1\) for \(50, 2\)",
        ),
        (
            lambda: scores(broken(), BATCHES, METRICS["cross-entropy"]),
            ValueError,
            "`metric` 'cross-entropy' must be finite",
        ),
        (lambda: scores(linear(), [(X[:0], Y[:0])], METRICS["accuracy"]), ValueError, "at least one example, got none"),
        (lambda: scores(Tokens(), UNCOUNTED, METRICS["accuracy"]), ValueError, "has no target that counts"),
    ],
)
def test_metrics_and_scores_that_say_nothing_are_an_error(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


NAN, INF = math.nan, math.inf
LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
SIX = torch.arange(12.0).view(2, 6)
CLASSES = torch.tensor([0, 1])


@pytest.mark.parametrize("name", ["accuracy", "top5", "cross-entropy", "perplexity"])
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, 99], r"whole class numbers from 0 to 5 .* got 99"),
        ([-1, 0], r"whole class numbers from 0 to 5 .* got -1"),
        ([6, 0], r"whole class numbers from 0 to 5 .* got 6"),
        ([0.5, 1.0], r"whole class numbers from 0 to 5 .* got 0.5"),
        ([-100, 1], r"got -100\. Leave examples without a class out"),
        ([[0, 7], [1, 1]], r"got 7"),
        ([[0, -1], [1, -100]], r"got -1\."),
    ],
)
def test_targets_that_are_no_class_are_an_error(name: str, targets: list[Any], message: str) -> None:
    of = torch.tensor(targets)
    logits = SIX if of.ndim == 1 else SIX[:, :, None].expand(2, 6, 2)
    model = Gives(logits)
    with pytest.raises(ValueError, match=f"Targets must be {message}" if message[0] == "w" else message):
        scores(model, [(torch.zeros(2, 1), of)], METRICS[name])


class Gives(nn.Module):
    """Gives the same outputs whatever the inputs."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output


def of(name: str, output: torch.Tensor, targets: torch.Tensor = CLASSES) -> Any:
    return scores(Gives(output), [(torch.zeros(len(targets), 1), targets)], METRICS[name])


def test_numbers_of_any_dtype_are_classes() -> None:
    for dtype in (torch.uint8, torch.int32, torch.float32, torch.bool):
        assert of("accuracy", LOGITS, CLASSES.to(dtype)).tolist() == [True, False]
        assert of("cross-entropy", LOGITS, CLASSES.to(dtype)) == pytest.approx(of("cross-entropy", LOGITS))


@pytest.mark.parametrize("name", ["accuracy", "top5", "cross-entropy", "perplexity", "perplexity-causal"])
def test_labels_of_few_bits_are_not_wrapped(name: str) -> None:
    """In uint8, 300 classes are 44, and class 156 is −100, which would not count."""
    logits = torch.randn(2, 3, 300, generator=torch.Generator().manual_seed(3))
    logits, targets = logits if name == "perplexity-causal" else logits.mT, torch.tensor([[3, 156, 9], [156, 44, 250]])
    logits[(0, 0, 156) if name == "perplexity-causal" else (0, 156, 1)] += 9
    expected = of(name, logits, targets)
    assert np.array_equal(of(name, logits, targets.to(torch.uint8)), expected)
    assert not np.array_equal(of(name, logits, targets.where(targets != 156, -100)), expected)


@pytest.mark.parametrize(
    ("shape", "targets", "is_said"),
    [
        ((50, 3), torch.rand(50, 3), True),
        ((50, 3), torch.ones(50, 3, dtype=torch.long), True),
        ((50, 1), torch.rand(50), True),
        ((50, 3), torch.zeros(49), False),
        ((50, 1), torch.zeros(50, dtype=torch.long), False),
    ],
)
def test_targets_that_are_no_classes_have_other_metrics(
    shape: tuple[int, ...], targets: torch.Tensor, is_said: bool
) -> None:
    with pytest.raises(ValueError, match="Logits must be of ") as found:
        METRICS["accuracy"].score(torch.rand(shape), targets)
    others = "for targets that are numbers it is 'mse' (`--metric mse`)", "torchmetrics' MultilabelF1Score"
    assert [text in str(found.value) for text in others] == [is_said] * 2


@pytest.mark.parametrize("name", ["accuracy", "cross-entropy", "perplexity"])
@pytest.mark.parametrize("shape", [(2, 1), (2,)])
def test_one_logit_is_no_choice(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Logits must be of "):
        of(name, torch.ones(shape))


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("name", ["accuracy", "top5", "cross-entropy", "mse"])
def test_outputs_that_are_no_answer_are_an_error(name: str, bad: float) -> None:
    output = SIX.clone()
    output[1, 2] = bad
    targets = torch.zeros(2, 6) if name == "mse" else CLASSES
    with pytest.raises(NotFiniteError, match="must be finite, got NaN or infinity"):
        of(name, output, targets)
    with pytest.raises(NotFiniteError, match="must be finite, got NaN or infinity"):
        evaluate(nn.Linear(6, 7), (X * bad, Y), Gaussian(0.1), trials=2, metric="accuracy")


def test_a_value_whose_square_overflows_is_not_finite() -> None:
    def large(value: float) -> ExampleMetric:
        return ExampleMetric(
            "large", lambda y, t: torch.full((len(t),), value, dtype=torch.float64), higher_is_better=False
        )

    with pytest.raises(NotFiniteError, match=r"a number beyond 1e\+150"):
        evaluate(linear(), BATCHES, Gaussian(0.1), trials=2, metric=large(1e151))
    assert evaluate(linear(), BATCHES, Gaussian(0.1), trials=2, metric=large(1e149)).mean == pytest.approx(1e149)


def test_a_rounding_error_beyond_the_bounds_is_cut_off() -> None:
    assert scores(linear(), BATCHES, of_data(1 + 1e-7)) == 1.0
    ones = ExampleMetric("own", lambda y, t: torch.full((len(t),), -1e-7), higher_is_better=True, bounds=(0.0, 1.0))
    bets = evaluate(linear(), BATCHES, Gaussian(0.1), metric=ones, precision=0.5, stopping="betting", max_trials=20)
    assert set(bets.trials) == {0.0}
    with pytest.raises(ValueError, match="must stay within its `bounds`"):
        scores(linear(), BATCHES, of_data(1 + 1e-5))


def test_a_class_may_be_ruled_out_and_tokens_that_do_not_count_may_be_anything() -> None:
    output = SIX.clone()
    output[:, 3] = -INF
    assert of("accuracy", output, torch.tensor([5, 0])).tolist() == [True, False]
    tokens, targets = torch.zeros(1, 3, 2), torch.tensor([[0, -100]])
    tokens[0, :, 1] = NAN
    assert of("accuracy", tokens, targets).tolist() == [1.0]
    with pytest.raises(NotFiniteError, match="for 1 of 2 answers: the network overflows"):
        of("accuracy", tokens, torch.tensor([[0, 1]]))
    assert of("cross-entropy", torch.zeros(1, 3, 2), targets).tolist() == [pytest.approx(math.log(3))]


def test_a_mean_of_many_terms_is_of_float64() -> None:
    terms = torch.tensor([2.0**24, 1.0])  # whose sum float32 does not have
    metric = MeanThen(lambda output, targets: terms, lambda mean: mean)
    metric.update(terms, terms)
    assert float(metric.compute()) == 2**23 + 0.5


def test_five_of_at_most_five_classes_say_nothing() -> None:
    with pytest.raises(ValueError, match="`metric` 'top5' must have more than 5 classes, got 3"):
        of("top5", LOGITS)
    with pytest.raises(ValueError, match="got 5"):
        of("top5", SIX[:, :5])
    assert of("top5", SIX).tolist() == [False, True]
    tokens = SIX[:, :, None].expand(2, 6, 2)
    assert of("top5", tokens, torch.tensor([[0, 1], [-100, 2]])).tolist() == [0.5, 1.0]


def test_targets_are_tensors_for_metrics_by_name() -> None:
    for name, output in (("accuracy", LOGITS), ("mse", LOGITS), ("perplexity-causal", LOGITS[:, None])):
        with pytest.raises(TypeError, match="Targets must be a tensor for this metric, got list"):
            METRICS[name].score(output, [0, 1]) if isinstance(METRICS[name], ExampleMetric) else scores(
                Gives(output), [(torch.zeros(2, 1), [0, 1])], METRICS[name]
            )
