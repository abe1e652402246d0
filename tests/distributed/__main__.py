"""Run the checks of scripts in this process, one of those that torchrun starts."""

import sys
from pathlib import Path

from tests.distributed.harness import main

main(sys.argv[1:-1], Path(sys.argv[-1]))
