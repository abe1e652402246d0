"""`SharpnessAware` as an optimizer: both ways of use, sharing with the base, norm statistics, errors."""

import copy
import gc
import math
import warnings
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from samson import ASAM, SAM, SAMSON, Lookbehind, NoiseInjection, RangeSAM, SharpnessAware, WeightClipping, param_groups
from samson.noise import Gaussian
from tests.conftest import closure_for, equal, loss_of, make_batch, make_model, snapshot
from tests.optim.layouts import Experts
from tests.optim.reference import CASES, Loop, Switching, apart


def sgd(model: nn.Module, **settings: float) -> torch.optim.SGD:
    return torch.optim.SGD(param_groups(model), **{"lr": 0.1, "momentum": 0.9} | settings)


def explicit_step(model: nn.Module, optimizer: SharpnessAware, batch: tuple) -> None:
    optimizer.zero_grad()
    loss_of(model, batch).backward()
    with optimizer.perturbed(model):
        loss_of(model, batch).backward()
    optimizer.step()


def test_a_warning_names_the_line_of_the_user() -> None:
    """Whatever lies between: blocks of ours and of contextlib, and what torch and a scheduler put around `step`."""
    model = nn.Linear(4, 4)
    optimizer = SharpnessAware(sgd(model), SAM())
    torch.optim.lr_scheduler.ConstantLR(optimizer)

    def adding() -> torch.Tensor:
        loss = model(torch.ones(2, 4)).sum()
        loss.backward()
        return loss

    def half() -> SharpnessAware:
        return SharpnessAware(torch.optim.SGD(nn.Linear(4, 4).half().parameters(), lr=0.1), SAM())

    def with_closure() -> None:
        optimizer.step(adding)

    def without() -> None:
        optimizer.step()

    adding()
    said_of = {
        half: "half-precision",
        with_closure: "the closure adds to gradients",
        without: "no perturbation was made",
    }
    for function, words in said_of.items():
        with pytest.warns(UserWarning, match=words) as said:
            function()
        assert [(one.filename, one.lineno) for one in said] == [(__file__, function.__code__.co_firstlineno + 1)]


def test_both_ways_of_use_give_the_same_weights() -> None:
    ends = []
    for explicit in (True, False):
        model = make_model(torch.float32)
        optimizer = SharpnessAware(sgd(model), SAMSON(rho=0.3))
        for seed in range(5):
            batch = make_batch(torch.float32, seed)
            if explicit:
                explicit_step(model, optimizer, batch)
            else:
                optimizer.step(closure_for(model, optimizer, batch))
        ends.append(snapshot(model))
    assert equal(*ends)


def test_it_is_an_optimizer_that_shares_what_the_base_has(model: nn.Sequential, batch: tuple) -> None:
    base = sgd(model)
    optimizer = SharpnessAware(base, SAM())
    assert isinstance(optimizer, torch.optim.Optimizer)

    def shared() -> bool:
        return all(getattr(optimizer, name) is getattr(base, name) for name in ("param_groups", "state", "defaults"))

    assert shared()
    optimizer.step(closure_for(model, optimizer, batch))
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert shared()
    base.load_state_dict(copy.deepcopy(base.state_dict()))  # base replaces its groups; they stay shared
    assert shared()
    assert len(base.state) == 6


