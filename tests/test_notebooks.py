"""The notebooks run at a tiny size and come to what they say, and what is shown in them is from one whole run."""

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
TINY = {
    "digits": "EPOCHS, CHIPS, SEEDS = 1, 2, 1",
    "transformer": "STEPS, TUNING_STEPS, CHIPS = 10, 10, 2",
    "digital-layers": "EPOCHS, CHIPS = 8, 5",
}


def code_cells(name: str) -> list[dict[str, Any]]:
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_every_notebook_is_run() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(TINY)


@pytest.mark.needs("matplotlib")
@pytest.mark.parametrize("name", TINY)
def test_a_notebook_comes_to_what_it_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "notebook"}
    for number, cell in enumerate(code_cells(name)):
        exec(compile("".join(cell["source"]), f"{name}-{number}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            exec(TINY[name], names)
    assert pyplot.get_fignums()
    pyplot.close("all")
    if name == "digits":
        assert {record.method for record in names["comparison"].records} == {"sgd", "samson", "samson+clip"}
        assert "samson+clip" in (tmp_path / "runs" / "digits.html").read_text(encoding="utf-8")
    if name == "transformer":
        clean = {label: budget.clean for label, budget in names["budgets"].items()}
        assert max(clean.values()) < names["before"]  # fine-tuning helps
    if name == "digital-layers":
        assert names["everything"].coverage.share == 1
        assert names["chosen"].coverage.share == pytest.approx(1 - names["found"].suggestion.share)


@pytest.mark.parametrize("name", TINY)
def test_what_a_notebook_shows_is_from_one_whole_run(name: str) -> None:
    cells = code_cells(name)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "see `make notebooks`"
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert [output for output in outputs if "image/png" in output.get("data", {})]
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < 150_000
