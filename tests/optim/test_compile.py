"""`torch.compile`: of the model, of the climb, and of a whole training step."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samson import ASAM, SAM, SAMSON, RangeSAM, SharpnessAware, param_groups
from samson.optim import Part, Rule, Workspace, climb, compiled_climb
from tests.conftest import closure_for, equal, make_batch, make_model, snapshot

pytestmark = [  # torch's compiler, of itself
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]

RULES = {
    "sam": SAM(rho=0.3),
    "asam": ASAM(rho=0.5),
    "samson": SAMSON(rho=0.3),
    "p3": SAMSON(rho=0.3, p=3.0),
    "rangesam": RangeSAM(rho=0.3),
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()


class Counting:
    """A backend that runs graphs as they are and counts how many were compiled."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        self.graphs += 1
        return graph.forward


def test_a_compiled_model_is_not_compiled_again() -> None:
    model, counting = make_model(torch.float32), Counting()
    compiled = torch.compile(model, backend=counting)
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1, momentum=0.9), SAMSON(rho=0.3))
    graphs = []
    for seed in range(6):
        optimizer.step(closure_for(compiled, optimizer, make_batch(torch.float32, seed)))
        graphs.append(counting.graphs)
    assert graphs[0] >= 1
    assert graphs[1:] == graphs[1:2] * 5  # nothing new after the second step
    plain = make_model(torch.float32)
    other = SharpnessAware(torch.optim.SGD(param_groups(plain), lr=0.1, momentum=0.9), SAMSON(rho=0.3))
    for seed in range(6):
        other.step(closure_for(plain, other, make_batch(torch.float32, seed)))
    assert equal(snapshot(model), snapshot(plain))
    model[1].momentum = 0.5  # what helpers that toggle attributes do
    optimizer.step(closure_for(compiled, optimizer, make_batch(torch.float32)))
    assert counting.graphs > graphs[-1]


