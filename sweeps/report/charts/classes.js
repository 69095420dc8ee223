// Recall by class: a mark a strategy, the classes that the strategies find hardest first.
"use strict";

report.charts.classes = (setting, choice, width) => {
  const rows = (setting.classes ?? []).filter((row) => !choice.hidden.has(row.strategy));
  if (!rows.length) return null;
  const hardest = d3.groupSort(rows, (group) => d3.mean(group, (row) => row.percent), (row) => row.name);
  const most = width < 560 ? 14 : 24;
  const told = (name) => report.cut(name, most);
  const drawn = report.plot(`Recall by class, the hardest first: ${hardest.join(", ")}`, {
    width, marginBottom: 42, height: 72 + 26 * hardest.length, marginLeft: report.roomFor(hardest.map(told), 200),
    x: { label: "recall on the test set (%)", grid: true, labelAnchor: "center", labelArrow: false, nice: true },
    y: { domain: hardest, label: null, grid: true, tickFormat: told },
    marks: [
      ...report.shown().map((name) =>
        Plot.dot(rows.filter((row) => row.strategy === name), {
          x: "percent", y: "name", ...report.dot(name), r: 5,
        })),
      Plot.tip(rows, Plot.pointer({
        x: "percent", y: "name", title: (row) => `${row.strategy}, ${row.name}\n${report.number(row.percent)} %`,
        fill: "var(--back)", stroke: "var(--line)", textPadding: 8,
      })),
    ],
  });
  return report.clickable(drawn);
};
