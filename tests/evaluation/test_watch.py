"""What goes unnoticed elsewhere: noise that does not reach the outputs, and data that change from chip to chip."""

import copy
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, TensorDataset

from samson.evaluation import (
    DataSetMetric,
    ExampleMetric,
    Kept,
    clean_value,
    compare,
    evaluate,
    noise_budget,
    sensitivity,
)
from samson.noise import (
    BitErrors,
    Compose,
    Coverage,
    Gaussian,
    Operation,
    Periphery,
    Quantize,
    State,
    WeightNoise,
    coverage,
)
from samson.report import paired_page
from samson.sharpness import average_rise
from tests.evaluation.cases import DATA, NOISE, Counting, passes

X, Y = torch.randn(60, 6, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3


class Two(nn.Module):
    """Computes with copies of its layers' weights, transposed once."""

    chips = 0

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 3), nn.Linear(6, 3)
        self.copies = [layer.weight.detach().t().clone() for layer in (self.first, self.second)]

    def forward(self, x: Tensor) -> Tensor:
        Two.chips += 1
        return x @ self.copies[0] + x @ self.copies[1] + self.first.bias


class Scripted(nn.Module):
    """The layer that computes is scripted; one that is not is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(6, 3)
        self.inner = torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(6, 3))).eval())

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


ASK = {
    "evaluate": lambda make, **more: evaluate(make(), (X, Y), NOISE, **more),
    "compare": lambda make, **more: compare({"a": make(), "b": make()}, (X, Y), NOISE, **more),
    "noise_budget": lambda make, **more: noise_budget(make(), (X, Y), Gaussian, 0.1, 0.2, **more),
    "sensitivity": lambda make, **more: sensitivity(make(), (X, Y), NOISE, **more),
    "average_rise": lambda make, **more: average_rise(make(), (X, Y), NOISE, **more),
}


@pytest.mark.parametrize(
    ("question", "setting"),
    [
        *((question, {}) for question in ASK),
        *(("evaluate", setting) for setting in ({"norm_data": (X, Y)}, {"autocast": "bfloat16"}, {"read_block": 7})),
    ],
)
def test_noise_that_does_not_reach_the_outputs_is_refused(question: str, setting: dict[str, Any]) -> None:
    make = (lambda: nn.Sequential(Two(), nn.BatchNorm1d(3))) if "norm_data" in setting else Two
    Two.chips = 0
    with pytest.raises(ValueError, match=r"`model` must compute with the weights that lie on the chip.*cached, frozen"):
        ASK[question](make, **setting)
    assert Two.chips < 25  # not a chip was measured


def test_each_level_of_a_budget_is_looked_at() -> None:
    """Where a low one changes no weight, nothing is seen of whether noise reaches the outputs."""
    with pytest.raises(ValueError, match=r"`model` must compute with the weights that lie on the chip"):
        noise_budget(Two(), (X, Y), lambda sigma: Gaussian(sigma if sigma > 0.1 else 0.0), 0.05, 0.3)


class Drawing(Two):
    """Computes with copies, and draws from elsewhere than torch's global random state, or from there."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source, self.own = source, torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x) if self.source == "numpy, and no noise reaches it" else self.first(x)
        if self.source == "global":
            return y + 0.1 * torch.randn_like(y)
        drawn = (
            np.random.default_rng().normal(size=y.shape)
            if "numpy" in self.source
            else torch.randn(y.shape, generator=self.own)
        )
        return y + 0.1 * torch.as_tensor(drawn, dtype=y.dtype)


@pytest.mark.parametrize(
    ("question", "source"),
    [
        *((question, "numpy") for question in ASK),
        *(("evaluate", source) for source in ("a generator", "numpy, and no noise reaches it")),
    ],
)
def test_a_model_that_draws_from_elsewhere_is_refused(question: str, source: str) -> None:
    """Its draws would count as noise of the chips, and hide that none reaches the outputs."""
    with pytest.raises(ValueError, match=r"`model` must draw from torch's global random state alone"):
        ASK[question](lambda: Drawing(source))


def test_a_model_that_draws_from_global_state_draws_the_same_on_each_chip() -> None:
    model, found = Drawing("global"), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(evaluate(model, (X, Y), NOISE, trials=3, metric="cross-entropy"))
    assert found[0].trials == found[1].trials
    assert found[0].clean == found[1].clean


