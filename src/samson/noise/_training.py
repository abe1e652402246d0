"""Training through a chip: a model in training mode computes as a periphery does, and learns its input ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from samson._batches import Examples
from samson._checks import require_non_negative, require_positive
from samson._layers import INPUT_RANGE
from samson._select import Select
from samson.noise._attachment import held_by, hooked_layers, operations_of
from samson.noise._operations import Operation
from samson.noise._parts import Part, parts_of
from samson.noise._periphery import Periphery
from samson.noise._random import working_dtype
from samson.noise._rounding import convert, convert_inputs, range_of
from samson.noise._selection import on_chip
from samson.noise._types import require_type
from samson.noise._unpacked import add_parts, by_parts, wholes_of
from samson.noise._watching import input_alone, require_numbers, require_reached, watch


class ThroughChip:
    """A model whose layers compute as a periphery does in training mode, those that `calibrate` takes.

    As with dropout, evaluation mode leaves the model as it is. Converters round with gradients straight through, and
    stop them where they saturate. Each layer's input range is a parameter `input_range` of the layer: it comes from
    data first, then follows its own gradient (see `convert_inputs`). Make the optimizer afterwards, from
    `param_groups(model)`, which puts the ranges in a group of their own, without perturbation and weight decay. Every
    rule, `NoiseInjection` (for what happens to the weights) and clipping go with it, and so do autocast, accumulation,
    DistributedDataParallel and `torch.compile`, both around the model that this was put on; for that the first one of a
    process makes the compiler look at hooks (`torch._dynamo.config.skip_nnmodule_hook_guards`), and forget what it
    made without. Noise is drawn from torch's global state, as dropout's is; that of inputs once an input, where a chip
    draws it for each product. Columns are scaled to the weights of the pass at hand, also while a rule or injected
    noise moves them.

    Args:
        model: The model, which is not converted.
        periphery: What surrounds the weights. If it has input ranges, learning starts from those.
        batches: Else training data, in any form that an evaluation takes; a few batches do. The model runs over them
            in training mode, and its buffers come back as they were.
        select: Which layers lie on the chip, as for `deploy`.
        deviations: The first range in standard deviations of the inputs, the mean over calls of the layer (for the
            states of a recurrent layer, over time steps); > 0.
        decay: Strength ≥ 0 of what narrows a range while more than 95 % of its inputs lie inside. It comes once with
            each call of a layer that a backward pass goes through (the time steps of a recurrent layer are one call,
            those of a cell in a loop are not), whatever the loss was scaled by: a GradScaler divides it away (take
            bfloat16, which needs none).

    Raises:
        ValueError: If a setting is out of its range, there are neither ranges nor batches, a layer is out of reach, the
            model is compiled or wrapped already, or the periphery is of a type that computes otherwise than its base.
        RuntimeError: If the model is trained through a chip already.

    Example:
        >>> from samson import SAMSON, SharpnessAware, param_groups
        >>> model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(16, 4)
        >>> through = ThroughChip(model, Periphery(dac_steps=254, adc_steps=254, adc_bound=12.0), [x])
        >>> optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), SAMSON(rho=0.5))
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = model(x).square().mean()
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)
        >>> periphery = through.remove()  # with the ranges that were learned, for `deploy`
        >>> sorted(periphery.input_ranges)
        ['0', '2']

    Reference: Rasch et al. 2023, Nature Communications 14, 5282 (hardware-aware training); aihwkit-lightning 2.1.0 and
    arXiv 2505.09663 for learned ranges, there from 3 or 18 deviations, bound 14, decay 0.001 or 0.01.
    """

    def __init__(
        self,
        model: nn.Module,
        periphery: Periphery,
        batches: Examples | None = None,
        select: Select = None,
        *,
        deviations: float = 3.0,
        decay: float = 0.001,
    ) -> None:
        require_type("periphery", periphery, Periphery)
        require_positive(deviations=deviations)
        require_non_negative(decay=decay)
        if isinstance(model, nn.parallel.DistributedDataParallel):
            raise ValueError(
                "`model` must not be wrapped in DistributedDataParallel yet. Pass the module, then wrap it."
            )
        if periphery.adc_per != "weight" or periphery.input_slice_bits is not None:
            raise ValueError(
                "`periphery` must convert whole products in training, got "
                f"adc_per={periphery.adc_per!r} with input_slice_bits={periphery.input_slice_bits!r}. Train through "
                '`replace(periphery, adc_per="weight", input_slice_bits=None)`, and deploy on all of it.'
            )
        for name in ("__call__", "conversions"):
            if getattr(type(periphery), name) is not getattr(Periphery, name):
                raise ValueError(
                    f"`periphery` must compute as a `Periphery` does in training, but {type(periphery).__name__} has "
                    f"its own `{name}`, which training would leave out. Train through a `Periphery` with its settings, "
                    "and deploy on yours."
                )
        tensors = on_chip(model, select)
        self.layers = hooked_layers(model, tensors)
        operations = operations_of(model, self.layers, periphery)
        taken = next((name for name, layer in self.layers.items() if hasattr(layer, INPUT_RANGE)), None)
        if taken is not None:
            raise RuntimeError(f"`{taken}` is trained through a chip already, or has an `{INPUT_RANGE}` of its own.")
        ranges = periphery.input_ranges or _first_ranges(model, self.layers, batches, deviations)
        _let_compilers_look_at_hooks()
        self._around = periphery
        self._hooks, held = [], held_by(self.layers, tensors)
        self._wholes = wholes_of(model, self.layers)
        for whole in self._wholes:
            add_parts(whole, self.layers)
            self._hooks.append(whole.register_forward_hook(_by_parts, prepend=True, with_kwargs=True))
        for name, operation in operations.items():
            layer, through = self.layers[name], _Through(operation, periphery, decay)
            weight = held[name].weight
            first = torch.full((1,), ranges[name], dtype=working_dtype(weight), device=weight.device)
            layer.register_parameter(INPUT_RANGE, nn.Parameter(first))
            self._hooks += [
                layer.register_forward_pre_hook(through.inputs, with_kwargs=True),
                layer.register_forward_hook(through.outputs, prepend=True, with_kwargs=True),
            ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def ranges(self) -> dict[str, float]:
        """The range of each layer's inputs as it is now; after `remove`, as it was learned."""
        if not self._hooks:
            return dict(self._around.input_ranges)
        return {name: float(range_of(_limit(layer))) for name, layer in self.layers.items()}

    @property
    def periphery(self) -> Periphery:
        """The periphery with the ranges as they are now, for `deploy`."""
        return replace(self._around, input_ranges=self.ranges)

    def remove(self) -> Periphery:
        """Leave the model as it was; gives the periphery with the ranges that were learned."""
        ranges = self.ranges
        for hook in self._hooks:
            hook.remove()
        for layer in self.layers.values() if self._hooks else ():
            delattr(layer, INPUT_RANGE)
        for whole in self._wholes:
            for name in parts_of(whole):
                if not hasattr(whole._modules.get(name), INPUT_RANGE):  # another may still train through it
                    whole._modules.pop(name, None)
        self._hooks, self._wholes = [], []
        self._around = replace(self._around, input_ranges=ranges)  # raises if one is no number
        return self._around


