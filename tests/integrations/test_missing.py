"""The package imports none of the trainers, and an absent one gives an error that names the extra."""

import subprocess
import sys

PROGRAM = """
import sys
import samson.integrations
packages = {"lightning": "lightning", "transformers": "transformers", "accelerate": "accelerate.optimizer"}
assert not {"lightning", "transformers", "accelerate", "torchmetrics"} & {name.split(".")[0] for name in sys.modules}
for extra, package in packages.items():
    sys.modules[package] = None  # as if it were not installed
    try:
        __import__(f"samson.integrations.{extra}")
    except ImportError as error:
        print(error)
"""


def test_an_absent_package_names_its_extra() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        f"`samson.integrations.{extra}` needs a package: "
        f'pip install -c constraints.txt ".[{extra}]" in the folder of the source.'
        for extra in ("lightning", "transformers", "accelerate")
    ]
