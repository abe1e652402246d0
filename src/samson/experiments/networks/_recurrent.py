"""Recurrent networks that read a series step by step and classify it by their last state."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from samson.experiments.networks._shapes import Shape, require_kind

WIDTH = 64


class RecurrentClassifier(nn.Module):
    """A recurrent layer of `WIDTH` units, and a linear layer on the state after the last step."""

    def __init__(self, layer: type[nn.GRU] | type[nn.LSTM], channels: int, outputs: int) -> None:
        super().__init__()
        self.recurrent = layer(channels, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map series (batch, steps, channels) to logits (batch, outputs)."""
        states, _ = self.recurrent(x)
        return cast("Tensor", self.head(states[:, -1]))


def gru(shape: Shape, outputs: int) -> nn.Module:
    """One layer of 64 gated recurrent units for series: 14,790 parameters for 9 channels and 6 classes.

    Reference: Cho et al. 2014, arXiv 1406.1078, section 2.3; torch's variant gates the state after its matrix.
    """
    require_kind("gru", shape, "series")
    return RecurrentClassifier(nn.GRU, shape[1], outputs)


def lstm(shape: Shape, outputs: int) -> nn.Module:
    """One layer of 64 long short-term memory cells for series: 19,590 parameters for 9 channels and 6 classes.

    Reference: Hochreiter and Schmidhuber 1997, Neural Computation 9, 1735; torch's variant has forget gates.
    """
    require_kind("lstm", shape, "series")
    return RecurrentClassifier(nn.LSTM, shape[1], outputs)
