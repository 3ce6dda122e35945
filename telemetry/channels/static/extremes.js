// The channels with the highest and the lowest numbers at the step shown.

import { el } from "./dom.js";
import { formatNumber } from "./format.js";
import { colourOf } from "./colours.js";

const SHOWN = 3;

/** A short list that follows the slider; a click selects. */
export class Extremes {
  #rows;
  #data = null;
  #theme = "light";
  #mask = null;
  #chosen = null;

  /** @param {function(string, string): void} onSelect called with the kind and the name */
  constructor(onSelect) {
    this.#rows = Array.from({ length: 2 * SHOWN }, () => new ExtremeRow(onSelect));
    this.node = el(
      "section",
      { class: "ap-rail-part", testid: "extremes" },
      el("h2", { class: "ap-heading", text: "Highest and lowest now" }),
      el("ol", { class: "ap-extremes" }, ...this.#rows.map((row) => row.node)),
    );
  }

  /** Show the ends of what a stage shows; of the channels in the mask, if there is one. */
  update(data, theme, mask, chosen) {
    this.#data = data;
    this.#theme = theme;
    this.mark(mask, chosen);
  }

  /** Take over another mask and selection. */
  mark(mask, chosen) {
    this.#mask = mask;
    this.#chosen = chosen;
    if (this.#data) this.#fill();
  }

  #fill() {
    const { run, figure } = this.#data;
    const found = figure.values ? endsFound(figure, this.#mask) : [];
    this.node.hidden = !found.length;
    this.#rows.forEach((row, place) => {
      const index = found[place];
      row.node.hidden = index === undefined;
      if (index === undefined) return;
      const value = figure.values[index];
      const colour = colourOf(figure.scale, value, figure.low, figure.high, this.#theme);
      const chosen = this.#chosen?.kind === "channel" && this.#chosen.index === index;
      const interval = figure.lower ? [figure.lower[index], figure.upper[index]] : null;
      row.show(run.nameOf("channel", index), value, colour, chosen, interval, Boolean(figure.unresolved?.[index]));
    });
  }
}

class ExtremeRow {
  #swatch = el("span", { class: "ap-swatch" });
  #name = el("span", { class: "ap-result-name" });
  #number = el("span", { class: "ap-extreme-number" });
  #interval = el("span", { class: "ap-extreme-interval" });
  #full = "";

  constructor(onSelect) {
    const on = { click: () => onSelect("channel", this.#full) };
    this.button = el("button", { class: "ap-extreme", type: "button", on }, this.#swatch, this.#name, el("span", { class: "ap-extreme-numbers" }, this.#number, this.#interval));
    this.node = el("li", { hidden: true }, this.button);
  }

  show(name, value, colour, chosen, interval, unresolved) {
    if (name !== this.#full) {
      this.#full = name;
      this.#name.textContent = name;
      this.button.title = name;
    }
    const known = interval?.every((end) => !Number.isNaN(end));
    this.#number.textContent = formatNumber(value);
    this.#interval.textContent = known ? `[${interval.map((end) => formatNumber(end)).join(", ")}]` : "";
    this.button.classList.toggle("ap-unresolved", unresolved);
    this.#name.title = unresolved ? "Its interval holds 0" : "";
    this.#swatch.style.background = colour;
    this.button.setAttribute("aria-pressed", String(chosen));
  }
}

/**
 * Numbers of the items at the ends: highest first, then the lowest in falling order. No item is there twice.
 *
 * Where numbers have intervals the highest are those of the highest lower ends, the lowest those of the lowest upper ends: what is far
 * from 0 by chance does not come first.
 */
function endsFound({ values, lower, upper }, mask) {
  const high = [];
  const low = [];
  for (let item = 0; item < values.length; item++) {
    if (Number.isNaN(values[item]) || (mask && !mask[item])) continue;
    putInto(high, item, lower ?? values, 1);
    putInto(low, item, upper ?? values, -1);
  }
  const first = high.slice(0, SHOWN);
  return [...first, ...low.filter((item) => !first.includes(item)).slice(0, SHOWN).reverse()];
}

/** Put an item where it belongs among the best; twice as many are kept as are shown, since one may be among the others too. */
function putInto(best, item, values, sign) {
  let place = best.length;
  while (place > 0 && sign * (values[item] - values[best[place - 1]]) > 0) place -= 1;
  if (place >= 2 * SHOWN) return;
  best.splice(place, 0, item);
  if (best.length > 2 * SHOWN) best.pop();
}
