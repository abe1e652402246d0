"""DistributedDataParallel: replicas stay equal to the last bit, whatever direction each process climbs along."""

import math
from collections.abc import Callable
from contextlib import contextmanager, nullcontext

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from samson import ASAM, SAM, SAMSON, NoiseInjection, SharpnessAware, param_groups
from samson.noise import Gaussian
from tests.conftest import Batch, loss_of, make_batch, make_model
from tests.distributed import harness, methods
from tests.distributed.checkpoints import resume
from tests.distributed.harness import Checks, bits, contents, distance, everywhere, same_everywhere
from tests.distributed.methods import ALL, MODES, PARTS_OF_OTHERS, make_attention, make_net, own_parts, train
from tests.distributed.methods import make_batch as make_net_batch
from tests.optim.reference import CASES, Loop, mixed

check = Checks()
RULE = SAMSON(rho=0.3)
FORMS = {
    "closure": (False, False),
    "explicit": (True, False),
    "own-closure": (False, True),
    "own-explicit": (True, True),
}
"""Each way of use: whether by `perturbed`, and whether each process climbs along its own gradient."""


def own_batch(step: int, dtype: torch.dtype = torch.float32) -> Batch:
    return make_batch(dtype, 2 * step + dist.get_rank())


def replicate(model: nn.Module, **settings: bool) -> DistributedDataParallel:
    return DistributedDataParallel(model, **settings)


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(param_groups(model), lr=0.05, momentum=0.9)


def wrap(model: nn.Module, rule: object = RULE, **modes: object) -> SharpnessAware:
    return SharpnessAware(sgd(model), rule, model=model, **modes)


