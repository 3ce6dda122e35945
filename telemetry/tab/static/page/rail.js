// The rail on the left: how to read the picture. Metrics are chosen here, and explained in plain words.

import { el, clear, setText, svgPicture } from "../drawing/dom.js";
import { formatCount, formatInterval, formatNumber, formatStep } from "../drawing/format.js";
import { CATEGORY_COUNT, categoryColour, isDiverging, metricColour, paletteOf, themeColours } from "../drawing/colours.js";
import { DASHES, WIDTHS, dashOf } from "../graph/paint.js";

const ROLE_TITLES = { agent: "learns", readout: "its metrics are the run's result", frozen: "does not learn", other: "has another role" };
/** Channels in each of the two short lists. */
const LISTED = 3;

/** Build a sentence of which one line is shown until it is clicked. */
const folded = (props) => el("p", { class: "ap-says ap-cut", tabindex: "0", ...props });

/** Chooses and explains the metric of the lines or of the rings. */
class MetricCard {
  #select;
  #bar = el("div", { class: "ap-bar" });
  #ends = [0, 1, 2].map(() => el("span"));
  #scale = el("div", {}, this.#bar, el("div", { class: "ap-ends" }, ...this.#ends));
  #says;
  #as = folded({ hidden: true });
  #choices = "";

