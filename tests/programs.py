"""Programs that tests run: the command line, in this process, and others beside it."""

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest

from samson.cli import main

ROOT = Path(__file__).parents[1]
LOOPBACK = {
    "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    "MASTER_ADDR": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def samson(*arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process; gives its status and what it wrote to both streams."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["samson", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    return int(end.value.code or 0), out.getvalue(), err.getvalue()


def run(command: Sequence[str], folder: Path, limit_s: float, **environment: str) -> int:
    """Run Python with a command that ends with a folder, which also gets `output.txt`; gives its status.

    One that takes too long is ended.
    """
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *command, str(folder)],
            cwd=ROOT,
            env=os.environ | LOOPBACK | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(limit_s)
        finally:
            process.terminate()  # torchrun ends its processes
            status = process.wait()
    return status


def run_once(
    factory: pytest.TempPathFactory, name: str, command: Sequence[str], limit_s: float, **environment: str
) -> Path:
    """The folder that a program wrote to, which the first worker of pytest-xdist that asks has run."""
    fcntl = pytest.importorskip("fcntl")
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            run(command, folder, limit_s, **environment)
    return folder
