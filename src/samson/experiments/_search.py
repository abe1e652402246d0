"""Choosing settings on the validation split, with the same effort for each method."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import random
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from samson._environment import environment
from samson._errors import SetupError, installing
from samson.evaluation import NotFiniteError
from samson.experiments._folders import finished
from samson.experiments._method import Method
from samson.experiments._place import one_thread
from samson.experiments._plan import Job, OnProgress, Plan, PlannedProblem
from samson.experiments._suite import Failure, map_jobs
from samson.experiments._sweeps import examples_of, ranges_of, sweep
from samson.experiments._trained import trained
from samson.experiments.data import load_data_set
from samson.records import RecordError, Search, SearchRecord, Tried, finite, read_json, write_json

FIRST_SEED = 1000
"""The first training seed of a search; none of the runs has it."""
CHIP_SEED = 1000
"""What is added to a comparison's chip seed for the chips of an informed search."""

Choice = dict[str, float | str]
Values = tuple[float | None, ...]


def search_settings(
    plan: Plan,
    folder: Path,
    *,
    processes: int,
    progress: Callable[[str, str, int, int], None],
) -> Plan:
    """Choose the settings that a plan leaves open; what was tried is kept, and a repetition goes on from there.

    Optuna draws the choices and keeps them in `search/optuna.log`. Each method's record is in `search/`.

    Args:
        plan: A comparison.
        folder: Its folder.
        processes: Trainings side by side, ≥ 1.
        progress: Called as work goes on, with a name first.

    Returns:
        The plan with nothing left to choose.

    Raises:
        SetupError: If Optuna is not installed, a record of the search is of another one, every choice of a method
            diverged, or a training raised.
        OSError: If a training raised one, for example since the disk is full.
    """
    if plan.search is None:
        return plan
    searches = [
        _MethodSearch(plan, problem, method, folder)
        for problem in plan.problems
        for method in problem.methods
        if method.candidates
    ]
    while waiting := [(search, *asked) for search in searches for asked in search.ask()]:
        work = {
            f"{search.name} {number + 1}/{plan.search.trials}": (search, choice) for search, number, choice in waiting
        }
        map_jobs(
            [(name, search.score(choice, folder)) for name, (search, choice) in work.items()],
            processes=processes,
            progress=progress,
            finished=lambda name, values, work=work: work[name][0].tell(work[name][1], values),  # type: ignore[misc]
        )
    records = [search.record() for search in searches]
    chosen = {search.name: search.chosen(record) for search, record in zip(searches, records, strict=True)}
    found = dataclasses.replace(
        plan,
        problems=tuple(
            dataclasses.replace(
                problem, methods=tuple(chosen.get(f"{problem.record.name}/{m.name}", m) for m in problem.methods)
            )
            for problem in plan.problems
        ),
    )
    finished(found, folder)  # refuses other settings than those of runs that are there
    for search, record in zip(searches, records, strict=True):
        if _other(search.path, record):
            write_json(search.path, record)
    shutil.rmtree(folder / "unfinished" / "search", ignore_errors=True)
    return found


