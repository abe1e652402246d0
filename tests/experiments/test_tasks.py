"""Tasks: what targets are, the loss and the metric of those of one's own, and what is refused before a training."""

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from samson.evaluation import DataSetMetric, ExampleMetric, MeanThen
from samson.experiments import TASKS, Run, SetupError, compare_suite, load_model, plan_suite, read_suite
from samson.noise import Gaussian, deploy
from tests.experiments.test_suites import SMALL, Net, own_data, working_in

OWN_TASKS = """
import torch
from torch import nn
from torch.nn import functional

from samson.evaluation import DataSetMetric, ExampleMetric

x = torch.randn(96, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def splits(y, **more):
    return {"train": (x[:64], y[:64]), "test": (x[64:], y[64:]), **more}


def maps_data():
    y = torch.bucketize(x[:, 0], torch.tensor([-0.5, 0.5]))
    y[:, 0] = 255
    return splits(y, outputs=3)


def maps_net(classes):
    return nn.Conv2d(1, classes, 3, padding=1)


class IoU:
    def reset(self):
        self.both, self.any = torch.zeros(3), torch.zeros(3)

    def update(self, outputs, targets):
        counts = targets != 255
        for c in range(3):
            found, true = ((each == c) & counts for each in (outputs.argmax(1), targets))
            self.both[c] += (found & true).sum()
            self.any[c] += (found | true).sum()

    def compute(self):
        return (self.both / self.any).mean()


class Maps:
    metric = DataSetMetric("iou", IoU(), higher_is_better=True, bounds=(0, 1))

    def loss(self, outputs, targets, label_smoothing=0.0):
        return functional.cross_entropy(outputs, targets, ignore_index=255)


def ignored_data():
    y = x.flatten(1)[:, :3].argmax(1)
    y[::4] = -100
    return splits(y)


def flat_net(outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, outputs))


ignored_net = missing_net = labels_net = flat_net


class Ignored:
    metric = ExampleMetric("right or unknown", lambda o, t: (o.argmax(1) == t) | (t == -100), higher_is_better=True)

    def loss(self, outputs, targets, label_smoothing=0.0):
        return functional.cross_entropy(outputs, targets)


def missing_data():
    y = x.flatten(1)[:, :2] + 1
    y[::3, 0] = torch.nan
    return splits(y)


class Missing:
    metric = ExampleMetric("error", lambda o, t: (o - t).abs().nanmean(1), higher_is_better=False)

    def loss(self, outputs, targets, label_smoothing=0.0):
        return (outputs - targets)[targets.isfinite()].square().mean()


def labels_data():
    return splits((x.flatten(1)[:, :3] > 0).long(), outputs=3)


class Labels:
    metric = ExampleMetric("all right", lambda o, t: ((o > 0) == t.bool()).all(1), higher_is_better=True, bounds=(0, 1))

    def loss(self, outputs, targets, label_smoothing=0.0):
        return functional.binary_cross_entropy_with_logits(outputs, targets.float())


def tags_data():
    words = torch.randint(30, (96, 9), generator=torch.Generator().manual_seed(0))
    y = words % 4
    y[:, 7:] = -100
    return {"train": (words[:64], y[:64]), "test": (words[64:], y[64:]), "outputs": 4}


def tags_net(outputs):
    return nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, outputs))


class Tags:
    metric = ExampleMetric("tags", lambda o, t: (o.argmax(2) == t)[:, :7].double().mean(1), higher_is_better=True)

    def loss(self, outputs, targets, label_smoothing=0.0):
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def boxes_data():
    flat = x.flatten(1)
    return splits(torch.cat([flat[:, :2].argmax(1, keepdim=True).float(), flat[:, :4]], dim=1))


class boxes_net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scores, self.boxes = nn.Linear(36, 2), nn.Linear(36, 4)

    def forward(self, x):
        return {"scores": self.scores(x.flatten(1)), "boxes": self.boxes(x.flatten(1)), "anchors": torch.arange(2)}


class Boxes:
    metric = ExampleMetric("hit", lambda o, t: o["scores"].argmax(1) == t[:, 0], higher_is_better=True, bounds=(0, 1))

    def loss(self, outputs, targets, label_smoothing=0.0):
        assert outputs["anchors"].dtype == torch.int64
        near = functional.mse_loss(outputs["boxes"], targets[:, 1:])
        return near + functional.cross_entropy(outputs["scores"], targets[:, 0].long())
"""


def iou_by_hand(outputs: Tensor, targets: np.ndarray) -> float:
    """The mean over classes, by a matrix of how often each is taken for each."""
    taken = np.zeros((3, 3))
    for found, true in zip(outputs.numpy().argmax(1).ravel(), targets.ravel(), strict=True):
        if true != 255:
            taken[true, found] += 1
    right = taken.diagonal()
    return float((right / (taken.sum(0) + taken.sum(1) - right)).mean())


def missing_by_hand(outputs: Tensor, targets: np.ndarray) -> float:
    apart = np.abs(outputs.numpy() - targets)
    return float(np.mean([row[~np.isnan(row)].mean() for row in apart]))


