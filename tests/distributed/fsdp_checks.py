"""FSDP2 (`fully_shard`): every method trains as it does in a single process."""

import copy
import math
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from samson import SAM, SAMSON, LearnedRange, NoiseInjection, RangeSAM, SharpnessAware, WeightClipping
from samson.noise import Gaussian
from samson.optim import local, process_groups, reshard
from tests.distributed import harness
from tests.distributed.checkpoints import load, resume, save
from tests.distributed.harness import Checks, bits, contents, distance, everywhere, whole
from tests.distributed.methods import (
    ALL,
    CLIPPED,
    MODES,
    PARTS_OF_OTHERS,
    RULES,
    Make,
    clipped,
    loss_of,
    make_attention,
    make_batch,
    make_net,
    own_parts,
    part_of,
    sgd,
    train,
)

check = Checks()
BATCHES = [make_batch(seed) for seed in range(8)]


def shard(model: nn.Module, whole_at_once: bool = False) -> nn.Module:
    """Some layers by themselves and then the rest, as one does with blocks; or all as one."""
    from torch.distributed.fsdp import fully_shard

    layers = [layer for layer in model.children() if isinstance(layer, nn.Linear)]
    for layer in [] if whole_at_once else layers[:2]:
        fully_shard(layer)
    return fully_shard(model)


@cache
def single(make: Make, steps: int, net: Callable[[], nn.Module] = make_net) -> dict[str, Tensor]:
    model = net()
    optimizer = make(model)
    train(model, optimizer, BATCHES[:steps])
    return contents(model, optimizer)


def sharded(make: Make, steps: int, net: Callable[[], nn.Module] = make_net) -> dict[str, Tensor]:
    model = shard(net())
    optimizer = make(model)
    train(model, optimizer, own_parts(BATCHES[:steps]))
    return contents(model, optimizer)


def weights(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in found.items() if " " not in name}


@check.for_each([name for name in RULES | MODES if name not in (*PARTS_OF_OTHERS, "rangesam")])
def four_steps_equal_a_single_process(method: str) -> None:
    expected = single(ALL[method], 4)
    assert distance(sharded(ALL[method], 4), expected) < 1e-10
    assert distance(weights(single(sgd, 4)), weights(expected)) > 1e-4  # plain SGD would be noticed


@check.for_each(["sam", "samson", "rangesam-channel"])
def norms_of_own_parts_alone_would_be_noticed(rule: str) -> None:
    with patch("torch.distributed.all_reduce", lambda *_: None):
        assert distance(sharded(RULES[rule], 4), single(RULES[rule], 4)) > 1e-6


@check.for_each(CLIPPED)
def clipping_equals_a_single_process(method: str) -> None:
    expected = single(CLIPPED[method], 4)
    model = shard(make_net())
    optimizer = CLIPPED[method](model)
    train(model, optimizer, own_parts(BATCHES[:4]))
    assert distance(contents(model, optimizer), expected) < 1e-10
    assert distance(weights(single(sgd, 4)), weights(expected)) > 1e-4
    assert any(name.endswith("ranges") for name in expected) == ("learned" in method)
    assert len(set(everywhere(bits(model, optimizer)))) == 1  # ranges are not sharded, and yet the same everywhere


OF_ATTENTION: dict[str, Make] = {
    f"{name}-{per}": make
    for per in ("layer", "channel")
    for name, make in {
        "through": lambda model, per=per: SharpnessAware(sgd(model), RangeSAM(rho=0.5, per=per, through_range=True)),
        "clip": clipped(lambda per=per: WeightClipping(alpha=1.2, per=per)),
    }.items()
} | {"clip-learned-channel": CLIPPED["clip-learned-channel"]}


