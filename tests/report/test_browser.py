"""The report in a browser: it draws without an error, each control changes its plot, and it fits a phone."""

import csv
import io
import json
import re
import subprocess
from dataclasses import replace
from html import escape, unescape
from pathlib import Path

import pytest

from samson.records import RunRecord
from samson.report import evaluation_page, render, render_sharpness, sensitivity_page
from tests.builders import comparison, family, record, with_plan
from tests.conftest import BROWSER
from tests.report import test_evaluation_page, test_sensitivity, test_sharpness_report

pytestmark = pytest.mark.needs_browser

METHODS = ("sgd", "samson", "a-method-with-a-rather-long-name", "sam", "asam", "clip", "samson+clip")

LISTEN = """<script>
const complaints = [], saved = [];
console.error = console.warn = (...words) => complaints.push(words.join(" "));
addEventListener("error", (event) => complaints.push(event.message));
addEventListener("unhandledrejection", (event) => complaints.push(String(event.reason)));
URL.createObjectURL = (blob) => (saved.push(blob.text()), "data:,");
HTMLAnchorElement.prototype.click = () => {};
</script>"""

ACT = """<script>
addEventListener("load", async () => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const seen = (one) => one.offsetParent !== null;
  while (document.querySelectorAll("[data-drawn] .main-svg").length === 0) await wait(50);
  await wait(1000);
  const root = document.documentElement;
  const overflow = root.scrollWidth - root.clientWidth, width = innerWidth;
  const names = [...document.querySelectorAll(".controls span")].filter(seen).map((name) => name.textContent);
  const ticks = [...document.querySelectorAll("#robustness-0 .xtick text")].map((t) => t.textContent);
  const plots = () => [...document.querySelectorAll(".plot")].filter(seen)
    .map((plot) => plot.id + plot.querySelector(".main-svg")?.innerHTML).join();
  const still = [];
  let controls = 0;
  for (const control of [...document.querySelectorAll("select:enabled, input")].filter(seen)) {
    const turn = async (part, value) => {
      control[part] = value;
      control.dispatchEvent(new Event("change"));
      await wait(500);
    };
    const part = control.type === "checkbox" ? "checked" : "selectedIndex", value = control[part], before = plots();
    await turn(part, value ? 0 : 1);
    controls += 1;
    if (plots() === before) still.push(control.outerHTML);
    await turn(part, value);
  }
  const buttons = [...document.querySelectorAll("button")].filter(seen);
  buttons.filter((one) => one.textContent === "CSV").forEach((one) => one.click());
  const texts = await Promise.all(saved);
  const found = document.createElement("pre");
  found.id = "found";
  found.textContent = JSON.stringify({complaints, overflow, width, names, ticks, controls, still, texts});
  document.body.append(found);
});
</script>"""


def opened(page: str, folder: Path, width: int) -> dict:
    """What a browser of this width found; a frame in a wide page, since no window is as narrow as a phone."""
    page = page.replace("<head>", "<head>" + LISTEN, 1).replace("</body>", ACT + "</body>")
    frame = f"<iframe width={width} height=900 style='border:0' srcdoc=\"{escape(page)}\"></iframe>"
    tell = """<script>const look = () => {
      const found = document.querySelector("iframe").contentDocument?.getElementById("found");
      if (found) document.body.replaceChildren(found); else setTimeout(look, 200);
    };
    look();</script>"""
    file = folder / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><body style='margin:0'>{frame}{tell}</body>")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--window-size=1400,1000", "--virtual-time-budget=120000", "--dump-dom", file.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    return json.loads(unescape(re.search(r'<pre id="found">(.*?)</pre>', shown, re.DOTALL).group(1)))


def runs() -> list[RunRecord]:
    plan = with_plan(methods={name: {} for name in METHODS}, seeds=2)
    found = []
    for place, name in enumerate(METHODS):
        for seed in (0, 1):
            up = place / 100 + seed / 50
            run = record(name, seed, [[0.9], [0.7 + up, 0.72, 0.75], [0.5, 0.6 + up, 0.65]], plan)
            again = (family((0.01, 0.02), "other"),)
            found.append(replace(run, families=run.families + again, measured=run.measured * 2))
    return found


@pytest.fixture(scope="module")
def page() -> str:
    return render(comparison(runs()))


@pytest.mark.parametrize("width", [1200, 360])
def test_each_control_changes_a_plot_without_an_error(page: str, tmp_path: Path, width: int) -> None:
    found = opened(page, tmp_path, width)
    assert found["width"] == width
    assert found["complaints"] == []
    assert found["still"] == []
    assert found["controls"] >= 2 * len(METHODS)
    assert found["overflow"] <= 0
    assert set(METHODS) <= set(found["names"])
    assert found["ticks"] == ["clean", "0.1", "0.2"]


@pytest.mark.parametrize(
    ("other", "rows"),
    [
        (evaluation_page(test_evaluation_page.RECORD), "every chip,"),
        (sensitivity_page(test_sensitivity.made()), "drop with noise on this layer alone,"),
        (render_sharpness(test_sharpness_report.made()), "sgd,"),
    ],
    ids=["evaluation", "sensitivity", "sharpness"],
)
def test_pages_of_networks_open_as_well(other: str, rows: str, tmp_path: Path) -> None:
    found = opened(other, tmp_path, 360)
    assert (found["complaints"], found["still"]) == ([], [])
    assert found["overflow"] <= 0
    assert any(line.startswith(rows) for text in found["texts"] for line in text.splitlines())


def test_the_data_of_a_plot_are_its_records(page: str, tmp_path: Path) -> None:
    tables = [list(csv.DictReader(io.StringIO(text))) for text in opened(page, tmp_path, 1200)["texts"]]
    ranks, levels, *_, every_chip, _training = tables
    [clean, first, _] = [row for row in levels if row["series"] == "samson"]
    assert (clean["x"], first["x"]) == ("clean", "0.1")
    values = [v for run in runs() if run.method == "samson" for v in run.measured[0][0]]
    assert float(first["y"]) == pytest.approx(100 * sum(values) / len(values))
    assert float(first["low"]) < float(first["y"]) < float(first["high"])
    assert {row["y"] for row in ranks} == set(METHODS)
    chips = [float(row["y"]) for row in every_chip if (row["series"], row["x"]) == ("samson", "0.1")]
    assert chips == pytest.approx([100 * v for v in values])


def test_what_is_wrong_is_seen(page: str, tmp_path: Path) -> None:
    """A control that does nothing, an error, and what is wider than a phone."""
    wide = "<div style='width:900px'>wide</div><select><option>a<option>b</select>"
    wide += "<script>console.error('by hand')</script>"
    found = opened(page.replace("</main>", wide + "</main>"), tmp_path, 360)
    assert found["complaints"] == ["by hand"]
    assert found["overflow"] > 0
    assert len(found["still"]) == 1
