"""The Python examples of the pages run as they stand, those of one page one after the other."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parent.parent


PAGES = {
    "README.md": 3,
    "CONTRIBUTING.md": 2,
    "docs/index.md": 3,
    "docs/trainers.md": 3,
    "docs/chips.md": 14,
    "docs/choosing-rho.md": 1,
    "docs/comparing.md": 1,
    "docs/evaluating.md": 3,
    "docs/known-chips.md": 3,
    "docs/sharpness.md": 3,
    "docs/theory.md": 1,
}


def examples(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


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
        "training_loader": [(x, y)],
        "loss_fn": nn.functional.cross_entropy,
        "scheduler": Scheduler(),
    }


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page == "docs/trainers.md":
        for package in ("lightning", "transformers", "accelerate"):
            pytest.importorskip(package)
    module = ModuleType("page")  # what a page defines is at the top of a module, as in a script
    monkeypatch.setitem(sys.modules, "page", module)
    names = vars(module)
    names.update(surroundings())
    assert len(examples(page)) == PAGES[page]
    before = {key: value.clone() for key, value in names["model"].state_dict().items()}
    for number, source in enumerate(examples(page)):
        exec(compile(source, f"{page}-{number}", "exec"), names)
    if page == "docs/comparing.md":
        assert [record.method for record in names["found"].records] == ["sgd", "samson"]
    if page == "README.md":
        assert not torch.equal(names["model"].state_dict()["0.weight"], before["0.weight"])
        assert len(names["result"].trials) == 50
    if page == "docs/index.md":
        assert names["paired"].difference("robust", "plain").interval.low > 0
    if page == "docs/theory.md":
        torch.testing.assert_close(names["moved"], torch.tensor([[2.7, 0.6]]))
    if page == "docs/choosing-rho.md":
        assert names["losses"][0][0] == pytest.approx(0.01)
        assert names["losses"][-1][2] > names["losses"][0][2]
    if page == "docs/chips.md":
        assert names["rate"] == pytest.approx(0.039, abs=5e-4)
        assert len(names["result"].trials) == 10
    if page == "CONTRIBUTING.md":
        assert names["rule"].scale([torch.tensor([-4.0])], None)[0].item() == pytest.approx(4.01**0.5)
        shifted = names["noise"](torch.zeros(3), torch.Generator().manual_seed(0))
        assert shifted.unique().numel() == 1
