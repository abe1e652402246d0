"""Several methods on the same chips: means and paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from samson._checks import require_between
from samson._shown import Shown, number_form, table_text
from samson.records import Interval
from samson.statistics._crossed import table_interval
from samson.statistics._differences import spread, variance_ratio
from samson.statistics._means import CONFIDENCE, smallest_step

About = Literal["test_set", "population"]
"""What an interval speaks of: other chips on these examples, or other chips on other examples of the same kind."""

Over = Literal["chips", "seeds"]
"""Which randomness an interval counts besides that of `About`: chips for these networks, or training seeds too."""


@dataclass(frozen=True, eq=False, repr=False)
class Trials(Shown):
    """One value a chip, of one network, as records hold them.

    Args:
        trials: The values; one without noise.
        resolution: The step between possible values.
        bounds: The smallest and largest possible value; None if there is no such.
    """

    trials: Sequence[float]
    resolution: float = 0.0
    bounds: tuple[float, float] | None = None
    scores: None = None

    def __str__(self) -> str:
        return f"{np.mean(self.trials):.4g} over {len(self.trials)} chips"


@dataclass(frozen=True, repr=False)
class Difference(Shown):
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
        cut: Whether the interval reached beyond what the metric's bounds allow, and was cut off there.
    """

    name: str
    baseline: str
    interval: Interval
    p_value: float
    unit: Literal["these two networks", "these networks", "training seeds"]
    common_chips: bool
    common_seeds: bool
    ratio: Interval | None
    confidence: float
    cut: bool = False

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
        few = "seeds" if self.unit == "training seeds" else "chips"
        chips = "common chips" if self.common_chips else "chips of their own: the networks differ in shape"
        return (
            f"{self.name} − {self.baseline}: {self.interval:+{number_form(self.low, self.high)}} "
            f"({100 * self.confidence:g}%, {self.unit}, {chips})"
            + (f": too few {few} to tell" if self.cut and self.low <= 0 <= self.high else "")
        )