  constructor(kind, heading, testid, { setMetric }) {
    this.kind = kind;
    this.#select = el("select", { class: "ap-select", testid, aria: { label: heading }, on: { change: () => setMetric(kind, this.#select.value) } });
    this.#says = folded({ testid: `says-${testid}` });
    const parts = [el("h2", { class: "ap-heading", text: heading }), this.#select, this.#scale, this.#as, this.#says];
    this.node = el("section", { class: `ap-rail-part ap-rail-${kind}` }, ...parts);
  }

  /** Show a metric at a step. */
  update(run, metric, step, theme) {
    this.#choose(run, metric.name);
    const { info, scale, low, high, values, series } = metric;
    this.#bar.style.background = `linear-gradient(to right, ${paletteOf(scale, theme).join(", ")})`;
    [formatNumber(low), isDiverging(scale) ? "0" : "", formatNumber(high)].forEach((text, at) => (this.#ends[at].textContent = text));
    this.#scale.hidden = !values;
    setText(this.#says, info.says);
    const count = values ? values.filter((value) => !Number.isNaN(value)).length : 0;
    const late = metric.at === step ? "" : `, as of step ${formatStep(metric.at)}`;
    setText(this.#as, !metric.name ? "" : count ? `Values of ${count.toLocaleString("en-US")} of ${formatCount(values.length, this.kind)}${late}.` : series ? "No values at this step." : "loading…");
  }

  #choose(run, metric) {
    const found = run.shownMetrics(this.kind).map((one) => [one, run.info(this.kind, one).title]).sort(([, one], [, other]) => one.localeCompare(other));
    const choices = JSON.stringify(found);
    if (choices !== this.#choices) {
      this.#choices = choices;
      clear(this.#select).append(...found.map(([value, text]) => el("option", { value, text })));
      if (!found.length) this.#select.append(el("option", { value: "", text: "nothing logged" }));
    }
    this.#select.value = metric;
    this.#select.disabled = !found.length;
  }
}

/** The rail: metrics of lines and rings, the highest and lowest channels, and what widths, dashes and discs mean. */
export class Rail {
  #lines;
  #rings;
  #ends = el("section", { class: "ap-rail-part", testid: "extremes" });
  #key = el("section", { class: "ap-rail-part ap-key" });
  #actions;
  #drawn = "";

  /** @param {Object} actions setMetric(kind, metric), select(kind, name), setView(view) */
  constructor(actions) {
    this.#actions = actions;
    this.#lines = new MetricCard("channel", "Channels: colour", "metric", actions);
    this.#rings = new MetricCard("agent", "Agents: ring", "ring", actions);
    this.node = el("aside", { class: "ap-rail", testid: "legend", aria: { label: "How to read the picture" } }, this.#lines.node, this.#ends, this.#rings.node, this.#key);
  }

  /** Explain what the stage shows; chosen: kind and index; some views have no rings and lines. */
  update(data, { theme, chosen, view }) {
    const { run, metric, ring } = data;
    this.node.dataset.view = view;
    this.#lines.update(run, metric, data.step, theme);
    this.#rings.update(run, ring, data.step, theme);
    this.#explain(data, theme);
    this.#extremes(data, theme, chosen);
  }

  /** The channels with the highest and the lowest numbers, of those that are found. */
  #extremes({ run, metric, found }, theme, chosen) {
    const { values, words, lower, upper, info } = metric;
    const items = values ? [...values.keys()].filter((item) => !Number.isNaN(values[item]) && (!found || found.channel[item])) : [];
    items.sort((one, other) => values[other] - values[one]);
    this.#ends.hidden = !items.length;
    const row = (item) => {
      const swatch = el("span", { class: "ap-swatch" });
      swatch.style.background = metricColour(metric, item, theme);
      const name = run.nameOf("channel", item);
      const pressed = chosen?.kind === "channel" && chosen.index === item;
      const number = `${formatNumber(values[item])} ${words?.[item] ?? ""}`;
      const title = `${name}: ${formatInterval(values[item], lower?.[item], upper?.[item])}`;
      return el("li", {}, el("button", { class: "ap-row", type: "button", title, aria: { pressed: String(pressed) }, on: { click: () => this.#actions.select("channel", name) } }, swatch, el("span", { class: "ap-row-name", text: name }), el("span", { class: "ap-muted", text: number })));
    };
    const highest = items.slice(0, LISTED);
    const lowest = items.slice(Math.max(items.length - LISTED, highest.length)).reverse();
    const lists = [[`Highest ${info.title}`, highest], [`Lowest ${info.title}`, lowest]].filter(([, of]) => of.length);
    const all = el("button", { class: "ap-link", type: "button", testid: "all", text: `all ${formatCount(items.length, "channel")}: table`, on: { click: () => this.#actions.setView("table") } });
    clear(this.#ends).append(...lists.flatMap(([heading, of]) => [el("h2", { class: "ap-heading", text: heading }), el("ol", { class: "ap-rows" }, ...of.map(row))]), all);
  }

  #explain({ run, width, delays, metric }, theme) {
    const dashes = [...new Set(run.channels.map((channel) => dashOf(channel, delays)))].sort();
    const roles = [...new Set(run.agents.map((agent) => (agent.role in ROLE_TITLES ? agent.role : "other")))].sort();
    const hollow = Boolean(metric.unresolved?.includes(1));
    const state = JSON.stringify([run.name, width?.high, dashes, roles, theme, hollow]);
    if (state === this.#drawn) return;
    this.#drawn = state;
    const colours = themeColours(theme);
    const disc = (radius, stroke, fill = "none", more = {}) => ["circle", { cx: 16, cy: 9, r: radius, stroke, fill, "stroke-width": 2, ...more }];
    const line = (stroke, wide, more = {}) => ["path", { d: "M1 9H31", stroke, "stroke-width": wide, fill: "none", ...more }];
    const rows = [];
    if (width) {
      const [thin, thick] = [WIDTHS[0], WIDTHS.at(-1)];
      const wedge = ["path", { d: `M1 ${9 - thin / 2}L31 ${9 - thick / 2}V${9 + thick / 2}L1 ${9 + thin / 2}Z`, fill: colours.muted }];
      rows.push([[wedge], `message energy 0 – ${formatNumber(width.high)}`, "Width of a line", "ap-wide"]);
    }
    const delayed = ["no delay", delays.length > 2 ? "some delay" : `delay ${delays.at(-1)}`, "drops"];
    for (const dash of dashes) {
      const text = dash === 0 && delays[0] > 0 ? `delay ${delays[0]}` : delayed[dash];
      rows.push([[line(colours.muted, 2, { "stroke-dasharray": DASHES[dash].join(" ") })], text, "Dashes of a line"]);
    }
    rows.push([[line(colours.none, 2)], "no value", "The metric has no value here"]);
    if (hollow) rows.push([[line(colours.gain, 4.5), line(colours.paper, 2.5)], "unresolved: the interval contains 0", "The channel may help or harm", "ap-wide"]);
    for (const role of roles) rows.push([[disc(7.5, colours.none), disc(5.2, "none", colours.roles[role])], role, ROLE_TITLES[role]]);
    rows.push([[disc(5, colours.none), disc(8, colours.faint, "none", { "stroke-width": 1 })], "ticks now", "The agent ticks at the step shown"]);
    for (let part = 0; part < Math.min(run.parts, CATEGORY_COUNT); part++) {
      rows.push([[disc(7.5, colours.none), disc(5.2, "none", categoryColour(part, theme))], `part ${part}`, "The part that runs the agent"]);
    }
    const list = rows.map(([shapes, text, title, wide]) => el("li", { title, class: `ap-inline ${wide ?? ""}` }, svgPicture(32, 18, shapes), text));
    clear(this.#key).append(el("h2", { class: "ap-heading", text: "Legend" }), el("ul", { class: "ap-key-rows" }, ...list));
  }
}
