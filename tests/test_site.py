"""The site of the documentation: it builds without a warning and without torch, is whole, and fetches nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

import pytest

import samson

pytestmark = pytest.mark.needs("zensical")
ROOT = Path(__file__).parent.parent


class Page(HTMLParser):
    """What a page has and asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.ids.add(found.get("id") or "")
        address = found.get("href") or found.get("src")
        if address:
            (self.links if tag == "a" else self.fetched).append(address)


def is_remote(address: str) -> bool:
    return re.match(r"(\w+:)?//", address) is not None


def broken(pages: dict[Path, Page]) -> list[str]:
    """Links and sources within the site that lead nowhere."""
    found = []
    for path, page in pages.items():
        for address in [*page.links, *page.fetched]:
            name, _, place = address.partition("#")
            target = (path.parent / name).resolve() if name else path
            if is_remote(address) or address.startswith(("data:", "mailto:")):
                continue
            if not target.exists() or (place and target in pages and place not in pages[target].ids):
                found.append(f"{path.name}: {address}")
    return found


def public(package: str, rooms: Iterable[str], folder: Path) -> dict[str, bool]:
    """The public names of a package's rooms, and whether they have a docstring."""
    import griffe

    loaded = griffe.load(package, search_paths=[folder], resolve_aliases=True)
    return {f"{package}.{r}.{name}": loaded[r][name].has_docstring for r in rooms for name in loaded[r].exports}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "torch.py").write_text("raise ImportError('the site is built without torch')")
    paths = os.pathsep.join([str(folder), str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "benchmarks.docs_site", str(folder / "built")]
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "built" / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_page_is_there_and_every_link_leads_somewhere(pages: dict[Path, Page], site: Path) -> None:
    named = re.findall(r": ([\w/-]+)\.md$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {str(path.relative_to(site.resolve()).with_suffix("")) for path in pages} == {
        *named,
        "404",
        "evidence/report",
    }
    inside = {path: page for path, page in pages.items() if path.name != "404.html"}  # its links are from the root
    assert broken(inside) == []
    assert broken({site / "index.html": Page('<a href="no.html">')}) == ["index.html: no.html"]
    assert broken({site / "index.html": Page('<a id="here" href="#there">')}) == ["index.html: #there"]


def test_nothing_comes_from_the_network(pages: dict[Path, Page], site: Path) -> None:
    assert [address for page in pages.values() for address in page.fetched if is_remote(address)] == []
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert [style for style in styles if re.search(r"""(@import|url\()\s*["']?(\w+:)?//""", style)] == []
    assert is_remote("https://fonts.example/a.css")
    assert is_remote("//fonts.example/a.css")
    assert Page('<script src="https://a.example/b.js">').fetched == ["https://a.example/b.js"]


def test_every_public_name_is_documented_and_on_a_page_of_the_reference(pages: dict[Path, Page], site: Path) -> None:
    from benchmarks.docs_site import ROOMS, TRAINERS

    names = public("samson", [*ROOMS, *TRAINERS], ROOT / "src")
    assert [name for name, documented in names.items() if not documented] == []
    ids = {room: pages[(site / "api" / f"{room}.html").resolve()].ids for room in (*ROOMS, "integrations", "cli")}
    assert [name for name in names if name not in ids[name.split(".")[1]]] == []
    assert len(names) > 200
    assert {f"samson.optim.{name}" for name in samson.__all__} <= names.keys()
    assert {"samson-compare", "samson-list-methods"} <= ids["cli"]


def test_an_undocumented_name_is_found(tmp_path: Path) -> None:
    package = tmp_path / "example"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "room.py").write_text('__all__ = ["A", "b"]\nA = 1\n"""One."""\ndef b(): ...\n')
    assert public("example", ["room"], tmp_path) == {"example.room.A": True, "example.room.b": False}
