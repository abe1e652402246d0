"""The list of a model's tensors: each is there, and the list says what really happens."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from samson.noise import (
    PCM,
    ChipModel,
    Compose,
    Coverage,
    Gaussian,
    Mapping,
    Quantize,
    StuckDevices,
    TensorDescription,
    WeightNoise,
    coverage,
    deploy,
    describe,
)
from tests.conftest import snapshot
from tests.noise.test_selection import DEFAULT, Everything


def by_name(rows: list[TensorDescription]) -> dict[str, TensorDescription]:
    assert len({row.name for row in rows}) == len(rows)
    return {row.name: row for row in rows}


def test_it_lists_every_parameter_and_tells_the_truth() -> None:
    model = Everything()
    rows = by_name(describe(model))
    parameters = {name: p for name, p in model.named_parameters() if name != "attend.in_proj_weight"}
    assert set(rows) == {*parameters, *(name for name in DEFAULT if "in_proj" in name)}
    assert {name for name, row in rows.items() if row.on_chip} == DEFAULT
    before = snapshot(model)
    with deploy(model, Gaussian(0.2)).at():
        for name, value in snapshot(model).items():
            row = rows.get(name)
            if row is not None:
                assert row.on_chip == (not torch.equal(value, before[name]))
                assert row.shape == tuple(value.shape)
                assert row.elements == value.numel()
    assert rows["attend.in_proj_weight.q"].shape == (8, 8)
    assert sum(row.elements for row in rows.values()) == sum(p.numel() for p in model.parameters())


def test_reasons() -> None:
    rows = by_name(describe(Everything(), select=nn.Linear))
    assert rows["attend.out_proj.weight"].reason == "on the chip"
    assert rows["conv.0.weight"].reason == "digital: not selected"
    assert rows["conv.0.bias"].reason == "digital: a bias"
    assert rows["conv.1.weight"].reason == "digital: no weight matrix of a BatchNorm1d"
    assert rows["embed.weight"].reason == "digital: an embedding"
    assert rows["own"].reason == "digital: no known weight matrix of a Everything"
    assert rows["recurrent.weight_ih_l0"].layer_type == "LSTM"


def test_computed_pruned_and_tied_weights() -> None:
    model = nn.Sequential(
        nn.Embedding(3, 3), parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 3), nn.Linear(3, 3),
        nn.Linear(3, 3), nn.Linear(3, 3),
    )  # fmt: skip
    prune.random_unstructured(model[2], "weight", 0.5)
    model[3].weight = model[0].weight
    model[5].weight = model[4].weight
    rows = by_name(describe(torch.compile(model, backend="eager")))
    assert rows["1.weight"].reason == "on the chip; takes the place of the computed weight"
    assert rows["1.weight"].layer_type == rows["1.bias"].layer_type == "Linear"
    assert rows["1.parametrizations.weight.original0"].reason == "digital: a weight is computed from it"
    assert rows["2.weight"].reason == "on the chip; takes the place of the pruned weight"
    assert rows["2.weight_orig"].reason == "digital: a weight is computed from it"
    assert rows["3.weight"].reason == "on the chip; on this layer alone: shared with `0.weight`, which stays digital"
    assert rows["4.weight"].reason == "on the chip"
    assert rows["5.weight"].reason == "on the chip: the same weight as `4.weight`"
    digital = by_name(describe(model, select="5"))
    for name in ("1.weight", "2.weight"):
        assert (digital[name].reason, digital[name].shape) == ("digital: not selected", (3, 3))


class Scaled(nn.Embedding):
    """A table by another name, as Transformers has several."""


@dataclass(frozen=True)
class Tiled(Gaussian):
    tile_inputs: int | None = 100


@dataclass(frozen=True)
class Wrapped(Gaussian):
    noises: tuple[Gaussian, ...] = ()


def test_tiles() -> None:
    model = nn.Sequential(nn.Linear(256, 7), nn.Conv2d(64, 8, 3, groups=2), nn.ConvTranspose2d(6, 4, 5, groups=2))
    for rows in (
        describe(model, tile_inputs=100),
        describe(model, tile_inputs=np.uint8(100)),
        describe(model, Tiled(0.1)),
        describe(model, Wrapped(0.1, noises=(Gaussian(0.1), Tiled(0.1)))),
    ):
        # inputs: 256; 32 · 9 = 288; 3 · 25 = 75
        assert [row.tiles for row in rows if row.name.endswith("weight")] == [3, 3, 1]
        assert all(row.tiles is None for row in rows if row.name.endswith("bias"))
    assert all(row.tiles is None for row in describe(model, Gaussian(0.1)))
    with pytest.raises(ValueError, match="`tile_inputs` must be ≥ 1, or None for the noise's own, got 0"):
        describe(model, tile_inputs=0)


@pytest.mark.parametrize(
    ("noise", "devices"),
    [
        (None, None),
        (Quantize(), None),
        (PCM(), 2),
        (PCM(mapping=Mapping(pair=False)), 1),
        (PCM(mapping=Mapping(levels=4, slices=3)), 6),
        (Compose(Quantize(), PCM(mapping=Mapping(significance=(1.0, 1.0))), StuckDevices(low=0.1)), 4),
    ],
)
def test_devices_are_counted_where_a_mapping_says_how_many(noise: WeightNoise | None, devices: int | None) -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.Conv2d(2, 3, 3))
    sizes = {"0.weight": 35, "1.weight": 54, "0.bias": 0, "1.bias": 0}
    for chip in [noise] if noise is None else [noise, ChipModel(noise, "a test")]:
        found = {row.name: row.devices for row in describe(model, chip)}
        assert found == {name: n * devices if n and devices else None for name, n in sizes.items()}


def test_coverage_counts_weights_in_matrices() -> None:
    model = nn.Sequential(nn.Embedding(10, 3), nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 10))
    assert coverage(model) == Coverage(12 + 40, 12 + 40)
    assert coverage(model, "1") == Coverage(12, 52)
    assert coverage(model, "1").share == pytest.approx(12 / 52)
    parametrizations.weight_norm(model[1])
    prune.l1_unstructured(model[3], "weight", 0.5)
    assert coverage(model) == Coverage(52, 52)
    assert coverage(model, "1") == Coverage(12, 52)
    assert coverage(nn.Sequential(Scaled(10, 3), nn.Linear(3, 4))) == Coverage(12, 12)
    shared = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Embedding(3, 3))
    shared[1].weight = shared[0].weight
    assert coverage(shared) == Coverage(9, 9)
    assert coverage(nn.MultiheadAttention(4, 2)) == Coverage(64, 64)


class Experts(nn.Module):
    num_experts = 3

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 5, 4))


@pytest.mark.parametrize(
    ("make", "select", "expected", "parts"),
    [
        (lambda: nn.MultiheadAttention(4, 2), "in_proj_weight.q", Coverage(16, 64), {"in_proj_weight.k": (4, 4)}),
        (lambda: pruned(nn.MultiheadAttention(4, 2)), "*.k", Coverage(16, 64), {"in_proj_weight.v": (4, 4)}),
        (Experts, "w.0", Coverage(20, 60), {"w.1": (5, 4), "w.2": (5, 4)}),
        # queries on the chip in both, keys and values shared, and two digital projections of the heads
        (lambda: nn.ModuleList(tied()), "*.q", Coverage(16, 48 + 32), {"0.in_proj_weight.k": (4, 4)}),
    ],
    ids=["attention", "pruned", "experts", "shared"],
)
def test_the_digital_parts_of_a_packed_weight_are_there(
    make: Callable[[], nn.Module], select: str, expected: Coverage, parts: dict[str, tuple[int, ...]]
) -> None:
    assert coverage(make(), select) == expected
    rows = by_name(describe(make(), select=select))
    for name, shape in parts.items():
        assert (rows[name].on_chip, rows[name].reason, rows[name].shape) == (False, "digital: not selected", shape)


def pruned(layer: nn.MultiheadAttention) -> nn.Module:
    prune.random_unstructured(layer, "in_proj_weight", 0.5)
    return layer


def tied() -> list[nn.MultiheadAttention]:
    one, other = nn.MultiheadAttention(4, 2), nn.MultiheadAttention(4, 2)
    other.in_proj_weight = one.in_proj_weight
    return [one, other]


def test_a_parameter_without_a_shape_is_named() -> None:
    for model in (
        nn.Sequential(nn.Linear(3, 3), nn.LazyLinear(4)),
        nn.Sequential(nn.Linear(3, 3), nn.LazyBatchNorm1d()),
    ):
        for look in (describe, coverage):
            with pytest.raises(ValueError, match="`weight` of layer `1` has no shape yet. Run the model once"):
                look(model, select="0")
        model(torch.ones(2, 3))
        assert coverage(model, "0").on_chip == 9
