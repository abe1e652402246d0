"""Chips run at once: exactly the weights of one chip at a time, its scores up to rounding, in order."""

import copy
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.data import DataLoader, TensorDataset

from samson.evaluation import METRICS, Batched, DataSetMetric, ExampleMetric, Layout, Serial, evaluate, sensitivity
from samson.evaluation.executors import group
from samson.evaluation.task import Task
from samson.noise import PCM, Gaussian, Periphery
from tests.conftest import equal, snapshot
from tests.noise.test_chip import Reading

EXAMPLES, CHIPS = 23, 5


class Tokens(nn.Module):
    """An embedding, attention, and a head that shares the embedding's weight and stays digital, or not."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 9, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of shape (batch, classes)."""
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


class Keyed(nn.Module):
    """Takes keywords, and gives a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, *, x: Tensor, scale: float) -> dict[str, Tensor]:
        """A dict with logits."""
        return {"logits": self.layer(x) * scale, "mean": x.mean(), "cache": object()}


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def cnn() -> nn.Module:
    model = nn.Sequential(
        *(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4), nn.MaxPool2d(2)),
        *(nn.ConvTranspose2d(8, 4, 3, groups=2), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(100, 3)),
    )
    with torch.no_grad():
        for norm in (model[1], model[6]):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 1.5)
    return model


class Attention(nn.Module):
    """Attention reads the weight of its output layer without running that layer, whose pruning is a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)
        prune.l1_unstructured(self.attention.out_proj, "weight", 0.3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits from vectors that attend to one another."""
        x = x[:, None] * torch.linspace(0.5, 1.5, 3)[:, None]
        return self.head(self.attention(x, x, x)[0].mean(1))


def computed() -> nn.Module:
    model = mlp()
    parametrizations.weight_norm(model[0])
    prune.random_unstructured(model[3], "weight", 0.4)
    return model


def compiled() -> nn.Module:
    model = mlp()
    model[0] = torch.compile(model[0], backend="eager")
    return torch.compile(model, backend="eager")


def vectors() -> Tensor:
    return torch.randn(EXAMPLES, 6)


def images() -> Tensor:
    return torch.randn(EXAMPLES, 2, 8, 8)


def tokens() -> Tensor:
    return torch.randint(9, (EXAMPLES, 4))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], dict[str, Any]]] = {
    "mlp": (mlp, vectors, {}),
    "cnn": (cnn, images, {}),
    "cnn, channels last": (cnn, images, {"layout": Layout(10, channels_last=True)}),
    "shared, one alone": (Tokens, tokens, {"select": ["head", "encoder.*"]}),
    "shared, both": (Tokens, tokens, {"select": ["embedding", "head", nn.MultiheadAttention]}),
    "computed and pruned": (computed, vectors, {}),
    "attention, pruned": (Attention, vectors, {"select": ["attention.out_proj"]}),
    "compiled": (compiled, vectors, {}),
}


def task_for(network: str, metric: str = "cross-entropy", **settings: Any) -> Task:
    model, inputs, own = NETWORKS[network]
    x, y = inputs(), torch.randint(3, (EXAMPLES,))
    batches = list(zip(x.split(10), y.split(10), strict=True))
    settings = {"noise": Gaussian(0.2), "seed": 3} | own | settings
    return Task(model(), batches, metric=METRICS[metric], **settings)


def rows(executor: Any, task: Task) -> list[Any]:
    return list(executor.run(task, range(2, 2 + CHIPS)))


def assert_same_scores(task: Task, chips: int = 2) -> None:
    """Rows of groups, of which the last is smaller, are those of one chip at a time, each in its place."""
    expected, found = rows(Serial(), task), rows(Batched(chips), task)
    assert [type(row) for row in found] == [type(row) for row in expected]
    for row, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(row, other, rtol=2e-5, atol=2e-6)
    # Any other order would be seen.
    distances = [np.abs(np.subtract(a, b)).max() for i, a in enumerate(expected) for b in expected[:i]]
    assert min(distances) > 1e-3


@pytest.mark.parametrize("network", NETWORKS)
def test_scores_are_those_of_one_chip_at_a_time(network: str) -> None:
    task = task_for(network)
    before, state = snapshot(task.model), torch.get_rng_state()
    assert_same_scores(task)
    assert equal(snapshot(task.model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in task.model.modules())
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("chips", [1, 3, 16])
def test_scores_are_the_same_for_any_number_of_chips_at_once(chips: int) -> None:
    assert_same_scores(task_for("cnn", noise=PCM(), time_s=3600.0), chips)


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_right_and_wrong_answers_are_the_same(network: str) -> None:
    task = task_for(network, "accuracy", noise=Gaussian(1.0))
    expected, found = rows(Serial(), task), rows(Batched(2), task)
    np.testing.assert_array_equal(found, expected)
    assert found[0].dtype == np.bool_
    assert len({row.tobytes() for row in expected}) == CHIPS


def test_blocks_are_readings_and_batch_norm_is_each_chips_own() -> None:
    plain = task_for("cnn", noise=PCM(), time_s=3600.0)
    for settings in ({"read_block": 7}, {"norm_batches": [images()]}, {"read_block": 7, "norm_batches": [images()]}):
        task = replace(plain, **settings)
        assert_same_scores(task)
        assert np.abs(np.subtract(task(2), plain(2))).max() > 1e-3  # it makes a difference


@pytest.mark.parametrize(("network", "norms"), [*((name, False) for name in NETWORKS), ("cnn", True)])
def test_weights_are_bitwise_those_of_each_chip(network: str, norms: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Tensor]] = []

    def spy(function: Any, **settings: Any) -> Any:
        return lambda stacked: seen.append(dict(stacked)) or vmap(function, **settings)(stacked)

    vmap = group.vmap
    monkeypatch.setattr(group, "vmap", spy)
    task = task_for(network, noise=Reading(), read_block=10, norm_batches=[images()] if norms else None)
    rows(Batched(CHIPS), task)
    assert len(seen) == 1 + 3  # the first batch for the comparison with a chip alone, and blocks
    for block, stacked in enumerate(seen[1:]):
        for place, number in enumerate(range(2, 2 + CHIPS)):
            chip = task.chip(number)
            with task.norms_of(chip), chip.at(reading=block + norms) as model:
                assert len(stacked) >= len({t.place for t in chip.tensors})
                for name, stack in stacked.items():
                    assert torch.equal(stack[place], attrgetter(name)(model))
                    assert not torch.equal(stack[place], stack[place - 1]) or "num_batches" in name


def test_a_lower_precision_is_that_of_one_chip_at_a_time() -> None:
    """To the rounding of bfloat16, which lies far below what tells chips apart, and is not that of float32."""
    plain = task_for("cnn", noise=Gaussian(0.5), norm_batches=[images()])
    task = replace(plain, layout=Layout(10, autocast="bfloat16"))
    expected, found, full = rows(Serial(), task), rows(Batched(2), task), rows(Batched(2), plain)
    assert found[0].dtype == np.float64
    for row, other, exact in zip(found, expected, full, strict=True):
        change = np.abs(exact - other).max()
        assert np.abs(row - other).max() < 0.05
        assert change > 1e-4
        assert np.abs(row - exact).max() > change / 10


@pytest.mark.parametrize("metric", ["accuracy", "cross-entropy", "perplexity"])
def test_batches_with_keywords_and_outputs_with_logits(metric: str) -> None:
    batches = [
        {"x": torch.randn(size, 6), "scale": 2.0, "labels": torch.randint(3, (size,))} for size in (EXAMPLES, 40)
    ]
    task = Task(Keyed(), batches, Gaussian(0.5), METRICS[metric])
    if metric == "accuracy":
        np.testing.assert_array_equal(rows(Batched(2), task), rows(Serial(), task))
    else:
        assert_same_scores(task)


def test_each_chip_has_an_accumulator_of_its_own() -> None:
    class Largest:
        """The largest logit: it needs the outputs themselves, in the order of the batches."""

        def reset(self) -> None:
            self.found: list[float] = []

        def update(self, outputs: Any, targets: Any) -> None:
            self.found.append(outputs["logits"].numpy().max())

        def compute(self) -> float:
            return float(sum(2.0**-i * value for i, value in enumerate(self.found)))

    data = [{"x": x, "scale": 1.0, "labels": torch.zeros(len(x))} for x in vectors().split(10)]
    assert_same_scores(Task(Keyed(), data, Gaussian(0.5), DataSetMetric("largest", Largest(), True)))


def test_shuffled_data_come_in_the_same_order() -> None:
    x, y = vectors(), torch.randint(3, (EXAMPLES,))
    loader = DataLoader(TensorDataset(x, y), batch_size=10, shuffle=True)
    assert_same_scores(Task(mlp(), loader, Gaussian(0.2), METRICS["cross-entropy"]))


def test_an_evaluation_stops_where_it_would() -> None:
    model, data = mlp(), (torch.randn(400, 6), torch.randint(3, (400,)))
    setting = {"precision": 0.01, "layout": Layout(100), "metric": "cross-entropy"}
    one, many = (evaluate(model, data, Gaussian(0.2), executor=e, **setting) for e in (None, Batched(8)))
    assert len(one.trials) > 10
    np.testing.assert_allclose(many.trials, one.trials, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        (nn.Sequential(nn.LSTM(6, 3)), {}, "`0`, a LSTM. Use executor=None"),
        (nn.DataParallel(nn.Linear(6, 3)), {}, "the model, a DataParallel. Use executor=None"),
        (nn.Linear(6, 3), {"periphery": Periphery()}, "without periphery.*Use executor=None"),
        (nn.Linear(6, 3), {"layout": Layout(10, compiled=True)}, "must not be compiled.*or layout.plain"),
    ],
)
def test_what_cannot_be_batched_is_told_before_compute(model: nn.Module, settings: dict[str, Any], words: str) -> None:
    task = Task(model, [], Gaussian(0.1), METRICS["accuracy"], **settings)
    with pytest.raises(ValueError, match=words):
        Batched().run(task, range(3))  # not a chip is made: nobody asks for the first row


def test_what_takes_several_passes_is_told() -> None:
    with pytest.raises(ValueError, match="such as `sensitivity`.*Use executor=None"):
        sensitivity(mlp(), (vectors(), torch.randint(3, (EXAMPLES,))), Gaussian(0.1), executor=Batched())
    with pytest.raises(ValueError, match="`chips` must be ≥ 1, got 0"):
        Batched(0)


class Listed(nn.Module):
    """Reaches a weight by a list."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 3)
        self.own = [self.inner.weight]

    def forward(self, x: Tensor) -> Tensor:
        """A product with it."""
        return x @ self.own[0].T


class Viewed(Listed):
    """Reaches it by a view."""

    def __init__(self) -> None:
        super().__init__()
        self.own = [self.inner.weight.detach().view(3, 6)]


@pytest.mark.parametrize("model", [Listed, Viewed])
def test_weights_that_cannot_be_reached_are_told(model: type[nn.Module]) -> None:
    """All chips would have the weights of the first."""
    data = vectors(), torch.randint(3, (EXAMPLES,))
    setting = {"trials": 3, "metric": "cross-entropy", "layout": Layout(10)}
    assert len(set(evaluate(model(), data, Gaussian(0.2), **setting).trials)) == 3
    with pytest.raises(RuntimeError, match="as it gives them alone.*such as a list or a view. Use executor=None"):
        evaluate(model(), data, Gaussian(0.2), executor=Batched(), **setting)


def test_what_a_model_keeps_of_a_pass_is_taken_back() -> None:
    class Keeps(nn.Linear):
        latest: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            """The output, which is kept."""
            self.latest = super().forward(x)
            return self.latest

    model = Keeps(6, 3)
    data = vectors(), torch.randint(3, (EXAMPLES,))
    evaluate(model, data, Gaussian(0.2), trials=3, executor=Batched(), layout=Layout(10))
    assert "latest" not in vars(model) or model.latest.sum().isfinite()
    copy.deepcopy(model)


class Chooses(nn.Linear):
    """Control flow that depends on values."""

    def forward(self, x: Tensor) -> Tensor:
        """One of two outputs."""
        found = super().forward(x)
        return found if found.sum() > 0 else -found


class Remembers(nn.Linear):
    """Writes into a buffer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("latest", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """The output, whose sum is kept."""
        found = super().forward(x)
        self.latest.copy_(found.sum())
        return found


class Draws(nn.Linear):
    """Draws from the global random state."""

    def forward(self, x: Tensor) -> Tensor:
        """The output with noise."""
        return super().forward(x) + torch.randn(3)


@pytest.mark.parametrize("kind", [Chooses, Remembers, Draws])
def test_what_turns_out_not_to_be_batched_is_told_and_taken_off_the_chip(kind: type[nn.Linear]) -> None:
    task = Task(kind(6, 3), [(vectors(), torch.randint(3, (EXAMPLES,)))], Gaussian(0.1), METRICS["accuracy"])
    before, state = snapshot(task.model), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="on 2 chips at once.*\n.*else executor=None") as caught:
        rows(Batched(2), task)
    assert "vmap" in str(caught.value.__cause__)
    assert equal(snapshot(task.model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert task.model.training
    assert torch.backends.mha.get_fastpath_enabled()
    assert len(rows(Serial(), task)) == CHIPS  # the mend mends


def test_a_metric_that_cannot_be_batched_is_told() -> None:
    def score(output: Tensor, targets: Tensor) -> Tensor:
        return torch.from_numpy(output.numpy().argmax(1)) == targets

    task = Task(
        nn.Linear(6, 3), [(vectors(), torch.zeros(EXAMPLES))], Gaussian(0.1), ExampleMetric("of numpy", score, True)
    )
    with pytest.raises(RuntimeError, match="could not run model and metric"):
        rows(Batched(2), task)
    assert len(rows(Serial(), task)) == CHIPS
