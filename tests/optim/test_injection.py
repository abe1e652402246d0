"""Noise injection, alone and beside clipping, against hand-written references."""

import warnings

import pytest
import torch
from torch import nn

from samson import SAMSON, NoiseInjection, SharpnessAware, WeightClipping, param_groups
from samson.noise import Gaussian, Quantize, deploy
from tests.conftest import closure_for, equal, make_model, snapshot, weights_of
from tests.optim.layouts import BY_SHAPE, ON_CHIP, everything


def wrapped(model: nn.Module, sigma: float = 0.2, seed: int = 0) -> SharpnessAware:
    return SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), NoiseInjection(Gaussian(sigma), seed))


def test_the_clean_weights_are_updated_with_the_noisy_gradient(batch: tuple) -> None:
    model, noisy = make_model(), make_model()
    clean = weights_of(model)
    seen: dict[str, torch.Tensor] = {}
    losses: list[float] = []
    optimizer = wrapped(model)
    closure = closure_for(model, optimizer, batch, losses)
    random_state = torch.get_rng_state()

    def watching() -> torch.Tensor:
        seen.update(weights_of(model))
        return closure()

    loss = optimizer.step(watching)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert losses == [loss.item()]  # one pass, and its loss is the one returned
    # Weight matrices and convolutions are noisy, relative to their largest weight; the rest is clean.
    assert {name for name in seen if not torch.equal(seen[name], clean[name])} == {"0.weight", "4.weight"}
    # The reference: the gradient at the noisy weights, applied to the clean ones.
    noisy.load_state_dict({**noisy.state_dict(), **seen})
    closure_for(noisy, torch.optim.SGD(noisy.parameters(), lr=0.1), batch)()
    for name, p in noisy.named_parameters():
        assert torch.allclose(model.get_parameter(name), clean[name] - 0.1 * p.grad, rtol=1e-12, atol=1e-14)
    # The only pass updates the norm statistics.
    assert equal(dict(model[1].named_buffers()), dict(noisy[1].named_buffers()))