@pytest.mark.parametrize("hold_base", [True, False])
def test_schedulers_work_without_warnings(hold_base: bool, model: nn.Sequential, batch: tuple) -> None:
    base = sgd(model)
    optimizer = SharpnessAware(base, SAM())
    scheduler = torch.optim.lr_scheduler.StepLR(base if hold_base else optimizer, step_size=1, gamma=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            optimizer.step(closure_for(model, optimizer, batch))
            scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.025


def test_norm_statistics_see_the_clean_pass_only_and_once(batch: tuple) -> None:
    """Those of a model of which the wrapper knows nothing see both passes, with one warning."""
    clean = make_model()
    for _ in range(3):
        clean(batch[0])
    for known in (True, False):
        model, losses = make_model(), []
        base = torch.optim.SGD(param_groups(model) if known else model.parameters(), lr=0.0)
        optimizer = SharpnessAware(base, SAM(rho=1.0))
        with nullcontext([]) if known else pytest.warns(UserWarning, match="running statistics") as caught:
            for _ in range(3):
                optimizer.step(closure_for(model, optimizer, batch, losses))
        assert len(losses) == 6
        assert equal(snapshot(model), snapshot(clean)) == known
    assert len(caught) == 1


def test_gradients_are_cleared_for_every_parameter(model: nn.Sequential, batch: tuple) -> None:
    """Also for a group that is not perturbed: its gradient is that of the second pass alone."""
    groups = [
        {"params": list(model[0].parameters()) + list(model[1].parameters())},
        {"params": list(model[4].parameters()), "perturb": False},
    ]
    optimizer = SharpnessAware(torch.optim.SGD(groups, lr=0.1), SAM(rho=1e-9), model=model)
    loss_of(model, batch).backward()
    once = model[4].weight.grad.clone()
    with optimizer.perturbed(model):
        assert all(p.grad is None for p in model.parameters())
        loss_of(model, batch).backward()
    assert torch.allclose(model[4].weight.grad, once, rtol=1e-6)


def test_an_optimizer_that_is_gone_holds_nothing(model: nn.Sequential, batch: tuple) -> None:
    """After a first phase, say: the next optimizer clears the gradients of what it held, too."""
    gone = SharpnessAware(sgd(model), SAM())
    del gone
    gc.collect()
    optimizer = SharpnessAware(torch.optim.SGD(model[4].parameters(), lr=0.1), SAM(), model=model)
    loss_of(model, batch).backward()
    with optimizer.perturbed(model):
        assert all(p.grad is None for p in model.parameters())
        loss_of(model, batch).backward()


@pytest.mark.parametrize("form", ["explicit", "both perturb", "closure", "lookbehind"])
def test_another_optimizer_gets_the_perturbed_gradient_alone(form: str, batch: tuple) -> None:
    """By hand: as Muon for the matrices beside SGD for the rest."""
    both = form == "both perturb"
    model, reference = make_model(), make_model()
    rest, matrix = [*model.parameters()][:-2], model[4].weight
    wrap = SharpnessAware if form != "lookbehind" else lambda *given, **named: Lookbehind(*given, 1, 1.0, **named)
    optimizer = wrap(torch.optim.SGD(rest, lr=0.1), SAM(rho=0.5), model=model)
    other = torch.optim.SGD([matrix], lr=0.1)
    other = SharpnessAware(other, SAM(rho=0.5), model=model) if both else other
    run = closure_for(model, optimizer, batch)
    if form in ("explicit", "both perturb"):
        run()
        with optimizer.perturbed(model), other.perturbed(model) if both else nullcontext():
            run()
    else:
        optimizer.step(run)
    loss_of(reference, batch).backward()
    weights = [*reference.parameters()]
    with torch.no_grad():
        for some in (weights[:-2], [weights[-2]] if both else []):
            norm = sum(p.grad.square().sum() for p in some) ** 0.5
            for p in some:
                p.add_(p.grad, alpha=float(0.5 / norm))
    reference.zero_grad()
    loss_of(reference, batch).backward()
    assert torch.allclose(matrix.grad, reference[4].weight.grad, rtol=1e-10)


def test_a_group_added_later_is_perturbed_too(model: nn.Sequential, batch: tuple) -> None:
    base = torch.optim.SGD([{"params": [model[0].weight], "lr": 0.1}])
    optimizer = SharpnessAware(base, SAMSON(), model=model)
    optimizer.add_param_group({"params": [model[4].weight], "rho": 0.3, "lr": 0.1})
    assert [group["rho"] for group in base.param_groups] == [0.5, 0.3]
    with pytest.raises(ValueError, match="`rho` must be ≥ 0"):
        optimizer.add_param_group({"params": [model[1].weight], "rho": -0.3, "lr": 0.1})
    before = model[4].weight.detach().clone()
    loss_of(model, batch).backward()
    with optimizer.perturbed(model):
        assert not torch.equal(model[4].weight, before)


@pytest.mark.parametrize("wrap", ["none", "compiled", "prefix"])
def test_names_come_from_the_model_by_identity(wrap: str, batch: tuple) -> None:
    model = make_model()
    outer = {
        "none": lambda: model,
        "compiled": lambda: torch.compile(model, backend="eager"),
        "prefix": lambda: nn.DataParallel(model),
    }[wrap]()
    ends = []
    for named in (False, True):
        model.load_state_dict(make_model().state_dict())
        base = sgd(model) if named else torch.optim.SGD(list(outer.parameters()), lr=0.1, momentum=0.9)
        optimizer = SharpnessAware(base, ASAM(), model=outer)
        optimizer.step(closure_for(model, optimizer, batch))
        ends.append(snapshot(model))
    assert equal(*ends)


def test_a_step_without_perturbation_warns_once(model: nn.Sequential, batch: tuple) -> None:
    optimizer = SharpnessAware(sgd(model), SAM())
    loss_of(model, batch).backward()
    with pytest.warns(UserWarning, match="no perturbation was made: pass a closure or use `perturbed`") as caught:
        optimizer.step()
        optimizer.step()
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        still = SharpnessAware(sgd(model, lr=0.0), SAM())
        still.step()  # as distributed checkpointing does to make the state
        fresh = make_model()
        optimizer = SharpnessAware(sgd(fresh), SAM())
        explicit_step(fresh, optimizer, batch)


def test_wrong_use_is_an_error(model: nn.Sequential, batch: tuple) -> None:
    optimizer = SharpnessAware(sgd(model), SAM())
    with pytest.raises(RuntimeError, match="Call `loss.backward\\(\\)` before"), optimizer.perturbed(model):
        pass
    with pytest.raises(RuntimeError, match="a closure must call"):
        optimizer.step(lambda: loss_of(model, batch).detach())
    loss_of(model, batch).backward()
    with pytest.raises(RuntimeError, match="left no gradient in the perturbed pass"):
        optimizer.step(lambda: None)  # after an explicit pass, as some trainers' own closures do
    loss_of(model, batch).backward()
    with optimizer.perturbed(model):
        with pytest.raises(RuntimeError, match="inside `perturbed`"):
            optimizer.step()
        with pytest.raises(RuntimeError, match="nested"), optimizer.perturbed(model):
            pass


def test_a_block_without_backward_is_an_error_at_the_step(batch: tuple) -> None:
    """Nothing would move, without a word."""
    model = make_model()
    optimizer = SharpnessAware(sgd(model), SAM())
    loss_of(model, batch).backward()
    with optimizer.perturbed(model):
        loss_of(model, batch)
    before = snapshot(model)
    with pytest.raises(RuntimeError, match=r"No parameter has a gradient from the `perturbed` block. Run .* inside it"):
        optimizer.step()
    assert equal(snapshot(model), before)
    explicit_step(model, optimizer, batch)


@pytest.mark.parametrize("cleared", [False, True])
def test_a_backward_after_the_block_is_an_error_at_the_step(cleared: bool, batch: tuple) -> None:
    """With checkpoints of activations it would compute them anew, from weights that are back."""
    model, (x, y) = make_model(), batch
    optimizer = SharpnessAware(sgd(model), SAM())
    loss_of(model, batch).backward()
    with optimizer.perturbed(model):
        loss = nn.functional.cross_entropy(checkpoint(model, x, use_reentrant=False), y)
    if cleared:
        optimizer.zero_grad()
    loss.backward()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match=r"No parameter has a gradient from the `perturbed` block"):
        optimizer.step()
    assert equal(snapshot(model), before)
    explicit_step(model, optimizer, batch)


