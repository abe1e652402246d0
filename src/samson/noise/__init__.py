"""Simulated hardware: what a noisy chip does to the weights of any PyTorch model, without converting it."""

from collections.abc import Callable
from functools import partial

from samson.noise.base import State, WeightNoise
from samson.noise.chip import Chip, deploy
from samson.noise.gaussian import Gaussian
from samson.noise.random import generator_for, standard_normal
from samson.noise.selection import ChipTensor, on_chip

NOISES: dict[str, Callable[[float], WeightNoise]] = {
    "gaussian": Gaussian,
    "gaussian-channel": partial(Gaussian, per="channel"),
    "gaussian-multiplicative": partial(Gaussian, per="weight"),
}
"""The catalogue: a family of noises by name, from a level; a row here joins the command line and contract tests."""

__all__ = [
    "NOISES",
    "Chip",
    "ChipTensor",
    "Gaussian",
    "State",
    "WeightNoise",
    "deploy",
    "generator_for",
    "on_chip",
    "standard_normal",
]
