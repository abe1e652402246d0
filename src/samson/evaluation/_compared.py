"""The result of a comparison of models: its table, plot, record and page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from samson._shown import number_form
from samson.records import ChipKind, PairedMethod, PairedRecord, Subject, replace_file, write_json
from samson.statistics import Paired, family

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Compared(Paired):
    """Methods that were put on the same chips (see `Paired`), and what to show of them.

    Args:
        kind: The kind of chip.
        subject: What was measured, on what, and how.

    Example:
        >>> from torch import nn, randint, randn
        >>> from samson.evaluation import compare
        >>> from samson.noise import Gaussian
        >>> data = randn(64, 4), randint(3, (64,))
        >>> found = compare({"a": nn.Linear(4, 3), "b": nn.Linear(4, 3)}, data, Gaussian(0.1), trials=5)
        >>> [row["name"] for row in found.table()]
        ['a', 'b']
    """

    kind: ChipKind
    subject: Subject

    def __str__(self) -> str:
        covered = {name: str(networks[0].coverage) for name, networks in self.models.items()}
        same = len(set(covered.values())) == 1
        lines = covered.values() if same else (f"{name} {text}" for name, text in covered.items())
        on_chip = "; ".join(dict.fromkeys(lines))
        better = "" if self.subject.higher_is_better else " (less is better)"
        return f"{self.subject.metric}{better} of {super().__str__()}\nChips: {self.kind}\nOn the chip: {on_chip}"

    def _more(self, name: str) -> dict[str, str]:
        value = fmean(network.clean for network in self.models[name])
        return {"without noise": f"{value:{number_form(value)}}"}

    def record(self, baseline: str | None = None) -> PairedRecord:
        """Every trial, and what follows from them.

        Args:
            baseline: The method to which the others are compared; None is the first.

        Raises:
            ValueError: If the baseline is unknown.
        """
        baseline = next(iter(self.models)) if baseline is None else baseline
        rows = {name: row for (_, name), row in family({"": self}, baseline).rows.items()}
        methods = []
        for name, networks in self.models.items():
            row, covered = rows.get(name), networks[0].coverage
            methods.append(
                PairedMethod(
                    name=name,
                    trials=tuple(network.trials for network in networks),
                    clean=tuple(network.clean for network in networks),
                    mean=self.mean(name),
                    gain=None if row is None else row.interval,
                    p_value=None if row is None else row.p_value,
                    unit="" if row is None else row.unit,
                    common_chips=row is None or row.common_chips,
                    coverage=None if covered is None else covered.share,
                    multiply_adds=None if covered is None else covered.multiply_adds,
                )
            )
        return PairedRecord(self.subject, self.kind, baseline, tuple(methods))

    def table(self, baseline: str | None = None) -> list[dict[str, Any]]:
        """One row a method, for example for `pandas.DataFrame`; `print` shows them as text.

        `difference` is the method's mean less the baseline's: better where it is above 0, or below for a loss.
        """
        rows = [asdict(method) for method in self.record(baseline).methods]
        for row in rows:
            row["difference"] = row.pop("gain")
            row["networks"], row["chips"] = len(row["trials"]), len(row.pop("trials")[0])
        return rows

    def plot(self, baseline: str | None = None) -> Figure:
        """Every chip and the means with their intervals, as a figure of plotly.

        Raises:
            ImportError: If plotly, of the extra `cli`, is missing.
        """
        from samson.report import figure_of, paired_figure

        return figure_of(paired_figure(self.record(baseline)))

    def save(self, path: Path | str, baseline: str | None = None) -> None:
        """Write the record as JSON, which `samson.records.read_json(path, PairedRecord)` reads."""
        write_json(Path(path), self.record(baseline))

    def page(self, path: Path | str, baseline: str | None = None) -> None:
        """Write a page with table and plot in one HTML file, which opens offline."""
        from samson.report import paired_page

        replace_file(Path(path), paired_page(self.record(baseline)).encode())
