"""From weights to conductances and back: every way of laying weights out on devices."""

import pytest
import torch
from torch import Tensor

from samson.noise import Mapping

G_MAX = 25.0


def weights(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


MAPPINGS = {
    "pair": Mapping(),
    "g_min": Mapping(g_min_us=2.0),
    "ratio": Mapping(on_off_ratio=10.0),
    "channel": Mapping(per="channel"),
    "tile": Mapping(g_min_us=1.0, per="tile", tile_inputs=4),
    "single": Mapping(g_min_us=2.0, pair=False),
    "single-tile": Mapping(per="tile", tile_inputs=4, pair=False),
    "pairs": Mapping(significance=(1.0, 4.0)),
}


@pytest.mark.parametrize("mapping", MAPPINGS.values(), ids=MAPPINGS)
def test_weights_come_back(mapping: Mapping) -> None:
    w = weights(5, 3, 2, 2)
    held = mapping.conductances(w, G_MAX)
    g = held["conductance_us"]
    assert g.shape == (len(mapping.factors), 2 if mapping.pair else 1, *w.shape)
    assert torch.allclose(mapping.weights(g, held, G_MAX), w, rtol=0, atol=1e-12)
    assert g.min() == pytest.approx(mapping.smallest_us(G_MAX))
    assert g.max() == pytest.approx(G_MAX)
    if mapping.pair:
        assert (g[:, 0].minimum(g[:, 1]) == mapping.smallest_us(G_MAX)).all()  # one of the two is at g_min


def test_a_pair_is_the_formula() -> None:
    w, g_min = weights(4, 6), 2.0
    s = (G_MAX - g_min) / w.abs().max()
    g = Mapping(g_min_us=g_min).conductances(w, G_MAX)["conductance_us"][0]
    assert torch.allclose(g, torch.stack([(s * w).clamp(min=0) + g_min, (-s * w).clamp(min=0) + g_min]))
    assert Mapping(on_off_ratio=12.5).smallest_us(G_MAX) == g_min


@pytest.mark.parametrize("shape", [(4, 10), (4, 5, 2), (4, 10, 1, 1)])
def test_a_tile_is_a_block_of_inputs(shape: tuple[int, ...]) -> None:
    w = weights(*shape)
    scale = Mapping(per="tile", tile_inputs=4).conductances(w, G_MAX)["scale"]
    flat, scales = w.flatten(1), scale.expand_as(w).flatten(1)
    for start in (0, 4, 8):
        block = flat[:, start : start + 4]
        assert torch.allclose(scales[:, start : start + 4], G_MAX / block.abs().max())


def test_levels_round_to_even_steps() -> None:
    w = weights(4, 50)
    mapping = Mapping(g_min_us=5.0, levels=5)
    held = mapping.conductances(w, G_MAX)
    assert set(held["conductance_us"].flatten().tolist()) == {5.0, 10.0, 15.0, 20.0, 25.0}
    step = w.abs().max() / 4
    back = mapping.weights(held["conductance_us"], held, G_MAX)
    assert torch.allclose(back, (w / step).round() * step)
    assert (back - w).abs().max() > 0.4 * step  # the check can fail: rounding is coarse


@pytest.mark.parametrize("pair", [True, False])
def test_slices_are_the_digits(pair: bool) -> None:
    w = weights(4, 500)
    mapping = Mapping(levels=4, slices=3, pair=pair)
    assert mapping.factors == (1.0, 4.0, 16.0)
    assert Mapping(levels=4, significance=(1.0, 0.5)).factors == (1.0, 0.5)  # one slice keeps what it was given
    held = mapping.conductances(w, G_MAX)
    digits = held["conductance_us"] / (G_MAX / 3)
    assert torch.allclose(digits, digits.round(), atol=1e-9)
    assert set(digits.round().flatten().tolist()) == {0.0, 1.0, 2.0, 3.0}
    extent, low = (w.abs().max(), 0.0) if pair else (w.max() - w.min(), w.min())
    step = extent / (4**3 - 1)
    expected = ((w - low) / step).round() * step + low
    assert torch.allclose(mapping.weights(held["conductance_us"], held, G_MAX), expected)


def test_errors_of_pairs_average() -> None:
    w, mapping = weights(50, 200), Mapping(significance=(1.0, 1.0, 1.0, 1.0))
    held = mapping.conductances(w, G_MAX)
    noise = torch.randn(held["conductance_us"].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    error = mapping.weights(held["conductance_us"] + noise, held, G_MAX) - w
    assert (error * held["scale"]).std().item() == pytest.approx((2 / 4) ** 0.5, rel=0.03)


@pytest.mark.parametrize("pair", [True, False])
def test_a_tensor_without_a_range_has_scale_one(pair: bool) -> None:
    held = Mapping(pair=pair).conductances(torch.zeros(2, 3), G_MAX)
    assert (held["scale"] == 1).all()
    assert torch.equal(Mapping(pair=pair).weights(held["conductance_us"], held, G_MAX), torch.zeros(2, 3))


@pytest.mark.parametrize(
    "mapping", [*MAPPINGS.values(), Mapping(per="channel", levels=4, slices=2)], ids=[*MAPPINGS, "slices"]
)
def test_a_unit_without_a_range_has_the_tensors(mapping: Mapping) -> None:
    w = 0.05 * weights(5, 3, 2, 2)
    w[0], w[:, 0] = 0.0, 0.0  # an output channel, and the first four inputs, which are a tile
    held = mapping.conductances(w, G_MAX)
    extent = w.abs().max() if mapping.pair else w.max() - w.min()
    scale = held["scale"].expand_as(w)[0, 0]
    assert torch.allclose(scale, ((G_MAX - mapping.smallest_us(G_MAX)) / extent).expand_as(scale), rtol=1e-12)
    assert not torch.allclose(scale, torch.ones_like(scale), rtol=0.5)  # the check can fail: the noise would be huge
    read = mapping.weights(held["conductance_us"], held, G_MAX)[0, 0]
    assert torch.allclose(read, torch.zeros_like(read), atol=1e-12)


def test_equal_weights_on_single_devices_have_their_own_size_as_range() -> None:
    for w in (torch.full((2, 3), -0.5), torch.tensor([[0.5], [0.1]])):
        held = Mapping(pair=False, per="channel").conductances(w, G_MAX)
        extent = 0.5 if w.shape[1] > 1 else 0.4  # the second tensor has a range, though no channel does
        assert torch.allclose(held["scale"], torch.full((2, 1), G_MAX / extent))
        assert torch.equal(Mapping(pair=False).weights(held["conductance_us"], held, G_MAX), w)


def test_more_digits_than_float32_tells_apart_are_refused() -> None:
    most = Mapping(levels=16, slices=6)
    weight = torch.tensor([1.0, 0.5, -1.0, 0.25, 0.9])
    state = most.conductances(weight, G_MAX)
    torch.testing.assert_close(most.weights(state["conductance_us"], state, G_MAX), weight, atol=2e-7, rtol=0)
    for levels, slices in ((16, 7), (256, 4), (2, 25), (256, 200)):
        with pytest.raises(ValueError, match=rf"`slices` must give at most 24 bits with levels={levels}.*got {slices}"):
            Mapping(levels=levels, slices=slices)


def test_a_weight_that_is_no_number_makes_all_of_its_part_so() -> None:
    state = Mapping().conductances(torch.tensor([[1.0, 0.5, float("nan")]]), G_MAX)
    assert Mapping().weights(state["conductance_us"], state, G_MAX).isnan().all()