@check.for_each(OF_ATTENTION)
def packed_attention_equals_a_single_process(method: str) -> None:
    """A part of a packed weight lies in one process, in the other, or in both."""
    expected = single(OF_ATTENTION[method], 4, make_attention)
    assert distance(sharded(OF_ATTENTION[method], 4, make_attention), expected) < 1e-10
    assert distance(weights(single(sgd, 4, make_attention)), weights(expected)) > 1e-4
    other = method.replace("layer", "channel") if "layer" in method else method.replace("-channel", "-layer", 1)
    if other in OF_ATTENTION and other != method:
        assert distance(single(OF_ATTENTION[other], 4, make_attention), expected) > 1e-4


@check.for_each(["through-layer", "through-channel"])
def norms_of_own_parts_of_packed_attention_would_be_noticed(method: str) -> None:
    with patch("torch.distributed.all_reduce", lambda *_: None):
        found = sharded(OF_ATTENTION[method], 5, make_attention)
    assert distance(found, single(OF_ATTENTION[method], 5, make_attention)) > 1e-6


LEARNED = "clip-learned-channel"
GATHERED = {
    "through-channel": OF_ATTENTION["through-channel"],
    "clip-learned": clipped(lambda: LearnedRange(start=1.2, penalty=0.5), RULES["sam"]),
}


@check.for_each(GATHERED)
def packed_attention_that_stays_gathered_is_dealt_with(method: str) -> None:
    """The layers then hold gathered weights after backward, and the optimizer sharded ones: both are the same."""
    model = shard(make_attention())
    model.set_reshard_after_backward(False)
    optimizer = GATHERED[method](model)
    train(model, optimizer, own_parts(BATCHES[:4]))
    reshard(model)
    assert distance(contents(model, optimizer), single(GATHERED[method], 4, make_attention)) < 1e-10


@check.add
def shards_without_whole_channels_are_refused_by_channel() -> None:
    """Outputs of a transposed convolution lie along its second axis, and only its first is split."""
    for make, message in (
        (lambda: nn.ConvTranspose1d(4, 6, 2, groups=2), "must be split along its first axis alone, with outputs along"),
        (lambda: nn.Linear(4, 6), ""),
    ):
        for per in ("layer", "channel"):
            model = shard(nn.Sequential(make()).double())
            optimizer = SharpnessAware(sgd(model), RangeSAM(rho=0.5, per=per))
            for p in model.parameters():
                p.grad = torch.ones_like(p)
            before = contents(model, optimizer)
            refused = bool(message) and per == "channel"
            with pytest.raises(ValueError, match=message) if refused else nullcontext(), optimizer.perturbed(model):
                assert distance(contents(model, optimizer), before) > 1e-3
            assert distance(contents(model, optimizer), before) == 0


