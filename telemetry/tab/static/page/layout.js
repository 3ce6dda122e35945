// The elements of the page and where they stand.

import { el, clear, iconButton } from "../drawing/dom.js";
import { Finder } from "./find.js";
import { Headline } from "./headline.js";
import { helpDialog } from "./help.js";
import { Player } from "./player.js";
import { Rail } from "./rail.js";
import { Stage } from "./stage.js";
import { Toolbar } from "./toolbar.js";

/** Below this width, in px, rail and panel lie over the stage. */
const NARROW = 900;

/** All parts of the page. */
export class Layout {
  #help = helpDialog();
  #error;
  #errorText = el("span", { testid: "error" });
  #empty = el("div", { class: "ap-empty", testid: "empty", hidden: true });
  #progress = el("span", { class: "ap-progress", role: "status", testid: "progress" });
  #body;

  /** Takes the actions of all parts and the context of the stage. */
  constructor(actions, context) {
    this.finder = new Finder(actions);
    this.toolbar = new Toolbar({ ...actions, toggleRail: () => this.#setRail(this.rail.node.checkVisibility() ? "closed" : "open") }, this.finder.node);
    this.headline = new Headline(actions);
    this.rail = new Rail(actions);
    this.player = new Player(actions.onStep);
    this.stage = new Stage(context);
    this.panel = el("aside", { class: "ap-side", testid: "panel", tabindex: "0", aria: { label: "Details" }, hidden: true });
    const dismiss = iconButton("close", "Dismiss", () => this.setError(""));
    this.#error = el("div", { class: "ap-error", role: "alert", hidden: true }, this.#errorText, dismiss);
    const foot = el("div", { class: "ap-foot" }, this.player.node, this.#progress, this.finder.counts);
    const middle = el("main", { class: "ap-main" }, this.stage.node, this.#empty);
    this.#body = el("div", { class: "ap-body", data: { rail: "free" } }, this.rail.node, middle, this.panel);
    this.nodes = [this.toolbar.node, this.#error, this.headline.node, this.#body, foot, this.#help];
  }

  /** Follow the size of the root. */
  watch(root) {
    let narrow = null;
    new ResizeObserver(() => {
      const now = root.clientWidth < NARROW;
      if (now === narrow) return;
      narrow = now;
      root.classList.toggle("ap-narrow", now);
      this.#setRail(now ? "closed" : "free");
    }).observe(root);
  }

  /** "open" or "closed", as was asked for, or "free": open where there is room. */
  #setRail(state) {
    this.#body.dataset.rail = state;
  }

  setPanel(open) {
    if (this.panel.hidden === !open) return;
    this.panel.hidden = !open;
    // The observer tells it too, but only with the next frame.
    this.stage.view?.resize?.();
  }

  setError(text) {
    this.#errorText.textContent = text;
    this.#error.hidden = !text;
  }

  get hasError() {
    return !this.#error.hidden;
  }

  /** Say in a few lines why there is nothing; null: there is something. */
  setEmpty(lines) {
    this.#empty.hidden = !lines;
    this.#body.classList.toggle("ap-nothing", Boolean(lines));
    clear(this.#empty).append(...(lines ?? []).map((text) => el("p", { text })));
  }

  setProgress(text) {
    this.#progress.textContent = text;
  }

  help() {
    this.#help.showModal();
  }
}
