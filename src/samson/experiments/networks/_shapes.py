"""Shapes of examples, and what a network says to one that it does not take."""

from __future__ import annotations

from samson._errors import SetupError

Shape = tuple[int, ...]
"""Shape of one example: (channels, height, width) of an image, (steps, channels) of a series, (length,) of tokens,
(features,) of a vector."""

AXES = {
    "tokens": ("length",),
    "vectors": ("features",),
    "series": ("steps", "channels"),
    "images": ("channels", "height", "width"),
}
"""Kinds of examples, by what their axes are."""

TAKERS = {
    "tokens": "gpt-small, gpt-tiny",
    "vectors": "mlp",
    "series": "gru, lstm, mlp",
    "images": "small-resnet, resnet20, vit-small-patch4, mlp",
}
"""Some networks for each kind: the mend of an error."""


def require_kind(network: str, shape: Shape, *kinds: str) -> None:
    """Raise ValueError unless a network of that name takes examples of this shape.

    Args:
        network: Name in the catalogue.
        shape: Shape of one example.
        kinds: What the network takes, of `AXES`.
    """
    given = [kind for kind, axes in AXES.items() if len(axes) == len(shape) and min(shape) >= 1]
    if set(given) & set(kinds):
        return
    rule = " or ".join(f"{kind} of shape {AXES[kind]}".replace("'", "") for kind in kinds)
    takers = "; ".join(f"for {kind}: {TAKERS[kind]}" for kind in given)
    mend = f"Take a network {takers}." if given else "Give one example's shape, every axis ≥ 1."
    raise SetupError(f"`{network}` must have {rule}, got {shape}. {mend}")


def require_images(network: str, shape: Shape, side: int = 1, *, divisible: bool = False) -> None:
    """Raise ValueError unless the shape is that of images, of which no side is too short.

    Args:
        network: Name in the catalogue.
        shape: Shape of one example.
        side: Least height and width in pixels.
        divisible: Whether height and width must be multiples of `side`.
    """
    require_kind(network, shape, "images")
    if any(n < side or (divisible and n % side) for n in shape[1:]):
        rule = f"a multiple of {side}" if divisible else f"≥ {side}"
        raise SetupError(
            f"`{network}` must have images whose height and width are {rule}, got {shape}. "
            "Pad or resize them, or take a network for any size: small-resnet, resnet20, mlp."
        )
