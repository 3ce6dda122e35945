// The headline: what the run is, how well it does at the step shown, and how many channels help or harm.

import { clear, el, svgPicture } from "../drawing/dom.js";
import { formatResult } from "../drawing/format.js";
import { rowAt } from "../data/source.js";

const WIDE = 120;
const HIGH = 20;
/** Room for the dot at the step shown, in px. */
const EDGE = 3;

/** The first words of the page. */
export class Headline {
  #actions;

  /** @param {Object} actions find(word) */
  constructor(actions) {
    this.#actions = actions;
    this.node = el("section", { class: "ap-headline", testid: "headline", aria: { label: "What the run has reached" } });
  }

  /** Show a run at a step; counts: how many channels have each word by the metric of the lines. */
  update(run, step, counts, metric) {
    const scores = run.headlines.filter((one) => run.peek("agent", one)).map((one) => ({ ...run.info("agent", one), ...run.score(one) }));
    clear(this.node).append(el("strong", { text: run.graph.scenario }));
    for (const score of scores.filter(({ steps }) => steps[0] <= step)) this.node.append(...result(score, step));
    const [final] = scores.filter(({ steps }) => steps[0] > step);
    if (final) this.node.append(el("span", { class: "ap-muted", text: "at the end" }), ...result(final, Infinity));
    if (!counts.length) return;
    const chips = counts.map(([word, count]) => el("button", { class: "ap-chip", type: "button", testid: `word-${word}`, data: { word }, text: `${word} ${count.toLocaleString("en-US")}`, on: { click: () => this.#actions.find(word) } }));
    this.node.append(el("span", { class: "ap-headline-gap ap-muted", text: `channels by ${metric.info.title}` }), ...chips);
  }
}

/** A score at a step, with its curve where it was logged several times. */
function result({ title, scale, steps, values }, step) {
  const number = el("strong", { text: formatResult(scale, values[rowAt({ steps }, step)]) });
  return [el("span", { class: "ap-muted", text: title }), number, steps.length > 1 && step < Infinity ? curve(steps, values, step) : ""];
}

/** A curve without axes, and a dot at the newest number at or before a step. */
function curve(steps, values, step) {
  const [first, last] = [steps[0], steps.at(-1)];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (at) => EDGE + ((at - first) / (last - first || 1)) * (WIDE - 2 * EDGE);
  const y = (value) => HIGH - EDGE - ((value - low) / (high - low || 1)) * (HIGH - 2 * EDGE);
  const line = values.map((value, row) => `${row ? "L" : "M"}${x(steps[row]).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const row = rowAt({ steps }, step);
  const dot = ["circle", { cx: x(steps[row]), cy: y(values[row]), r: 2.6, fill: "currentColor" }];
  return svgPicture(WIDE, HIGH, [["path", { d: line, fill: "none", stroke: "currentColor", "stroke-width": 1.3, "stroke-opacity": 0.55 }], dot]);
}