class StraightThrough(nn.Module):
    """A weight rounded to 4 bits, one step an output channel, whose gradient goes through as if it were not."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        step = weight.detach().abs().flatten(1).amax(1).view(-1, *[1] * (weight.ndim - 1)) / 7
        return weight + ((weight / step).round() * step - weight).detach()


def test_injected_rounding_is_training_with_straight_through_gradients(batch: tuple) -> None:
    rounded, free, reference = (make_model() for _ in range(3))
    for layer in (reference[0], reference[4]):
        nn.utils.parametrize.register_parametrization(layer, "weight", StraightThrough())
    rule = NoiseInjection(Quantize(4, per="channel"))
    for model, optimizer in (
        (rounded, SharpnessAware(torch.optim.SGD(param_groups(rounded), lr=0.1, momentum=0.9), rule)),
        *((one, torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9)) for one in (free, reference)),
    ):
        for _ in range(5):
            optimizer.step(closure_for(model, optimizer, batch))
    for number in (0, 4):
        expected = reference[number].parametrizations.weight.original
        torch.testing.assert_close(rounded[number].weight, expected, rtol=1e-9, atol=1e-12)
        assert not torch.allclose(free[number].weight, expected, atol=1e-4)  # the check can fail


def test_a_rule_sees_the_weights_of_a_chip_in_the_closure(batch: tuple) -> None:
    """Quantisation-aware training under SAMSON: both passes compute with rounded weights."""
    on_chip, free, reference = (make_model() for _ in range(3))
    for layer in (reference[0], reference[4]):
        nn.utils.parametrize.register_parametrization(layer, "weight", StraightThrough())
    for model in (on_chip, free, reference):
        optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1, momentum=0.9), SAMSON(rho=0.3))
        closure = closure_for(model, optimizer, batch)

        def rounded(closure=closure) -> torch.Tensor:
            with deploy(on_chip, Quantize(4, per="channel")).at():
                return closure()

        for _ in range(5):
            optimizer.step(rounded if model is on_chip else closure)
    for number in (0, 4):
        expected = reference[number].parametrizations.weight.original
        torch.testing.assert_close(on_chip[number].weight, expected, rtol=1e-9, atol=1e-12)
        assert not torch.allclose(free[number].weight, expected, atol=1e-4)  # the check can fail


def test_clipping_reaches_the_weights_that_a_fake_quantiser_rounds(batch: tuple) -> None:
    """As it reaches those that are rounded by injection; in one network with plain layers, too."""
    selects = {"rounded": None, "reference": "*.original", "mixed": ["default", "!0", "*.original"], "free": None}
    found = {}
    for name, select in selects.items():
        model = found[name] = make_model()
        for layer in {"reference": (model[0], model[4]), "mixed": (model[0],)}.get(name, ()):
            nn.utils.parametrize.register_parametrization(layer, "weight", StraightThrough())
        optimizer = torch.optim.SGD(param_groups(model), lr=0.1, momentum=0.9)
        if name in ("rounded", "mixed"):
            rule = NoiseInjection(Quantize(4, per="channel"), select=None if name == "rounded" else ["default", "!0"])
            optimizer = SharpnessAware(optimizer, rule)
        if name != "free":
            optimizer.register_step_post_hook(WeightClipping(1.5, select=select))
        for _ in range(5):
            optimizer.step(closure_for(model, optimizer, batch))

    def raw(name: str, number: int) -> torch.Tensor:
        layer = found[name][number]
        return layer.parametrizations.weight.original if hasattr(layer, "parametrizations") else layer.weight

    for number in (0, 4):
        expected = raw("rounded", number)
        for name in ("reference", "mixed"):
            torch.testing.assert_close(raw(name, number), expected, rtol=1e-9, atol=1e-12)
        assert not torch.allclose(raw("free", number), expected, atol=1e-4)  # the check can fail


def test_a_group_can_stay_clean(batch: tuple) -> None:
    model = make_model()
    groups = [{"params": [model[0].weight], "perturb": False}, {"params": [model[4].weight]}]
    optimizer = SharpnessAware(torch.optim.SGD(groups, lr=0.1), NoiseInjection(Gaussian(0.2)), model=model)
    before = snapshot(model)
    with optimizer.perturbed(model):
        assert torch.equal(model[0].weight, before["0.weight"])
        assert not torch.equal(model[4].weight, before["4.weight"])


def changed(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.parametrize("known", ["groups", "wrapper", "not"])
def test_what_lies_on_a_chip_gets_noise(known: str) -> None:
    """What is frozen, too, as it lies there all the same; nothing that has no real numbers."""
    model = everything()
    base = torch.optim.SGD(param_groups(model) if known == "groups" else model.parameters(), lr=0.1)
    rule = NoiseInjection(Gaussian(0.2))
    optimizer = SharpnessAware(base, rule, model=model if known == "wrapper" else None)
    before = snapshot(model)
    with optimizer.perturbed():
        assert changed(model, before) == {"frozen.weight"} | (BY_SHAPE if known == "not" else ON_CHIP)


def test_computed_weights_are_refused() -> None:
    """Their parts are no weights of the chip: noise on a direction would be of another size."""
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    match = r"`0.weight` must be a parameter for NoiseInjection, got .* with `select=\['default', '!0'\]"
    match += ".* on a plain layer, or select '\\*.original' too: the weight that a fake-quantiser rounds"
    with pytest.raises(ValueError, match=match):
        SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), NoiseInjection(Gaussian(0.1)))
    rule = NoiseInjection(Quantize(2), select=["default", "!0"])
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), rule)
    before = snapshot(model)
    with optimizer.perturbed():
        assert changed(model, before) == {"1.weight"}
    groups = [{"params": list(model.parameters()), "perturb": False}, {"params": [nn.Parameter(torch.ones(2, 2))]}]
    SharpnessAware(torch.optim.SGD(groups, lr=0.1), NoiseInjection(Gaussian(0.1)), model=model)


def test_noise_that_reaches_nothing_is_refused() -> None:
    for model in (nn.Embedding(4, 4), nn.LayerNorm([4, 5])):
        with pytest.raises(ValueError, match="needs a weight that lies on a chip"):
            SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), NoiseInjection(Gaussian(0.1)))


def test_each_weight_and_each_step_has_a_draw_of_its_own() -> None:
    """Noise that is the same for two weights, or for two pairs of seed and step with the same sum, is no noise.

    One seed and step have one draw.
    """
    layers = nn.ModuleList([nn.Linear(8, 8, bias=False) for _ in range(2)])
    for layer in layers:
        nn.init.ones_(layer.weight)
    drawn: dict[tuple[int, int], list[torch.Tensor]] = {}
    for seed in (0, 1, 0):
        optimizer = SharpnessAware(
            torch.optim.SGD(param_groups(layers), lr=0.0), NoiseInjection(Gaussian(0.1), seed=seed)
        )
        for step in range(3):
            with optimizer.perturbed():
                found = [layer.weight.detach() - 1 for layer in layers]
            before = drawn.setdefault((seed, step), found)
            assert all(torch.equal(one, other) for one, other in zip(found, before, strict=True))
    every = [noise for pair in drawn.values() for noise in pair]
    for i, one in enumerate(every):
        assert 0.05 < one.std() < 0.15
        assert not any(torch.allclose(one, other, atol=1e-3) for other in every[:i])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("rho", [0.5, torch.tensor(0.5)])
@pytest.mark.filterwarnings("ignore:SharpnessAware. half-precision weights absorb")
def test_a_share_of_noise_in_another_precision_than_the_weights(rho: object, dtype: torch.dtype) -> None:
    """A noise of one's own gives float32 for weights of any precision."""
    layer = nn.Linear(2, 2).to(dtype)
    nn.init.ones_(layer.weight)
    rule = NoiseInjection(lambda w, generator: w.float() + torch.full(w.shape, 0.25), rho=rho)
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(layer), lr=0.1), rule)
    with optimizer.perturbed():
        assert torch.equal(layer.weight, torch.full((2, 2), 1.125, dtype=dtype))


