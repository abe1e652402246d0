"""The range test for ρ, against a loop written here; the suggestion by hand; the defaults of ρ as the page has them."""

import dataclasses
import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import range_test
from benchmarks.evidence import winners
from samson import SharpnessAware, param_groups
from samson.experiments import TUNED, Place, Run, SetupError, Splits, diverged, find_rho, plan_suite, suggest_rho
from samson.optim import RULES
from samson.records import RhoPoint, RhoRecord, read_json, write_json

PAGE = Path(__file__).parents[2] / "docs/choosing-rho.md"


def dots() -> Splits:
    """64, 16 and 16 points of two classes, which a line separates."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 3, generator=generator)
    y = (x[:, 0] > 0).long()
    parts = [(x[a:b], y[a:b]) for a, b in ((0, 64), (64, 80), (80, 96))]
    return Splits(*parts, outputs=2)


def network(outputs: int) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, outputs))


RECIPE = {"epochs": 4, "batch_size": 8, "precision": "float32", "schedule": "constant", "augment": "none"}


def found_by(**more: object) -> RhoRecord:
    table = {"data": f"{__name__}:dots", "network": f"{__name__}:network", "recipe": RECIPE, "methods": ["samson"]}
    return find_rho(plan_suite(table | more), 0, Place(), lambda *_: None)


@pytest.fixture(scope="module")
def usual() -> RhoRecord:
    return found_by()


def endless() -> Splits:
    """Values to be told whose squared errors are beyond float32."""
    parts = [(x, torch.full((len(x), 1), 1e30)) for x, _ in (dots().train, dots().validation, dots().test)]
    return Splits(*parts, outputs=1, task="regression")


def test_a_training_without_a_first_loss_is_refused() -> None:
    with pytest.raises(SetupError, match="`find_rho` must be for a training whose first loss is finite"):
        found_by(data=f"{__name__}:endless", task="regression")


def test_the_losses_are_those_of_a_loop_in_which_rho_rises(usual: RhoRecord) -> None:
    record = usual
    data, model = dots(), network(2)
    base = torch.optim.SGD(param_groups(model), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    optimizer = SharpnessAware(base, RULES["samson"]())
    rows = []
    for step in range(32):
        if step % 8 == 0:
            batches = iter(data.batches(8, seed=0, epoch=step // 8, device="cpu", augment=()))
        x, y = next(batches)
        rho = 0.01 * 10_000 ** (step / 31)
        optimizer.param_groups[0]["rho"] = rho
        optimizer.zero_grad()
        clean = nn.functional.cross_entropy(model(x), y)
        clean.backward()
        with optimizer.perturbed():
            perturbed = nn.functional.cross_entropy(model(x), y)
            perturbed.backward()
        optimizer.step()
        rows.append((math.log(rho), clean.item(), perturbed.item()))
    assert record.start_loss == pytest.approx(rows[0][1], rel=1e-5)
    assert len(record.points) == 16
    for point, pair in zip(record.points, zip(rows[::2], rows[1::2], strict=True), strict=True):
        rho, clean_loss, perturbed_loss = (sum(values) / 2 for values in zip(*pair, strict=True))
        expected = (math.exp(rho), clean_loss, perturbed_loss)
        assert dataclasses.astuple(point) == pytest.approx(expected, rel=1e-4)
    assert record.suggested == suggest_rho(record.points, record.start_loss)


def test_the_rho_of_the_method_plays_no_part(usual: RhoRecord) -> None:
    assert found_by(set={"samson.rho": 2.0}).points == usual.points
    assert found_by(methods=["sam"]).points != usual.points


def test_a_record_comes_back(usual: RhoRecord, tmp_path: Path) -> None:
    write_json(tmp_path / "rho.json", usual)
    assert read_json(tmp_path / "rho.json", RhoRecord) == usual


@pytest.mark.parametrize("checked", [1, 16])
def test_it_ends_where_a_loss_is_no_finite_number(checked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samson.experiments._loop.CHECKED", checked)
    record = found_by(set={"samson.lr": 1e18})
    assert 0 < len(record.points) < 16
    assert diverged(record)
    assert all(math.isfinite(point.perturbed_loss) for point in record.points)


@pytest.mark.parametrize(
    ("clean", "highest", "expected"),
    [
        ((0.9, 0.5, 1.5), 75.0, False),  # fell
        ((1.0, 1.2, 1.5), 75.0, True),  # never below the first loss
        ((0.9, 0.5, 0.2), 40.0, True),  # ended early
    ],
)
def test_a_training_that_diverged_is_told(
    usual: RhoRecord, clean: tuple[float, ...], highest: float, expected: bool
) -> None:
    ended = tuple(RhoPoint(rho, loss, loss) for rho, loss in zip((0.01, 1.0, highest), clean, strict=True))
    assert diverged(dataclasses.replace(usual, start_loss=1.0, points=ended)) == expected


@pytest.mark.parametrize("epochs", [1, 3, 16])
def test_a_range_test_that_came_to_its_end_did_not_diverge(epochs: int) -> None:
    """However many steps its last point is the mean of: 1, 2 and 8."""
    assert not diverged(found_by(recipe=RECIPE | {"epochs": epochs}))


def own_method(model: nn.Module, rho: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=rho)


def own_trainer(run: Run) -> nn.Module:
    return run.network()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"methods": [own_method]},
            "a method of this library with ρ, got 'own_method'.\n.* your own see docs/choosing-",
        ),
        ({"train": own_trainer}, "`train` must be left out with `find_rho`, .*\nLeave `train` out."),
    ],
)
def test_what_is_of_ones_own_has_its_mend(more: dict[str, object], words: str) -> None:
    with pytest.raises(SetupError, match=words):
        found_by(**more)


def points(*perturbed: float) -> list[RhoPoint]:
    return [RhoPoint(10.0**number, 0.0, loss) for number, loss in enumerate(perturbed)]


@pytest.mark.parametrize(
    ("perturbed", "suggested"),
    [
        ((8.0, 0.0, 1.0, 3.0), 320.0),  # 2 lies half way from 1 to 3: 10^2.5
        ((8.0, 0.0, 2.0, 9.0), 100.0),
        ((0.0, 0.0, 0.0, 1.0), None),  # does not rise so far
        ((9.0, 5.0, 3.0, 1.0), None),  # still falls
        ((11.0, 10.0, 12.0), None),  # gained nothing
        ((), None),
    ],
)
def test_the_suggestion(perturbed: tuple[float, ...], suggested: float | None) -> None:
    assert suggest_rho(points(*perturbed), start_loss=10.0) == suggested


def test_the_page_has_the_defaults() -> None:
    """One table holds the classes' ρ and those tuned on the digits."""
    rows = re.findall(r"\| `(\w+)` \| `(\w+)` \| ([\d.]+) \| ([\d.]+) \|", PAGE.read_text(encoding="utf-8"))
    ascents = {name: kind for name, kind in RULES.items() if "rho" in TUNED["digits"].get(name, {})}
    assert {name: (kind.__name__, kind().rho, TUNED["digits"][name]["rho"]) for name, kind in ascents.items()} == {
        name: (kind, float(own), float(tuned)) for kind, name, own, tuned in rows
    }
    assert len(rows) >= 4


def test_the_page_shows_the_record_of_range_tests() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert range_test.page(text) == text
    ratios: dict[str, list[float]] = {"blind": [], "informed": []}
    for row in range_test.rows():
        for criterion, rho in range_test.chosen(row["task"], row["method"]).items():
            ratios[criterion].append(row["suggested"] / rho)
    assert "between 0.6 and 4 times the ρ that was best on noisy chips, and is up to 14 times" in text
    assert 0.6 <= min(ratios["informed"]) < 0.7
    assert 3 < max(ratios["informed"]) <= 4
    assert 13 < max(ratios["blind"]) <= 14
    assert winners("tiny-shakespeare")["samson-informed"] == ("samson", {"rho": 0.05})
