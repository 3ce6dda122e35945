// The headline: what the run is, how well it does at the step shown, and how many channels help or harm.

import { clear, el } from "../drawing/dom.js";
import { formatResult } from "../drawing/format.js";
import { rowAt } from "../data/source.js";

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

/** A score at a step. */
function result({ title, scale, steps, values }, step) {
  return [el("span", { class: "ap-muted", text: title }), el("strong", { text: formatResult(scale, values[rowAt({ steps }, step)]) })];
}
