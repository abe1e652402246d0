"""How long the report of a large comparison takes to open, and how large it is.

    python -m benchmarks.report_time          # half a minute; it needs Chromium or Chrome

The comparison is made up: 20 methods with 10 seeds each, on the families of chips of the demo with 20 chips of each
kind, so 200 records of the size of real ones, with random values. `samson report` writes its page by the same function.

A browser without a screen opens the page as a file, each time in a profile of its own, so that nothing is kept from
before. Times are the browser's own, from the start of the navigation: to the end of the load event, and to the first
frame after a plot has its lines. The goal is that the later of the two is below 3 s in the median.

Writes `benchmarks/records/report-time.json` and prints it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import quartiles
from benchmarks.writing import write
from samson.experiments import noise_family
from samson.records import Comparison, Training
from samson.report import render
from tests.builders import records
from tests.report.browser import Browser

RECORD = Path(__file__).parent / "records" / "report-time.json"
METHODS, SEEDS, CHIPS, EPOCHS, OPENINGS = 20, 10, 20, 30, 5
FAMILIES = "gaussian", "pcm", "bit-errors"
GOAL_S = 3.0

WATCH = """<script>
const times = {};
const look = new MutationObserver(() => {
  if (document.querySelector(".plot .main-svg .trace path") === null) return;
  look.disconnect();
  requestAnimationFrame(() => { times.plot = performance.now(); });
});
look.observe(document, {childList: true, subtree: true});
</script>"""

TIMES = """(async () => {
  const load = () => performance.getEntriesByType("navigation")[0].loadEventEnd;
  while (!(times.plot && load())) await new Promise((done) => setTimeout(done, 10));
  return [load() / 1000, times.plot / 1000, navigator.userAgent.match(/Chrome.([0-9.]+)/)[1]];
})()"""


def comparison(methods: int = METHODS, seeds: int = SEEDS, chips: int = CHIPS) -> Comparison:
    """Runs of a comparison with random values."""
    draw = np.random.default_rng(0)
    families = tuple(noise_family(name).record() for name in FAMILIES)
    found = []
    for method in range(methods):
        for seed in range(seeds):
            measured = tuple(
                tuple(tuple(draw.uniform(0.5, 1, chips).round(6).tolist()) for _ in family.kinds) for family in families
            )
            training = Training(tuple(draw.exponential(1, EPOCHS).tolist()), 0.95, 100_000, 60.0, 30_000)
            run = replace(
                records()[0], method=f"method-{method}", seed=seed, families=families, trials=chips, measured=measured
            )
            found.append(replace(run, training=training, clean=0.98, settings={"lr": 0.1, "rho": 0.5}))
    return Comparison(tuple(found), len(found), "samson compare suite.toml --out runs/suite")


def opened(page: str) -> tuple[float, float, str]:
    """Seconds to the load event and to the first plot, in a browser of its own, and that one's version."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(Path(folder))
        try:
            browser.open(page.replace("<head>", "<head>" + WATCH, 1), 1200)
            load, plot, version = browser.run(TIMES)
            return load, plot, version
        finally:
            browser.close()


def measure(found: Comparison, openings: int) -> dict[str, Any]:
    """What the report of a comparison weighs, and how long it takes to write and to open."""
    start = time.perf_counter()
    page = render(found)
    written = time.perf_counter() - start
    loads, plots, versions = zip(*(opened(page) for _ in range(openings)), strict=True)
    later = quartiles([max(each) for each in zip(loads, plots, strict=True)], 2)
    return {
        "browser": versions[0],
        "runs": len(found.records),
        "bytes": len(page.encode()),
        "seconds_to_write": round(written, 2),
        "seconds_to_load": quartiles(loads, 2),
        "seconds_to_first_plot": quartiles(plots, 2),
        "goal_s": GOAL_S,
        "met": later[1] < GOAL_S,
    }


def main() -> None:
    """Measure, write the record and print it."""
    parser = argparse.ArgumentParser(description="How long a large report takes to open.")
    parser.add_argument("--tiny", action="store_true", help="4 runs, opened once, which measure nothing")
    parser.add_argument("--out", type=Path, default=RECORD)
    given = parser.parse_args()
    load = [os.getloadavg()]
    found, openings = (comparison(2, 2, 3), 1) if given.tiny else (comparison(), OPENINGS)
    record = {
        **measure(found, openings),
        "openings": openings,
        "load_before_and_after": [[round(part, 1) for part in each] for each in (*load, os.getloadavg())],
    }
    print(json.dumps(write(given.out, record, cores=os.cpu_count()), indent=1))


if __name__ == "__main__":
    main()
