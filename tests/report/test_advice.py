"""Which method a report says to take."""

from dataclasses import replace

import pytest

from samson.records import RunRecord
from samson.report import advice, advice_in_short, render, views
from tests.builders import comparison, family, record, with_plan
from tests.report.test_report import in_bits

PLAN = with_plan(methods={"sgd": {}, "clip": {}, "samson": {}}, seeds=3)
GRADIENTS = {"sgd": 100, "clip": 100, "samson": 200}


def runs(**means: list[float]) -> list[RunRecord]:
    """By method, the mean over chips of each seed's network: .1 lower at the second level."""
    found = [
        record(method, seed, [[0.99], [mean + 0.05] * 3, [mean - 0.05] * 3], PLAN)
        for method, of_seeds in means.items()
        for seed, mean in enumerate(of_seeds)
    ]
    return [replace(r, training=replace(r.training, gradients=GRADIENTS[r.method])) for r in found]


SGD, CLIP = [0.60, 0.62, 0.64], [0.80, 0.82, 0.85]


def test_what_is_surely_best_is_taken() -> None:
    said = advice(views(runs(sgd=SGD, clip=CLIP, samson=[0.90, 0.92, 0.95])))
    assert said.startswith("Take <b>samson</b>: its mean accuracy on noisy chips is 92.3 %, better by 30.3 ±2.1 points")
    assert "than that of sgd, for twice the gradient computations; without noise it is 99.0 %" in said
    assert "chance" not in said
    assert said.endswith(" Intervals are 97.5 %, to allow for 2 comparisons, over 3 training seeds.")


def test_what_takes_fewer_gradients_is_taken_where_the_best_may_be_so_by_chance() -> None:
    said = advice(views(runs(sgd=SGD, clip=CLIP, samson=[0.86, 0.80, 0.86])))
    assert said.startswith(
        "Take <b>clip</b>: its mean accuracy on noisy chips is 82.3 %, better by 20.3 ±2.1 points than"
    )
    assert "for as many gradient computations" in said
    assert "<b>samson</b> is better by another 1.7 ±14.5 points, which may be chance, for twice the gradient" in said
    dear = runs(sgd=SGD, clip=CLIP, samson=[0.90, 0.92, 0.95])
    dear = [replace(r, training=replace(r.training, gradients={"sgd": 100}.get(r.method, 250))) for r in dear]
    assert "points than that of sgd, for 2.5\N{NO-BREAK SPACE}× the gradient computations" in advice(views(dear))


def test_plain_training_is_taken_where_nothing_is_surely_better() -> None:
    said = advice(views(runs(sgd=[0.80, 0.62, 0.64], samson=[0.79, 0.72, 0.64])))
    assert said.startswith("Take <b>sgd</b>: no method is surely better on noisy chips. <b>samson</b> is better by")


def test_a_method_that_another_is_surely_ahead_of_is_not_taken() -> None:
    """Samson is best by chance alone; clip is surely better than plain training, which is therefore not as good."""
    found = runs(sgd=[0.60, 0.60, 0.60], clip=[0.700, 0.701, 0.699], samson=[0.60, 0.73, 0.86])
    cost = GRADIENTS | {"clip": 150}  # plain training takes the fewest
    said = advice(views([replace(r, training=replace(r.training, gradients=cost[r.method])) for r in found]))
    assert said.startswith("Take <b>clip</b>: its mean accuracy on noisy chips is 70.0 %, better by 10.0 ±0.4 points")
    assert "<b>samson</b> is better by another 3.0 ±46.8 points, which may be chance" in said


def by_own_trainer(found: list[RunRecord], *methods: str) -> list[RunRecord]:
    """As where a trainer of one's own does not say how many gradients these methods took."""
    return [
        replace(run, training=replace(run.training, gradients=None)) if run.method in methods else run for run in found
    ]


@pytest.mark.parametrize("unknown", [("sgd", "clip", "samson"), ("clip",)])
def test_an_unknown_cost_is_not_the_fewest_gradients(unknown: tuple[str, ...]) -> None:
    """Nothing is surely better, and then it is plain training; clip's mean is the best."""
    found = runs(sgd=[0.80, 0.62, 0.64], clip=[0.79, 0.74, 0.64], samson=[0.79, 0.72, 0.64])
    said = advice(views(by_own_trainer(found, *unknown)))
    assert said.startswith("Take <b>sgd</b>: no method is surely better on noisy chips. <b>clip</b> is better by")
    sure = runs(sgd=SGD, clip=CLIP, samson=[0.86, 0.80, 0.86])
    said = advice(views(by_own_trainer(sure, *unknown)))
    assert said.startswith("Take <b>samson</b>"), "the best, where plain training is surely behind"


