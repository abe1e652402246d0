"""Imports point down the list of rooms only, and `import samson` is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import samson

ROOT = Path(samson.__file__).parent
MAY_IMPORT = {
    "optim": set(),
    "noise": set(),
    "records": set(),
    "evaluation": {"noise", "optim", "records"},
    "integrations": {"optim", "evaluation"},
    "report": {"records"},
    "experiments": {"report", "integrations", "evaluation", "records", "noise", "optim"},
    "cli": {"experiments", "report", "integrations", "evaluation", "records", "noise", "optim"},
}


def rooms_imported(source: str) -> set[str]:
    """The rooms of samson that a module's source imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "samson" else [node.module]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name and name.startswith("samson.")}
    return found & set(MAY_IMPORT)


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    assert rooms_imported(path.read_text()) <= MAY_IMPORT[room] | {room}


def test_the_check_sees_a_wrong_import() -> None:
    assert rooms_imported("def f():\n    from samson.noise import Gaussian\n    import samson.cli.app") == {
        "noise",
        "cli",
    }
    assert rooms_imported("from samson import evaluation") == {"evaluation"}


@pytest.mark.parametrize("room", ["records", "report"])
def test_records_and_reports_never_import_torch(room: str) -> None:
    for path in (ROOT / room).glob("*.py"):
        tree = ast.parse(path.read_text())
        names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert not {name for name in names if name.split(".")[0] == "torch"}


def test_import_costs_little_beyond_torch() -> None:
    program = (
        "import time, torch, torch.optim, torch.nn; start = time.perf_counter(); import samson; "
        "print(time.perf_counter() - start)"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 0.3
