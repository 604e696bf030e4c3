"use strict";
// Finds an area by name: marks it in every chart and table, and shows its figures. Everything else works without this script.
(() => {
  const data = JSON.parse(document.getElementById("areas").textContent);
  const byId = (id) => document.getElementById(id);
  const input = byId("find"), clear = byId("clear"), found = byId("found");
  const names = new Map();
  for (const [key, [name, kind]] of Object.entries(data.areas)) {
    const code = key.split("/")[1];
    const label = name === code ? `${name} (${kind})` : `${name} (${kind}, ${code})`;
    names.set(label.toLowerCase(), key);
    byId("find-areas").append(new Option(label, label));
  }
  const svg = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text) element.textContent = text;
    return element;
  };
  const shown = (value) => (value >= 10 ? value.toFixed(0) : value.toPrecision(2));

  // The area's rates over time with their limits, and England's as a dashed line.
  function drawing(line, england, name) {
    const periods = [...new Set([...england.map((point) => point[0]), ...line.map((point) => point[0])])].sort();
    const values = [...england.map((point) => point[1]), ...line.map((point) => point[3] ?? point[1])];
    const most = Math.max(...values) || 1;
    const x = (period) => 36 + (294 * periods.indexOf(period)) / (periods.length - 1);
    const y = (value) => 120 - (100 * value) / most;
    const label = `${name}: ${line.map((point) => `${point[0]} ${shown(point[1])}`).join(", ")} per 100,000`;
    const picture = svg("svg", { viewBox: "0 0 400 160", role: "img", "aria-label": label });
    const path = (points) => points.map((point) => `${x(point[0])},${y(point[1])}`).join(" ");
    picture.append(svg("line", { class: "base", x1: 20, x2: 350, y1: 120, y2: 120 }));
    picture.append(svg("polyline", { class: "of-england", points: path(england) }));
    picture.append(svg("polyline", { class: "of-area", points: path(line) }));
    // The labels of the last points are on different sides of the lines, so that neither covers the other.
    const end = line[line.length - 1], last = england[england.length - 1];
    const lower = Boolean(last) && end[1] < last[1];
    for (const point of line) {
      const [period, value, low, high] = point;
      if (low !== null) picture.append(svg("line", { class: "of-area", x1: x(period), x2: x(period), y1: y(low), y2: y(high) }));
      picture.append(svg("circle", { cx: x(period), cy: y(value), r: 4 }));
      picture.append(svg("text", { x: x(period) + 7, y: y(value) + (point === end && lower ? 16 : -6) }, shown(value)));
    }
    for (const period of periods) {
      const lines = period.replace(" to ", " to\n").split("\n");
      lines.forEach((text, number) =>
        picture.append(svg("text", { x: x(period), y: 142 + 14 * number, "text-anchor": "middle" }, text)));
    }
    if (last) picture.append(svg("text", { x: 338, y: y(last[1]) + (lower ? -6 : 16) }, "England"));
    return picture;
  }

  function fill(panel, key) {
    const policy = data.policies[panel.dataset.policy];
    panel.replaceChildren();
    panel.hidden = !key;
    if (!key) return;
    const row = policy && policy.rows[key], [name] = data.areas[key];
    const words = document.createElement("p"), strong = document.createElement("strong");
    strong.textContent = `${name}. `;
    words.append(strong, row ? row.words : "No figures are published for this area.");
    panel.append(words);
    if (!row || row.line.length < 2) return;
    // England in periods of the same kind: single years or pooled ones.
    panel.append(drawing(row.line, policy.england.filter(([period]) => period.length === row.line[0][0].length), name));
  }

  function choose(key) {
    document.querySelectorAll(".chosen").forEach((element) => element.classList.remove("chosen"));
    document.documentElement.classList.toggle("others-chosen", Boolean(key));
    clear.hidden = !key;
    document.querySelectorAll(".own").forEach((panel) => fill(panel, key));
    if (!key) return;
    document.querySelectorAll(`[data-area="${CSS.escape(key)}"]`).forEach((element) => {
      element.classList.add("chosen");
      const view = element.closest("details.view");
      if (view) view.open = true;
      const box = element.closest(".long");
      if (box && element.tagName === "TR") box.scrollTop = element.offsetTop - box.clientHeight / 2;
      // A point that comes last is drawn on top of the others.
      if (element.tagName === "use") element.parentNode.append(element);
    });
  }

  function search() {
    const typed = input.value.trim().toLowerCase();
    const matches = typed ? [...names].filter(([label]) => label === typed || label.includes(typed)) : [];
    const exact = matches.find(([label]) => label === typed);
    const one = exact || (matches.length === 1 && typed.length > 2 ? matches[0] : undefined);
    choose(one && one[1]);
    if (!typed) found.textContent = "";
    else if (one) found.textContent = `Showing ${data.areas[one[1]][0]}`;
    else found.textContent = matches.length ? `${matches.length} areas match` : "No area matches";
  }

  if (names.size) document.querySelector(".finder").hidden = false;
  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") clear.click();
  });
  clear.addEventListener("click", () => {
    input.value = "";
    search();
    input.focus();
  });
  const print = byId("print-all");
  print.hidden = false;
  print.addEventListener("click", () => {
    const closed = [...document.querySelectorAll("details:not([open])")];
    document.documentElement.classList.add("whole");
    closed.forEach((part) => (part.open = true));
    window.print();
    closed.forEach((part) => (part.open = false));
    document.documentElement.classList.remove("whole");
  });
})();
