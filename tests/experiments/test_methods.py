"""What methods are made of, and what a training does for them: ramps, ranges, converters, a teacher."""

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from samson import RhoSchedule, SharpnessAware
from samson._layers import INPUT_RANGE
from samson.experiments import (
    ADDITIONS,
    ALIASES,
    MODES,
    Classification,
    Loop,
    Method,
    Run,
    SetupError,
    Splits,
    _sweeps,
    _trained,
    compare_suite,
    cores,
    distillation,
    make_network,
    parse_methods,
    plan_suite,
    run,
    train,
    trained,
)
from samson.noise import calibrate
from samson.optim import NoiseInjection, RangeSAM
from tests.conftest import equal
from tests.experiments.test_training import distance


def data(count: int = 48) -> Splits:
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(count + 24, 1, 6, 6, generator=generator)
    targets = (inputs.mean((1, 2, 3)) > 0).long()
    test, validation = (inputs[count : count + 12], targets[count : count + 12]), (inputs[-12:], targets[-12:])
    return Splits((inputs[:count], targets[:count]), validation, test, outputs=2)


def own_data() -> Splits:
    return data()


def net(outputs: int = 2) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, outputs))


class Squares(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head = nn.Bilinear(36, 36, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1), x.flatten(1))


TABLE: dict[str, Any] = {
    "data": f"{__name__}:own_data",
    "network": f"{__name__}:net",
    "recipe": {"epochs": 2, "batch_size": 12, "precision": "float32", "channels_last": False},
}


def method(name: str, *settings: str) -> Method:
    [found] = parse_methods([name], settings)
    return found


# Names and settings


@pytest.mark.parametrize(
    ("asked", "name", "parts"),
    [
        ("hwa", "hwa", "noise+channel-clip+converters+distil"),
        ("hwa+samson", "samson+hwa", "samson+channel-clip+converters+distil"),
        ("rangesam+hwa", "rangesam+hwa", "rangesam+channel-clip+converters+distil"),
        ("plain+hwa", "plain+hwa", "plain+channel-clip+converters+distil"),
        ("learned-range+sam", "sam+learned-range", "sam+learned-range"),
        ("distil+converters+noise", "noise+converters+distil", "noise+converters+distil"),
        ("channel-clip", "channel-clip", "channel-clip"),
    ],
)
def test_parts_are_ordered_and_recipes_are_opened(asked: str, name: str, parts: str) -> None:
    found = method(asked)
    assert (found.name, found.made_of) == (name, parts)
    assert found.record().get("method", name) == parts


@pytest.mark.parametrize("asked", ["clip+channel-clip", "hwa+clip", "noise+rwp", "hwa+distil", "hwa+hwa", "clip+clip"])
def test_what_does_not_go_together_is_refused(asked: str) -> None:
    with pytest.raises(SetupError, match="one way to clip at most"):
        method(asked)


def test_a_recipe_has_its_published_settings() -> None:
    """Per-channel noise .03, clipping at 2.5 std, 254 steps, bound 14, temperature 1, weight 1, decay .001."""
    settings = method("hwa").settings
    for key, value in {
        "per": "channel", "steps": 254, "out_bound": 14, "temperature": 1, "teacher_weight": 1, "decay": 0.001,
    }.items():  # fmt: skip
        assert settings[key] == value
    assert isinstance(method("hwa").build(net()).optimizer.rule, NoiseInjection)


def unknown_in(made_of: str, settings: Iterable[str]) -> set[str]:
    """The parts of a recipe, and its settings, that there are not."""
    core, *more = made_of.split("+")
    parts = {**cores(), **ADDITIONS}
    known = {key for name in (core, *more) if name in parts for key in parts[name].settings}
    return {core} - cores().keys() | {*more} - ADDITIONS.keys() | {*settings} - known


