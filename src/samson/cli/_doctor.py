"""The command `doctor`: what a bug report needs, and whether training, chips and evaluation work here."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

import typer

from samson.cli._showing import console

NAME = "samson-torch"


def doctor() -> None:
    """Say what is installed here, and check in seconds that it works; for bug reports.

    The exit status is 1 if a check fails.
    """
    show = console()
    for name, value in (*packages(), *machine()):
        show.print(f"{name:28} {value}", soft_wrap=True)
    failed = False
    for check in CHECKS:
        try:
            wrong = check()
        except Exception as error:  # whatever it is, it is what a report needs
            wrong = f"{type(error).__name__}: {error}"
        failed = failed or bool(wrong)
        show.print(f"{check.__name__.replace('_', ' '):28} {f'FAILED: {wrong}' if wrong else 'ok'}", soft_wrap=True)
    raise typer.Exit(int(failed))


def packages() -> Iterator[tuple[str, str]]:
    """Versions of this package, of what it needs, and of what its extras would bring."""
    from samson.experiments import environment

    here = environment()
    yield NAME, here.samson + (f" ({here.git})" if here.git else "")
    yield "python", here.python
    seen = {NAME}
    for line in requires(NAME) or ():
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        if name not in seen and "extra == 'dev'" not in line.replace('"', "'"):
            seen.add(name)
            yield name, installed(name)


def installed(name: str) -> str:
    """The version of a package, or that there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def machine() -> Iterator[tuple[str, str]]:
    """System, processor and accelerators."""
    import torch

    from samson.experiments import Place

    yield "system", platform.platform()
    fast = "fast" if Place().fast_bfloat16 else "slow"
    yield "cpu", f"{platform.machine()}, {torch.get_num_threads()} threads, bfloat16 {fast}"
    for index in range(torch.cuda.device_count()):
        yield f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, CUDA {torch.version.cuda or torch.version.hip}"
    if torch.backends.mps.is_available():
        yield "mps", "there, but commands need cpu or cuda"


def training() -> str:
    """A step of SAMSON against its formula in float64, and the weights afterwards against those before."""
    import torch

    from samson import SAMSON, SharpnessAware

    torch.manual_seed(0)
    model = torch.nn.Linear(64, 64, bias=False)
    rule = SAMSON(rho=0.5)
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), rule, model=model)
    [model.weight.grad] = torch.autograd.grad(model(torch.randn(8, 64)).square().sum(), model.weight)
    before, gradient = model.weight.detach().clone(), model.weight.grad.double()
    scale = (before.double().abs() + rule.eta) / before.double().abs().max()
    expected = rule.rho * scale**2 * gradient / (scale * gradient).norm()
    with optimizer.perturbed(model):
        moved = model.weight.detach().double() - before.double()
    worst = float((moved - expected).abs().max() / expected.abs().max())
    if worst > 1e-4:
        return f"the perturbation is off by {worst:.1e}"
    return "" if torch.equal(model.weight, before) else "the weights did not come back"


def chips() -> str:
    """The deviation of a Gaussian chip against the one that was asked for, and the weights afterwards."""
    import torch

    from samson.noise import Gaussian, deploy

    torch.manual_seed(0)
    model = torch.nn.Linear(256, 256, bias=False)
    before = model.weight.detach().clone()
    with deploy(model, Gaussian(0.1), seed=0).at():
        found = float((model.weight.detach() - before).std() / before.abs().max())
    if abs(found / 0.1 - 1) > 5 / (2 * before.numel()) ** 0.5:
        return f"noise of .1 has a deviation of {found:.4f}"
    return "" if torch.equal(model.weight, before) else "the weights did not come back"


def evaluation() -> str:
    """Two evaluations of the same chips."""
    import torch

    from samson.evaluation import evaluate
    from samson.noise import Gaussian

    torch.manual_seed(0)
    model = torch.nn.Linear(16, 4)
    data = torch.randn(64, 16), torch.randint(4, (64,))
    one, other = (evaluate(model, data, Gaussian(0.3), trials=5, seed=0).trials for _ in range(2))
    return "" if list(one) == list(other) and len(set(one)) > 1 else f"the same chips gave {one} and {other}"


CHECKS: tuple[Callable[[], str], ...] = (training, chips, evaluation)
"""Each gives what is wrong, or nothing."""
