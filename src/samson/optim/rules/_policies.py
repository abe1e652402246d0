"""Policies: which tensors a rule scales, by name, so that a record can state it."""

from collections.abc import Callable

from torch import Tensor

Policy = Callable[[str, Tensor], bool]


def authors(name: str, tensor: Tensor) -> bool:
    """Scale every parameter whose name contains "weight"; the SAMSON authors' choice.

    That is convolutions, linear layers and the scales of norm layers. Everything else (biases) gets T = 1: it is
    still perturbed and still counts in the global norm.

    Reference: the authors' public code, github.com/sebastienwood/SamsonViT (2023-11).
    """
    return "weight" in name


def matrices(name: str, tensor: Tensor) -> bool:
    """Scale tensors of at least two axes: weight matrices and convolutions, but no scale or bias with one axis."""
    return tensor.ndim >= 2


def every(name: str, tensor: Tensor) -> bool:
    """Scale every parameter, biases too, as davda54's SAM does in its adaptive mode."""
    return True


POLICIES: dict[str, Policy] = {"authors": authors, "matrices": matrices, "all": every}
"""Policies by the name under which a rule takes them and a record states them."""

NAMELESS = frozenset({"matrices", "all"})
"""Policies that look at the tensor alone and therefore need no parameter names."""