def test_a_gain_that_is_not_sure_may_be_chance() -> None:
    """Clip takes as many gradients as plain training; gains of −1, 2 and 1 points are .67 ±3.79."""
    said = advice(views(runs(sgd=[0.60, 0.62, 0.64], clip=[0.59, 0.64, 0.65])))
    assert said.startswith(
        "Take <b>clip</b>: its mean accuracy on noisy chips is 62.7 %, better by 0.7 ±3.8 points than"
    )
    assert (
        "than that of sgd, which may be chance, for as many gradient computations; without noise it is 99.0 %" in said
    )


def test_an_interval_ends_where_a_difference_of_fractions_can_be() -> None:
    """Two gains, of −10 and 20 points: Student's interval of them is ±191."""
    said = advice(views(runs(sgd=[0.6, 0.7], samson=[0.5, 0.9])))
    assert "<b>samson</b> is better by another 5.0 [−100.0, +100.0] points" in said


def without(found: list[RunRecord], method: str, *seeds: int) -> list[RunRecord]:
    """As where these seeds of a method diverged."""
    return [run for run in found if run.method != method or run.seed not in seeds]


def test_a_diverged_seed_does_not_count_for_the_others() -> None:
    """Seed 0 is the worst: the mean of samson's other two is the larger one, and each is .02 worse than plain's."""
    unequal = {"sgd": [0.50, 0.60, 0.70], "samson": [0.1, 0.58, 0.68]}
    said = advice(views(without(runs(**unequal), "samson", 0)))
    assert said == (
        "Take <b>sgd</b>: no method is surely better on noisy chips. Intervals are 95 %, over 2 training seeds."
    )
    better = {"sgd": [0.50, 0.60, 0.70], "samson": [0.1, 0.65, 0.75]}
    said = advice(views(without(runs(**better), "samson", 0)))
    assert "its mean accuracy on noisy chips is 70.0 %, better by 5.0 ±0.7 points than that of sgd" in said
    assert said.endswith("Intervals are 95 %, over 2 training seeds.")
    clip = {"sgd": [0.50, 0.60, 0.70], "clip": [0.56, 0.65, 0.75], "samson": [0.1, 0.1, 0.90]}
    said = advice(views(without(runs(**clip), "samson", 0, 1)))  # one seed is not told from chance
    assert said.startswith("Take <b>clip</b>: its mean accuracy on noisy chips is 65.3 %")
    assert said.count("samson") == said.count(" Too few training seeds to judge samson. Intervals are") == 1
    assert said.endswith("over 3 training seeds.")
    # Samson gains more over plain training on two seeds than clip on three, and on those two less than clip.
    both = {"sgd": [0.60, 0.62, 0.64], "clip": [0.70, 0.92, 0.95], "samson": [0.1, 0.91, 0.94]}
    said = advice(views(without(runs(**both), "samson", 0)))
    assert said.startswith("Take <b>clip</b>")
    assert "another" not in said


@pytest.mark.parametrize(
    ("lower", "noisy"), [(False, "62.2 %, better by 1.2 ±0.7 points"), (True, "1.3783, better by 0.0117 ±0.0072")]
)
def test_values_beside_a_gain_are_of_the_same_seeds(lower: bool, noisy: str) -> None:
    """Samson's seed 3 is bad, without noise too, and that of plain training diverged."""
    found = runs(sgd=[0.60, 0.61, 0.62], samson=[0.61, 0.625, 0.63, 0.10])
    found = [replace(r, clean=0.2) if r.seed == 3 else r for r in found]
    said = advice(views([in_bits(run) for run in found] if lower else found))
    assert f"Take <b>samson</b>: its mean {'bits-per-token' if lower else 'accuracy'} on noisy chips is {noisy}" in said
    assert ("is 1.0100, that of sgd 1.0100." if lower else "is 99.0 %, that of sgd 99.0 %.") in said
    assert said.endswith("over 3 training seeds.")
    one = advice(views(without(found, "sgd", 1, 2)))
    assert one.startswith("<b>samson</b> is ahead: its mean accuracy on noisy chips is 61.0 %, better by 1.0 points")


def test_what_diverged_of_the_method_that_is_taken_is_said() -> None:
    def with_diverged(*seeds: int) -> list[RunRecord]:
        found = runs(sgd=[0.60, 0.61, 0.62, 0.63, 0.64], clip=[0.80, 0.81, 0.82, 0.83, 0.84])
        for i, r in enumerate(found):
            if r.method == "clip" and r.seed in seeds:
                found[i] = replace(r, training=replace(r.training, diverged_at=1), clean=None, measured=())
        return found

    most, one_left = views(with_diverged(0, 1, 2)), views(with_diverged(0, 1, 2, 3))
    assert "sgd 99.0 %. 3 of its 5 trainings diverged. Intervals are 95 %, over 2 training seeds" in advice(most)
    short = "take <b>clip</b>, better by 20.0 points than sgd, though 3 of its 5 trainings diverged"
    assert advice_in_short(most) == short
    assert "than that of sgd. 4 of its 5 trainings diverged. One training seed" in advice(one_left)
    assert advice_in_short(one_left).endswith("on one training seed, though 4 of its 5 trainings diverged")
    assert "diverged" not in advice(views(with_diverged()))