def parts(rule: Rule, dtype: torch.dtype, fast: bool = True, rho: object = None, wide: bool = False) -> list[Part]:
    """The same numbers for the same dtype; `wide` holds them in float64."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        return drawn.double() if wide else drawn

    scaled = [draw(70, 3), draw(130), 0 * draw(6)] if not isinstance(rule, SAM) else []
    rho = rule.rho if rho is None else rho
    return [
        Part(rule, rho, s, some, [draw(*w.shape) for w in some], Workspace(some, s and fast))
        for some, s in ((scaled, True), ([draw(5), draw(64, 2)], False))
        if some
    ]


def moved(found: list[Part]) -> list[Tensor]:
    return [w for part in found for w in part.weights]


def apart(one: list[Part], other: list[Part]) -> float:
    pairs = zip(moved(one), moved(other), strict=True)
    return float(np.max([float((a.double() - b.double()).abs().max()) for a, b in pairs]))  # NaN counts


@pytest.mark.parametrize(
    ("name", "fast"), [("sam", True), ("samson", True), ("samson", False), ("p3", True), ("rangesam", False)]
)
def test_climb_and_restore_compile_whole(name: str, fast: bool) -> None:
    """With `fullgraph=True` the compiler would raise where something breaks the graph."""

    rule = RULES[name]

    def there_and_back(some: list[Part]) -> Tensor:
        norm = climb(some)[0]
        there = [w.clone() for w in moved(some)]
        for part in some:
            part.workspace.restore(part.weights)
        return norm, there

    eager, compiled = parts(rule, torch.float64, fast=fast), parts(rule, torch.float64, fast=fast)
    before = [w.clone() for w in moved(eager)]
    norm, there = there_and_back(eager)
    other_norm, other_there = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")(compiled)
    assert torch.allclose(norm, other_norm, rtol=1e-12)
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(there, other_there, strict=True))
    still = [torch.equal(a, b) for a, b in zip(there, before, strict=True)]
    assert sum(still) == isinstance(rule, (SAMSON, RangeSAM))  # what is all zeros
    for some in (eager, compiled):
        assert all(torch.equal(a, b) for a, b in zip(moved(some), before, strict=True))


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, torch.float32) for name in RULES), *((n, torch.bfloat16) for n in ("samson", "p3"))]
)
def test_the_compiled_climb_is_as_exact_as_the_eager_one(name: str, dtype: torch.dtype) -> None:
    """Both against the climb in float64 from the same numbers: within the rounding of the last addition.

    An entry of a gradient that is not finite moves nothing.
    """
    rule, run = RULES[name], compiled_climb()
    eager, fused, exact = parts(rule, dtype), parts(rule, dtype), parts(rule, dtype, wide=True)
    before = [w.clone() for w in moved(eager)]
    climb(exact)
    climb(eager)
    norm, epsilon = run(fused, True)
    largest = max(float(w.abs().max()) for w in before)
    assert apart(fused, exact) <= max(1.5 * apart(eager, exact), torch.finfo(dtype).eps * largest)
    assert norm.item() == pytest.approx(
        climb(parts(rule, dtype))[0].item(), rel=1e-2 if dtype == torch.bfloat16 else 1e-5
    )
    assert epsilon.item() == pytest.approx(climb(parts(rule, torch.float64), True)[1].item(), rel=2e-2)
    for part in fused:
        part.workspace.restore(part.weights)
    assert all(torch.equal(a, b) for a, b in zip(moved(fused), before, strict=True))
    for bad in (float("inf"), float("nan")):
        some = parts(rule, dtype)
        some[0].directions[0].view(-1)[0] = bad
        assert not run(some, True)[0].isfinite()
        assert all(torch.equal(a, b) for a, b in zip(moved(some), before, strict=True))


def test_another_radius_compiles_nothing_again() -> None:
    run = compiled_climb()
    with torch._dynamo.config.patch(error_on_recompile=True):
        lengths = [run(parts(SAMSON(), torch.float32, rho=rho), True)[1].item() for rho in (0.1, 0.2, 0.4)]
    assert lengths[1:] == pytest.approx([2 * lengths[0], 4 * lengths[0]], rel=1e-4)


@pytest.fixture
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs run as they are: what is compiled is right elsewhere."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


@pytest.mark.usefixtures("quick_compiler")
def test_at_the_compilers_limit_the_climb_goes_on_uncompiled() -> None:
    """All optimizers of a process share it: as in a sweep over η."""
    with torch._dynamo.config.patch(recompile_limit=1):
        compiled_climb()(parts(SAM(rho=0.3), torch.float32), False)
        run = compiled_climb()
        fused, eager = (parts(ASAM(rho=0.5, eta=0.3), torch.float32, fast=False) for _ in range(2))
        with pytest.warns(UserWarning, match="limit for one process, 1 variants, .*is not compiled"):
            norm, _ = run(fused, False)
        assert torch.equal(norm, climb(eager)[0])
        assert all(torch.equal(a, b) for a, b in zip(moved(fused), moved(eager), strict=True))
        run(fused, False)  # warned once


@pytest.mark.parametrize("name", ["RecompileLimitExceeded", "Unsupported"])
def test_the_limit_of_an_older_compiler_is_known_and_no_other_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = type(name, (Exception,), {})

    def fails(*args: object) -> None:
        raise error("as torch 2.6 does")

    monkeypatch.setattr(torch, "compile", lambda function, **settings: fails)
    fused, eager = (parts(SAM(rho=0.3), torch.float32, fast=False) for _ in range(2))
    if name == "Unsupported":
        with pytest.raises(error):
            compiled_climb()(fused, False)
        return
    with pytest.warns(UserWarning, match="is not compiled"):
        norm, _ = compiled_climb()(fused, False)
    assert torch.equal(norm, climb(eager)[0])


@pytest.mark.usefixtures("quick_compiler")
@pytest.mark.parametrize("p", [24.0, 200.0, float("inf")])
@pytest.mark.parametrize("way", ["fast", "foreach", "compiled"])
def test_small_weights_to_a_high_power_are_not_nothing(p: float, way: str) -> None:
    """By hand in float64, with the largest weight as the unit; a tensor without entries is left out."""
    w, g = torch.linspace(-0.005, 0.004, 40), torch.linspace(1.0, 2.0, 40)
    some = [w.clone(), torch.empty(0, 3)]
    part = Part(
        SAMSON(rho=0.5, eta=0.0, p=p), 0.5, True, some, [g.clone(), torch.empty(0, 3)], Workspace(some, way == "fast")
    )
    norm, length = (compiled_climb() if way == "compiled" else climb)([part], True)
    sizes, g = w.abs().double(), g.double()
    largest = sizes.max()
    scale = sizes / (largest * ((sizes / largest) ** p).sum() ** (1 / p) if p < float("inf") else largest)
    expected = (scale * g).square().sum().sqrt()
    epsilon = 0.5 * scale**2 * g / expected
    assert norm.item() == pytest.approx(expected.item(), rel=1e-5)
    assert length.item() == pytest.approx(epsilon.square().sum().sqrt().item(), rel=1e-5)
    assert torch.allclose(some[0], (w + epsilon).float(), rtol=1e-4)


IN_TRAINING = {
    "samson": SAMSON(rho=0.3),
    "rangesam-channel": RangeSAM(rho=0.3, per="channel", through_range=True),
}


@pytest.mark.parametrize("rule", IN_TRAINING.values(), ids=IN_TRAINING)
def test_training_with_the_compiled_climb(rule: Rule) -> None:
    """With a largest rise, which binds in some steps; a rule without a fast form climbs uncompiled."""
    ends = []
    bound = {"budget": 0.08}
    for settings in ({"compiled": True} | bound, bound, {"every": 2} | bound, {}):
        model = make_model(torch.float32)
        base = torch.optim.SGD(param_groups(model), lr=0.1, momentum=0.9)
        optimizer = SharpnessAware(base, rule, **settings)
        for seed in range(4):
            optimizer.step(closure_for(model, optimizer, make_batch(torch.float32, seed)))
        ends.append(snapshot(model))
    assert all(torch.allclose(ends[0][k].float(), ends[1][k].float(), atol=2e-6) for k in ends[0])
    for other in ends[2:]:
        assert not all(torch.allclose(other[k].float(), ends[1][k].float(), atol=5e-4) for k in ends[0])


@pytest.mark.parametrize(
    ("name", "explicit"),
    [("samson", False), ("samson", True), ("rangesam-channel", True)],
)
def test_a_compiled_training_step_gives_the_eager_weights(name: str, explicit: bool) -> None:
    """Also while the learning rate and the radius change, which compiles nothing again."""
    ends = []
    for compiled in (True, False):
        model = make_model(torch.float64)
        [group] = param_groups(model)
        group |= {"lr": torch.tensor(0.1, dtype=torch.float64), "rho": torch.tensor(0.3, dtype=torch.float64)}
        optimizer = SharpnessAware(torch.optim.SGD([group], momentum=0.9), IN_TRAINING[name])

        def run(x: Tensor, y: Tensor, model: nn.Module = model, optimizer: SharpnessAware = optimizer) -> Tensor:
            one_pass = closure_for(model, optimizer, (x, y))
            if not explicit:
                return optimizer.step(one_pass)
            loss = one_pass()
            with optimizer.perturbed(model):
                one_pass()
            optimizer.step()
            return loss

        counting = Counting()
        step = torch.compile(run, backend=counting) if compiled else run
        early = 0
        for seed in range(6):
            step(*make_batch(seed=seed))
            early = counting.graphs if seed == 1 else early
            optimizer.param_groups[0]["lr"].mul_(0.8)
            optimizer.param_groups[0]["rho"].mul_(1.1)
        assert counting.graphs == early
        assert (early > 0) == compiled
        ends.append(snapshot(model))
    assert all(torch.allclose(ends[0][k].double(), ends[1][k].double(), rtol=0, atol=1e-12) for k in ends[0])


def test_old_graphs_raise_under_the_compiled_climb_too() -> None:
    model, (x, y) = make_model(torch.float32), make_batch(torch.float32)
    base = torch.optim.SGD(param_groups(model), lr=0.1)
    optimizer = SharpnessAware(base, SAM(rho=1.0), compiled=True)
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward(retain_graph=True)
    with optimizer.perturbed(), pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
