"""What a chip costs, by its calls: no loop over devices or tiles, and nothing on the host; times are in benchmarks."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.traffic import traffic_of
from samson.noise import CMO, NOISES, PCM, PRESETS, DeadLines, Logarithmic, Mapping, PCMHermes, ReRAM, WeightNoise

SIZES: dict[str, Callable[[int], WeightNoise]] = {
    "tiles": lambda n: PCM(3600.0, Mapping(per="tile", tile_inputs=64 // n), compensation="global"),
    "pairs": lambda n: PCMHermes(3600.0, Mapping(significance=(1.0,) * n)),
    "slices": lambda n: ReRAM(mapping=Mapping(levels=4, slices=n)),
    "single devices": lambda n: CMO(3600.0, Mapping(9.0, per="tile", tile_inputs=64 // n, pair=False)),
    "dead lines": lambda n: DeadLines(0.1, 0.1, tile_inputs=64 // n),
}


def calls(work: Callable[[], object]) -> int:
    return sum(traffic_of(work).calls.values())


@pytest.mark.parametrize("of_size", SIZES.values(), ids=SIZES)
def test_calls_do_not_grow_with_devices_and_tiles(of_size: Callable[[int], WeightNoise]) -> None:
    w = torch.randn(8, 64)
    few, many = (calls(lambda n=n: of_size(n)(w, Generator())) for n in (2, 8))
    assert few == many
    loops = [calls(lambda n=n: [PCM()(tile, Generator()) for tile in w.split(64 // n, 1)]) for n in (2, 8)]
    assert loops[1] > 3 * loops[0]  # the count can fail: a loop over tiles grows


class OnTheHost(TorchDispatchMode):
    """The numbers that calls return on the host, but for single ones."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        found = [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.device.type == "cpu"]
        self.numbers += sum(t.numel() for t in found if t.ndim)
        return result


NOISY = {name: make(0.1) for name, make in NOISES.items()} | {name: chip.noise for name, chip in PRESETS.items()}


@pytest.mark.parametrize("noise", NOISY.values(), ids=NOISY)
def test_a_chip_is_drawn_on_the_device_of_the_weight(noise: WeightNoise) -> None:
    """On a device without memory, so that what is drawn elsewhere is seen, or does not fit."""
    with OnTheHost() as host:
        w = torch.empty(6, 8, device="meta")
        state = noise.program(w, Generator())
        compensated = getattr(noise, "compensation", None)  # reads one seed a tensor on the host
        drifts = isinstance(noise, PCM | CMO) and not compensated
        noisy = noise.read(state, 3600.0 if drifts else None, Generator())
        assert host.numbers == 0
        assert {t.device.type for t in (noisy, *state.values())} == {"meta"}
        noise.program(torch.empty(6, 8), Generator())
        assert host.numbers >= 48  # the check can fail


def test_a_curve_is_its_polynomial_from_the_split_on() -> None:
    r = torch.rand(1000, generator=Generator().manual_seed(0))
    r[:3] = 0.3
    curve = Logarithmic(0.0, 0.0, 0.1, 0.1, split=0.3, above=(0.0, 1.0))(r, r.log())
    assert torch.equal(curve, torch.where(r >= r[0], r, 0.1))
    assert not torch.equal(curve, torch.where(r > r[0], r, 0.1))


def test_the_record_has_every_noise_within_its_limit() -> None:
    from benchmarks import chip_cost

    rows = json.loads(chip_cost.RECORD.read_text(encoding="utf-8"))["noises"]
    assert set(rows) == set(chip_cost.noises())
    for name, row in rows.items():
        assert row["met"] == (max(row["ratio"][1], row["ratio_elapsed"][1]) <= row["limit"]), name
        assert row["met"], name
