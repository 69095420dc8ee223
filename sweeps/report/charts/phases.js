// Seconds by phase, stacked; one bar a strategy.
"use strict";

report.charts.phases = (setting, choice, width) => {
  const found = setting.phases;
  const rows = found.rows.filter((row) => !choice.hidden.has(row.strategy));
  if (!rows.length) return null;
  const names = found.names.filter((name) => rows.some((row) => row.name === name));
  const strategies = report.shown().filter((name) => rows.some((row) => row.strategy === name));
  const told = (name) => report.cut(name, width < 560 ? 16 : 34);
  const drawn = report.plot(`Seconds by phase for ${strategies.join(", ")}`, {
    width, marginBottom: 42, height: 72 + 34 * strategies.length, marginLeft: report.roomFor(strategies.map(told), 260),
    x: { label: "seconds, mean of a run", grid: true, labelAnchor: "center", labelArrow: false, nice: true },
    y: { domain: strategies, label: null, tickFormat: told },
    color: { domain: names, scheme: "observable10" },
    marks: [
      Plot.barX(rows, Plot.stackX({
        y: "strategy", x: "seconds", fill: "name", z: "name", order: names, fillOpacity: (row) => report.opacity(row.strategy),
        insetTop: 4, insetBottom: 4, stroke: "var(--back)", strokeWidth: 0.5,
      })),
      Plot.tip(rows, Plot.pointer(Plot.stackX({
        y: "strategy", x: "seconds", z: "name", order: names, title: (row) => `${row.strategy}, ${row.name}\n${report.number(row.seconds)} s`,
        fill: "var(--back)", stroke: "var(--line)", textPadding: 8,
      }))),
    ],
  });
  const frame = document.createElement("div");
  frame.append(Plot.legend({ color: { domain: names, scheme: "observable10" } }), report.clickable(drawn));
  if (found.caution) frame.append(Object.assign(document.createElement("p"), { className: "note", textContent: found.caution }));
  return frame;
};
