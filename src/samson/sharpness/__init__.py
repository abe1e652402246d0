"""Sharpness: how much the loss rises around the weights, its curvature, and its landscape."""

from samson.sharpness._curvature import Trace, hessian_top, hessian_trace
from samson.sharpness._landscape import Landscape, ascent_landscape, random_landscape
from samson.sharpness._sharpness import WorstCase, average_rise, worst_case_rise
from samson.sharpness._surface import Surface, loss_surface

__all__ = [
    "Landscape",
    "Surface",
    "Trace",
    "WorstCase",
    "ascent_landscape",
    "average_rise",
    "hessian_top",
    "hessian_trace",
    "loss_surface",
    "random_landscape",
    "worst_case_rise",
]
