"""Where a training runs: one device, in one thread, or several processes that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from samson._errors import SetupError, choose, require

PARALLEL = ("ddp", "fsdp2")


@dataclass(frozen=True)
class Place:
    """A device, and this process's part in the work.

    Args:
        device: Where tensors lie.
        rank: Number of this process, from 0.
        world: Number of processes.
        parallel: How they share a network: "ddp" (each has all of it) or "fsdp2" (each has a shard).
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    world: int = 1
    parallel: str = "ddp"

    @property
    def fast_bfloat16(self) -> bool:
        """Whether bfloat16 is much faster than float32 here: on GPUs and processors that multiply in it."""
        if self.device.type == "cuda":
            return bool(torch.cuda.is_bf16_supported())
        if self.device.type != "cpu":
            return False
        asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16"))
        return any(supported() for supported in asked if supported is not None)

    def precision_for(self, model: nn.Module) -> str:
        """What "auto" is for a network: "bfloat16" where that is faster, or else "float32".

        On processors that is so of dense convolutions. Measured with one thread on one with AVX-512 for it: 1.6 to 1.9
        times as fast for VGG, ResNet and DenseNet, but half as fast for depthwise convolutions, and two thirds for a
        small transformer.
        """
        if not self.fast_bfloat16:
            return "float32"
        groups = [layer.groups for layer in model.modules() if isinstance(layer, nn.modules.conv._ConvNd)]
        return "bfloat16" if self.device.type == "cuda" or (groups and max(groups) == 1) else "float32"

    def shard(self, model: nn.Module) -> None:
        """Split a network over the processes, in place, if that was asked for; before its optimizer is made."""
        if self.world > 1 and self.parallel == "fsdp2":
            from torch.distributed.fsdp import fully_shard  # slow to import

            for layer in _layers(model):
                fully_shard(layer)
            fully_shard(model)

    def replicated(self, model: nn.Module) -> nn.Module:
        """A network whose gradients are averaged over the processes."""
        if self.world == 1 or self.parallel == "fsdp2":
            return model
        return DistributedDataParallel(model)

    def part(self, batch: Tensor) -> Tensor:
        """This process's examples of a batch; ValueError if there are not enough for all."""
        require(
            len(batch) >= self.world, "batch_size", f"at least {self.world}, one a process", len(batch), "Raise it."
        )
        return batch[self.rank :: self.world]

    def mean(self, loss: Tensor) -> Tensor:
        """The mean of a number over the processes."""
        if self.world == 1:
            return loss
        total = loss.clone()
        distributed.all_reduce(total)
        return total / self.world

    def whole_state(self, model: nn.Module) -> dict[str, Tensor]:
        """The state dict of a network without shards, in the first process; every process must ask."""
        if self.world > 1 and self.parallel == "fsdp2":
            from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            return cast("dict[str, Tensor]", get_model_state_dict(model, options=options))
        return model.state_dict()


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of a network, also those in lists, which have no forward of their own."""
    for layer in model.children():
        if isinstance(layer, (nn.ModuleList, nn.ModuleDict)):
            yield from _layers(layer)
        else:
            yield layer


def check_device(device: Any) -> torch.device:
    """A device of torch that is there.

    Raises:
        SetupError: If it is none, or not there.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise SetupError(f"`device` must be a device of torch, got {device!r}.\nWrite for example cuda.") from error
    there = found.type == "cpu" or (found.type == "cuda" and (found.index or 0) < torch.cuda.device_count())
    require(there, "`device`", "cpu, or a cuda that is there", device, "Leave it out for the processor.")
    return found


def find_device(device: str = "cpu") -> torch.device:
    """The device of this process: under torchrun a GPU without a number is that of its rank.

    Raises:
        SetupError: If it is not there.
    """
    found = check_device(device)
    if found.type == "cuda" and found.index is None:
        found = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if found.type == "cuda":
        torch.cuda.set_device(found)
    return found


@contextmanager
def find_place(device: str = "cpu", parallel: str = "ddp") -> Iterator[Place]:
    """The place of this process; under torchrun it joins the others until the block ends.

    Args:
        device: For example "cuda"; see `find_device`.
        parallel: How several processes share a network.

    Raises:
        SetupError: If `parallel` is unknown, or the device is not there.
    """
    choose("`parallel`", parallel, PARALLEL)
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = find_device(device)
    if world == 1:
        yield Place(chosen)
        return
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Place(chosen, rank, world, parallel)
    finally:
        distributed.destroy_process_group()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run with one thread inside the block, so that numbers do not depend on how many runs go side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
