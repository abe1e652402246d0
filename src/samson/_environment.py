"""What a run ran on, for its record."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import torch

import samson
from samson.records import Environment


def environment(device: str = "cpu") -> Environment:
    """Versions, commit and machine of this process, and how many threads it computes with now."""
    return Environment(
        samson=samson.__version__,
        git=commit(Path(samson.__file__).parent),
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        machine=f"{platform.system()} {platform.machine()}",
        device=device,
        threads=torch.get_num_threads(),
    )


@cache
def commit(folder: Path) -> str | None:
    """The commit of a source checkout, with "+changes" if tracked files differ from it; None elsewhere. Asked once."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
