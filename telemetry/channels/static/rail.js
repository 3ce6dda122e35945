// The rail on the left: how to read the picture. Figures are chosen here, and explained in plain words.

import { el, clear } from "./dom.js";
import { formatEnds, formatNumber, formatStep } from "./format.js";
import { CATEGORY_COUNT, LEVELS, categoryColour, isDiverging, isWarped, levelOf, paletteOf, themeColours, valueAt } from "./colours.js";
import { DASHES, WIDTHS, dashOf } from "./graphpaint.js";
import { Extremes } from "./extremes.js";
import { measuresOf, metricsOf } from "./shown.js";

const SPACE = "http://www.w3.org/2000/svg";
const ROLE_TITLES = { agent: "learns", readout: "its answer counts", frozen: "does not learn", other: "of another role" };

/** Chooses and explains the figure of the lines or of the rings. */
class FigureCard {
  #theme = "light";
  #figures = [];
  #select;
  #spread = el("canvas", { class: "ap-spread", aria: { hidden: "true" } });
  #bar = el("div", { class: "ap-bar" });
  #low = el("span");
  #middle = el("span");
  #high = el("span");
  #scale = el("div", { class: "ap-scale" }, this.#spread, this.#bar, el("div", { class: "ap-ends" }, this.#low, this.#middle, this.#high));
  #says;
  #caution;
  #as = el("p", { class: "ap-as", hidden: true });
  #choices = "";

  #near = el("button", { class: "ap-link ap-near", type: "button" });
  #curve = el("button", { class: "ap-link ap-near", type: "button" });

  constructor(kind, heading, testid, { setMetric, setNear, setCurve }, marks) {
    this.kind = kind;
    this.#curve.dataset.testid = `curve-${kind}`;
    this.#curve.addEventListener("click", () => setCurve(kind, this.#curve.dataset.other));
    this.#near.dataset.testid = `near-${kind}`;
    this.#near.addEventListener("click", () => setNear(kind, this.#near.getAttribute("aria-pressed") !== "true"));
    this.#select = el("select", { class: "ap-select", testid, aria: { label: heading }, on: { change: () => setMetric(kind, this.#select.value) } });
    this.#says = el("p", { class: "ap-says", testid: marks ? "says" : "says-ring" });
    this.#caution = el("p", { class: "ap-caution", testid: marks ? "caution" : "caution-ring", hidden: true });
    this.node = el(
      "section",
      { class: `ap-rail-part ap-rail-${kind}` },
      el("h2", { class: "ap-heading", text: heading }),
      this.#select,
      this.#scale,
      el("div", { class: "ap-rail-head" }, this.#curve, this.#near),
      this.#as,
      this.#says,
      this.#caution,
    );
  }

  /** Show the figures of all stages; the first one explains. */
  update(runs, figures, theme, step, near) {
    this.#figures = figures;
    this.#theme = theme;
    const [figure] = figures;
    this.#choose(runs, figure.metric);
    const { info, scale, low, high, below, above, only, bendable } = figure;
    const palette = paletteOf(scale, theme);
    const [least, most] = formatEnds(low, high);
    const middle = isDiverging(scale) ? "0" : isWarped(scale) ? formatNumber(valueAt(scale, 0.5, low, high)) : "";
    const one = only ?? onlyOf(figures);
    this.#bar.style.background = only === null ? `linear-gradient(to right, ${palette.join(", ")})` : palette[levelOf(scale, only, low, high)];
    this.#low.textContent = only === null ? (below ? "≤ " : "") + least : "";
    this.#middle.textContent = one === null ? middle : `all ${formatNumber(one)}${only === null ? " at this step" : ""}`;
    this.#high.textContent = only === null ? (above ? "≥ " : "") + most : "";
    this.#spread.hidden = one !== null;
    this.#scale.hidden = !figure.metric || !figures.some(({ values }) => values);
    // Fixed scales are alike at all steps.
    this.#near.hidden = !figure.metric || scale === "share" || (scale === "diverging" && info.limit > 0) || only !== null;
    this.#curve.hidden = !bendable || !figure.metric;
    this.#curve.dataset.other = isWarped(scale) ? "linear" : "log";
    this.#curve.textContent = isWarped(scale) ? "log scale" : "linear scale";
    this.#curve.title = isWarped(scale) ? "Few numbers lie far from all others: the scale is bent; click for a linear one" : "Click for a scale that tells small numbers apart";
    this.#near.setAttribute("aria-pressed", String(near));
    this.#near.textContent = near ? "of this step" : "of all steps";
    this.#near.title = near ? "Colours are told apart at this step; click to compare steps" : "Colours can be compared over steps; click to tell apart more at this one";
    this.#says.textContent = info.says;
    this.#says.hidden = !info.says;
    this.#caution.textContent = info.caution;
    this.#caution.hidden = !info.caution;
    this.#as.textContent = figure.at === null ? "No number at this step." : `As of step ${formatStep(figure.at)}.`;
    this.#as.hidden = figure.at === step || !figure.metric;
    this.#draw();
  }

  #choose(runs, metric) {
    const found = metricsOf(runs, this.kind);
    const lacking = this.kind === "channel" ? measuresOf(runs[0]).filter((one) => !found.some(({ metric: there }) => there === one.metric)) : [];
    const choices = JSON.stringify([found, lacking]);
    if (choices !== this.#choices) {
      this.#choices = choices;
      const options = found.map((item) => el("option", { value: item.metric, text: item.title }));
      const missing = lacking.map((one) => el("option", { value: one.metric, disabled: true, text: `${one.title}: not measured` }));
      clear(this.#select).append(...missing, ...options);
      if (!found.length) this.#select.append(el("option", { value: "", text: "nothing logged" }));
    }
    this.#select.value = metric;
    this.#select.disabled = !found.length;
  }

  /** How many items have each colour: a small histogram over the bar. */
  #draw() {
    const canvas = this.#spread;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (!width) return;
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const counts = new Uint32Array(LEVELS);
    for (const { values, scale, low, high } of this.#figures) {
      if (!values) continue;
      for (let item = 0; item < values.length; item++) {
        const level = levelOf(scale, values[item], low, high);
        if (level >= 0) counts[level] += 1;
      }
    }
    const most = Math.max(...counts, 1);
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    const palette = paletteOf(this.#figures[0].scale, this.#theme);
    for (let level = 0; level < LEVELS; level++) {
      if (!counts[level]) continue;
      const tall = Math.max(ratio * 2, (height * counts[level]) / most);
      const left = Math.round((width * level) / LEVELS);
      pen.fillStyle = palette[level];
      pen.fillRect(left, height - tall, Math.round((width * (level + 1)) / LEVELS) - left, tall);
    }
  }
}

/** The one number that all items have at the step shown; null: they have several, or none. */
function onlyOf(figures) {
  let only = null;
  for (const { values } of figures) {
    for (const value of values ?? []) {
      if (Number.isNaN(value)) continue;
      if (only !== null && value !== only) return null;
      only = value;
    }
  }
  return only;
}

/** The rail: figures of lines and rings, and what widths, dashes and discs mean. */
export class Rail {
  #lines;
  #rings;
  #key = el("section", { class: "ap-rail-part ap-key" });
  #ends;
  #drawn = "";

