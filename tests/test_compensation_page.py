"""The page of compensations is what its record says, and the record's summaries are those of its trials."""

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.compensation_page import PAGE, RECORD, page

RECORDED = json.loads(RECORD.read_text(encoding="utf-8"))
TABLES = {**RECORDED["drift"], "ranges": RECORDED["ranges"]}


def interval(values: np.ndarray) -> list[float]:
    """Mean and 95 % interval by Student's t with Hall's correction for skewness."""
    n, mean, std = len(values), values.mean(), values.std(ddof=1)
    skew = n / (n - 1) / (n - 2) * ((values - mean) ** 3).sum() / std**3 if std else 0.0
    ends = stats.t.ppf([0.975, 0.025], n - 1) / np.sqrt(n)
    if abs(skew) > 1e-6:
        ends = 3 / skew * (np.cbrt(1 + skew * (ends - skew / (6 * n))) - 1)
    return [mean, *(mean - std * ends)]


def test_the_page_is_made_from_the_record() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(RECORDED)
    RECORDED["ranges"]["calibrated, largest"]["networks"][0][0] += 0.01
    assert text != page(RECORDED)  # the check can fail
    RECORDED["ranges"]["calibrated, largest"]["networks"][0][0] -= 0.01


@pytest.mark.parametrize("name", TABLES)
def test_summaries_are_those_of_the_trials(name: str) -> None:
    settings: dict[str, Any] = TABLES[name]
    off = np.array(next(iter(settings.values()))["accuracies"])
    for setting in settings.values():
        own = np.array(setting["accuracies"])
        assert own.shape == (len(RECORDED["seeds"]), RECORDED["chips"])
        np.testing.assert_allclose(setting["networks"], [interval(chips) for chips in own], atol=2e-6)
        if setting["difference"]:
            np.testing.assert_allclose(setting["difference"], interval((own - off).mean(axis=0)), atol=2e-6)
