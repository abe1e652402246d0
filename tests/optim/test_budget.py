"""The largest rise to first order: ρ is smaller where ρ·‖T∘g‖ would be more, by hand, for every rule and mode."""

import copy
import math
import pickle
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from samson import SAM, SAMSON, NoiseInjection, RhoSchedule, SharpnessAware, param_groups
from samson.noise import Gaussian
from samson.optim import Part, Workspace, climb, compiled_climb
from tests.conftest import closure_for, equal, make_batch, make_model, snapshot
from tests.optim.reference import CASES, DECAY, LR, MOMENTUM, Case, Loop, Values, apart, product

STEPS = 8
NAMES = ("sam", "asam", "samson", "samson-p2", "rangesam", "rangesam-channel")
every_rule = pytest.mark.parametrize("name", NAMES)


def rise(loop: Loop, case: Case, g: Values) -> float:
    """‖T∘g‖: the rise to first order for a radius of 1."""
    t = [torch.as_tensor(case.scale(n, w.numpy()), dtype=w.dtype) for n, w in zip(loop.names, loop.w, strict=True)]
    return float(product([a * b for a, b in zip(t, g, strict=True)]) ** 0.5)


def by_hand(case: Case, budget: float, previous: bool = False) -> tuple[Values, list[bool]]:
    """Two passes, or one along the last gradient, with ρ = min(ρ, budget/‖T∘g‖); and where the budget binds."""
    loop, bound, last = Loop(), [], None
    for seed in range(STEPS):
        batch = make_batch(seed=seed)
        along = last if previous else loop.gradient(loop.w, batch)
        if along is None:
            last = loop.gradient(loop.w, batch)
        else:
            steepness = rise(loop, case, along)
            bound.append(case.rule.rho * steepness > budget)
            last = loop.gradient(loop.climbed(case, along, min(case.rule.rho, budget / steepness)), batch)
        loop.descend(last)
    return loop.w, bound


def middle(case: Case) -> float:
    """A budget that binds in some steps of the training, and not in others."""
    loop, found = Loop(), []
    for seed in range(STEPS):
        g = loop.gradient(loop.w, make_batch(seed=seed))
        found.append(case.rule.rho * rise(loop, case, g))
        loop.descend(loop.gradient(loop.climbed(case, g), make_batch(seed=seed)))
    return sorted(found)[STEPS // 2]


def run(rule: object, explicit: bool = False, dtype: torch.dtype = torch.float64, **settings: object) -> Values:
    model = make_model(dtype)
    base = torch.optim.SGD(param_groups(model), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    optimizer = SharpnessAware(base, rule, **settings)
    for seed in range(STEPS):
        closure = closure_for(model, optimizer, make_batch(dtype, seed))
        if not explicit:
            optimizer.step(closure)
            continue
        if optimizer.needs_first_pass:
            closure()
        with optimizer.perturbed(model):
            closure()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize(("name", "explicit"), [*((name, False) for name in NAMES), ("samson", True)])
def test_the_radius_is_the_smaller_of_two(name: str, explicit: bool) -> None:
    case = CASES[name]
    budget = middle(case)
    expected, bound = by_hand(case, budget)
    assert 0 < sum(bound) < STEPS
    found = run(case.rule, explicit, budget=budget)
    assert apart(found, expected) < 1e-10
    assert apart(found, run(case.rule)) > 1e-5  # the check can fail: without a budget
    assert apart(found, by_hand(case, 0.5 * budget)[0]) > 1e-5


@every_rule
def test_one_pass_along_the_last_gradient(name: str) -> None:
    case = CASES[name]
    budget = middle(case)
    expected, bound = by_hand(case, budget, previous=True)
    assert any(bound)
    found = run(case.rule, ascent="previous", budget=budget)
    assert apart(found, expected) < 1e-10
    assert apart(found, run(case.rule, ascent="previous")) > 1e-5


def test_a_budget_that_never_binds_changes_nothing() -> None:
    rule = SAMSON(rho=0.3)
    assert apart(run(rule, budget=1e6), run(rule)) < 1e-14
    assert all(torch.equal(a, b) for a, b in zip(run(rule, budget=math.inf), run(rule), strict=True))


def moved(model: nn.Module, optimizer: SharpnessAware, batch: tuple) -> tuple[Tensor, Tensor, float]:
    """Gradient, perturbation, and by how much it raises the loss, in evaluation mode."""
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    g = torch.cat([p.grad.flatten() for p in model.parameters()])
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    with optimizer.perturbed(model), torch.no_grad():
        step = torch.cat([p.flatten() for p in model.parameters()]) - before
        higher = nn.functional.cross_entropy(model(batch[0]), batch[1])
    return g, step, float(higher - loss.detach())


@every_rule
@pytest.mark.parametrize("budget", [1e-3, 1e-5])
def test_the_first_order_rise_is_the_budget_where_it_binds(name: str, budget: float) -> None:
    model, rule = make_model().eval(), CASES[name].rule
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=LR), rule, budget=budget, measure=True)
    g, step, higher = moved(model, optimizer, make_batch())
    assert float(g @ step) == pytest.approx(budget, rel=1e-9)
    assert higher == pytest.approx(budget, rel=30 * budget)  # of the loss itself, to second order
    assert optimizer.last_ascent.epsilon_norm.item() == pytest.approx(step.norm().item(), rel=1e-6)
    free = SharpnessAware(torch.optim.SGD(param_groups(model), lr=LR), rule)
    assert float(g @ moved(model, free, make_batch())[1]) > 1.5e-3  # the check can fail


