"""The command `compare`."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samson._errors import SetupError, WorkerLostError, choose, require
from samson._interrupts import answered
from samson._names import counted
from samson.cli._errors import FileError
from samson.cli._options import DEVICE, DRIFT, OWN, RUNS
from samson.cli._progress import Bars, Lines
from samson.cli._reporting import SMALLER_LR, write_report
from samson.cli._showing import console, empty_table, show_whole

if TYPE_CHECKING:
    from rich.console import Console

    from samson.experiments import Job, Plan
    from samson.records import RunRecord

Suite = Annotated[
    Path | None,
    typer.Argument(
        help=f"A comparison in a file, `….toml`, instead of the options. Also under --dry-run, a file {RUNS}"
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder for records, networks, summary and report.")]
EXECUTORS = ("processes", "ray")
"""Where runs are computed."""


def compare(
    suite: Suite = None,
    out: Out = None,
    data: Annotated[
        str | None, typer.Option(help="Data set: see `samson list data`, or MODULE:FUNCTION; `digits` by default.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="See `samson list networks`, or MODULE:FUNCTION; `small-resnet` by default.")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Separated by commas: see `samson list methods`, or MODULE:FUNCTION; "
            "sgd,noise,clip,sam,asam,samson,samson+clip by default."
        ),
    ] = None,
    base: Annotated[str | None, typer.Option(help="Base optimizer, of `torch.optim`; SGD by default.")] = None,
    train: Annotated[str | None, typer.Option(help="Your own training function, as MODULE:FUNCTION.")] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help=f"Separated by commas: see `samson list noises` and `chips`, or {OWN}; gaussian by default. {DRIFT}"
        ),
    ] = None,
    levels: Annotated[
        str | None, typer.Option(help="Levels of one noise, separated by commas; by default some that suit it.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Chips per network and kind; 20 by default.")] = None,
    examples: Annotated[
        int | None, typer.Option(help="Test examples that are put on the chips; all by default.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Training seeds; 3 by default.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split; 30 by default.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="METHOD.PARAM=VALUE",
            help="A method's setting; PARAM=VALUE sets it for every method that has it.",
        ),
    ] = None,
    data_root: Annotated[
        str | None,
        typer.Option(help="Folder with the files of data; by default that of SUITE, else of the variable SAMSON_DATA."),
    ] = None,
    device: Annotated[str | None, typer.Option(help=f"{DEVICE} By default cpu.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Runs at the same time; by default one per processor.")] = None,
    executor: Annotated[str, typer.Option(help=f"Where runs are computed: {', '.join(EXECUTORS)}.")] = "processes",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, and say what would be run and how long.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="One line per run instead of progress bars.")] = False,
) -> None:
    """Train by several methods, put every network on the same noisy chips, and write a report.

    If the command is interrupted, repeat it: it continues where it stopped.
    """
    require(jobs is None or jobs >= 1, "--jobs", "at least 1", jobs, "The default is one per processor.")
    choose("--executor", executor, EXECUTORS)
    if out is None and not dry_run:
        raise SetupError("--out must be given.\nWrite for example --out runs/digits.")
    given: dict[str, Any] = {"data": data, "network": network, "methods": methods, "base": base, "train": train}
    given |= {"noise": noise, "levels": levels, "trials": trials, "examples": examples}
    given |= {"seeds": seeds, "epochs": epochs, "set": set_}
    given = {key: value for key, value in given.items() if value is not None}
    from samson.experiments import (
        check_device,
        default_jobs,
        look_into,
        plan_suite,
        read_suite,
        run_all,
        trained_already,
    )

    if suite is not None:
        wrong = "what a file says is not said by options too"
        require(not given, f"--{next(iter(given), '')}", f"left out beside SUITE: {wrong}", given, "Write it there.")
        table = read_suite(suite)
        words = ["samson", "compare", str(suite)]
    else:
        table = _table(given)
        words = ["samson", "compare", *_words(given)]
    if data_root is None and "data_root" not in table:
        data_root = os.environ.get("SAMSON_DATA") or None
    if data_root is not None:
        table["data_root"] = data_root
        words += ["--data-root", data_root]
    if device is not None:
        check_device(device)
        table["device"] = device
        words += ["--device", device]
    try:
        plan = plan_suite(table, shlex.join([*words, "--out", str(out or "runs/comparison")]))
    except SetupError as error:
        if suite is None:
            raise
        raise FileError(f"{suite}: {error}") from error
    processes = jobs or default_jobs()
    if dry_run:
        finished, there = ([], []) if out is None else look_into(plan, out)
        _say_what_would_be_run(plan, processes, finished, there)
        _say_what_is_trained(console(), () if out is None else trained_already(plan, out, there))
        return
    assert out is not None
    if executor == "ray":
        from samson.experiments import run_on_ray as runner
    else:
        runner = run_all
    _run(plan, out, processes, quiet=quiet, runner=runner)


def _run(plan: Plan, out: Path, processes: int, *, quiet: bool, runner: Any) -> None:
    from samson.experiments import (
        StoppedError,
        compare_suite,
        look_into,
        open_folder,
        read_records,
        trained_already,
    )

    def stop() -> None:
        raise StoppedError

    open_folder(plan, out)  # what is wrong with it is said before any bar is drawn
    screen = console(stderr=True)
    total = plan.record().runs
    watcher = (Lines if quiet else Bars)(screen, total)

    def begin(jobs: list[Job], left: list[Job]) -> None:
        trained = trained_already(plan, out, read_records(out))
        watcher.begin(len(jobs) - len(left), trained)
        if left and len(left) < len(jobs):
            screen.print(f"Going on: {len(jobs) - len(left)} of {len(jobs)} runs are finished.")
        _say_what_is_trained(screen, trained)

    try:
        with answered(stop), watcher:  # as Ctrl-C, but trainings answer a notice themselves, and are saved first
            found = compare_suite(plan, out, processes=processes, watcher=watcher, begin=begin, runner=runner)
    except (KeyboardInterrupt, StoppedError) as stopped:
        done = len(look_into(plan, out)[0])
        screen.print(f"Stopped with {done} of {total} runs finished. Repeat the command to go on,")
        screen.print(f"or see these with `samson report {shlex.quote(str(out))}`.", soft_wrap=True)
        raise typer.Exit(143 if isinstance(stopped, StoppedError) else 130) from None
    gone = total - len(found.records) - len(found.failures)
    if gone:
        raise WorkerLostError(
            f"Of {counted(gone, 'run')} the record is gone from {str(out)!r}: was it changed meanwhile?"
        )
    diverged = sum(record.training.diverged_at is not None for record in found.records)
    if len(found.records) > diverged:
        write_report(out)
    for name, failure in found.failures.items():
        screen.print(f"FAILED {name}: {failure.reason}")
    if found.failures:
        screen.print(f"{len(found.failures)} of {total} runs failed (details: {out / 'failed.txt'}).")
        screen.print("Finished runs are kept; repeat the command to try these again.")
    if diverged:
        screen.print(f"{diverged} of {total} trainings diverged. {SMALLER_LR}")
    if found.failures or diverged:
        raise typer.Exit(1)


def _say_what_is_trained(screen: Console, names: Collection[str]) -> None:
    if names:
        screen.print(f"Trained already, and only put on the chips that they lack: {counted(len(names), 'network')}.")


def _table(given: dict[str, Any]) -> dict[str, Any]:
    """The suite that the options stand for."""
    table: dict[str, Any] = {
        key: given[key] for key in ("network", "base", "train", "trials", "examples", "seeds", "set") if key in given
    }
    for key in ("data", "methods"):
        if key in given:
            table[key] = given[key].split(",")
    if "epochs" in given:
        require(given["epochs"] >= 1, "--epochs", "at least 1", given["epochs"], "The default is 30.")
        table["recipe"] = {"epochs": given["epochs"]}
    noises = given.get("noise", "gaussian").split(",")
    chips: list[Any] = noises
    if "levels" in given:
        one = "one noise where levels are given"
        require(len(noises) == 1, "--noise", one, given.get("noise"), "Write a suite's file for several.")
        from samson.experiments import names_chip

        mend = "A suite's file may give a chip `times`."
        require(not names_chip(noises[0]), "--levels", "given for a noise, not a chip", given["levels"], mend)
        chips = [{"noise": noises[0], "levels": given["levels"].split(",")}]
    return {**table, "chips": chips}


def _words(given: dict[str, Any]) -> list[str]:
    """The options that were given, as they are written."""
    words = []
    for key, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{key}", str(one)]
    return words


def _say_what_would_be_run(
    plan: Plan, processes: int, finished: Sequence[RunRecord], there: Sequence[RunRecord]
) -> None:
    """What is left, of which those that are there need chips alone."""
    from samson.experiments import estimate

    table = empty_table("What would be run; times are for each run")
    for name in ("Problem", "Method", "Runs", "Training", "Chips"):
        table.add_column(name, justify="left" if name in ("Problem", "Method") else "right", no_wrap=name != "Problem")
    found = estimate(plan)
    searched = {(p.record.name, m.name) for p in plan.problems for m in p.methods if m.candidates}
    trainings = 0 if plan.search is None else plan.search.trials * plan.search.seeds
    done, trained = (Counter((one.problem.name, one.method) for one in records) for records in (finished, there))
    total, to_search = 0.0, list[tuple[str, str]]()
    for one in found:
        left = plan.seeds - done[one.problem, one.method]
        known = one.training or 0.0
        training = "?" if one.training is None else _time(one.training)
        table.add_row(one.problem, one.method, str(plan.seeds), training, _time(one.chips))
        key = one.problem, one.method
        to_search += [key] if key in searched and not trained[key] else []
        untrained = max(plan.seeds - trained[key], 0)
        total += left * one.chips + untrained * known + known * trainings * (key in to_search)
    show_whole(table)
    screen = console()
    families = ", ".join(f"{family.name} ({len(family.kinds)})" for family in plan.families)
    screen.print(f"{counted(plan.record().runs, 'run')}, each on {plan.trials} chips of every kind: {families}.")
    if plan.search is not None and to_search:
        several = len(plan.problems) > 1
        each = f"{len(to_search)} pairs of a problem and a method" if several else counted(len(to_search), "method")
        screen.print(
            f"Before them a search, by {plan.search.chosen_by}: {counted(trainings, 'training')} for each of {each}."
        )
    if finished:
        screen.print(f"{len(finished)} of {counted(plan.record().runs, 'run')} are finished; those left:")
    unknown = any(one.training is None for one in found)
    about, without = ("At least", ", without the trainings marked ?") if unknown else ("About", "")
    time = f"{about} {_time(total / processes)} with {processes} side by side"
    screen.print(f"{time}{without}, from a few timed steps.")


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