def test_a_step_may_follow_one_that_was_given_up(model: nn.Sequential, batch: tuple) -> None:
    """As after one that a GradScaler left out."""
    optimizer = SharpnessAware(sgd(model), SAM())
    loss_of(model, batch).backward()
    with optimizer.perturbed(model):
        loss_of(model, batch).backward()
    optimizer.zero_grad()
    loss_of(model, batch).backward()
    before = snapshot(model)
    optimizer.step()
    assert not equal(snapshot(model), before)


def test_two_blocks_for_one_step_are_an_error(batch: tuple) -> None:
    """The second would drop the gradients of the first: what a loop over micro-batches would do."""
    model = make_model()
    optimizer = SharpnessAware(sgd(model), SAM())

    def block() -> None:
        loss_of(model, batch).backward()
        with optimizer.perturbed(model):
            loss_of(model, batch).backward()

    block()
    with pytest.raises(RuntimeError, match=r"entered again before `step\(\)`"):
        block()
    optimizer.step()
    block()
    optimizer.zero_grad()  # the step is given up
    block()
    optimizer.step()
    optimizer.step(closure_for(model, optimizer, batch))
    explicit_step(model, optimizer, batch)


def test_sparse_gradients_are_refused() -> None:
    embedding = nn.Embedding(5, 3, sparse=True)
    optimizer = SharpnessAware(sgd(embedding, momentum=0.0), SAM())
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse=False"), optimizer.perturbed(embedding):
        pass
    optimizer = SharpnessAware(sgd(embedding, momentum=0.0), SAM(), ascent="previous")
    optimizer.zero_grad()
    optimizer.step(lambda: embedding(torch.tensor([1, 2])).sum().backward())
    with pytest.raises(RuntimeError, match="sparse=False"), optimizer.perturbed(embedding):
        pass


