"""Lower precision and a compiled forward: right on each chip, compiled once, and checked against the plain model."""

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samson.evaluation import METRICS, Check, Layout, compiling, evaluate, find_layout, noise_budget, sensitivity
from samson.evaluation.setting import prepare
from samson.evaluation.surface import loss_surface
from samson.evaluation.task import Task
from samson.noise import Gaussian, Periphery, ReRAM, deploy, reestimated_norms
from tests.conftest import make_batch, make_model
from tests.noise.test_places import make, tied_model

NOISE = Gaussian(0.2)
SIZE, BATCH = 44, 16  # two batches of 16 and one of 12
EPS = 2.0**-8
"""Of bfloat16, relative, rounding to nearest."""

of_the_compiler = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def data() -> tuple[Tensor, Tensor]:
    return make_batch(torch.float32, size=SIZE)


def batches() -> list[tuple[Tensor, ...]]:
    x, y = data()
    return list(zip(x.split(BATCH), y.split(BATCH), strict=True))


def losses(outputs: list[Tensor]) -> np.ndarray:
    """Cross entropies in float64 of logits as they are."""
    logits = torch.cat(outputs).double()
    return -logits.log_softmax(1)[torch.arange(SIZE), data()[1]].numpy()


class Counting:
    """A backend that runs graphs as they are and counts how many were compiled."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        self.graphs += 1
        return graph.forward


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Compile in name only, and count how often."""
    backend, compiler = Counting(), torch.compile
    torch._dynamo.reset()
    compiling.compiled_call.cache_clear()
    monkeypatch.setattr(torch, "compile", lambda function, **how: compiler(function, backend=backend, **how))
    yield backend
    compiling.compiled_call.cache_clear()


def test_a_lower_precision_is_torchs_on_every_chip() -> None:
    model = make_model(torch.float32)
    found = evaluate(
        model, data(), NOISE, trials=3, seed=4, metric="cross-entropy", layout=Layout(BATCH, autocast="bfloat16")
    )
    plain = evaluate(model, data(), NOISE, trials=3, seed=4, metric="cross-entropy", layout=Layout(BATCH))
    model.eval()
    for trial in range(3):
        with deploy(model, NOISE, seed=4, trial=trial).at(), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            outputs = [model(x) for x, _ in batches()]
        assert outputs[0].dtype == torch.bfloat16
        np.testing.assert_allclose(found.examples.values[trial], losses(outputs), rtol=1e-5)
    apart = np.abs(found.examples.values - plain.examples.values)
    assert 1e-4 < apart.max() < 0.1
    assert len(set(found.trials)) == 3
    assert found.check.differences == tuple(a - b for a, b in zip(found.trials, plain.trials, strict=True))
    assert plain.check is None


def test_outputs_are_rounded_products_and_given_in_float32() -> None:
    """By hand in float64 from rounded weights and inputs; a metric in bfloat16 would be off by hundreds of its ulps."""
    layer = nn.Linear(5, 3)
    x = torch.randn(8, 5)
    w, b, rounded = (t.detach().bfloat16().double() for t in (layer.weight, layer.bias, x))
    exact, size = rounded @ w.T + b, rounded.abs() @ w.abs().T + b.abs()
    fast = Layout(autocast="bfloat16").forward(layer)
    with torch.no_grad():
        y = fast(x)
    assert y.dtype == torch.float32
    assert ((y.double() - exact).abs() <= EPS * size).all()
    assert ((y.double() - layer(x).double()).abs() > 1e-6).any()
    nested = Layout(autocast="bfloat16").forward(Nested(layer))(x)
    assert nested["logits"].dtype == torch.float32
    assert nested["count"].dtype == torch.int64
    lowered = copy.deepcopy(layer).bfloat16()
    assert Layout().forward(lowered)(x.bfloat16()).dtype == torch.bfloat16  # the user's own


