"""Runs the notebooks from top to bottom and saves what they show; `make notebooks` calls it.

pip install -c constraints.txt ".[notebooks]"
python -m benchmarks.notebooks
"""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def main() -> None:
    """Run each where it lies, in a process of its own."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        book = nbformat.read(path, as_version=4)
        NotebookClient(book, record_timing=False, resources={"metadata": {"path": NOTEBOOKS}}).execute()
        nbformat.write(book, path)
        print(f"{path.name}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
