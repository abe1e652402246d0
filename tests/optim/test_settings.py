"""Groups, parameters and states that come from elsewhere: the settings that count are those that were meant."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samson import (
    ASAM,
    SAM,
    SAMSON,
    FixedClipping,
    LearnedRange,
    Lookbehind,
    NoiseInjection,
    RangeSAM,
    SharpnessAware,
    WeightClipping,
    param_groups,
)
from samson.noise import Gaussian
from tests.conftest import closure_for, equal, make_batch, make_model, snapshot, weights_of
from tests.optim.reference import DECAY, LR, MOMENTUM


class Scaled(torch.optim.SGD):
    """Uses names in its groups that rules have as well, as LARS (`eta`), fadam (`p`) and sophia (`policy`) do."""

    def __init__(self, params: Any, **settings: float) -> None:
        super().__init__(params, **settings)
        for key, value in {"eta": 30.0, "p": 0.1, "policy": "none"}.items():
            self.defaults[key] = value
            for group in self.param_groups:
                group.setdefault(key, value)


class Unnamed(torch.optim.Optimizer):
    """Keeps its momentum under a name that nobody knows."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "momentum": 0.9})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    speed = self.state[p].setdefault("z", torch.zeros_like(p))
                    p.sub_(speed.mul_(group["momentum"]).add_(p.grad), alpha=group["lr"])


class Modal(torch.optim.SGD):
    """Has two modes, as schedule-free optimizers do."""

    mode = ""

    def train(self) -> None:
        self.mode = "train"

    def eval(self) -> None:
        self.mode = "eval"


def sgd(model: nn.Module, kind: type[torch.optim.SGD] = torch.optim.SGD) -> torch.optim.SGD:
    return kind(param_groups(model), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)


def both(rule: Any) -> dict[str, Callable[[torch.optim.Optimizer], torch.optim.Optimizer]]:
    return {"sharp": lambda base: SharpnessAware(base, rule), "lookbehind": lambda base: Lookbehind(base, rule)}


def moved(optimizer: SharpnessAware, model: nn.Module) -> set[str]:
    """The parameters that the next perturbation moves."""
    before = weights_of(model)
    with optimizer.perturbed():
        return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.parametrize("wrap", ["sharp", "lookbehind"])
def test_keys_of_the_base_are_not_settings_of_the_rule(wrap: str) -> None:
    ends = []
    for kind in (Scaled, torch.optim.SGD):
        model = make_model(torch.float32)
        optimizer = both(SAMSON(rho=0.5))[wrap](sgd(model, kind))
        optimizer.step(closure_for(model, optimizer, make_batch(torch.float32)))
        ends.append(snapshot(model))
    assert equal(*ends)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))], "param_names": ["new.weight"]})


def test_a_momentum_of_unknown_name_is_an_error_and_not_plain_descent() -> None:
    model = make_model()
    optimizer = SharpnessAware(Unnamed(param_groups(model)), SAM(rho=0.5), ascent="momentum")
    closure = closure_for(model, optimizer, make_batch())
    optimizer.step(closure)
    with pytest.raises(
        RuntimeError, match="`momentum_buffer` or `exp_avg` .* got Unnamed, which keeps z. Take ascent='p"
    ):
        optimizer.step(closure)
    model = make_model()
    optimizer = SharpnessAware(Unnamed(param_groups(model)), SAM(rho=0.5), ascent="previous")
    closure = closure_for(model, optimizer, make_batch())
    optimizer.step(closure)
    assert {"0.weight", "4.weight"} <= moved(optimizer, model)


RULES = {
    "sam": SAM(rho=0.1),
    "asam": ASAM(rho=0.2),
    "samson": SAMSON(rho=0.5),
    "rangesam": RangeSAM(rho=0.3),
    "noise": NoiseInjection(lambda w, generator: w + 1.0),
}


