// A reliability diagram: how often the models are right by how sure they are; the diagonal is what they should be.
"use strict";

report.charts.calibration = (setting, choice, width) => {
  const rows = (setting.calibration ?? []).filter((row) => !choice.hidden.has(row.strategy));
  if (!rows.length) return null;
  const points = rows.flatMap((row) =>
    row.images.map((images, k) => ({ strategy: row.strategy, images, x: row.confidence[k], y: row.right[k] })));
  const told = (point) =>
    [point.strategy, `${report.number(point.x)} % sure, ${report.number(point.y)} % right`,
     `${report.number(point.images, 0)} images, all seeds together`].join("\n");
  const errors = rows.map((row) => `${row.strategy} ${report.number(row.error, 3)}`).join("; ");
  const low = Math.max(0, 10 * Math.floor(d3.min(points, (point) => Math.min(point.x, point.y)) / 10));
  const side = Math.min(width, 420);
  const drawn = report.plot(`Reliability diagram; expected calibration error ${errors}`, {
    width: side, height: 0.85 * side, marginLeft: 52, marginBottom: 44,
    x: { label: "how sure, mean of a bin (%)", domain: [low, 100], grid: true, labelAnchor: "center", labelArrow: false },
    y: { label: "how often right (%)", domain: [low, 100], grid: true, labelArrow: false },
    r: { range: [1.5, 7] },
    marks: [
      Plot.line([[low, low], [100, 100]], { stroke: "var(--soft)", strokeDasharray: "4 3" }),
      ...rows.map(({ strategy }) => {
        const own = points.filter((point) => point.strategy === strategy);
        const seen = { stroke: report.colour(strategy), strokeOpacity: report.opacity(strategy) };
        return [
          Plot.line(own, { x: "x", y: "y", ...seen, strokeDasharray: report.dash(strategy), strokeWidth: 1.5 }),
          Plot.dot(own, { x: "x", y: "y", r: "images", ...report.dot(strategy, 0.7) }),
        ];
      }),
      Plot.tip(points, Plot.pointer({ x: "x", y: "y", title: told, fill: "var(--back)", stroke: "var(--line)", textPadding: 8 })),
    ],
  });
  const list = document.createElement("ul");
  list.append(...rows.map((row) => {
    const item = document.createElement("li");
    item.textContent = `${row.strategy} ${report.number(row.error, 3)}`;
    item.style.opacity = Math.max(0.4, report.opacity(row.strategy));
    return item;
  }));
  const beside = Object.assign(document.createElement("div"), { className: "beside" });
  const numbers = document.createElement("div");
  numbers.append(Object.assign(document.createElement("p"), { textContent: "Expected calibration error" }), list);
  beside.append(report.clickable(drawn), numbers);
  return beside;
};
