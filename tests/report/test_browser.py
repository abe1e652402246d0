"""The report in a browser: it draws without an error, each control changes its plot, and it fits a phone and paper."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.report_time import RECORD, measure
from benchmarks.report_time import comparison as made_up
from samson.records import RunRecord
from samson.report import evaluation_page, render, render_sharpness, sensitivity_page
from tests.builders import PLAN, comparison, family, record, with_plan
from tests.report import test_evaluation_page, test_sensitivity, test_sharpness_report
from tests.report.browser import Browser

pytestmark = pytest.mark.needs_browser

METHODS = ("sgd", "samson", "a-method-with-a-rather-long-name", "samson+clip")

LISTEN = """<script>
const complaints = [], saved = [];
console.error = console.warn = (...words) => complaints.push(words.join(" "));
addEventListener("securitypolicyviolation", (event) => complaints.push(event.violatedDirective));
addEventListener("error", (event) => complaints.push(event.message));
addEventListener("unhandledrejection", (event) => complaints.push(String(event.reason)));
URL.createObjectURL = (blob) => (saved.push(blob.text()), "data:,");
HTMLAnchorElement.prototype.click = () => {};
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const frames = async () => { for (let i = 0; i < 3; i += 1) await new Promise(requestAnimationFrame); };
const until = async (holds) => { while (!holds()) await wait(20); await frames(); };
const seen = (one) => one.offsetParent !== null;
const places = () => [...document.querySelectorAll(".plot")].filter(seen);
const drawn = (place) => place.querySelector(".main-svg") !== null;
const look = async (place) => { place.scrollIntoView(); await until(() => drawn(place)); };
const plots = () => places().map((plot) => plot.id + plot.querySelector(".main-svg")?.innerHTML).join();
const changes = async (turn) => {
  const before = plots();
  turn();
  for (let i = 0; i < 50 && plots() === before; i += 1) await wait(20);
  return plots() !== before;
};
const choose = (family) => {
  const menu = document.querySelector("[data-choice=family]");
  menu.value = family;
  menu.dispatchEvent(new Event("change", {bubbles: true}));
};
</script>"""

DRAW = """(async () => {
  const first = places().filter(drawn).map((place) => place.id);
  for (const place of places()) await look(place);
  const root = document.documentElement;
  const overflow = root.scrollWidth - root.clientWidth, width = innerWidth;
  const names = [...document.querySelectorAll(".controls span")].filter(seen).map((name) => name.textContent);
  const ticks = [...document.querySelectorAll("#robustness-0 .xtick text")].map((t) => t.textContent);
  return {complaints, overflow, width, first, names, ticks};
})()"""

TURN = """(async () => {
  const still = [];
  let controls = 0;
  for (const control of [...document.querySelectorAll("select:enabled, input")].filter(seen)) {
    const turn = (part, value) => {
      control[part] = value;
      control.dispatchEvent(new Event("change", {bubbles: true}));
    };
    control.scrollIntoView();
    const part = control.type === "checkbox" ? "checked" : "selectedIndex", value = control[part];
    controls += 1;
    if (!await changes(() => turn(part, value ? 0 : 1))) still.push(control.outerHTML);
    turn(part, value);
  }
  await frames();
  return {complaints, controls, still};
})()"""

SAVE = """(() => {
  const buttons = [...document.querySelectorAll("button")].filter(seen);
  buttons.filter((one) => one.textContent === "CSV").forEach((one) => one.click());
  return Promise.all(saved);
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("browser"))
    yield found
    found.close()


def show(browser: Browser, page: str, width: int, *, scheme: str = "light") -> None:
    """Open a page in a window of this width, up to its first plot."""
    browser.open(page.replace("<head>", "<head>" + LISTEN, 1), width, scheme=scheme)
    browser.run("until(() => places().some(drawn))")


def opened(browser: Browser, page: str, width: int) -> dict[str, Any]:
    """What is found in a window of this width once all plots were looked at."""
    show(browser, page, width)
    return browser.run(DRAW)


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


def check_drawn(found: dict[str, Any], width: int) -> None:
    """Whether every plot was drawn without an error, and fits."""
    assert found["width"] == width
    assert found["complaints"] == []
    assert found["overflow"] <= 0
    assert set(METHODS) <= set(found["names"])
    assert [text.replace("noise", " noise") for text in found["ticks"]] == ["without noise", "0.1", "0.2"]


def test_each_control_changes_a_plot_without_an_error(browser: Browser, page: str) -> None:
    found = opened(browser, page, 360) | browser.run(TURN)
    check_drawn(found, 360)
    assert found["still"] == []
    assert found["controls"] >= 2 * len(METHODS)


@pytest.mark.parametrize(
    ("other", "rows"),
    [
        (evaluation_page(test_evaluation_page.RECORD), "every chip,0.1,90,"),
        (sensitivity_page(test_sensitivity.made()), "worse with noise on this layer alone,"),
        (render_sharpness(test_sharpness_report.made()), "<b>asam,"),
    ],
    ids=["evaluation", "sensitivity", "sharpness"],
)
def test_pages_of_networks_open_as_well(other: str, rows: str, browser: Browser) -> None:
    found = opened(browser, other, 360) | browser.run(TURN)
    assert (found["complaints"], found["still"]) == ([], [])
    assert found["overflow"] <= 0
    assert any(line.startswith(rows) for text in browser.run(SAVE) for line in text.splitlines())


def test_a_plot_is_drawn_when_it_comes_into_view(browser: Browser, page: str) -> None:
    """Not at once: a report of 200 runs opens as fast as one of 10. Its place is kept, so that nothing moves then."""
    found = opened(browser, page, 1200)
    check_drawn(found, 1200)
    assert "robustness-0" in found["first"]
    assert not {"training-0", "ranks"} & set(found["first"])
    assert browser.run("places().map((place) => place.id)") == [
        "robustness-0",
        "gain-0-0",
        "chips-0",
        "training-0",
        "ranks",
    ]
    heights = browser.run("places().map((place) => [place.style.minHeight, place.clientHeight])")
    assert all(kept == f"{height}px" for kept, height in heights)


def test_the_time_to_open_a_report_is_measured_to_its_first_plot() -> None:
    """The benchmark at a tiny size; its record is of 200 runs."""
    found = measure(made_up(2, 2, 3), openings=1)
    [load], [plot] = set(found["seconds_to_load"]), set(found["seconds_to_first_plot"])
    assert 0 < load < plot < 60  # no plot is drawn before the page is there
    whole = json.loads(RECORD.read_text("utf-8"))
    assert (whole["runs"], whole["openings"], whole["met"]) == (200, 5, True)
    assert whole["seconds_to_first_plot"][1] < 3
    assert found["bytes"] < whole["bytes"] < 10_000_000


def test_the_data_of_a_plot_are_its_records(browser: Browser, page: str) -> None:
    opened(browser, page, 1200)
    tables = [list(csv.DictReader(io.StringIO(text))) for text in browser.run(SAVE)]
    levels, *_, every_chip, _training, ranks = tables
    [clean, first, _] = [row for row in levels if row["series"] == "samson"]
    assert (clean["x"], first["x"]) == ("without noise", "0.1")
    values = [v for run in runs() if run.method == "samson" for v in run.measured[0][0]]
    assert float(first["y"]) == pytest.approx(100 * sum(values) / len(values))
    assert float(first["low"]) < float(first["y"]) < float(first["high"])
    assert {row["y"] for row in ranks} == set(METHODS)
    chips = [float(row["y"]) for row in every_chip if (row["series"], row["x"]) == ("samson", "0.1")]
    assert chips == pytest.approx([100 * v for v in values])


ALONE = """<script>
const complaints = [], saved = [], make = URL.createObjectURL;
addEventListener("securitypolicyviolation", (event) => complaints.push(event.violatedDirective));
HTMLAnchorElement.prototype.click = function () { saved.push([this.download, this.href.slice(0, 5)]); };
const until = async (holds) => { while (!holds()) await new Promise((done) => setTimeout(done, 20)); };
</script>"""

CLICK = """(async () => {
  await until(() => document.querySelector("#robustness-0 .main-svg"));
  const plot = document.getElementById("robustness-0");
  for (const button of plot.nextElementSibling.querySelectorAll("button")) {
    const before = saved.length;
    button.click();
    await until(() => saved.length > before);
  }
  const before = [...complaints], image = document.createElement("img");
  image.src = "http://127.0.0.1:9/picture.png";
  document.body.append(image);
  await until(() => complaints.length > before.length);
  return {before, complaints, saved, links: document.querySelectorAll(".plot a").length};
})()"""


def test_a_page_loads_nothing_and_leads_nowhere_but_saves_its_own_pictures(browser: Browser) -> None:
    """Plotly makes links of names: `<a href=...>`. A picture of elsewhere shows that the page's rule can refuse."""
    [base] = PLAN.problems
    problem = replace(base.problem, metric="<a href='https://example.com'>metric</a>")
    found = [replace(run, problem=problem) for run in runs()]
    browser.open(render(comparison(found)).replace("<head>", "<head>" + ALONE, 1), 1200)
    seen = browser.run(CLICK)
    assert seen["before"] == []
    assert seen["complaints"] == ["img-src"]
    assert {name for name, _ in seen["saved"]} == {f"robustness-0.{form}" for form in ("csv", "svg", "png")}
    assert all(place in ("blob:", "data:") for _, place in seen["saved"])
    assert seen["links"] == 0


@pytest.mark.parametrize(
    "other",
    [sensitivity_page(test_sensitivity.made()), render_sharpness(test_sharpness_report.made())],
    ids=["sensitivity", "sharpness"],
)
def test_titles_and_ticks_are_seen_on_a_phone(other: str, browser: Browser) -> None:
    """Also those of another choice of the menu."""
    opened(browser, other, 360)
    browser.run("""[...document.querySelectorAll("select")].forEach((one) => {
      one.selectedIndex = 0;
      one.dispatchEvent(new Event("change"));
    }), frames()""")
    rows = """(place, kind) => [...place.querySelectorAll(kind)].map((one) => one.getBoundingClientRect())"""
    cut = browser.run(f"""places().flatMap((place) => ({rows})(place, ".gtitle, .xtitle").map((text) => {{
      const all = place.getBoundingClientRect();
      return Math.max(all.left - text.left, text.right - all.right, text.bottom - all.bottom, all.top - text.top);
    }}))""")
    assert max(cut) <= 0
    under = f"(({rows})(place, '.gtitle')[0]?.bottom ?? 0) - ({rows})(place, '.gridlayer')[0].top"
    assert browser.run(f"Math.max(...places().map((place) => {under}))") <= 0
    assert browser.run("Math.min(...places().map((place) => place.querySelectorAll('.xtick').length))") > 1


def test_a_picture_that_is_saved_from_a_dark_screen_is_light(browser: Browser, page: str) -> None:
    show(browser, page, 1200, scheme="dark")
    svg = "[...places()[0].nextElementSibling.querySelectorAll('button')].find((one) => one.textContent === 'SVG')"
    picture = browser.run(f"{svg}.click(), until(() => saved.length).then(() => saved[0])")
    assert "rgb(229, 231, 235)" in picture  # the grid on white
    assert "rgb(55, 65, 81)" not in picture  # that on dark


def test_a_long_name_leaves_room_for_the_numbers_and_settings_fit_paper(browser: Browser) -> None:
    """Chromium makes all of a page smaller that is too wide for its paper."""
    names = ("sgd", "x" * 64, *(f"method-{number}" for number in range(6)))
    settings = {f"a_setting_of_number_{number}": 0.05 for number in range(8)}
    plan = with_plan(methods=dict.fromkeys(names, settings), seeds=1)
    runs = [record(name, 0, [[0.9], [0.8, 0.7, 0.75], [0.6, 0.5, 0.55]], plan) for name in names]
    found = opened(browser, render(comparison([replace(run, settings=settings) for run in runs])), 660)
    assert found["overflow"] <= 0
    tables = "[...document.querySelectorAll('.heat, .gain')].filter(seen)"
    ends = "(table) => [table.querySelector('tbody th').getBoundingClientRect().right, table.parentElement.clientWidth]"
    assert all(right < 0.6 * width for right, width in browser.run(f"{tables}.map({ends})"))
    browser.media("print", "light")
    assert browser.run("frames().then(() => document.documentElement.scrollWidth)") <= 660


CONTROLS = "[...document.querySelectorAll('select:enabled, input, button:not(.modebar-btn)')].filter(seen)"


def test_every_control_is_reached_and_turned_by_keys(browser: Browser, page: str) -> None:
    """In the order of the page, each with a frame while it has the focus."""
    opened(browser, page, 1200)
    browser.run("document.querySelector('h1').tabIndex = -1, document.querySelector('h1').focus()")
    controls = browser.run(f"{CONTROLS}.map((one) => one.outerHTML)")
    reached, framed = [], []
    for _ in range(3 * len(controls)):
        browser.press("Tab")
        focus = "document.activeElement"
        if browser.run(f"{CONTROLS}.includes({focus})"):
            reached.append(browser.run(f"{focus}.outerHTML"))
            framed.append(browser.run(f"getComputedStyle({focus}).outlineStyle"))
        if len(reached) == len(controls):
            break
    assert reached == controls
    assert set(framed) == {"solid"}
    browser.run(f"document.querySelector('h1').focus(), {CONTROLS}[0].tabIndex = -1")
    browser.press("Tab")
    assert browser.run("document.activeElement.outerHTML") == controls[1]  # one that keys don't reach is seen
    for control, key in (
        ("[data-choice=family]", "ArrowDown"),
        ("[data-shows]", "ArrowDown"),
        ("[type=checkbox]", " "),
    ):
        browser.run(f"{CONTROLS}.find((one) => one.matches('{control}')).focus(), window.before = plots()")
        browser.press(key)
        assert browser.run("changes(() => {}).then(() => plots() !== window.before)"), control


def test_paper_has_every_plot_in_dark_ink_and_says_what_is_chosen(browser: Browser, page: str) -> None:
    """Also from a dark screen, and of a page whose plots nobody looked at; the screen is as before then."""
    show(browser, page, 1200, scheme="dark")
    ink = "[...document.querySelectorAll('.main-svg .xtick text')].map((text) => text.style.fill)"
    assert set(browser.run(ink)) == {"rgb(229, 231, 235)"}
    browser.run(f"""addEventListener("beforeprint", () => {{
      window.paper = {{left: places().filter((place) => !drawn(place)).length, ink: {ink}}};
    }})""")
    assert browser.printed().startswith(b"%PDF")
    assert browser.run("paper.left") == 0
    assert set(browser.run("paper.ink")) == {"rgb(31, 41, 55)"}
    assert set(browser.run(ink)) == {"rgb(229, 231, 235)"}
    browser.media("print", "dark")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    shown = "[...document.querySelectorAll('button, input')].filter((one) => one.checkVisibility()).length"
    assert browser.run(shown) == 0
    menus = "[...document.querySelectorAll('select')].filter((one) => one.checkVisibility())"
    as_text = (
        "(one) => [one.value, ...['appearance', 'borderStyle', 'fontWeight'].map((is) => getComputedStyle(one)[is])]"
    )
    assert browser.run(f"{menus}.map({as_text})") == [
        [value, "none", "none", "700"] for value in ("digits-small-resnet", "gaussian", "0", "0.1")
    ]
    assert browser.run("getComputedStyle(document.querySelector('pre')).color") == "rgb(31, 41, 55)"
    assert browser.run("getComputedStyle(document.querySelector('.controls i')).printColorAdjust") == "exact"
    assert browser.run("complaints") == []
    browser.media("", "dark")
    assert browser.run(shown) > 0


def test_a_method_that_is_hidden_is_hidden_in_every_plot(browser: Browser, page: str) -> None:
    """In those that are drawn, also out of sight, and in those that are drawn later; and shown again in all."""
    show(browser, page, 1200)
    box = "[...places()[0].nextElementSibling.querySelectorAll('input')].find((one) => one.name === 'samson')"
    of_it = 'place.data.filter((trace) => (trace.legendgroup ?? trace.name) === "samson")'
    visible = f"""places().filter((place) => place.dataset.hidden)
      .map((place) => [...new Set({of_it}.map((trace) => trace.visible))])"""
    ticked = "[...document.querySelectorAll('input[name=samson]')].map((one) => one.checked)"
    assert not browser.run("drawn(document.getElementById('training-0'))")
    browser.run(f"{box}.click(), (async () => {{ for (const place of places()) await look(place); }})()")
    assert (browser.run(visible), browser.run(ticked)) == ([[False]] * 3, [False] * 3)
    browser.run(f"{box}.click()")
    assert (browser.run(visible), browser.run(ticked)) == ([[True]] * 3, [True] * 3)
    browser.run("choose('other'), until(() => document.querySelector('[data-family=other]:not([hidden]) .plot'))")
    browser.run(f"look(places()[0]).then(() => {box}.click())")
    browser.run("choose('gaussian')")
    browser.run("(async () => { for (const place of places()) { place.scrollIntoView(); await frames(); } })()")
    of_both = browser.run(ticked)
    assert (browser.run(visible), set(of_both), len(of_both) > 3) == ([[False]] * 3, {False}, True)
    assert browser.run("complaints") == []


def test_a_table_that_goes_on_says_so_and_keeps_its_names(browser: Browser, page: str) -> None:
    """At its right end it fades, until it is scrolled there; a name is not broken within a word."""
    table = "document.querySelector('.heat').parentElement"
    show(browser, page, 360)
    faded = f"getComputedStyle({table}).maskImage !== 'none'"
    left = f"[...{table}.querySelectorAll('tbody th')].map((one) => one.getBoundingClientRect().left)"
    assert browser.run(faded)
    before = browser.run(left)
    browser.run(f"{table}.scrollLeft = {table}.scrollWidth, frames()")
    assert not browser.run(faded)
    assert browser.run(left) == before
    over = "document.elementFromPoint(...(({left, top}) => [left + 5, top + 5])(names[0].getBoundingClientRect()))"
    names = f"const names = {table}.querySelectorAll('tbody th'); names[0].scrollIntoView({{block: 'center'}});"
    assert browser.run(f"(() => {{ {names} return {over} === names[0]; }})()")
    broken = f"[...{table}.querySelectorAll('tbody th')].find((one) => one.textContent === 'samson+clip').innerHTML"
    assert browser.run(broken) == "samson<wbr>+clip"
    show(browser, page, 1200)
    small = "document.querySelector('.facts').parentElement"
    assert browser.run(f"getComputedStyle({small}).maskImage") == "none"


def test_the_sign_of_a_line_is_as_in_its_plot(browser: Browser) -> None:
    """Dots have their symbol, lines their dash."""
    methods = ("sgd", *(f"method-{number}" for number in range(8)))
    plan = with_plan(methods={name: {} for name in methods}, seeds=1)
    found = [record(name, 0, [[0.9], [0.8, 0.7, 0.75], [0.6, 0.5, 0.55]], plan) for name in methods]
    show(browser, render(comparison(found)), 1200)
    signs = """Object.fromEntries([...places()[0].nextElementSibling.querySelectorAll("label")]
      .map((one) => [one.textContent.slice(1), [one.textContent[0], one.querySelector("i").className]]))"""
    signs = browser.run(signs)
    assert (signs["sgd"], signs["method-0"]) == (["●", "solid"], ["●", "solid"])
    assert signs["method-6"] == ["■", "dash"]  # six colours, and then the first again
    images = "[...document.querySelectorAll('.controls i')].map((one) => getComputedStyle(one).backgroundImage)"
    assert len({image for image in browser.run(images) if "rgb(163, 85, 5)" in image}) == 2
    show(browser, evaluation_page(test_evaluation_page.RECORD), 1200)
    chips = (
        "[...document.getElementById('levels').nextElementSibling.querySelectorAll('i')].map((one) => one.className)"
    )
    assert browser.run(chips) == ["", "solid"]


def test_what_is_wrong_is_seen(browser: Browser) -> None:
    """A control that does nothing, an error, and what is wider than a phone."""
    wide = "<div style='width:900px'>wide</div><select><option>a<option>b</select>"
    wide += "<script>console.error('by hand')</script>"
    page = evaluation_page(test_evaluation_page.RECORD).replace("</main>", wide + "</main>")
    found = opened(browser, page, 360) | browser.run(TURN)
    assert found["complaints"] == ["by hand"]
    assert found["overflow"] > 0
    assert len(found["still"]) == 1


def test_the_last_of_two_quick_choices_is_shown(browser: Browser) -> None:
    """While what the first one shows is still being unpacked."""
    third = (family((0.01, 0.02), "third"),)
    found = [replace(run, families=run.families + third, measured=(*run.measured, run.measured[0])) for run in runs()]
    show(browser, render(comparison(found)), 1200)
    shown = browser.run("""(async () => {
      choose("other");
      choose("third");
      const views = [...document.querySelectorAll(".view")];
      await until(() => views.every((view) => view.querySelector(".plot")));
      return views.filter((view) => !view.hidden).map((view) => view.dataset.family);
    })()""")
    assert shown == ["third"]