@pytest.mark.parametrize("by", ["wrapper", "base"])
@pytest.mark.parametrize("of", RULES)
@pytest.mark.parametrize("into", RULES)
def test_a_state_of_another_rule_keeps_the_present_settings(into: str, of: str, by: str) -> None:
    """Momentum comes from the state in any case, and ρ from a state of the same rule."""
    model, other = make_model(), make_model()
    source = SharpnessAware(sgd(other), RULES[of])
    source.param_groups[0] |= {"rho": 0.9, "eta": 0.25}
    source.step(closure_for(other, source, make_batch()))
    optimizer = SharpnessAware(sgd(model), RULES[into])
    saved = copy.deepcopy(source.state_dict())
    if of == into:
        optimizer.load_state_dict(saved)
        assert optimizer.param_groups[0]["rho"] == 0.9
        return
    with pytest.warns(
        UserWarning, match=f"the loaded state is of {type(RULES[of]).__name__}.*keeps its own, such as rho"
    ):
        (optimizer if by == "wrapper" else optimizer.base).load_state_dict(saved)
        optimizer.step(closure_for(model, optimizer, make_batch()))
    assert optimizer.param_groups[0]["rho"] == RULES[into].rho
    if into in ("asam", "samson"):
        assert "eta" not in optimizer.param_groups[0]
    assert optimizer.state[model[0].weight]["momentum_buffer"].abs().sum() > 0


@pytest.mark.parametrize("rule", [SAM(rho=0.7), NoiseInjection(lambda w, generator: w + 1.0, rho=0.7)])
def test_a_bare_state_loaded_through_the_base_keeps_working(rule: Any) -> None:
    model = make_model()
    optimizer = SharpnessAware(sgd(model), rule, every=2)
    optimizer.base.load_state_dict(sgd(make_model()).state_dict())
    assert optimizer.climbs
    optimizer.step(closure_for(model, optimizer, make_batch()))
    assert not optimizer.climbs
    assert optimizer.param_groups[0]["rho"] == 0.7


@pytest.mark.parametrize("by", ["wrapper", "base"])
def test_a_bare_state_leaves_each_group_its_settings(by: str) -> None:
    """Also those that a schedule has changed meanwhile."""
    model = make_model()
    named = [*model.named_parameters()]
    base = torch.optim.SGD([{"params": named[:2]}, {"params": named[2:], "perturb": False}], lr=LR)
    optimizer = SharpnessAware(base, SAMSON(rho=0.5), model=model, every=2)
    optimizer.step(closure_for(model, optimizer, make_batch()))
    optimizer.param_groups[0] |= {"rho": 0.2, "eta": 0.3}
    kept = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    bare = torch.optim.SGD([{"params": named[:2]}, {"params": named[2:]}], lr=LR).state_dict()
    (optimizer if by == "wrapper" else optimizer.base).load_state_dict(bare)
    assert not optimizer.climbs
    assert [
        {key: group.get(key) for key in old} for group, old in zip(optimizer.param_groups, kept, strict=True)
    ] == kept


def test_a_group_that_took_anothers_place_gets_none_of_its_settings() -> None:
    model = make_model()
    named = [*model.named_parameters()]
    base = torch.optim.SGD([{"params": named[:2], "perturb": False}, {"params": named[2:]}], lr=LR)
    optimizer = SharpnessAware(base, SAMSON(rho=0.5), model=model)
    del optimizer.param_groups[0]
    optimizer.load_state_dict(torch.optim.SGD([{"params": named[2:]}], lr=LR).state_dict())
    assert optimizer.param_groups[0].get("perturb", True)


def test_a_base_that_another_rule_has_wrapped_takes_the_new_settings() -> None:
    model = make_model()
    base = torch.optim.SGD(model.parameters(), lr=LR)
    with pytest.raises(ValueError, match="or pass `model="):
        SharpnessAware(base, SAMSON(rho=0.5))
    assert "rho" not in base.param_groups[0]
    SharpnessAware(base, SAMSON(rho=0.5), model=model)
    assert SharpnessAware(base, SAM(rho=0.05)).param_groups[0]["rho"] == 0.05


@pytest.mark.parametrize("loaded", [False, True])
def test_a_radius_that_the_same_rule_left_is_kept_and_named(loaded: bool) -> None:
    """It may be what a state holds that was loaded before the wrapping."""
    base = torch.optim.SGD(make_model().parameters(), lr=LR)
    optimizer = SharpnessAware(base, SAM(rho=0.05))
    if loaded:
        base = torch.optim.SGD(make_model().parameters(), lr=LR)
        base.load_state_dict(optimizer.state_dict())
    SharpnessAware(base, SAM(rho=0.05))  # no warning
    with pytest.warns(UserWarning, match=r"`base` has rho=0.05 from a SAM .* not the rule's rho=0.5"):
        again = SharpnessAware(base, SAM(rho=0.5))
    assert again.param_groups[0]["rho"] == 0.05


