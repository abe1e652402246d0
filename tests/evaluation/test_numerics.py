"""Settings of torch that change bits: told apart, and the same in a worker as in its driver."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from samson.evaluation import Numerics

CHANGES = (
    "backends.mkldnn.enabled = False",
    "backends.mkldnn.matmul.fp32_precision = 'bf16'",
    "backends.cudnn.allow_tf32 = False",
    "backends.cudnn.conv.fp32_precision = 'ieee'",
    "backends.cudnn.benchmark = backends.cudnn.deterministic = True",
    "backends.fp32_precision = 'tf32'",
    "backends.cuda.matmul.allow_tf32 = True",
    "backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False",
    "backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False",
    "backends.cuda.matmul.allow_fp16_accumulation = True",
    "backends.cuda.enable_flash_sdp(False)",
    "backends.mha.set_fastpath_enabled(False)",
    "torch.set_flush_denormal(True)",
    "torch.set_float32_matmul_precision('medium')",
)
PROGRAM = """
import os, pickle, sys
import torch
from torch import backends
from samson.evaluation import Numerics


def in_a_new_process(work):
    out, into = os.pipe()
    if not os.fork():
        os.write(into, pickle.dumps(work()))
        os._exit(0)
    os.wait()
    return pickle.loads(os.read(out, 65536))


def driver():
    exec(change)
    return Numerics.here("cpu")


def worker():
    with set_there.held():
        return Numerics.here("cpu")


fresh = Numerics.here("cpu")
for change in sys.argv[1:]:
    set_there = in_a_new_process(driver)
    print(set_there != fresh, in_a_new_process(worker) == set_there)
"""


def test_a_worker_computes_within_the_drivers_block_of_autocast() -> None:
    model, x = torch.nn.Linear(5, 3), torch.randn(4, 5)
    exact = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        driver, coarse = Numerics.here("cpu"), model(x)
    assert not torch.equal(coarse.float(), exact)
    with driver.held():
        assert torch.equal(model(x), coarse)
    assert torch.equal(model(x), exact)
    with pytest.raises(RuntimeError, match="torch 1.0, but one has"), replace(driver, torch_version="1.0").held():
        pass


def test_a_new_worker_has_the_settings_of_its_driver() -> None:
    """In processes of their own, since some settings cannot be taken back."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, "pass", *CHANGES], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False True", *["True True"] * len(CHANGES)]