class Nested(nn.Module):
    """Gives a dictionary."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.layer(x), "count": torch.tensor(len(x))}


@of_the_compiler
def test_really_compiled() -> None:
    torch._dynamo.reset()
    model = nn.Sequential(nn.Flatten(), nn.Linear(10, 3), nn.Tanh())
    how = {"trials": 3, "metric": "cross-entropy", "seed": 2}
    found = evaluate(model, data(), NOISE, layout=Layout(SIZE, compiled=True), **how)
    plain = evaluate(model, data(), NOISE, layout=Layout(SIZE), **how)
    np.testing.assert_allclose(found.examples.values, plain.examples.values, rtol=1e-4)
    assert found.check.passed
    assert len(set(found.trials)) == 3


def test_a_model_is_compiled_once_for_each_size_of_a_batch(counting: Counting) -> None:
    fast = Layout(BATCH, compiled=True)
    model = make_model(torch.float32)
    first = evaluate(model, data(), NOISE, trials=2, layout=fast)
    assert counting.graphs == 2
    plain = evaluate(model, data(), NOISE, trials=12, seed=1, layout=Layout(BATCH))
    model.train()
    again = evaluate(model, data(), NOISE, trials=12, seed=1, layout=fast)
    other = evaluate(make_model(torch.float32, 3), data(), ReRAM(), trials=2, layout=fast)  # of the same shape
    budget = noise_budget(model, data(), Gaussian, 0.01, 0.5, trials=2, levels=3, refinements=0, layout=fast)
    assert counting.graphs == 2
    assert again.trials == plain.trials
    assert len({first.trials, again.trials[:2], other.trials}) == 3
    assert all(found.check is not None for found in budget.evaluations.values())
    evaluate(make("plain")[0], (torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)), NOISE, trials=2, layout=fast)
    assert counting.graphs == 3


def test_networks_of_many_shapes_are_compiled(counting: Counting) -> None:
    """Torch itself gives up on a function after 8 times."""
    x, y = torch.randn(8, 3), torch.zeros(8, dtype=torch.int64)
    for width in range(2, 12):
        evaluate(nn.Linear(3, width), (x, y), NOISE, trials=2, layout=Layout(8, compiled=True))
    assert counting.graphs == 10


def test_batches_of_many_shapes_are_compiled(counting: Counting) -> None:
    """And none is run as written because others came before."""
    batches = [(torch.randn(size, 3), torch.zeros(size, dtype=torch.int64)) for size in range(1, 13)]
    evaluate(nn.Linear(3, 2), batches, NOISE, trials=2, layout=Layout(None, compiled=True))
    assert counting.graphs == 12


def test_a_lower_precision_within_a_block_of_autocast_is_refused() -> None:
    """What it changes could not be measured: the plain chips would run in it too."""
    x, y = torch.randn(8, 3), torch.zeros(8, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        evaluate(nn.Linear(3, 2), (x, y), NOISE, trials=2, layout=Layout(8))
        with pytest.raises(ValueError, match="inside a block of torch.autocast.*Leave the block, or use layout.plain"):
            evaluate(nn.Linear(3, 2), (x, y), NOISE, trials=2, layout=Layout(8, autocast="bfloat16"))


@pytest.mark.parametrize("kind", ["plain", "parametrised", "spectral", "pruned", "tied"])
def test_computed_and_shared_weights(kind: str, counting: Counting) -> None:
    """Values by torch's own autocast around each pass; each chip differs, and none costs more than one compilation."""
    torch.manual_seed(0)
    model = tied_model() if kind == "tied" else make(kind)[0]
    model.eval()
    x = torch.arange(7) if kind == "tied" else torch.randn(6, 3)
    y = torch.arange(len(x)) % 2
    fast = Layout(4, autocast="bfloat16", compiled=True)
    prepared = prepare(model, (x, y), NOISE, metric="cross-entropy", layout=fast)
    found = [prepared.task.clean(), *(prepared.task(number) for number in range(4))]
    for number, scores in enumerate(found, start=-1):
        noise, trial = (NOISE, number) if number >= 0 else (Gaussian(0.0), 0)
        with deploy(model, noise, trial=trial).at(), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            outputs = [model(part).float() for part in x.split(4)]
        wanted = nn.functional.cross_entropy(torch.cat(outputs), y, reduction="none")
        np.testing.assert_allclose(scores, wanted.double().numpy(), rtol=1e-5)
    assert len({scores.tobytes() for scores in found}) == 5
    assert counting.graphs <= 4  # two sizes, clean and on a chip


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("mode", [{"compiled": True}, {"autocast": "bfloat16"}])
def test_a_trial_alone_is_that_of_the_run(mode: dict[str, object], outer: bool, counting: Counting) -> None:
    """Also within a block of autocast that keeps casts of weights, and after pickling."""
    task = prepare(make_model(torch.float32), data(), NOISE, metric="cross-entropy", layout=Layout(BATCH, **mode)).task
    assert isinstance(task, Task)
    with torch.autocast("cpu", torch.bfloat16, enabled=outer):
        together = [task(number).tobytes() for number in range(3)]
        other: Task = pickle.loads(pickle.dumps(task))
        alone = [other(number).tobytes() for number in (2, 0, 1)]
        assert together == [alone[1], alone[2], alone[0]]
    assert len(set(together)) == 3


