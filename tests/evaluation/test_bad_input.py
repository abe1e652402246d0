"""What is no question: each bad input is named, with what it was, before any pass of a model."""

import inspect
import math
import pydoc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from samson import SAM
from samson.evaluation import (
    DataSetMetric,
    Evaluation,
    ExampleMetric,
    Kept,
    Layout,
    MeanThen,
    Ray,
    Setting,
    Torchrun,
    compare,
    evaluate,
    noise_budget,
    sensitivity,
)
from samson.noise import PCM, BitErrors, Gaussian
from samson.sharpness import average_rise, hessian_trace, random_landscape, worst_case_rise
from samson.statistics import (
    Paired,
    Trials,
    betting_interval,
    components,
    crossed_interval,
    crossed_share_interval,
    crossing,
    family,
    fixed_sequence,
    holm,
    mean_bound,
    mean_interval,
    mean_p_value,
    share_interval,
    upper_limit,
    variance_ratio,
)
from tests.conftest import make_model
from tests.evaluation.cases import DATA, NOISE, Counting, passes


def broken(value: float) -> nn.Module:
    model = Counting()
    with torch.no_grad():
        model.inner[4].weight[0, 0] = value
    return model


class Packed(torch.Tensor):
    """A tensor that knows products alone, as quantising libraries have them."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Packed":
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ not in ("detach", "t", "addmm"):
            raise NotImplementedError(f"{func}")
        found = func(*(one.inner if isinstance(one, Packed) else one for one in args), **(kwargs or {}))
        return found if func.overloadpacket.__name__ == "addmm" else Packed(found)


def other_shape() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(10, 3))


def packed() -> nn.Sequential:
    model = make_model(torch.float32)
    model[4].weight = nn.Parameter(Packed(model[4].weight.detach()), requires_grad=False)
    return model


def exported() -> Any:
    model = nn.Linear(4, 3)
    return torch.export.export(model, (torch.zeros(2, 4),))


ASK: dict[str, Callable[..., object]] = {
    "evaluate": lambda model=None, data=DATA, noise=NOISE, **more: evaluate(model or Counting(), data, noise, **more),
    "compare": lambda model=None, data=DATA, noise=NOISE, **more: compare(
        {"a": Counting(), "b": model or Counting(1)}, data, noise, **more
    ),
    "noise_budget": lambda model=None, data=DATA, family=Gaussian, low=0.1, high=0.2, **more: noise_budget(
        model or Counting(), data, family, low, high, **more
    ),
    "sensitivity": lambda model=None, data=DATA, noise=NOISE, **more: sensitivity(
        model or Counting(), data, noise, **more
    ),
    "average_rise": lambda model=None, data=DATA, noise=NOISE, **more: average_rise(
        model or Counting(), data, noise, **more
    ),
}
X, Y = DATA

COMMON: list[tuple[dict[str, Any], str]] = [
    ({"seed": 1.5}, "`seed` must be a whole number, got 1.5"),
    ({"seed": True}, "`seed` must be a whole number, got True"),
    ({"seed": "0"}, "`seed` must be a whole number, got '0'"),
    ({"seed": -3}, "`seed` must be at least 0, got -3"),
    ({"trials": 2.5}, "`trials` must be a whole number, got 2.5"),
    ({"trials": 1}, "`trials` must be at least 2, got 1"),
    ({"read_block": 0}, "`read_block` must be at least 1, got 0"),
    ({"read_block": 2.0}, "`read_block` must be a whole number, got 2.0"),
    ({"time_s": -1.0}, "`time_s` must be ≥ 0"),
    ({"time_s": math.nan}, "`time_s` must be ≥ 0 and finite.*got nan"),
    ({"time_s": math.inf}, "`time_s` must be ≥ 0 and finite.*got inf"),
    ({"time_s": True}, "`time_s` must be ≥ 0 and finite.*got True"),
    ({"time_s": "1 d"}, "`time_s` must be ≥ 0 and finite.*got '1 d'"),
    ({"metric": "cross"}, "`metric` must be a known one, got 'cross'. Did you mean 'cross-entropy'?"),
    ({"metric": 3}, "`metric` must be a name.*got int"),
    ({"metric": len}, "`metric` must be a name.*got builtin_function_or_method"),
    ({"select": nn.LSTM}, "`select`"),
    ({"select": 3}, "`select` must be a type, a pattern.*got 3"),
    ({"select": []}, r"`select` must leave a weight for the chip, got \[\]"),
    ({"periphery": "adc"}, "`periphery` must be a Periphery, got 'adc'"),
    ({"layout": 50}, "`layout` must be a Layout, got 50"),
    ({"executor": "ray"}, "`executor` must be an executor.*got 'ray'"),
    ({"autocast": "bf16"}, "`autocast` must be a lower precision, or None, got 'bf16'.*Available: bfloat16, float16"),
    ({"autocast": 16}, "`autocast` must be a lower precision, or None, got 16"),
    ({"norm_data": 3}, "`norm_data` must be a pair of tensors.*got int"),
    ({"data": 3}, "`data` must be a pair of tensors.*got int"),
    ({"data": "digits"}, "`data` must be a pair of tensors.*got str"),
    ({"data": None}, "`data` must be a pair of tensors.*got NoneType"),
    ({"data": (X, Y[:9])}, "`data` must pair each input with a target, got 60 inputs and 9 targets"),
    ({"data": (X[:0], Y[:0])}, "`data` must pair.*got 0 inputs and 0 targets"),
    ({"data": []}, "`data` must hold at least one example, got none"),
    ({"data": X}, "`data` must have targets.*got inputs alone"),
    ({"data": (X.numpy(), Y.numpy())}, "`data` must hold tensors, got arrays of numpy.*torch.as_tensor"),
    ({"data": [(X.numpy(), Y)]}, "`data` must hold tensors, got arrays of numpy.*torch.as_tensor"),
    ({"data": [(X[0], 1)]}, "`data` must have a target for each.*got a single one, 1.*DataLoader"),
    ({"data": [(X[0], Y[0])]}, "`data` must have a target for each.*got a single one, tensor"),
    ({"data": ["text"]}, "`data` must be.*got str"),
    ({"model": broken(math.nan)}, "`model` must have finite weights, got NaN or infinity in `inner.4.weight`"),
    ({"model": Counting().to("meta")}, "`model` must hold its weights, but `inner.0.weight` is on the meta device"),
    ({"model": packed()}, "`weight` of layer `4` must hold real .* 16 bits or more in a plain tensor, got Packed"),
    ({"model": exported()}, "`model` must be a torch.nn.Module, got.*For an exported"),
    ({"model": nn.Flatten()}, "`select` must leave a weight for the chip, but Flatten has none"),
]
"""What every question refuses: keywords, and what the message holds."""


@pytest.fixture(autouse=True)
def _nothing_is_computed() -> Any:
    passes()
    yield
    assert not passes()


@pytest.mark.parametrize("question", [evaluate, compare, noise_budget, sensitivity, average_rise])
def test_each_question_shows_the_setting_and_names_a_misspelt_keyword(question: Callable[..., object]) -> None:
    shown = inspect.signature(question).parameters
    assert shown.keys() >= Setting.__annotations__.keys()
    assert all(p.kind is not p.VAR_KEYWORD for p in shown.values())
    assert (shown["seed"].default, shown["metric"].default, shown["layout"].default) == (0, "accuracy", None)
    text = pydoc.plain(pydoc.render_doc(question))
    assert all(f"{name}:" in text for name in Setting.__annotations__)
    for wrong, right in (("sed", "seed"), ("trails", "trials"), ("auto_cast", "autocast")):
        with pytest.raises(
            TypeError, match=f"`{question.__name__}` has no argument '{wrong}'. Did you mean '{right}'?"
        ):
            ASK[question.__name__](**{wrong: 1})


@pytest.mark.parametrize("question", ASK)
@pytest.mark.parametrize(("change", "message"), COMMON, ids=lambda value: value if isinstance(value, str) else "")
def test_what_every_question_refuses(question: str, change: dict[str, Any], message: str) -> None:
    if question == "noise_budget" and "noise" in change:
        change = {"family": change["noise"]}
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        ASK[question](**change)


def test_a_layer_of_another_kind_of_tensor_may_stay_digital() -> None:
    ours, plain = (
        evaluate(model, DATA, NOISE, trials=3, select=["default", "!4"])
        for model in (packed(), make_model(torch.float32))
    )
    assert (ours.trials, str(ours)) == (plain.trials, str(plain))
    assert "On the chip: 28.57% of the weights, 66.67% of the multiply-adds" in str(ours)  # 24 of 84, 120 of 180


ask, budget = ASK["evaluate"], ASK["noise_budget"]


SAME = Counting()
VALUES = [0.5, 0.6, 0.7]
PAIR = Paired({"a": [Trials(VALUES)], "b": [Trials(VALUES)]}, {})
UNEQUAL = Paired({"a": [Trials(VALUES)], "b": [Trials(VALUES[:2]), Trials(VALUES)], "c": [Trials([0.5])]}, {})
OWN: list[tuple[Callable[[], object], str]] = [
    (lambda: evaluate(Counting(), DATA, "gaussian"), "`noise` must be a noise.*got 'gaussian'"),
    (lambda: evaluate(Counting(), DATA, Gaussian), "`noise` must be a noise.*got <class"),
    (lambda: evaluate(Counting(), DATA, None), "`noise` must be a noise.*got None"),
    (lambda: ask(precision=True), "`precision` must be a half-width > 0, got True"),
    (lambda: ask(precision=math.nan), "`precision` must be a half-width > 0, got nan"),
    (lambda: ask(precision="0.1"), "`precision` must be a half-width > 0, got '0.1'"),
    (lambda: ask(precision=0.1, max_trials=9.5), "`max_trials` must be a whole number, got 9.5"),
    (lambda: ask(confidence=math.nan), "`confidence` must lie between 0 and 1, got nan"),
    (lambda: ask(confidence="95%"), "`confidence` must lie between 0 and 1, got '95%'"),
    (lambda: ask(confidence=95), "`confidence` must lie between 0 and 1, got 95"),
    (lambda: ask(about=None), "`about` must be one of.*got None"),
    (lambda: ask(trials=5, precision=0.1), "exclude each other"),
    (lambda: ask(precision=0.0), "half-width > 0"),
    (lambda: ask(precision=0.1, max_trials=1), "`max_trials` must be at least 2"),
    (lambda: ask(stopping="look"), "`stopping` must be one of looks, betting"),
    (lambda: ask(about="everything"), "`about` must be one of test_set, population"),
    (lambda: ask(stopping="betting", metric="cross-entropy"), "without bounds or a population"),
    (lambda: ask(stopping="betting", about="population"), "without bounds or a population"),
    (lambda: ask(metric="perplexity", about="population"), "`about` must be 'test_set'"),
    (lambda: ask(confidence=1.5), "`confidence` must lie between 0 and 1"),
    (lambda: compare({"a": Counting(), "b": []}, DATA, NOISE), "`models` must have a model for each.*none for 'b'"),
    (lambda: compare({"a": [Counting(), other_shape()], "b": Counting()}, DATA, NOISE), "but those of 'a' differ"),
    (lambda: compare({"a": Counting(), "b": nn.BatchNorm1d(2)}, DATA, NOISE), "without noise"),
    (lambda: compare({"a": Counting()}, DATA, NOISE), "`models` must be two or more methods by name, got"),
    (lambda: compare({}, DATA, NOISE), "`models` must be two or more methods by name, got {}"),
    (lambda: compare([Counting(), Counting()], DATA, NOISE), r"`models` must be two or more methods by name, got \["),
    (lambda: compare({"a": SAME, "b": SAME}, DATA, NOISE), "`models` must be different networks, but one of 'b'"),
    (lambda: compare({"a": [SAME, SAME], "b": Counting()}, DATA, NOISE), "`models` must be different networks"),
    (lambda: compare({"a": 3, "b": Counting()}, DATA, NOISE), "`model` must be a torch.nn.Module, got 3"),
    (lambda: compare({"a": Counting(), "b": Counting()}, DATA, NOISE, about="all"), "`about` must be one of.*'all'"),
    (
        lambda: ASK["compare"](metric="perplexity", about="population"),
        "`about` must be 'test_set' for 'perplexity', which has no value for each example",
    ),
    (lambda: budget(low=0.0), "`low` and `high` must be levels with 0 < low < high, got 0.0 and 0.2"),
    (lambda: budget(high=0.001), "`low` and `high` must be levels with 0 < low < high, got 0.1 and 0.001"),
    (lambda: budget(low=True), "`low` and `high` must be levels with 0 < low < high, got True and 0.2"),
    (lambda: budget(high=math.nan), "`low` and `high` must be levels.*got 0.1 and nan"),
    (lambda: budget(low="0.1"), "`low` and `high` must be levels.*got '0.1' and 0.2"),
    (lambda: budget(max_drop=-0.1), "`max_drop` must be ≥ 0, got -0.1"),
    (lambda: budget(max_drop=True), "`max_drop` must be ≥ 0, got True"),
    (lambda: budget(max_drop=math.nan), "`max_drop` must be ≥ 0, got nan"),
    (lambda: budget(max_drop=5), "`max_drop` must be below 1, since 'accuracy' lies between 0 and 1, got 5.*0.01"),
    (lambda: budget(max_drop=1), "`max_drop` must be below 1.*got 1"),
    (lambda: budget(max_drop=1.0, relative=True), "`max_drop` must be a fraction below 1 of the value.*got 1.0"),
    (lambda: budget(relative="yes"), "`relative` must be True or False, got 'yes'"),
    (lambda: budget(criterion="median"), "`criterion` must be 'mean' or 'yield'"),
    (lambda: budget(confidence=0.0), "`confidence` must lie between 0 and 1, got 0.0"),
    (
        lambda: budget(criterion="yield", min_yield=0.95, trials=20),
        "`trials` must be at least 59 to show a yield of 0.95",
    ),
    (
        lambda: budget(criterion="yield", min_yield=0.5, confidence=0.9995, trials=5),
        "`trials` must be at least 11 to show a yield of 0.5 with 99.95%, even",
    ),
    (lambda: budget(min_yield=1.0), "`min_yield` must lie between 0 and 1, got 1.0"),
    (lambda: budget(min_yield=True), "`min_yield` must lie between 0 and 1, got True"),
    (lambda: budget(min_yield=90), "`min_yield` must lie between 0 and 1, got 90"),
    (lambda: budget(levels=1), "`levels` must be at least 2, got 1"),
    (lambda: budget(levels=8.0), "`levels` must be a whole number, got 8.0"),
    (lambda: budget(refinements=-1), "`refinements` must be at least 0, got -1"),
    (lambda: budget(refinements=True), "`refinements` must be a whole number, got True"),
    (lambda: budget(family=BitErrors, high=2.0), "`rate` must be ≤ 1, got 2.0"),
    (lambda: budget(family=0.1), "`family` must give a noise from a level.*got 0.1"),
    (lambda: budget(family=PCM()), r"`family` must give a noise from a level.*got PCM\("),
    (lambda: budget(family=float), "`family` must give a noise from a level.*got <class 'float'>"),
    (lambda: ASK["sensitivity"](max_drop=5), "`max_drop` must be below 1.*got 5"),
    (lambda: ASK["sensitivity"](max_drop=0.0), "`max_drop` must be > 0 and finite.*got 0.0"),
    (lambda: ASK["sensitivity"](max_drop=math.inf), "`max_drop` must be > 0 and finite.*got inf"),
    (lambda: ASK["sensitivity"](select="inner.4"), "at least 2 layers on the chip to rank, got only `inner.4`"),
    (lambda: ASK["sensitivity"](max_drop=True), "`max_drop` must be > 0 and finite.*got True"),
    (lambda: ASK["sensitivity"](confidence=1), "`confidence` must lie between 0 and 1, got 1"),
    (lambda: average_rise(Counting(), DATA, NOISE, metric="perplexity"), "`loss` must have a value for each example"),
    (lambda: worst_case_rise(Counting(), DATA, SAM(), steps=1.5), "`steps` must be a whole number, got 1.5"),
    (lambda: worst_case_rise(Counting(), DATA, "sam"), r"`rule` must be an ascent rule.*got 'sam'"),
    (lambda: worst_case_rise(3, DATA, SAM()), "`model` must be a torch.nn.Module, got 3"),
    (lambda: worst_case_rise(Counting(), 3, SAM()), "`data` must be a pair of tensors.*got int"),
    (lambda: random_landscape(Counting(), DATA, [0.1], seed=0.5), "`seed` must be a whole number, got 0.5"),
    (lambda: random_landscape(Counting(), DATA, "abc"), "`radii` must be one or more finite numbers, got 'abc'"),
    (lambda: hessian_trace(Counting(), DATA, probes=2.0), "`probes` must be a whole number, got 2.0"),
    (lambda: Layout(1.5), "`batch_size` must be a whole number, got 1.5"),
    (lambda: Layout(True), "`batch_size` must be a whole number, got True"),
    (lambda: Kept(3), "`folder` must be a path.*got 3"),
    (lambda: Kept("runs", "serial"), "`executor` an executor.*'serial'"),
    (lambda: Kept(Path(__file__)), "`folder` must be a folder.*test_bad_input"),
    (lambda: Torchrun(0), "`timeout_s` must be > 0, got 0"),
    (lambda: Torchrun(True), "`timeout_s` must be > 0, got True"),
    (lambda: Torchrun(math.nan), "`timeout_s` must be > 0, got nan"),
    (lambda: Ray(workers=1.5), "`workers` must be a whole number, got 1.5"),
    (lambda: ExampleMetric("m", "top1", True), "`score` must be a function.*got 'top1'"),
    (lambda: DataSetMetric("m", MeanThen, True), "`accumulator` must have reset, update and compute"),
    (lambda: Evaluation(tuple(VALUES)).yield_at(0.5, 95), "`confidence` must lie between 0 and 1, got 95"),
    (lambda: mean_interval([]), "`values` must hold at least 2 values for an interval, got 0"),
    (lambda: mean_interval([0.1, math.nan]), "`values` must be finite, got NaN"),
    (lambda: mean_interval(["a", "b"]), r"`values` must be numbers, one after the other, got \['a', 'b'\]"),
    (lambda: mean_interval([[0.1], [0.2]]), r"`values` must be numbers, one after the other, got \[\[0.1\], \[0.2\]\]"),
    (lambda: mean_interval(VALUES, True), "`confidence` must lie between 0 and 1, got True"),
    (lambda: mean_interval(VALUES, resolution=-1.0), "`resolution` must be ≥ 0 and finite, got -1.0"),
    (lambda: mean_interval(VALUES, resolution=math.nan), "`resolution` must be ≥ 0 and finite, got nan"),
    (lambda: mean_bound(VALUES, 1.0), "`probability` must lie between 0 and 1, got 1.0"),
    (lambda: mean_p_value([0.1]), "`values` must hold at least 2 values for an interval, got 1"),
    (lambda: share_interval(3, 2), "`successes` must be between 0 and `total` ≥ 1, got 3 of 2"),
    (lambda: share_interval(1.5, 2), "`successes` must be a whole number, got 1.5"),
    (lambda: share_interval(0, True), "`total` must be a whole number, got True"),
    (lambda: betting_interval([], 0.95, (0, 1)), r"`values` must be one or more numbers within \(0, 1\), got \[\]"),
    (lambda: betting_interval([2.0], 0.95, (0, 1)), r"`values` must be.*within \(0, 1\), got \[2.0\]"),
    (lambda: betting_interval([0.5], 1.0, (0, 1)), "`confidence` must lie between 0 and 1, got 1.0"),
    (lambda: betting_interval([0.5], 0.95, (1, 0)), r"`bounds` must be.*got \(1, 0\)"),
    (lambda: components(np.ones((1, 5))), r"`values` must have at least 2 entries along each axis.*\(1, 5\)"),
    (lambda: components(np.array(1.0)), r"`values` must have at least 2 entries along each axis.*\(\)"),
    (lambda: crossed_interval(np.full((2, 2), math.nan)), "`values` must be finite, got NaN"),
    (lambda: crossed_interval(np.ones((2, 2)), 1.0), "`confidence` must lie between 0 and 1, got 1.0"),
    (lambda: crossed_share_interval(np.eye(2, dtype=bool), 0.0), "`confidence` must lie between 0 and 1, got 0.0"),
    (lambda: crossing([1.0, 2.0], np.ones((3, 5)), 0.1, 0.95), r"`curves` must have a row for each of 2.*\(3, 5\)"),
    (lambda: crossing([1.0, 2.0], np.ones((2, 1)), 0.1, 0.95), r"`curves` must have.*at least 2 chips.*\(2, 1\)"),
    (lambda: crossing([1.0, 1.0], np.ones((2, 5)), 0.1, 0.95), r"`levels` must be > 0 and ascending, got \[1.0, 1.0\]"),
    (lambda: crossing([0.0, 1.0], np.ones((2, 5)), 0.1, 0.95), r"`levels` must be > 0 and ascending, got \[0.0, 1.0\]"),
    (lambda: crossing([1.0, 2.0], np.full((2, 5), math.inf), 0.1, 0.95), "`curves` must be finite"),
    (lambda: fixed_sequence([1.0], np.ones((2, 5)), 0.1, 0.95), r"`curves` must have a row for each of 1.*\(2, 5\)"),
    (lambda: upper_limit(np.array([0.5]), 0.95), "`values` must hold at least 2 values for an interval, got 1"),
    (lambda: upper_limit(np.array([True, False]), 1.5), "`confidence` must lie between 0 and 1, got 1.5"),
    (
        lambda: variance_ratio([0.1], [0.1]),
        "`ours` and `theirs` must be at least 2 values of the same chips, got 1 and 1",
    ),
    (lambda: variance_ratio(VALUES, VALUES[:2]), "`ours` and `theirs` must be.*got 3 and 2"),
    (lambda: holm([0.1, math.nan]), r"`p_values` must lie between 0 and 1, got \[0.1, nan\]"),
    (lambda: PAIR.mean("c"), "`name` must be a method of this comparison, got 'c'"),
    (lambda: PAIR.difference("a", "b", 95), "`confidence` must lie between 0 and 1, got 95"),
    (lambda: PAIR.difference("a", "b", over="networks"), "`over` must be 'chips', 'seeds' or None, got 'networks'"),
    (lambda: UNEQUAL.mean("b"), "those of 'b' are on 2 and 3. Measure them with the same `trials`"),
    (lambda: UNEQUAL.difference("a", "c"), "on as many chips each, but 'a' is on 3 and 'c' on 1. Measure both"),
    (lambda: family({"x": PAIR, "y": PAIR}, "a", -1.0), "`confidence` must lie between 0 and 1, got -1.0"),
    (lambda: family({"x": PAIR}, "c"), "`baseline` must be a method of every comparison, got 'c'"),
    (lambda: family([PAIR], "a"), r"`comparisons` must be a dict of comparisons by label, got \[Paired"),
]


@pytest.mark.parametrize(("call", "message"), OWN, ids=[message for _, message in OWN])
def test_what_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        call()