BY_HAND: dict[str, Callable[[Any, np.ndarray], float]] = {
    "maps": iou_by_hand,
    "ignored": lambda o, y: np.logical_or(o.numpy().argmax(1) == y, y == -100).mean(),
    "missing": missing_by_hand,
    "labels": lambda o, y: np.mean([(row > 0).tolist() == (y > 0).tolist() for row, y in zip(o, y, strict=True)]),
    "tags": lambda o, y: (o.numpy().argmax(2) == y).sum() / (y != -100).sum(),
    "boxes": lambda o, y: (o["scores"].numpy().argmax(1) == y[:, 0]).mean(),
}
"""What the tasks of `OWN_TASKS` measure, by name."""


@pytest.mark.parametrize("name", BY_HAND)
def test_a_task_of_ones_own_decides_what_targets_are(tmp_path: Path, name: str) -> None:
    """From a file to the report; the values on chips are those that the saved network gives by hand."""
    text = f'data = "mine:{name}_data"\nnetwork = "mine:{name}_net"\ntask = "mine:{name.capitalize()}"\n'
    text += 'methods = ["sgd", "samson"]\nseeds = 1\ntrials = 2\nchip_seed = 7\n'
    text += 'chips = [{noise = "gaussian", levels = [0.3]}]\nrecipe = {epochs = 2, batch_size = 16}\n'
    with working_in(tmp_path, OWN_TASKS):
        Path("suite.toml").write_text(text)
        found = compare_suite(read_suite(Path("suite.toml")), "out")
        assert not found.failures
        found.page(Path("report.html"))
        x, y = getattr(importlib.import_module("mine"), f"{name}_data")()["test"]
        networks = f"out/networks/{name}_data-{name}_net"
        models = {m: load_model(f"mine:{name}_net", f"{networks}/{m}-seed0.safetensors") for m in ("sgd", "samson")}
    for record in found.records:
        model, values = models[record.method], []
        with torch.no_grad():
            assert record.clean == pytest.approx(BY_HAND[name](model(x), y.numpy()))
        for trial in range(2):
            with torch.no_grad(), deploy(model, Gaussian(0.3), seed=7, trial=trial).at():
                values.append(BY_HAND[name](model(x), y.numpy()))
        assert record.measured == ((pytest.approx(values),),)
        assert values != [record.clean] * 2, "the noise has a say"
        assert record.problem.metric in Path(tmp_path, "report.html").read_text()


def test_such_targets_need_a_task_with_a_name(tmp_path: Path) -> None:
    maps = {**SMALL, "data": "mine:maps_data", "network": "mine:maps_net"}
    with working_in(tmp_path, OWN_TASKS.replace("255", "0")):
        with pytest.raises(SetupError, match=r"task must be named for 'mine:maps_data', .* got None.\nWrite task = "):
            plan_suite(maps)
        given = {"methods": ["sgd"], "task": "classification"}
        [record] = compare_suite(maps | given, "out").records
        x, y = importlib.import_module("mine").maps_data()["test"]
        model = importlib.import_module("mine").maps_net(3)
    model.load_state_dict(load_file(tmp_path / "out/networks/maps_data-maps_net/sgd-seed0.safetensors"))
    assert record.clean == pytest.approx((model(x).argmax(1) == y).double().mean().item())
    with working_in(tmp_path, OWN_TASKS), pytest.raises(SetupError, match="must have targets from 0 to 2, got -100 to"):
        plan_suite({**SMALL, "data": "mine:ignored_data", "network": "mine:ignored_net"})


def test_labels_of_tokens_may_be_of_fewer_kinds_than_these(tmp_path: Path) -> None:
    """Our own networks for text look tokens up among their outputs."""
    tags = {**SMALL, "data": "mine:tags_data", "network": "mine:tags_net", "task": "language", "methods": ["plain"]}
    with working_in(tmp_path, OWN_TASKS.replace("y[:, 7:] = -100", "")):
        [record] = compare_suite(tags, "out").records
        words, y = importlib.import_module("mine").tags_data()["test"]
        model = load_model("mine:tags_net", "out/networks/tags_data-tags_net/plain-seed0.safetensors")
        with pytest.raises(SetupError, match="`train` must have tokens from 0 to 3, got 0 to 29"):
            plan_suite({**tags, "network": "gpt-tiny"})
    right = model(words).log_softmax(2).gather(2, y[..., None])
    assert record.clean == pytest.approx(-right.mean().item() / math.log(2))


def horizons() -> dict[str, tuple[Tensor, Tensor]]:
    x = torch.randn(80, 20, 2, generator=torch.Generator().manual_seed(0))
    return {"train": (x[:64], x[:64, :4]), "test": (x[64:], x[64:, :4])}


class Forecast(nn.Module):
    shape = (4, 2)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(40, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1)).unflatten(1, self.shape)


class Scrambled(Forecast):
    shape = (2, 4)


def test_outputs_of_another_shape_than_the_targets_are_refused_before_training() -> None:
    suite = {**SMALL, "data": horizons, "network": Forecast, "methods": ["sgd"]}
    plan_suite(suite)
    with pytest.raises(
        SetupError, match=r"Outputs must have the shape of the targets, got \(2, 2, 4\) for \(2, 4, 2\)"
    ):
        plan_suite({**suite, "network": Scrambled})


