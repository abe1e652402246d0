"""Trained networks on disk: safetensors, with a JSON file that says what they are."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn

from samson._errors import SetupError, choose, reason
from samson.experiments._networks import LIBRARIES, make_network
from samson.experiments._weights import load_weights
from samson.experiments.networks import NETWORKS
from samson.records import RecordError, read_json, replace_file, write_json


@dataclass(frozen=True)
class Checkpoint:
    """What a saved network is: enough to build it again and to find its data.

    Args:
        network: As it was asked for.
        shape: Shape of one example.
        outputs: Number of its outputs.
        data: The data set, as it was asked for.
        method: Training method.
        seed: Training seed.
        version: Version of this layout.
    """

    network: str
    shape: tuple[int, ...]
    outputs: int
    data: str
    method: str
    seed: int
    version: int = 2


def save_checkpoint(path: Path, state: Mapping[str, Tensor], about: Checkpoint) -> None:
    """Write `path` (`….safetensors`) and the JSON file beside it, each atomically."""
    replace_file(path, save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}))
    write_json(path.with_suffix(".json"), about)


def outputs_of(path: Path) -> int | None:
    """The number of outputs that the file beside saved weights tells; None if there is no such file, or no weights."""
    if not path.is_file():
        return None
    try:
        return read_json(path.with_suffix(".json"), Checkpoint).outputs
    except RecordError:
        return None


def load_checkpoint(path: Path) -> tuple[nn.Module, Checkpoint]:
    """Build the network again, in evaluation mode.

    Raises:
        SetupError: If a file is missing or damaged, or does not fit the network that it names.
    """
    if not path.is_file():
        raise SetupError(f"MODEL must be a `.safetensors` file, got {str(path)!r}, which is not there.")
    try:
        about = read_json(path.with_suffix(".json"), Checkpoint)
        name = about.network
        if ":" in name:  # the user alone names code to run
            words = shlex.join([name, "--weights", str(path), "--data", about.data])
            raise SetupError(
                f"MODEL {str(path)!r} holds a network of your own code, and a file names no code to run.\n"
                f"Name it yourself: {words}, or load_model({name!r}, path)."
            )
        if name.partition("/")[0] not in LIBRARIES:
            choose(f"the network in {path.with_suffix('.json')}", name, NETWORKS)
        model = make_network(name, about.shape, about.outputs, seed=0)
    except RecordError as error:
        raise SetupError(f"{error}\nA checkpoint needs its `.json` file beside it.") from error
    except SetupError:
        raise
    except Exception as error:  # networks raise whatever they stumble over, or there is not so much memory
        raise SetupError(
            f"MODEL {str(path)!r} is of a network {name} that cannot be made for `shape` {about.shape} and `outputs` "
            f"{about.outputs}: {reason(error)}\nIts `.json` file is damaged, or of another release: save it again."
        ) from error
    try:
        load_weights(model, path)
    except SetupError as error:
        raise SetupError(str(error).replace("`weights`", "MODEL", 1)) from error
    return model.eval(), about
