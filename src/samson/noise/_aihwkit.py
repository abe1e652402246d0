"""A chip as a program for aihwkit, IBM's simulator of analog hardware, for those who trust that one."""

from __future__ import annotations

import math
from typing import NoReturn, cast

from torch import nn

from samson.noise._chip import Chip
from samson.noise._conductance import Mapping
from samson.noise._pcm import PCM, PCMHermes
from samson.noise._periphery import Periphery
from samson.noise._selection import ChipTensor
from samson.noise._types import require_type

_MODULES: dict[type, str] = {PCM: "pcm import PCMLikeNoiseModel", PCMHermes: "hermes import HermesNoiseModel"}
_PROGRAM = '''\
"""A kind of chip of samson on the torch tiles of aihwkit 1.1.0. Each time that these run, another chip is drawn:

    analog = to_aihwkit(model)
    analog.program_analog_weights(){drift}
"""

from aihwkit.inference.compensation.drift import GlobalDriftCompensation, PerColumnDriftCompensation
from aihwkit.inference.noise.{module} as NoiseModel
from aihwkit.nn import AnalogConv2d, AnalogLinear
from aihwkit.nn.conversion import convert_to_analog
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters.enums import BoundManagementType, NoiseManagementType
from torch import nn

LAYERS = {layers}
INPUT_RANGES = {ranges}
ADC_BOUNDS = {bounds}

config = TorchInferenceRPUConfig()
{settings}


def to_aihwkit(model):
    """A copy of a trained model in evaluation mode, with `LAYERS` on analog tiles."""

    def of_layer(name, layer, own):
        own.pre_post.input_range.init_value = INPUT_RANGES.get(name, 1.0)
        own.forward.out_bound = ADC_BOUNDS.get(name, config.forward.out_bound)
        return own

    kinds = {{nn.Linear: AnalogLinear, nn.Conv2d: AnalogConv2d}}
    digital = [name for name, layer in model.named_modules() if type(layer) in kinds and name not in LAYERS]
    analog = convert_to_analog(model, config, None, kinds, of_layer, exclude_modules=digital)
    found = sorted(name for name, _ in analog.named_analog_layers())
    if found != sorted(LAYERS):
        raise ValueError(f"`model` must have the layers {{LAYERS}}, but on tiles are {{found}}.")
    for tile in analog.analog_tiles():  # a column of zeros gets the scale of the layer's largest weight
        scales, empty = tile.mapping_scales, tile.tile.weight.abs().amax(dim=1) == 0
        if len(scales) > 1 and not empty.all():
            scales[empty] = scales[~empty].max()
    return analog.eval()
'''


