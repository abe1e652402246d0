"""Several methods on the same chips."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Unpack

from torch import nn

from samson._batches import Examples, repeatable
from samson._checks import require
from samson.evaluation._compared import Compared
from samson.evaluation._layout import Layout
from samson.evaluation._question import TRIALS, Question
from samson.evaluation._result import Evaluation
from samson.evaluation._scoring import device_of
from samson.evaluation._setting import Noise, Prepared, Setting, prepare, takes_setting
from samson.evaluation._subject import data_name, kind_of, make_subject
from samson.evaluation._trials import Progress, drawn, with_clean
from samson.noise import Periphery, on_chip
from samson.statistics import About


@takes_setting
def compare(
    models: Mapping[str, nn.Module | Sequence[nn.Module]],
    data: Examples,
    noise: Noise,
    *,
    trials: int = TRIALS,
    about: About = "test_set",
    progress: Callable[[str, Progress], None] | None = None,
    peripheries: Mapping[str, Periphery | Sequence[Periphery]] | None = None,
    **setting: Unpack[Setting],
) -> Compared:
    """Evaluate methods on the same chips, for paired differences.

    Args:
        models: Two or more methods by name, each with a model, or with several from different training seeds.
        data: As for `evaluate`.
        noise: As for `evaluate`.
        trials: Number of chips, at least 2.
        about: As for `evaluate`.
        progress: Called after each chip, with the method's name.
        peripheries: What surrounds the weights of each method's model, or of each of its models, in place of one
            `periphery` for all. Input ranges and ADC bounds are found for one network (see `samson.noise.calibrate`):
            another saturates or wastes steps behind them.
        setting: As for `evaluate` (see `Setting`).

    Returns:
        Evaluations and differences, with `table()`, `plot()`, `save()` and `page()` (see `Compared`). Where models put
        tensors of different names or shapes on a chip, their chips cannot be common: the difference then says so and
        counts the chips of each by themselves.

    Raises:
        ValueError: If there are fewer than two methods, a method has no model, a model is there twice, models of one
            method differ in shape, or models are on several kinds of device; if `peripheries` are not one for each
            model, or differ in more than ranges and bounds; or as for `evaluate`.

    Example:
        >>> import torch
        >>> from samson.noise import Gaussian
        >>> data = torch.randn(64, 4), torch.randint(3, (64,))
        >>> paired = compare({"a": nn.Linear(4, 3), "b": nn.Linear(4, 3)}, data, Gaussian(0.1), trials=5)
        >>> paired.difference("a", "b").unit
        'these two networks'
    """
    question = Question(trials, about=about)
    question.check(setting)
    networks = _networks(models)
    around = None if peripheries is None else _peripheries(peripheries, networks, setting)
    shapes: dict[str, object] = {}
    kinds = set[str]()
    prepared: deque[tuple[str, Prepared]] = deque()
    laid_out: dict[Layout, Iterable[Any]] = {}
    named_data, norms = data_name(data), setting.get("norm_data")
    named_norms = None if norms is None else data_name(norms)
    data = repeatable(data)
    if norms is not None:
        setting["norm_data"] = repeatable(norms)
    for name, of_method in networks.items():
        for number, model in enumerate(of_method):
            own: Setting = setting if around is None else {**setting, "periphery": around[name][number]}
            one = prepare(model, data, noise, **own)  # what is wrong, before compute
            batches = laid_out.setdefault(one.task.layout, one.task.batches)  # one copy of the data for all
            executor = one.executor.named(f"{name}-{number}")
            prepared.append((name, replace(one, task=replace(one.task, batches=batches), executor=executor)))
        kinds |= {device_of(model).type for model in of_method}
        if len(kinds) > 1:
            raise ValueError(
                f"`models` must be on one kind of device, got {' and '.join(sorted(kinds))}: chips of CPU and GPU "
                "differ. Move them to one."
            )
        on = [
            [(t.name, tuple(t.weight.shape), t.weight.device.type) for t in on_chip(model, setting.get("select"))]
            for model in of_method
        ]
        if any(shape != on[0] for shape in on):
            raise ValueError(f"`models` of one method must be of one shape, but those of {name!r} differ.")
        shapes[name] = on[0]
    first = prepared[0][1].task
    if around is not None and first.periphery is not None:  # what all have in common
        first = replace(first, periphery=replace(first.periphery, input_ranges={}, adc_bounds={}))
    elif first.periphery is not None and (first.periphery.input_ranges or first.periphery.adc_bounds):
        warnings.warn(
            "All networks have the input ranges and ADC bounds of one: differences may come from those. Give each its "
            "own by `peripheries`.",
            stacklevel=3,
        )
    kind = kind_of(first)
    for _, one in islice(prepared, 1, None):  # the first is looked at on its first chip, when no other has had any
        one.executor.broadcast(one.task.look)
    results: dict[str, tuple[Evaluation, ...]] = {}
    while prepared:
        name, one = prepared.popleft()  # with a task goes what executors keep for it
        named = None if progress is None else partial(progress, name)
        results[name] = (*results.get(name, ()), with_clean(drawn(one, question, named), one.clean()))
    every = [model for of_method in networks.values() for model in of_method]
    subject = make_subject(
        next(iter(results.values()))[0],
        every[0],
        setting,
        name=", ".join(dict.fromkeys(type(model).__name__ for model in every)),
        data=named_data,
        norms_on=named_norms,
    )
    subject = replace(subject, coverage=None, multiply_adds=None)  # each method has its own
    return Compared(results, shapes, about, kind=kind, subject=subject)


def _peripheries(
    given: Mapping[str, Periphery | Sequence[Periphery]], networks: Mapping[str, list[nn.Module]], setting: Setting
) -> dict[str, list[Periphery]]:
    """The periphery of each network of each method."""
    require(setting.get("periphery") is None, "periphery", "be left out beside `peripheries`", setting.get("periphery"))
    require(given.keys() == networks.keys(), "peripheries", f"name the methods {', '.join(networks)}", list(given))
    found = {name: list(own) if isinstance(own, Sequence) else [own] for name, own in given.items()}
    for name, own in found.items():
        count = len(networks[name])
        known = len(own) == count and all(isinstance(one, Periphery) for one in own)
        require(known, "peripheries", f"be a Periphery for each of the {count} models of {name!r}", own)
    bare = {name: [replace(one, input_ranges={}, adc_bounds={}) for one in own] for name, own in found.items()}
    every = [one for own in bare.values() for one in own]
    same = all(one == every[0] for one in every)
    require(same, "peripheries", "differ in `input_ranges` and `adc_bounds` alone", bare)
    return found


def _networks(models: Any) -> dict[str, list[nn.Module]]:
    """The networks of each method."""
    if not isinstance(models, Mapping) or len(models) < 2:
        raise ValueError(f"`models` must be two or more methods by name, got {models!r:.80}. For one, ask `evaluate`.")
    found = {}
    seen: dict[int, str] = {}
    for name, given in models.items():
        several = isinstance(given, Sequence) and not isinstance(given, nn.Module)
        found[name] = list(given) if several else [given]
        if not found[name]:
            raise ValueError(f"`models` must have a model for each method, got none for {name!r}.")
        for model in found[name]:
            if id(model) in seen:
                raise ValueError(
                    f"`models` must be different networks, but one of {name!r} is the very object of "
                    f"{seen[id(model)]!r}: their difference is 0 whatever the noise. Use copy.deepcopy before training "
                    "goes on."
                )
            seen[id(model)] = name
    return found
