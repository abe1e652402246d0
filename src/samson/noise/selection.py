"""Which tensors of a model lie on the chip, under which name and in which layout."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module)\.")

_NOT_YET = (nn.MultiheadAttention, nn.RNNBase, nn.Bilinear)
"""Layers with weight matrices of their own, which are not simulated yet and must not be passed over in silence."""


@dataclass(frozen=True, eq=False)
class ChipTensor:
    """One weight tensor on the chip.

    Args:
        name: The parameter's name without the prefixes of wrappers (DDP, compiled models).
        weight: The model's own parameter.
        groups: For a transposed convolution its number of groups, else 0.
    """

    name: str
    weight: nn.Parameter
    groups: int = 0

    def output_first(self, tensor: Tensor) -> Tensor:
        """The tensor with its output channels along the first axis, as noises expect it.

        Transposed convolutions are stored as (in, out / groups, …) and come as (out, in / groups, …).
        """
        if not self.groups:
            return tensor
        split = tensor.reshape(self.groups, -1, *tensor.shape[1:])
        return split.transpose(1, 2).flatten(0, 1)

    def stored(self, tensor: Tensor) -> Tensor:
        """The inverse of `output_first`."""
        return self.output_first(tensor)  # both swap the two axes within each group


def on_chip(model: nn.Module) -> list[ChipTensor]:
    """List the tensors that noise is written to: weights of linear and (transposed) convolution layers.

    Biases, norm layers and embeddings stay digital. A weight that several layers share is listed once.

    Raises:
        ValueError: If there is no such layer; if the model has attention, recurrent or bilinear layers; or if a
            weight is computed by a parametrisation or by pruning, or shared with a layer that stays digital, where
            a written value would be lost or would leak.
    """
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for path, module in model.named_modules():
        for _, parameter in module.named_parameters(recurse=False):
            owners.setdefault(id(parameter), []).append((path, module))
    found: dict[int, ChipTensor] = {}
    for path, module in model.named_modules():
        if isinstance(module, _NOT_YET):
            raise ValueError(
                f"Layer `{path}` is a {type(module).__name__}, whose weights cannot be put on a chip yet. "
                "Build it from nn.Linear layers."
            )
        if isinstance(module, (nn.Linear, _ConvNd)):
            weight = _plain_weight(path, module)
            digital = [p for p, owner in owners[id(weight)] if not isinstance(owner, (nn.Linear, _ConvNd))]
            if digital:
                raise ValueError(
                    f"The weight of layer `{path}` is shared with `{digital[0]}`, which stays digital, so noise would "
                    "leak into it. Untie the two before evaluating."
                )
            groups = module.groups if isinstance(module, _ConvTransposeNd) else 0
            found.setdefault(id(weight), ChipTensor(_WRAPPERS.sub("", f"{path}.weight"), weight, groups))
    if not found:
        raise ValueError(
            f"`model` must have a linear or convolution layer for the chip, got {type(model).__name__} with none: an "
            "evaluation would be without noise."
        )
    return list(found.values())


def _plain_weight(path: str, module: nn.Module) -> nn.Parameter:
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    if weight is None or parametrize.is_parametrized(module, "weight"):
        raise ValueError(
            f"The weight of layer `{path}` is computed (parametrised or pruned), so a value written to it would be "
            "lost. Make it permanent first: torch.nn.utils.parametrize.remove_parametrizations or prune.remove."
        )
    return weight
