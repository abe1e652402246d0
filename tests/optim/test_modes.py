"""Cheap and mixed modes, each against a reference written out by hand in float64, and composed with every rule."""

import copy
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from samson import SAM, SAMSON, Lookbehind, NoiseInjection, RangeSAM, SharpnessAware, norm_layers, param_groups
from samson.noise import Gaussian
from samson.optim import chip_weights
from tests.conftest import closure_for, equal, make_batch, make_model, snapshot
from tests.optim.reference import CASES, DECAY, LR, MOMENTUM, Case, Loop, Switching, Values, apart, mixed, product

RULES = ("sam", "asam", "samson", "samson-p2", "rangesam")
every_rule = pytest.mark.parametrize("case", [CASES[name] for name in RULES], ids=RULES)
every_rule_and_form = pytest.mark.parametrize(
    ("case", "explicit"),
    [(CASES[name], form) for name in RULES for form in ([False, True] if name == "samson" else [False])],
    ids=[name for name in RULES for _ in range(1 + (name == "samson"))],
)


def run(rule: object, steps: int = 8, explicit: bool = False, **modes: object) -> tuple[Values, SharpnessAware]:
    model = make_model()
    base = torch.optim.SGD(param_groups(model), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    optimizer = SharpnessAware(base, rule, **modes)
    for seed in range(steps):
        step(model, optimizer, make_batch(seed=seed), explicit)
    return [p.detach() for p in model.parameters()], optimizer


def step(model: nn.Module, optimizer: SharpnessAware, batch: tuple, explicit: bool) -> None:
    run_pass = closure_for(model, optimizer, batch)
    if not explicit:
        optimizer.step(run_pass)
        return
    if optimizer.needs_first_pass or not optimizer.climbs:
        run_pass()
    if optimizer.climbs:
        with optimizer.perturbed(model):
            run_pass()
    optimizer.step()


def agrees(found: Values, expected: Values, *others: Values) -> bool:
    """Equal to the reference, and not to what a broken mode would give."""
    return apart(found, expected) < 1e-10 and all(apart(found, other) > 1e-5 for other in others)


def others(rule: object) -> tuple[Values, Values]:
    """What the rule without modes gives, and plain SGD."""
    return run(rule)[0], run(SAM(rho=0.0))[0]


@pytest.mark.parametrize("cleared", ["never", "before", "to zero", "inside", "inside, to zero"])
@pytest.mark.parametrize(
    ("rule", "mode", "name"),
    [
        (NoiseInjection(lambda w, generator: w + 1.0), {}, "NoiseInjection"),
        (SAM(rho=0.5), {"ascent": "previous"}, "ascent='previous'"),
        (SAM(rho=0.5), {"ascent": "momentum"}, "ascent='momentum'"),
        (SAM(rho=0.5), {"ascent": "previous", "mix": 0.5}, None),
    ],
)
def test_a_first_pass_that_a_mode_does_not_have_is_named(
    rule: object, mode: dict[str, object], name: str | None, cleared: str
) -> None:
    model = make_model()
    base = torch.optim.SGD(param_groups(model), lr=LR, momentum=MOMENTUM)
    optimizer = SharpnessAware(base, rule, **mode)
    run_pass = closure_for(model, optimizer, make_batch())
    run_pass()
    if cleared in ("before", "to zero"):
        optimizer.zero_grad(set_to_none=cleared == "before")
    warns = name is not None and cleared == "never"
    if name is None:
        run_pass()
    with pytest.warns(UserWarning, match=f"{name} has one pass: .*needs_first_pass") if warns else nullcontext():
        with optimizer.perturbed(model):
            if cleared in ("inside", "inside, to zero"):
                optimizer.zero_grad(set_to_none=cleared == "inside")
            for _ in range(2):  # micro-batches
                nn.functional.cross_entropy(model(make_batch()[0]), make_batch()[1]).backward()
        optimizer.step()
    optimizer.step(run_pass)


@pytest.mark.parametrize("how", ["by hand", "of another part"])
def test_gradients_that_no_hook_sees_are_named_too(how: str) -> None:
    parts, (x, y) = nn.ModuleList([make_model(), make_model(seed=1)]), make_batch()
    rule = NoiseInjection(lambda w, generator: w + 1.0)
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(parts), lr=LR), rule)
    nn.functional.cross_entropy(parts[0](x), y).backward()
    with pytest.warns(UserWarning, match="NoiseInjection has one pass"), optimizer.perturbed(parts):
        if how == "of another part":
            nn.functional.cross_entropy(parts[1](x), y).backward()
        else:
            weights = list(parts[0].parameters())
            for p, g in zip(weights, torch.autograd.grad(parts[0](x).square().sum(), weights), strict=True):
                p.grad += g
    optimizer.step()


