"""Models as a user asks for them: a trained network of a comparison, one's own code, timm or torchvision."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from samson._errors import SetupError, choose, require
from samson._factories import find_factory, takes
from samson.experiments._checkpoints import load_checkpoint, outputs_of
from samson.experiments._networks import LIBRARIES, own_network
from samson.experiments._weights import load_weights, refuse_program

FORMS = "`….safetensors` of a comparison, MODULE:FUNCTION, timm/NAME or torchvision/NAME"
ALONE = f"MODEL must be {FORMS}, got {{!r}}, which holds weights alone"
WEIGHTS = "Give it with `weights`, beside a model that it is for."


def load_model(
    spec: str | Path, weights: str | Path | None = None, *, pretrained: bool = False, outputs: int | None = None
) -> nn.Module:
    """Make the model that a user names, in evaluation mode.

    Random initial weights are always the same ones, and global random state stays as it was. Files of weights are
    read without unpickling; a function of one's own is run, as it is the user's code.

    Args:
        spec: A network that `samson compare` saved (`….safetensors`, with its JSON file beside it); `MODULE:FUNCTION`,
            a function (or class) importable from the current folder, called without arguments, or with the number of
            outputs where that is known; `timm/NAME`; or `torchvision/NAME`.
        weights: A file of weights for it (see `load_weights`); not for a saved network, which has its own.
        pretrained: Whether to download the weights that timm or torchvision publish.
        outputs: Number of outputs for a function that cannot be called without; `weights` of a network that samson
            trained know their own.

    Raises:
        SetupError: If there is no such model, its package is missing, or the weights do not fit.

    Example:
        >>> model = load_model("torch.nn:Identity")
        >>> model.training
        False
    """
    spec, weights = str(spec), None if weights is None else Path(weights)
    if spec.endswith((".pt", ".pth", ".pt2", ".bin", ".ckpt", ".onnx")):
        refuse_program("MODEL", Path(spec))
        raise SetupError(f"{ALONE.format(spec)}.\n{WEIGHTS}")
    if spec.endswith(".safetensors"):
        require(weights is None, "`weights`", f"left out for {spec!r}", str(weights), "It has its own weights.")
        require(not pretrained, "`pretrained`", "left out for a saved network", spec, "It has its own weights.")
        if Path(spec).is_file() and not Path(spec).with_suffix(".json").exists():
            raise SetupError(f"{ALONE.format(spec)}; a checkpoint has its `.json` file beside it.\n{WEIGHTS}")
        return load_checkpoint(Path(spec))[0]
    library, slash, name = spec.partition("/")
    if ":" in spec:
        require(not pretrained, "`pretrained`", "left out for a function of one's own", spec, "Use `weights`.")
    else:
        other = bool(spec) and library not in LIBRARIES and Path(spec).exists()
        mend = "No model is read from that path: give the function that makes it, and its weights with `weights`."
        require(not other, "MODEL", FORMS, spec, mend)
        require(bool(slash), "MODEL", FORMS, spec, "Write for example torchvision/resnet18.")
        choose("MODEL", library, LIBRARIES)
        require(not (pretrained and weights), "`pretrained`", "without `weights`", str(weights), "Leave one out.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if ":" in spec:
            known = None if weights is None else outputs_of(weights)
            if known is None and not takes(find_factory(spec), ()):
                known = outputs
            model = own_network(spec, known, "MODEL")
        else:
            model = LIBRARIES[library](name, pretrained)
    if weights is not None:
        load_weights(model, weights)
    return model.eval()
