"""Readings within an evaluation: one for each block of examples, whatever the batches; and selections."""

from contextlib import ExitStack

import pytest
import torch
from torch import nn

from samson.evaluation import compare, evaluate
from samson.noise import PCM, Gaussian, deploy, reestimated_norms
from samson.noise.periphery import Periphery
from tests.conftest import equal, make_model, snapshot
from tests.noise.test_chip import Reading

EXAMPLES, BLOCK = 53, 10


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(EXAMPLES, 2, 5, generator=generator, dtype=torch.float64),
        torch.randint(3, (EXAMPLES,), generator=generator),
    )


def by_hand(model: nn.Module, trial: int, block: int) -> float:
    x, y = data()
    model.eval()
    right = 0
    for number, start in enumerate(range(0, EXAMPLES, block)):
        with deploy(model, Reading(), trial=trial).at(reading=number), torch.no_grad():
            for i in range(start, min(start + block, EXAMPLES)):
                right += int(model(x[i : i + 1]).argmax() == y[i])
    return right / EXAMPLES


@pytest.mark.parametrize("batch", [1, 7, 10, 16, 53])
def test_a_reading_for_each_block_whatever_the_batches(batch: int) -> None:
    model, (x, y) = make_model(), data()
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
    whole = evaluate(model, data(), Reading(), trials=3)
    assert whole.trials == tuple(by_hand(model, trial, EXAMPLES) for trial in range(3))
    assert whole.trials == evaluate(model, data(), Reading(), trials=3, read_block=1000).trials


def test_a_selection_is_passed_on() -> None:
    model = make_model()
    both, last = (evaluate(model, data(), Gaussian(2.0), trials=5, select=s).trials for s in (None, nn.Linear))
    assert both != last
    paired = compare({"a": model, "b": make_model(seed=1)}, data(), Gaussian(2.0), trials=5, select=nn.Linear)
    assert paired.evaluations["a"].trials == last


def test_what_is_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match="`read_block` must be ≥ 1, or None for one reading, got 0"):
        evaluate(make_model(), data(), Gaussian(0.1), read_block=0)
    with pytest.raises(ValueError, match="`data` must hold at least one example"):
        evaluate(make_model(), [], Gaussian(0.1), read_block=3)


def test_a_periphery_is_passed_on() -> None:
    model = make_model()
    coarse = Periphery(output_noise=5.0)
    plain, worse = (evaluate(model, data(), Gaussian(0.1), trials=3, periphery=p).trials for p in (None, coarse))
    assert plain != worse
    paired = compare({"a": model, "b": make_model(seed=1)}, data(), Gaussian(0.1), trials=3, periphery=coarse)
    assert paired.evaluations["a"].trials == worse


def test_norms_are_estimated_anew_on_each_chip_at_its_time() -> None:
    model = make_model()
    x, y = data()
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
    other_time = evaluate(model, (x, y), noise, trials=3, time_s=1e7, metric="cross-entropy")
    assert plain.trials != other_time.trials
    with pytest.raises(ValueError, match="`time_s` must be ≥ 0"):
        evaluate(model, (x, y), noise, time_s=-1.0)
