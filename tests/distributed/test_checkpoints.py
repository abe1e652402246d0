"""Resuming through `torch.distributed.checkpoint` in a single process, without any process group."""

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn

if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

from samson import SAM, SharpnessAware, WeightClipping, param_groups
from tests.distributed.checkpoints import load, resume
from tests.distributed.harness import contents, distance
from tests.distributed.methods import ALL, CLIPPED, MODES, Make, clipped, make_batch, make_net, train

BATCHES = [make_batch(seed) for seed in range(6)]
quiet = pytest.mark.filterwarnings("ignore:torch.distributed is disabled", "ignore::DeprecationWarning")


@pytest.mark.parametrize("method", ALL)
@quiet
def test_resuming_is_bit_exact(method: str, tmp_path: Path) -> None:
    resume(ALL[method], BATCHES, tmp_path, lambda model: model)


@pytest.mark.parametrize("method", ["samson", "reuse", "noise", "clip-learned"])
@quiet
def test_resuming_without_the_optimizer_would_be_noticed(method: str, tmp_path: Path) -> None:
    def weights_alone(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
        load(model, ALL[method](model), folder)

    with patch("tests.distributed.checkpoints.load", weights_alone), pytest.raises(AssertionError):
        resume(ALL[method], BATCHES, tmp_path, lambda model: model)


@pytest.mark.parametrize("method", ["samson", *MODES, *CLIPPED])
def test_reading_the_state_before_the_first_step_changes_nothing(method: str) -> None:
    """Torch then makes the state by a step with a learning rate of 0, which must not count as one.

    There is no weight decay, which would enter the momentum even then, in plain SGD too.
    """
    ends = []
    for read in (False, True):
        model = make_net()
        optimizer = ALL[method](model)
        for group in optimizer.param_groups:
            group["weight_decay"] = 0.0
        if read:
            get_optimizer_state_dict(model, optimizer)
        train(model, optimizer, BATCHES[:4])
        ends.append(contents(model, optimizer))
    assert distance(*ends) == 0


def plain_sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(param_groups(model), lr=0.02)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: SharpnessAware(plain_sgd(model), SAM(rho=0.2), every=4),
        clipped(lambda: WeightClipping(alpha=1.2), plain_sgd),
    ],
    ids=["every", "clip"],
)
def test_reading_the_state_between_steps_changes_nothing(make: Make) -> None:
    """A base without state of its own is prepared anew at each reading, here after a step that does not climb."""
    ends = []
    for read in (False, True):
        model = make_net()
        optimizer = make(model)
        for batch in BATCHES:
            train(model, optimizer, [batch])
            optimizer.zero_grad()
            if read:
                get_optimizer_state_dict(model, optimizer)
        ends.append(contents(model, optimizer))
    assert distance(*ends) == 0