@pytest.fixture
def fast_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler without the part that takes long, which writes code for the machine."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


@pytest.mark.parametrize(
    ("maximize", "as_tensor", "compiled"),
    [(m, t, c) for m in (False, True) for t in (False, True) for c in (False, True) if (m and t) or not c],
)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.usefixtures("fast_compiler")
def test_groups_with_settings_of_their_own(maximize: bool, as_tensor: bool, compiled: bool) -> None:
    """By hand: one norm, and for each group the smaller of two radii, downhill for one that maximises."""
    budget = 0.05
    every = ((0.5, 0.001), (0.001, 0.5), (0.5, 0.3), (0.001, 0.002))
    for radii in every[:1] if compiled else every:
        model, case = make_model(), CASES["samson"]
        named = list(model.named_parameters())
        own = [torch.tensor(rho, dtype=torch.float64) if as_tensor else rho for rho in radii]
        groups = [
            {"params": named[:3], "rho": own[0], "maximize": maximize},
            {"params": named[3:], "rho": own[1]},
        ]
        base = torch.optim.SGD(groups, lr=LR)
        optimizer = SharpnessAware(base, SAMSON(), model=model, budget=budget, compiled=compiled)
        closure_for(model, optimizer, make_batch())()
        t = [torch.as_tensor(case.scale(n, p.detach().numpy()), dtype=p.dtype) for n, p in named]
        g, before = [p.grad.clone() for _, p in named], [p.detach().clone() for _, p in named]
        norm = product([a * b for a, b in zip(t, g, strict=True)]) ** 0.5
        with optimizer.perturbed(model):
            steps = [p.detach() - b for (_, p), b in zip(named, before, strict=True)]
        least = [min(rho, budget / float(norm)) for rho in radii]
        assert 0.001 < budget / float(norm) < 0.3  # it binds in some groups
        signed = [(-1 if maximize else 1) * least[0]] * 3 + [least[1]] * (len(named) - 3)
        expected = [rho * a**2 * b / norm for rho, a, b in zip(signed, t, g, strict=True)]
        assert apart(steps, expected) < 1e-12
        if as_tensor:
            assert [float(rho) for rho in own] == list(radii)  # a group's own ρ stays


def parts(budget: float, rho: object, dtype: torch.dtype = torch.float32) -> list[Part]:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=generator).to(dtype) for shape in ((7, 3), (13,))]
    directions = [torch.randn(w.shape, generator=generator).to(dtype) for w in weights]
    return [Part(SAMSON(), rho, True, weights, directions, Workspace(weights, True), budget=budget)]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.usefixtures("fast_compiler")