@check.add
def each_way_of_splitting_a_tensor_counts() -> None:
    """FSDP2 over tensor-parallel weights makes strided shards, which torch does not call shards."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
    from torch.distributed.tensor.placement_types import _StridedShard

    mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("data", "tensor"))
    data, tensor = mesh.get_group("data"), mesh.get_group("tensor")
    for placements, groups in (
        ((Shard(0), Shard(0)), (data, tensor)),
        ((_StridedShard(0, split_factor=1), Shard(0)), (data, tensor)),
        ((Shard(0), Replicate()), (data,)),
        ((Replicate(), Shard(0)), (tensor,)),
        ((Partial(), Replicate()), ()),
    ):
        assert process_groups(DTensor.from_local(torch.ones(2), mesh, placements, run_check=False)) == groups


@check.add
def shards_are_even_uneven_and_empty() -> None:
    sizes = everywhere([local(p).shape[0] for p in shard(make_net()).parameters()])
    assert [tuple(rows) for rows in zip(*sizes, strict=True)][::2] == [(3, 3), (3, 2), (3, 2), (2, 1), (1, 0)]


@check.for_each(["asam", "samson-p2", "samson", "lookbehind-adaptive"])
def a_process_may_have_nothing_at_all(method: str) -> None:
    ends = []
    for alone in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 1)).double()
        model = model if alone else shard(model)
        optimizer = ALL[method](model)
        train(model, optimizer, BATCHES[:5] if alone else own_parts(BATCHES[:5]))
        ends.append(contents(model, optimizer))
    assert distance(*ends) < 1e-10


@check.for_each(["samson", "previous"])
def both_ways_of_use_give_the_same_bits(method: str) -> None:
    model = shard(make_net())
    optimizer = ALL[method](model)
    for batch in own_parts(BATCHES[:5]):
        optimizer.zero_grad()
        if optimizer.needs_first_pass:
            loss_of(model, batch).backward()
        with optimizer.perturbed(model):
            loss_of(model, batch).backward()
        optimizer.step()
    assert distance(contents(model, optimizer), sharded(ALL[method], 5)) == 0


@check.for_each(["samson", "every"])
def parameters_may_be_exchanged_for_sharded_ones(method: str) -> None:
    """As Accelerate does: the optimizer is made first, then each group gets a list of sharded parameters."""
    model = make_net()
    optimizer = ALL[method](model)
    shard(model).set_reshard_after_backward(False)
    sharded_ones = list(model.parameters())
    [group] = optimizer.param_groups
    group["params"] = sharded_ones
    train(model, optimizer, own_parts(BATCHES[:5]))
    reshard(model)
    assert distance(contents(model, optimizer), single(ALL[method], 5)) < 1e-10


@check.for_each(["samson", "noise", "lookbehind"])
def weights_come_back_bitwise_after_an_error(method: str) -> None:
    model = shard(make_net())
    optimizer = ALL[method](model)
    train(model, optimizer, own_parts(BATCHES[:2]))
    before, fingerprint = weights(contents(model, optimizer)), bits(model, optimizer)
    moved = 0.0

    def closure() -> Tensor:
        nonlocal moved
        optimizer.zero_grad()
        loss = loss_of(model, part_of(BATCHES[2], dist.get_rank()))
        loss.backward()
        moved = distance(weights(contents(model, optimizer)), before)
        if moved:
            raise ZeroDivisionError
        return loss

    with pytest.raises(ZeroDivisionError):
        optimizer.step(closure)
    assert moved > 1e-3
    assert bits(model, optimizer) == fingerprint


class Collectives(TorchDispatchMode):
    """Notes each collective that is issued."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        from torch.distributed.tensor import DTensor

        if DTensor in types:
            return NotImplemented  # comes again as what it does
        if func.namespace in ("c10d", "_c10d_functional") and "wait_tensor" not in str(func):
            self.seen.append(str(func))
        return func(*args, **kwargs or {})


def collectives(model: nn.Module, optimizer: SharpnessAware) -> tuple[int, int]:
    """How many are issued on entering `perturbed`, and in a whole step beyond those of two passes."""
    batch = make_batch(0)
    loss_of(model, batch)  # FSDP's own preparations

    def passes(times: int) -> None:
        for _ in range(times):
            loss_of(model, batch).backward()

    passes(1)
    with Collectives() as climb:
        block = optimizer.perturbed(model)
        block.__enter__()
    passes(1)
    with Collectives() as rest:
        block.__exit__(None, None, None)
        optimizer.step()
    with Collectives() as plain:
        passes(2)
    with Collectives() as step:
        train(model, optimizer, [batch])
    assert not rest.seen, rest.seen
    assert plain.seen
    return len(climb.seen), len(step.seen) - len(plain.seen)


def stack_of(layers: int, last_bias: bool) -> nn.Module:
    """Of two tensors a layer, and a last layer with or without bias."""
    torch.manual_seed(0)
    below = [nn.Linear(4, 4) for _ in range(layers)]
    return shard(nn.Sequential(*below, nn.Linear(4, 1, bias=last_bias)).double(), whole_at_once=True)


@check.for_each(["sam", "samson-p2", "samson", "rangesam-channel"])
def a_climb_takes_at_most_two_collectives(rule: str) -> None:
    few, many = stack_of(2, last_bias=False), stack_of(8, last_bias=True)
    assert [len(list(model.parameters())) for model in (few, many)] == [5, 18]
    expected = 2 if rule in ("samson-p2", "samson") else 1  # a channel is whole in its process
    for model in (few, many):
        assert collectives(model, RULES[rule](model)) == (expected, expected)


