"""What is built and given to others: the wheel, the source archive, the versions they ask for, and how to get them."""

import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import hatchling.build
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_wheel_is_the_package_and_nothing_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / hatchling.build.build_wheel(str(tmp_path))) as wheel:
        names = set(wheel.namelist())
        [licence] = [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
        [entry_points] = [name for name in names if name.endswith("entry_points.txt")]
        assert b"samson = samson.cli:main" in wheel.read(entry_points)
    source = [path for path in Path("src/samson").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {name for name in names if ".dist-info/" not in name} == {str(path.relative_to("src")) for path in source}
    pages = {f"samson/report/{name}" for name in ("frame.html", "style.css", "plots.js", "plotly-cartesian.min.js.gz")}
    assert names >= pages | {"samson/py.typed"}


def test_the_source_archive_has_what_building_and_testing_need(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / hatchling.build.build_sdist(str(tmp_path))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"LICENSE", "README.md", "Makefile", "constraints.txt", "src/samson/py.typed", "tests/conftest.py"}
    assert not {name for name in names if name.startswith((".venv", "dist/", "runs/"))}


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_lowest_versions_are_those_of_the_bounds() -> None:
    lowest, tested = pins("constraints-lowest.txt"), pins("constraints.txt")
    for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["cli"]:
        requirement = Requirement(line)
        [bound] = requirement.specifier
        assert bound.operator == ">="
        if requirement.name != "torch":
            assert Version(lowest[requirement.name]) == Version(bound.version)
        assert tested[requirement.name] in requirement.specifier
    assert lowest["torch"] == tested["torch"]


def from_the_index(text: str) -> list[str]:
    """Commands that would ask the package index for this project, which is not there."""
    return re.findall(r"(?:pip|pipx|uv)\b[^`\n]*install[^`\n]*['\" =]samson[^\s`]*", text)


def test_no_page_and_no_message_installs_from_the_index() -> None:
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("src/**/*.py")]
    found = {str(path): from_the_index(path.read_text(encoding="utf-8")) for path in paths}
    assert len(found) > 100
    assert {name: commands for name, commands in found.items() if commands} == {}


def test_the_check_sees_an_install_from_the_index() -> None:
    for command in ("pip install samson", "pip install 'samson-torch[ray]'", 'uv pip install -U "samson-torch"'):
        assert from_the_index(f"text `{command}` text") == [command]
    assert from_the_index('pip install -c constraints.txt ".[cli]"') == []