both_forms = pytest.mark.parametrize("explicit", [False, True], ids=["closure", "explicit"])


@every_rule_and_form
def test_every_kth_step(case: Case, explicit: bool) -> None:
    loop = Loop()
    for i in range(8):
        batch = make_batch(seed=i)
        g = loop.gradient(loop.w, batch)
        loop.descend(loop.gradient(loop.climbed(case, g), batch) if i % 3 == 0 else g)
    found, optimizer = run(case.rule, every=3, explicit=explicit)
    assert agrees(found, loop.w, *others(case.rule))
    assert [group["sharpness_steps"] for group in optimizer.param_groups] == [8]
    _, optimizer = run(case.rule, every=1, explicit=explicit)
    assert not any("sharpness_steps" in group for group in optimizer.param_groups)


@every_rule_and_form
def test_the_previous_gradient(case: Case, explicit: bool) -> None:
    loop = Loop()
    last = None
    for i in range(8):
        batch = make_batch(seed=i)
        last = loop.gradient(loop.w if last is None else loop.climbed(case, last), batch)
        loop.descend(last)
    assert agrees(
        run(case.rule, ascent="previous", explicit=explicit)[0], loop.w, run(case.rule)[0], run(SAM(rho=0.0))[0]
    )


@every_rule_and_form
def test_the_momentum(case: Case, explicit: bool) -> None:
    loop = Loop()
    for i in range(8):
        loop.descend(loop.gradient(loop.climbed(case, loop.speed) if i else loop.w, make_batch(seed=i)))
    assert agrees(
        run(case.rule, ascent="momentum", explicit=explicit)[0], loop.w, run(case.rule)[0], run(SAM(rho=0.0))[0]
    )


@every_rule_and_form
def test_what_a_perturbation_changed_is_used_again(case: Case, explicit: bool) -> None:
    alpha, loop, across = 0.7, Loop(), []
    for i in range(8):
        batch = make_batch(seed=i)
        g = loop.gradient(loop.w, batch)
        if i % 3 == 0:
            s = loop.gradient(loop.climbed(case, g), batch)
            across = [b - product(s, g) / product(g) * a for a, b in zip(g, s, strict=True)]
            assert abs(product(across, g)) < 1e-12 * product(g)
        else:
            s = [a + alpha * (product(g) / product(across)) ** 0.5 * v for a, v in zip(g, across, strict=True)]
        loop.descend(s)
    assert agrees(run(case.rule, every=3, reuse=alpha, explicit=explicit)[0], loop.w, run(case.rule, every=3)[0])


@every_rule_and_form
def test_mixing_with_the_clean_gradient(case: Case, explicit: bool) -> None:
    loop = Loop()
    for i in range(8):
        batch = make_batch(seed=i)
        g = loop.gradient(loop.w, batch)
        loop.descend(mixed(0.3, loop.gradient(loop.climbed(case, g), batch), g))
    assert agrees(run(case.rule, mix=0.3, explicit=explicit)[0], loop.w, *others(case.rule))