class _MethodSearch:
    """The search for one method on one problem, kept in Optuna's storage."""

    def __init__(self, plan: Plan, problem: PlannedProblem, method: Method, folder: Path) -> None:
        optuna = _optuna()
        self.plan, self.problem, self.method = plan, problem, method
        self.name = f"{problem.record.name}/{method.name}"
        self.path = folder / "search" / f"{self.name}.json"
        self.search: Search = plan.search  # type: ignore[assignment]
        space = {name: list(values) for name, values in method.candidates.items()}
        seed = int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4])
        self.seed, self.order = seed, method.grid()
        if self.search.sampler == "random":
            self.order = random.Random(seed).sample(self.order, self.search.trials)
        self.distributions = {
            name: optuna.distributions.CategoricalDistribution(values) for name, values in space.items()
        }
        (folder / "search").mkdir(parents=True, exist_ok=True)
        path = folder / "search" / "optuna.log"
        text = path.read_bytes() if path.exists() else b""
        if text[-1:] not in (b"", b"\n"):  # half a line, of a full disk: with another behind it, Optuna reads none
            os.truncate(path, text.rfind(b"\n") + 1)
        log = optuna.storages.journal.JournalFileBackend(str(path))
        about = {key: value for key, value in dataclasses.asdict(problem.record).items() if key != "select" or value}
        identity = json.dumps([about, method.record(), space, dataclasses.asdict(self.search)])
        self.study: Any = optuna.create_study(
            storage=optuna.storages.JournalStorage(log),
            study_name=f"{self.name} {hashlib.sha256(identity.encode()).hexdigest()[:12]}",
            load_if_exists=True,
            direction="maximize",
        )

    def told(self) -> list[Any]:
        """The trials that have a result, in the order of the search; of those with the same settings the first.

        Two commands in one folder may both have tried them.
        """
        complete = _optuna().trial.TrialState.COMPLETE
        found: list[Any] = []
        for trial in sorted(self.study.get_trials(states=(complete,)), key=lambda trial: trial.number):
            if trial.params not in [other.params for other in found]:
                found.append(trial)
        if self.search.sampler == "tpe":
            return found
        return sorted(found, key=lambda trial: self.order.index(trial.params))

    def ask(self) -> list[tuple[int, Choice]]:
        """Choices that are to be tried next, with their numbers; none that was tried."""
        tried = [trial.params for trial in self.told()]
        if self.search.sampler != "tpe":
            return [(number, choice) for number, choice in enumerate(self.order) if choice not in tried]
        return [(len(tried), self._suggested(tried))] if len(tried) < self.search.trials else []

    def _suggested(self, tried: list[Choice]) -> Choice:
        """What TPE takes to be promising, from what was tried alone, so that an interruption changes nothing."""
        optuna = _optuna()
        self.study.sampler = optuna.samplers.TPESampler(seed=self.seed + len(tried))
        for _ in range(100):
            trial = self.study.ask(self.distributions)
            self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # only results are kept as trials
            if trial.params not in tried:
                return dict(trial.params)
        return next(choice for choice in self.order if choice not in tried)

    def tell(self, choice: Choice, values: Values | Failure) -> None:
        """Keep what came of a choice."""
        if isinstance(values, Failure):
            kind = OSError if values.of_file else SetupError
            raise kind(f"The search for {self.name} failed with {choice}: {values.reason}\nMend it, and repeat.")
        known = [value for value in values if value is not None]
        sign = 1.0 if self.problem.record.higher_is_better else -1.0
        score = sign * float(np.mean(known)) if len(known) == len(values) else -math.inf
        trial = _optuna().trial.create_trial(
            params=choice,
            distributions=self.distributions,
            value=score if math.isfinite(score) else -1e300,
            user_attrs={"values": list(values)},
        )
        self.study.add_trial(trial)

    def score(self, choice: Choice, folder: Path) -> Callable[[OnProgress], Values]:
        """What says what a choice is worth, by trainings of its own."""
        digest = hashlib.sha256(json.dumps(choice, sort_keys=True).encode()).hexdigest()[:12]
        kept = folder / "unfinished" / "search" / self.name / digest
        families = tuple(family for family in self.plan.families if family.name == self.search.chosen_by)
        plan = dataclasses.replace(self.plan, families=families, chip_seed=self.plan.chip_seed + CHIP_SEED)
        method, seeds = self.method.with_settings(choice), range(FIRST_SEED, FIRST_SEED + self.search.seeds)
        return partial(_scored, [Job(plan, self.problem, method, seed) for seed in seeds], kept)

    def chosen(self, record: SearchRecord) -> Method:
        """The method with the best choice."""
        return self.method.with_settings(next(c for c in self.method.grid() if _recorded(c) == record.chosen))

    def record(self) -> SearchRecord:
        """What was tried, and the best choice.

        Raises:
            SetupError: If every choice diverged.
        """
        told = self.told()
        best = max(told, key=lambda trial: (trial.value, self.order.index(trial.params)))  # of equal ones the later
        if best.value <= -1e300:
            raise SetupError(
                f"`methods` {self.name}: training diverged with every choice.\nTry a smaller lr; look at data and loss."
            )
        return SearchRecord(
            problem=self.problem.record,
            method=self.method.name,
            search=self.search,
            candidates=self.method.candidates_record(),
            tried=tuple(Tried(_recorded(t.params), tuple(t.user_attrs["values"])) for t in told),
            chosen=_recorded(best.params),
            environment=environment(self.plan.device.partition(":")[0]),
        )


def _scored(jobs: Sequence[Job], kept: Path, progress: OnProgress) -> Values:
    """What a choice is worth on the validation split, by seed."""
    return tuple(_validated(job, kept / str(job.seed), progress) for job in jobs)


def _validated(job: Job, kept: Path, progress: OnProgress) -> float | None:
    """Train, and measure on the validation split: without noise, or, if the job has families, on their chips.

    Returns:
        The metric, its mean over kinds and chips; None if the training diverged.
    """
    splits = load_data_set(job.problem.record.data, job.plan.data_root)
    with one_thread():
        model, training = trained(job.problem, job.method, job.seed, splits, kept, progress, job.place)
        if model is None:
            return None
        if training.validation is None:
            name = job.problem.record.metric
            raise NotFiniteError(f"`metric` {name!r} has no finite value on the validation split: give one that has.")
        if not job.plan.families:
            return training.validation
        examples, ranges = examples_of(job, splits, "validation"), ranges_of(model, training, job, splits)
        found = sweep(model, examples, job, progress, ranges, splits)
    return float(np.mean([value for family in found for kind in family for value in kind]))


def _recorded(choice: Choice) -> dict[str, float | str]:
    return {key: finite(value) for key, value in choice.items()}


def _other(path: Path, record: SearchRecord) -> bool:
    """Whether a file is not there, cannot be read or holds another record; where it was made does not matter."""
    try:
        found = read_json(path, SearchRecord)
    except RecordError:
        return True
    return dataclasses.replace(found, environment=record.environment) != record


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise SetupError(f"Searching settings needs a package: {installing('search')}.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
