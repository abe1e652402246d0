"""Records made by hand, for tests that need some."""

from dataclasses import replace

from samson.records import Configuration, Environment, Level, RunRecord, Subject, Training

PLAN = Configuration(
    data="digits",
    network="small-resnet",
    methods={"sgd": {"lr": 0.1}, "samson": {"lr": 0.1, "rho": 0.5, "p": "inf"}},
    overrides=("samson.rho=0.5",),
    noise="gaussian",
    levels=(0.0, 0.1, 0.2),
    trials=3,
    seeds=2,
    epochs=1,
    batch_size=64,
    chip_seed=0,
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
    return RunRecord(
        configuration=plan,
        method=method,
        seed=seed,
        training=Training((1.0,), 0.9, 100, 2.0),
        split="test",
        examples=360,
        levels=tuple(Level(level, tuple(values)) for level, values in zip(plan.levels, levels, strict=True)),
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


def with_plan(**changes: object) -> Configuration:
    return replace(PLAN, **changes)