@both_forms
def test_random_perturbation_mixed_with_the_clean_gradient(explicit: bool) -> None:
    """RWP: λ·g(w + ε) + (1 − λ)·g(w), with ε drawn; the draws are those of plain injection."""
    rule, loop = NoiseInjection(Gaussian(0.2), seed=3), Loop()
    for i in range(8):
        batch = make_batch(seed=i)
        noisy = dict(zip(loop.names, loop.w, strict=True))
        drawn = {n: v.clone() for n, v in noisy.items() if v.ndim >= 2}
        values = list(drawn.values())
        rule.displace(chip_weights(values, [], "noise"), dict.fromkeys(values, 1.0), step=i)
        at = [drawn.get(n, v) for n, v in noisy.items()]
        loop.descend(mixed(0.4, loop.gradient(at, batch), loop.gradient(loop.w, batch)))
    assert agrees(run(rule, mix=0.4, explicit=explicit)[0], loop.w, *others(rule))


def test_modes_combine() -> None:
    """Previous gradient, every second step, mixed: three settings and no class of their own."""
    case, loop, last = CASES["samson"], Loop(), None
    for i in range(8):
        batch = make_batch(seed=i)
        g = loop.gradient(loop.w, batch)
        if i % 2 == 0 and last is not None:
            g = mixed(0.6, loop.gradient(loop.climbed(case, last), batch), g)
        elif i % 2 == 0:
            g = mixed(0.6, g, g)
        loop.descend(g)
        last = g
    found, _ = run(case.rule, ascent="previous", every=2, mix=0.6)
    assert agrees(
        found, loop.w, run(case.rule, ascent="previous", every=2)[0], run(case.rule, ascent="previous", mix=0.6)[0]
    )


@pytest.mark.parametrize(
    ("modes", "passes"),
    [
        ({}, 2),
        ({"mix": 0.5}, 2),
        ({"ascent": "previous"}, 1),
        ({"ascent": "momentum"}, 1),
        ({"ascent": "momentum", "mix": 0.5}, 2),
    ],
)
def test_a_mode_says_how_many_passes_it_needs(modes: dict, passes: int, batch: tuple) -> None:
    model = make_model()
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=LR, momentum=MOMENTUM), SAM(rho=0.5), **modes)
    optimizer.step(closure_for(model, optimizer, batch))
    losses: list[float] = []
    statistics = model[1].num_batches_tracked.item()
    loss = optimizer.step(closure_for(model, optimizer, batch, losses))
    assert (len(losses), 1 + optimizer.needs_first_pass) == (passes, passes)
    assert model[1].num_batches_tracked.item() == statistics + 1  # one pass alone updates them
    assert loss.item() == losses[0]
    seen = optimizer.last_ascent
    if passes == 2:
        assert (seen.clean_loss.item(), seen.perturbed_loss.item()) == tuple(losses)
    else:
        assert seen.clean_loss is None
        assert seen.perturbed_loss.item() == losses[0]


class Projected(torch.optim.SGD):
    """Keeps its momentum in another shape, as optimizers of low rank do, or in a dictionary."""

    def step(self, closure: Any = None) -> None:
        super().step(closure)
        for state in self.state.values():
            state |= {"exp_avg": torch.zeros(2, 8), "momentum_buffer": {"of": "several"}}


def test_momentum_of_another_shape_is_no_direction() -> None:
    layer = nn.Linear(8, 32, bias=False)
    optimizer = SharpnessAware(Projected(param_groups(layer), lr=LR, momentum=0.9), SAM(rho=0.5), ascent="momentum")
    for _ in range(2):
        layer.weight.grad = torch.ones(32, 8)
        if optimizer.state:
            with pytest.raises(RuntimeError, match="of the shape of each parameter, got Projected, which keeps"):
                optimizer.perturbed().__enter__()
            return
        with optimizer.perturbed():
            layer.weight.grad = torch.ones(32, 8)
        optimizer.step()


