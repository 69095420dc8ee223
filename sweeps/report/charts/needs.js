// Labels needed for one target: a dot a split seed, hollow where the run ended before it got there; a bar for the mean.
"use strict";

{
  let chosen = 0;

  report.charts.needs = (setting, choice, width) => {
    const goals = setting.needs;
    if (!goals.length) return null;
    const goal = goals[Math.min(chosen, goals.length - 1)];
    const rows = goal.needs.filter((need) => !choice.hidden.has(need.strategy));
    const dots = rows.flatMap((need) =>
      need.by_seed.map((labels, k) => ({ strategy: need.strategy, labels, seed: need.seeds[k], beyond: need.beyond[k] })));
    const narrow = width < 560;
    const told = (dot) => `${dot.strategy}, split seed ${dot.seed}\n${dot.beyond ? "more than " : ""}${report.number(dot.labels, 0)} labels`;
    const saves = (need) => need.saving;
    const drawn = report.plot(`Labels needed to reach ${goal.title}: ${rows.map((need) => `${need.strategy} ${report.number(need.labels, 0)} ${saves(need)}`).join("; ")}`, {
      width, marginBottom: 42, height: 72 + 40 * rows.length, marginLeft: narrow ? 12 : report.roomFor(rows.map((need) => need.strategy), 260), marginRight: narrow ? 12 : 190,
      x: { label: "labels given by people", grid: true, labelAnchor: "center", labelArrow: false, zero: true, nice: true },
      y: { domain: rows.map((need) => need.strategy), label: null, axis: narrow ? null : "left" },
      marks: [
        Plot.barX(rows, { y: "strategy", x: "labels", fill: (need) => report.colour(need.strategy), fillOpacity: (need) => 0.25 * report.opacity(need.strategy), inset: 5 }),
        Plot.dot(dots, {
          x: "labels", y: "strategy", r: 4, stroke: (dot) => report.colour(dot.strategy), strokeOpacity: (dot) => report.opacity(dot.strategy),
          fill: (dot) => (dot.beyond ? "var(--back)" : report.colour(dot.strategy)), fillOpacity: (dot) => report.opacity(dot.strategy),
        }),
        narrow
          ? Plot.text(rows, { y: "strategy", text: (need) => `${need.strategy}  ${saves(need)}`, frameAnchor: "left", dx: 4, dy: -1, stroke: "var(--back)", fill: "currentColor" })
          : Plot.text(rows, { y: "strategy", text: saves, frameAnchor: "right", dx: 182, fillOpacity: (need) => report.opacity(need.strategy) }),
        Plot.tip(dots, Plot.pointer({ x: "labels", y: "strategy", title: told, fill: "var(--back)", stroke: "var(--line)", textPadding: 8 })),
      ],
    });
    const frame = document.createElement("div");
    frame.append(choose(goals, goal), report.clickable(drawn));
    return frame;
  };

  function choose(goals, goal) {
    const label = document.createElement("label");
    const select = document.createElement("select");
    label.append("To reach ", select);
    for (const [k, found] of goals.entries()) select.append(new Option(found.title, k, false, found === goal));
    select.addEventListener("change", () => {
      chosen = Number(select.value);
      report.draw();
    });
    return label;
  }
}
