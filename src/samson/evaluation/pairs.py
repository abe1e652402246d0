"""Several methods on the same chips, and what can be said of their differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray
from torch import nn

from samson.evaluation.data import Data, check_pair, kept
from samson.evaluation.differences import Spread, spread, variance_ratio
from samson.evaluation.executors import Serial
from samson.evaluation.metrics import as_metric
from samson.evaluation.result import About, Evaluation
from samson.evaluation.setting import Noise, Setting
from samson.evaluation.statistics import CONFIDENCE, Interval
from samson.evaluation.trials import TRIALS, Progress, evaluate
from samson.noise import on_chip

Unit = Literal["these two networks", "these networks", "training seeds"]


@dataclass(frozen=True)
class Difference:
    """What is between two methods on the same examples, positive where the first has the larger value.

    Args:
        name: The first method.
        baseline: The second.
        interval: The mean difference with its interval.
        p_value: Two-sided, of no difference.
        unit: What the interval speaks of: other chips for "these two networks" (or "these networks") alone, or for
            other networks from other "training seeds" too.
        common_chips: Whether both were on the same chips; networks of different shape cannot be.
        common_seeds: Whether model i of both is of the same training seed, so that their differences are taken.
        ratio: How much smaller the variance is because the chips are common, with its interval; None if they are not.
        confidence: Of the intervals.
    """

    name: str
    baseline: str
    interval: Interval
    p_value: float
    unit: Unit
    common_chips: bool
    common_seeds: bool
    ratio: Interval | None
    confidence: float

    @property
    def mean(self) -> float:
        """The mean difference."""
        return self.interval.mean

    @property
    def low(self) -> float:
        """The lower end of its interval."""
        return self.interval.low

    @property
    def high(self) -> float:
        """The upper end of its interval."""
        return self.interval.high

    def __str__(self) -> str:
        chips = "common chips" if self.common_chips else "chips of their own: the networks differ in shape"
        return (
            f"{self.name} − {self.baseline}: {self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}] "
            f"({self.confidence:.0%}, {self.unit}, {chips})"
        )


@dataclass(frozen=True, eq=False)
class Paired:
    """Evaluations of several methods, each with one model or several.

    Args:
        models: One evaluation for each model, by the method's name.
        shapes: For each method, what its models put on a chip; chips are common where these are equal.
        about: What intervals speak of (see `evaluate`).
    """

    models: dict[str, tuple[Evaluation, ...]]
    shapes: dict[str, object]
    about: About = "test_set"

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """The evaluation of each method's first model."""
        return {name: found[0] for name, found in self.models.items()}

    def difference(self, name: str, baseline: str, confidence: float = CONFIDENCE) -> Difference:
        """What is between two methods.

        With several models for both, the training seed is the unit: the interval allows for other seeds, other chips
        and, for a population, other examples, and it is never narrower than the seeds alone make it. Methods with the
        same number of models are paired by seed: model i of both is taken to be of the same seed. With one model for
        either, it speaks of these networks.

        Raises:
            ValueError: If a name is unknown.
        """
        for wanted in (name, baseline):
            if wanted not in self.models:
                raise ValueError(
                    f"`name` must be a method of this comparison, got {wanted!r}. Available: {', '.join(self.models)}."
                )
        ours, theirs = self.models[name], self.models[baseline]
        common_chips = self.shapes[name] == self.shapes[baseline]
        by_seed = len(ours) > 1 and len(theirs) > 1
        common_seeds = len(ours) == len(theirs)
        found = self._spread(ours, theirs, common_chips, by_seed=by_seed, common_seeds=common_seeds)
        step = ours[0].resolution
        of_ours, of_theirs = (np.mean([e.trials for e in models], axis=0).tolist() for models in (ours, theirs))
        return Difference(
            name,
            baseline,
            found.interval(confidence, step),
            found.p_value(step),
            "training seeds" if by_seed else "these networks" if len(ours) + len(theirs) > 2 else "these two networks",
            common_chips,
            by_seed and common_seeds,
            variance_ratio(of_ours, of_theirs, confidence) if common_chips else None,
            confidence,
        )

    def _spread(
        self,
        ours: Sequence[Evaluation],
        theirs: Sequence[Evaluation],
        common_chips: bool,
        *,
        by_seed: bool,
        common_seeds: bool,
    ) -> Spread:
        tables = [_table(models, self.about) for models in (ours, theirs)]
        if not by_seed:
            tables = [table.mean(axis=0, dtype=np.float64) for table in tables]
        common = ([common_seeds] if by_seed else []) + [common_chips] + [True] * (self.about == "population")
        shared = tuple(axis for axis, is_shared in enumerate(common) if is_shared)
        return spread(tables[0], tables[1], shared=shared, floor=[(0,)] if by_seed else ())


def compare(
    models: Mapping[str, nn.Module | Sequence[nn.Module]],
    data: Data,
    noise: Noise,
    *,
    trials: int = TRIALS,
    about: About = "test_set",
    progress: Callable[[str, Progress], None] | None = None,
    **setting: Unpack[Setting],
) -> Paired:
    """Evaluate methods on the same chips, for paired differences.

    With a layout in lower precision or compiled, every evaluation has a check of its own (see `evaluate`); what the
    faster forward does to all models alike cancels in a difference.

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
    if trials < 2:
        raise ValueError(f"`trials` must be at least 2 for an interval, got {trials}.")
    select = setting.get("select")
    lists = {name: [given] if isinstance(given, nn.Module) else list(given) for name, given in models.items()}
    shapes: dict[str, object] = {}
    for name, of_method in lists.items():
        if not of_method:
            raise ValueError(f"`models` must have a model for each method, got none for {name!r}.")
        found = [
            [(t.name, tuple(t.weight.shape), t.weight.device.type) for t in on_chip(model, select)]
            for model in of_method
        ]
        if any(shape != found[0] for shape in found):
            raise ValueError(f"`models` of one method must be of one shape, but those of {name!r} differ.")
        shapes[name] = found[0]
    data, norm_data = kept(data), setting.get("norm_data")
    if norm_data is not None:
        setting["norm_data"] = kept(norm_data)
    as_metric(setting.get("metric", "accuracy"))
    check_pair(data)
    if setting.get("layout") is None:
        first = next(iter(lists.values()))[0]
        setting["layout"] = (setting.get("executor") or Serial()).layout(first, data)
    results: dict[str, tuple[Evaluation, ...]] = {}
    for name, of_method in lists.items():
        told = None if progress is None else partial(progress, name)
        results[name] = tuple(
            evaluate(model, data, noise, trials=trials, about=about, progress=told, **setting) for model in of_method
        )
    return Paired(results, shapes, about)


def _table(models: Sequence[Evaluation], about: About) -> NDArray[Any]:
    """Models x chips, with the examples as a third axis for a population."""
    if about == "population":
        return np.stack([e.examples.values for e in models if e.examples is not None])
    return np.array([e.trials for e in models])
