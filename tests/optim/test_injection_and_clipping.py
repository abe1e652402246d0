"""Noise injection and weight clipping, against hand-written references."""

import math

import pytest
import torch
from torch import nn

from samson import SAMSON, NoiseInjection, SharpnessAware, WeightClipping, param_groups
from samson.noise import Gaussian
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


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="`alpha` must be > 0"):
        WeightClipping(alpha=0.0)
    with pytest.raises(ValueError, match="`seed` must be ≥ 0"):
        NoiseInjection(Gaussian(0.1), seed=-1)
    with pytest.raises(TypeError, match="`noise` must be callable"):
        NoiseInjection(0.1)
