"""Which parameters lie on a chip: the weight matrices of layers, known by the layers' types."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from samson._layers import DIGITAL, weights_of


def chip_weights(parameters: Iterable[Tensor], models: Iterable[nn.Module | None], what: str) -> list[Tensor]:
    """Pick the weight matrices of linear, convolution, attention, recurrent and bilinear layers.

    Embeddings, scales and biases stay digital, and so does what a layer of another type owns. A parameter that none
    of the models owns is a matrix if it has two axes or more with more than one element.

    Args:
        parameters: Any parameters; those that are not real floating-point numbers lie on no chip.
        models: The models that own them; None is none.
        what: What is about to change the weights, for the error.

    Raises:
        ValueError: If the weight of a layer is computed from some of the parameters.
    """
    real = [p for p in parameters if p.is_floating_point()]
    wanted, owned, matrices = set(real), set[Tensor | None](), set[Tensor]()
    for path, module in ((path, m) for model in models if model is not None for path, m in model.named_modules()):
        owned.update(module._parameters.values())
        for matrix in () if isinstance(module, DIGITAL) else weights_of(module):
            weight = module._parameters.get(matrix.attribute)
            if weight is not None:
                matrices.add(weight)
            elif not wanted.isdisjoint(_sources(module, matrix.attribute)):
                raise ValueError(
                    f"`{f'{path}.{matrix.attribute}'.lstrip('.')}` must be a parameter for {what}, got a weight that a "
                    "parametrization, weight norm or pruning computes. Make it one by "
                    "`torch.nn.utils.parametrize.remove_parametrizations` or `torch.nn.utils.prune.remove`, or leave "
                    "the layer's parameters out of the optimizer."
                )
    return [p for p in real if p in matrices or (p not in owned and _looks_like_a_matrix(p))]


def _sources(layer: nn.Module, attribute: str) -> list[Tensor]:
    """The parameters from which a layer computes a weight."""
    found: list[Tensor] = [
        p for name, p in layer._parameters.items() if p is not None and name.startswith(f"{attribute}_")
    ]
    parametrizations = layer._modules.get("parametrizations")
    of_weight = None if parametrizations is None else parametrizations._modules.get(attribute)
    return found if of_weight is None else [*found, *of_weight.parameters()]


def _looks_like_a_matrix(p: Tensor) -> bool:
    return (p.ndim == 2 and p.shape[1] > 1) or sum(size > 1 for size in p.shape) >= 2