def test_a_scaling_rule_needs_names_and_something_to_scale(model: nn.Sequential) -> None:
    plain = torch.optim.SGD(list(model.parameters()), lr=0.1)
    with pytest.raises(ValueError, match=r"param_groups\(model\)`, or pass `model="):
        SharpnessAware(plain, SAMSON())
    SharpnessAware(plain, SAM())
    SharpnessAware(plain, SAMSON(policy="matrices"))
    SharpnessAware(plain, SAMSON(), model=model)
    biases = torch.optim.SGD([("bias", model[4].bias)], lr=0.1)
    with pytest.raises(ValueError, match="would silently be SAM"):
        SharpnessAware(biases, SAMSON())
    for policy in ("matrices", "authors"):
        words = f"`policy` '{policy}' picks none .* would silently be SAM. Use another policy, such as 'all'"
        with pytest.raises(ValueError, match=words):
            SharpnessAware(biases, SAMSON(policy=policy))
        of_group = torch.optim.SGD([{"params": [("bias", model[4].bias)], "policy": policy}], lr=0.1)
        with pytest.raises(ValueError, match=words):
            SharpnessAware(of_group, SAMSON(policy="all"))


@pytest.mark.filterwarnings("ignore:.*half-precision weights absorb")
def test_small_weights_of_half_precision_move() -> None:
    """The square of the inverse of their norm is no number in float16."""
    layer = nn.Linear(4, 4, bias=False).half()
    nn.init.constant_(layer.weight, 1e-3)
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(layer), lr=0.1), SAMSON(rho=0.5))
    layer.weight.grad = torch.ones(4, 4).half()
    with optimizer.perturbed():
        assert (layer.weight > 2e-3).all()


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
def test_a_layer_of_next_to_nothing_keeps_no_other_from_its_ascent(p: float) -> None:
    """Weights that have decayed so far that the inverse of their norm has no finite square count as zeros do."""
    found = []
    for dead in (0.0, 1e-22, 1e-30, 1e-40):
        model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
        with torch.no_grad():
            model[0].weight.copy_(torch.linspace(-1.0, 1.0, 16).view(4, 4))
            model[1].weight.fill_(dead)
        optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), SAMSON(p=p), measure=True)
        for layer in model:
            layer.weight.grad = torch.ones(4, 4)
        with optimizer.perturbed():
            found.append([layer.weight.detach().clone() for layer in model])
        assert int(optimizer.skipped_ascents) == 0
        assert torch.equal(found[-1][1], torch.full((4, 4), dead))
    assert all(torch.equal(moved, found[0][0]) for moved, _ in found)
    assert not torch.equal(found[0][0], torch.linspace(-1.0, 1.0, 16).view(4, 4))


