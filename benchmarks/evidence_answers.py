"""The answers of `docs/evidence.md`: to each hypothesis by the rule in `hypotheses.md`, and who won how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scipy.stats import kendalltau

from benchmarks import alike, longer, published
from benchmarks.evidence import CRITERIA, LEARNED, METHODS, TASKS, bare, label_of, winners
from benchmarks.evidence_found import DIGITS, GAUSSIAN, NO_NOISE, Found, in_words, informed
from samson.statistics import holm

LEVEL = 0.05
DECIDING = 5
"""Seeds that a comparison needs to decide."""
MARGINS = {True: 0.005, False: 0.02}
"""What the range ball may lose without noise: of a fraction, and of bits."""
RANGE_BALL = "rangesam+clip"

Names = Sequence[str]
Kinds = Callable[[Found], Iterable[str]]
Tasks = dict[str, Found]
"""The whole trainings of each task."""


@dataclass(frozen=True)
class Comparison:
    """One comparison of a hypothesis: by how much ours is better, and its p-value."""

    found: Found
    words: str
    gain: float
    p_value: float

    @property
    def decides(self) -> bool:
        """Whether it has seeds enough."""
        return self.found.seeds >= DECIDING

    @property
    def relative(self) -> float:
        """The gain in units that fractions and bits have in common."""
        return self.gain / MARGINS[self.found.is_fraction]

    def __str__(self) -> str:
        return f"{self.words}, on {self.found.task} ({self.found.in_words(self.gain)})"


def compared(tasks: Tasks, ours: Names, theirs: Names, kinds: Kinds) -> list[Comparison]:
    """Each of ours against each of theirs on every task that has both, at each kind of chip."""
    return [
        Comparison(found, f"{one} − {other}, {kind}", float(gain.mean()), found.p_value(gain))
        for found in tasks.values()
        for one in ours
        for other in theirs
        if {one, other} <= set(found.table)
        for kind in kinds(found)
        for gain in [found.gain(one, other, [kind])]
    ]


def verdict(tasks: Tasks, ours: Names, theirs: Names, kinds: Kinds, *, also: bool = True) -> str:
    """Sentences on a family of comparisons; `also` is what else must hold. Who diverged on a task has lost there."""
    comparisons = compared(tasks, ours, theirs, kinds)
    deciding = [one for one in comparisons if one.decides]
    if not deciding:
        return "Not measured yet."
    better, worse = significant([one.gain for one in deciding], [one.p_value for one in deciding])
    decided = list(dict.fromkeys(one.found.task for one in deciding))
    shown = {one.found.task for one, sure in zip(deciding, better, strict=True) if sure} == set(decided)
    lost = [(name, task) for task, found in tasks.items() for name in (*ours, *theirs) if name in found.diverged]
    also = also and not any(name in ours for name, _ in lost)
    answer = "Confirmed" if also and shown and all(one.gain > 0 for one in deciding) else "Not confirmed"
    against = [one for one, sure in zip(deciding, worse, strict=True) if sure]
    least = min(against or deciding, key=lambda one: one.relative)
    text = (
        f"**{answer}** on {', '.join(decided)}: {_pointing(deciding)} of {len(deciding)} comparisons point its way; "
        f"significant {_by_task(deciding, better)}, significant the other way {_by_task(deciding, worse)}. "
        f"{'The largest of these' if against else 'Least in its favour'}: {least}."
    )
    if lost:
        text += f" Diverged, and not compared: {', '.join(f'{name} on {task}' for name, task in lost)}."
    others = [one for one in comparisons if not one.decides]
    for task in dict.fromkeys(one.found.task for one in others):
        own = [one for one in others if one.found.task == task]
        text += f" On {task} {_pointing(own)} of {len(own)} point its way."
    return text


def significant(gains: Sequence[float], p_values: Sequence[float]) -> tuple[list[bool], list[bool]]:
    """Of a family of comparisons, which are better and which are worse, after Holm's correction."""
    clear = [p < LEVEL for p in holm(list(p_values))]
    better, worse = ([sure and sign * gain > 0 for sure, gain in zip(clear, gains, strict=True)] for sign in (1, -1))
    return better, worse


def _by_task(comparisons: Sequence[Comparison], chosen: Sequence[bool]) -> str:
    """How many are chosen, and on which tasks."""
    tasks = Counter(one.found.task for one, sure in zip(comparisons, chosen, strict=True) if sure)
    where = f" ({', '.join(f'{count} on {task}' for task, count in tasks.items())})" if tasks else ""
    return f"{tasks.total()}{where}"


