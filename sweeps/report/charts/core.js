// What all charts share: the data, what the reader has chosen, and how to draw again when that changes.
// Names of classes, strategies and files are data: they reach the page as text, never as markup.
"use strict";

const report = {
  data: JSON.parse(document.getElementById("data").textContent),
  charts: {}, // name -> (setting, choice, width) => an element, or null where there is nothing to draw
  choice: {
    setting: 0,
    measure: "accuracy",
    axis: "labels", // labels, human, seconds or money
    seeds: "mean", // "mean", "each", or one seed's number
    hidden: new Set(), // strategies switched off
    followed: null, // the strategy that all charts bring out
    labelPrice: 0.05,
    hourPrice: 1,
  },
  listeners: [],
};

report.setting = () => report.data.settings[report.choice.setting];
report.shown = () => report.setting().strategies.filter((name) => !report.choice.hidden.has(name));
report.colour = (name) => {
  const look = report.data.looks[name];
  return look ? `var(--s${look.colour})` : "var(--soft)";
};
report.dash = (name) => report.data.looks[name]?.dash || null;
report.symbol = (name) => report.data.looks[name]?.symbol || "circle";
// A cross or a plus is drawn by its stroke, any other symbol by its filling.
report.dot = (name, strength = 1) => {
  const seen = { symbol: report.symbol(name), fill: report.colour(name), fillOpacity: strength * report.opacity(name) };
  const open = ["times", "plus"].includes(seen.symbol);
  return open ? { ...seen, stroke: report.colour(name), strokeOpacity: seen.fillOpacity, strokeWidth: 1.8 } : seen;
};

// Room for names beside a chart: of 13 pixels, some 7 each letter.
report.roomFor = (names, most) => Math.min(most, 16 + 7.4 * d3.max(names, (name) => name.length));
report.cut = (name, most) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);

report.opacity = (...names) => {
  const followed = report.choice.followed;
  return followed === null || names.includes(followed) ? 1 : 0.15;
};

report.change = (changes) => {
  Object.assign(report.choice, changes);
  report.draw();
};

report.follow = (name) => report.change({ followed: report.choice.followed === name ? null : name });

// The first time everything is drawn. After a choice, what is in sight is drawn at once, and the rest follows, a chart a
// turn, unless something else is chosen meanwhile.
let turn = 0;
report.draw = () => {
  for (const listener of report.listeners) listener();
  const figures = [...document.querySelectorAll("figure[data-chart]")];
  turn += 1;
  const near = figures.filter((figure) => turn === 1 || inSight(figure));
  near.forEach(drawChart);
  report.drawn = drawInTurn(figures.filter((figure) => !near.includes(figure)), turn);
};

function inSight(figure) {
  const { top, bottom } = figure.getBoundingClientRect();
  return top < innerHeight + 100 && bottom > -100;
}

async function drawInTurn(figures, mine) {
  for (const figure of figures) {
    await new Promise((done) => setTimeout(done));
    if (mine !== turn) return;
    drawChart(figure);
  }
}

function drawChart(figure) {
  const frame = figure.querySelector(".frame");
  const width = Math.max(280, Math.min(1100, frame.clientWidth));
  const drawing = report.charts[figure.dataset.chart](report.setting(), report.choice, width);
  frame.replaceChildren(...(drawing ? [drawing] : []));
  figure.classList.toggle("empty", !drawing);
}

// Numbers as a reader wants them.
report.number = (value, digits = 1) =>
  value === null || value === undefined
    ? "?"
    : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
report.interval = (value, low, high, digits = 1) =>
  report.number(value, digits) +
  (low === null || low === undefined ? "" : ` [${report.number(low, digits)}, ${report.number(high, digits)}]`);

// Every drawing has this size, these margins, and a text for those who do not see it.
report.plot = (label, options) => {
  const drawn = Plot.plot({ style: { fontSize: "13px", background: "none" }, ariaLabel: label, ...options });
  drawn.setAttribute("role", "img");
  // Plot names its groups, which only a role may have.
  for (const group of drawn.querySelectorAll("g[aria-label]")) group.setAttribute("role", "group");
  return drawn;
};

// A click on what the pointer is at follows its strategy.
report.clickable = (drawn) => {
  drawn.style.cursor = "pointer";
  drawn.addEventListener("click", () => drawn.value?.strategy && report.follow(drawn.value.strategy));
  return drawn;
};
