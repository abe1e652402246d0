"""Chips by name: what is published of a chip, and where."""

from __future__ import annotations

from dataclasses import dataclass

from samson._names import suggestion
from samson.noise._arrays import devices_of
from samson.noise._base import WeightNoise
from samson.noise._bit_errors import BitErrors
from samson.noise._cmo import CMO
from samson.noise._conductance import Mapping
from samson.noise._pcm import JOSHI2020, PCM, CustomPCM, PCMHermes
from samson.noise._periphery import STANDARD_HWA, Periphery
from samson.noise._quantisation import Quantize
from samson.noise._reram import ReRAM
from samson.noise._types import require_types


@dataclass(frozen=True)
class ChipModel:
    """A kind of chip: what it does to weights, what surrounds them, and where that is known from.

    It goes where a noise is asked for, as in the example; `chip.at(time_s)` chooses the time.

    Args:
        noise: What happens to the weights.
        source: Where the constants were published or measured.
        periphery: What surrounds the weights; None computes exactly with them.

    Example:
        >>> from torch import nn
        >>> from samson.noise import deploy
        >>> kind = preset("standard-hwa")
        >>> chip = deploy(nn.Linear(3, 2), kind)
    """

    noise: WeightNoise
    source: str
    periphery: Periphery | None = None

    def __post_init__(self) -> None:
        require_types(self)
        devices_of(self.noise, self.periphery)


_JOSHI = "Joshi et al. 2020, Nature Communications 11, 2473; aihwkit inference/noise/pcm.py"
_HERMES = (
    "Hermes chip, one device: Le Gallo et al. 2023, Nature Electronics; Khaddam-Aljameh et al. 2022, JSSC, both as "
    "named in aihwkit inference/noise/hermes.py"
)

PRESETS: dict[str, ChipModel] = {
    "pcm": ChipModel(PCM(), _JOSHI),
    "pcm-uncompensated": ChipModel(PCM(compensation=None), _JOSHI),
    "pcm-joshi2020": ChipModel(
        CustomPCM(constants=JOSHI2020),
        "Joshi et al. 2020, Nature Communications 11, 2473, figure 3b as fitted in CrossSim; programming errors alone",
    ),
    "pcm-hermes": ChipModel(PCMHermes(), _HERMES),
    "pcm-hermes-uncompensated": ChipModel(PCMHermes(compensation=None), _HERMES),
    "reram-wan2022": ChipModel(ReRAM(), "Wan et al. 2022, Nature 608, 504; aihwkit inference/noise/reram.py"),
    "cmo-hfox": ChipModel(CMO(), "CMO/HfOx, .2 % acceptance; aihwkit inference/noise/reram.py"),
    "sram-0.80vmin": ChipModel(
        BitErrors(voltage=0.80, persistent=True), "Stutz et al. 2021, arXiv 2006.13977: plots, log-linear between"
    ),
    "int8": ChipModel(Quantize(8, per="channel"), "symmetric signed, per channel; no constants"),
    "int4": ChipModel(Quantize(4, per="channel"), "symmetric signed, per channel; no constants"),
    "standard-hwa": ChipModel(
        PCM(mapping=Mapping(per="channel")),
        "Rasch et al. 2023, Nature Communications 14, 5282; aihwkit presets/inference.py",
        STANDARD_HWA,
    ),
}
"""The catalogue of chips, by name; `NOISES` holds the families that take a level.

Phase-change devices drift, and a chip multiplies by a factor that makes up for it: so does every chip here, but those
called `…-uncompensated`.

The standard model for hardware-aware training is phase-change devices, each output channel with a scale of its own,
inside `STANDARD_HWA`. That periphery holds the short-term read noise of the weights, .0175, as it is drawn anew for
each product; the devices' own read noise comes with a time. aihwkit also scales the part of a channel on each tile by
itself, and compensates drift by one factor a tile, where we have one a channel.
"""


def preset(name: str) -> ChipModel:
    """The chip of a name.

    Raises:
        ValueError: If there is no such chip.

    Example:
        >>> preset("int8").noise
        Quantize(bits=8, scheme='symmetric', per='channel')
    """
    if name not in PRESETS:
        raise ValueError(f"`name` must be a known chip, got {name!r}. {suggestion(name, PRESETS)}")
    return PRESETS[name]
