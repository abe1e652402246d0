"""Recurrent layers that compute by their parts, step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import PackedSequence

from samson.noise._parts import parts_of

State = tuple[Tensor, ...]
"""The hidden state h, and c of an LSTM."""


@_disable_dynamo  # torch.compiler.disable would import the compiler with this module
def recur(
    layer: nn.RNNBase, series: Tensor | PackedSequence, state: Tensor | State | None = None
) -> tuple[Tensor | PackedSequence, Tensor | State]:
    """What a recurrent layer gives if it computes by its parts; the arguments are those of torch's own `forward`.

    It is not compiled, as torch's own is not: each length of series would be a graph of its own.
    """
    if isinstance(series, PackedSequence):
        order, back = series.sorted_indices, series.unsorted_indices
        if state is not None and order is not None:
            state = tuple(one.index_select(1, order) for one in _several(state))
        data, state = _recur(layer, series.data, series.batch_sizes.tolist(), state)
        state = state if back is None else tuple(one.index_select(1, back) for one in state)
        return PackedSequence(data, series.batch_sizes, order, back), _as_torch(layer, state)
    batch = 1 if series.ndim == 2 else 0 if layer.batch_first else 1
    steps = (series.unsqueeze(1) if series.ndim == 2 else series).movedim(batch, 1)
    if state is not None and series.ndim == 2:
        state = tuple(one.unsqueeze(1) for one in _several(state))
    data, state = _recur(layer, steps.flatten(0, 1), [steps.shape[1]] * len(steps), state)
    outputs = data.view(*steps.shape[:2], data.shape[-1]).movedim(1, batch)
    if series.ndim == 2:
        outputs, state = outputs.squeeze(1), tuple(one.squeeze(1) for one in state)
    return outputs, _as_torch(layer, state)


def recur_once(layer: nn.RNNCellBase, inputs: Tensor, state: Tensor | State | None = None) -> Tensor | State:
    """What a recurrent cell gives if it computes by its parts; the arguments are those of torch's own `forward`."""
    count = 2 if isinstance(layer, nn.LSTMCell) else 1
    own = (inputs.new_zeros(*inputs.shape[:-1], layer.hidden_size),) * count if state is None else _several(state)
    cell = (
        _lstm if count == 2 else _gru if isinstance(layer, nn.GRUCell) else CELLS[f"RNN_{layer.nonlinearity}".upper()]
    )
    parts = parts_of(layer)
    found = cell(parts["ih"](inputs), parts["hh"](own[0]), own)
    return found if count == 2 else found[0]


def _recur(layer: nn.RNNBase, data: Tensor, sizes: list[int], state: Tensor | State | None) -> tuple[Tensor, State]:
    """The outputs and the last states of all layers and directions.

    Args:
        layer: The layer.
        data: The inputs of all time steps, one after the other.
        sizes: How many series each step has; the longest come first.
        state: Of (layers · directions, series, units); None begins with zeros.
    """
    ways = 2 if layer.bidirectional else 1
    if state is None:
        widths = (layer.proj_size or layer.hidden_size, layer.hidden_size)[: 2 if layer.mode == "LSTM" else 1]
        state = tuple(data.new_zeros(layer.num_layers * ways, sizes[0], width) for width in widths)
    first, ends, found = zip(*_several(state), strict=True), [], [data]
    for (depth, way), begin in zip(product(range(layer.num_layers), range(ways)), first, strict=True):
        if way == 0:
            data = F.dropout(torch.cat(found, dim=-1), layer.dropout, layer.training and depth > 0)
            found = []
        outputs, end = _run(layer, f"_l{depth}{'_reverse' * way}", data, sizes, begin, backwards=way == 1)
        found.append(outputs)
        ends.append(end)
    return torch.cat(found, dim=-1), tuple(torch.stack(one) for one in zip(*ends, strict=True))


def _run(
    layer: nn.RNNBase, suffix: str, data: Tensor, sizes: list[int], state: State, *, backwards: bool
) -> tuple[Tensor, State]:
    """The outputs and the last state of one direction of one layer, whose parts have a suffix.

    The inputs of all time steps are one call of a part, the states of each step another. What has ended, or has not
    begun, waits in its state.
    """
    parts = {name.removesuffix(suffix): part for name, part in parts_of(layer).items() if name.endswith(suffix)}
    for name in parts.keys() - {"ih"}:
        parts[name].calls = len(sizes)
    gates = parts["ih"](data).split(sizes)
    outputs: list[Tensor] = []
    for given in reversed(gates) if backwards else gates:
        old = tuple(one[: len(given)] for one in state)
        new = CELLS[layer.mode](given, parts["hh"](old[0]), old)
        if "hr" in parts:
            new = (parts["hr"](new[0]), *new[1:])
        outputs.append(new[0])
        state = tuple(torch.cat([now, last[len(given) :]]) for now, last in zip(new, state, strict=True))
    return torch.cat(outputs[::-1] if backwards else outputs), state


def _several(state: Tensor | State) -> State:
    return (state,) if isinstance(state, Tensor) else state


def _as_torch(layer: nn.RNNBase, state: State) -> Tensor | State:
    return state if layer.mode == "LSTM" else state[0]


def _lstm(given: Tensor, own: Tensor, state: State) -> State:
    i, f, g, o = (given + own).chunk(4, dim=-1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(given: Tensor, own: Tensor, state: State) -> State:
    (r, z, n), (own_r, own_z, own_n) = given.chunk(3, dim=-1), own.chunk(3, dim=-1)
    new, kept = (n + (r + own_r).sigmoid() * own_n).tanh(), (z + own_z).sigmoid()
    return ((1 - kept) * new + kept * state[0],)


CELLS: Mapping[str, Callable[[Tensor, Tensor, State], State]] = {
    "LSTM": _lstm,
    "GRU": _gru,
    "RNN_TANH": lambda given, own, _: ((given + own).tanh(),),
    "RNN_RELU": lambda given, own, _: ((given + own).relu(),),
}
"""The next state by torch's name of the kind, from what the inputs and the state give the gates, biases with them, and
the state. Reference: the formulas on the pages of `torch.nn.LSTM`, `torch.nn.GRU` and `torch.nn.RNN`."""
