// Paired differences: a dot a split seed, a bar for the estimate, a line for its simultaneous interval.
"use strict";

report.charts.differences = (setting, choice, width) => {
  const found = setting.differences;
  const rows = (found?.rows ?? []).filter((row) => !choice.hidden.has(row.a) && !choice.hidden.has(row.b));
  if (!rows.length) return null;
  const dots = rows.flatMap((row) => row.values.map((value, k) => ({ row, value, seed: row.seeds[k], strategy: row.a })));
  const p = (row) => (row.p === null ? "" : row.p < 0.001 ? "p < 0.001" : `p = ${row.p.toFixed(3)}`);
  const told = ({ row, value, seed }) =>
    [`${row.name}, split seed ${seed}: ${value.toFixed(2)}`,
     `mean ${report.interval(row.estimate, row.low, row.high, 2)} points${row.p === null ? "" : `, corrected ${p(row)}`}`,
     `${row.a} ${row.standing === "cannot be told" ? "cannot be told apart" : row.standing}; compared ${row.family}`].join("\n");
  const faded = (row) => report.opacity(row.a, row.b);
  const narrow = width < 560;
  const ends = (row) => (row.low === null ? [] : [row.low, row.high]);
  const reach = d3.extent([0, ...dots.map((dot) => dot.value), ...rows.flatMap(ends)]);
  const room = 0.04 * (reach[1] - reach[0]) || 1;
  const families = [...new Set(rows.map((row) => row.family))];
  const lines = families.flatMap((family) => [family, ...rows.filter((row) => row.family === family).map((row) => row.name)]);
  const left = narrow ? 12 : report.roomFor(lines, 340);
  const drawn = report.plot(`Differences by split seed: ${rows.map((row) => `${row.name} ${report.interval(row.estimate, row.low, row.high, 1)} ${p(row)}`).join("; ")}`, {
    width, height: 60 + 34 * lines.length, marginLeft: left, marginRight: narrow ? 12 : 90, marginBottom: 42, marginTop: 4,
    x: { label: narrow ? "points" : `points of ${found.measure}`, grid: true, labelAnchor: "center", labelArrow: false, domain: [reach[0] - room, reach[1] + room] },
    y: { domain: lines, label: null, axis: narrow ? null : "left", tickSize: 0, tickFormat: (name) => (families.includes(name) ? "" : name) },
    marks: [
      Plot.ruleX([0], { stroke: "var(--text)" }),
      Plot.text(families, { y: (name) => name, text: (name) => `Compared ${name}`, frameAnchor: "left", dx: narrow ? 0 : 12 - left, fontWeight: 600, dy: 4, fill: "currentColor", stroke: "var(--back)" }),
      Plot.ruleY(rows.filter((row) => row.low !== null), {
        y: "name", x1: "low", x2: "high", stroke: (row) => report.colour(row.a), strokeOpacity: faded, strokeWidth: 3,
      }),
      Plot.dot(dots, {
        x: "value", y: (dot) => dot.row.name, r: 4, fill: "var(--back)", stroke: (dot) => report.colour(dot.row.a),
        strokeOpacity: (dot) => faded(dot.row), fillOpacity: (dot) => faded(dot.row),
      }),
      Plot.tickX(rows, { y: "name", x: "estimate", stroke: "var(--text)", strokeWidth: 3, strokeOpacity: faded, inset: 6 }),
      narrow
        ? Plot.text(rows, { y: "name", text: (row) => `${row.name}  ${p(row)}`, frameAnchor: "left", dy: -13, fillOpacity: faded, fill: "currentColor", stroke: "var(--back)" })
        : Plot.text(rows, { y: "name", text: p, frameAnchor: "right", dx: 82, fillOpacity: faded }),
      Plot.tip(dots, Plot.pointer({ x: "value", y: (dot) => dot.row.name, title: told, fill: "var(--back)", stroke: "var(--line)", textPadding: 8 })),
    ],
  });
  return report.clickable(drawn);
};