def test_the_counter_of_draws_is_each_groups(batch: tuple) -> None:
    model = make_model()
    groups = [{"params": [model[0].weight]}, {"params": [model[4].weight]}]
    optimizer = SharpnessAware(torch.optim.SGD(groups, lr=0.1), NoiseInjection(Gaussian(0.2)), model=model)
    for _ in range(3):
        optimizer.step(closure_for(model, optimizer, batch))
    assert [group["injections"] for group in optimizer.param_groups] == [3, 3]


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="`seed` must be at least 0"):
        NoiseInjection(Gaussian(0.1), seed=-1)
    for noise in (0.1, Gaussian):
        with pytest.raises(TypeError, match="`noise` must be callable"):
            NoiseInjection(noise)


def test_frozen_weights_that_the_optimizer_lacks_are_a_warning() -> None:
    """They lie on the chip, and get no noise; what `select` leaves out does not, nor what another of ours holds."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    model[0].requires_grad_(False)
    learned = [p for p in model.parameters() if p.requires_grad]

    def made(parameters: object, select: object = None) -> SharpnessAware:
        rule = NoiseInjection(Gaussian(0.1), select=select)
        return SharpnessAware(torch.optim.SGD(parameters, lr=0.1), rule, model=model)

    def step(optimizer: SharpnessAware) -> None:
        optimizer.step(closure_for(model, optimizer, (torch.ones(2, 4), torch.tensor([0, 1]))))

    with pytest.warns(UserWarning, match="the optimizer lacks 1 weight of the model on the chip, so there is no noise"):
        step(made(learned))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(made(learned, "1"))
        step(made(param_groups(model)))
        other = SharpnessAware(
            torch.optim.SGD(model[0].parameters(), lr=0.1), NoiseInjection(Gaussian(0.1)), model=model
        )
        step(made(learned))  # that one has the other weight
        del other