def test_recipes_are_made_of_what_there_is() -> None:
    """A misspelt setting of one would be left out in silence."""
    for made_of, recipe in ALIASES.values():
        assert unknown_in(made_of, recipe.settings) == set()
    assert unknown_in("clip+rmsam", ["alpha", "alfa", "rho"]) == {"clip", "rmsam", "alfa", "rho"}  # the check can fail


def test_modes_are_recorded_only_where_they_change_something() -> None:
    assert not set(method("samson").record()) & set(MODES)
    found = method("samson", "samson.ramp=quadratic", "samson.every=2", "samson.budget=0.5").record()
    assert {key: found[key] for key in MODES if key in found} == {"ramp": "quadratic", "every": 2.0, "budget": 0.5}
    assert method("rwp").record()["mix"] == 0.5
    assert "keep_norm" not in method("clip").record()
    assert method("clip", "clip.keep_norm=1").record()["keep_norm"] == 1


def test_modes_reach_the_optimizer() -> None:
    settings = ["rangesam.every=3", "rangesam.mix=0.5", "rangesam.ascent=previous", "rangesam.budget=0.2"]
    built = method("rangesam", *settings, "rangesam.through_range=1", "rangesam.per=channel").build(net())
    optimizer = built.optimizer
    assert isinstance(optimizer, SharpnessAware)
    assert optimizer.rule == RangeSAM(rho=optimizer.rule.rho, per="channel", through_range=True)
    assert (optimizer.modes.every, optimizer.modes.mix, optimizer.modes.ascent) == (3, 0.5, "previous")
    assert (optimizer.budget, built.schedule, built.through) == (0.2, None, None)


@pytest.mark.parametrize("select", [(), ("!4",)])
@pytest.mark.parametrize("name", ["noise+clip", "rwp", "rangesam+channel-clip", "plain+fixed-clip", "hwa", "plain"])
def test_a_selection_holds_for_every_part(name: str, select: tuple[str, ...]) -> None:
    """What noise and the ball move, what is clipped, and what converts: the first layer, and the last or not."""
    torch.manual_seed(0)
    model = net()
    built = replace(method(name, "lr=1e-9"), select=select).build(model, steps=9, data=[torch.randn(8, 1, 6, 6)])
    optimizer, first, last = built.optimizer, model[0].weight, model[4].weight
    reached = {"0"} if select else {"0", "4"}
    with torch.no_grad():
        first[0, 0, 0, 0], last[0, 0] = 100.0, 100.0
    seen = []

    def look() -> None:
        seen.append((first.detach().clone(), last.detach().clone()))

    def closure() -> Tensor:
        look()
        optimizer.zero_grad()
        loss = model(torch.randn(8, 1, 6, 6)).square().mean()
        loss.backward()
        return loss

    for _ in range(2):  # a ramp starts at 0
        look()
        optimizer.step(closure)
    moved = [not torch.equal(before, perturbed) for before, perturbed in zip(seen[-2], seen[-1], strict=True)]
    if isinstance(optimizer, SharpnessAware):
        assert moved == [True, "4" in reached]
    if "clip" in name or name == "hwa":
        assert [first.max().item() < 99, last.max().item() < 99] == [True, "4" in reached]
    if built.through is not None:
        assert set(built.through.layers) == reached


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("samson", "ramp=cubic", "`shape` must be one of constant, linear, quadratic, drawn"),
        ("converters", "steps=7", "`dac_steps` must be even"),
        ("learned-range", "penalty=-1", "`penalty` must be ≥ 0"),
        ("fixed-clip", "w_max=0", "`w_max` must be > 0"),
        ("rangesam", "per=tensor", "`per` must be one of layer, channel"),
        ("sam", "budget=0", "`budget` must be > 0"),
        ("rwp", "mix=2", "`mix` must be between 0 and 1"),
        ("distil", "temperature=0", "`temperature` must be > 0"),
        ("distil", "teacher_weight=-1", "`teacher_weight` must be ≥ 0"),
        ("samson", "every=inf", "`every` must be a whole number, got inf"),
        ("converters", "steps=inf", "`steps` must be a whole number, got inf"),
        ("converters", "steps=254.9", "`steps` must be a whole number, got 254.9"),
    ],
)
def test_settings_out_of_range_are_named_before_any_training(name: str, setting: str, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        method(name, f"{name}.{setting}")


def own_optimizer(model: nn.Module, lr: float = 0.05) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr)


