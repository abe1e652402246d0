"""Training through a chip in replicas: input ranges stay equal, and are those of a single process with both batches."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from samson import SAMSON, NoiseInjection, RangeSAM, SharpnessAware
from samson.noise import STANDARD_HWA, Gaussian, Periphery, ThroughChip
from tests.distributed.harness import Checks, contents, distance, everywhere, same_everywhere
from tests.distributed.methods import Batch, Make, make_batch, make_net, own_parts, sgd, train

check = Checks()
BATCHES = [make_batch(seed) for seed in range(8)]
RANGES = {"0": 1.2, "2": 0.6, "4": 0.9, "6": 0.5}
CHIP = Periphery(dac_steps=30, adc_steps=60, adc_bound=1.5, tile_inputs=4)
CHIPS = {
    "one tile": replace(CHIP, tile_inputs=None),
    "tiles": CHIP,
    "inside": replace(CHIP, ir_drop=1.0, wire_ratio=20.0),
}
METHODS: dict[str, Make] = {
    "sgd": sgd,
    "samson": lambda model: SharpnessAware(sgd(model), SAMSON(rho=0.3)),
    "rangesam": lambda model: SharpnessAware(sgd(model), RangeSAM(rho=0.3)),
    "noise": lambda model: SharpnessAware(sgd(model), NoiseInjection(Gaussian(0.1), seed=3)),
}


def on_chip(chip: Periphery = CHIP, decay: float = 0.0) -> nn.Module:
    net = make_net()
    ThroughChip(net, replace(chip, input_ranges=RANGES), decay=decay)
    return net


def ends(model: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("module."): p.detach().clone() for name, p in model.named_parameters()}


def learned(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in ends(model).items() if name.endswith("input_range")}


def trained(make: Make, model: nn.Module, batches: list[Batch]) -> tuple[nn.Module, torch.optim.Optimizer]:
    optimizer = make(model)
    train(model, optimizer, batches)
    return model, optimizer


@check.for_each([f"{method}, {chip}" for method in METHODS for chip in CHIPS])
def ranges_equal_a_single_process_with_both_batches(case: str) -> None:
    method, chip = case.split(", ")
    make = METHODS[method]
    model, optimizer = trained(make, DistributedDataParallel(on_chip(CHIPS[chip])), own_parts(BATCHES))
    alone, its = trained(make, on_chip(CHIPS[chip]), BATCHES)
    found = {name.removeprefix("module."): value for name, value in contents(model, optimizer).items()}
    assert distance(found, contents(alone, its)) < 1e-10
    assert same_everywhere(model, optimizer)
    assert all(abs(float(r) - RANGES[name[0]]) > 1e-4 for name, r in learned(model).items())  # they did learn


@check.for_each(["samson", "own"])
def replicas_stay_equal_with_noise_of_their_own(ascent: str) -> None:
    """Each process draws other noise; what it learns from is averaged."""

    def run(synchronised: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(dist.get_rank())
        model = DistributedDataParallel(on_chip(replace(STANDARD_HWA, input_noise=0.1), decay=0.05))
        torch.manual_seed(dist.get_rank())
        optimizer = SharpnessAware(sgd(model), SAMSON(rho=0.3), model=model, own_ascent=ascent == "own")
        if synchronised:
            train(model, optimizer, own_parts(BATCHES))
        else:
            with model.no_sync():
                train(model, optimizer, own_parts(BATCHES[:2]))
        assert len(set(everywhere(float(torch.rand(()))))) == 2
        return model, optimizer

    model, optimizer = run(synchronised=True)
    assert same_everywhere(model, optimizer)
    assert distance(learned(model), learned(on_chip())) > 1e-3
    assert not same_everywhere(*run(synchronised=False))


@check.for_each(["inside", "beyond"])
def ranges_decay_by_what_each_process_sees(where: str) -> None:
    """Where all agree on whether they decay, that equals a single process."""
    share = 0.01 if where == "inside" else 30.0
    batches = [(share * x, y) for x, y in BATCHES[:4]]
    found, expected, without = (
        learned(trained(METHODS["samson"], model, some)[0])["0.input_range"]
        for model, some in (
            (DistributedDataParallel(on_chip(decay=0.5)), own_parts(batches)),
            (on_chip(decay=0.5), batches),
            (on_chip(decay=0.0), batches),
        )
    )
    assert float((found - expected).abs().max()) < 1e-10
    assert (float((without - expected).abs().max()) > 1e-3) == (where == "inside")


@check.add
def own_batches_alone_would_be_noticed() -> None:
    alone = trained(METHODS["samson"], on_chip(), BATCHES)[0]
    half = trained(METHODS["samson"], on_chip(), own_parts(BATCHES))[0]
    assert distance(learned(half), learned(alone)) > 1e-5
    assert len(set(everywhere(tuple(map(float, learned(half).values()))))) == 2


@check.add
def a_wrapped_model_is_refused_and_one_put_on_before_computes_plainly_in_evaluation_mode() -> None:
    net = make_net()
    wrapped = DistributedDataParallel(net)
    with pytest.raises(ValueError, match="must not be wrapped in DistributedDataParallel yet"):
        ThroughChip(wrapped, replace(CHIP, input_ranges=RANGES))
    assert not learned(net)
    plain, model = copy.deepcopy(net).eval(), DistributedDataParallel(on_chip())
    x = BATCHES[0][0]
    assert not torch.allclose(model(x), plain(x))
    assert torch.equal(model.eval()(x), plain(x))
