"""A network on all the chips of a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from samson._batches import Examples, moved
from samson.evaluation import Layout, Noise, chips_alone
from samson.experiments._chips import Kind
from samson.experiments._plan import Job, OnProgress
from samson.experiments.data import Splits
from samson.noise import ChipModel, calibrate, calibrate_adc
from samson.records import RunRecord, Training


def sweep(
    model: nn.Module,
    data: Examples,
    job: Job,
    progress: OnProgress,
    ranges: Mapping[str, float],
    splits: Splits,
    earlier: RunRecord | None = None,
) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Put a network on all the chips of a job: the metric by family, kind and chip.

    Args:
        model: The network.
        data: As `examples_of` gives them.
        job: Says which chips.
        progress: Called after each chip.
        ranges: The input range of each layer, for chips with converters and no ranges of their own.
        splits: The training split calibrates ADCs that round and have no bound.
        earlier: The network's record on some of the chips, which are left alone where there are as many trials.
    """
    plan, select, metric = job.plan, job.problem.select, job.problem.metric
    every = {id(kind.noise): kind.noise for family in plan.families for kind in family.kinds}  # one at several times
    chips = {key: _calibrated(noise, model, ranges, splits, job) for key, noise in every.items()}
    known = {} if earlier is None or earlier.trials != plan.trials else earlier.values
    total = plan.trials * (sum(len(family.kinds) for family in plan.families) - len(known))
    done = 0

    def count(_: object) -> None:
        nonlocal done
        done += 1
        progress("chips", done, total)

    def measured(kind: Kind) -> tuple[float, ...]:
        return chips_alone(
            model,
            data,
            chips[id(kind.noise)],
            trials=plan.trials,
            seed=plan.chip_seed,
            time_s=kind.time_s,
            select=select,
            metric=metric,
            layout=Layout(),
            progress=count,
        ).trials

    return tuple(
        tuple(known.get((family.name, kind.record())) or measured(kind) for kind in family.kinds)
        for family in plan.families
    )


def ranges_of(model: nn.Module, training: Training, job: Job, splits: Splits) -> Mapping[str, float]:
    """Input ranges that were learned; else from training data, if a chip of the job has converters without any."""
    if training.input_ranges:
        return training.input_ranges
    around = [k.noise.periphery for f in job.plan.families for k in f.kinds if isinstance(k.noise, ChipModel)]
    if not any(periphery is not None and not periphery.input_ranges for periphery in around):
        return {}
    some = splits.few_inputs(job.problem.recipe.batch_size)
    return calibrate(model, some, job.problem.select)


def _calibrated(noise: Noise, model: nn.Module, ranges: Mapping[str, float], splits: Splits, job: Job) -> Noise:
    """The chip with what its converters lack for this network."""
    if not isinstance(noise, ChipModel) or noise.periphery is None:
        return noise
    around = noise.periphery
    if ranges and not around.input_ranges:
        around = replace(around, input_ranges=ranges)
    if around.lacks_bounds:
        some, select = splits.few_inputs(job.problem.recipe.batch_size), job.problem.select
        around = replace(around, adc_bounds=calibrate_adc(model, some, around, select, noise=noise))
    return replace(noise, periphery=around)


def examples_of(job: Job, splits: Splits, split: str) -> Examples:
    """The examples that are put on the chips of a job."""
    return moved(splits.some(split, job.plan.examples), job.place.device)