class Adapted(nn.Module):
    """A frozen layer of any precision beside two small matrices, as LoRA has them."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.base = nn.Linear(4, 3).requires_grad_(False).to(dtype)
        self.lora_A, self.lora_B = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(3, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x.to(self.base.weight.dtype)).float() + x @ self.lora_A.T @ self.lora_B.T


def test_a_frozen_weight_is_none_that_a_rule_scales() -> None:
    adapted = Adapted()
    with pytest.raises(ValueError, match="none of the 2 .*, frozen ones aside, so SAMSON would .* such as 'matrices'"):
        SharpnessAware(sgd(adapted), SAMSON())
    SharpnessAware(sgd(adapted), SAMSON(policy="matrices"))
    frozen = nn.Linear(4, 3).requires_grad_(False)
    SharpnessAware(sgd(frozen), SAMSON())  # all are yet to be unfrozen


def test_experts_that_a_policy_does_not_know_by_name_are_warned_of() -> None:
    """They are moved unscaled; the policy by shape knows them, and a bias, or a table of no layer, needs no scale."""
    model = nn.Sequential(Experts(False), nn.Linear(5, 3))
    model.table = nn.Parameter(torch.ones(5, 3))
    match = "SAMSON moves 1 parameter of chip layers as SAM would, such as '0.up'.*policy='matrices'"
    with pytest.warns(UserWarning, match=match):
        SharpnessAware(sgd(model), SAMSON())
    SharpnessAware(sgd(model), SAMSON(policy="matrices"))
    SharpnessAware(sgd(model), SAM())
    own = [{"params": [model[0].up], "perturb": False}, {"params": [*model[1].parameters()]}]
    SharpnessAware(torch.optim.SGD(own, lr=0.1), SAMSON(), model=model)


def test_a_trained_parameter_without_a_name_is_warned_of() -> None:
    """It is perturbed unscaled beside the others."""
    body, head = nn.Linear(4, 5), nn.Linear(5, 3)
    base = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
    with pytest.raises(
        ValueError, match="SAMSON.* with policy='authors' .* no parameter has a name.*one that holds them"
    ):
        SharpnessAware(base, SAMSON(), model=nn.Linear(4, 3))
    match = "2 parameters of 4 have no name, so SAMSON moves them as SAM would.*ModuleList.*perturb=False"
    with pytest.warns(UserWarning, match=match):
        SharpnessAware(base, SAMSON(), model=body)
    optimizer = SharpnessAware(torch.optim.SGD(body.parameters(), lr=0.1), SAMSON(), model=body)
    with pytest.warns(UserWarning, match=match):
        optimizer.add_param_group({"params": head.parameters()})
    optimizer = SharpnessAware(torch.optim.SGD(body.parameters(), lr=0.1), SAMSON(), model=body)
    optimizer.add_param_group({"params": [head.bias], "perturb": False})
    optimizer.add_param_group({"params": [head.weight], "policy": "all"})  # which asks for no name
    SharpnessAware(base, SAMSON(), model=nn.ModuleList([body, head]))
    head.requires_grad_(False)
    SharpnessAware(base, SAMSON(), model=body)


def test_frozen_weights_are_no_half_precision_weights_that_move() -> None:
    adapted = Adapted(torch.bfloat16)
    optimizer = SharpnessAware(sgd(adapted), SAMSON(policy="matrices"))  # a warning would be an error
    assert "14 weights (15 frozen) in 1 group" in repr(optimizer)
    adapted.base.requires_grad_(True)
    with pytest.warns(UserWarning, match="half-precision weights absorb"):
        optimizer = SharpnessAware(sgd(adapted), SAMSON(policy="matrices"))
    assert "29 weights in 1 group" in repr(optimizer)


HALVES = [tuple(part[half] for part in make_batch()) for half in (slice(0, 8), slice(8, 16))]
CLEARED = {"not": lambda o: None, "to None": lambda o: o.zero_grad(), "to zeros": lambda o: o.zero_grad(False)}


@pytest.mark.parametrize("wrap", [SharpnessAware, Lookbehind])
@pytest.mark.parametrize("first", ["once", "never"])
@pytest.mark.parametrize("cleared", CLEARED)
def test_a_closure_that_adds_to_earlier_gradients_is_warned_of(cleared: str, first: str, wrap: type) -> None:
    """As one writes it for plain descent: micro-batches, and the last of them in a closure."""
    model = make_model()
    optimizer = wrap(sgd(model), SAM(rho=0.5))
    if first == "once":
        loss_of(model, HALVES[0]).backward()

    def closure() -> torch.Tensor:
        CLEARED[cleared](optimizer)
        for half in HALVES:  # which add to each other
            loss = loss_of(model, half)
            loss.backward()
        return loss

    lost = first == "once" and cleared == "not"
    with pytest.warns(UserWarning, match="adds to gradients from before") if lost else nullcontext():
        optimizer.step(closure)
    assert not model[0].weight._backward_hooks


def test_a_closure_may_differentiate_before_it_clears(batch: tuple) -> None:
    """As for a penalty on the gradient: gradients that a warm-up left change nothing."""

    def stepped(*, warm: bool) -> list[torch.Tensor]:
        model = make_model()
        optimizer = SharpnessAware(sgd(model), SAM(rho=0.5))
        if warm:
            loss_of(model, batch).backward()

        def closure() -> torch.Tensor:
            loss = loss_of(model, batch)
            penalty = sum(g.square().sum() for g in torch.autograd.grad(loss, [*model.parameters()], create_graph=True))
            optimizer.zero_grad()
            (loss + 0.1 * penalty).backward()
            return loss

        optimizer.step(closure)  # a warning would be an error
        return [*model.parameters()]

    assert all(map(torch.equal, stepped(warm=True), stepped(warm=False)))


def test_a_step_that_does_not_climb_may_add_to_earlier_gradients(batch: tuple) -> None:
    model, plain = make_model(), make_model()
    optimizer = SharpnessAware(sgd(model), SAM(rho=0.5), every=2)
    optimizer.param_groups[0]["sharpness_steps"] = 1  # as from a checkpoint
    loss_of(model, batch).backward()
    optimizer.step(lambda: loss_of(model, batch).backward())  # a warning would be an error
    for _ in range(2):
        loss_of(plain, batch).backward()
    sgd(plain).step()
    assert all(map(torch.equal, model.parameters(), plain.parameters()))


def test_unfit_bases_are_refused(model: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="`rho`, which Adadelta does"):
        SharpnessAware(torch.optim.Adadelta(param_groups(model)), SAM())
    with pytest.raises(TypeError, match="not LBFGS"):
        SharpnessAware(torch.optim.LBFGS(model.parameters()), SAM())
    with pytest.raises(TypeError, match="not a wrapper"):
        SharpnessAware(SharpnessAware(sgd(model), SAM()), SAM())
    with pytest.raises(TypeError, match="`rule` must be a rule"):
        SharpnessAware(sgd(model), 0.05)
    with pytest.raises(ValueError, match="at least one parameter"):
        param_groups(nn.ReLU())


def test_a_shared_parameter_is_asked_for_once_with_the_module_of_its_name() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embedding"].weight
    asked = []

    def perturb(module: nn.Module, name: str) -> bool:
        asked.append((type(module), name))
        return True

    param_groups(model, perturb=perturb)
    assert asked == [(nn.Embedding, "embedding.weight")]


def test_the_link_to_a_model_does_not_keep_it_alive() -> None:
    """Layers, names and statistics would not be known: noise would come on embeddings in silence."""
    layers = nn.Embedding(5, 4), nn.Linear(4, 2)
    base = torch.optim.SGD(param_groups(nn.ModuleList(layers)), lr=0.1)
    gc.collect()
    clipped = torch.optim.SGD(base.param_groups, lr=0.1)
    clipped.register_step_post_hook(WeightClipping(0.5))
    for use in (lambda: SharpnessAware(base, SAM()), clipped.step):
        with pytest.raises(ValueError, match="that `param_groups` was given must still be there.* Keep it in a var"):
            use()
    assert SharpnessAware(base, SAM(), model=nn.Sequential(*layers)).model is not None
    assert SharpnessAware(torch.optim.SGD(layers[1].parameters(), lr=0.1), SAM()).model is None  # not from groups of it


class Kernel(nn.Module):
    """A matrix in a layer of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(5, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.kernel


@pytest.mark.parametrize("rule", [RangeSAM, lambda **chosen: NoiseInjection(Gaussian(0.1), **chosen)])
def test_that_most_weights_lie_in_unknown_layers_is_said(rule: Callable[..., object]) -> None:
    x = torch.randn(3, 5)
    for layers, select, warns in (
        ((Kernel(), nn.Linear(4, 3)), None, True),  # 20 and 12 weights
        ((Kernel(), nn.Linear(4, 3)), ["default", "*.kernel"], False),
        ((Kernel(), nn.Linear(4, 30)), None, False),
    ):
        model = nn.Sequential(*layers)
        chosen = {} if select is None else {"select": select}
        optimizer = SharpnessAware(sgd(model), rule(**chosen))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                optimizer.step(closure_for(model, optimizer, (x, torch.zeros(3, dtype=torch.long))))
        found = [str(one.message) for one in caught]
        assert len(found) == warns, found
        assert all("62% of the model's weights are in layers of unknown types, such as Kernel" in one for one in found)


def test_a_closure_does_not_follow_a_block(model: nn.Sequential, batch: tuple) -> None:
    """Lightning's optimizers bring an empty one, for which the gradients of the block would be dropped."""
    optimizer = SharpnessAware(sgd(model), SAM())
    loss_of(model, batch).backward()
    with optimizer.perturbed():
        loss_of(model, batch).backward()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="await `step.*` without a closure, but one came"):
        optimizer.step(lambda: None)
    assert equal(snapshot(model), before)
    optimizer.step()
    assert not equal(snapshot(model), before)


