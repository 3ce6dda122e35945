// The channels with the highest and the lowest numbers at the step shown.

import { clear, el } from "../drawing/dom.js";
import { formatInterval } from "../drawing/format.js";
import { colourOf } from "../drawing/colours.js";

const SHOWN = 3;

/** A short list that follows the slider; a click selects. */
export class Extremes {
  #list = el("ol", { class: "ap-rows ap-extremes" });
  #data = null;
  #theme = "light";
  #onSelect;

  /** @param {function(string, string): void} onSelect called with the kind and the name */
  constructor(onSelect) {
    this.#onSelect = onSelect;
    this.node = el("section", { class: "ap-rail-part", testid: "extremes" }, el("h2", { class: "ap-heading", text: "Highest and lowest now" }), this.#list);
  }

  /** Show the ends of what a stage shows; of the channels in the mask, if there is one. */
  update(data, theme, mask, chosen) {
    this.#data = data;
    this.#theme = theme;
    const { metric } = data;
    const found = metric.values ? endsFound(metric, mask) : [];
    this.node.hidden = !found.length;
    clear(this.#list).append(...found.map((index) => this.#row(index, chosen?.kind === "channel" && chosen.both.includes(index))));
  }

  #row(index, chosen) {
    const { run, metric } = this.#data;
    const name = run.nameOf("channel", index);
    const unresolved = Boolean(metric.unresolved?.[index]);
    const swatch = el("span", { class: "ap-swatch" });
    swatch.style.background = colourOf(metric.scale, metric.values[index], metric.low, metric.high, this.#theme);
    const button = el(
      "button",
      {
        class: unresolved ? "ap-row ap-unresolved" : "ap-row", type: "button", title: unresolved ? `${name}: its interval contains 0` : name,
        aria: { pressed: String(chosen) }, on: { click: (event) => this.#onSelect("channel", name, event.shiftKey) },
      },
      swatch,
      el("span", { class: "ap-row-name", text: name }),
      el("span", { class: "ap-muted", text: formatInterval(metric.values[index], metric.lower?.[index], metric.upper?.[index]) }),
    );
    return el("li", {}, button);
  }
}

/** Numbers of the items at the ends: highest first, then the lowest in falling order. No item is there twice. */
function endsFound({ values }, mask) {
  const known = [...values.keys()].filter((item) => !Number.isNaN(values[item]) && (!mask || mask[item]));
  known.sort((one, other) => values[other] - values[one] || one - other);
  return [...known.slice(0, SHOWN), ...known.slice(SHOWN).slice(-SHOWN)];
}