def aihwkit_source(chip: Chip) -> str:
    """Write the program that puts a model onto this kind of chip in aihwkit.

    Run where aihwkit is installed, it defines `config`, a TorchInferenceRPUConfig with all that the chip has, and
    `to_aihwkit(model)`, which copies a model of these layers onto analog tiles, each with its own input range and ADC
    bound. Its first lines say how to program them and let them drift. The chips are drawn by aihwkit: of the same kind,
    not the same. What its torch tiles do not compute alike is refused: weight noise, IR drop, layers larger than a
    tile, noises other than `PCM` and `PCMHermes` with pairs from 0 to g_max, a periphery of one's own, and layers
    other than linear and two-dimensional convolution.

    Where aihwkit differs: its drift re-maps the programmed difference of a pair, for errors up to 3 % larger, and its
    read-out for compensation contains forward noise, which costs accuracy where outputs are very noisy (see `PCM`).

    Args:
        chip: From `deploy`. Its model says which layers there are, its periphery has the input ranges that
            `ThroughChip` learned or `calibrate` found; without, each input vector is scaled by its own largest |x|.

    Raises:
        ValueError: If a part of the chip or a layer on it has no counterpart.

    Example:
        >>> from samson.noise import deploy
        >>> periphery = Periphery(dac_steps=254, output_noise=0.04, input_ranges={"": 3.0})
        >>> day = PCM(86_400.0, Mapping(per="channel"))
        >>> program = aihwkit_source(deploy(nn.Linear(8, 2), day, periphery=periphery))
        >>> [line for line in program.splitlines() if "config.forward.inp_res" in line]
        ['config.forward.inp_res = 254']

    Reference: aihwkit 1.1.0, `TorchInferenceRPUConfig`, `PCMLikeNoiseModel`, `HermesNoiseModel`.
    """
    require_type("chip", chip, Chip)
    noise, around = chip.noise, chip.periphery or Periphery()
    if not isinstance(noise, PCM | PCMHermes) or type(noise) not in _MODULES:
        _refuse("noise", noise, "it has none with these draws", "Deploy on PCM or PCMHermes")
    if type(around) is not Periphery:
        _refuse("periphery", around, "nobody there knows what it computes", "Deploy with a Periphery")
    columns, converts = noise.mapping == Mapping(per="channel"), around.adc_bound < math.inf or around.adc_bounds
    if not columns and (noise.mapping != Mapping() or converts or around.output_noise):
        why = "it has pairs from 0 to g_max, and outputs on the scale of the mapping"
        _refuse("mapping", noise.mapping, why, 'Use Mapping(per="channel")')
    for name in ("weight_noise", "ir_drop"):
        if value := getattr(around, name):
            _refuse(name, value, "its torch tiles have none", f"Deploy with replace(periphery, {name}=0.0)")
    for name, usual in (("adc_per", "weight"), ("input_slice_bits", None)):
        if (value := getattr(around, name)) != usual:
            why = "its torch tiles convert whole products"
            _refuse(name, value, why, f"Deploy with replace(periphery, {name}={usual!r})")
    if noise.time_s == 0:
        _refuse("time_s", noise.time_s, "its first reading is later", "Give 0.01, or None for the programmed weights")
    layers = [_layer(tensor, around.tile_inputs) for tensor in chip.tensors]
    devices = f"num_devices={noise.devices}, " if isinstance(noise, PCMHermes) else ""
    compensation = "PerColumn" if columns or noise.compensation == "column" else "Global"
    settings = {
        "mapping.max_input_size": int(around.tile_inputs or 0),
        "mapping.max_output_size": 0,
        "mapping.weight_scaling_omega": 1.0,
        "mapping.weight_scaling_columnwise": columns,
        "pre_post.input_range.enable": bool(around.input_ranges),
        "pre_post.input_range.init_from_data": 0,
        "forward.is_perfect": around == Periphery(),
        "forward.noise_management": f"NoiseManagementType.{'NONE' if around.input_ranges else 'ABS_MAX'}",
        "forward.bound_management": "BoundManagementType.NONE",
        "forward.inp_res": int(around.dac_steps or -1),
        "forward.inp_noise": float(around.input_noise),
        "forward.out_noise": float(around.output_noise),
        "forward.out_res": int(around.adc_steps or -1),
        "forward.out_bound": float(around.adc_bound) if around.adc_bound < math.inf else 0.0,
        "noise_model": f"NoiseModel({devices}g_max={float(noise.largest_us)!r})",
        "drift_compensation": f"{compensation}DriftCompensation()" if noise.compensation else None,
    }
    return _PROGRAM.format(
        drift="" if noise.time_s is None else f"\n    analog.drift_analog_weights({float(noise.time_s)!r})",
        module=_MODULES[type(noise)],
        layers=layers,
        ranges={name: float(value) for name, value in around.input_ranges.items() if name in layers},
        bounds={name: float(cast("float", value)) for name, value in around.adc_bounds.items() if name in layers},
        settings="\n".join(f"config.{name} = {value}" for name, value in settings.items()),
    )


def _layer(tensor: ChipTensor, tile_inputs: int | None) -> str:
    """The name of a layer, if one torch tile of aihwkit computes as it does."""
    name, layer, inputs = tensor.name.removesuffix("weight").rstrip("."), tensor.layer, tensor.weight[0].numel()
    convolves = type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros"
    if type(layer) is not nn.Linear and not (convolves and not isinstance(layer.padding, str)):
        why = "it has tiles for nn.Linear, and nn.Conv2d of one group, padded by a number of zeros"
        _refuse("select", f"{name}: {layer}", why, "Leave the layer out")
    if len(tensor.place.modules) > 1:
        _refuse("select", name, "its layers share no weights", "Untie the layers, or leave them out")
    if tile_inputs is not None and inputs > tile_inputs:
        _refuse("tile_inputs", tile_inputs, f"it maps tiles by themselves, of `{name}` too", f"Give {inputs}, or None")
    return name


def _refuse(name: str, value: object, why: str, mend: str) -> NoReturn:
    raise ValueError(f"`{name}` must have a counterpart in aihwkit, got {value!r}: {why}. {mend}.")
