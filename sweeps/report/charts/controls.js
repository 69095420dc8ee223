// What the reader can choose; last, it draws everything for the first time.
"use strict";

{
  const bar = document.getElementById("controls");
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  const labelled = (words, control) => element("label", {}, `${words} `, control);

  function select(name, options, change) {
    const made = element("select", { name });
    made.addEventListener("change", () => change(made.value));
    fill(made, options);
    return made;
  }

  // Options are [value, text, group]; those of one group come together under its name.
  function fill(made, options) {
    const groups = d3.group(options, ([, , group]) => group);
    made.replaceChildren(
      ...[...groups].flatMap(([group, members]) => {
        const found = members.map(([value, text]) => new Option(text, value));
        return group ? [element("optgroup", { label: group }, ...found)] : found;
      }),
    );
  }

  function price(name, words, step) {
    const made = element("input", { type: "number", min: "0", step, value: report.choice[name], name });
    made.addEventListener("input", () => made.valueAsNumber >= 0 && report.change({ [name]: made.valueAsNumber }));
    return labelled(words, made);
  }

  function chip(name) {
    const box = element("input", { type: "checkbox", checked: !report.choice.hidden.has(name) });
    box.setAttribute("aria-label", `show ${name}`);
    box.addEventListener("change", () => {
      const hidden = new Set(report.choice.hidden);
      if (box.checked) hidden.delete(name);
      else hidden.add(name);
      report.change({ hidden, followed: report.choice.followed === name ? null : report.choice.followed });
    });
    const follow = element("button", { type: "button", textContent: name });
    follow.setAttribute("aria-pressed", report.choice.followed === name);
    follow.title = `follow ${name} through all charts`;
    follow.addEventListener("click", () => report.follow(name));
    const swatch = Plot.plot({
      width: 34, height: 14, margin: 0, axis: null, x: { domain: [0, 2] }, y: { domain: [-1, 1] },
      marks: [
        Plot.ruleY([0], { stroke: report.colour(name), strokeWidth: 2, strokeDasharray: report.dash(name) }),
        Plot.dot([[1, 0]], { ...report.dot(name), r: 4, fillOpacity: 1, strokeOpacity: 1 }),
      ],
    });
    swatch.setAttribute("aria-hidden", "true");
    return element("span", { className: "chip" }, box, swatch, follow);
  }

  const settings = report.data.settings.map((setting, k) => [k, setting.title]);
  const setting = select("setting", settings, (value) => report.change({ setting: Number(value) }));
  const measure = select("measure", [], (value) => report.change({ measure: value }));
  const axis = select(
    "axis",
    [["labels", "labels"], ["human", "human labels"], ["seconds", "seconds"], ["money", "money"]],
    (value) => report.change({ axis: value }),
  );
  const seeds = select("seeds", [], (value) =>
    report.change({ seeds: value === "mean" || value === "each" ? value : Number(value) }));
  const prices = element(
    "span", { className: "prices" },
    price("labelPrice", "price of a label", "0.01"), price("hourPrice", "of an hour", "0.1"),
  );
  const chips = element("div", { className: "chips", role: "group" });
  chips.setAttribute("aria-label", "strategies");

  function refresh() {
    const found = report.setting();
    const measures = found.curves.measures;
    const every = new Set(Object.values(found.curves.lines).flatMap((lines) => lines.map((line) => line.seed)));
    every.delete(null);
    const { choice } = report;
    if (!measures.some(({ name }) => name === choice.measure)) choice.measure = "accuracy";
    if (typeof choice.seeds === "number" && !every.has(choice.seeds)) choice.seeds = "mean";
    fill(measure, measures.map(({ name, title, group }) => [name, title, group]));
    fill(seeds, [
      ["mean", "mean of all"], ["each", "each a line"],
      ...d3.sort(every).map((seed) => [seed, `only ${seed}`]),
    ]);
    measure.value = choice.measure;
    seeds.value = choice.seeds;
    prices.hidden = choice.axis !== "money";
    keepFocus(() => chips.replaceChildren(...found.strategies.map(chip)));
  }

  // The chips are made anew; who came by keyboard stays where they were.
  function keepFocus(renew) {
    const every = () => [...chips.querySelectorAll("input, button")];
    const position = every().indexOf(document.activeElement);
    renew();
    every()[position]?.focus();
  }

  if (report.data.settings.length) {
    bar.append(
      ...(settings.length > 1 ? [labelled("Setting", setting)] : []),
      labelled("Show", measure), labelled("by", axis), prices, labelled("seeds", seeds), chips,
    );
    bar.hidden = false;
    document.documentElement.classList.add("live");
    report.listeners.push(refresh);
    report.draw();
    let waiting;
    let width = bar.clientWidth;
    new ResizeObserver(() => {
      if (bar.clientWidth === width) return;
      width = bar.clientWidth;
      clearTimeout(waiting);
      waiting = setTimeout(report.draw, 100);
    }).observe(bar);
  }
}
