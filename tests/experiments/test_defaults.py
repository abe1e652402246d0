"""The default settings are what the recorded search on the validation split chose."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search_digits import GRIDS, RECORD
from samson.experiments import BASE, DEFAULTS, METHODS, plan_comparison

RECORDED = json.loads(Path(RECORD).read_text())
METHODS_SEARCHED = RECORDED["methods"]


def test_every_method_had_equal_effort() -> None:
    assert set(METHODS_SEARCHED) == set(GRIDS)
    assert set(METHODS) <= set(GRIDS)
    for name, search in METHODS_SEARCHED.items():
        assert len(search["candidates"]) == 12
        for candidate in search["candidates"]:
            assert set(candidate["settings"]) == set(GRIDS[name])
            assert np.shape(candidate["by_seed_and_level"]) == (len(RECORDED["seeds"]), len(RECORDED["levels"]))


def test_the_search_saw_nothing_of_the_comparison() -> None:
    configuration, _ = plan_comparison()
    assert RECORDED["split"] == "validation"
    assert RECORDED["chip_seed"] != configuration.chip_seed
    assert not set(RECORDED["seeds"]) & set(range(configuration.seeds))
    assert (RECORDED["epochs"], RECORDED["batch_size"]) == (configuration.epochs, configuration.batch_size)
    assert RECORDED["base"] == BASE


@pytest.mark.parametrize("name", [name for name in GRIDS if name != "sgd"])
def test_the_winner_is_the_default(name: str) -> None:
    search = METHODS_SEARCHED[name]
    scores = [np.mean(candidate["by_seed_and_level"]) for candidate in search["candidates"]]
    assert search["candidates"][int(np.argmax(scores))]["settings"] == search["best"]
    [method] = plan_comparison(methods=[name])[1]
    assert {key: method.settings[key] for key in search["best"]} == search["best"]
    assert DEFAULTS[name] == search["best"]