@pytest.mark.parametrize("begun", [True, False])
def test_draws_on_a_gpu_are_held_as_well(begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator stands in for the GPU's; where CUDA was not begun, its state is not asked for."""
    of_gpu = torch.Generator().manual_seed(5)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: begun)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [of_gpu.get_state()])
    monkeypatch.setattr(torch.cuda, "manual_seed_all", of_gpu.manual_seed)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda states: [of_gpu.set_state(one) for one in states])

    class Samples(Two):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.randn(len(x), 3, generator=of_gpu)

    model, before = Samples(), of_gpu.get_state()
    values = [clean_value(model, (X, Y), "cross-entropy") for _ in range(2)]
    assert (values[0] == values[1]) == begun
    assert torch.equal(of_gpu.get_state(), before) == begun


@pytest.mark.parametrize("split", [True, False])
def test_targets_go_where_the_outputs_are(split: bool) -> None:
    """As those of a model whose last layer lies on another device; where one is on the model's own, they stay."""

    class Split(Two):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            logits = super().forward(x)
            return {"gate": torch.ones(1, device="meta"), "logits": logits.to("meta") if split else logits}

    def score(output: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        assert output["logits"].device.type == targets["of"].device.type == ("meta" if split else "cpu")
        return torch.zeros(len(targets["of"]))

    assert clean_value(Split(), [(X, {"of": Y})], ExampleMetric("own", score, higher_is_better=True)) == 0


def test_a_metric_that_draws_is_the_same_each_time() -> None:
    class Drawn:
        def reset(self) -> None: ...

        def update(self, output: Tensor, targets: Tensor) -> None: ...

        def compute(self) -> Tensor:
            return torch.rand(())

        def to(self, device: torch.device) -> "Drawn":
            return self

    model, metric = Two(), DataSetMetric("own", Drawn(), higher_is_better=True)
    before = torch.get_rng_state()
    assert clean_value(model, (X, Y), metric) == clean_value(model, (X, Y), metric)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_method_is_measured_before_noise_was_seen_to_reach_all() -> None:
    passes()
    with pytest.raises(ValueError, match="`model` must compute with the weights"):
        compare({"a": Flattened(), "b": Two()}, (X, Y), NOISE)
    assert not passes()


class Flattened(nn.Sequential):
    """A layer whose passes are counted."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Any:
        Counting.passes += 1
        return super().forward(x)


def test_frozen_and_scripted_parts_are_noticed() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is deprecated
        model = Scripted()
    with pytest.raises(ValueError, match="`model` must compute with the weights"):
        evaluate(model, (X, Y), NOISE, select="unused")


def test_noise_that_changes_no_weight_or_too_little_is_no_error() -> None:
    for model in (nn.Linear(6, 3), Two()):
        assert len(set(evaluate(model, (X, Y), Gaussian(0.0), trials=3).trials)) == 1
    weak = evaluate(nn.Linear(6, 3), (X * (torch.arange(6) > 4), Y), BitErrors(1e-4), trials=3)
    assert len(weak.trials) == 3


class Flat(nn.Module):
    """Gives a class, not logits, of one example: noise of any size may leave it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.one_hot(self.layer(x).argmax(1), 3).float()


def test_outputs_that_hardly_change_are_no_error() -> None:
    torch.manual_seed(0)
    assert evaluate(Flat(), (X[:1], Y[:1]), Gaussian(1e-6), trials=3).trials[0] in (0.0, 1.0)


@dataclass(frozen=True)
class FromGlobalState(WeightNoise):
    """Draws as no noise may."""

    def program(self, weight: Tensor, generator: Generator) -> State:
        return {"held": weight + 0.1 * torch.randn(weight.shape)}

    def read(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        return state["held"]


@dataclass(frozen=True)
class Wearing(FromGlobalState):
    """Changes what it is given."""

    def program(self, weight: Tensor, generator: Generator) -> State:
        return {"held": weight.clone()}

    def read(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        return state["held"].mul_(0.9)


@dataclass(frozen=True)
class Pure(FromGlobalState):
    """Draws from its generator, also when it is read."""

    def program(self, weight: Tensor, generator: Generator) -> State:
        return {"held": weight + 0.1 * torch.randn(weight.shape, generator=generator)}

    def read(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        return state["held"] + 0.1 * torch.randn(state["held"].shape, generator=generator)


@dataclass(frozen=True)
class Remembering(FromGlobalState):
    """Keeps a gain of the latest chip in itself."""

    def program(self, weight: Tensor, generator: Generator) -> State:
        object.__setattr__(self, "gain", 1 + 0.1 * torch.randn((), generator=generator))
        return {"held": weight}

    def read(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        return state["held"] * self.gain


@pytest.mark.parametrize("noise", [FromGlobalState(), Wearing(), Remembering(), Compose(Gaussian(0.1), Wearing())])
def test_a_noise_of_ones_own_that_gives_no_chip_twice_is_refused(noise: WeightNoise) -> None:
    with pytest.raises(
        ValueError, match="`noise` must draw from its generator alone, leave its state as it is and keep"
    ):
        evaluate(nn.Linear(6, 3), (X, Y), noise, trials=2)
    for pure in (Pure(), Compose(Gaussian(0.1), Pure())):
        assert evaluate(nn.Linear(6, 3), (X, Y), pure, trials=2)


@dataclass(frozen=True)
class Around(Periphery):
    """Adds what its source draws to a layer's outputs, and a share of each output to the next."""

    source: str = "generator"

    def __call__(
        self, operation: Operation, inputs: Tensor, weight: Tensor, generator: Generator, column: Tensor | None = None
    ) -> Tensor:
        y = super().__call__(operation, inputs, weight, generator, column)
        draw = {
            "generator": lambda: torch.randn(y.shape, generator=generator),
            "global": lambda: torch.randn(y.shape),
            "numpy": lambda: torch.as_tensor(np.random.default_rng().normal(size=y.shape), dtype=y.dtype),
        }[self.source]
        return y + 0.5 * y.roll(1, -1) + 0.1 * draw()


@pytest.mark.parametrize("source", ["global", "numpy"])
def test_a_periphery_of_ones_own_that_draws_from_elsewhere_is_refused(source: str) -> None:
    """Its draws would count as noise of the chips."""
    with pytest.raises(ValueError, match="`periphery` must draw from its generator alone, but with Around the same"):
        evaluate(nn.Linear(6, 3), (X, Y), Quantize(8), trials=2, periphery=Around(source=source))


@pytest.mark.parametrize(("model", "select"), [(nn.Linear(6, 3), None), (Drawing("global"), "first")])
def test_a_periphery_of_ones_own_is_measured(model: nn.Module, select: str | None) -> None:
    """Also with a model that draws from torch's global random state, as it may."""
    noisy = {"metric": "cross-entropy", "periphery": Around(), "select": select}
    found = evaluate(model, (X, Y), Quantize(8), trials=3, **noisy)
    assert len(set(found.trials)) == 3


def test_a_process_looks_once_at_one_batch() -> None:
    passes()
    evaluate(Counting(), [DATA, DATA], NOISE, trials=5)
    assert passes() == 5 * 2 + 3 + 2 + 1  # three of the look, two without noise, and one in which products are counted


class Experts(nn.Module):
    """Three experts as one parameter, which stay digital, and a gate on the chip."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 3)
        self.experts = nn.Parameter(torch.randn(3, 6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("be,bi,eio->bo", self.gate(x).softmax(1), x, self.experts)


def test_the_share_of_the_weights_on_the_chip_is_said() -> None:
    with pytest.warns(UserWarning, match="Only 25% of the model's weights lie on the chip"):
        found = evaluate(Experts(), (X, Y), NOISE, trials=3)
    assert found.coverage == Coverage(18, 18 + 54, multiply_adds=0.25)
    assert str(found).endswith("On the chip: 25% of the weights, 25% of the multiply-adds")
    meant = evaluate(Experts(), (X, Y), NOISE, trials=3, select=["gate", "experts"])
    assert (meant.coverage.share, meant.coverage.multiply_adds) == (1.0, 1.0)
    assert evaluate(Experts(), (X, Y), NOISE, trials=3, select="gate").coverage.share == 0.25  # meant, so no warning
    for covered, network in (("25%", Experts()), ("100%", nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3)))):
        select = "gate" if covered == "25%" else None
        line = f"On the chip: {covered} of the weights, {covered} of the multiply-adds"
        budget = noise_budget(network, (X, Y), Gaussian, 0.01, 1.0, max_drop=0.1, trials=2, select=select)
        same = compare({"a": network, "b": copy.deepcopy(network)}, (X, Y), NOISE, trials=2, select=select)
        results = [budget, same] if select else [budget, same, sensitivity(network, (X, Y), NOISE, trials=2)]
        assert [str(one).splitlines()[-1] for one in results] == [line] * len(results)
        assert line.removeprefix("On the chip: ") in paired_page(same.record())
    half = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    assert (coverage(half).share, coverage(half, "1").share) == (1.0, 0.5)
    tied = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9, bias=False))
    tied[1].weight = tied[0].weight
    assert coverage(tied).share == 1.0


class Changing(Dataset[tuple[Tensor, int]]):
    """Examples with random changes, or targets with such."""

    def __init__(self, draw: Any, answer: Any = None) -> None:
        self.draw, self.answer = draw, answer

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return X[index] + 0.1 * self.draw(), index % 3 if self.answer is None else self.answer(3)


class UsedUp:
    """An iterable whose batches come once."""

    def __init__(self) -> None:
        self.batches = iter([(X[:20], Y[:20]), (X[20:], Y[20:])])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.batches


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: Changing(np.random.default_rng(0).random), "got others in a later one"),
        (lambda: Changing(random.Random(0).random), "got others in a later one"),
        (lambda: DataLoader(Changing(np.random.rand), batch_size=25), "got others in a later one"),
        (lambda: Changing(lambda: 0.0, random.Random(0).randrange), "got others in a later one"),
        (UsedUp, "got 0 and 60 of them"),
    ],
)
@pytest.mark.parametrize("setting", [{}, {"read_block": 7}], ids=["", "blocks"])
def test_data_that_change_from_chip_to_chip_are_refused(data: Any, message: str, setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`data` must hold the same examples in every pass, {message}"):
        evaluate(nn.Linear(6, 3), data(), NOISE, trials=4, **setting)


def test_workers_that_persist_are_noticed() -> None:
    loader = DataLoader(Changing(lambda: float(torch.rand(()))), batch_size=30, num_workers=1, persistent_workers=True)
    with pytest.raises(ValueError, match="`data` must hold the same examples in every pass, got others"):
        evaluate(nn.Linear(6, 3), loader, NOISE, trials=3)


class Reordering:
    """The same examples in another order each time."""

    def __init__(self) -> None:
        self.passes = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        order = torch.randperm(60, generator=torch.Generator().manual_seed(self.passes))
        return iter([(X[order[:20]], Y[order[:20]]), (X[order[20:]], Y[order[20:]])])


def with_own_sampler() -> DataLoader[Any]:
    data = TensorDataset(X, Y)
    return DataLoader(data, 20, sampler=RandomSampler(data, generator=torch.Generator()))


def with_own_batches() -> DataLoader[Any]:
    data = TensorDataset(X, Y)
    return DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data, generator=torch.Generator()), 25, True))


def norms_of(data: Any) -> Tensor:
    return torch.cat([x for x, _ in data])


def shuffled_again_by(seed: int) -> list[tuple[Tensor, int]]:
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(list(zip(X, Y.tolist(), strict=True)), 20, shuffle=True, generator=generator)


def test_another_order_is_refused_for_a_population_alone() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    expected = evaluate(model, [(X, Y)], NOISE, trials=3)
    assert evaluate(model, Reordering(), NOISE, trials=3).trials == pytest.approx(expected.trials)
    with pytest.raises(ValueError, match="`data` must come in the same order for every chip for a population"):
        evaluate(model, Reordering(), NOISE, trials=3, about="population")


@pytest.mark.parametrize("make", [with_own_sampler, with_own_batches, lambda: shuffled_again_by(0)])
def test_generators_of_a_loader_begin_each_pass_alike(make: Any) -> None:
    """Also the pass without noise, and the data of norms: chip 3 alone is chip 3 of four."""
    torch.manual_seed(0)
    model, before = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)), list(make())
    norms = make()
    found = evaluate(model, make(), NOISE, trials=4, about="population", metric="cross-entropy", norm_data=norms)
    same = evaluate(model, before, NOISE, trials=4, about="population", metric="cross-entropy", norm_data=before)
    assert np.array_equal(found.scores, same.scores)
    assert np.array_equal(found.clean_scores, same.clean_scores)
    assert found.drop == same.drop
    assert torch.equal(norms_of(norms), norms_of(before))  # the loader goes on where it was
    rise = average_rise(model, make(), NOISE, trials=2, norm_data=make())
    assert rise.trials == pytest.approx(average_rise(model, before, NOISE, trials=2, norm_data=before).trials)


class Conjugate:
    """A loader whose inputs are views of complex numbers."""

    def __init__(self) -> None:
        self.waves = torch.randn(60, 6, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([(self.waves.conj(), Y)])


class Modulus(nn.Linear):
    """Sees the size of complex inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.abs())


def test_conjugate_views_are_data_as_any(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, loader = Modulus(6, 3), Conjugate()
    found = evaluate(model, loader, NOISE, trials=3, executor=Kept(tmp_path))
    assert found.trials == evaluate(model, [(loader.waves.abs() + 0j, Y)], NOISE, trials=3).trials
    with pytest.raises(ValueError, match="different: batches"):  # other bits, though the sizes are the same
        evaluate(model, [(loader.waves, Y)], NOISE, trials=3, executor=Kept(tmp_path))


def test_a_small_change_of_one_example_is_seen() -> None:
    """Of 64 places in each example, any bit; of another, nothing."""

    class Slowly:
        passes = 0

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            x = X.clone()
            x[7, 3] += 1e-6 * self.passes
            self.passes += 1
            return iter([(x, Y)])

    with pytest.raises(ValueError, match="got others"):
        evaluate(nn.Linear(6, 3), Slowly(), NOISE, trials=3)