def test_seeds_are_counted_over_all_methods_that_are_judged() -> None:
    """Clip is taken and the best; of samson, which is worse, a seed is missing."""
    found = runs(sgd=SGD, clip=CLIP, samson=[0.60, 0.62, 0.64])
    assert advice(views(found)).endswith("over 3 training seeds.")
    said = advice(views(without(found, "samson", 2)))
    assert said.startswith("Take <b>clip</b>")
    assert said.endswith("over 2 training seeds.")
    two = runs(sgd=[0.60, 0.61, 0.62], samson=[0.1, 0.80, 0.82, 0.83])
    assert advice(views(without(two, "samson", 0))).endswith("over 2 training seeds."), "those that both have"
    # Clip and samson have two seeds in common, which are looked at only where the one is taken and the other the best.
    for plain, seeds in (([*SGD, 0.66], 2), ([0.95] * 4, 3)):
        four = runs(sgd=plain, clip=[0.80, 0.82, 0.84, 0.1], samson=[0.1, 0.84, 0.83, 0.89])
        four = without(without(four, "clip", 3), "samson", 0)
        assert advice(views(four)).endswith(f"over {seeds} training seeds.")


@pytest.mark.parametrize("seeds", [(0, 1), (0, 1, 2)])
def test_without_an_interval_none_is_spoken_of(seeds: tuple[int, ...]) -> None:
    """Samson is worse, on the seeds that are left of four: one that plain training has, or none."""
    found = runs(sgd=SGD, samson=[0.5] * 4)
    said = advice(views([r for r in found if r.method == "sgd" or r.seed not in seeds]))
    assert said == "Take <b>sgd</b>: no method is surely better on noisy chips."


@pytest.mark.parametrize("method", ["sgd", "samson"])
def test_a_single_seed_of_either_decides_nothing(method: str) -> None:
    """The gain is over the seed that both have, .02, and not between means."""
    found = {"sgd": [0.60, 0.50, 0.70], "samson": [0.62, 0.70, 0.90]}
    said = advice(views(without(runs(**found), method, 1, 2)))
    assert said.startswith("<b>samson</b> is ahead")
    assert said.endswith("better by 2.0 points than that of sgd. One training seed can't tell whether that is chance.")


def test_one_seed_decides_nothing() -> None:
    said = advice(views(runs(sgd=SGD[:1], samson=[0.9])))
    assert said.startswith("<b>samson</b> is ahead: its mean accuracy on noisy chips is 90.0 %, better by 30.0 points")
    assert "One training seed can't tell" in said


def test_no_method_is_ahead_where_all_are_equal() -> None:
    chance = "One training seed can't tell whether that is chance."
    for alone in (runs(sgd=[0.9]), runs(sgd=[0.9], clip=[0.9], samson=[0.9])):
        said = advice(views(alone))
        ahead = "No method is ahead: the" if len(alone) > 1 else "The"
        assert said.startswith(f"{ahead} mean accuracy on noisy chips is 90.0 %.")
        assert said.endswith(chance) == (len(alone) > 1)
        short = "no method is ahead, on one training seed" if len(alone) > 1 else "<b>sgd</b> alone"
        assert advice_in_short(views(alone)) == short
    several = on_pcm(runs(sgd=[0.6, 0.7]), sgd=[0.5, 0.6])
    assert advice(views(runs(sgd=[0.6, 0.7]))) == "The mean accuracy on noisy chips is 65.0 %."
    assert advice(views(several)) == "The accuracy in the mean over gaussian and pcm chips is 60.0 %."
    two = views(runs(sgd=[0.6], clip=[0.9], samson=[0.9]))
    assert advice(two) == (
        "<b>clip</b> and <b>samson</b> are ahead: their mean accuracy on noisy chips is 90.0 %, better by 30.0 points "
        f"than that of sgd. {chance}"
    )
    assert advice_in_short(two) == "<b>clip</b> and <b>samson</b> are ahead of sgd by 30.0 points, on one training seed"
    with_sgd = advice_in_short(views(runs(sgd=[0.9], clip=[0.9], samson=[0.6])))
    assert with_sgd == "<b>sgd</b> and <b>clip</b> are ahead, on one training seed"
    families = on_pcm(runs(sgd=[0.6], samson=[0.9]), sgd=[0.5], samson=[0.5])
    assert "alone" not in advice(views(families)), "on pcm none is ahead"
    turned = advice(views(on_pcm(runs(sgd=[0.6], samson=[0.9]), sgd=[0.9], samson=[0.6])))
    assert "On gaussian alone: samson, perhaps. On pcm alone: sgd." in turned


