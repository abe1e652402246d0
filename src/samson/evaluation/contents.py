"""What a value is made of, as far as a computation with it depends on that: code, modules, tensors, objects."""

from __future__ import annotations

import copyreg
import logging
import threading
import weakref
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from samson.evaluation.code_contents import code_contents, own, without_caches

_WITHOUT_INFLUENCE = (
    *(type(threading.Lock()), type(threading.RLock())),
    *(weakref.ref, weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet, weakref.ProxyType),
    *(logging.Logger, logging.LoggerAdapter, logging.Handler),
)
_NO_SETTING = {"training", *(name for name in vars(nn.Module()) if "hook" in name)}
"""What a module holds without an influence on a forward pass in evaluation mode; see `_hooks` for its hooks."""
_OF_A_GRAPH = {
    *("_graph", "_lineno_map", "_prologue_start", "_tracer_cls", "_tracer_extras", "meta", "shape_env"),
    *("_replace_hooks", "_create_node_hooks", "_erase_node_hooks", "_deepcopy_hooks"),
}
"""What a graph module holds besides its code, and how it was traced."""


def has_influence(value: object) -> bool:
    """Whether a value can have one on a forward pass: locks, weak references, logs and torch's compiler have none."""
    is_compiler = type(value).__module__ == "torch._dynamo.eval_frame" and not isinstance(value, nn.Module)
    return not (is_compiler or isinstance(value, _WITHOUT_INFLUENCE))


def contents(value: Any) -> tuple[Any, ...]:
    """The parts by which a value that is no plain one and no collection is told from others.

    Raises:
        Exception: Of any kind, if it does not show them.
    """
    parts = code_contents(value)
    match value:
        case _ if parts is not None:
            pass
        case torch.jit.ScriptModule():
            parts = "scripted", _saved(value.save_to_buffer()), _hooks(value)
        case torch.jit.ScriptFunction():
            parts = "scripted", _saved(value.save_to_buffer({}))
        case nn.Module():
            parts = _module(value)
        case Tensor():
            parts = _tensor(value)
        case np.ndarray() if type(value) is np.ndarray:
            parts = _array(value)
        case torch.Generator():
            parts = "generator", value.get_state()
        case _:
            parts = _object(value)
    return parts


def _module(module: nn.Module) -> tuple[Any, ...]:
    held = {name: value for name, value in own(module).items() if name not in _NO_SETTING}
    if isinstance(module, torch.fx.GraphModule):
        held = {name: value for name, value in held.items() if name not in _OF_A_GRAPH}
        return "graph", type(module).__bases__, held, module.graph._codegen, _hooks(module)
    state: dict[str, Any] = {}
    if type(module)._save_to_state_dict is not nn.Module._save_to_state_dict:
        module._save_to_state_dict(state, "", False)
    if type(module).get_extra_state is not nn.Module.get_extra_state:
        state["extra state"] = module.get_extra_state()
    return "module", type(module), held, state, _hooks(module)


def _saved(buffer: bytes) -> dict[str, bytes]:
    """Code and constants of a scripted module, without the lines of source and the calls that they came from."""
    with ZipFile(BytesIO(buffer)) as files:
        names = [name for name in files.namelist() if not name.endswith((".debug_pkl", "serialization_id"))]
        return {name: files.read(name) for name in names}


def _hooks(module: nn.Module) -> dict[str, Any]:
    """Those that a forward pass calls, and how; their keys count up in each process."""
    return {
        name: [
            (hook, key in getattr(module, f"{name}_with_kwargs"), key in module._forward_hooks_always_called)
            for key, hook in getattr(module, name).items()
        ]
        for name in ("_forward_hooks", "_forward_pre_hooks")
    }


def _tensor(tensor: Tensor) -> tuple[Any, ...]:
    if tensor.is_meta or torch.nn.parameter.is_lazy(tensor):
        raise ValueError("it has no values")
    kind = type(tensor), own(tensor)
    value = tensor.detach()
    if value.is_nested:
        return "nested", str(value.layout), *value.unbind()
    about = f"{value.dtype} {value.layout} {tuple(value.shape)}"
    if is_traceable_wrapper_subclass(tensor):
        names, context = tensor.__tensor_flatten__()
        return "wrapper", *kind, about, {name: getattr(tensor, name) for name in names}, context
    if value.layout is not torch.strided:
        return "tensor", *kind, about, value.to_dense()
    if value.is_quantized:
        return "quantised", *kind, about, value.stride(), _grid(value), value.int_repr()
    flat = value.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
    return "tensor", *kind, about, value.stride(), sha256(flat.numpy().data).digest()


def _grid(value: Tensor) -> tuple[Any, ...]:
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return value.q_scale(), value.q_zero_point()
    return value.q_per_channel_scales(), value.q_per_channel_zero_points(), value.q_per_channel_axis()


def _array(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    about = f"{array.dtype} {array.shape} {array.strides}"
    if array.dtype.hasobject:
        return "array", about, array.tolist()
    return "array", about, sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).digest()


def _object(value: Any) -> tuple[Any, ...]:
    """By what pickle would make it again from, or else by its own `__getstate__`."""
    kind = type(value)
    reduce: Callable[[Any], Any] = copyreg.dispatch_table.get(kind, lambda one: one.__reduce_ex__(4))
    try:
        found = reduce(value)
    except Exception:  # of whatever kind its own code raises
        if not any("__getstate__" in vars(one) for one in kind.__mro__[:-1]):
            raise
        found = None, None, value.__getstate__()
    if isinstance(found, str):
        return "name", kind, found
    function, arguments, state, items, pairs = (*found, None, None, None)[:5]
    state = without_caches(value, state) if isinstance(state, dict) else state
    return "object", kind, function, arguments, state, list(items or ()), list(pairs or ())