def _pointing(comparisons: Iterable[Comparison]) -> int:
    return sum(one.gain > 0 for one in comparisons)


def noisy(found: Found) -> list[str]:
    """Without noise, and each Gaussian level."""
    return [NO_NOISE, *found.gaussian]


def levels(found: Found) -> list[str]:
    """Each Gaussian level."""
    return found.gaussian


def hypotheses(tasks: Tasks) -> str:
    """The answer to each."""
    others = informed([name for name in METHODS if "rangesam" not in name])
    later = {task: found for task, found in tasks.items() if LEARNED in TASKS[task].methods}
    ball = [f"{RANGE_BALL}-informed"]
    clean = compared(tasks, ball, others, lambda _: [NO_NOISE])
    loss = min((one for one in clean if one.decides), key=lambda one: one.relative)
    more = [one.relative <= -1 for one in clean]
    answers = {
        "SAMSON beats SAM and ASAM, without noise and with it": verdict(
            tasks, ["samson-blind", "samson-p2-blind"], ["sam-blind", "asam-blind"], noisy
        ),
        "So it does in composition with clipping": verdict(
            tasks, ["samson+clip-blind"], ["sam+clip-blind", "asam+clip-blind"], noisy
        ),
        "The range ball with clipping beats every published method at every level, at no loss of clean accuracy": (
            f"{verdict(tasks, ball, others, levels, also=loss.relative > -1)} Of {len(clean)} comparisons without "
            f"noise, where half a point or .02 bits may be lost, more is lost in {_by_task(clean, more)}. The most, "
            f"where seeds decide: {loss}."
        ),
        "Clipping alone beats noise, SAM, ASAM and SAMSON at the two largest levels": verdict(
            tasks, ["clip-informed"], informed(["noise", "sam", "asam", "samson"]), lambda found: found.gaussian[-2:]
        ),
        "Orders carry over from Gaussian noise to other chips": carried(tasks),
        "A learned range in place of clipping makes the range ball better still": verdict(
            later, [f"{LEARNED}-informed"], ball, levels
        ),
        "With settings chosen on noisy chips, too, SAMSON beats SAM and ASAM": verdict(
            later, ["samson-informed"], informed(["sam", "asam"]), noisy
        ),
        **({} if alike.TASK not in tasks else of_alike(alike.whole())),
        "With the radii that their authors publish, SAMSON beats SAM and ASAM, without noise and with it": of_published(
            published.whole()
        ),
        "The range ball with clipping beats noise injection with clipping, which takes one gradient a step": verdict(
            later, ball, informed(["noise+clip"]), levels
        ),
        "Noise adds to clipping": verdict(later, informed(["noise+clip"]), informed(["clip"]), levels),
        "With four times as many epochs, too, clipping beats plain training": given_up(
            longer.whole(), informed(["clip"]), ["plain"]
        ),
        "And sharpness-aware training adds to clipping": given_up(
            longer.whole(), informed(["samson+clip", RANGE_BALL]), informed(["clip"])
        ),
    }
    return "\n".join(f"{number}. {claim}. {answer}" for number, (claim, answer) in enumerate(answers.items(), start=1))


def of_alike(found: Found) -> dict[str, str]:
    """The answers on one clipping and on shorter training, which are about one task."""
    task = {found.task: found}
    clip, sam, asam, samson, ball = (f"{method}-{alike.SAME}" for method in alike.CLIPPED)
    alone = informed(["sam", "asam", "samson"])
    return {
        "At one clipping `asam+clip` leads no more": no_lead(task, [asam], [clip, samson], levels),
        "At one clipping sharpness-aware training still adds to it": verdict(
            task, [sam, asam, samson, ball], [clip], levels
        ),
        "Plain training with half of the epochs is not behind SAM, ASAM and SAMSON": (
            f"{no_lead(task, alone, ['plain-half'], levels)} Where these three have half of the epochs too: "
            f"{no_lead({found.task: alike.half()}, alone, ['plain'], levels)}"
        ),
    }


def of_published(found: Found) -> str:
    """The answer with published radii."""
    sam, asam, samson = (f"{method}-published" for method in published.RADII)
    return verdict({found.task: found}, [samson], [sam, asam], noisy)


def given_up(found: Found, ours: Names, theirs: Names) -> str:
    """Sentences on comparisons that ended with the first seed, for what that came to."""
    pairs = [(one, other) for one in ours for other in theirs]
    better = [found.gain(*pair, [kind]).mean() > 0 for pair in pairs for kind in found.gaussian]
    clean = [f"`{bare(name)}` {found.shown(found.mean(name, [NO_NOISE]).mean())}" for name in (*ours, *theirs)]
    return (
        f"**Not confirmed** on {found.task}, and given up after the first seed: {sum(better)} of {len(better)} "
        f"comparisons point its way. Without noise: {', '.join(clean)} %."
    )


