// Draws each figure when it is about to come into view, with its own controls: a menu, names that hide lines, and buttons
// for its data.

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function colours(ink, rule, paper) {
  return {"font.color": ink, "hoverlabel.bgcolor": paper, "hoverlabel.font.color": ink, "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)", "modebar.bgcolor": "rgba(0,0,0,0)", "xaxis.gridcolor": rule, "yaxis.gridcolor": rule};
}

const screenColours = () => colours(style("--ink"), style("--rule"), style("--paper"));
const paperColours = () => colours("#1f2937", "#e5e7eb", "#fff");
let coloursNow = screenColours;

// Long titles go on in the next line of a narrow plot: those of plot and axes, notes, and what a menu puts there.
const broken = (letters) => (key, value) => !/^(title\.)?text$/.test(key) || typeof value !== "string" ? value
  : value.replace(new RegExp(`(?=[^<]{${letters + 1}})([^<]{1,${letters}}) `, "g"), "$1<br>");

function element(kind, text, parent) {
  const made = document.createElement(kind);
  made.textContent = text;
  parent.append(made);
  return made;
}

function addMenu(place, bar, menu) {
  const select = element("select", "", element("label", "Chips ", bar));
  menu.buttons.forEach((button) => element("option", button.label, select));
  select.selectedIndex = menu.active;
  select.addEventListener("change", () => {
    const button = menu.buttons[select.selectedIndex];
    Plotly[button.method](place, ...structuredClone(button.args));
  });
}

const SYMBOLS = {circle: "●", square: "■", diamond: "◆", "triangle-up": "▲", cross: "✚"};
const group = (trace) => trace.legendgroup ?? trace.name;
const hidden = new Set();  // the names of lines that no plot shows

function addNames(place, bar, named) {
  for (const trace of named) {
    const label = element("label", "", bar), box = element("input", "", label), mode = trace.mode ?? "markers";
    box.type = "checkbox";
    box.checked = true;
    box.name = group(trace);
    const sign = element("i", mode.includes("markers") ? SYMBOLS[trace.marker?.symbol ?? "circle"] : "", label);
    sign.className = mode.includes("lines") ? trace.line.dash ?? "solid" : "";
    sign.style.color = trace.line?.color ?? trace.marker?.color;
    element("span", trace.name, label);
    box.addEventListener("change", () => {
      hidden[box.checked ? "delete" : "add"](box.name);
      [...document.querySelectorAll("[data-hidden]")].filter((one) => one.offsetParent !== null).forEach(hideNames);
    });
  }
  place.dataset.hidden = "[]";
}

function hideNames(place) {
  const now = JSON.stringify([...hidden]);
  if ((place.dataset.hidden ?? now) === now) return;
  place.dataset.hidden = now;
  for (const box of place.nextElementSibling.querySelectorAll("input")) box.checked = !hidden.has(box.name);
  Plotly.restyle(place, {visible: place.data.map((trace) => !hidden.has(group(trace)))});
}

function dataOf(figure) {
  const {tickvals = [], ticktext = []} = figure.layout.xaxis ?? {};
  const rows = [["series", "x", "y", "low", "high", "note"]];
  for (const trace of figure.data.filter((one) => one.hoverinfo !== "skip")) {
    trace.y.forEach((y, i) => {
      const x = Array.isArray(trace.meta) ? trace.meta[i] : trace.x ? trace.x[i] : trace.meta;
      const error = trace.error_x ?? trace.error_y;
      const value = trace.error_x ? x : y;
      const ends = error ? [value - error.arrayminus[i], value + error.array[i]] : (trace.customdata?.[i] ?? []).slice(-2);
      rows.push([trace.name, ticktext[tickvals.indexOf(x)]?.replace("<br>", " ") ?? x, y, ends[0], ends[1], trace.text?.[i]]);
    });
  }
  return rows.map((row) => row.map((cell) => {
    const text = String(cell ?? "");
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }).join(",") + "\n").join("");
}

