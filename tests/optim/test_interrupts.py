"""Ctrl-C in a training step: the weights are those from before it or after it, and training may go on."""

import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samson import SAM, SAMSON, Lookbehind, NoiseInjection, SharpnessAware, param_groups
from tests.conftest import equal, interrupted, snapshot

Make = Callable[[torch.optim.Optimizer], SharpnessAware | Lookbehind]
STEPS: dict[str, Make] = {
    "sharp": lambda base: SharpnessAware(base, SAMSON(rho=0.5)),
    "mixed": lambda base: SharpnessAware(base, SAM(rho=0.5), mix=0.5),
    "noise": lambda base: SharpnessAware(base, NoiseInjection(lambda w, generator: w + 1.0)),
    "lookbehind": lambda base: Lookbehind(base, SAMSON(rho=0.5), k=2),
}


def training(make: Make) -> tuple[nn.Module, SharpnessAware | Lookbehind, Callable[[], Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    x = torch.randn(6, 3)
    optimizer = make(torch.optim.SGD(param_groups(model), lr=0.1))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        return loss

    return model, optimizer, closure


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", STEPS)
def test_ctrl_c_anywhere_leaves_the_weights_from_before_the_step_or_after_it(name: str) -> None:
    model, optimizer, closure = training(STEPS[name])
    optimizer.step(closure)
    before, handler = snapshot(model), signal.getsignal(signal.SIGINT)
    _, events = interrupted(lambda: optimizer.step(closure), 0, lines=False)
    after = snapshot(model)
    weights = [key for key, _ in model.named_parameters()]
    found, kept = set(), []
    for number in range(events, 0, -1 if name == "noise" else -5):  # of noise there are few
        model.load_state_dict(before)
        optimizer.zero_grad()
        error, _ = interrupted(lambda: optimizer.step(closure), number, lines=False)
        kept.append(error)  # as a notebook does: what it holds is not collected
        now = snapshot(model)
        found.add(tuple(all(torch.equal(now[key], end[key]) for key in weights) for end in (before, after)))
        assert all(torch.equal(now[key], before[key]) or torch.equal(now[key], after[key]) for key in now)
        assert signal.getsignal(signal.SIGINT) is handler
    assert found == {(True, False), (False, True)}
    assert kept.count(None) < 0.2 * len(kept)  # Python drops what is raised while a generator is thrown away
    model.load_state_dict(before)
    optimizer.zero_grad()
    optimizer.step(closure)
    assert equal(snapshot(model), after)


class Long(SAM):
    """A climb in which Ctrl-C arrives, and which goes on if nothing is raised."""

    went_on = False

    def scales_tensor(self, name: str, tensor: Tensor) -> bool:
        return True

    def scale(self, weights: Any, norms: Any) -> list[Tensor]:
        signal.raise_signal(signal.SIGINT)
        type(self).went_on = True
        return [torch.ones_like(w) for w in weights]


def test_ctrl_c_ends_a_long_climb_and_a_long_pass_at_once() -> None:
    model, optimizer, closure = training(lambda base: SharpnessAware(base, Long(rho=0.5)))
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert not Long.went_on
    assert all(map(torch.equal, model.parameters(), before))
    model, optimizer, closure = training(STEPS["sharp"])
    moved = []

    def long_pass() -> None:
        moved.append(not all(map(torch.equal, model.parameters(), before)))
        signal.raise_signal(signal.SIGINT)
        moved.append("it went on")

    closure()
    with pytest.raises(KeyboardInterrupt), optimizer.perturbed():
        long_pass()
    assert moved == [True]
    assert all(map(torch.equal, model.parameters(), before))