def no_lead(tasks: Tasks, ours: Names, theirs: Names, kinds: Kinds) -> str:
    """Sentences on a family of comparisons of which none may be significant for ours."""
    comparisons = compared(tasks, ours, theirs, kinds)
    better, worse = significant([one.gain for one in comparisons], [one.p_value for one in comparisons])
    most = max(comparisons, key=lambda one: one.relative)
    answer = "Not confirmed" if any(better) else "Confirmed"
    return (
        f"**{answer}** on {', '.join(tasks)}: of {len(comparisons)} comparisons {sum(better)} are significant for "
        f"{' or '.join(map(bare, ours))}, {sum(worse)} against; {_pointing(comparisons)} point for, "
        f"{len(comparisons) - _pointing(comparisons)} against. Most for: {most}."
    )


def carried(tasks: Tasks) -> str:
    """Kendall's correlation over methods between the mean over Gaussian levels and that of each other family."""
    words, confirmed = [], []
    for task, found in tasks.items():
        methods = [name for name in informed(METHODS) if name in found.table]
        of = {
            family: [found.mean(m, kinds).mean().round(DIGITS) for m in methods]
            for family, kinds in found.families.items()
        }
        taus = {
            family: float(kendalltau(of[GAUSSIAN], values).statistic)
            for family, values in of.items()
            if family not in (NO_NOISE, GAUSSIAN)
        }
        if found.seeds >= DECIDING:
            confirmed.append(all(tau > 0.5 for tau in taus.values()))
        words.append(f"{task}: " + ", ".join(f"{family} {tau:.2f}" for family, tau in taus.items()))
    answer = "Confirmed" if all(confirmed) else "Not confirmed"
    return (
        f"**{answer}**; Kendall's correlation over methods of the mean over Gaussian levels with that over each other "
        f"family: {'; '.join(words)}. Where methods hardly differ on a family, chance alone keeps it low; on "
        "tiny-shakespeare's lognormal chips they do differ, in another order."
    )


def wins(tasks: Tasks) -> list[list[str]]:
    """For each method how often it was better, not distinguishable, worse; the largest share of wins less losses first.

    Against every other of the same criterion, on each task and family of chips.
    """
    rows = []
    for criterion in CRITERIA:
        names = [label_of(method, criterion) for method in METHODS]
        for ours in names:
            if criterion == CRITERIA[1] and not ours.endswith(criterion):
                continue  # a method without settings stands among the blind ones
            gains = [
                (found, found.gain(ours, other, kinds))
                for found in tasks.values()
                for other in names
                if other != ours and {ours, other} <= set(found.table)
                for kinds in found.families.values()
            ]
            if not gains:
                continue
            p_values = [found.p_value(gain) for found, gain in gains]
            won, lost = map(sum, significant([float(gain.mean()) for _, gain in gains], p_values))
            rows.append(((won - lost) / len(gains), [ours, str(won), str(len(gains) - won - lost), str(lost)]))
    return [cells for _, cells in sorted(rows, key=lambda row: -row[0])]


def in_short(found: Found) -> str:
    """What to take on a task: the best method with one gradient a step and with two, on Gaussian chips."""
    sign, kinds = TASKS[found.task].sign, found.gaussian
    methods = [name for name in informed(METHODS) if name in found.table]
    cost = found.gradients("plain")

    def best(methods: list[str]) -> str:
        return max(methods, key=lambda method: sign * found.mean(method, kinds).mean())

    def said(label: str) -> str:
        settings = in_words(winners(found.task)[label][1])
        return f"`{bare(label)}`" + (f" ({settings})" if settings else "")

    cheap = best([name for name in methods if found.gradients(name) <= cost])
    dear = best([name for name in methods if found.gradients(name) > cost])
    clean, *on_chips = (
        found.spread(found.mean(method, where))
        for method, where in (("plain", [NO_NOISE]), ("plain", kinds), (cheap, kinds), (dear, kinds))
    )
    gain = found.gain(dear, cheap, kinds)
    surely = "significant" if found.p_value(gain) < LEVEL else "not significant"
    return (
        f"- **{found.task}** ({found.metric}): plain training {clean} without noise, {on_chips[0]} on Gaussian chips. "
        f"There the best with one gradient a step is {said(cheap)}, {on_chips[1]}; the best with two is "
        f"{said(dear)}, {on_chips[2]}: {found.spread(gain)} {found.unit} better "
        f"({surely})."
    )
