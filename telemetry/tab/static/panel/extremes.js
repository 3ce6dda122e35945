// The channels with the worst and the best numbers at the step shown; of a metric without a direction the lowest and the highest.

import { clear, el } from "../drawing/dom.js";
import { formatCount, ofStep } from "../drawing/format.js";
import { badnessOf, measuresOf, resultText, shownColour } from "../data/shown.js";

const SHOWN = 3;

/** Two short lists that follow the slider, what is resolved and the outermost first; a click selects. */
export class Extremes {
  #shown = [];
  #onSelect;
  #all;

  /** Takes onSelect(kind, name), and table(), which shows all channels that are found. */
  constructor(onSelect, table) {
    this.#onSelect = onSelect;
    this.#all = el("button", { class: "ap-link", type: "button", testid: "all", on: { click: table } });
    this.node = el("section", { class: "ap-rail-part", testid: "extremes" });
  }

  /** Show the ends of what a stage shows; of the channels in the mask, if there is one. */
  update(data, theme, mask, chosen) {
    this.#shown = [data, theme, mask, chosen];
    const { metric, run, loading } = data;
    if (loading) return void (this.node.hidden = true);
    const early = run.graph.values_every > 0 && metric.info.caution && !measuresOf(run).some(({ measured }) => measured);
    if (early) {
      this.node.hidden = false;
      return clear(this.node).append(el("p", { class: "ap-says", text: `No ranking before the value is measured: ${metric.info.title} misleads.` }));
    }
    const ranked = metric.values ? rankingOf(metric, mask) : [];
    // What was asked for is listed without numbers too.
    const found = ranked.length || !mask ? ranked : [...mask.keys()].filter((item) => mask[item]);
    // What is not resolved has no place in an order, unless it was asked for, nor has a single one of several seeds.
    const single = (item) => run.seeds.length && metric.signed && !Number.isNaN(metric.values[item]) && Number.isNaN(metric.lower[item]);
    const unresolved = (item) => Boolean(metric.signed && !mask && (metric.unresolved[item] || single(item)));
    const open = ranked.filter(unresolved).length;
    this.node.hidden = !found.length || (ranked.length > 1 && metric.values[found[0]] === metric.values[found.at(-1)]);
    // Of a signed metric nothing below 0 is good, nothing above it bad; what is resolved stands first, by its value before by own gain.
    const { coloured = metric.values, signed } = metric;
    const sides = signed ? [false, true].map((above) => ranked.filter((item) => coloured[item] > 0 === above)) : [found.slice(0, Math.ceil(found.length / 2)), found.slice(Math.ceil(found.length / 2))];
    const place = (item, { first, beside, chance } = metric.words?.[item] ?? {}) => (first ? 0 : chance || (signed && metric.unresolved[item]) ? 3 : beside ? 2 : 1);
    // Of signals those against the gradient are the worst, in the order of the strip; of the best those that surely follow it stand first.
    const aligned = run.catalog.verdicts?.signals.find((one) => one.metric === metric.name);
    const against = new Set(aligned ? data.against : []);
    const mean = metric.counts ? run.meanOf(Math.max(...metric.counts)) : "";
    const measured = metric.lower || mean;
    // What is at fault is the first of the worst, before its victims, and none of the best.
    const faults = metric.info.good && measured && !mask && found.length ? data.faults : new Map();
    const [bad, good] = [sides[0], sides[1].reverse()].map((items) => items.filter((item) => !unresolved(item) && !faults.has(item) && !against.has(item)).sort((one, other) => place(one) - place(other)));
    // A signal that surely follows the gradient is none of the worst.
    const follows = (item) => aligned && metric.lower?.[item] > 0 && metric.values[item] >= aligned.grades.at(-1)[0];
    good.push(...bad.filter(follows));
    bad.splice(0, bad.length, ...bad.filter((item) => !follows(item)));
    if (aligned && metric.lower) good.sort((one, other) => (metric.lower[other] > 0) - (metric.lower[one] > 0));
    bad.unshift(...[...against].filter((item) => !faults.has(item) && found.includes(item)));
    const none = signed && !mask && open && open < ranked.length && !(bad.length && good.length) ? `, none surely ${bad.length ? "above" : "below"} 0` : "";
    bad.unshift(...faults.keys());
    const of = mean ? "" : ofStep(metric.at, data.step) || " now"; // the colour's card says of what it is the mean
    const order = (all, items = all.filter((item) => !faults.has(item))) => (metric.unresolved && items.some((item) => metric.unresolved[item]) && (signed || !metric.unresolved[items[0]] || items.every((item) => metric.unresolved[item])) ? (items.every((item) => metric.unresolved[item]) ? ", all unresolved" : ", resolved first") : "");
    const heading = (end, items) => `${end} ${metric.info.title}${of}${order(items)}${metric.info.good && !measured ? ", no interval" : ""}`;
    const ends = metric.info.good && measured ? ["Worst", "Best"] : { low: ["Highest", "Lowest"], one: ["Furthest from 1:", "Nearest to 1:"] }[metric.info.good] ?? ["Lowest", "Highest"];
    const lists = ranked.length > 1 ? [[heading(ends[0], bad), bad], [heading(ends[1], good), good]].filter(([, items]) => items.length) : [[mask ? "Found" : "Channel", found]];
    const row = (index) => this.#row(index, chosen?.kind === "channel" && chosen.both.includes(index));
    const count = found.length > 1 || mask ? found.length : run.channels.length;
    this.#all.hidden = count < 2;
    this.#all.textContent = `all ${formatCount(count, "channel")}${open ? `, ${open} unresolved` : ""}${none}: table`;
    clear(this.node).append(...lists.flatMap(([heading, items]) => [el("h2", { class: "ap-heading", text: heading }), el("ol", { class: "ap-rows ap-extremes" }, ...items.slice(0, SHOWN).map(row))]), this.#all);
  }

  #row(index, chosen) {
    const [{ run, metric }, theme] = this.#shown;
    const name = run.nameOf("channel", index);
    const unresolved = Boolean(metric.unresolved?.[index]);
    const swatch = el("span", { class: "ap-swatch" });
    swatch.style.background = shownColour(metric, index, theme);
    const bounded = resultText({ ...metric, counts: null }, index);
    const title = unresolved ? `${name}: ${bounded}, the interval contains 0` : name;
    const props = { class: unresolved ? "ap-row ap-unresolved" : "ap-row", type: "button", title, aria: { pressed: String(chosen) }, on: { click: (event) => this.#onSelect("channel", name, event.shiftKey) } };
    const fault = this.#shown[0].faults.get(index);
    return el("li", {}, el("button", props, swatch, el("span", { class: "ap-row-name", text: name }), el("span", { class: "ap-muted", text: fault ? `${bounded}, ${fault}` : bounded })));
  }
}

/** The channels that have a number, or a verdict of the measure without one, worst first, of value by its gain in loss where all have one; of a metric without a direction lowest first. */
function rankingOf({ run, at, values: numbers, coloured: values = numbers, info, name, words }, mask) {
  const own = (item) => !Number.isNaN(numbers[item]) || words?.[item]?.first || words?.[item]?.beside === name;
  const known = [...values.keys()].filter((item) => !Number.isNaN(values[item]) && own(item) && (!mask || mask[item]));
  const gains = name === "value" ? values.map((_, item) => run.numberAt("own_gain", item, at).value) : values;
  const by = known.some((item) => Number.isNaN(gains[item])) ? values : gains;
  return known.sort((one, other) => badnessOf(info, by[other]) - badnessOf(info, by[one]) || one - other);
}
