// The headline: what the run is, and how well it does at the step shown, with its curve.

import { clear, el, svgPicture } from "../drawing/dom.js";
import { formatResult } from "../drawing/format.js";

const WIDE = 120;
const HIGH = 20;
/** Room for the dot at the step shown, in px. */
const EDGE = 3;

/** The first words of the page. */
export class Headline {
  #drawn = "";

  constructor() {
    this.node = el("section", { class: "ap-headline ap-inline", testid: "headline", aria: { label: "What the run has reached" }, hidden: true });
  }

  /** Show what `headlineAt` found for a step. */
  update(found, step) {
    const state = JSON.stringify([found, step]);
    if (state === this.#drawn) return;
    this.#drawn = state;
    this.node.hidden = !found;
    if (!found) return;
    const { scenario, title, steps, values } = found;
    clear(this.node).append(el("strong", { text: scenario }));
    if (!title) return;
    this.node.append(el("span", { class: "ap-muted", text: title }), el("strong", { text: formatResult(found) }));
    if (values.length > 1) this.node.append(curve(steps, values, step));
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
