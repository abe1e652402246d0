"""The contract of rules: what each one promises, checked for the library's own and for anyone's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from samson._checks import promise
from samson.optim._ascent import norms
from samson.optim._chip import chip_weights
from samson.optim._contract_climb import (
    Formula,
    check_ascent,
    check_it_never_waits,
    check_norms_that_are_not_finite,
    check_radius_zero,
    network,
)
from samson.optim.rules import AscentRule, fast_scale, require_ascent

Weights = Mapping[str, Tensor]


def check_rule(rule: AscentRule, scale: Formula) -> None:
    """Check what every ascent rule promises, for one of your own: a matter of seconds.

    - T is real, finite, ≥ 0, of the weight's shape and as written in numpy. To compute it changes neither the weights
      nor torch's global random state, and never waits for the device.
    - A part of a sharded weight has the T that it has in the whole one. A tensor of zeros has no larger T than others.
    - `fast()`, if there is one, gives the same T.
    - Weights move by ε = ρ·T²∘g / ‖T∘g‖₂, by nothing where that norm is not finite, and come back bitwise, also after
      an error. With ρ = 0 a step is the base optimizer's.

    Complex weights count where the rule takes them. A climb that is compiled, and other devices, are not tried.

    Args:
        rule: The rule, with the settings to check.
        scale: Its T written again in numpy, from a parameter's name and its values: an array of their shape, or a
            number. The names are `norm.weight`, `conv.weight`, `head.weight` and the same with `bias`; T is 1 where
            the rule's policy leaves it alone, and 0 for what does not move.

    Raises:
        TypeError: If `rule` is no ascent rule.
        AssertionError: Names the promise that the rule breaks.

    Example:
        >>> from samson import ASAM
        >>> check_rule(ASAM(eta=0.1), lambda name, w: abs(w) + 0.1 if "weight" in name else 1.0)
    """
    require_ascent(rule)
    with torch.random.fork_rng(devices=[]):
        weights = _scaled(rule, network(torch.float64))
        waves = {name: torch.complex(w, w.flip(0)) for name, w in weights.items()}
        dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
        if weights:
            _check_scale(rule, scale, weights)
            _check_parts(rule, weights)
            _check_zeros(rule, weights)
            _check_fast(rule, weights)
        if weights and _takes(rule, waves):
            _check_scale(rule, scale, waves)
            dtypes.append(torch.complex64)
        check_ascent(rule, scale)
        check_radius_zero(rule)
        check_norms_that_are_not_finite(rule, dtypes)
        check_it_never_waits(rule)


def _check_scale(rule: AscentRule, scale: Formula, weights: Weights) -> None:
    """T of several weights at once."""
    before = [w.clone() for w in weights.values()]
    state = torch.get_rng_state()
    found = rule.scale(list(weights.values()), norms)
    promise(torch.equal(torch.get_rng_state(), state), "`scale` must not draw from torch's global random state")
    promise(len(found) == len(weights), f"`scale` must give one T for each of {len(weights)} weights")
    for (name, w), old, t in zip(weights.items(), before, found, strict=True):
        of_it = f"for a {'complex' if w.is_complex() else 'real'} `{name}` of shape {tuple(w.shape)}"
        promise(torch.equal(w, old), f"`scale` must leave the weights as they are, changed them {of_it}")
        promise(t.shape == w.shape, f"T must have the weight's shape, got {tuple(t.shape)} {of_it}")
        promise(not t.is_complex(), f"T must be real, got {t.dtype} {of_it} (or refuse complex weights)")
        promise((t.isfinite() & (t >= 0)).all(), f"T must be finite and ≥ 0, got {float(t.min()):.3g} {of_it}")
        expected = torch.as_tensor(scale(name, old.numpy())).expand(w.shape)
        apart = float((t - expected).abs().max())
        promise(_near(t, expected), f"T must be as written in numpy, got up to {apart:.3g} beside it {of_it}")


def _check_parts(rule: AscentRule, weights: Weights) -> None:
    """As with sharded weights, of which each process has some rows, perhaps none."""
    for name, w in weights.items():
        [whole] = rule.scale([w], norms)
        try:
            parts = _scale_of_parts(rule, [w[:1], w[1:], w[:0]])
        except (RuntimeError, ValueError, IndexError) as error:
            raise AssertionError(f"`scale` must take parts of sharded weights, also empty ones: {error}") from error
        promise(
            _near(parts, whole),
            f"`scale` must give parts of a sharded weight the T that they have in the whole one, did not for `{name}`: "
            "take numbers about the whole from `norms`, its count by `norms([torch.ones_like(w)], 1)`",
        )


def _scale_of_parts(rule: AscentRule, parts: Sequence[Tensor]) -> Tensor:
    """T of one weight by its parts, with norms over all of them: each round answers one more question of the rule."""
    answers: list[list[Tensor]] = []
    while True:
        found: list[Tensor] = []
        asked: list[list[tuple[Sequence[Tensor], float]]] = [[] for _ in parts]
        for part, own in zip(parts, asked, strict=True):

            def over_all(tensors: Sequence[Tensor], p: float, own: list[Any] = own) -> list[Tensor]:
                own.append((tensors, p))
                return answers[len(own) - 1] if len(own) <= len(answers) else norms(tensors, p)

            found += rule.scale([part], over_all)
        counts = {len(own) for own in asked}
        promise(len(counts) == 1, "`scale` must call `norms` as often for every part: processes wait for each other")
        if counts == {len(answers)}:
            return torch.cat(found)
        now = [own[len(answers)] for own in asked]
        wholes = zip(*(tensors for tensors, _ in now), strict=True)
        answers.append(norms([torch.cat([t.flatten() for t in of_one]) for of_one in wholes], now[0][1]))


def _check_zeros(rule: AscentRule, weights: Weights) -> None:
    """A layer of zeros beside one that has some others."""
    for name, w in weights.items():
        others, zeros = (float(t.max()) for t in rule.scale([w, torch.zeros_like(w)], norms))
        promise(math.isfinite(zeros), f"T must be finite for a tensor of zeros, got {zeros} for `{name}`")
        promise(
            zeros <= others,
            f"T must be no larger for a tensor of zeros than for others, or nearly all of ε is there, got {zeros:.3g} "
            f"beside {others:.3g} for `{name}`",
        )


def _check_fast(rule: AscentRule, weights: Weights) -> None:
    """The fast form, if there is one, against `scale`."""
    form = fast_scale(rule)
    if form is None:
        return
    for name, w in weights.items():
        for value in (w, torch.zeros_like(w)):
            sizes = value.abs()
            given: object = form.numerator(sizes, form.eta)
            in_place = isinstance(given, Tensor) and torch.equal(given, sizes)
            promise(in_place, "the numerator of `fast()` must change |w| in place and return it")
            factor = 1.0 if form.p is None else form.factor(norms([value], form.p)[0])
            promise(
                _near(sizes * factor, rule.scale([value], norms)[0]),
                f"`fast()` must give the same T as `scale`, did not for `{name}`: its factor is a function of the "
                "tensor's p-norm alone",
            )


def _scaled(rule: AscentRule, model: nn.Module) -> dict[str, Tensor]:
    """The weights for which the rule's `scale` is asked, by name."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    if rule.on_chip:
        found = chip_weights(names, [model], type(rule).__name__, getattr(rule, "select", None))
        return {names[weight.parameter]: weight.parameter.detach() for weight in found}
    return {name: p.detach() for p, name in names.items() if rule.scales_tensor(name, p)}


def _takes(rule: AscentRule, weights: Weights) -> bool:
    """Whether `scale` takes them; a rule need not take complex ones."""
    try:
        return bool(rule.scale(list(weights.values()), norms))
    except (RuntimeError, TypeError, ValueError):
        return False


def _near(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.double(), other.double(), rtol=1e-9, atol=1e-12)