@pytest.mark.parametrize("given", [["samson.lr=0.3", "lr=0.01", "rho=2"], {"samson.lr": 0.3, "lr": 0.01, "rho": 2}])
def test_a_setting_without_a_method_is_for_all_that_have_it(given: Any) -> None:
    """What is said of a method itself goes before, in whatever order."""
    own = {"method": own_optimizer}
    asked = ["sgd", "samson", {"method": "sam", "lr": 0.2}, {"method": "clip", "lr": [0.1, 0.2]}, own]
    sgd, samson, sam, clip, mine = parse_methods(asked, given)
    rates = [one.settings["lr"] for one in (sgd, samson, sam, mine)]
    assert rates == [0.01, 0.3, 0.2, 0.01]
    assert clip.candidates == {"lr": (0.1, 0.2)}
    assert (samson.settings["rho"], sam.settings["rho"], "rho" in sgd.settings) == (2, 2, False)


def test_a_searched_setting_may_be_set() -> None:
    first, second = parse_methods(["sgd", "sam"], {"lr": [0.1, 0.2], "sam.lr": 0.3})
    assert (first.candidates, second.candidates) == ({"lr": (0.1, 0.2)}, {})
    assert second.settings["lr"] == 0.3


def test_a_setting_that_no_method_has_is_refused() -> None:
    with pytest.raises(SetupError, match=r"`set`: 'rh' is unknown.\nDid you mean 'rho'\? Available: lr, momentum"):
        parse_methods(["sgd", "sam"], ["rh=1"])
    [plain] = parse_methods(["plain"], {"momentum": 0.8, "rho": 1.0}, base="AdamW")  # as of another problem's methods
    assert not {"momentum", "rho"} & plain.settings.keys()


# What changes over a training


@pytest.mark.parametrize(("shape", "power"), [("linear", 1), ("quadratic", 2)])
def test_a_ramp_goes_by_the_steps_of_the_training(shape: str, power: int) -> None:
    strengths: list[float] = []

    class Watching(Run):
        def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
            optimizer = super().optimizer(model)
            optimizer.base.register_step_pre_hook(lambda *_: strengths.append(optimizer.param_groups[0]["rho"]))
            return optimizer

    task = plan_suite(TABLE).problems[0]
    run = Watching(
        data(), Classification(), net, method("samson", "samson.rho=0.8", f"samson.ramp={shape}"), task.recipe, 0
    )
    train(run)
    steps = 2 * 4
    assert strengths == pytest.approx([0.8 * (step / steps) ** power for step in range(steps)])


