"""The answers of `docs/evidence.md`: to each hypothesis by the rule in `hypotheses.md`, and who won how often."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scipy.stats import kendalltau

from benchmarks.evidence import CRITERIA, FOUND, METHODS, TASKS, label_of
from benchmarks.evidence_found import GAUSSIAN, NO_NOISE, Found, informed
from samson.statistics import holm

LEVEL = 0.05
DECIDING = 5
"""Seeds that a task needs to decide."""
MARGINS = {True: 0.005, False: 0.02}
"""What the range ball may lose without noise: of a fraction, and of bits."""
RANGE_BALL = "rangesam+clip"

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
        """Whether its task has seeds enough."""
        return TASKS[self.found.task].confirming >= DECIDING

    @property
    def relative(self) -> float:
        """The gain in units that fractions and bits have in common."""
        return self.gain / MARGINS[self.found.is_fraction]

    def __str__(self) -> str:
        return f"{self.words}, on {self.found.task} ({self.found.in_words(self.gain)})"


def compared(
    tasks: Tasks, ours: str, theirs: Iterable[str], kinds: Callable[[Found], Iterable[str]]
) -> list[Comparison]:
    """Ours against others on every task that has both, at each kind of chip."""
    return [
        Comparison(found, f"{ours} − {other}, {kind}", float(gain.mean()), found.p_value(gain))
        for found in tasks.values()
        for other in theirs
        if {ours, other} <= set(found.table)
        for kind in kinds(found)
        for gain in [found.gain(ours, other, [kind])]
    ]


def verdict(comparisons: Sequence[Comparison], *, also: bool = True) -> str:
    """Sentences on a family of comparisons; `also` is what else must hold."""
    deciding = [one for one in comparisons if one.decides]
    if not deciding:
        return "Not measured yet."
    clear = [p < LEVEL for p in holm([one.p_value for one in deciding])]
    better = [one for one, sure in zip(deciding, clear, strict=True) if sure and one.gain > 0]
    worse = [one for one, sure in zip(deciding, clear, strict=True) if sure and one.gain < 0]
    tasks = list(dict.fromkeys(one.found.task for one in deciding))
    shown = {one.found.task for one in better} == set(tasks)
    answer = "Confirmed" if also and shown and all(one.gain > 0 for one in deciding) else "Not confirmed"
    text = (
        f"**{answer}** on {', '.join(tasks)}: of {len(deciding)} comparisons {_pointing(deciding)} point its way, "
        f"{len(better)} are significant, {len(worse)} are significant the other way. Least in its favour: "
        f"{min(deciding, key=lambda one: one.relative)}."
    )
    others = [one for one in comparisons if not one.decides]
    for task in dict.fromkeys(one.found.task for one in others):
        own = [one for one in others if one.found.task == task]
        text += f" On {task} {_pointing(own)} of {len(own)} point its way."
    return text


def _pointing(comparisons: Iterable[Comparison]) -> int:
    return sum(one.gain > 0 for one in comparisons)


def noisy(found: Found) -> list[str]:
    """Without noise, and each Gaussian level."""
    return [NO_NOISE, *found.gaussian]


def hypotheses(tasks: Tasks) -> str:
    """The answer to each."""
    published = informed([name for name in METHODS if "rangesam" not in name])
    later = {task: found for task, found in tasks.items() if FOUND in TASKS[task].methods}
    sharp = [f"{name}-blind" for name in ("sam", "asam")]
    first = [one for ours in ("samson-blind", "samson-p2-blind") for one in compared(tasks, ours, sharp, noisy)]
    second = compared(tasks, "samson+clip-blind", ("sam+clip-blind", "asam+clip-blind"), noisy)
    third = compared(tasks, f"{RANGE_BALL}-informed", published, lambda found: found.gaussian)
    fourth = compared(
        tasks, "clip-informed", informed(("noise", "sam", "asam", "samson")), lambda found: found.gaussian[-2:]
    )
    loss = min(compared(tasks, f"{RANGE_BALL}-informed", published, lambda _: [NO_NOISE]), key=lambda one: one.relative)
    sixth = compared(later, f"{FOUND}-informed", [f"{RANGE_BALL}-informed"], lambda found: found.gaussian)
    seventh = compared(later, "samson-informed", informed(("sam", "asam")), noisy)
    answers = {
        "SAMSON beats SAM and ASAM, without noise and with it": verdict(first),
        "So it does in composition with clipping": verdict(second),
        "The range ball with clipping beats every published method at every level, at no loss of clean accuracy": (
            f"{verdict(third, also=loss.relative > -1)} Without noise, where half a point or .02 bits may be lost, it "
            f"comes off worst in: {loss}."
        ),
        "Clipping alone beats noise, SAM, ASAM and SAMSON at the two largest levels": verdict(fourth),
        "Orders carry over from Gaussian noise to other chips": carried(tasks),
        "A learned range in place of clipping makes the range ball better still": verdict(sixth),
        "With settings chosen on noisy chips, too, SAMSON beats SAM and ASAM": verdict(seventh),
    }
    return "\n".join(f"{number}. {claim}. {answer}" for number, (claim, answer) in enumerate(answers.items(), start=1))


def carried(tasks: Tasks) -> str:
    """Kendall's correlation over methods between the mean over Gaussian levels and that of each other family."""
    words, deciding = [], []
    for task, found in tasks.items():
        methods = [name for name in informed(list(METHODS)) if name in found.table]
        of = {family: [found.mean(m, kinds).mean() for m in methods] for family, kinds in found.families.items()}
        taus = {
            family: float(kendalltau(of[GAUSSIAN], values).statistic)
            for family, values in of.items()
            if family not in (NO_NOISE, GAUSSIAN)
        }
        if TASKS[task].confirming >= DECIDING:
            deciding += taus.values()
        words.append(f"{task}: " + ", ".join(f"{family} {tau:.2f}" for family, tau in taus.items()))
    answer = "Confirmed" if min(deciding) > 0.5 else "Not confirmed"
    return (
        f"**{answer}**; Kendall's correlation over methods of the mean over Gaussian levels with that over each other "
        f"family: {'; '.join(words)}. Where methods hardly differ on a family, chance alone keeps it low."
    )