@dataclass(frozen=True, eq=False, repr=False)
class Paired(Shown):
    """Measurements of several methods, each with one network or several.

    Args:
        models: One measurement for each network, by the method's name: `Trials`, or what has its fields.
        shapes: For each method, what its networks put on a chip; chips are common where these are equal. Empty if all
            are.
        about: What intervals speak of (see `About`).
    """

    models: Mapping[str, Sequence[Any]]
    shapes: Mapping[str, object]
    about: About = "test_set"

    @property
    def evaluations(self) -> dict[str, Any]:
        """The measurement of each method that has one network.

        Raises:
            ValueError: If a method has several: its `models` hold one for each.
        """
        several = next((name for name, found in self.models.items() if len(found) > 1), None)
        if several is not None:
            raise ValueError(
                f"`evaluations` must be asked for where each method has one network, but {several!r} has "
                f"{len(self.models[several])}. Take `models[{several!r}][0]` and so on, one for each."
            )
        return {name: found[0] for name, found in self.models.items()}

    def mean(self, name: str, confidence: float = CONFIDENCE, *, over: Over | None = None) -> Interval:
        """The mean over a method's networks, with its interval, which is cut off where the metric is bounded.

        Args:
            name: The method.
            confidence: Of the interval, between 0 and 1.
            over: As for `difference`.

        Raises:
            ValueError: If the name is unknown, numbers of chips differ, or there are no seeds to count.
        """
        networks = self._networks(name)
        table, by_seed = self._table(networks), _by_seed(over, networks)
        if not by_seed:
            table = table[0] if len(table) == 1 else table.mean(axis=0, dtype=np.float64)
        table = table.squeeze()  # an axis with one entry is no level of randomness
        if table.ndim:
            floor, step = ([(0,)], self._step) if by_seed else ((), networks[0].resolution)
            found = table_interval(table, confidence, floor=floor, resolution=step)
        else:
            found = Interval(*[float(table)] * 3)
        return found.within(*(networks[0].bounds or (-math.inf, math.inf)))

    def difference(
        self, name: str, baseline: str, confidence: float = CONFIDENCE, *, over: Over | None = None
    ) -> Difference:
        """What is between two methods.

        With several networks for both, the training seed is the unit: the interval allows for other seeds, other chips
        and, for a population, other examples, and it is never narrower than the seeds alone make it. Methods with the
        same number of networks are paired by seed: network i of both is taken to be of the same seed. With one network
        for either, it speaks of these networks. It is cut off at the largest difference that the metric's bounds allow.

        Args:
            name: The first method.
            baseline: The second.
            confidence: Of the interval, between 0 and 1.
            over: "chips" speaks of these networks, "seeds" of others too; None is seeds where there are several.

        Raises:
            ValueError: If a name is unknown, numbers of chips differ, or there are no seeds to count.
        """
        require_between(0, 1, confidence=confidence)
        ours, theirs = self._networks(name), self._networks(baseline)
        common_chips = self.shapes.get(name) == self.shapes.get(baseline)
        chips = [len(networks[0].trials) for networks in (ours, theirs)]
        if chips[0] != chips[1] and (common_chips or 1 in chips):
            raise ValueError(
                f"`models` must be on as many chips each, but {name!r} is on {chips[0]} and {baseline!r} on "
                f"{chips[1]}. Measure both with the same `trials`."
            )
        by_seed = _by_seed(over, ours, theirs)
        common_seeds = len(ours) == len(theirs)
        tables = [self._table(networks) for networks in (ours, theirs)]
        if not by_seed:
            tables = [table.mean(axis=0, dtype=np.float64) for table in tables]
        common = [common_seeds] * by_seed + [common_chips] + [True] * (self.about == "population")
        shared = tuple(axis for axis, is_shared in enumerate(common) if is_shared)
        found = spread(tables[0], tables[1], shared=shared, floor=[(0,)] if by_seed else ())
        step, bounds = self._step if by_seed else ours[0].resolution, ours[0].bounds
        span = math.inf if bounds is None else bounds[1] - bounds[0]
        whole = found.interval(confidence, step)
        of_ours, of_theirs = (np.mean([e.trials for e in networks], axis=0).tolist() for networks in (ours, theirs))
        return Difference(
            name,
            baseline,
            whole.within(-span, span),
            found.p_value(step),
            "training seeds" if by_seed else "these networks" if len(ours) + len(theirs) > 2 else "these two networks",
            common_chips,
            by_seed and common_seeds,
            variance_ratio(of_ours, of_theirs, confidence) if common_chips and len(of_ours) > 1 else None,
            confidence,
            whole.low < -span or whole.high > span,
        )

    def _networks(self, name: str) -> Sequence[Any]:
        if name not in self.models:
            raise ValueError(
                f"`name` must be a method of this comparison, got {name!r}. Available: {', '.join(self.models)}."
            )
        chips = {len(network.trials) for network in self.models[name]}
        if len(chips) > 1:
            raise ValueError(
                f"`models` of one method must be on as many chips each, but those of {name!r} are on "
                f"{' and '.join(map(str, sorted(chips)))}. Measure them with the same `trials`."
            )
        return self.models[name]

    @cached_property
    def _step(self) -> float:
        """The step between possible values; of a metric without bounds, such as errors, between those found."""
        networks = [network for of_method in self.models.values() for network in of_method]
        known = float(networks[0].resolution)
        if networks[0].bounds is not None:
            return known
        return max(known, smallest_step([value for network in networks for value in network.trials]))

    def _table(self, networks: Sequence[Any]) -> NDArray[Any]:
        """Networks x chips, with the examples as a third axis for a population."""
        if self.about == "population":
            return np.stack([network.scores for network in networks if network.scores is not None])
        return np.array([network.trials for network in networks])

    def __str__(self) -> str:
        baseline = next(iter(self.models))
        means = {name: self.mean(name) for name in self.models}
        form = number_form(*(end for mean in means.values() for end in (mean.low, mean.high)))
        rows = []
        for name, networks in self.models.items():
            gain = "" if name == baseline else f"{self.difference(name, baseline).interval:+{form}}"
            counts = [str(len(networks)), str(len(networks[0].trials))]
            rows.append([name, *counts, *self._more(name).values(), f"{means[name]:{form}}", gain])
        header = ["method", "networks", "chips", *self._more(baseline), f"mean [{100 * CONFIDENCE:g}%]"]
        header.append(f"− {baseline}")
        return f"{len(rows)} methods, about the {self.about.replace('_', ' ')}\n{table_text(header, rows)}"

    def _more(self, name: str) -> dict[str, str]:
        """More columns of the text, by their heading, with what they say of a method."""
        return {}


def _by_seed(over: Over | None, *methods: Sequence[Any]) -> bool:
    if over not in (None, *get_args(Over)):
        raise ValueError(f"`over` must be 'chips', 'seeds' or None, got {over!r}.")
    several = all(len(networks) > 1 for networks in methods)
    if over == "seeds" and not several:
        raise ValueError("`over` must be 'chips' with one network for a method, got 'seeds'. Train more seeds.")
    return several if over is None else over == "seeds"