def test_each_group_needs_momentum() -> None:
    """One without would be left out of the ascent in silence."""
    body, _, _, _, head = make_model()
    base = torch.optim.SGD([*param_groups(body), {**param_groups(head)[0], "momentum": 0.0}], lr=LR, momentum=0.9)
    with pytest.raises(ValueError, match="needs a base optimizer with momentum, got SGD without"):
        SharpnessAware(base, SAM(), ascent="momentum")


class Ahead(torch.optim.SGD):
    """Leaves its state to another optimizer, as timm's Lookahead does."""

    def __init__(self, base: torch.optim.Optimizer) -> None:
        super().__init__(base.param_groups, lr=LR)
        self._base_optimizer = base


def test_a_base_that_leaves_its_state_to_another_is_refused() -> None:
    inner = torch.optim.SGD(param_groups(make_model()), lr=LR)
    with pytest.raises(TypeError, match=r"Ahead leaves it to a SGD. .*Ahead\(SharpnessAware\(inner, rule\)\)"):
        SharpnessAware(Ahead(inner), SAM())


class Composite(torch.optim.Optimizer):
    """Steps by another optimizer, which keeps the state, as ZeroRedundancyOptimizer does."""

    def __init__(self, base: torch.optim.Optimizer) -> None:
        super().__init__(base.param_groups, {"lr": LR, "momentum": MOMENTUM})
        self.inner = base

    def step(self, closure: object = None) -> None:
        self.inner.step()


def test_momentum_that_is_kept_elsewhere_is_an_error_after_the_first_step(batch: tuple) -> None:
    model = make_model()
    base = Composite(torch.optim.SGD(param_groups(model), lr=LR, momentum=MOMENTUM))
    SharpnessAware(base, SAM(rho=0.5), model=model).step(closure_for(model, base, batch))
    optimizer = SharpnessAware(base, SAM(rho=0.5), model=model, ascent="momentum")
    with pytest.raises(RuntimeError, match=r"keeps its state itself, got one that has none after a step: Composite\."):
        optimizer.step(closure_for(model, optimizer, batch))


def test_an_optimizer_that_is_not_initialised_is_no_base() -> None:
    """As torch's PostLocalSGDOptimizer is not."""

    class Hollow(torch.optim.Optimizer):
        def __init__(self, base: torch.optim.Optimizer) -> None:
            self.base = base

    with pytest.raises(TypeError, match="`base` must be a torch optimizer .* got Hollow"):
        SharpnessAware(Hollow(torch.optim.SGD(make_model().parameters(), lr=LR)), SAM())