class OwnRate(torch.optim.SGD):
    """Finds its own rate, as Adafactor with relative steps does."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=LR)
        self.param_groups[0]["lr"] = None

    def step(self, closure: None = None) -> None:
        group = self.param_groups[0]
        group["lr"] = LR
        super().step()
        group["lr"] = None


def test_a_base_that_finds_its_own_rate() -> None:
    ends = []
    for kind in (OwnRate, lambda groups: torch.optim.SGD(groups, lr=LR)):
        model = make_model()
        optimizer = SharpnessAware(kind(param_groups(model)), SAM(rho=0.5), every=2)
        handle = optimizer.register_step_post_hook(WeightClipping(alpha=2.0))
        for seed in range(3):
            closure_for(model, optimizer, make_batch(seed=seed))()
            with optimizer.perturbed() if optimizer.climbs else nullcontext():
                closure_for(model, optimizer, make_batch(seed=seed))()
            optimizer.step()
        ends.append(snapshot(model))
        assert [group["sharpness_steps"] for group in optimizer.param_groups] == [3]
        if kind is OwnRate:
            assert repr(optimizer).endswith(": rho 0.5")
            handle.remove()
            optimizer.register_step_post_hook(LearnedRange())
            with pytest.raises(ValueError, match="`lr` must be a number, by which a learned range moves"):
                optimizer.step(closure_for(model, optimizer, make_batch()))
    assert equal(*ends)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(10, 6), nn.BatchNorm1d(6))
        self.head = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x.flatten(1)))


@pytest.mark.parametrize("given", ["none", "one"])
def test_groups_of_several_models_hold_the_statistics_of_all(given: str) -> None:
    torch.manual_seed(0)
    model = Two()
    base = torch.optim.SGD([*param_groups(model.backbone), *param_groups(model.head)], lr=LR)
    optimizer = SharpnessAware(base, SAMSON(rho=0.3))
    x, y = make_batch(torch.float32)
    nn.functional.cross_entropy(model(x), y).backward()
    with optimizer.perturbed(*([model.backbone] if given == "one" else [])):
        nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    assert [int(norm.num_batches_tracked) for norm in (model.backbone[1], model.head[1])] == [1, 1]
    both_copies = copy.deepcopy((model, optimizer))
    assert both_copies[1].model[0] is both_copies[0].backbone


def test_parameters_that_are_exchanged_or_added_in_the_list_are_perturbed() -> None:
    model = make_model()
    base = torch.optim.SGD(model.parameters(), lr=LR)
    optimizer = SharpnessAware(base, SAMSON(rho=0.5), model=model)
    closure = closure_for(model, optimizer, make_batch())
    optimizer.step(closure)
    closure()
    assert {"0.weight", "4.weight"} <= moved(optimizer, model)
    [group] = base.param_groups
    model[4].weight = nn.Parameter(torch.randn(3, 20, dtype=torch.float64))
    group["params"][4] = model[4].weight
    closure()
    assert {"0.weight", "4.weight"} <= moved(optimizer, model)
    model[3].extra = nn.Linear(5, 5, bias=False).double()
    model[0].register_forward_pre_hook(lambda module, inputs: (model[3].extra(inputs[0]),))
    group["params"].append(model[3].extra.weight)
    fresh = SharpnessAware(torch.optim.SGD(model.parameters(), lr=LR), SAMSON(rho=0.5), model=model)
    ends = []
    for one in (optimizer, fresh):
        closure_for(model, one, make_batch())()
        before = model[3].extra.weight.detach().clone()
        with one.perturbed():
            ends.append((model[3].extra.weight - before).detach())
    assert ends[0].abs().sum() > 0
    assert torch.allclose(*ends, rtol=1e-12)  # its name is known, so it is scaled


def test_a_group_added_through_the_base_is_perturbed() -> None:
    for rule in RULES.values():
        model = make_model()
        base = torch.optim.SGD([{"params": [model[0].weight]}], lr=LR)
        optimizer = SharpnessAware(base, rule, model=model, every=2)
        base.add_param_group({"params": [model[4].weight]})
        if optimizer.needs_first_pass:
            closure_for(model, optimizer, make_batch())()
        assert moved(optimizer, model) == {"0.weight", "4.weight"}
        optimizer.step(closure_for(model, optimizer, make_batch()))
        assert [group["sharpness_steps"] for group in base.param_groups] == [1, 1]


def test_hooks_for_states_run_with_the_wrapper() -> None:
    model = make_model()
    optimizer = SharpnessAware(sgd(model), SAM())
    seen: list[tuple[str, bool]] = []

    def note(name: str, result: Any = None) -> Callable[..., Any]:
        return lambda given, *state: (seen.append((name, given is optimizer)), result and result(*state))[1]

    def halved(state: dict[str, Any]) -> dict[str, Any]:
        groups = [group | {"lr": group["lr"] / 2} for group in state["param_groups"]]
        return {"state": state["state"], "param_groups": groups}

    rate = optimizer.param_groups[0]["lr"]
    optimizer.register_state_dict_pre_hook(note("save"))
    optimizer.register_state_dict_post_hook(note("saved", lambda state: state | {"mark": 1}))
    optimizer.register_load_state_dict_pre_hook(note("load", halved))
    optimizer.register_load_state_dict_pre_hook(lambda *_: None)  # one that changes nothing
    optimizer.register_load_state_dict_post_hook(note("loaded"))
    state = optimizer.state_dict()
    assert state["mark"] == 1
    optimizer.load_state_dict(state)
    assert seen == [(name, True) for name in ("save", "saved", "load", "loaded")]
    assert state["mark"] == 1  # the hooks see a copy
    assert optimizer.param_groups[0]["lr"] == rate / 2  # what a hook returns is loaded


def test_modes_of_the_base_are_reached() -> None:
    model = make_model()
    base = sgd(model, Modal)
    optimizer = SharpnessAware(base, SAM())
    optimizer.eval()
    assert base.mode == "eval"
    optimizer.train()
    assert base.mode == "train"
    plain = SharpnessAware(sgd(model), SAM())
    plain.eval()
    plain.train()


def test_a_group_without_names_gets_those_of_the_model() -> None:
    """Lightning's fine-tuning adds such groups; torch refuses them beside named ones."""
    model = make_model()
    named = [(f"0.{name}", p) for name, p in model[0].named_parameters()]
    optimizer = SharpnessAware(torch.optim.SGD(named, lr=LR), SAMSON(), model=model)
    optimizer.add_param_group({"params": model[4].parameters()})
    optimizer.add_param_group({"params": model[1].weight})
    assert [group["param_names"] for group in optimizer.param_groups[1:]] == [["4.weight", "4.bias"], ["1.weight"]]
    optimizer.add_param_group({"params": [("one", nn.Parameter(torch.ones(1)))]})
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "param_names": ["two"]})
    assert [group["param_names"] for group in optimizer.param_groups[3:]] == [["one"], ["two"]]
    with pytest.raises(ValueError, match="`param_group` must have `param_names`.*Pass `model=`"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))]})