def test_a_step_that_was_cut_off_is_made_again(model: nn.Sequential, batch: tuple) -> None:
    optimizer = SharpnessAware(sgd(model), SAM())

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    hook = optimizer.base.register_step_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure_for(model, optimizer, batch))
    hook.remove()
    before = snapshot(model)
    optimizer.step(closure_for(model, optimizer, batch))
    assert not equal(snapshot(model), before)


@pytest.mark.parametrize("base", [torch.optim.AdamW, torch.optim.RMSprop])
def test_other_bases_work(base: type[torch.optim.Optimizer], batch: tuple) -> None:
    """By hand: the base's step with the gradient at the perturbed weights."""
    model, loop, case = make_model(), Loop(), CASES["samson"]
    optimizer = SharpnessAware(base(param_groups(model), lr=0.01), case.rule)
    plain = base(loop.w, lr=0.01)
    for _ in range(3):
        optimizer.step(closure_for(model, optimizer, batch))
        perturbed = loop.gradient(loop.climbed(case, loop.gradient(loop.w, batch)), batch)
        for w, g in zip(loop.w, perturbed, strict=True):
            w.grad = g
        plain.step()
    assert apart(list(model.parameters()), loop.w) < 1e-10


def test_groups_may_have_their_own_settings_of_the_rule(model: nn.Sequential, batch: tuple) -> None:
    """By hand: one norm over all, each group with its own settings; ρ = 0 counts, `perturb=False` does not."""
    a, b, c, bias = model[0].weight, model[1].weight, model[4].weight, model[4].bias
    groups = [
        {"params": [a], "param_names": ["a.weight"], "rho": 0.4, "p": 2, "eta": 0.0},
        {"params": [b], "param_names": ["b.weight"], "policy": "matrices", "rho": 0.0},
        {"params": [bias], "param_names": ["c.bias"], "policy": "all", "eta": 0.5},
        {"params": [c], "param_names": ["c.weight"], "perturb": False},
    ]
    optimizer = SharpnessAware(torch.optim.SGD(groups, lr=0.1), SAMSON(rho=0.1), model=model)
    loss_of(model, batch).backward()
    before = {p: p.detach().clone() for p in (a, b, c, bias)}
    scales = {
        a: before[a].abs() / before[a].square().sum().sqrt(),
        b: torch.ones_like(b),
        bias: (before[bias].abs() + 0.5) / before[bias].abs().max(),
    }
    g = {p: p.grad.clone() for p in scales}
    norm = torch.sqrt(sum((scales[p] * g[p]).square().sum() for p in scales))
    with optimizer.perturbed(model):
        for p, rho in ((a, 0.4), (bias, 0.1)):
            assert torch.allclose(p - before[p], rho * scales[p].square() * g[p] / norm, rtol=1e-9)
        assert all(torch.equal(p, before[p]) for p in (b, c))
    optimizer.param_groups[2]["policy"] = "authors"  # and no longer scales the bias
    loss_of(model, batch).backward()
    with optimizer.perturbed(model):
        ratio = (bias - before[bias]) / g[bias]
        assert torch.allclose(ratio, ratio[0].expand_as(ratio), rtol=1e-9)
    with pytest.raises(ValueError, match="`p` must be ≥ 1"):
        optimizer.add_param_group({"params": [model[0].bias], "p": 0.5})


