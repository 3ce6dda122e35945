// The strip of verdicts: how many channels matter, harm, are stale or silent. Each is a filter; what is not measured says how.

import { clear, el } from "./dom.js";

/** The strip above the stage. */
export class VerdictStrip {
  #actions;
  #drawn = "";
  #away;

  /** @param {Object} actions toggleVerdict(name, others): switches a filter on or off, and others off; setMetric(kind, metric) */
  constructor(actions) {
    this.#actions = actions;
    this.node = el("section", { class: "ap-strip", testid: "verdicts", aria: { label: "Verdicts on channels" }, hidden: true });
    this.#away = (event) => {
      if (!this.node.contains(event.target)) this.close();
    };
    document.addEventListener("pointerdown", this.#away, true);
  }

  /**
   * Show what holds at a step.
   *
   * @param {Object|null} found of Model.verdicts: measure, measures, words (with count), total, measured, at; null: no run
   * @param {string[]} chosen verdicts that the filter asks for
   */
  update(found, chosen) {
    const state = JSON.stringify([found, chosen]);
    if (state === this.#drawn) return;
    this.#drawn = state;
    this.node.hidden = !found || !found.words.length;
    if (this.node.hidden) return;
    const focused = document.activeElement?.closest?.("[data-verdict]")?.dataset.verdict;
    const worths = found.words.filter((word) => !word.flags[""]);
    const others = found.words.filter((word) => word.flags[""]);
    const children = [found.measure ? this.#worth(found, worths, chosen) : this.#missing(found), this.#group("", others, found.total, chosen, [])];
    clear(this.node).append(...children.filter(Boolean));
    if (focused) this.node.querySelector(`[data-verdict="${focused}"]`)?.focus();
  }

  /** Close what says how to measure; whether it was open. */
  close() {
    const open = this.node.querySelector("details[open]");
    if (open) open.open = false;
    return Boolean(open);
  }

  destroy() {
    document.removeEventListener("pointerdown", this.#away, true);
  }

  #worth(found, words, chosen) {
    const own = found.measures.find(({ metric }) => metric === found.measure);
    const measured = found.measures.filter((measure) => measure.measured);
    const late = found.measured ? "" : "not yet at this step";
    const label =
      measured.length > 1
        ? el(
            "select",
            { class: "ap-select ap-strip-measure", testid: "measure", aria: { label: "Verdicts by" }, on: { change: (event) => this.#actions.setMetric("channel", event.target.value) } },
            ...measured.map(({ metric, title }) => el("option", { value: metric, text: title })),
          )
        : el("span", { class: "ap-strip-label", text: own.title });
    if (measured.length > 1) label.value = found.measure;
    const group = this.#group("ap-strip-worth", words, found.measured, chosen, words.map(({ name }) => name));
    const left = found.total - found.measured;
    if (found.measured && left) group.append(el("span", { class: "ap-strip-none", text: `${left.toLocaleString("en-US")} without one`, title: "Not measured, or undefined: a value is where the true gradient brings nothing that can be told from chance" }));
    if (late) group.replaceChildren(el("span", { class: "ap-strip-none", text: late }));
    group.prepend(label);
    return group;
  }

  /** What is not measured, and the line that measures it. */
  #missing(found) {
    const [first, ...more] = found.measures;
    const lines = [first, ...more].filter(({ by }) => by);
    const text = el("span", {}, el("span", { class: "ap-strip-label", text: first.title }), " not measured");
    const node = el("details", { class: "ap-strip-missing", testid: "not-measured" }, el("summary", {}, text, el("span", { class: "ap-strip-how", text: "how to" })));
    const rows = lines.map(({ title, by }) => el("div", { class: "ap-strip-line" }, el("span", { class: "ap-strip-what", text: title }), el("code", { text: by }), copyButton(by)));
    const says = "A channel matters, or harms, where the 95 % interval of its value leaves 0 out. Loss by ablation is quicker to measure.";
    node.append(el("div", { class: "ap-strip-card" }, el("p", { class: "ap-says", text: says }), ...rows));
    return node;
  }

  #group(name, words, total, chosen, exclusive) {
    const chips = words.map((word, place) => this.#chip(word, place ? "" : ` of ${total.toLocaleString("en-US")}`, chosen.includes(word.name), exclusive));
    return el("div", { class: `ap-strip-group ${name}`, role: "group" }, ...chips);
  }

  #chip({ name, counted, says, count }, of, pressed, exclusive) {
    return el(
      "button",
      {
        class: "ap-chip", type: "button", testid: `verdict-${name}`, title: says, data: { verdict: name, none: count ? "" : "none" },
        aria: { pressed: String(pressed) }, on: { click: () => this.#actions.toggleVerdict(name, exclusive) },
      },
      el("span", { class: "ap-chip-mark" }),
      el("strong", { text: count.toLocaleString("en-US") }),
      of,
      ` ${counted}`,
    );
  }
}

/** A button that copies a line, where the page may; else it selects the line. */
function copyButton(line) {
  const button = el("button", { class: "ap-link", type: "button", text: "copy" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(line);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(button.previousSibling);
      button.textContent = "selected";
    }
  });
  return button;
}