@pytest.mark.parametrize("rule", [SAM(), SAMSON(), NoiseInjection(Gaussian(0.1))])
def test_a_model_without_the_optimizers_parameters_is_refused(rule: Any) -> None:
    model = make_model()
    base = sgd(model)
    with pytest.raises(ValueError, match="`model` must have parameters that the optimizer holds, .*`fully_shard`"):
        SharpnessAware(base, rule, model=copy.deepcopy(model))
    assert "rho" not in base.param_groups[0]
    SharpnessAware(base, rule, model=nn.ModuleList([make_model(), model[0]]))  # some of them are enough


def test_a_frozen_model_may_be_known_where_its_input_is_trained() -> None:
    model, (x, y) = make_model().requires_grad_(False), make_batch()
    prompt = nn.Parameter(torch.zeros_like(x[:1]))
    optimizer = SharpnessAware(torch.optim.SGD([prompt], lr=0.1), SAM(rho=0.1), model=model)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x + prompt), y)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(10)]
    assert losses[-1] < losses[0] - 1e-3
    assert prompt.any()


def test_parameters_that_are_replaced_after_the_optimizer_was_made_are_told() -> None:
    model = make_model()
    optimizers = SharpnessAware(sgd(model), SAM()), Lookbehind(sgd(model), SAM())
    for module in model.modules():  # as `fully_shard` does
        for name, p in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(p.detach().clone()))
    for optimizer in optimizers:
        with pytest.raises(ValueError, match="made before `fully_shard`, or from another copy"):
            optimizer.step(closure_for(model, optimizer, make_batch()))


