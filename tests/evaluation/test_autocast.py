"""A lower precision: torch's own on every chip, also without noise, and metrics that see float32."""

import copy
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samson.evaluation import ExampleMetric, Layout, compare, evaluate, noise_budget, prepare, sensitivity
from samson.noise import Gaussian, Periphery, deploy, reestimated_norms
from tests.conftest import make_batch, make_model

NOISE = Gaussian(0.2)
X, Y = make_batch(torch.float32, size=44)
SETTING: dict[str, Any] = {"metric": "cross-entropy", "layout": Layout(16), "trials": 3}  # batches of 16, 16 and 12


def by_hand(model: nn.Module, trial: int | None, dtype: torch.dtype = torch.bfloat16, **chip: Any) -> np.ndarray:
    """Cross entropies in float64 of logits in a lower precision, on a chip or without noise."""
    noise = Gaussian(0.0) if trial is None else NOISE
    with deploy(model.eval(), noise, trial=trial or 0, **chip).at(), torch.no_grad(), torch.autocast("cpu", dtype):
        outputs = [model(x) for x in X.split(16)]
    assert outputs[0].dtype == dtype
    return -torch.cat(outputs).double().log_softmax(1)[torch.arange(len(Y)), Y].numpy()


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_is_torchs_on_every_chip_and_without_noise(dtype: str, outer: bool) -> None:
    """Also within a block of autocast, which keeps casts of weights."""
    model = make_model(torch.float32)
    expected = [by_hand(model, trial, getattr(torch, dtype)) for trial in (None, 0, 1, 2)]
    with torch.autocast("cpu", torch.bfloat16, enabled=outer):
        found = evaluate(model, (X, Y), NOISE, autocast=dtype, **SETTING)
        task = prepare(model, (X, Y), NOISE, metric="cross-entropy", layout=Layout(16), autocast=dtype).task
        clean, _ = task.clean()
    np.testing.assert_allclose([clean, *found.scores], expected, rtol=1e-5)
    plain = evaluate(model, (X, Y), NOISE, **SETTING)
    assert 1e-5 < np.abs(found.scores - plain.scores).max() < 0.1
    assert len(set(found.trials)) == 3


def test_every_question_measures_its_drop_in_the_same_precision() -> None:
    model = make_model(torch.float32)
    clean = by_hand(model, None).mean()
    trials = pytest.approx([by_hand(model, trial).mean() for trial in range(3)], rel=1e-6)
    lower = SETTING | {"autocast": "bfloat16"}
    budget = noise_budget(model, (X, Y), Gaussian, 0.2, 0.4, levels=2, refinements=0, **lower)
    assert budget.clean == pytest.approx(clean, rel=1e-6)
    assert budget.evaluations[0.2].trials == trials
    ranked = sensitivity(model, (X, Y), NOISE, **lower)
    assert ranked.clean == pytest.approx(clean, rel=1e-6)
    assert ranked.noisy == trials
    assert compare({"a": copy.deepcopy(model), "b": model}, (X, Y), NOISE, **lower).evaluations["b"].trials == trials
    assert sensitivity(model, (X, Y), NOISE, **SETTING).clean != pytest.approx(clean, rel=1e-6)


def test_that_a_block_of_autocast_is_not_in_the_record_is_said_once() -> None:
    model = make_model(torch.float32)
    questions: list[Callable[..., Any]] = [
        lambda **setting: evaluate(model, (X, Y), NOISE, **setting).clean,
        lambda **setting: sensitivity(model, (X, Y), NOISE, **setting).clean,
        lambda **setting: noise_budget(model, (X, Y), Gaussian, 0.2, 0.4, levels=2, refinements=0, **setting).clean,
    ]
    for question in questions:
        with torch.autocast("cpu", torch.bfloat16):
            said = question(**SETTING, autocast="bfloat16")
            with pytest.warns(UserWarning, match=r"a block of `torch\.autocast`.*give it as `autocast`") as warned:
                assert question(**SETTING) == said
        assert [one.filename for one in warned] == [__file__]
        assert question(**SETTING) != said


class Nested(nn.Module):
    """Gives what Transformers and detectors give: tensors within other things."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"logits": self.layer(x), "more": (self.layer(x), [torch.arange(len(x))]), "text": "as it is"}


def test_metrics_see_rounded_products_in_float32() -> None:
    """By hand in float64 from rounded weights and inputs; a sum in bfloat16 would be off by hundreds of its ulps."""
    layer, x, seen = nn.Linear(5, 3), torch.randn(8, 5), []
    metric = ExampleMetric("sees", lambda output, targets: seen.append(output) or targets, higher_is_better=True)
    prepare(Nested(layer), (x, torch.zeros(8)), NOISE, metric=metric, autocast="bfloat16").task.clean()
    [output] = seen
    w, b, rounded = (t.detach().bfloat16().double() for t in (layer.weight, layer.bias, x))
    exact, size = rounded @ w.T + b, rounded.abs() @ w.abs().T + b.abs()
    for logits in (output["logits"], output["more"][0]):
        assert logits.dtype == torch.float32
        assert ((logits.double() - exact).abs() <= 2.0**-8 * size).all()
        assert ((logits - layer(x)).abs() > 1e-6).any()
    assert output["more"][1][0].dtype == torch.int64
    assert output["text"] == "as it is"
    seen.clear()
    own, low = nn.Linear(5, 3).bfloat16(), x.bfloat16()
    prepare(own, (low, torch.zeros(8)), NOISE, metric=metric).task.clean()
    assert seen[0].dtype == torch.float32
    assert torch.equal(seen[0], own(low).float())  # a precision of the model's own is left alone


def test_a_periphery_and_its_norms_are_in_the_same_precision() -> None:
    """Hooks of a periphery compute exactly, and round to what the layer gives."""
    model, periphery, training = make_model(torch.float32), Periphery(), [(X + 1,)]
    peripheral = evaluate(model, (X, Y), NOISE, periphery=periphery, autocast="bfloat16", **SETTING)
    np.testing.assert_allclose(peripheral.scores[1], by_hand(model, 1, periphery=periphery), rtol=1e-5)
    found = evaluate(model, (X, Y), NOISE, norm_data=training, autocast="bfloat16", **SETTING).scores[0]
    chip, expected = deploy(model.eval(), NOISE), []
    for lowered in (True, False):
        with ExitStack() as stack, torch.no_grad():
            with chip.at(reading=0), torch.autocast("cpu", torch.bfloat16, enabled=lowered):
                stack.enter_context(reestimated_norms(model, training))
            with chip.at(reading=1), torch.autocast("cpu", torch.bfloat16):
                logits = torch.cat([model(x) for x in X.split(16)]).double()
            expected.append(-logits.log_softmax(1)[torch.arange(44), Y].numpy())
    np.testing.assert_allclose(found, expected[0], rtol=1e-5)
    assert np.abs(found - expected[1]).max() > 1e-4
