"""The default settings are what the recorded search on the validation split chose."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search_digits import GRIDS, NETWORK, RECORD
from samson.experiments import ALIASES, BASES, METHODS, TUNED, default_settings, plan_suite

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
    plan = plan_suite({})
    recipe = plan.problems[0].recipe
    assert RECORDED["split"] == "validation"
    assert RECORDED["chip_seed"] != plan.chip_seed
    assert not set(RECORDED["seeds"]) & set(range(plan.seeds))
    assert (RECORDED["epochs"], RECORDED["batch_size"]) == (recipe.epochs, recipe.batch_size)
    assert RECORDED["base"] == BASES["SGD"]


@pytest.mark.parametrize("name", [name for name in GRIDS if name not in ("sgd", *ALIASES)])
def test_the_winner_is_the_default(name: str) -> None:
    search = METHODS_SEARCHED[name]
    scores = [np.mean(candidate["by_seed_and_level"]) for candidate in search["candidates"]]
    assert search["candidates"][int(np.argmax(scores))]["settings"] == search["best"]
    [method] = plan_suite({"methods": [name]}).problems[0].methods
    assert {key: method.settings[key] for key in search["best"]} == search["best"]
    assert TUNED["digits"][name] == search["best"]


def test_settings_are_defaults_for_the_network_that_they_were_found_with_alone() -> None:
    first, second = plan_suite({"methods": ["samson+clip"], "network": ["small-resnet", "mlp"]}).problems
    assert first.record.network == NETWORK
    assert first.methods[0].settings["alpha"] == TUNED["digits"]["samson+clip"]["alpha"] == 1.2
    assert second.methods[0].settings == default_settings("samson+clip")
    assert second.methods[0].settings["alpha"] == 2
