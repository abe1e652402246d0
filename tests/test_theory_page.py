"""The picture of the theory's page: each ball is the one that its formula says, and the library makes it again."""

import re

import numpy as np
import pytest

from benchmarks.balls import BOTTOM, FILE, LAYERS, LEFT, RULES, SCALE, picture


def polygons(svg: str) -> list[np.ndarray]:
    """The points of each line."""
    found = re.findall(r'<polygon points="([^"]*)"', svg)
    return [np.array([[float(number) for number in point.split(",")] for point in line.split()]) for line in found]


SCALES = {
    "SAM, ρ = 0.4": lambda w: np.ones(2),
    "ASAM, ρ = 0.4": lambda w: abs(w) + 0.01,
    "SAMSON, ρ = 0.7": lambda w: (abs(w) + 0.01) / abs(w).max(),
    "range ball, ρ = 0.25": lambda w: np.full(2, abs(w).max()),
}
"""T of each rule, written again."""


def test_the_committed_picture_is_what_the_library_draws() -> None:
    drawn, committed = picture(), FILE.read_text(encoding="utf-8")
    for again, before in zip(polygons(drawn), polygons(committed), strict=True):
        np.testing.assert_allclose(again, before, atol=0.11)
    without = [re.sub(r' points="[^"]*"', "", svg) for svg in (drawn, committed)]
    assert without[0] == without[1]


@pytest.mark.parametrize("number", range(len(LAYERS) * len(RULES)))
def test_a_ball_is_that_of_the_formula(number: int) -> None:
    w, name = np.array(LAYERS[number // len(RULES)]), list(RULES)[number % len(RULES)]
    pixels = polygons(FILE.read_text(encoding="utf-8"))[number]
    moved = np.stack([pixels[:, 0] - LEFT, BOTTOM - pixels[:, 1]], axis=1) / SCALE - w

    def sizes(scale: np.ndarray) -> np.ndarray:
        return np.linalg.norm(moved / scale, axis=1)

    rho = float(name.split("= ")[1])
    precision = 0.05 * 2**0.5 / SCALE / SCALES[name](w).min()  # of a pixel's tenth, in units of the ball
    np.testing.assert_allclose(sizes(SCALES[name](w)), rho, atol=1.01 * precision)
    other = "ASAM, ρ = 0.4" if name.startswith(("SAM,", "range")) else "SAM, ρ = 0.4"  # a ball of another shape
    assert np.ptp(sizes(SCALES[other](w))) > 0.1 * rho
