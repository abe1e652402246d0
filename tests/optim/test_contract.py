"""The contract of rules can be kept by a rule of one's own, and says which promise is broken."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from samson import ASAM
from samson.optim import FastScale, Norms, ScalingRule, check_rule
from tests.distributed.methods import RMSSAM
from tests.optim.reference import CASES, by_name


def own(t: Callable[[Tensor, Norms], Tensor], form: FastScale | None = None) -> ScalingRule:
    """A rule of one's own."""

    @dataclass(frozen=True)
    class Own(ScalingRule):
        def scale(self, weights, norms):
            return [t(w, norms) for w in weights]

        def fast(self):
            return form

    return Own(rho=0.5)


def shifted(w: np.ndarray) -> np.ndarray:
    return np.abs(w) + 0.01


def over_rms(w: np.ndarray) -> np.ndarray:
    return (np.abs(w) + 0.01) / np.sqrt((np.abs(w) ** 2).mean())


def over_largest(w: np.ndarray) -> np.ndarray:
    return (np.abs(w) + 0.01) / np.abs(w).max()


def refuses_complex(w: Tensor, norms: Norms) -> Tensor:
    return w.clamp(min=0) + (-w).clamp(min=0) + 0.01


def with_questions_in_turn(w: Tensor, norms: Norms) -> Tensor:
    """The largest of |w| / ‖w‖₂, which is max|w| / ‖w‖₂."""
    [length] = norms([w], 2)
    [share] = norms([w / torch.where(length > 0, length, 1)], math.inf)
    return (w.abs() + 0.01) * torch.where(share > 0, 1 / (share * length), 0)


@pytest.mark.parametrize(
    ("rule", "formula"),
    [
        (RMSSAM(rho=0.5), over_rms),
        (own(refuses_complex), shifted),
        (own(with_questions_in_turn), over_largest),
        (own(lambda w, norms: 1 / (w.abs() + 0.01)), lambda w: 1 / (np.abs(w) + 0.01)),
    ],
    ids=["a count from norms", "no complex weights", "a norm after a norm", "wide at zero"],
)
def test_a_rule_of_ones_own_may_keep_it(rule: ScalingRule, formula: Callable) -> None:
    check_rule(rule, by_name(formula))


def changes_weights(w: Tensor, norms: Norms) -> Tensor:
    t = w.abs() + 0.01
    w.mul_(1 + 1e-12)
    return t


def draws(w: Tensor, norms: Norms) -> Tensor:
    return (w.abs() + 0.01) * (1 + 1e-12 * torch.rand(()))


def seeds(w: Tensor, norms: Norms) -> Tensor:
    torch.default_generator.manual_seed(0)
    return w.abs() + 0.01


def by_own_count(w: Tensor, norms: Norms) -> Tensor:
    [size] = norms([w], 2)
    return (w.abs() + 0.01) * torch.where(size > 0, w.numel() ** 0.5 / size, 0)


def by_own_largest(w: Tensor, norms: Norms) -> Tensor:
    return (w.abs() + 0.01) / torch.where(w.any(), w.abs().max(), 1)


def asks_for_full_parts(w: Tensor, norms: Norms) -> Tensor:
    return RMSSAM().scale([w], norms)[0] if w.numel() else w.abs()


BROKEN: dict[str, tuple[ScalingRule, Callable[[np.ndarray], np.ndarray], str]] = {
    "another formula": (own(lambda w, norms: w.abs()), shifted, "T must be as written in numpy, got up to 0.01 beside"),
    "flat": (own(lambda w, norms: w.abs().flatten() + 0.01), shifted, "T must have the weight's shape, got (72,)"),
    "negative": (own(lambda w, norms: 0.01 - w.abs()), shifted, "T must be finite and ≥ 0, got -"),
    "complex": (own(lambda w, norms: (w * w).sqrt() + 0.01), shifted, "T must be real, got torch.complex128"),
    "changes weights": (own(changes_weights), shifted, "`scale` must leave the weights as they are"),
    "draws": (own(draws), shifted, "`scale` must not draw from torch's global random state"),
    "seeds": (own(seeds), shifted, "`scale` must not draw from torch's global random state"),
    "count of a part": (
        own(by_own_count),
        over_rms,
        "did not for `norm.weight`: take numbers about the whole from `norms`",
    ),
    "largest of a part": (own(by_own_largest), over_largest, "`scale` must take parts of sharded weights, also empty"),
    "fewer norms": (own(asks_for_full_parts), over_rms, "`scale` must call `norms` as often for every part"),
    "infinite at zeros": (
        own(lambda w, norms: (w.abs() + 0.01) / norms([w], math.inf)[0]),
        over_largest,
        "T must be finite for a tensor of zeros",
    ),
    "all at zeros": (
        own(lambda w, norms: (w.abs() + 0.01) / (norms([w], math.inf)[0] + 1e-12)),
        over_largest,
        "T must be no larger for a tensor of zeros than for others, or nearly all of ε is there, got 1e+10 beside 1.0",
    ),
    "overflows": (own(lambda w, norms: (w * 1e5).abs() / 1e5 + 0.01), shifted, "finite for weights of torch.float16"),
    "waits": (own(lambda w, norms: w.abs() + 0.01 + 0 * w.abs().sum().item()), shifted, "a rule must read no value"),
    "fast form elsewhere": (
        own(lambda w, norms: w.abs() + 0.01, FastScale(torch.add, 0.01)),
        shifted,
        "the numerator of `fast()` must change |w| in place and return it",
    ),
    "fast form without a count": (
        own(lambda w, norms: RMSSAM().scale([w], norms)[0], FastScale(Tensor.add_, 0.01, 2, torch.reciprocal)),
        over_rms,
        "`fast()` must give the same T as `scale`, did not for `norm.weight`: its factor is a function of the tensor's",
    ),
}


@pytest.mark.parametrize(("rule", "formula", "words"), BROKEN.values(), ids=BROKEN)
def test_a_rule_that_breaks_the_contract_is_told(rule: ScalingRule, formula: Callable, words: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(words)):
        check_rule(rule, by_name(formula))


class Stubborn(ASAM):
    def radius(self, group):
        return 0.5


def test_a_climb_that_breaks_the_contract_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["asam"]
    with pytest.raises(AssertionError, match="with rho=0 a step must be the base optimizer's, bitwise"):
        check_rule(Stubborn(), case.scale)
    with pytest.raises(AssertionError, match="ε must be ρ·T²∘g .* is not for `norm.weight`"):
        check_rule(replace(case.rule, policy="matrices"), case.scale)
    with monkeypatch.context() as patch:
        patch.setattr("samson.optim._memory.Workspace.restore", lambda *_: None)
        with pytest.raises(AssertionError, match="weights must come back bitwise"):
            check_rule(case.rule, case.scale)
    monkeypatch.setattr("samson.optim._ascent._fusable", lambda *_: False)
    monkeypatch.setattr("samson.optim._ascent._zero_unless", lambda *_: None)
    with pytest.raises(AssertionError, match="float32 must not move where .* inf"):
        check_rule(case.rule, case.scale)
