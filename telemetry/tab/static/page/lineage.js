// A population: the scores and values of its members over steps, as a picture.

import { el } from "../drawing/dom.js";

/** A view (see the contract of views) of a population. */
export class LineageView {
  #picture = el("img", { class: "ap-lineage-picture", testid: "lineage", alt: "Scores and values of the members over steps" });

  constructor(host) {
    host.append(this.#picture);
  }

  /** Show the drawing; as a picture it runs no script and fetches nothing, whatever it holds. */
  setData({ run }) {
    this.#picture.src = `data:image/svg+xml,${encodeURIComponent(run.graph.lineage)}`;
  }
}
