"""Hooks on the layers of a model: a periphery while a chip is read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial, reduce
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from samson._layers import is_compiled
from samson._names import suggestion
from samson._select import layer_names, plain_name
from samson.noise._arrays import Array
from samson.noise._forward import computes_as_torch
from samson.noise._operations import Operation, operation_of
from samson.noise._parts import WHOLE, Part, parts_of
from samson.noise._periphery import Periphery
from samson.noise._random import exactly
from samson.noise._selection import ChipTensor
from samson.noise._unpacked import unpacked
from samson.noise._watching import input_alone


def hooked_layers(model: nn.Module, tensors: Sequence[ChipTensor]) -> dict[str, nn.Module]:
    """The layers of weights on the chip, by name, if hooks can reach each of them.

    The parts of attention and of recurrent layers are layers too, which they have inside `unpacked`.

    Raises:
        ValueError: If a layer is of a type that hooks do not reach, has no weights or computes otherwise than torch's,
            or if a part of the model is compiled: there a hook would not fire.
    """
    for path, module in model.named_modules():
        if is_compiled(module):
            name = f"`{plain_name(path + '.').rstrip('.')}`" if path else "the model"
            raise ValueError(
                f"`periphery` must go on a model that is not compiled, but {name} is. Deploy the original."
            )
    on_chip = {module for t in tensors for module in t.place.modules}
    layers: dict[str, nn.Module] = {}
    named = layer_names(model)
    strange = {n: m for n, m in named.items() if m in on_chip and operation_of(m) is None and not isinstance(m, WHOLE)}
    if strange:
        name, module = next(iter(strange.items()))
        own = [f"!{n}" if n else f"!{t.name}" for n, m in strange.items() for t in tensors if m in t.place.modules]
        raise ValueError(
            "`periphery` must go on linear, convolution and recurrent layers and attention, but "
            f"`{name or 'model'}` is a {type(module).__name__}, which hooks do not reach. Leave out with `select` what "
            f"they do not reach: {json.dumps(['default', *dict.fromkeys(own)])}."
        )
    for name, module in named.items():
        if module in on_chip or (isinstance(module, nn.MultiheadAttention) and module.out_proj in on_chip):
            if not computes_as_torch(module):
                raise ValueError(
                    f"`periphery` must go on layers that compute as torch's do, but `{name or 'model'}`, a "
                    f"{type(module).__name__}, has a `forward` of its own, which would be lost. Leave it out with "
                    "`select`."
                )
            layers |= _named(name, module)
    held = held_by(layers, tensors)
    empty = next((name for name, tensor in held.items() if not tensor.weight.numel()), None)
    if empty is not None:
        raise ValueError(
            f"`periphery` must go on layers with weights, but `{empty or 'model'}` has none. Leave it out "
            "with `select`."
        )
    return {name: layers[name] for name in held}


def _named(name: str, layer: nn.Module) -> dict[str, nn.Module]:
    """A layer, or its parts, by name."""
    return {f"{name}.{part}".lstrip("."): one for part, one in parts_of(layer).items()} or {name: layer}


def held_by(layers: Mapping[str, nn.Module], tensors: Sequence[ChipTensor]) -> dict[str, ChipTensor]:
    """The weight on the chip that each of these layers computes with, by the layer's name; not for one without."""
    held = {(module, attribute, t.matrix.part): t for t in tensors for module, attribute in t.place.users}
    keys = {
        name: (layer.whole, layer.matrix.attribute, layer.matrix.part)
        if isinstance(layer, Part)
        else (layer, "weight", "")
        for name, layer in layers.items()
    }
    return {name: held[key] for name, key in keys.items() if key in held}


def operations_of(model: nn.Module, layers: Mapping[str, nn.Module], periphery: Periphery) -> dict[str, Operation]:
    """The operation of each layer on the chip, with its input range and ADC bound.

    Layers of the model that are not on the chip may have them too: one calibration serves every selection within it.

    Raises:
        ValueError: If one has none where others do, or one is for what is no layer of the model; if ADCs that round
            have no bound.
    """
    periphery.require_bounds()
    known = [name for whole in layer_names(model).items() for name, one in _named(*whole).items() if operation_of(one)]
    for parameter in ("input_ranges", "adc_bounds"):
        values = getattr(periphery, parameter)
        for name in values:
            if name not in known:
                raise ValueError(
                    f"`{parameter}` must name layers of the model and parts of them, got {name!r}. "
                    f"{suggestion(name, known)}"
                )
        missing = [name for name in layers if values and name not in values]
        if missing:
            raise ValueError(
                f"`{parameter}` must name each layer on the chip; {missing[0]!r} is not there. Calibrate again."
            )
    ranges, bounds = periphery.input_ranges, periphery.adc_bounds
    several = next((name for name in layers if isinstance(bounds.get(name), tuple)), None)
    if several is not None and periphery.adc_per == "weight":
        raise ValueError(
            f"`adc_bounds` must be one number a layer with adc_per='weight', got {bounds[several]!r} for "
            f"{several!r}. Calibrate again, or say `adc_per`."
        )
    return {
        name: replace(cast("Operation", operation_of(layer)), input_range=ranges.get(name), adc_bound=bounds.get(name))
        for name, layer in layers.items()
    }


@contextmanager
def attached(
    model: nn.Module,
    layers: dict[str, nn.Module],
    periphery: Periphery,
    arrays: Mapping[str, Sequence[Array]],
    generators: dict[str, Generator],
    counts: Counter[str],
) -> Iterator[None]:
    """Let layers compute as a periphery does until the block ends, and count how often each is reached.

    The arrays of each layer and its generator come by the layer's name.

    Raises:
        RuntimeError: At the end of the block, if a layer was never reached.
    """
    counts.update(dict.fromkeys(layers, 0))

    def compute(name: str, layer: nn.Module, args: Any, keywords: dict[str, Tensor], output: Tensor) -> Tensor:
        counts[name] += 1
        inputs = input_alone(f"`{name}`, a {type(layer).__name__} with a periphery,", args, keywords)
        weight, bias = cast("Tensor", layer.weight), layer.bias
        with exactly(inputs.device):
            result = reduce(
                torch.add, (one.output(periphery, inputs, weight, generators[name]) for one in arrays[name])
            )
        if bias is not None:
            result = result + arrays[name][0].operation.along_outputs(cast("Tensor", bias))
        return result.to(output.dtype)

    with unpacked(model, layers) as live, ExitStack() as stack:
        for name, layer in live.items():
            hook = partial(compute, name)
            stack.enter_context(layer.register_forward_hook(hook, prepend=True, with_kwargs=True))
        yield
    missed = [name for name in layers if not counts[name]]
    if missed:
        raise RuntimeError(
            "The model was not run, or takes weights of layers without calling these. Leave out with `select` those "
            f"whose periphery was not reached: {', '.join(missed)}."
        )