@pytest.mark.parametrize("ascent", ["gradient", "previous", "momentum"])
def test_parts_that_train_in_turn_are_moved_along_their_own_last_gradients(ascent: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    base = torch.optim.SGD(param_groups(model), lr=LR, momentum=MOMENTUM)
    optimizer = SharpnessAware(base, SAM(rho=0.5), ascent=ascent, measure=True)
    for i in range(6):
        for number, layer in enumerate(model):
            layer.requires_grad_(number == i % 2)
        optimizer.step(closure_for(model, optimizer, (torch.randn(8, 3).double(), torch.arange(8) % 2)))
        if i >= 2:
            assert optimizer.last_ascent.epsilon_norm.item() == pytest.approx(0.5)


@pytest.mark.parametrize("ascent", ["gradient", "previous", "momentum"])
def test_a_weight_that_is_frozen_midway_rests(ascent: str) -> None:
    """Where it is in the passes that follow, with no share of the ball."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    base = torch.optim.SGD(param_groups(model), lr=LR, momentum=MOMENTUM)
    optimizer = SharpnessAware(base, SAM(rho=0.5), ascent=ascent, measure=True)
    seen = []
    model[0].register_forward_hook(lambda layer, given, found: seen.append(layer.weight.detach().clone()))
    moved = []
    for i in range(4):
        model[0].requires_grad_(i < 2)
        before = model[0].weight.detach().clone()
        optimizer.step(closure_for(model, optimizer, (torch.randn(8, 3).double(), torch.arange(8) % 2)))
        moved.append(not torch.equal(seen[-1], before))
        assert (i == 0 and ascent != "gradient") or optimizer.last_ascent.epsilon_norm.item() == pytest.approx(0.5)
    assert moved[1:] == [True, False, False]


def test_a_weight_that_the_last_perturbation_left_out_reuses_nothing_of_an_older_one() -> None:
    """An expert that took no part in it."""
    experts = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)]).double()
    base = torch.optim.SGD(param_groups(experts), lr=LR, momentum=MOMENTUM)
    optimizer = SharpnessAware(base, SAM(rho=0.5), every=2, reuse=0.5)

    def step(chosen: list[int]) -> None:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = sum(experts[i](torch.ones(4, 3).double()).square().mean() for i in chosen)
            loss.backward()
            return loss

        optimizer.step(closure)

    for chosen in ([0, 1], [0, 1], [1]):
        step(chosen)
    kept = [base.state[expert.weight]["gradient_across"] for expert in experts]
    assert [value.any().item() for value in kept] == [False, True]
    assert optimizer.state_dict()["state"][0].keys() == optimizer.state_dict()["state"][2].keys()


def test_reuse_without_a_backward_in_the_block_is_an_error_at_the_step(batch: tuple) -> None:
    model = make_model()
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=LR), SAM(rho=0.5), every=2, reuse=0.5)
    closure_for(model, optimizer, batch)()
    with optimizer.perturbed(model):
        pass
    with pytest.raises(RuntimeError, match="No parameter has a gradient from the `perturbed`"):
        optimizer.step()


def test_norm_layers_alone(batch: tuple) -> None:
    model = make_model()
    groups = param_groups(model, perturb=lambda module, name: int(norm_layers(module, name)))  # as good as a bool
    assert [group["param_names"] for group in groups] == [
        ["1.weight", "1.bias"],
        ["0.weight", "0.bias", "4.weight", "4.bias"],
    ]
    optimizer = SharpnessAware(torch.optim.SGD(groups, lr=LR), SAMSON(rho=0.3))
    before = snapshot(model)
    closure_for(model, optimizer, batch)()
    with optimizer.perturbed(model):
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"1.weight", "1.bias"}
    with pytest.raises(ValueError, match="a parameter that `perturb` picks, got Linear with none"):
        param_groups(nn.Linear(2, 2), perturb=norm_layers)


def sharp(rule: object = SAMSON(rho=0.5), **modes: object) -> Callable[[torch.optim.Optimizer], torch.optim.Optimizer]:
    return lambda base: SharpnessAware(base, rule, **modes)


RESUMED = {
    "plain": sharp(),
    "previous": sharp(ascent="previous"),
    "momentum": sharp(ascent="momentum"),
    "every": sharp(every=3),
    "reuse": sharp(every=3, reuse=0.5),
    "mix": sharp(mix=0.5),
    "noise": sharp(NoiseInjection(Gaussian(0.2), seed=5)),
    "range": sharp(RangeSAM(rho=0.5, through_range=True)),
    "range-channel": sharp(
        RangeSAM(rho=0.5, per="channel", through_range=True, select=[nn.Linear]), ascent="previous", every=2
    ),
    "lookbehind": lambda base: Lookbehind(base, SAMSON(rho=0.1), k=2),
}


@pytest.mark.parametrize(
    ("name", "base"), [*((name, torch.optim.AdamW) for name in RESUMED), ("momentum", torch.optim.SGD)]
)
def test_resuming_copies_and_pickles_are_bit_exact(name: str, base: type[torch.optim.Optimizer]) -> None:
    wrap = RESUMED[name]

    def make(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = make_model(torch.float32, seed)
        settings = {"momentum": 0.9} if base is torch.optim.SGD else {}
        return model, wrap(base(param_groups(model), lr=0.01, **settings))

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> dict:
        for seed in seeds:
            optimizer.step(closure_for(model, optimizer, make_batch(torch.float32, seed)))
        return snapshot(model)

    model, optimizer = make(0)
    weights, state = train(model, optimizer, range(4)), copy.deepcopy(optimizer.state_dict())
    copies = [copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))]
    end = train(model, optimizer, range(4, 9))
    resumed, again = make(5)
    resumed.load_state_dict(weights)
    again.load_state_dict(state)
    assert equal(train(resumed, again, range(4, 9)), end)
    for other, with_it in copies:
        assert with_it.model is other
        assert with_it.param_groups[0]["params"][0] is other[0].weight
        assert equal(train(other, with_it, range(4, 9)), end)
    forgetful, fresh = make(5)
    forgetful.load_state_dict(weights)
    assert not equal(train(forgetful, fresh, range(4, 9)), end)


def test_skipped_steps_do_not_warn_and_cannot_be_perturbed(batch: tuple) -> None:
    model = make_model()
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=LR), SAM(), every=2)
    step(model, optimizer, batch, explicit=True)
    assert not optimizer.climbs
    closure_for(model, optimizer, batch)()
    with pytest.raises(RuntimeError, match="if optimizer.climbs:"), optimizer.perturbed(model):
        pass
    optimizer.step()
    assert optimizer.climbs


@pytest.mark.parametrize(
    ("rule", "modes", "message"),
    [
        (SAM(), {"ascent": "last"}, "`ascent` must be one of gradient, previous, momentum, got 'last'"),
        (SAM(), {"every": 0}, "`every` must be at least 1, got 0"),
        (SAM(), {"mix": 1.5}, "`mix` must be between 0 and 1, got 1.5"),
        (SAM(), {"reuse": -1.0, "every": 2}, "`reuse` must be ≥ 0"),
        (SAM(), {"reuse": 0.5}, "`reuse` must be 0 without `every` > 1"),
        (SAM(), {"ascent": "previous", "every": 2, "reuse": 0.5}, "`reuse` must be 0"),
        (SAM(), {"own_ascent": True}, "pass `model=ddp`, got Sequential"),
        (SAM(), {"ascent": "previous", "own_ascent": True}, "`own_ascent` must be False"),
        (SAM(), {"mix": 0.5, "own_ascent": True}, "`own_ascent` must be False with `mix` < 1 or `reuse`"),
        (SAM(), {"every": 3, "reuse": 0.5, "own_ascent": True}, "`own_ascent` must be False with `mix` < 1 or `reuse`"),
        (NoiseInjection(Gaussian(0.1)), {"ascent": "previous"}, "`ascent` must be left out with NoiseInjection"),
    ],
)
def test_bad_modes_are_named(rule: object, modes: dict, message: str) -> None:
    model = make_model()
    with pytest.raises(ValueError, match=message):
        SharpnessAware(torch.optim.SGD(param_groups(model), lr=LR), rule, **modes)


def test_only_steps_that_are_made_count(batch: tuple) -> None:
    """A step that could have climbed and did not counts; one at a rate of 0, which only makes the state, does not.

    One group at a rate of 0, as of layers that stay for now, is no such step.
    """
    model = make_model()
    base = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=0.0)
    optimizer = SharpnessAware(base, SAM(), model=model, every=3)

    def counts() -> set[int]:
        return {group["sharpness_steps"] for group in optimizer.param_groups}

    closure_for(model, optimizer, batch)()
    optimizer.step()
    assert counts() == {0}
    step(model, optimizer, batch, explicit=True)  # a perturbed one counts at any rate
    assert counts() == {1}
    for group in optimizer.param_groups[1:]:
        group["lr"] = 0.1
    for i in (2, 3, 4):
        closure_for(model, optimizer, batch)()
        with pytest.warns(UserWarning, match="no perturbation was made") if i == 4 else nullcontext():
            optimizer.step()
        assert counts() == {i}


@pytest.mark.filterwarnings("ignore:.*half-precision weights absorb")
def test_reuse_in_half_precision_is_as_long_as_in_full() -> None:
    """Squares of small gradients would be nothing in float16."""
    added = []
    for dtype in (torch.float32, torch.float16):
        layer = nn.Linear(32, 8, bias=False).to(dtype)
        optimizer = SharpnessAware(torch.optim.SGD(param_groups(layer), lr=1.0), SAM(rho=0.5), every=2, reuse=0.7)
        drawn = torch.Generator().manual_seed(0)
        clean, other = (1e-4 * torch.randn(8, 32, generator=drawn) for _ in range(2))
        layer.weight.grad = clean.to(dtype, copy=True)
        with optimizer.perturbed():
            layer.weight.grad = other.to(dtype, copy=True)
        optimizer.step()
        layer.weight.grad = clean.to(dtype, copy=True)
        optimizer.step()
        added.append((layer.weight.grad.float() - clean).norm().item() / clean.norm().item())
    assert added == pytest.approx([0.7, 0.7], rel=1e-2)


@pytest.mark.parametrize("zero", range(4))
def test_a_zero_gradient_leaves_reuse_finite(zero: int) -> None:
    """Of a clean pass, of what the perturbation changed, or of a step between: 0/0 is no NaN, and adds nothing."""
    model = make_model()
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=LR), SAM(rho=0.5), every=2, reuse=0.7)
    for i in range(4):
        x, y = make_batch(seed=i)

        def closure(share: float = float(i != zero), x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            optimizer.zero_grad()
            loss = share * nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        before = [p.detach().clone() for p in model.parameters()]
        optimizer.step(closure)
        assert all(p.isfinite().all() for p in model.parameters())
        still = all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
        assert still == (i == zero)
        assert all(state["gradient_across"].isfinite().all() for state in optimizer.state.values())


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_nothing_is_used_again_of_a_clean_pass_that_overflowed(bad: float, sparse: bool) -> None:
    """It gives no perturbation, which then changed nothing: two steps are those of the base alone."""
    ends = []
    for sharp in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(5, 4, sparse=sparse), nn.Linear(4, 3)).double()
        groups = param_groups(model, perturb=lambda module, name: not isinstance(module, nn.Embedding))
        optimizer = torch.optim.SGD(groups, lr=LR)
        if sharp:
            optimizer = SharpnessAware(optimizer, SAM(rho=0.5), every=2, reuse=0.7)
        for i in range(2):
            run_pass = closure_for(model, optimizer, (torch.tensor([1, 2, 2]), torch.tensor([0, 1, 2])))
            run_pass()
            if sharp and i == 0:
                model[1].weight.grad[0, 0] = bad
                with optimizer.perturbed(model):
                    run_pass()
            optimizer.step()
        ends.append([p.detach() for p in model.parameters()])
    assert apart(*ends) < 1e-14


@both_forms
def test_a_gradient_of_the_clean_pass_alone_is_mixed_too(explicit: bool) -> None:
    """By hand: one head has a gradient in the clean pass only, the other in the perturbed one only."""
    model = Switching().double()
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=LR), SAM(rho=0.5), mix=0.3)
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.randint(3, (8,))
    before = snapshot(model)
    clean = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), model.heads[0].weight)[0]
    model.passes = 0
    step(model, optimizer, (x, y), explicit)
    assert torch.allclose(model.heads[0].weight, before["heads.0.weight"] - LR * 0.7 * clean, rtol=1e-10)
    assert not torch.equal(model.heads[1].weight, before["heads.1.weight"])