  /** @param {Object} actions setMetric(kind, metric), setNear(kind, near), setCurve(kind, curve), select(kind, name) */
  constructor(actions) {
    this.#ends = new Extremes(actions.select);
    this.#lines = new FigureCard("channel", "Channels: colour", "figure", actions, true);
    this.#rings = new FigureCard("agent", "Agents: ring", "ring", actions, false);
    const parts = [this.#lines.node, this.#ends.node, this.#rings.node, this.#key];
    this.node = el("aside", { class: "ap-rail", testid: "legend", aria: { label: "How to read the picture" } }, ...parts);
  }

  /**
   * Explain what is shown.
   *
   * @param {Run[]} runs
   * @param {Object[]} data what the stages show, one per run
   * @param {Object} how theme; mask: channels of the first run that search and filter leave, or null; chosen: kind and index
   *   in the first run, or null; view: where there are no rings and no lines they are not explained; near: by kind whether
   *   the scale is that of the step
   */
  update(runs, data, { theme, mask, chosen, view, near }) {
    this.node.dataset.view = view;
    const { step } = data[0];
    this.#lines.update(runs, data.map((item) => item.figure), theme, step, near.channel);
    this.#rings.update(runs, data.map((item) => item.ring), theme, step, near.agent);
    this.#explain(runs, data, theme);
    this.#ends.update(data[0], theme, mask, chosen);
  }

  /** Take over another selection, or what another search and filter leave. */
  mark(mask, chosen) {
    this.#ends.mark(mask, chosen);
  }

  #explain(runs, data, theme) {
    const most = data[0].width ? data[0].width.high : null;
    const { delays } = data[0];
    const dashes = [...new Set(runs.flatMap((run) => run.channels.map((channel) => dashOf(channel, delays))))].sort();
    const roles = [...new Set(runs.flatMap((run) => run.agents.map((agent) => (agent.role in ROLE_TITLES ? agent.role : "other"))))].sort();
    const parts = Math.max(...runs.map((run) => run.parts));
    const gone = data.some((item, at) => item.parts && runs[at].agents.some(({ part }) => item.parts.gone(part)));
    const faded = data.some(({ figure }) => figure.unresolved?.includes(1));
    const state = JSON.stringify([most, delays, dashes, roles, theme, parts, gone, faded]);
    if (state === this.#drawn) return;
    this.#drawn = state;
    const colours = themeColours(theme);
    const rows = [];
    if (most !== null) rows.push([widthSample(colours), `message energy 0 – ${formatNumber(most)}`, "How wide a line is", "ap-wide"]);
    for (const dash of dashes) {
      const title = "How a line is dashed; in a crowd only after zooming in";
      rows.push([lineSample(colours.muted, 2, DASHES[dash]), dashText(dash, delays), title]);
    }
    rows.push([lineSample(colours.none, 2, []), "no number", "The figure has no number here"]);
    if (faded) rows.push([fadedSample(colours), "faded: the interval holds 0", "It is not resolved whether the channel matters or harms", "ap-wide"]);
    for (const role of roles) rows.push([discSample(colours, role), role, ROLE_TITLES[role]]);
    rows.push([haloSample(colours), "ticks now", "Its clock ticks at the step shown"]);
    for (let part = 0; part < Math.min(parts, CATEGORY_COUNT); part++) {
      const text = part === CATEGORY_COUNT - 1 && parts > CATEGORY_COUNT ? `part ${part}; more in the same colours` : `part ${part}`;
      rows.push([plateSample(colours, categoryColour(part, theme)), text, "The part that computes the agent"]);
    }
    if (gone) rows.push([goneSample(colours), "gone", "Its part does not run"]);
    if (parts) rows.push([cutSample(colours), "cut", "Sender and receiver are in different parts"]);
    clear(this.#key).append(
      el("h2", { class: "ap-heading", text: "Key" }),
      el("ul", { class: "ap-key-rows" }, ...rows.map(([picture, text, title, wide]) => el("li", { title, class: wide }, picture, text))),
    );
  }
}

function dashText(dash, delays) {
  if (dash === DASHES.length - 1) return "drops";
  const more = dash === DASHES.length - 2 && delays.length > dash + 1 ? "+" : "";
  return delays[dash] === 0 && !more ? "no delay" : `delay ${delays[dash]}${more}`;
}

function sample(...shapes) {
  const picture = document.createElementNS(SPACE, "svg");
  for (const [key, value] of Object.entries({ width: 32, height: 18, viewBox: "0 0 32 18", "aria-hidden": "true" })) picture.setAttribute(key, value);
  for (const [tag, attributes] of shapes) {
    const shape = document.createElementNS(SPACE, tag);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    picture.append(shape);
  }
  return picture;
}

function lineSample(colour, width, dashes) {
  const round = dashes[0] < 1 ? "round" : "butt";
  return sample(["path", { d: "M1 9H31", stroke: colour, "stroke-width": width, "stroke-dasharray": dashes.join(" "), "stroke-linecap": round, fill: "none" }]);
}

function fadedSample(colours) {
  return sample(["path", { d: "M1 9H31", stroke: colours.gain, "stroke-width": 2.5, "stroke-opacity": 0.36, fill: "none" }]);
}

function widthSample(colours) {
  const [thin, thick] = [WIDTHS[0], WIDTHS[WIDTHS.length - 1]];
  return sample(["path", { d: `M1 ${9 - thin / 2}L31 ${9 - thick / 2}V${9 + thick / 2}L1 ${9 + thin / 2}Z`, fill: colours.muted }]);
}

function discSample(colours, role) {
  return sample(
    ["circle", { cx: 16, cy: 9, r: 7.5, fill: "none", stroke: colours.none, "stroke-width": 2 }],
    ["circle", { cx: 16, cy: 9, r: 5.2, fill: colours.roles[role] }],
  );
}

function haloSample(colours) {
  return sample(
    ["circle", { cx: 16, cy: 9, r: 5, fill: "none", stroke: colours.none, "stroke-width": 2 }],
    ["circle", { cx: 16, cy: 9, r: 8, fill: "none", stroke: colours.faint, "stroke-width": 1 }],
  );
}

function plateSample(colours, colour) {
  return sample(
    ["circle", { cx: 16, cy: 9, r: 8.5, fill: colour, "fill-opacity": 0.38 }],
    ["circle", { cx: 16, cy: 9, r: 5, fill: colours.paper, stroke: colours.none, "stroke-width": 2 }],
  );
}

function goneSample(colours) {
  return sample(
    ["circle", { cx: 16, cy: 9, r: 8, fill: "none", stroke: colours.warn, "stroke-width": 1.6, "stroke-dasharray": "4 3" }],
    ["circle", { cx: 16, cy: 9, r: 5, fill: colours.paper, stroke: colours.none, "stroke-width": 2 }],
  );
}

function cutSample(colours) {
  return sample(["path", { d: "M1 9H14M18 9H31", stroke: colours.muted, "stroke-width": 2, fill: "none" }], ["path", { d: "M14 4V14M18 4V14", stroke: colours.ink, "stroke-width": 1.4 }]);
}
