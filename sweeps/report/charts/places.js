// The pool on a plane: grey what is there, crosses the first labels, dots the picks, by round or by class.
"use strict";

{
  let by = "round";

  const unpacked = (points, strategy) =>
    points.x.map((x, k) => ({ strategy, x, y: points.y[k], row: points.row[k], kind: points.kind[k], round: points.round[k] }));

  function panel(found, name, pool, side) {
    const picks = unpacked(found.picks[name], name);
    const last = d3.max(picks, (pick) => pick.round);
    const classes = found.classes;
    const told = (pick) => `${classes[pick.kind]}, ${pick.round ? `round ${pick.round}` : "first labels"}\ntraining-set row ${pick.row}`;
    const colour = by === "round"
      ? { type: "sequential", scheme: "viridis", domain: [1, Math.max(2, last)] }
      : { type: "categorical", domain: d3.range(classes.length), range: d3.range(classes.length).map((k) => d3.schemeObservable10[k % 10]) };
    const drawn = report.plot(`Picks of ${name} on the map of the pool, by ${by}`, {
      width: side, height: side, margin: 6, x: { domain: [0, 1000], axis: null }, y: { domain: [0, 1000], axis: null }, color: colour,
      marks: [
        Plot.dot(pool, { x: "x", y: "y", r: 1.4, fill: "var(--soft)", fillOpacity: 0.35 }),
        Plot.dot(picks.filter((pick) => pick.round === 0), { x: "x", y: "y", r: 3, symbol: "times", stroke: "var(--text)" }),
        Plot.dot(picks.filter((pick) => pick.round > 0), { x: "x", y: "y", r: 3, fill: by === "round" ? "round" : "kind", stroke: "var(--back)", strokeWidth: 0.5 }),
        Plot.tip(picks, Plot.pointer({ x: "x", y: "y", title: told, fill: "var(--back)", stroke: "var(--line)", textPadding: 8 })),
      ],
    });
    const figure = document.createElement("div");
    figure.style.opacity = report.opacity(name);
    figure.append(Object.assign(document.createElement("b"), { textContent: name }), report.clickable(drawn));
    return figure;
  }

  function choice() {
    const label = document.createElement("label");
    const select = document.createElement("select");
    select.append(...["round", "class"].map((name) => new Option(name, name, false, name === by)));
    select.addEventListener("change", () => {
      by = select.value;
      report.draw();
    });
    label.append("Coloured by ", select);
    return label;
  }

  report.charts.places = (setting, chosen, width) => {
    const found = setting.places;
    const names = report.shown().filter((name) => found?.picks[name]);
    if (!names.length) return null;
    const pool = unpacked(found.pool, null);
    const columns = Math.max(1, Math.min(names.length, Math.floor(width / 270)));
    const grid = Object.assign(document.createElement("div"), { className: "maps" });
    grid.append(...names.map((name) => panel(found, name, pool, Math.min(420, Math.floor(width / columns) - 12))));
    const frame = document.createElement("div");
    const note = `Near each other by ${found.source}; split seed ${found.seed}. Grey: the pool; crosses: the first labels.`;
    frame.append(choice(), grid, Object.assign(document.createElement("p"), { className: "note", textContent: note }));
    return frame;
  };
}
