// The timeline: what happens in the first steps, as text.

import { clear, el } from "../drawing/dom.js";

/** A view of the schedule of a run. */
export class TimelineView {
  #host;
  #context;
  #run = null;

  constructor(host, context) {
    this.#host = host;
    this.#context = context;
  }

  setData({ run }) {
    if (run === this.#run) return;
    this.#run = run;
    this.#context.track(this.#load(run));
  }

  async #load(run) {
    const lines = await run.timeline().catch((error) => [error.message]);
    if (run !== this.#run) return;
    const text = lines ? lines.join("\n") : "This run has no timeline.";
    clear(this.#host).append(el("pre", { class: "ap-timeline", testid: "timeline", tabindex: "0", text }));
  }
}
