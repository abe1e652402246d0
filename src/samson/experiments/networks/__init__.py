"""Networks by name, made for the shape of an example and a number of outputs. One family a file."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from samson.experiments.networks._densenet import densenet40
from samson.experiments.networks._gpt import gpt_small, gpt_tiny
from samson.experiments.networks._mlp import mlp
from samson.experiments.networks._mobilenet import mobilenetv2, mobilenetv2_narrow, mobilenetv2_tiny
from samson.experiments.networks._recurrent import gru, lstm
from samson.experiments.networks._resnets import resnet8, resnet18, resnet20, resnet34, small_resnet
from samson.experiments.networks._shapes import Shape
from samson.experiments.networks._vgg import vgg13, vgg13_narrow
from samson.experiments.networks._vit import vit_small_patch4
from samson.experiments.networks._wide_resnets import wrn16_4, wrn28_10

NETWORKS: dict[str, Callable[[Shape, int], nn.Module]] = {
    "small-resnet": small_resnet,
    "resnet8": resnet8,
    "resnet20": resnet20,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "wrn16-4": wrn16_4,
    "wrn28-10": wrn28_10,
    "vgg13": vgg13,
    "vgg13-narrow": vgg13_narrow,
    "densenet40": densenet40,
    "mobilenetv2": mobilenetv2,
    "mobilenetv2-narrow": mobilenetv2_narrow,
    "mobilenetv2-tiny": mobilenetv2_tiny,
    "vit-small-patch4": vit_small_patch4,
    "mlp": mlp,
    "gru": gru,
    "lstm": lstm,
    "gpt-small": gpt_small,
    "gpt-tiny": gpt_tiny,
}
"""Networks by name, made from the shape of one example and the number of outputs: classes, or words of a vocabulary."""

__all__ = ["NETWORKS", "Shape"]
