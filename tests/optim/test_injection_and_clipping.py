"""Noise injection and weight clipping, against hand-written references."""

import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from samson import SAMSON, NoiseInjection, SharpnessAware, WeightClipping, param_groups
from samson.noise import Gaussian, Quantize, deploy
from tests.conftest import closure_for, equal, make_model, snapshot


def wrapped(model: nn.Module, sigma: float = 0.2, seed: int = 0) -> SharpnessAware:
    return SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), NoiseInjection(Gaussian(sigma), seed))


def test_the_clean_weights_are_updated_with_the_noisy_gradient(batch: tuple) -> None:
    model, noisy = make_model(), make_model()
    clean = {name: p.detach().clone() for name, p in model.named_parameters()}
    seen: dict[str, torch.Tensor] = {}
    losses: list[float] = []
    optimizer = wrapped(model)
    closure = closure_for(model, optimizer, batch, losses)
    random_state = torch.get_rng_state()

    def watching() -> torch.Tensor:
        seen.update({name: p.detach().clone() for name, p in model.named_parameters()})
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


def draws(model: nn.Module, optimizer: SharpnessAware, batch: tuple, steps: int) -> list[torch.Tensor]:
    found = []
    for _ in range(steps):
        closure = closure_for(model, optimizer, batch)
        clean = model[4].weight.detach().clone()

        def watching(closure=closure, clean=clean) -> torch.Tensor:
            found.append((model[4].weight - clean).detach() / clean.abs().max())
            return closure()

        optimizer.step(watching)
    return found


def test_draws_derive_from_seed_and_step(batch: tuple) -> None:
    first, again, other = (draws(m := make_model(), wrapped(m, seed=s), batch, 3) for s in (5, 5, 6))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(first, again, strict=True))
    assert not any(torch.allclose(a, b, atol=1e-3) for a, b in zip(first, other, strict=True))
    assert not torch.allclose(first[0], first[1], atol=1e-3)  # redrawn for each mini-batch


def test_a_group_can_stay_clean(batch: tuple) -> None:
    model = make_model()
    groups = [{"params": [model[0].weight], "perturb": False}, {"params": [model[4].weight]}]
    optimizer = SharpnessAware(torch.optim.SGD(groups, lr=0.1), NoiseInjection(Gaussian(0.2)), model=model)
    before = snapshot(model)
    with optimizer.perturbed(model):
        assert torch.equal(model[0].weight, before["0.weight"])
        assert not torch.equal(model[4].weight, before["4.weight"])


def test_clipping_clamps_matrices_and_convolutions_after_the_step(batch: tuple) -> None:
    model, free = make_model(), make_model()
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), SAMSON())
    optimizer.register_step_post_hook(WeightClipping(alpha=1.2))
    plain = SharpnessAware(torch.optim.SGD(param_groups(free), lr=0.1), SAMSON())
    optimizer.step(closure_for(model, optimizer, batch))
    plain.step(closure_for(free, plain, batch))
    for name, p in free.named_parameters():
        value = p.detach()
        if value.ndim >= 2:
            bound = 1.2 * math.sqrt(float(((value - value.mean()) ** 2).mean()))
            assert value.abs().max() > bound  # there is something to clamp
            value = value.clamp(-bound, bound)
        assert torch.allclose(model.get_parameter(name), value, rtol=1e-12)


def test_clipping_spares_what_has_no_spread() -> None:
    parameters = [torch.ones(3, 3, requires_grad=True), torch.ones(4, requires_grad=True), torch.randn(1, 1)]
    before = [p.clone() for p in parameters]
    optimizer = torch.optim.SGD(parameters[:2], lr=0.1)
    optimizer.add_param_group({"params": [parameters[2].requires_grad_()]})
    optimizer.register_step_post_hook(WeightClipping(alpha=0.5))
    optimizer.step()
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))


