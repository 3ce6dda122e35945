// The stage: the run, shown by one of the views.

import { el, clear, setText } from "../drawing/dom.js";
import { GraphView } from "../graph/graph.js";
import { MatrixView } from "../matrix/matrix.js";
import { TableView } from "./table.js";
import { TimelineView } from "./timeline.js";

const VIEWS = { graph: GraphView, matrix: MatrixView, table: TableView, timeline: TimelineView };

/** The place of the run on the page. */
export class Stage {
  #host = el("div", { class: "ap-stage-host" });
  #note = el("div", { class: "ap-stage-note", hidden: true });
  #context;
  #shown = "";

  /** @param {Object} context of the views */
  constructor(context) {
    this.#context = context;
    this.node = el("section", { class: "ap-stage", testid: "stage", tabindex: "0", hidden: true }, this.#host, this.#note);
    this.view = null;
    new ResizeObserver(() => this.view?.resize?.()).observe(this.#host);
  }

  /** Show a run by a view; with another view than before the old one is taken down. */
  show(name, data, note) {
    this.node.hidden = false;
    setText(this.#note, note);
    if (name !== this.#shown) {
      this.hide();
      this.node.hidden = false;
      this.view = new VIEWS[name](this.#host, this.#context);
      this.#shown = name;
    }
    this.node.setAttribute("aria-label", `${name} of run ${data.run.name}`);
    this.view.setData(data);
  }

  hide() {
    this.node.hidden = true;
    this.view?.destroy?.();
    this.view = null;
    this.#shown = "";
    clear(this.#host);
  }
}
