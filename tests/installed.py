"""What a wheel must do where nothing else is installed; `make package` runs this there.

python -I tests/installed.py            # after the wheel alone
python -I tests/installed.py cli        # after its extra `cli` too
"""

import importlib
import pkgutil
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

import samson
from samson._errors import installing

README = Path(__file__).parent.parent / "README.md"
ABSENT = {f"samson.integrations.{name}": f"{installing(name)}." for name in ("accelerate", "lightning", "transformers")}


def rooms() -> dict[str, str]:
    """Import all public modules; what to install, for each that cannot be imported."""
    absent = {}
    for module in pkgutil.walk_packages(samson.__path__, "samson."):
        if "._" not in module.name:
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                absent[module.name] = "pip install " + str(error).rpartition("pip install ")[2]
    return absent


def first_example() -> None:
    """Run the first example of README."""
    model, x, y = nn.Linear(8, 3), torch.randn(32, 8), torch.randint(3, (32,))
    before = model.weight.detach().clone()
    names = {"model": model, "x": x, "y": y, "loss_fn": nn.functional.cross_entropy}
    names["scheduler"] = SimpleNamespace(step=lambda: None)
    exec(re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1], names)
    assert names["loss"] > 0
    assert not torch.equal(model.weight, before)


def command(*arguments: str) -> subprocess.CompletedProcess:
    """Run the command that the wheel installs."""
    script = Path(sys.executable).parent / "samson"
    return subprocess.run([script, *arguments], capture_output=True, text=True, check=False)


def commands() -> None:
    """Say the version, let the doctor look, and make a comparison and its report."""
    assert command("--version").stdout == f"samson {version('samson-torch')}\n"
    seen = command("doctor")
    assert seen.returncode == 0, seen.stdout + seen.stderr
    with tempfile.TemporaryDirectory() as folder:
        tiny = "--epochs 1 --seeds 1 --trials 2 --levels 0,.1 --jobs 1 --quiet"
        done = command("compare", "--methods", "sgd", *tiny.split(), "--out", folder)
        assert done.returncode == 0, done.stderr
        assert "plotly" in Path(folder, "report.html").read_text(encoding="utf-8")


def main() -> None:
    """Check the package that is installed here."""
    assert Path(samson.__file__).is_relative_to(sys.prefix), f"{samson.__file__} is not what was installed"
    assert samson.__version__ == version("samson-torch")
    if sys.argv[1:] == ["cli"]:
        assert rooms() == ABSENT
        commands()
    else:
        assert rooms() == ABSENT
        refused = command("--version")
        assert refused.returncode == 1
        assert refused.stderr.endswith(f"{installing('cli')}.\n"), refused.stderr
        first_example()


if __name__ == "__main__":
    main()
