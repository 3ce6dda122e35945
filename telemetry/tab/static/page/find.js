// The field that finds agents and channels, by what they are called or are.

import { el } from "../drawing/dom.js";
import { formatCount } from "../drawing/format.js";

/** The field, and how many it leaves. */
export class Finder {
  #actions;

  /** @param {Object} actions filter(text), selectFound() */
  constructor(actions) {
    this.#actions = actions;
    this.field = el("input", {
      class: "ap-input", type: "search", placeholder: "Find, e.g. n0  decoupled  cosine<0", testid: "filter", autocomplete: "off", spellcheck: "false",
      title: "Part of a name, coupling or role, or a metric: cosine<0 (/); Enter selects the first match",
      aria: { label: "Find agents and channels" },
      on: { input: () => actions.filter(this.field.value), keydown: ({ key }) => key === "Enter" && actions.selectFound() },
    });
    this.node = el("div", { class: "ap-find" }, this.field);
    this.counts = el("span", { class: "ap-counts", testid: "counts", role: "status" });
  }

  /** Show how many agents and channels there are, and how many are left. */
  update(run, masks) {
    const left = (mask) => (mask ? `${mask.reduce((sum, one) => sum + one, 0).toLocaleString("en-US")} of ` : "");
    const count = (kind) => `${left(masks?.[kind])}${formatCount(run[`${kind}s`].length, kind)}`;
    this.counts.textContent = `${count("agent")}, ${count("channel")}`;
  }

  setText(text) {
    this.field.value = text;
    this.#actions.filter(text);
  }
}
