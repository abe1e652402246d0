"""Several methods on the same chips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Unpack

from torch import nn

from samson._batches import Examples, repeatable
from samson._checks import require
from samson.evaluation._result import Evaluation
from samson.evaluation._setting import Noise, Setting, prepare, repeatable_setting, takes_setting
from samson.evaluation._trials import TRIALS, Progress, evaluate
from samson.evaluation.executors import Serial
from samson.noise import on_chip
from samson.statistics import About, Paired


@takes_setting
def compare(
    models: Mapping[str, nn.Module | Sequence[nn.Module]],
    data: Examples,
    noise: Noise,
    *,
    trials: int = TRIALS,
    about: About = "test_set",
    progress: Callable[[str, Progress], None] | None = None,
    **setting: Unpack[Setting],
) -> Paired:
    """Evaluate methods on the same chips, for paired differences.

    Args:
        models: Two or more methods by name, each with a model, or with several from different training seeds.
        data: As for `evaluate`.
        noise: As for `evaluate`.
        trials: Number of chips, at least 2.
        about: As for `evaluate`.
        progress: Called after each chip, with the method's name.
        setting: As for `evaluate` (see `Setting`).

    Returns:
        Evaluations and differences. Where models put tensors of different names or shapes on a chip, their chips
        cannot be common: the difference then says so and counts the chips of each by themselves.

    Raises:
        ValueError: If a method has no model, or models of one method differ in shape; or as for `evaluate`.

    Example:
        >>> import torch
        >>> from samson.noise import Gaussian
        >>> data = torch.randn(64, 4), torch.randint(3, (64,))
        >>> paired = compare({"a": nn.Linear(4, 3), "b": nn.Linear(4, 3)}, data, Gaussian(0.1), trials=5)
        >>> paired.difference("a", "b").unit
        'these two networks'
    """
    require(trials >= 2, "trials", "be at least 2 for an interval", trials)
    networks = {name: [given] if isinstance(given, nn.Module) else list(given) for name, given in models.items()}
    shapes: dict[str, object] = {}
    data = repeatable(data)
    setting = repeatable_setting(setting)
    for name, of_method in networks.items():
        if not of_method:
            raise ValueError(f"`models` must have a model for each method, got none for {name!r}.")
        on = [
            [(t.name, tuple(t.weight.shape), t.weight.device.type) for t in on_chip(model, setting.get("select"))]
            for model in of_method
        ]
        if any(shape != on[0] for shape in on):
            raise ValueError(f"`models` of one method must be of one shape, but those of {name!r} differ.")
        shapes[name] = on[0]
        prepare(of_method[0], data, noise, **setting)  # whatever is wrong is said before compute starts
    executor = setting.pop("executor", None) or Serial()
    results: dict[str, tuple[Evaluation, ...]] = {}
    for name, of_method in networks.items():
        named = None if progress is None else partial(progress, name)
        for number, model in enumerate(of_method):
            setting["executor"] = executor.named(f"{name}-{number}")
            found = evaluate(model, data, noise, trials=trials, about=about, progress=named, **setting)
            results[name] = (*results.get(name, ()), found)
    return Paired(results, shapes, about)