def wins(tasks: Tasks) -> list[list[str]]:
    """For each method how often it was better, not distinguishable, worse; the best first.

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
            clear = [p < LEVEL for p in holm([found.p_value(gain) for found, gain in gains])]
            won = sum(bool(sure and gain.mean() > 0) for sure, (_, gain) in zip(clear, gains, strict=True))
            lost = sum(bool(sure and gain.mean() < 0) for sure, (_, gain) in zip(clear, gains, strict=True))
            rows.append((won - lost, [ours, str(won), str(len(gains) - won - lost), str(lost)]))
    return [cells for _, cells in sorted(rows, key=lambda row: -row[0])]


def in_short(found: Found) -> str:
    """What to take on a task: the best method with one gradient a step and with two, on Gaussian chips."""
    sign, kinds = TASKS[found.task].sign, found.gaussian
    methods = [name for name in informed(list(METHODS)) if name in found.table]
    cost = found.gradients("plain")

    def best(methods: list[str]) -> str:
        return max(methods, key=lambda method: sign * found.mean(method, kinds).mean())

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
        f"There the best with one gradient a step is `{short(cheap)}`, {on_chips[1]}; the best with two is "
        f"`{short(dear)}`, {on_chips[2]}, better by {found.spread(gain)} {'points' if found.is_fraction else 'bits'} "
        f"({surely} at {LEVEL}, not corrected for having chosen the best)."
    )


def short(label: str) -> str:
    """A method's name without the criterion."""
    for criterion in CRITERIA:
        label = label.removesuffix(f"-{criterion}")
    return label
