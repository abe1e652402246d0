"""Phase-change memory: the devices with published constants, and those with constants of one's own."""

from __future__ import annotations

from dataclasses import dataclass

from samson._checks import require
from samson.noise._curves import InversePower, Logarithmic
from samson.noise._phase_change import PhaseChange, PhaseChangeConstants
from samson.noise._types import require_types

GENERIC = PhaseChangeConstants(
    g_max_us=25.0,
    reference_s=20.0,
    read_s=250e-9,
    programming=(0.26348, 1.9650, -1.1731),
    drift_mean=Logarithmic(-0.0155, 0.0244, 0.049, 0.1),
    drift_deviation=Logarithmic(-0.0125, -0.0059, 0.008, 0.045),
    read=InversePower(0.0088, 0.65, 1e-3, 0.2),
)
"""aihwkit `inference/noise/pcm.py`."""

_HERMES_DRIFT_MEAN = Logarithmic(-0.0387, -0.0182, 0.0720, 0.13, 0.0945, (0.0736, -0.0126, -0.0436))
HERMES = {
    1: PhaseChangeConstants(
        g_max_us=10.35,
        reference_s=200.0,
        read_s=512e-9,
        programming=(0.15781817, 2.32443916, -2.16310839, 0.68841818),
        drift_mean=_HERMES_DRIFT_MEAN,
        drift_deviation=Logarithmic(-0.0120, -0.0023, 0.0124, 0.04, 0.3039, (0.0104, 0.0116, -0.0165)),
        read=Logarithmic(-0.0078, 0.0038, 0.0179, 0.04, 0.1591, (0.0088, 0.0768, -0.1352, 0.0664)),
    ),
    2: PhaseChangeConstants(
        g_max_us=20.7,
        reference_s=300.0,
        read_s=512e-9,
        programming=(0.16603222, 4.71806468, -8.48101252, 4.68961419),
        drift_mean=_HERMES_DRIFT_MEAN,
        drift_deviation=Logarithmic(-0.0117, -0.0057, 0.0091, 0.04, 0.3055, (0.0073, 0.0093, -0.0118)),
        read=Logarithmic(-0.0117, -0.0069, 0.015, 0.04, 0.16, (0.0123, 0.0211, -0.0280, 0.0069)),
    ),
}
"""By the devices of a cell that act as one: aihwkit `inference/noise/hermes.py`."""

NOTHING = Logarithmic(0.0, 0.0, 0.0, 0.0)
"""The curve of what a device does not have."""
JOSHI2020 = PhaseChangeConstants(
    g_max_us=25.0,
    reference_s=27.36,
    read_s=250e-9,
    programming=(0.28638599, 25 * 0.07585724, -(25**2) * 0.00178767),
    drift_mean=NOTHING,
    drift_deviation=NOTHING,
    read=NOTHING,
)
"""Programming errors alone, σ = .28638599 + .07585724 g − .00178767 g² µS over g in µS: CrossSim's fit to figure 3b of
Joshi et al. 2020, read 27.36 s after programming. Without drift and read noise the two times have no effect."""


@dataclass(frozen=True)
class PCM(PhaseChange):
    """Phase-change memory of Joshi et al. 2020 and Nandakumar et al. 2019, as simulated by aihwkit's PCM-like noise.

    See `PhaseChange` for the formulas; times count from the reference read, 20 s after programming. A chip holds four
    numbers a weight, four times the memory of a float32 model.

    Where aihwkit differs: Q is taken from the programmed conductance, as in its code; its documentation says the
    target. Pairs drift as they were programmed; its stand-alone drift re-maps the programmed difference by its new
    maximum. Its read-out for compensation contains forward noise; ours contains read noise alone, and is one factor for
    each part of the mapping, where its is one for each tile. Its `apply_noise` raises at t = 0, and
    draws other devices at each time; here t = 0 is read noise without drift, and a chip keeps its devices.

    Args:
        time_s: Time of a reading that names none, in seconds, ≥ 0; None is the programmed state.
        mapping: How weights are laid out on devices.
        compensation: "global", "column" or None.
        g_max_us: Largest programmed conductance, in µS.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> day = PCM(time_s=86_400)
        >>> day(torch.ones(2, 3), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3])

    Reference: aihwkit `inference/noise/pcm.py`, after Joshi et al. 2020, Nature Communications 11, 2473 [MEM], and
    Nandakumar et al. 2019, ICECS, as named there. Constants: `GENERIC`. `JOSHI2020` is another fit to the first's data.
    """

    g_max_us: float = 25.0

    @property
    def largest_us(self) -> float:
        """`g_max_us`."""
        return self.g_max_us

    @property
    def constants(self) -> PhaseChangeConstants:
        """`GENERIC`."""
        return GENERIC


@dataclass(frozen=True)
class PCMHermes(PhaseChange):
    """Phase-change devices of the Hermes chip, one or two to a conductance.

    See `PhaseChange` for the formulas. Two devices act as one with twice the conductance and constants of its own:
    g_max is 10.35 µS or 20.7 µS, and times count from 200 s or 300 s after programming.

    Where aihwkit differs: its default is two devices, ours one. Two are programmed by another method (Vasilopoulos et
    al. 2023), whose dynamic mapping of conductances neither simulates: the drift of two is worse than was measured on
    the chip, says its own note. Q is taken from the programmed conductance, as in its code. It takes a smaller g_max
    too; here g_max is the characterised one. What `PCM` says of pairs, compensation and t = 0 holds here too.

    Args:
        time_s: Time of a reading that names none, in seconds, ≥ 0; None is the programmed state.
        mapping: How weights are laid out on devices.
        compensation: "global", "column" or None.
        devices: Devices to a conductance, 1 or 2.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> PCMHermes(time_s=3600.0)(torch.ones(2, 3), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3])

    Reference: aihwkit `inference/noise/hermes.py`, and as named there Le Gallo et al. 2023, Nature Electronics, and
    Khaddam-Aljameh et al. 2022, JSSC (the chip), Vasilopoulos et al. 2023, TED (programming two devices), Nandakumar et
    al. 2019, ICECS (the form of the model). Constants: `HERMES`.
    """

    devices: int = 1

    def __post_init__(self) -> None:
        require_types(self)
        require(self.devices in HERMES, "devices", "be 1 or 2", self.devices)
        super().__post_init__()

    @property
    def constants(self) -> PhaseChangeConstants:
        """Of `HERMES`."""
        return HERMES[self.devices]


@dataclass(frozen=True)
class CustomPCM(PhaseChange):
    """Phase-change devices with constants of one's own.

    See `PhaseChange` for the formulas; g_max is that of the constants. Without drift and read noise (curves that are 0)
    any device is described whose programming error is a polynomial of its conductance.

    Args:
        time_s: Time of a reading that names none, in seconds, ≥ 0; None is the programmed state.
        mapping: How weights are laid out on devices.
        compensation: "global", "column" or None.
        constants: Of the device; by default `GENERIC`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from dataclasses import replace
        >>> wider = CustomPCM(time_s=3600.0, constants=replace(GENERIC, programming=(0.5, 2.0)))
        >>> wider(torch.ones(2, 3), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3])

    Reference: the form of the constants is that of `PCM` and `PCMHermes`.
    """

    constants: PhaseChangeConstants = GENERIC
