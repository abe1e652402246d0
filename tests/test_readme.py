"""The Python examples of README and CONTRIBUTING run as they stand."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parent.parent


def examples() -> list[tuple[str, str]]:
    found = []
    for page in ("README.md", "CONTRIBUTING.md"):
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
        found += [(f"{page}-{number}", block) for number, block in enumerate(blocks)]
    return found


def surroundings() -> dict[str, object]:
    """What a reader has at hand: a model, data, a loss and a scheduler."""
    torch.manual_seed(0)
    x, y = torch.randn(32, 8), torch.randint(3, (32,))

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))

    class Scheduler:
        def step(self) -> None:
            """Called once an epoch."""

    return {
        "model": network(),
        "a": network(),
        "b": network(),
        "x": x,
        "y": y,
        "loader": [(x[:16], y[:16]), (x[16:], y[16:])],
        "loss_fn": nn.functional.cross_entropy,
        "scheduler": Scheduler(),
    }


@pytest.mark.parametrize(("name", "source"), examples(), ids=[name for name, _ in examples()])
def test_example_runs(name: str, source: str) -> None:
    names = surroundings()
    before = {key: value.clone() for key, value in names["model"].state_dict().items()}
    exec(compile(source, name, "exec"), names)
    if "optimizer.step" in source:
        assert not torch.equal(names["model"].state_dict()["0.weight"], before["0.weight"])
    if "evaluate(" in source:
        assert len(names["result"].trials) == 50
    if "RootASAM" in source:
        assert names["rule"].scale([torch.tensor([-4.0])], None)[0].item() == pytest.approx(4.01**0.5)
    if "Offset" in source:
        shifted = names["noise"](torch.zeros(3), torch.Generator().manual_seed(0))
        assert shifted.unique().numel() == 1


def test_there_are_examples() -> None:
    assert [name for name, _ in examples()] == ["README.md-0", "README.md-1", "CONTRIBUTING.md-0", "CONTRIBUTING.md-1"]
