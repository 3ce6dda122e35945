// The headline: what the run is, and how well it does at the step shown, with its curve.

import { clear, el, svgPicture } from "../drawing/dom.js";
import { formatCount, formatResult } from "../drawing/format.js";
import { shortName } from "../drawing/textfit.js";

const WIDE = 120;
const HIGH = 20;
/** Room for the dot at the step shown, in px. */
const EDGE = 3;

/** So many readouts are named. */
const HEADLINE_NAMED = 2;

/** The first words of the page. */
export class Headline {
  #drawn = "";
  #actions;

  /** @param {Object} actions select(kind, name); find(word): switches a condition of Find on or off */
  constructor(actions) {
    this.#actions = actions;
    this.node = el("section", { class: "ap-headline ap-inline", testid: "headline", aria: { label: "What the run has reached" }, hidden: true });
  }

  /** Show what `headlineAt` found for a step. */
  update(found, step) {
    const state = JSON.stringify([found, step]);
    if (state === this.#drawn) return;
    this.#drawn = state;
    this.node.hidden = !found;
    if (!found) return;
    const { scenario, seeds, title, steps, values, final } = found;
    clear(this.node).append(el("strong", { text: scenario }));
    if (seeds.length) this.node.append(el("span", { class: "ap-muted", title: seeds.join(", "), text: `${seeds.length} seeds` }));
    if (!title) return;
    this.node.append(el("span", { class: "ap-muted", text: title }), el("strong", { text: formatResult(found) }), this.#whose(found));
    if (values.length > 1) this.node.append(curve(steps, values, step));
    if (final) this.node.append(el("span", { class: "ap-muted", testid: "final", text: `at the end ${final.title} ${formatResult(final)}` }));
  }

  /** Name the agents that the score is the mean of, each a link; many are found by a click. */
  #whose({ readouts, agents, over, own }) {
    const link = (text, click) => el("button", { class: "ap-link", type: "button", text, on: { click } });
    const named = readouts.slice(0, HEADLINE_NAMED).flatMap((name, at) => [at ? ", " : "", link(shortName(name), () => this.#actions.select("agent", name))]);
    const many = [link(formatCount(readouts.length, "readout"), () => this.#actions.find("role:readout"))];
    const of = readouts.length > HEADLINE_NAMED ? many : readouts.length ? named : [`all ${formatCount(agents, "agent")}`];
    return el("span", { class: "ap-muted", testid: "whose" }, "of ", ...of, over, own && "; over the run's own ", own && el("strong", { text: formatResult(own) }));
  }
}

/** A curve without axes, and a dot at the newest number at or before a step. */
function curve(steps, values, step) {
  const [first, last] = [steps[0], steps[steps.length - 1]];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (at) => EDGE + ((at - first) / (last - first || 1)) * (WIDE - 2 * EDGE);
  const y = (value) => HIGH - EDGE - ((value - low) / (high - low || 1)) * (HIGH - 2 * EDGE);
  const line = values.map((value, row) => `${row ? "L" : "M"}${x(steps[row]).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const shapes = [["path", { d: line, fill: "none", stroke: "currentColor", "stroke-width": 1.3, "stroke-opacity": 0.55 }]];
  const newest = steps.findLastIndex((at) => at <= step);
  if (newest >= 0) shapes.push(["circle", { cx: x(steps[newest]), cy: y(values[newest]), r: 2.6, fill: "currentColor" }]);
  return svgPicture(WIDE, HIGH, shapes);
}
