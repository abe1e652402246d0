"""Saving and resuming by `torch.distributed.checkpoint`, in one process or in several."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from tests.distributed.harness import contents, distance
from tests.distributed.methods import Batch, Make, make_net, train


def states_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict

    return {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}


def save(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    import torch.distributed.checkpoint as dcp

    dcp.save(states_of(model, optimizer), checkpoint_id=folder)


def load(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import set_model_state_dict, set_optimizer_state_dict

    states = states_of(model, optimizer)
    dcp.load(states, checkpoint_id=folder)
    set_model_state_dict(model, states["model"])
    set_optimizer_state_dict(model, optimizer, states["optimizer"])


def resume(make: Make, batches: list[Batch], folder: Path, prepare: Callable[[nn.Module], nn.Module]) -> None:
    """Train, save two steps before the end, resume with new objects: they must end in the same bits."""
    straight = prepare(make_net())
    optimizer = make(straight)
    train(straight, optimizer, batches[:-2])
    save(straight, optimizer, folder)
    train(straight, optimizer, batches[-2:])

    resumed = prepare(make_net(seed=9))
    again = make(resumed)
    load(resumed, again, folder)
    assert again.param_groups is getattr(again, "base", again).param_groups
    train(resumed, again, batches[-2:])
    assert distance(contents(resumed, again), contents(straight, optimizer)) == 0
