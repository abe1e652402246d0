"""What an evaluation on chips holds in memory beyond the model, for one kind of chip after another.

    python -m benchmarks.evaluation_memory    # a minute on one core

The unit is one copy of the parameters. The model is a stack of equal linear layers, 24 of 1,024 x 1,024 weights, and
passes are over 8 examples, so that activations do not count. Counted is what tensors hold at the peak during two chips.
"several readings" is with `read_block`, for which a chip keeps what it was programmed with.

Writes `benchmarks/records/evaluation-memory.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.memory import memory_of
from benchmarks.writing import write
from samson.evaluation import evaluate
from samson.noise import PCM, BitErrors, ChipModel, Gaussian, WeightNoise, preset

RECORD = Path(__file__).parent / "records" / "evaluation-memory.json"
LAYERS, WIDTH, EXAMPLES = 24, 1024, 8
CHIPS: dict[str, WeightNoise | ChipModel] = {
    "gaussian": Gaussian(0.1),
    "bit-errors": BitErrors(0.01),
    "pcm": PCM(time_s=86_400.0),
    "standard-hwa": preset("standard-hwa"),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def copies_of(noise: WeightNoise | ChipModel, dtype: torch.dtype, width: int = WIDTH, **setting: Any) -> float:
    """The peak of an evaluation on two chips, in copies of the parameters."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(LAYERS))).to(dtype)
    data = torch.randn(EXAMPLES, width, dtype=dtype), torch.randint(width, (EXAMPLES,))
    peak, _ = memory_of(lambda: evaluate(model, data, noise, trials=2, **setting))
    return round(peak / sum(weight.nbytes for weight in model.parameters()), 3)


def main() -> None:
    """Measure and write the record."""
    torch.set_num_threads(1)
    found = {
        name: {word: copies_of(noise, dtype, **setting) for word, dtype in DTYPES.items()}
        for chip, noise in CHIPS.items()
        for name, setting in ((chip, {}), (f"{chip}, several readings", {"read_block": EXAMPLES // 2}))
    }
    write(RECORD, {"unit": "copies of the parameters beyond the model", "layers": LAYERS, "copies": found}, threads=1)
    for name, values in found.items():
        print(name, values)


if __name__ == "__main__":
    main()
