"""Imports point down the list of rooms only, and `import samson` is cheap."""

import ast
import subprocess
import sys
from dataclasses import replace
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import samson
from samson.records import record_path, run_name, write_json
from tests.builders import records

ROOT = Path(samson.__file__).parent
MAY_IMPORT = {
    "records": set(),
    "statistics": {"records"},
    "optim": set(),
    "noise": set(),
    "report": {"statistics", "records"},
    "evaluation": {"report", "noise", "optim", "statistics", "records"},
    "integrations": {"optim", "evaluation"},
    "sharpness": {"evaluation", "noise", "optim", "statistics", "records"},
}
MAY_IMPORT["experiments"] = set(MAY_IMPORT)
MAY_IMPORT["cli"] = set(MAY_IMPORT)
"""Besides these, every room may import what is common: the modules beside the rooms."""


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def rooms_imported(tree: ast.AST) -> set[str]:
    """The rooms of samson that a module imports, wherever the import stands."""
    found = set()
    for node in ast.walk(tree):
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


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_down(room: str) -> None:
    paths = list((ROOT / room).rglob("*.py"))
    assert paths
    found = {str(path): wrong for path in paths if (wrong := rooms_imported(parsed(path)) - MAY_IMPORT[room] - {room})}
    assert found == {}


def test_every_room_is_known() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in ROOT.glob("*/**/*.py")} == set(MAY_IMPORT)


def test_the_check_sees_a_wrong_import() -> None:
    source = "def f():\n    from samson.noise import Gaussian\n    import samson.cli._app"
    assert rooms_imported(ast.parse(source)) == {"noise", "cli"}
    assert rooms_imported(ast.parse("from samson import evaluation")) == {"evaluation"}


def imported(path: Path) -> set[str]:
    """The modules of samson that one imports when it is imported itself, as paths from the root."""
    found = set()
    for node in parsed(path).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("samson"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    files = {ROOT.joinpath(*name.split(".")[1:]).with_suffix(".py") for name in found}
    faces = {ROOT.joinpath(*name.split(".")[1:], "__init__.py") for name in found if name.count(".") == 1}
    own = ROOT / path.relative_to(ROOT).parts[0] / "__init__.py"
    return {str(p.relative_to(ROOT)) for p in files | faces if p.exists() and p != own}


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {str(path.relative_to(ROOT)): imported(path) for path in ROOT.rglob("*.py")}
    tuple(TopologicalSorter(graph).static_order())
    with pytest.raises(CycleError):
        tuple(TopologicalSorter(graph | {"_names.py": {"cli/_app.py"}}).static_order())  # the check can fail


def inner_modules_imported(path: Path) -> set[str]:
    """What a file imports from within a room that is not its own."""
    own = path.relative_to(ROOT).parts[0] if path.is_relative_to(ROOT) else ""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("samson."):
            _, room, *inner = node.module.split(".")
            if inner and room in MAY_IMPORT and room not in (own, "cli", "integrations"):
                found.add(node.module)
    return found


@pytest.mark.parametrize("folder", [ROOT, Path(__file__).parent, Path(__file__).parents[1] / "benchmarks"])
def test_rooms_are_entered_by_their_face(folder: Path) -> None:
    """Tests and other rooms import what a room's `__init__` has, so that modules can move within it."""
    found = {str(path): inner for path in folder.rglob("*.py") if (inner := inner_modules_imported(path))}
    assert found == {}


@pytest.mark.parametrize("room", ["records", "report", "statistics"])
def test_rooms_without_torch(room: str) -> None:
    for path in (ROOT / room).glob("*.py"):
        names = {a.name for n in ast.walk(parsed(path)) if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module or "" for n in ast.walk(parsed(path)) if isinstance(n, ast.ImportFrom)}
        assert not {name for name in names if name.split(".")[0] == "torch"}


def test_import_loads_nothing_heavy_beyond_torch() -> None:
    """Neither another package, nor what torch itself leaves to be loaded later."""
    program = (
        "import sys, torch, torch.optim; before = set(sys.modules); from samson import SharpnessAware; "
        "print(*{name for name in set(sys.modules) - before if name.split('.')[0] not in sys.stdlib_module_names})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    added = {name for name in done.stdout.split() if not name.startswith("samson")}
    assert "samson.optim" in done.stdout
    assert {name.split(".")[0] for name in added} <= {"torch"}
    assert not {name for name in added if name.startswith(("torch._dynamo", "torch._inductor", "torch.distributed"))}


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["list", "--help"], ["report", "."]])
def test_what_needs_no_torch_does_not_load_it(arguments: list[str], tmp_path: Path) -> None:
    """Nor plotly and matplotlib, which a report does without."""
    others = [replace(run, problem=replace(run.problem, name="other")) for run in records()]
    for run in (*records(), *others):
        write_json(record_path(tmp_path, run_name(run.problem.name, run.method, run.seed)), run)
    names = ["torch", "plotly", "matplotlib", "samson.cli"]
    program = (
        f"import sys; sys.argv = ['samson', *{arguments}]; from samson.cli import main\n"
        f"try: main()\nexcept SystemExit: print(*[name for name in {names} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "samson.cli", done.stderr
    assert (tmp_path / "report.html").exists() == (arguments == ["report", "."])
