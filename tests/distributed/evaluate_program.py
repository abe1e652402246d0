"""A user's program for torchrun: it makes no process group, and writes what it found, once for each rank."""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from samson.evaluation import Torchrun, evaluate
from tests.distributed.evaluate_checks import DATA, NOISE, make
from tests.distributed.evaluate_tasks import Watching

TRIALS = 9

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends the other rank, which first says what it has found
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    watching = Watching(Torchrun(), folder / "trials", kills=5)
    result = evaluate(make(), DATA, NOISE, trials=TRIALS, executor=watching)
    found = {"trials": result.trials, "scores": result.scores.tolist(), "layout": str(result.layout)}
    found["restarts"] = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    (folder / f"rank{os.environ['RANK']}.json").write_text(json.dumps(found))
