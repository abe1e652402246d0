"""Records made by hand, for tests that need some, and what a page hides."""

import gzip
import re
from base64 import b64decode
from dataclasses import replace

from samson.records import (
    ChipFamily,
    ChipKind,
    Comparison,
    Configuration,
    Environment,
    Planned,
    Problem,
    RunRecord,
    Settings,
    Subject,
    Training,
)

PROBLEM = Problem(
    name="digits-small-resnet",
    data="digits",
    network="small-resnet",
    task="classification",
    metric="accuracy",
    higher_is_better=True,
    is_fraction=True,
    base="SGD",
    trainer="samson",
    recipe={"epochs": 1.0, "batch_size": 64.0},
)


def family(levels: tuple[float, ...] = (0.1, 0.2), name: str = "gaussian", unit: str = "level") -> ChipFamily:
    return ChipFamily(name, unit, tuple(ChipKind(f"{level:g}", f"noise({level})", level, 0.0) for level in levels))


PLAN = Configuration(
    problems=(Planned(PROBLEM, {"sgd": {"lr": 0.1}, "samson": {"lr": 0.1, "rho": 0.5, "p": "inf"}}, {}),),
    families=(family(),),
    trials=3,
    seeds=2,
    command="samson compare --data digits --out runs/digits",
)
ENVIRONMENT = Environment("0.1.0", None, "3.11.7", "2.13.0", "2.4.6", "Linux x86_64", "cpu", 1)
SUBJECT = Subject(
    model="mine:network",
    weights=None,
    data="digits/test",
    examples=359,
    metric="accuracy",
    higher_is_better=True,
    is_fraction=True,
    about="test_set",
    confidence=0.95,
    chip_seed=3,
    select=(),
    read_block=None,
    norms_on=None,
    batch_size=50,
    channels_last=False,
    autocast=None,
    executor="serial",
    environment=ENVIRONMENT,
    finished="2026-01-01T00:00:00+00:00",
)


def record(method: str, seed: int, levels: list[list[float]], plan: Configuration = PLAN) -> RunRecord:
    """A run with one value without noise, and then the chips of each level."""
    [planned] = plan.problems
    [[clean], *noisy] = levels
    return RunRecord(
        problem=planned.problem,
        method=method,
        settings=planned.methods.get(method, {}),
        seed=seed,
        families=plan.families,
        trials=plan.trials,
        chip_seed=plan.chip_seed,
        training=Training((1.0,), 0.9, 100, 2.0),
        split="test",
        examples=360,
        clean=clean,
        measured=(tuple(map(tuple, noisy)),),
        environment=ENVIRONMENT,
        finished="2026-01-01T00:00:00+00:00",
    )


def records() -> list[RunRecord]:
    return [
        record("sgd", 0, [[0.98], [0.90, 0.92, 0.94], [0.5, 0.6, 0.7]]),
        record("sgd", 1, [[0.96], [0.92, 0.90, 0.88], [0.5, 0.4, 0.6]]),
        record("samson", 0, [[0.99], [0.96, 0.97, 0.98], [0.8, 0.9, 0.9]]),
        record("samson", 1, [[0.97], [0.94, 0.95, 0.96], [0.8, 0.7, 0.9]]),
    ]


def comparison(found: list[RunRecord], plan: Configuration = PLAN) -> Comparison:
    return Comparison(tuple(found), plan.runs, plan.command)


def with_plan(
    methods: dict[str, Settings] | None = None,
    levels: tuple[float, ...] | None = None,
    problem: dict[str, object] | None = None,
    **changes: object,
) -> Configuration:
    [planned] = PLAN.problems
    planned = Planned(replace(planned.problem, **problem or {}), methods or planned.methods, {})
    families = PLAN.families if levels is None else (family(levels),)
    return replace(PLAN, problems=(planned,), families=families, **changes)


_PACKED = re.compile(r"<script type='text/plain' data-packed>(.*?)</script>")


def unpacked(page: str) -> str:
    """The page as it is once everything in it was looked at."""
    while (unpacked := _PACKED.sub(lambda part: gzip.decompress(b64decode(part[1])).decode(), page)) != page:
        page = unpacked
    return page