def test_a_hook_that_comes_or_goes_is_noticed(counting: Counting) -> None:
    model = make_model(torch.float32)
    task = prepare(model, data(), NOISE, metric="cross-entropy", layout=Layout(SIZE, compiled=True)).task
    plain = replace(task, layout=Layout(SIZE))
    before = task(0)
    np.testing.assert_array_equal(before, plain(0))
    hook = model[4].register_forward_hook(lambda module, args, output: 2 * output)
    np.testing.assert_array_equal(task(0), plain(0))
    assert not np.array_equal(task(0), before)
    hook.remove()
    np.testing.assert_array_equal(task(0), before)


def test_a_model_that_is_compiled_already(counting: Counting) -> None:
    model = make_model(torch.float32)
    how = {"trials": 3, "metric": "cross-entropy"}
    plain = evaluate(model, data(), NOISE, layout=Layout(BATCH), **how)
    found = evaluate(torch.compile(model), data(), NOISE, layout=Layout(BATCH, compiled=True), **how)
    assert found.trials == plain.trials
    assert found.check.passed


def test_a_periphery() -> None:
    """Its hooks compute exactly, and round to what the layer gives; a compiled model would not call them."""
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).eval()
    x, y = torch.randn(8, 5), torch.arange(8) % 3
    periphery = Periphery()
    found = evaluate(
        model,
        (x, y),
        NOISE,
        trials=2,
        periphery=periphery,
        metric="cross-entropy",
        layout=Layout(8, autocast="bfloat16"),
    )
    for trial in range(2):
        chip = deploy(model, NOISE, trial=trial, periphery=periphery)
        with chip.at(), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            logits = model(x).float()
        wanted = nn.functional.cross_entropy(logits, y, reduction="none").double().numpy()
        np.testing.assert_allclose(found.examples.values[trial], wanted, rtol=1e-6)
    with pytest.raises(ValueError, match=r"`layout` must not be compiled with a periphery.*layout\.plain"):
        evaluate(model, (x, y), NOISE, periphery=periphery, layout=Layout(8, compiled=True))


def test_norms_are_estimated_in_the_same_precision() -> None:
    model = make_model(torch.float32)
    training = [make_batch(torch.float32, seed=5)[0]]
    fast = prepare(model, data(), NOISE, norm_data=training, layout=Layout(SIZE, autocast="bfloat16"))
    found = replace(fast.task, metric=METRICS["cross-entropy"])(0)
    model.eval()
    chip = deploy(model, NOISE)
    values = []
    for lowered in (True, False):
        with torch.no_grad(), chip.at(reading=0), torch.autocast("cpu", torch.bfloat16, enabled=lowered):
            estimated = reestimated_norms(model, training)
            estimated.__enter__()
        with torch.no_grad(), chip.at(reading=1), torch.autocast("cpu", torch.bfloat16):
            values.append(losses([model(data()[0])]))
        estimated.__exit__(None, None, None)
    np.testing.assert_allclose(found, values[0], rtol=1e-5)
    assert np.abs(found - values[1]).max() > 1e-4


def close_logits() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """Logits about 100, of which bfloat16 has every half one, that differ by thousandths."""
    model = nn.Linear(2, 2)
    x = torch.randn(400, 2)
    with torch.no_grad():
        model.weight.mul_(1e-2)
        model.bias.fill_(100.0)
        return model, (x, model(x).argmax(1))