def test_a_gradient_in_one_pass_alone() -> None:
    """What has a gradient in the first pass is perturbed; what has one in the second is stepped."""
    model = Switching()
    optimizer = SharpnessAware(sgd(model, momentum=0.0), SAM(rho=0.5))
    before = snapshot(model)
    x, y = torch.randn(8, 4), torch.randint(3, (8,))
    optimizer.zero_grad()
    loss_of(model, (x, y)).backward()
    with optimizer.perturbed(model):
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert moved == {"body.weight", "body.bias", "heads.0.weight", "heads.0.bias"}
        loss_of(model, (x, y)).backward()
    assert model.heads[0].weight.grad is None
    optimizer.step()
    stepped = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert stepped == {"body.weight", "body.bias", "heads.1.weight", "heads.1.bias"}
    model.body.requires_grad_(False)  # and fewer weights from one step to the next
    explicit_step(model, optimizer, (x, y))


def test_cached_parametrizations_are_refused(model: nn.Sequential, batch: tuple) -> None:
    optimizer = SharpnessAware(sgd(model), SAM())
    before = snapshot(model)
    with torch.nn.utils.parametrize.cached(), pytest.raises(RuntimeError, match="parametrize.cached"):
        optimizer.step(closure_for(model, optimizer, batch))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    optimizer.step(closure_for(model, optimizer, batch))