def test_another_budget_compiles_nothing_again() -> None:
    climbed = compiled_climb()
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = {budget: climbed(parts(budget, 0.3), True) for budget in (math.inf, 0.1, 0.05)}
    norm = found[math.inf][0].item()
    assert found[math.inf][1].item() == pytest.approx(climb(parts(math.inf, 0.3), True)[1].item(), rel=1e-5)
    assert found[0.1][1].item() == pytest.approx(2 * found[0.05][1].item(), rel=1e-5)
    assert found[0.1][1].item() == pytest.approx(found[math.inf][1].item() * 0.1 / (0.3 * norm), rel=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.usefixtures("fast_compiler")
def test_a_gradient_that_is_not_finite_moves_nothing(compiled: bool) -> None:
    run_climb = compiled_climb() if compiled else climb
    for value in (math.inf, math.nan, 1.0):
        [part] = parts(0.1, 0.3)
        before = [w.clone() for w in part.weights]
        part.directions[0][0, 0] = value
        norm, _ = run_climb([part], False)
        assert [torch.equal(w, b) for w, b in zip(part.weights, before, strict=True)] == [not math.isfinite(value)] * 2
        assert norm.isfinite() == math.isfinite(value)
    [part] = parts(0.1, 0.3)
    before = [w.clone() for w in part.weights]
    for direction in part.directions:
        direction.zero_()
    run_climb([part], False)
    assert all(torch.equal(w, b) for w, b in zip(part.weights, before, strict=True))


@pytest.mark.parametrize("rho", [0.3, -0.3, "tensor"])
def test_the_climb_never_waits_for_the_device(rho: float | str) -> None:
    with FakeTensorMode():
        radius = torch.tensor(0.3) if rho == "tensor" else rho
        climb(parts(0.1, radius), True)
        with pytest.raises(Exception, match="_local_scalar_dense"):  # it would be noticed
            parts(0.1, radius)[0].weights[0].sum().item()


class FromHost(TorchDispatchMode):
    """Notes what copies numbers of the host to a device: such a copy waits for all that the device has to do."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[object] = []

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].device != result.device:
            self.copies.append(func)
        return result


@pytest.mark.parametrize("rho", [0.3, -0.3, "tensor"])
def test_the_radius_is_found_on_the_device(rho: float | str) -> None:
    """With a norm that lies on a GPU, of which nothing but shapes is needed here."""
    with FakeTensorMode():
        part = parts(0.1, torch.tensor(0.3) if rho == "tensor" else rho)[0]
        norm = torch.empty((), device="cuda")
        with FromHost() as seen:
            assert part.radius(norm).device == norm.device
        assert not seen.copies
        with FromHost() as seen:  # it would be noticed
            torch.as_tensor(0.3, device=norm.device)
        assert seen.copies


@pytest.mark.parametrize("kind", ["deepcopy", "pickle"])
def test_copies_keep_the_budget(kind: str) -> None:
    model = make_model()
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=LR), SAMSON(rho=0.3), budget=0.01)
    pair = (model, optimizer)
    other, with_it = copy.deepcopy(pair) if kind == "deepcopy" else pickle.loads(pickle.dumps(pair))
    assert with_it.budget == 0.01
    for one, its in (pair, (other, with_it)):
        its.step(closure_for(one, its, make_batch()))
    assert equal(snapshot(model), snapshot(other))
    free = make_model()
    plain = SharpnessAware(torch.optim.SGD(param_groups(free), lr=LR), SAMSON(rho=0.3))
    plain.step(closure_for(free, plain, make_batch()))
    assert not equal(snapshot(model), snapshot(free))


def test_a_scaled_loss_has_a_scaled_budget() -> None:
    """In the units of the loss that `backward` saw."""
    ends = []
    for scale, budget in ((1.0, 0.01), (2.0**10, 0.01 * 2.0**10), (2.0**10, 0.01)):
        model = make_model()
        optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=LR), SAMSON(rho=0.3), budget=budget)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        for seed in range(3):
            x, y = make_batch(seed=seed)
            optimizer.zero_grad()
            scaler.scale(nn.functional.cross_entropy(model(x), y)).backward()
            with optimizer.perturbed(model):
                scaler.scale(nn.functional.cross_entropy(model(x), y)).backward()
            scaler.step(optimizer)
            scaler.update()
        ends.append([p.detach() for p in model.parameters()])
    assert apart(ends[0], ends[1]) < 1e-12
    assert apart(ends[0], ends[2]) > 1e-5


def test_a_schedule_goes_with_a_budget() -> None:
    model = make_model().eval()
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=LR), SAM(rho=0.4), budget=0.15)
    schedule = RhoSchedule(optimizer, "linear", steps=4)
    lengths = []
    for _ in range(5):
        g, step, _ = moved(model, optimizer, make_batch())
        lengths.append(step.norm().item())
        schedule.step()
    assert lengths == pytest.approx([min(rho, 0.15 / g.norm().item()) for rho in (0.0, 0.1, 0.2, 0.3, 0.4)])
    assert lengths[1] < lengths[-1] < 0.4


@pytest.mark.parametrize("budget", [0.0, -1.0, math.nan])
def test_bad_budgets_are_named(budget: float) -> None:
    model = make_model()
    base = torch.optim.SGD(param_groups(model), lr=LR)
    with pytest.raises(ValueError, match=f"`budget` must be > 0, got {budget}"):
        SharpnessAware(base, SAM(), budget=budget)
    assert "rho" not in base.param_groups[0]


@pytest.mark.parametrize(
    ("rule", "modes", "what"),
    [
        (NoiseInjection(Gaussian(0.1)), {}, "NoiseInjection"),
        (SAM(), {"ascent": "momentum"}, "ascent='momentum'"),
    ],
)
def test_what_climbs_along_no_gradient_has_no_budget(rule: object, modes: dict, what: str) -> None:
    model = make_model()
    base = torch.optim.SGD(param_groups(model), lr=LR, momentum=MOMENTUM)
    with pytest.raises(ValueError, match=f"`budget` must be left out with {what}, got 0.1"):
        SharpnessAware(base, rule, budget=0.1, **modes)
    SharpnessAware(base, rule, budget=math.inf, **modes)
