// The channels with the worst and the best numbers at the step shown; of a metric without a direction the lowest and the highest.

import { clear, el } from "../drawing/dom.js";
import { colourOf } from "../drawing/colours.js";
import { formatStep } from "../drawing/format.js";
import { badnessOf, resultText } from "../data/shown.js";

const SHOWN = 3;

/** Two short lists that follow the slider, the outermost first; a click selects. */
export class Extremes {
  #data = null;
  /** The metric as it is listed: of measures of worth the numbers of one step. */
  #metric = null;
  #theme = "light";
  #onSelect;

  /** @param {function(string, string): void} onSelect called with the kind and the name */
  constructor(onSelect) {
    this.#onSelect = onSelect;
    this.node = el("section", { class: "ap-rail-part", testid: "extremes" });
  }

  /** Show the ends of what a stage shows; of the channels in the mask, if there is one. */
  update(data, theme, mask, chosen) {
    this.#data = data;
    this.#theme = theme;
    const metric = data.metric.listed ? { ...data.metric, older: null, unresolved: null, ...data.metric.listed } : data.metric;
    this.#metric = metric;
    const ranked = metric.values ? rankingOf(metric, mask) : [];
    // What was asked for is listed without numbers too.
    const found = ranked.length || !mask ? ranked : [...mask.keys()].filter((item) => mask[item]).slice(0, SHOWN);
    this.node.hidden = !found.length || (ranked.length > 1 && metric.shades[found[0]] === metric.shades[found.at(-1)]);
    const first = Math.min(SHOWN, Math.ceil(found.length / 2));
    const [bad, good] = (metric.info.good ? ["Worst", "Best"] : ["Lowest", "Highest"]).map((end) => `${end} ${metric.info.title}${metric.counts ? `, mean of ${Math.max(...metric.counts)} entries` : metric.step && metric.step !== data.metric.at ? ` at step ${formatStep(metric.step)}` : " now"}`);
    const lists = ranked.length > 1 ? [[bad, found.slice(0, first)], [good, found.slice(first).slice(-SHOWN).reverse()]] : [["Found", found]];
    const row = (index) => this.#row(index, chosen?.kind === "channel" && chosen.both.includes(index));
    clear(this.node).append(...lists.flatMap(([heading, items]) => [el("h2", { class: "ap-heading", text: heading }), el("ol", { class: "ap-rows ap-extremes" }, ...items.map(row))]));
  }

  #row(index, chosen) {
    const [{ run }, metric] = [this.#data, this.#metric];
    const name = run.nameOf("channel", index);
    const unresolved = Boolean(metric.unresolved?.[index]) || (metric.lower?.[index] <= 0 && metric.upper?.[index] >= 0);
    const swatch = el("span", { class: "ap-swatch" });
    swatch.style.background = colourOf(metric.scale, metric.shades?.[index] ?? NaN, metric.low, metric.high, this.#theme);
    const title = unresolved ? `${name}: its interval contains 0` : name;
    const props = { class: unresolved ? "ap-row ap-unresolved" : "ap-row", type: "button", title, aria: { pressed: String(chosen) }, on: { click: (event) => this.#onSelect("channel", name, event.shiftKey) } };
    const texts = [el("span", { class: "ap-row-name", text: name }), el("span", { class: "ap-muted", text: resultText({ ...metric, counts: null }, index) })];
    return el("li", {}, el("button", props, swatch, ...texts));
  }
}

/** The channels that have a number or are judged without, worst first, those between whose interval contains 0; of a metric without a direction lowest first. */
function rankingOf({ shades: values, info, lower, upper, judged }, mask) {
  const sure = (item) => judged?.[item] || (upper?.[item] < 0 ? -1 : lower?.[item] > 0 ? 1 : 0);
  const known = [...values.keys()].filter((item) => !Number.isNaN(values[item]) && (!mask || mask[item]));
  return known.sort((one, other) => sure(one) - sure(other) || badnessOf(info, values[other]) - badnessOf(info, values[one]) || one - other);
}
