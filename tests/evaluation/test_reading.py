"""Readings within an evaluation: one for each block of examples, whatever the batches; and selections."""

from contextlib import ExitStack

import pytest
import torch
from torch import nn

from samson.evaluation import evaluate
from samson.noise import PCM, ChipModel, Gaussian, Periphery, deploy, reestimated_norms
from tests.conftest import equal, make_batch, make_model, snapshot
from tests.noise.test_chip import Reading

EXAMPLES, BLOCK = 53, 10


DATA = make_batch(size=EXAMPLES)
NOISY = Periphery(output_noise=5.0)


def by_hand(model: nn.Module, trial: int, block: int) -> float:
    x, y = DATA
    model.eval()
    right = 0
    for number, start in enumerate(range(0, EXAMPLES, block)):
        with deploy(model, Reading(), trial=trial).at(reading=number), torch.no_grad():
            for i in range(start, min(start + block, EXAMPLES)):
                right += int(model(x[i : i + 1]).argmax() == y[i])
    return right / EXAMPLES


def test_a_periphery_of_ones_own_takes_the_place_of_the_chips() -> None:
    own, other = Periphery(output_noise=5.0), Periphery(output_noise=0.1)
    data, model = make_batch(torch.float32, size=20), make_model(torch.float32)
    found = [
        evaluate(model, data, noise, trials=3, metric="cross-entropy", periphery=periphery).trials
        for noise, periphery in (
            (ChipModel(Gaussian(0.1), "here", other), own),
            (Gaussian(0.1), own),
            (Gaussian(0.1), other),
        )
    ]
    assert found[0] == found[1] != found[2]
    chips = evaluate(model, data, ChipModel(Gaussian(0.1), "here", other), trials=3, metric="cross-entropy")
    assert chips.trials == found[2]


@pytest.mark.parametrize("batch", [1, 7, 10, 16, 53])
def test_a_reading_for_each_block_whatever_the_batches(batch: int) -> None:
    model, (x, y) = make_model(), DATA
    before, state = snapshot(model), torch.get_rng_state()
    batches = list(zip(x.split(batch), y.split(batch), strict=True))
    result = evaluate(model, batches, Reading(), trials=4, read_block=BLOCK)
    assert equal(snapshot(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert result.trials == tuple(by_hand(model, trial, BLOCK) for trial in range(4))
    # The check can fail: one reading for all, or blocks of another size, give other predictions.
    assert result.trials != evaluate(model, batches, Reading(), trials=4).trials
    assert result.trials != tuple(by_hand(model, trial, BLOCK + 1) for trial in range(4))


def test_one_reading_is_the_default_and_that_of_one_large_block() -> None:
    model = make_model()
    whole = evaluate(model, DATA, Reading(), trials=3)
    assert whole.trials == tuple(by_hand(model, trial, EXAMPLES) for trial in range(3))
    assert whole.trials == evaluate(model, DATA, Reading(), trials=3, read_block=1000).trials


@pytest.mark.parametrize(
    ("setting", "chip"),
    [
        ({"select": nn.Linear}, {"select": nn.Linear}),
        ({"periphery": NOISY}, {"periphery": NOISY}),
        ({"time_s": 9.0}, {}),
    ],
)
def test_a_setting_is_that_of_the_chip(setting: dict[str, object], chip: dict[str, object]) -> None:
    model, (x, y) = make_model(), DATA
    found = evaluate(model, [DATA], Reading(), trials=3, metric="cross-entropy", **setting)
    model.eval()
    for trial, value in enumerate(found.trials):
        with deploy(model, Reading(), trial=trial, **chip).at(setting.get("time_s")), torch.no_grad():
            assert value == pytest.approx(nn.functional.cross_entropy(model(x), y).item(), rel=1e-9)
    assert found.trials != evaluate(model, [DATA], Reading(), trials=3, metric="cross-entropy").trials


def test_norms_are_estimated_anew_on_each_chip_at_its_time() -> None:
    model = make_model()
    x, y = DATA
    training = [(x[:40] + 1, y[:40])]
    before = snapshot(model)
    noise = PCM(compensation="global")
    result = evaluate(model, (x, y), noise, trials=3, norm_data=training, time_s=3600.0, metric="cross-entropy")
    assert equal(snapshot(model), before)
    for trial, value in enumerate(result.trials):
        chip = deploy(model, noise, trial=trial)
        with ExitStack() as stack:
            with chip.at(3600.0):  # the first reading is for the statistics
                stack.enter_context(reestimated_norms(model, training))
            with chip.at(3600.0), torch.no_grad():
                model.eval()
                by_hand = nn.functional.cross_entropy(model(x), y).item()
        assert value == pytest.approx(by_hand, rel=1e-9)
    plain = evaluate(model, (x, y), noise, trials=3, time_s=3600.0, metric="cross-entropy")
    assert plain.trials != result.trials