class Form:
    """One way of use: makes optimizers and steps with them."""

    def __init__(self, name: str) -> None:
        self.explicit, self.own = FORMS[name]

    def wrap(self, ddp: nn.Module, rule: object = RULE) -> SharpnessAware:
        return wrap(ddp, rule, own_ascent=self.own and not self.explicit)

    def step(self, ddp: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(ddp, batch)
            loss.backward()
            return loss

        if self.explicit:
            with ddp.no_sync() if self.own else nullcontext():
                closure()
            with optimizer.perturbed(ddp):
                closure()
            optimizer.step()
        else:
            optimizer.step(closure)

    def train(self, rule: object, steps: int, **settings: bool) -> tuple[nn.Module, SharpnessAware]:
        ddp = replicate(make_model(torch.float32), **settings)
        optimizer = self.wrap(ddp, rule)
        for step in range(steps):
            self.step(ddp, optimizer, own_batch(step))
        return ddp, optimizer


@check.for_each(FORMS)
def replicas_are_bit_equal_after_twenty_steps(form: str) -> None:
    """Other rules after four."""
    others = (SAM(rho=0.1), ASAM(rho=0.5), SAMSON(rho=0.3, p=2)) if form.endswith("closure") else ()
    for rule in (RULE, *others):
        assert same_everywhere(*Form(form).train(rule, 20 if rule is RULE else 4)), rule


@check.add
def replicas_are_bit_equal_with_gradients_as_views_of_buckets() -> None:
    for form in ("closure", "own-closure"):
        ends = [Form(form).train(RULE, 8, gradient_as_bucket_view=views) for views in (True, False)]
        assert same_everywhere(*ends[0])
        assert bits(*ends[0]) == bits(*ends[1])


@check.for_each(["synchronised", "own"])
def both_ways_of_use_give_the_same_bits(ascent: str) -> None:
    forms = ("closure", "explicit") if ascent == "synchronised" else ("own-closure", "own-explicit")
    assert len({bits(*Form(form).train(RULE, 5)) for form in forms}) == 1


@check.add
def replicas_that_differ_would_be_noticed() -> None:
    ddp = replicate(make_model(torch.float32))
    with ddp.no_sync():
        optimizer = wrap(ddp)
        Form("closure").step(ddp, optimizer, own_batch(0))
    assert not same_everywhere(ddp, optimizer)


@contextmanager
def infinite_gradient(ddp: nn.Module, both_passes: bool):
    """In the second process, one entry of a gradient is infinite: in the first pass of a step, or in both."""
    passes = 0

    def spoil(gradient: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        if dist.get_rank() == 1 and (passes == 1 or both_passes):
            gradient = gradient.clone()
            gradient.view(-1)[0] = math.inf
        return gradient

    handle = next(ddp.parameters()).register_hook(spoil)
    yield
    handle.remove()
    assert passes == 2


@check.for_each(FORMS)
def replicas_are_bit_equal_also_after_an_infinite_gradient(form: str) -> None:
    for both_passes in (False, True):
        ddp = replicate(make_model(torch.float32))
        use = Form(form)
        optimizer = use.wrap(ddp)
        for step in range(4 if both_passes else 12):
            with infinite_gradient(ddp, both_passes) if step == 2 else nullcontext():
                use.step(ddp, optimizer, own_batch(step))
            if step == 2 and not both_passes:
                # A climb along one's own gradient goes on in the process whose gradient is finite.
                assert everywhere(int(optimizer.skipped_ascents)) == [0 if use.own else 1, 1]
        assert same_everywhere(ddp, optimizer)
        finite = all(p.isfinite().all() for p in ddp.parameters())
        assert finite != both_passes  # only the gradient that the base optimizer sees can spoil the weights


@check.for_each(FORMS)
def norms_are_of_all_gradients_or_of_own_ones(form: str) -> None:
    _, optimizer = Form(form).train(RULE, 3)
    norms = everywhere(float(optimizer.last_ascent.gradient_norm))
    assert (norms[0] != norms[1]) == Form(form).own


@check.for_each(FORMS)
def own_ascents_communicate_no_gradient_in_the_first_pass(form: str) -> None:
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    ddp = replicate(make_model(torch.float32))
    passes: list[int] = []
    ddp.register_forward_pre_hook(lambda *_: passes.append(0))

    def count(group: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        passes[-1] += 1
        return allreduce_hook(group, bucket)

    ddp.register_comm_hook(None, count)
    use = Form(form)
    optimizer = use.wrap(ddp)
    for step in range(3):
        use.step(ddp, optimizer, own_batch(step))
    first, second = passes[::2], passes[1::2]
    assert min(second) > 0
    assert first == ([0] * 3 if use.own else second)


@check.add
def own_ascents_refuse_a_static_graph() -> None:
    ddp = replicate(make_model(torch.float32), static_graph=True)
    with pytest.raises(ValueError, match="`own_ascent` must be False with DistributedDataParallel.static_graph=True"):
        Form("own-closure").wrap(ddp)
    optimizer = wrap(ddp)
    Form("closure").step(ddp, optimizer, own_batch(0))
    assert same_everywhere(ddp, optimizer)


def reference(own: bool, steps: int) -> dict[str, Tensor]:
    """SAMSON on two processes' batches in one process; without `own` both climb along the mean gradient."""
    loop = Loop(lr=0.05, decay=0.0)
    for step in range(steps):
        batches = [make_batch(torch.float64, 2 * step + rank) for rank in range(2)]
        clean = [loop.gradient(loop.w, batch) for batch in batches]
        along = clean if own else [mixed(0.5, *clean)] * 2
        points = [loop.climbed(CASES["samson"], g) for g in along]
        loop.descend(mixed(0.5, *(loop.gradient(w, batch) for w, batch in zip(points, batches, strict=True))))
    return dict(zip(loop.names, loop.w, strict=True))


@check.for_each(["synchronised", "own"])
def twenty_steps_equal_a_single_process_reference(ascent: str) -> None:
    ddp = replicate(make_model())
    use = Form("own-closure" if ascent == "own" else "closure")
    optimizer = use.wrap(ddp)
    for step in range(20):
        use.step(ddp, optimizer, own_batch(step, torch.float64))
    found = {name: p.detach() for name, p in ddp.module.named_parameters()}
    assert distance(found, reference(use.own, 20)) < 1e-10
    assert distance(found, reference(not use.own, 20)) > 1e-4


@check.for_each(FORMS)
def norm_statistics_are_those_of_plain_ddp(form: str) -> None:
    """DDP's own rule: the first process's buffers for all at each clean pass, then each its own batch."""

    def differences(freeze: bool) -> list[bool]:
        use = Form(form)
        ddp, plain = replicate(make_model(torch.float32)), replicate(make_model(torch.float32))
        optimizer = use.wrap(ddp)
        found = []
        optimizer.hold = "*" if freeze else ""
        for step in range(5):
            batch = own_batch(step)
            for ours, its in zip(ddp.parameters(), plain.parameters(), strict=True):
                its.data.copy_(ours.data)
            loss_of(plain, batch).backward()
            use.step(ddp, optimizer, batch)
            pairs = zip(ddp.buffers(), plain.buffers(), strict=True)
            found.append(any(not torch.equal(ours, its) for ours, its in pairs))
        counted = int(ddp.module[1].num_batches_tracked)
        assert counted == (5 if freeze else 10)
        return found

    assert not any(differences(freeze=True))
    assert all(differences(freeze=False))


def noisy_weights(model: nn.Module, seed: int) -> dict[str, Tensor]:
    with wrap(model, NoiseInjection(Gaussian(0.1), seed=seed)).perturbed(model):
        return {name.removeprefix("module."): p.detach().clone() for name, p in model.named_parameters()}


@check.add
def noise_is_the_same_in_every_process() -> None:
    alone = noisy_weights(make_model(torch.float32), seed=4)
    assert distance(noisy_weights(replicate(make_model(torch.float32)), seed=4), alone) == 0
    other = noisy_weights(replicate(make_model(torch.float32)), seed=4 + dist.get_rank())
    assert everywhere(distance(other, alone) > 0) == [False, True]  # another draw would be noticed


RANGES = {name: ALL[name] for name in ("rangesam-through", "clip-channel", "clip-learned", "clip-learned-channel")}
"""What looks at ranges."""

IN_REPLICAS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    name: ALL[name] for name in (*MODES, *RANGES) if name not in PARTS_OF_OTHERS
} | {"own-every": lambda ddp: wrap(ddp, own_ascent=True, every=3)}


@check.for_each(IN_REPLICAS)
def replicas_are_bit_equal_in_every_mode(mode: str) -> None:
    def end(synchronised: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
        ddp = replicate(make_model(torch.float32))
        optimizer = IN_REPLICAS[mode](ddp)
        with nullcontext() if synchronised else ddp.no_sync():
            for step in range(6 if synchronised else 2):
                Form("closure").step(ddp, optimizer, own_batch(step))
        return ddp, optimizer

    assert same_everywhere(*end(synchronised=True))
    assert not same_everywhere(*end(synchronised=False))


def require_a_single_process_with_both_batches(make: Callable[[], nn.Module], method: methods.Make) -> None:
    """Replicas end where one process does that sees all examples; plain SGD ends elsewhere."""
    batches = [make_net_batch(seed) for seed in range(5)]
    ends = []
    for prepare in (replicate, lambda model: model):
        model = prepare(make())
        optimizer = method(model)
        train(model, optimizer, own_parts(batches) if prepare is replicate else batches)
        ends.append({name.removeprefix("module."): value for name, value in contents(model, optimizer).items()})
    assert distance(*ends) < 1e-10
    plain = make()
    train(plain, methods.sgd(plain), batches)
    assert max(float((p.detach() - ends[0][name]).abs().max()) for name, p in plain.named_parameters()) > 1e-4


@check.for_each(["lookbehind", "lookbehind-adaptive", "reuse", "mix", "noise"])
def modes_equal_a_single_process_with_both_batches(mode: str) -> None:
    require_a_single_process_with_both_batches(make_net, ALL[mode])


@check.for_each(RANGES)
def packed_attention_equals_a_single_process_with_both_batches(method: str) -> None:
    require_a_single_process_with_both_batches(make_attention, RANGES[method])


@check.for_each(["reuse", "clip-learned-channel"])
def resuming_through_a_distributed_checkpoint_is_bit_exact(method: str) -> None:
    batches = own_parts([make_net_batch(seed) for seed in range(6)])
    resume(ALL[method], batches, harness.folder / f"replicas-{method}", replicate)