def by_three_steps(run: Run) -> nn.Module:
    model = run.network()
    optimizer = run.optimizer(model)
    for x, y in islice(run.data.batches(12, seed=0, epoch=0, device="cpu", augment=()), 3):

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = run.task.loss(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
    return model


def by_divergence(run: Run) -> nn.Module:
    run.losses.append(math.nan)
    return by_three_steps(run)


@pytest.mark.parametrize(
    ("name", "batch_size", "steps"),
    [
        ("rwp", 12, 8),
        ("rwp", 24, 4),
        ("rwp", 48, 2),
        ("samson", 12, None),
        ({"method": "samson", "ramp": "linear"}, 12, 8),
        ({"method": "samson", "ramp": "drawn"}, 12, None),
    ],
)
def test_a_trainer_of_ones_own_must_come_to_the_end_of_a_ramp(name: Any, batch_size: int, steps: int | None) -> None:
    """It makes three steps; a recipe of fewer does no harm."""
    recipe = {**TABLE["recipe"], "batch_size": batch_size}
    plan = plan_suite({**TABLE, "methods": [name], "train": by_three_steps, "recipe": recipe})
    [problem] = plan.problems

    def made() -> Any:
        return trained(problem, problem.methods[0], 0, data(), None, lambda *_: None)[0]

    if steps is None or steps < 3:
        assert isinstance(made(), nn.Module)
    else:
        said = rf"`train` made 3 of {steps} steps with .* and the ramp of \w+ ends at the last.\nSet recipe.epochs"
        with pytest.raises(SetupError, match=said):
            made()
        plan = plan_suite({**TABLE, "methods": [name], "train": by_divergence, "recipe": recipe})
        [problem] = plan.problems
        assert isinstance(made(), nn.Module)  # its losses say what it is


@pytest.mark.parametrize("seed", [0, 3])
def test_the_seed_of_a_training_is_that_of_its_noise_and_of_what_is_drawn(seed: int) -> None:
    assert method("noise").build(net(), seed).optimizer.rule.seed == seed
    built = method("samson", "samson.ramp=drawn").build(net(), seed, 8)
    by_hand = RhoSchedule(method("samson").build(net()).optimizer, "drawn", 8, seed=seed)
    for _ in range(8):
        assert built.optimizer.param_groups[0]["rho"] == by_hand.optimizer.param_groups[0]["rho"]
        built.schedule.step()
        by_hand.step()


def test_without_a_number_of_steps_nothing_is_ramped() -> None:
    assert method("samson").build(net(), steps=10).schedule is None
    assert isinstance(method("rwp").build(net(), steps=10).schedule, RhoSchedule)


# Converters


def one_run(name: str, *settings: str, table: dict[str, Any] = TABLE, folder: Path | None = None) -> tuple[Any, Any]:
    plan = plan_suite({**table, "methods": [name], "set": dict(s.split("=") for s in settings)})
    [problem] = plan.problems
    return trained(problem, problem.methods[0], 0, data(), folder, lambda *_: None)


def test_converters_are_taken_off_and_their_ranges_are_recorded() -> None:
    model, training = one_run("converters")
    assert set(training.input_ranges) == {"0", "4"}
    assert all(value > 0 for value in training.input_ranges.values())
    assert not any(INPUT_RANGE in name for name in model.state_dict())
    plain, of_plain = one_run("plain")
    assert of_plain.input_ranges == {}
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert not equal(model.state_dict(), plain.state_dict())


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, float]]:
    """Input ranges with which networks are measured, in a folder with chip.toml."""
    monkeypatch.chdir(tmp_path)
    Path("chip.toml").write_text(CHIP)
    ranges: list[dict[str, float]] = []

    def watched(model: nn.Module, examples: Any, chip: Any, **more: Any) -> Any:
        ranges.append(dict(chip.periphery.input_ranges))
        return real(model, examples, chip, **more)

    real = _sweeps.chips_alone
    monkeypatch.setattr(_sweeps, "chips_alone", watched)
    return ranges


def test_a_network_is_judged_with_its_own_ranges(seen: list[dict[str, float]]) -> None:
    """Learned ones where it has them, else from training data; never each vector's own."""
    suite = {**TABLE, "methods": ["plain", "converters"], "seeds": 1, "trials": 2, "chips": ["chip.toml"]}
    plain, learned = compare_suite(suite, "out", runner=one_by_one).records
    assert seen[1] == dict(learned.training.input_ranges)
    assert seen[0].keys() == seen[1].keys()
    assert seen[0] != seen[1]
    assert (plain.calibrated, learned.calibrated) == (seen[0], {})
    batches = [(inputs,) for inputs, _ in data().batches(12, seed=0, epoch=0, device="cpu", augment=(), workers=0)]
    assert seen[0] == pytest.approx(calibrate(network_of(plain), batches))