def test_norms_that_are_not_finite_are_counted_and_the_next_step_climbs(model: nn.Sequential, batch: tuple) -> None:
    optimizer = SharpnessAware(sgd(model), SAMSON(rho=0.3), measure=True)
    assert optimizer.skipped_ascents is None
    seen = []
    for bad in (1.0, float("inf"), float("nan"), 1.0):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        model[4].weight.grad[0, 0] *= bad
        before = model[0].weight.detach().clone()
        with optimizer.perturbed(model):
            moved = not torch.equal(model[0].weight, before)
        seen.append((moved, int(optimizer.skipped_ascents), float(optimizer.last_ascent.epsilon_norm) > 0))
        assert moved or optimizer.last_ascent.epsilon_norm == 0
    assert seen == [(True, 0, True), (False, 1, False), (False, 2, False), (True, 2, True)]
    assert isinstance(optimizer.skipped_ascents, torch.Tensor)


@pytest.mark.parametrize("rule", [SAM(rho=0.3), ASAM(rho=0.5), SAMSON(rho=0.3)])
def test_the_last_ascent_is_measured(rule: object, batch: tuple) -> None:
    model = make_model()
    groups = param_groups(model, perturb=lambda module, name: "0." not in name)
    groups[0]["rho"] = 0.7
    optimizer = SharpnessAware(torch.optim.SGD(groups, lr=0.1), rule, measure=True)
    assert optimizer.last_ascent is None
    loss = loss_of(model, batch)
    loss.backward()
    before = {p: p.detach().clone() for p in groups[0]["params"]}
    with optimizer.perturbed(model):
        length = torch.sqrt(sum((p - b).square().sum() for p, b in before.items()))
    seen = optimizer.last_ascent
    assert seen.epsilon_norm.item() == pytest.approx(length.item(), rel=1e-9)
    if isinstance(rule, SAM):
        assert seen.epsilon_norm.item() == pytest.approx(0.7)
        assert seen.gradient_norm.item() == pytest.approx(
            float(torch.sqrt(sum(g.square().sum() for g in torch.autograd.grad(loss_of(model, batch), list(before)))))
        )
    assert (seen.clean_loss, seen.perturbed_loss) == (None, None)
    seen.clean_loss = loss.detach()  # the explicit form leaves them to the user
    losses: list[float] = []
    optimizer.step(closure_for(model, optimizer, batch, losses))
    assert [optimizer.last_ascent.clean_loss.item(), optimizer.last_ascent.perturbed_loss.item()] == losses
    unmeasured = SharpnessAware(sgd(model), rule)
    unmeasured.step(closure_for(model, unmeasured, batch))
    assert unmeasured.last_ascent.epsilon_norm is None
