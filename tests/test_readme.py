"""The Python examples of the pages run as they stand, those of one page one after the other."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parent.parent


PAGES = {
    "README.md": 3,
    "CONTRIBUTING.md": 3,
    "docs/index.md": 3,
    "docs/trainers.md": 4,
    "docs/chips.md": 15,
    "docs/choosing-rho.md": 2,
    "docs/comparing.md": 6,
    "docs/evaluating.md": 5,
    "docs/coming-from.md": 6,
    "docs/error-bars.md": 6,
    "docs/known-chips.md": 5,
    "docs/own-chip.md": 6,
    "docs/own-model.md": 6,
    "docs/scale-out.md": 2,
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


SAYS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "README.md": lambda names: len(names["result"].trials) == 50,
    "CONTRIBUTING.md": lambda names: (
        names["rule"].scale([torch.tensor([-4.0])], None)[0].item() == pytest.approx(4.01**0.5)
        and names["noise"](torch.zeros(3), torch.Generator().manual_seed(0)).unique().numel() == 1
        and names["devices"](torch.ones(99, 99), torch.Generator().manual_seed(0)).mean().item()
        == pytest.approx((1 - 0.5 / 25 / (2 * torch.pi) ** 0.5) * 86_401**-0.01, abs=1.5e-3)
    ),
    "docs/index.md": lambda names: names["paired"].difference("robust", "plain").low > 0,
    "docs/chips.md": lambda names: (
        names["rate"] == pytest.approx(0.039, abs=5e-4) and len(names["result"].trials) == 10
    ),
    "docs/choosing-rho.md": lambda names: (
        [names["losses"][i][0] for i in (0, -1)] == pytest.approx([0.01, 100.0])
        and names["losses"][-1][2] > names["losses"][0][2]
    ),
    "docs/comparing.md": lambda names: (
        [record.method for record in names["found"].records] == ["sgd", "samson"]
        and min(record.clean for record in names["segmented"].records) > 0.7
        and names["iou"](torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4)).item() == 1  # neither found nor true
        and [(age, *found.models) for age, found in names["aged"].items()]
        == [("1 hour", "samson", "sgd"), ("1 year", "samson", "sgd")]
        and [*names["mixed"].models] == ["samson", "sgd"]
    ),
    "docs/error-bars.md": lambda names: names["half"] == pytest.approx(0.102, abs=5e-4),
    "docs/own-chip.md": lambda names: (
        names["coefficients"] == pytest.approx([0.4, 0.7, -0.4])
        and names["factor"] == pytest.approx(0.0048, abs=5e-5)
        and 0.95 * names["expected"] < names["programmed"] < names["expected"]
        and 0.95 * names["expected_read"] < names["read"] < names["expected_read"]
    ),
    "docs/own-model.md": lambda names: str(names["without_head"].coverage).startswith("72.73%"),
    "docs/theory.md": lambda names: names["moved"].tolist() == [pytest.approx([2.7, 0.6])],
}
"""What a page says of its examples."""


def check_printed(page: str, printed: str) -> None:
    """It prints what the page shows, up to what machines differ by: where the first mean is the same, all is."""
    shown = "".join(re.findall(r"```text\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL))
    (words, numbers), (expected, near) = (
        (parts[::2], [float(number) for number in parts[1::2]])
        for parts in (re.split(r"(\d\.\d{3,})", " ".join(text.split())) for text in (printed, shown))
    )
    assert words == expected
    assert numbers == pytest.approx(near, abs=1e-4 if numbers[0] == near[0] else 0.03)


def test_the_cost_of_a_step_is_that_of_the_record() -> None:
    record = json.loads((ROOT / "benchmarks/records/step-cost.json").read_text())["allocators"]
    rows = {
        "600 small tensors": record["default"]["small"],
        "ResNet-18 size": record["default"]["resnet18"],
        "ResNet-18 size, the C library keeps freed memory": record["keeps freed memory"]["resnet18"],
    }
    page = (ROOT / "docs/coming-from.md").read_text(encoding="utf-8")
    found = {name: [of["ratios"][rule]["quartiles"] for rule in ("sam", "asam", "samson")] for name, of in rows.items()}
    for name, quartiles in found.items():
        cells = [f"{middle:.2f} [{low:.2f}, {high:.2f}]" for low, middle, high in quartiles]
        line = " | ".join(["", name, *cells, ""]).strip().replace("0.", ".")
        assert f"{line}\n" in page
    said = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    _, *large = found.values()
    ends = [end(middle for _, middle, _ in quartiles) for quartiles in large for end in (min, max)]
    words = "{:.2f} to {:.2f} of the time of `pytorch_optimizer` for a ResNet-18, and {:.2f} to {:.2f} of it"
    assert words.format(*ends).replace("0.", ".") in said


def test_no_page_with_examples_is_left_out() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    names = {name for page in pages if examples(name := page.relative_to(ROOT).as_posix())}
    assert names == {*PAGES, "docs/leaving.md"}  # which tests/noise/test_aihwkit_source.py runs


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    if page == "docs/trainers.md":
        for package in ("lightning", "transformers", "accelerate"):
            pytest.importorskip(package)
    if page == "docs/scale-out.md":  # as under torchrun
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
        request.addfinalizer(torch.distributed.destroy_process_group)
    module = ModuleType("page")  # what a page defines is at the top of a module, as in a script
    monkeypatch.setitem(sys.modules, "page", module)
    names = vars(module)
    names.update(surroundings())
    assert len(examples(page)) == PAGES[page]
    before = {key: value.clone() for key, value in names["model"].state_dict().items()}
    for number, source in enumerate(examples(page)):
        exec(compile(source, f"{page}-{number}", "exec"), names)
    if page == "README.md":
        assert not torch.equal(names["model"].state_dict()["0.weight"], before["0.weight"])
    assert page not in SAYS or SAYS[page](names)
    if page == "docs/index.md":
        check_printed(page, capsys.readouterr().out)
