"""What a step moves beyond the base optimizer's, by counting dispatched calls; times are measured in benchmarks."""

import json
import re
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.step_memory import AIMS, RECORD, copies_of, implementations
from benchmarks.traffic import Traffic, compiled_words, traffic_of
from samson import ASAM, SAM, SAMSON, RangeSAM, SharpnessAware
from samson.optim import Rule

PAGE = Path(__file__).parents[2] / "docs" / "trainers.md"
RULES = {
    "sam": (SAM(), 20),
    "asam": (ASAM(), 30),
    "samson": (SAMSON(), 31),
    "p2": (SAMSON(p=2), 31),
    "p3": (SAMSON(p=3), 34),
    "rangesam": (RangeSAM(), 29),  # a word less than SAMSON: its T is written without being read
}
every_rule = pytest.mark.parametrize(("rule", "limit"), RULES.values(), ids=RULES)


class Steps:
    """A sharpness-aware step on given gradients, without a model."""

    def __init__(self, rule: Rule, tensors: int, size: int, **settings: bool) -> None:
        self.weights = [nn.Parameter(torch.randn(size // 8, 8)) for _ in range(tensors)]  # as a chip has them
        named = [(f"weight{i}", w) for i, w in enumerate(self.weights)]
        base = torch.optim.SGD(named, lr=0.1, momentum=0.9, foreach=True)
        self.optimizer = SharpnessAware(base, rule, model=nn.Identity(), **settings)

    def prepare(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        first, second = ([torch.randn_like(w) for w in self.weights] for _ in range(2))
        return first, second

    def climb(self, gradients: list[torch.Tensor]) -> AbstractContextManager[None]:
        for w, g in zip(self.weights, gradients, strict=True):
            w.grad = g
        block = self.optimizer.perturbed()
        block.__enter__()
        return block

    def run(self, gradients: tuple[list[torch.Tensor], list[torch.Tensor]]) -> None:
        block = self.climb(gradients[0])
        for w, g in zip(self.weights, gradients[1], strict=True):
            w.grad = g
        block.__exit__(None, None, None)
        self.optimizer.step()

    def counted(self) -> Traffic:
        for _ in range(2):  # momentum and working memory are there from the second step on
            self.run(self.prepare())
        gradients = self.prepare()
        return traffic_of(lambda: self.run(gradients))


def test_the_count_is_right() -> None:
    """By hand: the base's step alone is 8 words, and each kind of call counts what it touches."""
    steps = Steps(SAM(), 3, 1000)
    steps.run(steps.prepare())
    assert traffic_of(steps.optimizer.base.step).words == 8 * 3000
    fused = torch.optim.SGD([torch.ones(1000, requires_grad=True)], lr=0.1, momentum=0.9, fused=True)
    fused.param_groups[0]["params"][0].grad = torch.ones(1000)
    fused.step()
    assert traffic_of(fused.step).words == pytest.approx(5 * 1000, abs=10)  # weight, gradient, momentum; two written
    a, b = torch.randn(100), torch.randn(100)
    assert traffic_of(lambda: a.copy_(b)).words == 200
    assert traffic_of(lambda: a.mul_(b)).words == 300
    assert traffic_of(lambda: a + b).words == 300
    assert traffic_of(a.norm).words == 101
    viewed = traffic_of(lambda: a.view(10, 10))
    assert (viewed.words, viewed.views, sum(viewed.calls.values())) == (0, 1, 0)


@every_rule
def test_words_and_calls_of_a_step(rule: Rule, limit: int) -> None:
    few, many = (Steps(rule, tensors, 4096).counted() for tensors in (20, 120))
    assert many.words / (120 * 4096) <= limit
    assert Steps(rule, 120, 64).counted().words / (120 * 64) <= limit  # the numbers for each tensor weigh most
    assert few.calls == many.calls  # the number of calls does not grow with the number of tensors
    assert few.views == many.views
    slow = traffic_of(lambda: [w.detach().add_(1.0) for w in Steps(rule, 50, 8).weights]).calls
    assert slow["add_"] == 50  # a loop over tensors would be noticed


@pytest.mark.parametrize(
    ("rule", "limit", "calls"),
    [
        (RangeSAM(per="channel"), 26, 2),
        (RangeSAM(through_range=True), 56, 18),
        (RangeSAM(per="channel", through_range=True), 55, 20),
    ],
    ids=["channel", "through", "channel-through"],
)
def test_words_and_calls_where_each_layer_is_looked_at(rule: Rule, limit: int, calls: int) -> None:
    """Ranges by channel, and the gradient through a range, take calls for each layer: few, but not none."""
    few, many = (Steps(rule, tensors, 4096).counted() for tensors in (20, 120))
    assert many.words / (120 * 4096) <= limit
    assert Steps(rule, 120, 64).counted().words / (120 * 64) <= limit
    assert sum(many.calls.values()) - sum(few.calls.values()) <= calls * 100


@pytest.mark.parametrize(
    ("rule", "compiled"), [(SAM(), 15), (ASAM(), 16), (SAMSON(), 16)], ids=["sam", "asam", "samson"]
)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's compiler, of itself
def test_words_of_the_compiled_climb(rule: Rule, compiled: int) -> None:
    """By the compiler's own account; with 2 words of the restoring and 8 of eager SGD (5 of `SGD(fused=True)`)."""
    steps = Steps(rule, 3, 8192, compiled=True)
    first = steps.prepare()[0]
    plain = Steps(rule, 3, 8192)
    with ExitStack() as blocks:  # one that stays open keeps its hold on Ctrl-C
        words = compiled_words(lambda: blocks.push(steps.climb(first))) / (3 * 8192)
        assert words + 2 + 8 == pytest.approx(compiled, abs=0.01)
        with pytest.raises(RuntimeError, match="nothing was compiled"):
            compiled_words(lambda: blocks.push(plain.climb(first)))


def test_copies_of_the_parameters_that_a_step_holds() -> None:
    """At the peak, gradients and momentum included; the bare optimizer shows that the count is right."""
    shapes = [(f"{i}.weight", (200, 500)) for i in range(10)]
    found = {
        name: copies_of(make, shapes)["peak"] for name, make in implementations().items() if not name.startswith("peer")
    }
    assert found["sgd"] == pytest.approx(2, abs=0.01)
    assert found["sam"] == pytest.approx(3, abs=0.1)
    assert all(found[name] <= aim for name, aim in AIMS.items())
    assert {name for name, peak in found.items() if peak <= 3.1} == {"sgd", "sam"}  # the count can tell them apart
    recorded = {name: of["peak"] for name, of in json.loads(RECORD.read_text())["copies"].items()}
    assert found == pytest.approx({name: recorded[name] for name in found}, abs=0.1)
    [said] = re.findall(r"a step holds at its peak (.*?\.)\s+With\s", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    order = ["sam", "samson", "sgd", "samson, momentum", "samson, previous", "samson, reused", "lookbehind"]
    assert re.findall(r"\d\.\d", said) == [f"{recorded[name]:.1f}" for name in order]
    assert [f"{recorded[name]:.1f}" for name in ("asam", "samson, mixed")] == ["4.0", "5.0"]