def test_a_precision_that_changes_the_answer_is_told() -> None:
    model, examples = close_logits()
    assert examples[1].float().mean() > 0.2  # for all of them the first would be named
    fast = find_layout(model, examples, autocast="bfloat16")
    with pytest.warns(
        RuntimeWarning, match=r"accuracy by autocast='bfloat16' is not shown .* use layout\.plain"
    ) as told:
        found = evaluate(model, examples, Gaussian(0.01), trials=8, layout=fast)
    assert told[0].filename == __file__
    plain = evaluate(model, examples, Gaussian(0.01), trials=8, layout=fast.plain)
    assert not found.check.passed
    assert len(found.trials) == 8
    assert len(found.check.differences) == 5
    assert found.check.change.mean == pytest.approx(np.mean(found.trials[:5]) - np.mean(plain.trials[:5]))
    assert found.check.change.mean < -0.1
    assert "NOT shown" in str(found)
    with pytest.warns(RuntimeWarning, match="is not shown"):
        ranked = sensitivity(nn.Sequential(nn.Linear(2, 2), model), examples, Gaussian(0.01), trials=5, layout=fast)
    assert not ranked.check.passed


def test_equal_answers_pass_however_narrow_the_interval() -> None:
    """Autocast leaves float64 as it is, and without noise all chips are equal: the interval is at its floor."""
    found = evaluate(
        make_model(), make_batch(size=SIZE), Gaussian(0.0), trials=40, layout=Layout(BATCH, autocast="bfloat16")
    )
    assert found.check.differences == (0.0,) * 6  # of 40 chips
    assert found.check.limit > found.check.half_width  # the floor of 6 chips is wider than that of 40
    assert found.check.passed


def test_the_change_is_compared_with_its_uncertainty() -> None:
    differences = (0.001, 0.003, 0.002, 0.0, 0.004)
    half = 2.776445105 * np.std(differences, ddof=1) / math.sqrt(5)  # Student's t of 4 degrees, 95 %
    check = Check(differences, half_width=0.002 + half + 1e-6)
    assert check.limit == pytest.approx(0.002 + half)
    assert check.passed
    assert not replace(check, half_width=0.002 + half - 1e-6).passed  # though the mean itself is within
    assert replace(check, differences=tuple(-d for d in differences)).limit == pytest.approx(check.limit)
    assert Check((0.01, 0.01), half_width=1.0, resolution=0.1).change.half_width > 0
    record = check.record()
    assert (record.differences, record.passed, record.change.high) == (differences, True, check.change.high)


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
def test_a_sensitivity_is_in_the_same_mode(autocast: str | None, counting: Counting) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 6), nn.Tanh(), nn.Linear(6, 3))
    x, y = data()
    how = {"trials": 3, "metric": "cross-entropy"}
    mode = {"compiled": True} if autocast is None else {"autocast": autocast}
    found = [
        sensitivity(model, (x.flatten(1), y), NOISE, reuse=reuse, layout=Layout(BATCH, **mode), **how)
        for reuse in (True, False)
    ]
    assert [row.alone for row in found[0].rows] == [row.alone for row in found[1].rows]
    assert found[0].noisy == evaluate(model, (x.flatten(1), y), NOISE, layout=Layout(BATCH, **mode), **how).trials
    assert found[0].not_reused == ("the layout is compiled" if autocast is None else None)
    assert found[0].check == found[1].check
    assert found[0].check.passed
    plain = sensitivity(model, (x.flatten(1), y), NOISE, layout=Layout(BATCH), **how)
    assert plain.check is None
    assert (plain.noisy == found[0].noisy) == (autocast is None)
    assert (plain.clean == found[0].clean) == (autocast is None)  # the drop is of like from like


def test_a_layout_of_a_mode_is_found(counting: Counting) -> None:
    model, examples = nn.Linear(4, 3), (torch.randn(60, 4), torch.randint(3, (60,)))
    seen = list[torch.dtype]()
    model.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    lowered = find_layout(model, examples, autocast="float16")
    assert (lowered.autocast, lowered.compiled) == ("float16", False)
    assert set(seen) == {torch.float16}
    seen.clear()
    compiled = find_layout(model, examples, compiled=True)
    assert set(seen) == {torch.float32}
    assert not counting.graphs  # a search compiles nothing
    assert compiled.compiled
    assert find_layout(model, examples) == compiled.plain
    assert find_layout(model, [examples], compiled=True) == Layout(None, compiled=True)


def test_what_a_mode_cannot_be_is_told() -> None:
    with pytest.raises(ValueError, match="`autocast` must be a lower precision, or None, got 'bf16'.*bfloat16"):
        Layout(autocast="bf16")
    with (
        pytest.raises(ValueError, match="`layout` must leave the model in its own precision"),
        loss_surface(make_model(torch.float32), data(), layout=Layout(autocast="bfloat16")),
    ):
        pass
