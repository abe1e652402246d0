"""The keywords that all questions have in common: shown in each signature, checked before compute."""

import inspect
import pydoc
from collections.abc import Callable

import pytest
from torch import nn

from samson.evaluation import Setting, compare, evaluate, noise_budget, sensitivity
from samson.noise import Gaussian
from samson.sharpness import average_rise
from tests.evaluation.cases import DATA, NOISE, Counting, passes

ASK: dict[Callable[..., object], Callable[..., object]] = {
    evaluate: lambda **more: evaluate(Counting(), DATA, NOISE, **more),
    compare: lambda **more: compare({"a": Counting(), "b": Counting()}, DATA, NOISE, **more),
    noise_budget: lambda **more: noise_budget(Counting(), DATA, Gaussian, 0.1, 0.2, **more),
    sensitivity: lambda **more: sensitivity(Counting(), DATA, NOISE, **more),
    average_rise: lambda **more: average_rise(Counting(), DATA, NOISE, **more),
}


@pytest.fixture(autouse=True)
def _nothing_is_computed() -> None:
    passes()
    yield
    assert not passes()


@pytest.mark.parametrize("question", ASK, ids=lambda function: function.__name__)
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
            ASK[question](**{wrong: 1})


@pytest.mark.parametrize("question", ASK, ids=lambda function: function.__name__)
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
        ({"read_block": 0}, "`read_block` must be at least 1, got 0"),
        ({"time_s": -1.0}, "`time_s` must be ≥ 0"),
        (
            {"autocast": "bf16"},
            "`autocast` must be a lower precision, or None, got 'bf16'.*Available: bfloat16, float16",
        ),
        ({"metric": "cross"}, "`metric` must be a known one, got 'cross'. Did you mean 'cross-entropy'?"),
        ({"select": nn.LSTM}, "`select`"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings_are_named_before_compute(
    question: Callable[..., object], setting: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ASK[question](**setting)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trials": 5, "precision": 0.1}, "exclude each other"),
        ({"precision": 0.0}, "half-width > 0"),
        ({"precision": 0.1, "max_trials": 1}, "`max_trials` must be at least 2"),
        ({"stopping": "look"}, "`stopping` must be one of 'looks', 'betting'"),
        ({"about": "everything"}, "`about` must be one of 'test_set', 'population'"),
        ({"confidence": 1.5}, "`confidence` must lie between 0 and 1"),
        ({"stopping": "betting", "metric": "cross-entropy"}, "without bounds or a population"),
        ({"stopping": "betting", "about": "population"}, "without bounds or a population"),
        ({"metric": "perplexity", "about": "population"}, "`about` must be 'test_set'"),
    ],
)
def test_bad_arguments_of_evaluate_are_named_before_compute(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(Counting(), DATA, NOISE, **arguments)