def test_a_chip_with_ranges_of_its_own_keeps_them(seen: list[dict[str, float]]) -> None:
    """Also beside one that has none, for which they are calibrated, and for a network that has learned some."""
    Path("own.toml").write_text(f"{CHIP}\n[periphery.input_ranges]\n0 = 2.0\n4 = 3.0\n")
    suite = {**TABLE, "methods": ["plain", "converters"], "seeds": 1, "trials": 2, "chips": ["chip.toml", "own.toml"]}
    compare_suite(suite, "out", runner=one_by_one)
    assert seen[1] == seen[3] == {"0": 2.0, "4": 3.0}
    assert len({tuple(ranges.values()) for ranges in seen}) == 3


def one_by_one(jobs: Any, folder: Path, *_: Any, **__: Any) -> dict[str, Any]:
    for job in jobs:
        run(job, folder, lambda *_: None)
    return {}


CHIP = """
source = "a test"

[noise]
family = "gaussian"
sigma = 0.05

[periphery]
dac_steps = 30
adc_steps = 30
adc_bound = 4.0
"""


def network_of(record: Any) -> nn.Module:
    """The network of a record, built by its function here."""
    model = net()
    model.load_state_dict(load_file(f"out/networks/{record.problem.name}/{record.method}-seed0.safetensors"))
    return model.eval()


def test_converters_on_what_hooks_do_not_reach_are_refused_before_training() -> None:
    with pytest.raises(SetupError, match="`methods` converters with the network .* raised .*`periphery` must go on"):
        plan_suite({**TABLE, "network": f"{__name__}:Squares", "methods": ["converters"]})


# A teacher


@pytest.mark.parametrize("axes", [(5,), (2, 3)])
def test_distillation_is_the_divergence_from_the_teacher(axes: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    own, theirs = (torch.randn(*axes, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    temperature, weight = 2.0, 0.7
    p, q = (np.exp(z.numpy() / temperature) for z in (theirs, own))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    expected = weight * temperature**2 * (p * np.log(p / q)).sum(-1).mean()
    assert float(distillation(own, theirs, temperature, weight)) == pytest.approx(expected, rel=1e-12)
    assert float(distillation(theirs, theirs, temperature, weight)) == pytest.approx(0, abs=1e-12)


def test_the_teacher_is_the_plain_network_and_its_training_counts(tmp_path: Path) -> None:
    teachers: list[nn.Module] = []

    class Watching(Run):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "teacher" and value is not None:
                teachers.append(value)
            super().__setattr__(name, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_trained, "Run", Watching)
        model, training = one_run("samson+distil", "samson+distil.lr=0.05", folder=tmp_path / "run")
    plain, of_plain = one_run("plain", "plain.lr=0.05")
    [teacher] = teachers
    assert equal(teacher.state_dict(), plain.state_dict())
    assert not teacher.training
    _, alone = one_run("samson")
    assert training.gradients == alone.gradients + of_plain.gradients
    assert len(training.loss) == 2, "its own epochs alone"
    assert not equal(model.state_dict(), plain.state_dict())


def test_a_log_has_the_figures_of_the_student_alone() -> None:
    written: list[tuple[str, int]] = []

    class Writer:
        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, step))

    [problem] = plan_suite({**TABLE, "methods": ["distil"]}).problems
    trained(problem, problem.methods[0], 0, data(), None, lambda *_: None, log=Writer())
    assert [step for name, step in written if name == "loss"] == [4, 8]


def dropping(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, outputs))


