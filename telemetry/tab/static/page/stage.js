// A stage: one run, shown by one of the views. There are one or two, side by side.

import { el, clear, setText } from "../drawing/dom.js";
import { GraphView } from "../graph/graph.js";
import { LineageView } from "./lineage.js";
import { MatrixView } from "../matrix/matrix.js";
import { PartsView } from "../panel/parts.js";
import { TimelineView } from "../timeline/timeline.js";

const VIEWS = { graph: GraphView, matrix: MatrixView, timeline: TimelineView, parts: PartsView, lineage: LineageView };

/** The place of one run on the page. */
export class Stage {
  #heading = el("div", { class: "ap-stage-name" });
  #host = el("div", { class: "ap-stage-host" });
  #note = el("div", { class: "ap-stage-note", hidden: true });
  #context;
  #shown = "";

  /** @param {Object} context of the views; its `testid` names the stage */
  constructor(context) {
    this.#context = context;
    const named = { class: "ap-stage", testid: context.testid, tabindex: "0", aria: { label: "Graph of the run" }, hidden: true };
    this.node = el("section", named, this.#heading, this.#host, this.#note);
    this.view = null;
    new ResizeObserver(() => this.view?.resize?.()).observe(this.#host);
  }

  /** Show a run by a view; with another view than before the old one is taken down. */
  show(name, data, heading, note) {
    this.node.hidden = false;
    setText(this.#heading, heading);
    setText(this.#note, note);
    if (name !== this.#shown) {
      this.#takeDown();
      this.view = new VIEWS[name](this.#host, this.#context);
      this.#shown = name;
      this.node.setAttribute("aria-label", `${name} of run ${data.run.name}`);
    }
    this.view.setData(data);
  }

  hide() {
    this.node.hidden = true;
    this.#takeDown();
  }

  #takeDown() {
    this.view?.destroy?.();
    this.view = null;
    this.#shown = "";
    clear(this.#host);
  }
}
