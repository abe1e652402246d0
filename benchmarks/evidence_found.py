"""What the confirming runs of `benchmarks/evidence.py` found, read from their packed records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import evidence
from benchmarks.evidence import TASKS, label_of, packed, part_of, parts, twins
from samson._times import age_text
from samson.records import Interval
from samson.statistics import mean_interval, mean_p_value

GAUSSIAN = "gaussian"
NO_NOISE = "without noise"
DIGITS = 9
"""Of values whose ranks are looked at: equal ones must not differ by the order in which chips were added."""

Values = NDArray[np.float64]
"""One for each training seed."""


def kind_name(family: dict[str, Any], kind: dict[str, Any]) -> str:
    """A kind of chip by its family and label, without the module of a function."""
    aged = family["unit"] == "s"
    return f"{family['name']} {age_text(kind['level']) if aged else kind['label'].rpartition(':')[2]}"


def in_words(settings: evidence.Settings) -> str:
    """A method's own settings, as tables and sentences say them."""
    return ", ".join(f"{key} {value:g}" for key, value in settings.items())


@dataclass(frozen=True)
class Found:
    """The confirming runs of a task, of one length of training.

    Args:
        task: Its name.
        records: The run records.
    """

    task: str
    records: list[dict[str, Any]]

    @property
    def is_fraction(self) -> bool:
        """Whether the metric is one, and shown in percent; else it is bits."""
        return bool(self.records[0]["problem"]["is_fraction"])

    @property
    def metric(self) -> str:
        """Its name with its unit."""
        name = str(self.records[0]["problem"]["metric"]).replace("-", " ")
        return f"{name} in percent" if self.is_fraction else f"{name}, less is better"

    @property
    def resolution(self) -> float:
        """The step between possible values of a network."""
        return 1 / self.records[0]["examples"] if self.is_fraction else 0.0

    @property
    def seeds(self) -> int:
        """How often each method was trained."""
        return len({record["seed"] for record in self.records})

    @cached_property
    def diverged(self) -> list[str]:
        """The methods of which a training diverged; they are left out."""
        return list(dict.fromkeys(record["method"] for record in self.records if record["clean"] is None))

    @cached_property
    def table(self) -> dict[str, dict[str, Values]]:
        """By method and kind: each network's value without noise, or its mean over chips, in the order of seeds."""
        found: dict[str, dict[str, list[float]]] = {}
        for record in sorted(self.records, key=lambda record: int(record["seed"])):
            if record["method"] in self.diverged:
                continue
            own = found.setdefault(record["method"], {})
            own.setdefault(NO_NOISE, []).append(float(record["clean"]))
            for family, measured in zip(record["families"], record["measured"], strict=True):
                for kind, chips in zip(family["kinds"], measured, strict=True):
                    own.setdefault(kind_name(family, kind), []).append(float(np.mean(chips)))
        return {method: {kind: np.array(values) for kind, values in own.items()} for method, own in found.items()}

    @property
    def kinds(self) -> list[str]:
        """No noise, and every kind of chip."""
        return list(next(iter(self.table.values())))

    @property
    def families(self) -> dict[str, list[str]]:
        """No noise, and the kinds of each family of chips, by its name."""
        of_chips = {
            family["name"]: [kind_name(family, kind) for kind in family["kinds"]]
            for family in self.records[0]["families"]
        }
        return {NO_NOISE: [NO_NOISE], **of_chips}

    @property
    def gaussian(self) -> list[str]:
        """The levels of Gaussian noise."""
        return self.families[GAUSSIAN]

    @property
    def groups(self) -> dict[str, list[str]]:
        """Kinds by what they have in common."""
        others = [kind for kind in self.kinds if kind != NO_NOISE and kind not in self.gaussian]
        return {NO_NOISE: [NO_NOISE], "Gaussian chips": self.gaussian, "other chips": others}

    def mean(self, method: str, kinds: list[str]) -> Values:
        """Over kinds of chips."""
        return np.array(np.mean([self.table[method][kind] for kind in kinds], axis=0))

    def gain(self, ours: str, theirs: str, kinds: list[str]) -> Values:
        """By how much the first is better in the mean over kinds."""
        return TASKS[self.task].sign * (self.mean(ours, kinds) - self.mean(theirs, kinds))

    def p_value(self, gain: Values) -> float:
        """Of no difference."""
        return mean_p_value(gain.tolist(), resolution=self.resolution)

    def gradients(self, method: str) -> int:
        """How many a training of a method took."""
        return int(next(r["training"]["gradients"] for r in self.records if r["method"] == method))

    def in_order(self, methods: list[str]) -> list[str]:
        """Methods, the one first that is best on chips: Gaussian ones and the others count the same."""
        _, *groups = self.groups.values()
        sign = TASKS[self.task].sign
        return sorted(methods, key=lambda method: -sign * sum(self.mean(method, kinds).mean() for kinds in groups))

    @property
    def unit(self) -> str:
        """Of differences as they are shown."""
        return "points" if self.is_fraction else "bits"

    def interval(self, values: Values) -> Interval:
        """The mean over seeds as it is shown: a fraction in percent."""
        scale = 100 if self.is_fraction else 1
        return mean_interval((scale * values).tolist(), resolution=scale * self.resolution)

    def shown(self, value: float) -> str:
        """A value of the metric: a fraction in percent."""
        return self._rounded(100 * value if self.is_fraction else value)

    def spread(self, values: Values) -> str:
        """A mean over seeds, and half of its interval."""
        interval = self.interval(values)
        return f"{self._rounded(interval.mean)} ± {self._rounded(interval.half_width)}"

    def in_words(self, gain: float) -> str:
        """A difference with its unit."""
        return f"{100 * gain:+.1f} {self.unit}" if self.is_fraction else f"{gain:+.3f} {self.unit}"

    def _rounded(self, value: float) -> str:
        digits = 1 if self.is_fraction else 3
        return f"{round(value, digits) + 0.0:.{digits}f}"


def read(task: str) -> dict[str, Found]:
    """What is there of either part of a task; of equal winners one was trained, and is both."""
    return _read(task, evidence.RESULTS)


@cache
def _read(task: str, results: Path) -> dict[str, Found]:
    """The same once for each folder of results: many tables are of one task."""
    records = packed(task)
    trained = {record["method"] for record in records}
    also = [(label, twin) for label, twin in (twins(task) if records else {}).items() if label not in trained]
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        labels = [record["method"], *(label for label, twin in also if twin == record["method"])]
        found.setdefault(part_of(task, record), []).extend({**record, "method": label} for label in labels)
    return {part: Found(task, found[part]) for part in ("whole", "half") if part in found}


def finished(task: str) -> bool:
    """Whether every winner was trained with every seed, at both lengths."""
    if not packed(task):
        return False
    found = {(r["method"], r["problem"]["recipe"]["epochs"], r["seed"]) for r in packed(task)}
    seeds = range(TASKS[task].confirming)
    wanted = {(label, epochs, seed) for epochs, labels in parts(task).values() for label in labels for seed in seeds}
    return wanted <= found


def informed(methods: Iterable[str]) -> list[str]:
    """The names of the winners on noisy chips."""
    return [label_of(method, "informed") for method in methods]
