// The field that finds agents and channels, by name or by what they are.

import { el, setText } from "../drawing/dom.js";
import { formatCount } from "../drawing/format.js";

/** The field, what is wrong with it, and how many it leaves. */
export class Finder {
  #actions;
  #error;

  /** @param {Object} actions filter(text), selectFound() */
  constructor(actions) {
    this.#actions = actions;
    this.field = el("input", {
      class: "ap-input", type: "search", placeholder: "Find, e.g. n0  coupling:decoupled  value<0", testid: "filter", autocomplete: "off", spellcheck: "false",
      title: "Names, or coupling:decoupled  role:readout  from:a00  to:a01  period:4  value<0 (/); Enter selects the first match",
      aria: { label: "Find agents and channels" },
      on: { input: () => actions.filter(this.field.value), keydown: ({ key }) => key === "Enter" && actions.selectFound() },
    });
    this.#error = el("div", { class: "ap-popup ap-filter-error", role: "status", testid: "filter-error", hidden: true });
    this.node = el("div", { class: "ap-find" }, this.field, this.#error);
    this.counts = el("span", { class: "ap-counts", testid: "counts", role: "status" });
  }

  /** Show how many agents and channels there are, and how many are left. */
  update(run, masks, error) {
    setText(this.#error, error);
    this.field.setAttribute("aria-invalid", String(Boolean(error)));
    const left = (mask) => (mask ? `${mask.reduce((sum, one) => sum + one, 0).toLocaleString("en-US")} of ` : "");
    const count = (kind) => `${left(masks?.[kind])}${formatCount(run[`${kind}s`].length, kind)}`;
    this.counts.textContent = run ? `${count("agent")}, ${count("channel")}` : "";
  }

  /** Put a word into the field, in the place of others; or take it out where it is there. */
  toggleWord(word, others) {
    const words = this.field.value.split(/\s+/).filter(Boolean);
    const left = words.filter((one) => one !== word && !others.includes(one));
    this.setText((words.includes(word) ? left : [...left, word]).join(" "));
  }

  setText(text) {
    this.field.value = text;
    this.#actions.filter(text);
  }
}
