// Learning curves: a line a strategy with its band, or a line a seed; the baseline is a point with a line across.
"use strict";

{
  const AXES = {
    labels: "labels",
    human: "labels given by people",
    seconds: "seconds of the run (embeddings, training, evaluation, selection)",
    money: "cost in your currency (labels by people, hours of compute)",
  };
  const WIDE = 16; // largest over smallest label count from which the axis is logarithmic
  const BAND_SEEDS = 5; // from which a band is drawn: of fewer it covers everything, and each seed is a thin line instead

  const at = (line, k, choice) =>
    choice.axis === "money"
      ? line.human[k] * choice.labelPrice + (line.seconds[k] / 3600) * choice.hourPrice
      : line[choice.axis][k];

  const wanted = (line, choice) =>
    choice.seeds === "mean" ? line.seed === null : choice.seeds === "each" ? line.seed !== null : line.seed === choice.seeds;

  function pointsOf(strategy, line, choice) {
    const values = line.values[choice.measure] ?? [];
    return values
      .map((y, k) => ({
        strategy,
        seed: line.seed,
        x: at(line, k, choice),
        y,
        low: line.low[choice.measure]?.[k] ?? null,
        high: line.high[choice.measure]?.[k] ?? null,
        labels: line.labels[k],
        human: line.human[k],
        seconds: line.seconds[k],
      }))
      .filter((point) => point.y !== null);
  }

  function told(point, choice, digits) {
    const who = point.seed === null ? `${point.strategy}, mean` : `${point.strategy}, split seed ${point.seed}`;
    const lines = [who, report.interval(point.y, point.low, point.high, digits)];
    lines.push(`${report.number(point.labels, 0)} labels, ${report.number(point.seconds, 0)} s`);
    if (choice.axis === "money") lines.push(`cost ${report.number(point.x, 2)}`);
    return lines.join("\n");
  }

  // The seeds of a mean that has too few for a band.
  const thin = (strategy, curves, choice) => {
    const seeds = curves.lines[strategy].filter((line) => line.seed !== null);
    return choice.seeds === "mean" && seeds.length > 1 && seeds.length < BAND_SEEDS ? seeds : [];
  };

  function thinLines(strategy, curves, choice) {
    return thin(strategy, curves, choice).map((line) =>
      Plot.line(pointsOf(strategy, line, choice), {
        x: "x", y: "y", ariaDescription: "seed", stroke: report.colour(strategy), strokeWidth: 0.8,
        strokeOpacity: 0.5 * report.opacity(strategy), clip: true,
      }));
  }

  function marksOf(strategy, lines, curves, choice) {
    const style = { stroke: report.colour(strategy), strokeOpacity: report.opacity(strategy) };
    return lines.flatMap((line) => {
      const points = pointsOf(strategy, line, choice);
      const dots = Plot.dot(points, {
        x: "x", y: "y", ...report.dot(strategy), r: strategy === curves.baseline ? 6 : 3,
      });
      const known = points.filter((point) => point.low !== null);
      if (strategy === curves.baseline) {
        return [
          Plot.ruleY(points, { y: "y", ...style, strokeDasharray: "6 4" }),
          Plot.ruleX(known, { x: "x", y1: "low", y2: "high", ...style, strokeWidth: 2, clip: true }),
          dots,
        ];
      }
      return [
        ...thinLines(strategy, curves, choice),
        ...(line.seed !== null || thin(strategy, curves, choice).length ? [] : [Plot.areaY(known, {
          x: "x", y1: "low", y2: "high", fill: report.colour(strategy), fillOpacity: 0.12 * report.opacity(strategy), clip: true,
        })]),
        Plot.line(points, {
          x: "x", y: "y", ...style, strokeDasharray: report.dash(strategy),
          strokeWidth: line.seed === null ? 2 : 1.2,
        }),
        ...(line.seed === null ? [dots] : []),
      ];
    });
  }

  // Few label counts are the ticks themselves, but for those too near to the one before.
  function apart(counts) {
    const kept = [];
    for (const count of d3.sort(new Set(counts))) if (!kept.length || count > 1.15 * kept.at(-1)) kept.push(count);
    return kept.length <= 8 && kept.every(Number.isInteger) ? kept : undefined;
  }

  // Of what was measured: an interval from three seeds can be far wider, and is cut off.
  function domain(points) {
    const [low, high] = d3.extent(points, (point) => point.y);
    const room = 0.08 * (high - low) || 0.05 * Math.abs(high) || 1;
    return [low - room, high + room];
  }

  report.charts.curves = (setting, choice, width) => {
    const curves = setting.curves;
    const measure = curves.measures.find((found) => found.name === choice.measure) ?? curves.measures[0];
    const chosen = { ...choice, measure: measure.name };
    const lines = report.shown().map((name) => [name, curves.lines[name].filter((line) => wanted(line, chosen))]);
    const points = lines.flatMap(([name, group]) => group.flatMap((line) => pointsOf(name, line, chosen)));
    if (!points.length) return null;
    const seen = report.shown().flatMap((name) =>
      thin(name, curves, chosen).flatMap((line) => pointsOf(name, line, chosen)));
    const counts = points.map((point) => point.x).filter((x) => x > 0);
    const log = choice.axis !== "seconds" && d3.max(counts) >= WIDE * d3.min(counts);
    const ticks = log && choice.axis !== "money" ? apart(counts) : undefined;
    const digits = measure.title.includes("%") ? 1 : 3;
    const tip = { x: "x", y: "y", title: (point) => told(point, choice, digits), fontSize: 13 };
    const label = `${measure.title} by ${AXES[choice.axis]} for ${report.shown().join(", ")}`;
    const drawn = report.plot(label, {
      width, height: Math.max(320, Math.min(460, 0.5 * width)), marginLeft: 52, marginBottom: 44,
      x: { label: AXES[choice.axis], type: log ? "log" : "linear", grid: true, ticks, tickFormat: log ? "~s" : undefined, zero: !log, labelAnchor: "center", labelArrow: false },
      y: { label: measure.title, domain: domain([...points, ...seen]), grid: true, labelArrow: false },
      marks: [
        ...lines.flatMap(([name, group]) => marksOf(name, group, curves, chosen)),
        Plot.tip(points, Plot.pointer({ ...tip, fill: "var(--back)", stroke: "var(--line)", textPadding: 8 })),
      ],
    });
    return report.clickable(drawn);
  };
}