@check.add
def the_part_through_the_range_takes_as_many_collectives_for_many_layers() -> None:
    found = []
    for model in (stack_of(2, last_bias=False), stack_of(8, last_bias=True)):
        optimizer = RULES["rangesam-through"](model)
        loss_of(model, make_batch(0)).backward()
        block = optimizer.perturbed(model)
        block.__enter__()
        loss_of(model, make_batch(0)).backward()
        with Collectives() as seen:
            block.__exit__(None, None, None)
        found.append(len(seen.seen))
    assert found[1] == found[0] > 0, found


@check.add
def many_collectives_would_be_counted() -> None:
    found = []
    for model in (stack_of(2, last_bias=False), stack_of(8, last_bias=True)):
        noise = SharpnessAware(sgd(model), NoiseInjection(Gaussian(0.1)))
        with Collectives() as seen, noise.perturbed(model):
            pass
        found.append(len(seen.seen))
    assert found[1] == 3 * found[0] >= 9, found  # a gathering for each of 3 and of 9 matrices


@check.add
def no_gradient_at_all_is_an_error() -> None:
    model = shard(make_net())
    optimizer = RULES["samson"](model)
    batch = part_of(BATCHES[0], dist.get_rank())
    for synchronised in (False, True):
        model.set_requires_gradient_sync(synchronised)
        loss_of(model, batch).backward()
        if synchronised:
            with optimizer.perturbed(model):
                pass
        else:
            with pytest.raises(RuntimeError, match="No perturbed parameter has a gradient"), optimizer.perturbed(model):
                raise AssertionError("the block was entered")


@check.add
def an_optimizer_that_was_made_before_sharding_is_an_error() -> None:
    model = make_net()
    base, early = sgd(model), SharpnessAware(sgd(model), SAM(rho=0.1))
    shard(model)
    with pytest.raises(ValueError, match="made before `fully_shard`"):
        SharpnessAware(base, SAMSON(rho=0.5), model=model)
    loss_of(model, part_of(BATCHES[0], dist.get_rank())).backward()
    with pytest.raises(ValueError, match="made before `fully_shard`"), early.perturbed(model):
        raise AssertionError("the block was entered")


@check.add
def an_optimizer_made_while_weights_are_gathered_is_not_refused() -> None:
    model = shard(make_net(), whole_at_once=True)
    base, part = sgd(model), part_of(BATCHES[0], dist.get_rank())
    with torch.no_grad():
        loss_of(model, part)
    assert {p for group in base.param_groups for p in group["params"]}.isdisjoint(model.parameters())  # gathered
    optimizer = SharpnessAware(base, SAMSON(rho=0.5), model=model)
    optimizer.zero_grad()
    train(model, optimizer, [part])


@check.add
def without_a_model_it_is_an_error_and_the_weights_are_kept() -> None:
    model = shard(make_net())
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM(rho=0.1))
    before = contents(model, optimizer)
    loss_of(model, part_of(BATCHES[0], dist.get_rank())).backward()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no model is known
        with pytest.raises(ValueError, match="pass `model=`"), optimizer.perturbed():
            raise AssertionError("the block was entered")
    assert distance(before, contents(model, optimizer)) == 0


@check.for_each(["samson", "every", "noise", "lookbehind"])
def weights_that_stay_gathered_after_backward_are_dealt_with(method: str) -> None:
    """`reshard_after_backward(False)`: the next pass must not run with weights gathered before they moved."""

    def end(dealt_with: bool) -> dict[str, Tensor]:
        from torch.distributed.fsdp import FSDPModule

        model = shard(make_net())
        model.set_reshard_after_backward(False)
        optimizer = ALL[method](model)
        with nullcontext() if dealt_with else patch.object(FSDPModule, "reshard", lambda self: None):
            train(model, optimizer, own_parts(BATCHES[:4]))
        reshard(model)  # what is gathered at the end
        return contents(model, optimizer)

    expected = single(ALL[method], 4)
    assert distance(end(dealt_with=True), expected) < 1e-10
    assert distance(end(dealt_with=False), expected) > 1e-6