@dataclass(frozen=True)
class _Through:
    """How one layer is trained; holds no model, so that a copy of the model takes its hooks along."""

    operation: Operation
    periphery: Periphery
    decay: float

    def __setstate__(self, state: dict[str, Any]) -> None:
        _let_compilers_look_at_hooks()  # a model may come from another process
        self.__dict__.update(state)

    def inputs(self, layer: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, Any] | None:
        """The layer's input as its converters pass it on."""
        if not layer.training:
            return None
        values = input_alone(f"A {type(layer).__name__} that is trained through a chip", args, keywords)
        decay = self.decay / layer.calls if isinstance(layer, Part) else self.decay
        found = convert_inputs(values, _limit(layer), self.periphery.dac_steps, decay)
        if self.periphery.input_noise:
            size = self.periphery.input_noise * range_of(_limit(layer))
            found = found + size.to(found.dtype) * torch.randn_like(found)
        return (found,), {}

    def outputs(self, layer: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any], output: Tensor) -> Tensor:
        """The layer's output as the chip gives it, for the converted input."""
        if not layer.training:
            return output
        around, operation = self.periphery, self.operation
        weight, bias = cast("Tensor", layer.weight), cast("Tensor | None", layer.bias)
        limit = range_of(_limit(layer))
        column = around.columns(operation, weight.detach())  # groups, tiles, outputs
        offset = None if bias is None else operation.along_outputs(bias)
        bound = around.bound_of(operation)
        if around.ir_drop or around.weight_noise or column.shape[1] > 1:
            y = convert(around.analog(operation, args[0] / limit, weight, column), bound, around.adc_steps)
            total = operation.outputs((y * column * limit).sum(dim=-2))
            return (total if offset is None else total + offset).to(output.dtype)
        scale = operation.along_outputs(column[:, 0] * limit).to(output.dtype)
        if around.output_noise:
            output = output + around.output_noise * scale * torch.randn_like(output)
        if bound == math.inf:
            return output
        return convert(output, scale * bound, around.adc_steps, None if offset is None else offset.to(output.dtype))


def _by_parts(layer: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Any:
    if not layer.training:
        return output
    with parametrize.cached():  # a weight that is computed is computed once a pass, not once a time step
        return by_parts(layer, args, keywords, output)


def _let_compilers_look_at_hooks() -> None:
    """Else what was compiled for a model without these hooks, or with others, runs for all models of its class."""
    settings: Any = torch._dynamo.config
    if settings.skip_nnmodule_hook_guards:
        settings._config["skip_nnmodule_hook_guards"].default = False  # of all threads: what is set is this one's
        settings.skip_nnmodule_hook_guards = False
        torch.compiler.reset()


def _limit(layer: nn.Module) -> Tensor:
    return cast("Tensor", getattr(layer, INPUT_RANGE))


def _first_ranges(
    model: nn.Module, layers: dict[str, nn.Module], batches: Examples | None, deviations: float
) -> dict[str, float]:
    """The mean over batches of a number of standard deviations of each layer's inputs."""
    if batches is None:
        raise ValueError(
            "`batches` must be training data from which the first input ranges are taken, got None. Or give a "
            "periphery with `input_ranges`, as `calibrate` finds them."
        )
    found: dict[str, list[float]] = {}

    def look(name: str, inputs: Tensor) -> None:
        require_numbers(name, inputs)
        if inputs.numel():
            values = inputs.float()
            differ = values.amin() < values.amax()  # of equal ones rounding leaves a small deviation
            found.setdefault(name, []).append(deviations * float(values.std(correction=0)) if differ else 0.0)

    watch(model, layers, batches, look, training=True)
    require_reached(layers, found)
    return {name: sum(sizes) / len(sizes) or 1.0 for name, sizes in found.items()}