def test_a_method_that_is_worse_than_plain_training_is_not_taken() -> None:
    """Clip's seeds lie so far apart that samson is not surely better, nor is plain training."""
    said = advice(views(runs(sgd=[0.80, 0.81, 0.80], clip=[0.60, 0.94, 0.75], samson=[0.90, 0.91, 0.90])))
    assert said.startswith("Take <b>samson</b>")


def test_methods_without_a_common_seed_differ_by_their_means() -> None:
    apart = [
        replace(run, seed=run.seed + 3) if run.method == "samson" else run for run in runs(sgd=SGD, samson=[0.9] * 3)
    ]
    assert "is better by another 28.0 points, which may be chance" in advice(views(apart))


def on_pcm(found: list[RunRecord], **means: list[float]) -> list[RunRecord]:
    """The same networks on a second family of chips, of one kind, with each seed's mean by method."""
    pcm = family((0.1,), name="pcm")
    return [
        replace(r, families=(*r.families, pcm), measured=(*r.measured, ((means[r.method][r.seed],) * 3,)))
        for r in found
    ]


def test_every_family_of_chips_has_a_say_of_the_same_size() -> None:
    """Clip leads on one family of two kinds, samson by more on one of a single kind."""
    first = runs(sgd=SGD, clip=CLIP, samson=[0.75, 0.77, 0.79])
    both = on_pcm(first, sgd=[0.5] * 3, clip=[0.6] * 3, samson=[0.7] * 3)
    assert "Take <b>clip</b>" in advice(views(first))
    said = advice(views(both))
    assert said.startswith("Take <b>samson</b>: its accuracy in the mean over gaussian and pcm chips is 73.5 %, better")
    assert said.count("alone") == said.count("On gaussian alone: clip. Intervals") == 1


def test_families_of_chips_that_disagree_are_told() -> None:
    """Gains of .09, .40 and .25 on one family, of .10, −.21 and −.06 on the other: .095 in the mean, for every seed."""
    sgd = [0.50, 0.51, 0.52]
    gains = {"gaussian": (0.09, 0.40, 0.25), "pcm": (0.10, -0.21, -0.059)}
    first, other = ([a + gain for a, gain in zip(sgd, of, strict=True)] for of in gains.values())
    found = on_pcm(runs(sgd=sgd, samson=first), sgd=sgd, samson=other)
    for family_alone in views(found):
        assert "Take <b>sgd</b>: no method is surely better on noisy chips." in advice([family_alone])
    said = advice(views(found))
    assert "better by 9.5 ±0.2 points than that of sgd, though surely on no family of chips alone, for twice" in said
    assert " On gaussian alone: sgd. On pcm alone: sgd. Intervals are 95 %, over 3 training seeds." in said
    sure = on_pcm(runs(sgd=sgd, samson=[0.79, 0.81, 0.82]), sgd=sgd, samson=[0.44, 0.45, 0.46])
    said = advice(views(sure))
    assert "Take <b>samson</b>" in said
    assert "though" not in said
    assert said.count("alone") == said.count("On pcm alone: sgd.") == 1
    # Gains of .1 ± .035 over seeds, t = 5: sure at 95 %, and not where two families share that.
    near = advice(views(on_pcm(runs(sgd=sgd, samson=[0.565, 0.61, 0.655]), sgd=sgd, samson=[0.635, 0.61, 0.586])))
    assert "better by 10.0 ±0.2 points than that of sgd, though surely on no family of chips alone" in near
    plain = advice(views(on_pcm(runs(sgd=SGD, samson=[0.70, 0.72, 0.75]), sgd=[0.5] * 3, samson=[0.2, 0.6, 0.5])))
    assert plain.startswith("Take <b>sgd</b>: no method is surely better in the mean over gaussian and pcm chips.")
    assert "On gaussian alone: samson." in plain
    seed = advice(views([run for run in sure if run.seed == 0]))
    assert seed.endswith("One training seed can't tell whether that is chance. On pcm alone: sgd.")


@pytest.mark.parametrize("lower", [False, True])
def test_better_may_be_lower_and_the_page_says_it_first(lower: bool) -> None:
    found = runs(sgd=SGD, samson=[0.90, 0.92, 0.95])
    found = [in_bits(run) for run in found] if lower else found
    said = advice(views(found))
    assert said.startswith("Take <b>samson</b>")
    assert ("is 1.077, better by 0.303 ±0.014 than" if lower else "is 92.3 %, better by 30.3 ±1.4 points than") in said
    assert f'<p class="lead">{said}</p>' in render(comparison(found, PLAN))
