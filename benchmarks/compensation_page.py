"""Make `docs/compensation.md` from the record of `compensation.py`, and print it.

python -m benchmarks.compensation_page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.markdown import table

RECORD = Path(__file__).parent / "records" / "compensation.json"
PAGE = Path(__file__).parent.parent / "docs" / "compensation.md"

TEXT = """# What compensation brings

The devices of a phase-change chip lose conductance with time: they drift. A chip can measure by how much and multiply its
outputs by a factor, one for all ("global") or one for each column. The statistics of batch norms can be estimated again on
the chip. And converters need to know how large their inputs are. This page measures each, on and off. To train the network
for the faults of one chip is [another way](known-chips.md#one-chip).

In short: a day old and without any of it, these networks give mostly wrong answers. Global drift compensation brings
nearly all back, and one factor for each column no more. Batch norms that are estimated again do a little better alone, and
beside them drift compensation adds nothing. Calibrated input ranges cost next to nothing, and a range of 1 for every
layer costs much.

In Python an evaluation has them by `PCM(compensation=…)` (`"global"`, the default, `"column"` or `None`) and
`evaluate(…, norm_data=train_loader)`; as a command, `samson evaluate MODEL --chip pcm --norms-on digits/train`. Chips
named `…-uncompensated` have none.

Accuracy in percent on the {split} split of the digits ({examples} images), for {seeds} networks (`{network}` by `{method}`, seeds
{seed_list}; {clean} without noise) on the same {chips} phase-change chips in every row. Each cell is a network's mean with
half its 95 % interval over chips; the last column is the chip-by-chip difference from the first row, averaged over the
networks, with its 95 % interval. It speaks of other chips, not of other images (one is {image:.2f} points) or training seeds.
`benchmarks/compensation.py` writes [the record](../benchmarks/records/compensation.json), and from it this page.

## Drift compensation and batch norms

`PCM(compensation=…)`; `with chip.at(time_s), reestimated_norms(model, batches):` for each chip at its time, on the
{train} split ({train_examples} images in batches of {batch}). Differences are from the row `none` of the same time.

{drift}

{verdicts}
- Batch norm on top of global drift compensation {over_global}.

## Input ranges

`STANDARD_HWA` around chips of {age} with global drift compensation; `calibrate` on the {train} split, once for each network.

{ranges}

Against each vector's own largest: {range_verdicts}. The largest calibrated range against 1 for every layer: {over_one}.

## What it costs

Median seconds [quartiles] in this simulation, on one thread of a shared CPU; a real chip pays in readings of its own.

{costs}

The smaller the batches, the further a layer's statistics are from those of its inputs afterwards (largest deviation over
channels; network {first_seed}, {age}, mean of {sizes_chips} chips): {sizes}.
"""  # noqa: E501 (the lines of the page)


def percent(value: list[float]) -> str:
    """An accuracy with half its interval."""
    mean, low, high = value
    return f"{100 * mean:.1f} ± {50 * (high - low):.1f}"


def points(value: list[float] | None) -> str:
    """A difference with its interval."""
    return "" if value is None else "{:+.2f} [{:+.2f}, {:+.2f}]".format(*(100 * v for v in value))


def accuracies(first: str, rows: dict[str, dict[str, Any]], seeds: list[int]) -> str:
    """One line for each setting."""
    head = [first, *(f"seed {seed}" for seed in seeds), "difference"]
    lines = [[name, *map(percent, own["networks"]), points(own["difference"])] for name, own in rows.items()]
    return table(head, lines)


def drift_table(record: dict[str, Any]) -> str:
    """One line for each time and setting."""
    rows = {f"{time}: {name}": own for time, by in record["drift"].items() for name, own in by.items()}
    return accuracies("compensation", rows, record["seeds"])


def verdict(value: list[float]) -> str:
    """What an interval of differences shows."""
    return "helps" if value[1] > 0 else "hurts" if value[2] < 0 else "shows no difference"


def by_verdict(differences: dict[str, list[float]], *, figures: bool = False) -> str:
    """Where it helps, where it hurts, and where neither is shown."""
    where: dict[str, list[str]] = {}
    for name, value in differences.items():
        where.setdefault(verdict(value), []).append(f"{name} ({points(value)})" if figures else name)
    return "; ".join(f"{word} at {', '.join(names)}" for word, names in where.items())


def verdicts(record: dict[str, Any]) -> str:
    """A sentence for each finding, with the compensations that it holds for."""
    times = record["drift"]
    found: dict[str, list[str]] = {}
    for name, own in next(iter(times.values())).items():
        if own["difference"]:
            words = by_verdict({time: by[name]["difference"] for time, by in times.items()})
            found.setdefault(words, []).append(f"*{name}*")
    return "\n".join(f"- Each of {'; '.join(names)} {words}." for words, names in found.items())


def costs(record: dict[str, Any]) -> str:
    """The seconds of each."""
    return "; ".join(f"{name}: {q[1]:.3f} [{q[0]:.3f}, {q[2]:.3f}]" for name, q in record["seconds"].items()) + "."


def sizes(record: dict[str, Any]) -> str:
    """What each size of batches does."""
    return "; ".join(
        f"{int(size):,} images: mean by {own['mean']:.2g} σ, variance by {100 * own['variance']:.2g} %, "
        f"accuracy {100 * own['accuracy']:.1f}"
        for size, own in record["batches"].items()
    )


def page(record: dict[str, Any]) -> str:
    """The page's text."""
    ranges = record["ranges"]
    return TEXT.format(
        split=record["split"],
        examples=record["examples"],
        seeds=len(record["seeds"]),
        image=100 / record["examples"],
        network=record["network"],
        seed_list=", ".join(map(str, record["seeds"])),
        method=record["method"],
        clean=", ".join(f"{100 * value:.1f}" for value in record["clean"]),
        chips=record["chips"],
        train=record["compensated_on"],
        train_examples=f"{record['compensation_examples']:,}",
        batch=record["compensation_batch"],
        drift=drift_table(record),
        verdicts=verdicts(record),
        over_global=by_verdict(record["batch_norm_over_global"], figures=True),
        age=record["periphery_age"],
        ranges=accuracies("input range", ranges, record["seeds"]),
        range_verdicts="; ".join(
            f"*{name}* {verdict(own['difference'])}" for name, own in ranges.items() if own["difference"]
        ),
        over_one=f"{verdict(record['calibrated_over_1'])}, {points(record['calibrated_over_1'])}",
        costs=costs(record),
        first_seed=record["seeds"][0],
        sizes_chips=record["batches_chips"],
        sizes=sizes(record),
    )


def write_page(record: dict[str, Any]) -> None:
    """Write the page and print it."""
    PAGE.write_text(page(record), encoding="utf-8")
    print(page(record))


if __name__ == "__main__":
    write_page(json.loads(RECORD.read_text(encoding="utf-8")))
