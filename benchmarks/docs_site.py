"""Build the site of the documentation: `python -m benchmarks.docs_site build`, which `make docs` runs.

The pages of `docs/` are copied, and three things join them: a page of each room's docstrings, a page of the commands,
and the files elsewhere in the repository that pages link to. Zensical makes HTML of them, which fetches nothing from
the network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
import typer

from benchmarks.markdown import table
from samson.cli._app import app

ROOT = Path(__file__).parent.parent
ROOMS = ("optim", "noise", "evaluation", "experiments", "sharpness", "report", "records", "statistics")
TRAINERS = ("integrations.lightning", "integrations.transformers", "integrations.accelerate")
OUTSIDE = re.compile(r"\]\(\.\./([\w/.-]+)\)")
"""A link from a page to a file outside `docs/`."""


class Examples(griffe.Extension):  # type: ignore[misc]  # griffe may be absent here
    """Reads a section "Example:" as the code that it is."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with every object that has been read."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)


def gather(folder: Path) -> None:
    """Write everything that the site is made of into `folder`."""
    docs = folder / "docs"
    shutil.copytree(ROOT / "docs", docs)
    shutil.copy(ROOT / "mkdocs.yml", folder)
    for page in docs.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for path in OUTSIDE.findall(text):
            (docs / published(path)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, docs / published(path))
        page.write_text(OUTSIDE.sub(lambda link: f"]({published(link[1])})", text), encoding="utf-8")
    api = docs / "api"
    api.mkdir()
    for room in ROOMS:
        (api / f"{room}.md").write_text(f"# samson.{room}\n\n::: samson.{room}\n", encoding="utf-8")
    trainers = "\n".join(
        f"## samson.{name}\n\n::: samson.{name}\n    options: {{heading_level: 3}}\n" for name in TRAINERS
    )
    (api / "integrations.md").write_text(f"# samson.integrations\n\n{trainers}", encoding="utf-8")
    (api / "cli.md").write_text("\n".join(["# The command line", *commands()]), encoding="utf-8")


def published(path: str) -> str:
    """Where a file of the repository lies on the site; Markdown as text, since it is no page of the site."""
    return f"repository/{path}.txt" if path.endswith(".md") else f"repository/{path}"


def commands() -> Iterator[str]:
    """Every command with its arguments and options, as `--help` tells them."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        for path, one in [(f"{name} {sub}", c) for sub, c in inner.items()] if inner else [(name, command)]:
            yield from ["", f"## samson {path}", "", one.help or "", ""]
            rows = []
            for parameter in one.params:
                names = ", ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts])
                text = " ".join((getattr(parameter, "help", None) or "").split())
                rows.append([names, text.replace("|", "&#124;").replace("<", "&lt;")])
            yield table(["argument or option", "what it is"], rows)


def build(folder: Path) -> None:
    """Make `folder/site` anew."""
    shutil.rmtree(folder / "docs", ignore_errors=True)
    shutil.rmtree(folder / "site", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    gather(folder)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src"), *sys.path])
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    sys.stdout.write(said)
    if done.returncode or "griffe:" in said:  # which Zensical passes on, but does not count as a warning
        sys.exit("The site was not built, or has warnings: see above.")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