def test_what_is_no_model_and_no_order_is_named() -> None:
    with pytest.raises(TypeError, match="`model` must be a module.* got generator"):
        param_groups(make_model().named_parameters())
    with pytest.raises(ValueError, match="`p` must be ≥ 1 .* got '2'"):
        SAMSON(p="2")


def test_a_group_that_the_rule_refuses_is_not_there() -> None:
    model = make_model()
    optimizer = SharpnessAware(torch.optim.SGD(model[0].parameters(), lr=LR), RangeSAM(rho=0.5), model=model)
    nn.utils.parametrizations.weight_norm(model[4])
    with pytest.raises(ValueError, match="`4.weight` must be a parameter for RangeSAM"):
        optimizer.add_param_group({"params": model[4].parameters()})
    assert len(optimizer.param_groups) == 1
    optimizer.step(closure_for(model, optimizer, make_batch()))


@pytest.mark.parametrize("rule", [SAMSON(0.5, eta=1.0), SAMSON(0.5, p=2.0)], ids=repr)
def test_a_rule_that_is_exchanged_is_the_one_that_moves(rule: Any) -> None:
    found = []
    for first in (rule, SAMSON(0.5)):
        model, batch = make_model(), make_batch()
        optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.0), first, measure=True)
        for _ in range(2):
            optimizer.step(closure_for(model, optimizer, batch))
            optimizer.rule = rule
        assert optimizer.last_ascent is not None
        found.append(float(optimizer.last_ascent.epsilon_norm))
    assert found[0] == pytest.approx(found[1])


TEXTS: dict[str, Callable[[], object]] = {
    "`rho` must be a number, got '5e-1'": lambda: SAMSON(rho="5e-1"),
    "`rho` must be a number, got None": lambda: SAM(rho=None),
    "`eta` must be a number, got '1e-2'": lambda: ASAM(eta="1e-2"),
    "`seed` must be a whole number, got '1'": lambda: NoiseInjection(Gaussian(0.1), seed="1"),
    "`alpha` must be a number, got '2'": lambda: WeightClipping(alpha="2"),
    "`w_max` must be a number, got '1e-1'": lambda: FixedClipping(w_max="1e-1"),
    "`start` must be a number, got '2'": lambda: LearnedRange(start="2"),
    "`penalty` must be a number, got '1e-2'": lambda: LearnedRange(penalty="1e-2"),
    "`mix` must be a number, got '5e-1'": lambda: SharpnessAware(sgd(make_model()), SAM(), mix="5e-1"),
    "`reuse` must be a number, got '1'": lambda: SharpnessAware(sgd(make_model()), SAM(), every=2, reuse="1"),
    "`every` must be a whole number, got '2'": lambda: SharpnessAware(sgd(make_model()), SAM(), every="2"),
    "`budget` must be a number, got '1'": lambda: SharpnessAware(sgd(make_model()), SAM(), budget="1"),
    "`k` must be a whole number, got '2'": lambda: Lookbehind(sgd(make_model()), SAM(), k="2"),
    "`alpha` must be between 0 and 1, or 'adaptive', got '0.5'": lambda: Lookbehind(
        sgd(make_model()), SAM(), alpha="0.5"
    ),
}
"""What YAML makes of 5e-1, and the like."""


@pytest.mark.parametrize("words", TEXTS)
def test_a_text_in_place_of_a_number_is_named(words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TEXTS[words]()


@pytest.mark.parametrize("wrap", ["sharp", "lookbehind"])
def test_numbers_of_numpy_are_numbers(wrap: str) -> None:
    ends = []
    for whole, real in ((int, float), (np.int64, np.float32)):
        model = make_model()
        if wrap == "sharp":
            optimizer: Any = SharpnessAware(sgd(model), SAM(), every=whole(2), mix=real(0.5))
        else:
            optimizer = Lookbehind(sgd(model), SAM(), k=whole(2), alpha=real(0.5))
        for _ in range(3):
            optimizer.step(closure_for(model, optimizer, make_batch()))
        ends.append(snapshot(model))
    assert equal(*ends)
