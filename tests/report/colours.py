"""How well a colour is seen on another, by WCAG 2."""

from collections.abc import Sequence


def rgb(colour: str) -> list[float]:
    """Red, green and blue of "#rrggbb" or "#rgb", from 0 to 1."""
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    return [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """The contrast of two colours: 1 for the same, 21 for black on white."""
    lights = []
    for colour in (one, other):
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
        lights.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(lights) + 0.05) / (min(lights) + 0.05)
