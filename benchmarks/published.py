"""Does SAMSON beat SAM and ASAM on CIFAR-10 with the radii that their authors publish?

    python -m benchmarks.published    # killed, it goes on

CIFAR-10 has its settings from Fashion-MNIST, where large radii won on chips; they cost SAM and SAMSON much without
noise (`docs/evidence.md`). So the three are trained once more with published radii, which no search chose. The records
go to `benchmarks/results/cifar10-resnet20-published.json.gz`; `benchmarks/hypotheses.md` says what was written before.

Radii: Foret et al. 2021, arXiv 2010.01412, for SAM; Kwon et al. 2021, arXiv 2102.11600, for ASAM; for SAMSON the public
code of an author of arXiv 2211.11561, which fine-tunes a vision transformer, and has the same two for the others.
"""

from __future__ import annotations

from benchmarks.evidence import RUNS, TASKS, Settings, confirming, pack, packed, run
from benchmarks.evidence_found import Found

TASK = "cifar10-resnet20"
NAME = f"{TASK}-published"
RADII: dict[str, Settings] = {"sam": {"rho": 0.05}, "asam": {"rho": 0.5}, "samson": {"rho": 0.2}}
SEEDS = 5


def whole() -> Found:
    """The networks with these radii."""
    return Found(TASK, packed(NAME))


if __name__ == "__main__":
    chosen = {f"{method}-published": (method, radius) for method, radius in RADII.items()}
    run({**confirming(TASK, chosen, TASKS[TASK].epochs), "seeds": SEEDS}, RUNS / NAME / "whole")
    pack(NAME)