class Scale(nn.Module):
    """A layer scale of shape (channels, 1, 1), and a weight in a layer of no known type."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4, 1, 1) + 0.5)
        self.mix = nn.Parameter(torch.randn(4, 4))


def many_kinds() -> nn.ModuleDict:
    layers = {
        "linear": nn.Linear(4, 5),
        "narrow": nn.Linear(1, 5),
        "convolution": nn.Conv2d(3, 2, 2),
        "attention": nn.MultiheadAttention(4, 2),
        "recurrent": nn.LSTM(4, 3),
        "bilinear": nn.Bilinear(2, 3, 4),
        "embedding": nn.Embedding(6, 4),
        "norm": nn.LayerNorm([4, 5]),
        "scale": Scale(),
    }
    model = nn.ModuleDict(layers)
    with torch.no_grad():
        model["norm"].weight.uniform_(0.5, 1.5)
    return model


ON_CHIP = {
    *("linear.weight", "narrow.weight", "convolution.weight", "bilinear.weight"),
    *("attention.in_proj_weight", "attention.out_proj.weight", "recurrent.weight_ih_l0", "recurrent.weight_hh_l0"),
}
BY_SHAPE = ON_CHIP - {"narrow.weight"} | {"embedding.weight", "norm.weight", "scale.mix"}


def changed(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def clip(model: nn.Module, optimizer: torch.optim.Optimizer) -> set[str]:
    """The parameters that clipping alone changes."""
    before = snapshot(model)
    optimizer.register_step_post_hook(WeightClipping(alpha=0.5))
    optimizer.step()
    return changed(model, before)


@pytest.mark.parametrize("known", ["groups", "wrapper", "not"])
@pytest.mark.filterwarnings("ignore:SharpnessAware. no perturbation was made")
def test_what_lies_on_a_chip_is_clipped(known: str) -> None:
    """Known by the types of layers; without a model by shape."""
    model = many_kinds()
    given = list(model.parameters()) if known == "not" else param_groups(model)
    optimizer = torch.optim.SGD(given, lr=0.1)
    if known == "wrapper":
        optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAMSON(), model=model)
    assert clip(model, optimizer) == (BY_SHAPE if known == "not" else ON_CHIP)


@pytest.mark.parametrize("known", [True, False])
def test_what_lies_on_a_chip_gets_noise(known: bool) -> None:
    model = many_kinds()
    base = torch.optim.SGD(param_groups(model) if known else list(model.parameters()), lr=0.1)
    optimizer = SharpnessAware(base, NoiseInjection(Gaussian(0.2)))
    before = snapshot(model)
    with optimizer.perturbed():
        assert changed(model, before) == (ON_CHIP if known else BY_SHAPE)
    model = many_kinds()
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), NoiseInjection(Gaussian(0.2)), model=model)
    before = snapshot(model)
    with optimizer.perturbed():
        assert changed(model, before) == ON_CHIP


def test_clipping_spares_frozen_quantised_and_complex_parameters() -> None:
    for groups in (lambda model: list(model.parameters()), param_groups):
        model = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        model[0].requires_grad_(False)
        model[1].levels = nn.Parameter(torch.randint(0, 200, (8, 8), dtype=torch.uint8), requires_grad=False)
        model[1].mask = nn.Parameter(torch.rand(8, 8) > 0.5, requires_grad=False)
        model[1].waves = nn.Parameter(torch.randn(8, 8, dtype=torch.complex64))
        assert clip(model, torch.optim.SGD(groups(model), lr=0.1)) == {"1.weight"}
        noisy = SharpnessAware(torch.optim.SGD(groups(model), lr=0.0), NoiseInjection(Gaussian(0.1)))
        before = snapshot(model)
        with noisy.perturbed():
            assert changed(model, before) == {"0.weight", "1.weight"}  # what is frozen lies on the chip all the same


def computed(kind: str) -> nn.Module:
    layer = nn.Linear(4, 4)
    if kind == "weight norm":
        nn.utils.parametrizations.weight_norm(layer)
    elif kind == "orthogonal":
        nn.utils.parametrizations.orthogonal(layer)
    elif kind == "pruned":
        prune.l1_unstructured(layer, "weight", 4)
    else:
        with pytest.warns(FutureWarning):
            nn.utils.weight_norm(layer)
    return nn.Sequential(layer, nn.Linear(4, 4))


@pytest.mark.parametrize("kind", ["weight norm", "orthogonal", "pruned", "weight norm by hooks"])
def test_computed_weights_are_refused(kind: str) -> None:
    """Their parts are no weights of the chip: a clipped direction, or noise on it, would be of another size."""
    model = computed(kind)
    match = (
        r"`0.weight` must be a parameter for {}, got .* computes. Leave its layer out with `select=\['default', '!0'\]"
    )
    match += ".* on a plain layer, or select '\\*.original' too: the weight that a fake-quantiser rounds"
    with pytest.raises(ValueError, match=match.format("NoiseInjection")):
        SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), NoiseInjection(Gaussian(0.1)))
    with pytest.raises(ValueError, match=match.format("clipping")):
        clip(model, torch.optim.SGD(param_groups(model), lr=0.1))
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
    """Noise that is the same for two weights, or for two pairs of seed and step with the same sum, is no noise."""
    layers = nn.ModuleList([nn.Linear(8, 8, bias=False) for _ in range(2)])
    for layer in layers:
        nn.init.ones_(layer.weight)
    drawn: dict[tuple[int, int], list[torch.Tensor]] = {}
    for seed in (0, 1):
        optimizer = SharpnessAware(
            torch.optim.SGD(param_groups(layers), lr=0.0), NoiseInjection(Gaussian(0.1), seed=seed)
        )
        for step in range(3):
            with optimizer.perturbed():
                drawn[seed, step] = [layer.weight.detach() - 1 for layer in layers]
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
    with pytest.raises(ValueError, match="`alpha` must be > 0"):
        WeightClipping(alpha=0.0)
    with pytest.raises(ValueError, match="`seed` must be ≥ 0"):
        NoiseInjection(Gaussian(0.1), seed=-1)
    with pytest.raises(TypeError, match="`noise` must be callable"):
        NoiseInjection(0.1)


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