@pytest.mark.parametrize(("name", "network"), [("distil", "net"), ("converters+distil", "dropping")])
def test_a_teacher_is_trained_once(name: str, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its student's training is cut off, whose first input ranges may depend on what dropout draws."""
    table = {**TABLE, "network": f"{__name__}:{network}"}
    steps: list[str] = []
    left = 0
    advance = Loop.advance

    def cut(self: Loop, *batch: Tensor) -> None:
        steps.append("teacher" if self.run.about.startswith("teacher of") else "")
        if len(steps) == left:
            raise KeyboardInterrupt
        advance(self, *batch)

    monkeypatch.setattr(Loop, "advance", cut)
    whole, training = one_run(name, table=table, folder=tmp_path / "whole")
    assert steps == ["teacher"] * 8 + [""] * 8
    steps.clear()
    left = 12
    with pytest.raises(KeyboardInterrupt):
        one_run(name, table=table, folder=tmp_path / "cut")
    left = 0
    model, after = one_run(name, table=table, folder=tmp_path / "cut")
    assert steps.count("teacher") == 8
    assert equal(model.state_dict(), whole.state_dict())
    assert after.gradients == training.gradients


def test_a_teacher_changes_the_loss_as_its_formula_says() -> None:
    """A few plain steps by hand, with and without the teacher's part."""
    model, _ = one_run("distil", "distil.temperature=2", "distil.teacher_weight=3")
    teacher, _ = one_run("plain")
    [problem] = plan_suite({**TABLE, "methods": ["plain"]}).problems

    def by_hand(weight: float) -> dict[str, Tensor]:
        torch.manual_seed(0)
        run = Run(data(), Classification(), net, problem.methods[0], problem.recipe, 0)
        student = make_network(problem.record.network, (1, 6, 6), 2, 0).train()
        optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
        for step in range(8):
            epoch, place = divmod(step, 4)
            x, y = list(run.data.batches(12, seed=0, epoch=epoch, device="cpu", augment=()))[place]
            optimizer.param_groups[0]["lr"] = 0.1 * (1 + math.cos(math.pi * step / 8)) / 2
            optimizer.zero_grad()
            out = student(x)
            loss = nn.functional.cross_entropy(out, y)
            loss = loss + distillation(out, teacher(x).detach(), 2.0, weight)
            loss.backward()
            optimizer.step()
        return student.state_dict()

    assert distance(model.state_dict(), by_hand(3.0)) < 1e-5
    assert distance(model.state_dict(), by_hand(0.0)) > 1e-2


def test_a_teacher_is_heard_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where both networks run in bfloat16, whose logarithms have two digits."""
    seen: set[torch.dtype] = set()

    def noted(outputs: Tensor, taught: Tensor, *strengths: float) -> Tensor:
        seen.update((outputs.dtype, taught.dtype))
        return distillation(outputs, taught, *strengths)

    monkeypatch.setattr("samson.experiments._loop.distillation", noted)
    _, training = one_run("distil", table={**TABLE, "recipe": {**TABLE["recipe"], "precision": "bfloat16"}})
    assert (training.precision, seen) == ("bfloat16", {torch.float32})


def trainer(run: Run) -> nn.Module:
    return net()


OTHERS: dict[str, dict[str, str]] = {
    "own trainer": {"train": f"{__name__}:trainer"},
    "regression": {"task": "regression", "network": f"{__name__}:one_number"},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_distillation_is_for_classes_in_our_own_loop(kind: str) -> None:
    with pytest.raises(SetupError, match="without distillation but for classes, in our own training loop, got 'hwa'"):
        plan_suite({**TABLE, "methods": ["hwa"], **OTHERS[kind]})


def one_number(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 1), nn.Flatten(0))


def of_the_run(model: nn.Module, lr: float = 0.5, seed: int = 0, steps: int = 0) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": model.parameters(), "seed": seed, "steps": steps}], lr=lr)


def test_a_method_of_ones_own_knows_seed_and_steps() -> None:
    [found] = parse_methods([f"{__name__}:of_the_run"])
    assert found.settings == {"lr": 0.5}
    [group] = found.build(net(), seed=3, steps=40).optimizer.param_groups
    assert (group["seed"], group["steps"], group["lr"]) == (3, 40, 0.5)