@check.for_each(["sam", "samson"])
def an_infinite_gradient_in_one_process_gives_no_perturbation_in_any(rule: str) -> None:
    model = shard(make_net())
    optimizer = RULES[rule](model)
    batch = part_of(BATCHES[0], dist.get_rank())
    for bad in (False, True, False):
        before = {n: local(p).clone() for n, p in model.named_parameters()}
        loss_of(model, batch).backward()
        if bad and dist.get_rank() == 1:
            local(model[0].weight.grad)[0, 0] = math.inf
        with optimizer.perturbed(model):
            moved = any(not torch.equal(local(p), before[n]) for n, p in model.named_parameters())
            assert everywhere(moved) == [not bad] * 2
        optimizer.zero_grad()
    assert everywhere(int(optimizer.skipped_ascents)) == [1, 1]


@check.add
def measured_norms_are_those_of_a_single_process() -> None:
    found = []
    for model, batch in ((make_net(), BATCHES[0]), (shard(make_net()), part_of(BATCHES[0], dist.get_rank()))):
        optimizer = SharpnessAware(sgd(model), SAMSON(rho=0.5), measure=True)
        train(model, optimizer, [batch])
        ascent = optimizer.last_ascent
        found.append((float(ascent.gradient_norm), float(ascent.epsilon_norm)))
    assert max(abs(a - b) for a, b in zip(*found, strict=True)) < 1e-12
    assert len(set(everywhere(found[1]))) == 1


def drawn(model: nn.Module, noise: NoiseInjection) -> dict[str, Tensor]:
    optimizer = SharpnessAware(sgd(model), noise)
    with optimizer.perturbed(model):
        return {name: whole(p) for name, p in model.named_parameters()}


@check.add
def noise_is_drawn_as_in_a_single_process() -> None:
    noise = NoiseInjection(Gaussian(0.1), seed=5)
    expected = drawn(make_net(), noise)
    assert distance(drawn(shard(make_net()), noise), expected) == 0
    assert distance(dict(make_net().named_parameters()), expected) > 0.01
    with (
        patch("samson.optim._matrices.whole", local),
        patch("samson.optim._matrices.from_whole", lambda part, like: part),
    ):
        assert distance(drawn(shard(make_net()), noise), expected) > 0.01  # each part by itself would be noticed


@check.for_each(["samson-groups", "reuse", LEARNED])
def resuming_through_a_distributed_checkpoint_is_bit_exact(method: str) -> None:
    resume(ALL[method], own_parts(BATCHES[:6]), harness.folder / f"sharded-{method}", shard)


@check.for_each(["reuse", "clip-learned"])
def resuming_from_a_state_dict_is_bit_exact(method: str) -> None:
    straight, resumed = shard(make_net()), shard(make_net(seed=9))
    optimizer, again = ALL[method](straight), ALL[method](resumed)
    train(straight, optimizer, own_parts(BATCHES[:4]))
    resumed.load_state_dict(straight.state_dict())
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, of_model in ((straight, optimizer), (resumed, again)):
        train(model, of_model, own_parts(BATCHES[4:6]))
    assert distance(contents(resumed, again), contents(straight, optimizer)) == 0


@check.for_each(["samson-groups", "reuse"])
def a_checkpoint_of_shards_resumes_a_single_process(method: str) -> None:
    model = shard(make_net())
    optimizer = ALL[method](model)
    train(model, optimizer, own_parts(BATCHES[:4]))
    save(model, optimizer, harness.folder / f"shards-{method}")
    alone = make_net(seed=9)
    again = ALL[method](alone)
    load(alone, again, harness.folder / f"shards-{method}")
    assert distance(contents(alone, again), contents(model, optimizer)) == 0
    train(alone, again, BATCHES[4:6])
    assert distance(contents(alone, again), single(ALL[method], 6)) < 1e-10