function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
  link.download = `${name}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function addSaving(place, bar, figure, showlegend) {
  const word = (text, act) => element("button", text, bar).addEventListener("click", act);
  word("CSV", () => save(place.id, dataOf(figure)));
  for (const format of ["svg", "png"]) {
    word(format.toUpperCase(), async () => {
      const copy = {data: place.data, layout: structuredClone(place.layout)};
      Object.assign(copy.layout, {showlegend, width: 1000, font: {...copy.layout.font, color: "#1f2937"},
        paper_bgcolor: "#fff", plot_bgcolor: "#fff"});
      copy.layout.xaxis.gridcolor = copy.layout.yaxis.gridcolor = "#e5e7eb";
      Plotly.downloadImage(copy, {format, width: 1000, height: copy.layout.height, filename: place.id});
    });
  }
}

function draw(place, figure) {
  const {updatemenus = [], showlegend = true, ...layout} = figure.layout;
  const before = document.createElement("div"), after = document.createElement("div");
  before.className = after.className = "controls";
  place.before(before);
  place.after(after);
  updatemenus.forEach((menu) => addMenu(place, before, menu));
  const titles = updatemenus.flatMap((menu) => menu.buttons.map((button) => button.args[1]?.["title.text"] ?? ""));
  layout.margin.t = Math.max(16, ...titles.map((title) => title && 12 + 18 * title.split("<br>").length));
  const named = showlegend ? figure.data.filter((trace) => trace.name && trace.showlegend !== false) : [];
  if (named.length > 1) addNames(place, after, named);
  addSaving(place, after, figure, named.length > 1);
  const narrow = place.clientWidth < 600;
  if (narrow) Object.assign(layout, {margin: {...layout.margin, l: 8, r: 8}, font: {...layout.font, size: 12}});
  Plotly.newPlot(place, figure.data, {...layout, showlegend: false},
    {responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover", modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]]})
    .then(() => {
      Plotly.relayout(place, coloursNow());
      hideNames(place);
    });
}

function show(place) {
  if (place.dataset.drawn) return hideNames(place);  // it may have been out of sight when a name was hidden
  place.dataset.drawn = "yes";
  const text = document.querySelector(`script[data-plot="${place.id}"]`).textContent;
  draw(place, JSON.parse(text, place.clientWidth < 600 ? broken(Math.max(20, Math.floor(place.clientWidth / 10))) : undefined));
}

function recolour(found) {
  coloursNow = found;
  for (const place of document.querySelectorAll("[data-drawn]")) Plotly.relayout(place, coloursNow());
}

function showOnPaper() {
  [...document.querySelectorAll(".plot")].filter((place) => place.offsetParent !== null).forEach(show);
  recolour(paperColours);
}

function unpacked(text) {
  const packed = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

const observer = new IntersectionObserver((found) => {
  found.filter((one) => one.isIntersecting).forEach((one) => show(one.target));
}, {rootMargin: "50%"});
const tellMore = (table) => table.classList.toggle("more", table.scrollWidth - table.scrollLeft > table.clientWidth + 1);
const sizes = new ResizeObserver((found) => found.forEach((one) => tellMore(one.target)));

function observe(parent) {
  parent.querySelectorAll(".plot").forEach((place) => observer.observe(place));
  for (const table of parent.querySelectorAll(".scroll")) {
    sizes.observe(table);
    table.addEventListener("scroll", () => tellMore(table));
  }
}

async function unpackIn(parent) {
  for (const part of parent.querySelectorAll(":scope > script[data-packed]")) part.outerHTML = await unpacked(part.textContent);
  observe(parent);
}

async function start() {
  const script = document.createElement("script");
  script.textContent = await unpacked(document.getElementById("plotly").textContent);
  document.head.append(script);
  observe(document);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => recolour(screenColours));
  addEventListener("beforeprint", showOnPaper);
  addEventListener("afterprint", () => recolour(screenColours));
}
addEventListener("DOMContentLoaded", start);
