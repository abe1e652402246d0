"""What there is to choose from, as tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from samson.cli._options import DRIFT, OWN
from samson.evaluation import METRICS
from samson.experiments import (
    ADDITIONS,
    ALIASES,
    BASES,
    DATA,
    MODES,
    NETWORKS,
    TASKS,
    TUNED,
    TUNED_FOR,
    USUAL,
    cores,
    default_settings,
    summary,
)
from samson.noise import NOISES, PRESETS, ChipModel

Rows = dict[str, list[str]]
"""Names, each with lines that say more."""


class Listing(NamedTuple):
    """A catalogue as a table: its two headings, its rows, and a note below it."""

    heads: tuple[str, str]
    rows: Rows
    note: str


def catalogue() -> dict[str, Listing]:
    """Every catalogue, by its name."""
    base, noise = BASES["SGD"], cores()["noise"].settings
    of_all, of_gradients = ({key: MODES[key] for key in MODES if (key in noise) == also} for also in (True, False))
    note = (
        f"All of them have {_listed(base)} with SGD, those that perturb {_listed(of_all)}, and those that do "
        f"so along the gradient {_listed(of_gradients)}. Those on digits are for {TUNED_FOR} alone. Set one with "
        "`--set METHOD.PARAM=VALUE`, or PARAM=VALUE for all that have it; or MODULE:FUNCTION."
    )
    own = f"{DRIFT} Or {OWN}."
    directions = {name: [f"{'higher' if one.higher_is_better else 'lower'} is better"] for name, one in METRICS.items()}
    chips = {name: [constants(chip), chip.source] for name, chip in PRESETS.items()}
    files = "FILE.npz, FILE.txt, a folder of images, torchvision/NAME, hf/NAME"
    return {
        "methods": Listing(("Method", "What it is, and its settings"), _methods(base), note),
        "data": Listing(("Data", "What it is"), _summaries(DATA), f"Or {files}, MODULE:FUNCTION."),
        "networks": Listing(
            ("Network", "What it is"), _summaries(NETWORKS), "Or timm/NAME, torchvision/NAME, MODULE:FUNCTION."
        ),
        "tasks": Listing(("Task", "What it is"), _summaries(TASKS), "Or MODULE:CLASS, in a suite's file."),
        "metrics": Listing(
            ("Metric", "Its direction"), directions, "Or MODULE:NAME, a metric or a function that makes one."
        ),
        "noises": Listing(("Noise", "At its usual level, and what it is"), _noises(), own),
        "chips": Listing(("Chip", "Constants, and their source"), chips, f"{DRIFT} Or FILE.toml, or {OWN}."),
    }


def _summaries(made: Mapping[str, Any]) -> Rows:
    return {name: [summary(one)] for name, one in made.items()}


def _noises() -> Rows:
    rows: Rows = {}
    said: set[str] = set()
    for name, family in NOISES.items():
        noise = family(USUAL[family.unit])
        about = summary(noise)
        rows[name] = [short(noise)] if about in said else [short(noise), about]
        said.add(about)
    return rows


def _methods(base: Mapping[str, float]) -> Rows:
    parts = {**cores(), **ADDITIONS, **{name: part for name, (_, part) in ALIASES.items()}}
    rows = {}
    for name in dict.fromkeys([*parts, *(name for tuned in TUNED.values() for name in tuned)]):
        about = parts[name].about if name in parts else f"{name.replace('+', ' and ')} together."
        said = {**base, **MODES}
        own = {key: value for key, value in default_settings(name).items() if said.get(key) != value}
        tuned = {data: default_settings(name, data=data) for data in TUNED}
        changed = {data: {key: found[key] for key in own if found[key] != own[key]} for data, found in tuned.items()}
        notes = [f"on {data} {_listed(settings)}" for data, settings in changed.items() if settings]
        rows[name] = [about, "; ".join([_listed(own), *notes])]
    return rows


def constants(chip: ChipModel) -> str:
    """What a chip is made of, in short."""
    parts = [chip.noise, *([] if chip.periphery is None else [chip.periphery])]
    return "; ".join(short(part) for part in parts)


def short(value: Any) -> str:
    """A dataclass with the fields that say something; of those within it, only what is not the default.

    Example:
        >>> from samson.noise import PCM, Mapping
        >>> short(PCM(mapping=Mapping(per="channel")))
        'PCM(mapping=(per=channel), compensation=global, g_max_us=25)'
    """
    shown = {}
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        if dataclasses.is_dataclass(part):
            inner = {f.name: (getattr(part, f.name), f.default) for f in dataclasses.fields(part)}
            changed = {name: given for name, (given, default) in inner.items() if given != default}
            if changed:
                shown[field.name] = f"({_listed(changed)})"
        elif part not in (None, False, 0, math.inf, {}, ()):
            shown[field.name] = part
    return f"{type(value).__name__}({_listed(shown)})"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in values.items())


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
