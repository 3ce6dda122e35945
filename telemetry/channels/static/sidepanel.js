// The panel on the right: what is known of the chosen agent or channel.

import { clear } from "./dom.js";
import { showAgent, showChannel } from "./details.js";

/** Keeps the panel in step with the model. */
export class SidePanel {
  #host;
  #model;
  #actions;
  #handle = null;
  #step = 0;
  #track;

  /**
   * @param {HTMLElement} host
   * @param {Model} model
   * @param {Object} actions of the panel
   * @param {function(Promise): void} track told what is being fetched
   */
  constructor(host, model, actions, track) {
    this.#track = track;
    this.#host = host;
    this.#model = model;
    this.#actions = actions;
  }

  /** Show what is chosen; nothing chosen: nothing shown. */
  show() {
    this.close();
    const { selection } = this.#model;
    const runs = selection ? this.#model.shown().filter((run) => run.find(selection.kind, selection.name) >= 0) : [];
    if (!runs.length) return;
    const open = selection.kind === "agent" ? showAgent : showChannel;
    this.#handle = open(this.#host, runs, runs[0].find(selection.kind, selection.name), this.#step, this.#actions);
    this.#track(Promise.resolve(this.#handle.loading));
  }

  close() {
    this.#handle?.destroy();
    this.#handle = null;
    clear(this.#host);
  }

  setStep(step) {
    if (step !== this.#step) this.#handle?.setStep(step);
    this.#step = step;
  }

  setFigure() {
    this.#handle?.setFigure?.();
  }

  /** Take over what is new in the runs shown. */
  refresh() {
    if (this.#handle) this.#track(Promise.resolve(this.#handle.refresh()));
  }
}
