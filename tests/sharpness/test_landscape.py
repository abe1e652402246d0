"""Lines through the weights: how far each filter moves, what stays, and agreement with the one-step rise."""

import numpy as np
import pytest
import torch
from torch import nn

from samson import ASAM, SAM, SAMSON
from samson.sharpness import ascent_landscape, random_landscape, worst_case_rise
from tests.conftest import equal, make_batch, make_model, snapshot, with_transformers


def moves(model: nn.Module, **settings: object) -> list[dict[str, torch.Tensor]]:
    """What is added to each weight, at every pass."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = []
    hook = model.register_forward_pre_hook(
        lambda *_: found.append({name: p.detach() - before[name] for name, p in model.named_parameters()})
    )
    random_landscape(model, make_batch(), **settings)
    hook.remove()
    return found


@pytest.mark.parametrize("unit", ["filter", "layer"])
def test_each_unit_moves_by_its_own_norm(unit: str) -> None:
    model = make_model()
    there, back, clean = moves(model, radii=[0.5, -0.25], unit=unit)
    for name, p in model.named_parameters():
        if p.ndim < 2:
            assert there[name].eq(0).all()
            continue
        rows = (p.shape[0], -1) if unit == "filter" else (1, -1)
        own, moved = p.detach().reshape(rows).norm(dim=1), there[name].reshape(rows).norm(dim=1)
        assert torch.allclose(moved, 0.5 * own, rtol=1e-12)
        assert torch.allclose(back[name], -0.5 * there[name], rtol=1e-9, atol=1e-12)
    if unit == "layer":  # the check can fail: single filters do not move by their own norm then
        assert not torch.allclose(
            there["0.weight"].flatten(1).norm(dim=1), 0.5 * model[0].weight.flatten(1).norm(dim=1)
        )
    assert all(move.eq(0).all() for move in clean.values())


class Experts(nn.Module):
    num_experts = 2

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.is_transposed = transposed
        self.w = nn.Parameter(torch.randn(2, 10, 3) if transposed else torch.randn(2, 3, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ni,eio->no" if self.is_transposed else "ni,eoi->no", x, self.w)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table((x[:, 0] > 0).long())


def of_transformers() -> nn.Module:
    from transformers.pytorch_utils import Conv1D

    return Conv1D(3, 10)


FILTERS = {  # the layer, its weight, and the weight of each output
    "transposed": (
        lambda: nn.Sequential(nn.Unflatten(1, (10, 1)), nn.ConvTranspose1d(10, 4, 3), nn.Flatten()),
        "1.weight",
        lambda w: w.unbind(1),
    ),
    "groups": (
        lambda: nn.Sequential(nn.Unflatten(1, (10, 1)), nn.ConvTranspose1d(10, 4, 3, groups=2), nn.Flatten()),
        "1.weight",
        lambda w: [w[:5, 0], w[:5, 1], w[5:, 0], w[5:, 1]],
    ),
    "experts": (lambda: Experts(False), "w", lambda w: w.flatten(0, 1)),
    "transposed experts": (lambda: Experts(True), "w", lambda w: w.transpose(1, 2).flatten(0, 1)),
    "transformers": (of_transformers, "weight", lambda w: w.unbind(1)),
    "table": (Words, "table.weight", lambda w: w),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=with_transformers if kind == "transformers" else ()) for kind in FILTERS]
)
def test_a_filter_is_what_makes_one_output(kind: str) -> None:
    make, name, filters = FILTERS[kind]
    model = nn.Sequential(nn.Flatten(), make()).double()
    weight = dict(model.named_parameters())[f"1.{name}"].detach()
    by_filter, by_layer = (moves(model, radii=[0.5], unit=unit)[0][f"1.{name}"] for unit in ("filter", "layer"))
    own, moved, other = ([float(part.norm()) for part in filters(t)] for t in (weight, by_filter, by_layer))
    assert moved == pytest.approx([0.5 * norm for norm in own], rel=1e-12)
    assert other != pytest.approx([0.5 * norm for norm in own], rel=1e-3)  # the check can fail


def test_a_direction_depends_on_its_number_alone() -> None:
    two = random_landscape(make_model(), make_batch(), [0.5, 1.0], directions=2, seed=3)
    three = random_landscape(make_model(), make_batch(), [1.0], directions=3, seed=3)
    assert np.array_equal(two.losses[:, 1], three.losses[:2, 0])
    assert len(set(three.losses[:, 0])) == 3
    assert random_landscape(make_model(), make_batch(), [1.0], seed=4).losses[0, 0] not in three.losses


def test_the_normalisation_does_not_see_a_rescaled_network() -> None:
    def network(factor: float) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(10, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)
        ).double()
        with torch.no_grad():
            model[1].weight.mul_(factor)
            model[3].weight.div_(factor)
        return model

    plain, scaled = (random_landscape(network(f), make_batch(), [0.3, 1.0]).losses for f in (1.0, 8.0))
    assert np.allclose(plain, scaled, rtol=1e-10)
    round_balls = [worst_case_rise(network(f), make_batch(), SAM(rho=0.3)).rise for f in (1.0, 8.0)]
    assert round_balls[0] != pytest.approx(round_balls[1], rel=0.1)  # a ball in plain weights sees it


class Compiled(nn.Module):
    """Names as those of `torch.compile`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._orig_mod = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._orig_mod(x)


def test_a_compiled_model_has_the_landscape_of_the_model_within() -> None:
    models = make_model(torch.float32), Compiled(make_model(torch.float32))
    found, same = (random_landscape(model, make_batch(torch.float32), [0.5, 1e39]) for model in models)
    assert np.array_equal(found.losses, same.losses)
    assert found.losses[0, 1] == np.inf > found.losses[0, 0]  # and no error


@pytest.mark.parametrize("rule", [SAM(), ASAM(), SAMSON()])
def test_the_ascent_passes_through_the_one_step_rise(rule: SAM) -> None:
    model, data = make_model(torch.float32), make_batch(torch.float32)
    before = snapshot(model)
    found = ascent_landscape(model, data, rule, [-0.2, 0.0, 0.2, 0.4])
    other = type(rule)(rho=0.4)
    assert found.losses[0, 3] == pytest.approx(worst_case_rise(model, data, other).losses[0], rel=1e-6)
    assert found.losses[0, 1] == found.clean
    assert found.losses[0, 0] < found.clean < found.losses[0, 2]
    assert equal(snapshot(model), before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"directions": 0}, "`directions` must be at least 1"),
        ({"unit": "row"}, "`unit` must be one of filter, layer, got 'row'"),
        ({"radii": []}, "`radii` must be one or more finite numbers"),
        ({"radii": [float("nan")]}, "`radii` must be one or more finite numbers"),
    ],
)
def test_bad_input_is_an_error(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        random_landscape(make_model(), make_batch(), **{"radii": [1.0], **change})


def test_what_has_no_landscape_is_named() -> None:
    model = make_model()
    with pytest.raises(TypeError, match="`rule` must be an ascent rule such as .* got 'sam'"):
        ascent_landscape(model, make_batch(), "sam", [1.0])
    with torch.no_grad():
        model[4].weight.fill_(np.inf)
    with pytest.raises(ValueError, match="`model` must have a finite loss on `data`, got inf"):
        random_landscape(model, make_batch(), [1.0])
