"""Trained networks on disk: safetensors, with a JSON file that says what they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from samson.experiments._errors import SetupError, choose
from samson.experiments._networks import NETWORKS, build_network
from samson.records import RecordError, read_json, replace_file, write_json


@dataclass(frozen=True)
class Checkpoint:
    """What a saved network is: enough to build it again and to find its data."""

    network: str
    classes: int
    data: str
    method: str
    seed: int
    version: int = 1


def save_checkpoint(path: Path, model: nn.Module, about: Checkpoint) -> None:
    """Write `path` (`….safetensors`) and the JSON file beside it, each atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))
    write_json(path.with_suffix(".json"), about)


def load_checkpoint(path: Path) -> tuple[nn.Module, Checkpoint]:
    """Build the network again, in evaluation mode.

    Raises:
        SetupError: If a file is missing or damaged, or does not fit the network that it names.
    """
    if not path.is_file():
        raise SetupError(f"CHECKPOINT must be a `.safetensors` file, got {str(path)!r}, which is not there.")
    try:
        about = read_json(path.with_suffix(".json"), Checkpoint)
        choose(f"`network` in {path.with_suffix('.json')}", about.network, NETWORKS)
        model = build_network(about.network, about.classes, seed=0)
        model.load_state_dict(load(path.read_bytes()))
    except RecordError as error:
        raise SetupError(f"{error}\nA checkpoint needs its `.json` file beside it.") from error
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise SetupError(f"CHECKPOINT {str(path)!r} is damaged or of another network: {reason}") from error
    return model.eval(), about
