"""Chips by name: devices with published constants, and where those come from."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from samson.noise.base import WeightNoise
from samson.noise.bit_errors import BitErrors
from samson.noise.cmo import CMO
from samson.noise.pcm import PCM, PCMHermes
from samson.noise.quantisation import Quantize
from samson.noise.reram import ReRAM


@dataclass(frozen=True)
class Preset:
    """A noise by name.

    Args:
        noise: With the published constants; `chip.at(time_s)` chooses the time.
        source: Where the constants were published.
    """

    noise: WeightNoise
    source: str


PRESETS: dict[str, Preset] = {
    "pcm": Preset(PCM(), "Joshi et al. 2020, Nature Communications 11, 2473; aihwkit inference/noise/pcm.py"),
    "pcm-hermes": Preset(PCMHermes(), "Hermes chip, one device; aihwkit inference/noise/hermes.py"),
    "reram-wan2022": Preset(ReRAM(), "Wan et al. 2022, Nature 608, 504; aihwkit inference/noise/reram.py"),
    "cmo-hfox": Preset(CMO(), "CMO/HfOx, .2 % acceptance; aihwkit inference/noise/reram.py"),
    "sram-0.80vmin": Preset(
        BitErrors(voltage=0.80, persistent=True), "Stutz et al. 2021, arXiv 2006.13977: plots, log-linear between"
    ),
    "int8": Preset(Quantize(8, per="channel"), "symmetric signed, per channel; no constants"),
    "int4": Preset(Quantize(4, per="channel"), "symmetric signed, per channel; no constants"),
}
"""The catalogue of chips, by name; `NOISES` holds the families that take a level."""


def preset(name: str) -> WeightNoise:
    """The noise of a chip by name.

    Raises:
        ValueError: If there is no such chip.

    Example:
        >>> preset("int8")
        Quantize(bits=8, scheme='symmetric', per='channel')
    """
    if name not in PRESETS:
        close = get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"`name` must be a known chip, got {name!r}.{hint} Available: {', '.join(PRESETS)}.")
    return PRESETS[name].noise