@pytest.mark.parametrize("one", [(5,), (5, 1)])
def test_the_loss_of_numbers_is_their_mean_squared_error(one: tuple[int, ...]) -> None:
    outputs, targets = torch.arange(5.0).view(one), torch.ones(5)
    assert TASKS["regression"]().loss(outputs, targets) == (1 + 0 + 1 + 4 + 9) / 5
    assert TASKS["regression"]().loss(outputs, targets.view(one)) == (1 + 0 + 1 + 4 + 9) / 5
    with pytest.raises(ValueError, match=r"shape of the targets, got \(5, 1, 1\) for \(5,\)"):
        TASKS["regression"]().loss(outputs.view(5, 1, 1), targets)


def test_the_loss_of_tokens_smooths_their_labels_and_leaves_out_what_does_not_count() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tokens = torch.tensor([[0, 4, -100], [2, 2, 1]])
    scores, counts = logits.log_softmax(2), tokens >= 0
    right = scores.gather(2, tokens.clamp(min=0)[..., None])[..., 0]
    for smoothing in (0.0, 0.3):
        each = -(1 - smoothing) * right - smoothing * scores.mean(2)
        found = TASKS["language"]().loss(logits, tokens, smoothing)
        assert float(found) == pytest.approx(float(each[counts].mean()), rel=1e-12)


class Hard:
    """A task of classes whose metric is still to be said."""

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)


def untrained(run: Run) -> nn.Module:
    return run.network()


class Flat:
    """An accumulator that takes class numbers alone."""

    def reset(self) -> None:
        self.right = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.right += int((outputs.view(targets.shape) == targets).sum())

    def compute(self) -> int:
        raise ValueError("two equal examples have no value")


class OfNumbers(Hard):
    metric = DataSetMetric("flat", Flat(), higher_is_better=True)


class OfAll(Hard):
    metric = ExampleMetric("share", lambda o, t: (o.argmax(1) == t).double().mean(), higher_is_better=True)


class Overflows(Hard):
    metric = ExampleMetric("infinite", lambda o, t: o[:, 0] / 0, higher_is_better=True)


def perplexity(nats: float) -> DataSetMetric:
    """As it is on a chip that breaks the network."""
    return DataSetMetric("perplexity", MeanThen(lambda o, t: o[:, 0] * 0 + nats, torch.exp), higher_is_better=False)


class Beyond(Hard):
    metric = perplexity(400)


class Large(Hard):
    metric = perplexity(230)


class OneOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[:, 0]


class AsNumbers(OfNumbers):
    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return (outputs - targets).square().mean()


@pytest.mark.parametrize(("task", "words"), [(OfNumbers, "'flat'.*invalid for input"), (OfAll, "'share'.*each of 2")])
@pytest.mark.parametrize("trainer", [{}, {"train": untrained}])
def test_a_metric_that_would_fail_after_the_training_fails_before(
    task: type, words: str, trainer: dict[str, Any]
) -> None:
    suite = {**SMALL, **trainer, "data": own_data, "network": Net, "methods": ["sgd"]}
    with pytest.raises(SetupError, match=f"`metric` {words}"):
        plan_suite({**suite, "task": task})
    plan_suite({**suite, "task": Overflows})  # a training may mend it
    plan_suite({**suite, "task": AsNumbers, "network": OneOutput})  # its data set may have a value


class Rare:
    """An accumulator that has a value for many examples alone."""

    def reset(self) -> None:
        self.count = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.count += len(targets)

    def compute(self) -> float:
        return 1.0 if self.count > 20 else math.nan


class OfMany(Hard):
    metric = DataSetMetric("rare", Rare(), higher_is_better=True)


OF_MANY: dict[str, Any] = {**SMALL, "data": own_data, "network": Net, "methods": ["sgd"], "task": OfMany}


def test_a_metric_need_have_no_value_on_the_validation_split(tmp_path: Path) -> None:
    found = compare_suite(OF_MANY, tmp_path / "out")
    [record] = found.records
    assert (record.training.validation, record.training.diverged_at, record.clean) == (None, None, 1.0)
    found.page(tmp_path / "report.html")


def untrained_with_losses(run: Run) -> nn.Module:
    run.losses += [1.0, 1e200, 2.0]
    return run.network()


@pytest.mark.parametrize("task", [Overflows, Beyond])
def test_a_metric_that_is_not_finite_is_said_so(tmp_path: Path, task: type) -> None:
    """Also where it is a number whose square is none; losses, too, are recorded up to such a one."""
    suite = {**SMALL, "train": untrained_with_losses, "data": own_data, "network": Net, "methods": ["sgd"]}
    [failure] = compare_suite({**suite, "task": task}, tmp_path / "not").failures.values()
    assert failure.reason.startswith(f"NotFiniteError: `metric` '{task.metric.name}' must be finite, got NaN or inf")
    [record] = compare_suite({**suite, "task": Large}, tmp_path / "finite").records
    assert (record.training.loss, record.clean) == ((1.0,), pytest.approx(math.exp(230)))
