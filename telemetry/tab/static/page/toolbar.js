// The bar on top: views, runs, the field that finds, and buttons.

import { el, clear, iconButton } from "../drawing/dom.js";

const VIEW_NAMES = [
  ["graph", "Graph", "G"],
  ["matrix", "Matrix", "M"],
  ["table", "Table", "T"],
  ["timeline", "Timeline", "L"],
];

/** Views, runs, the finder, refresh, help. */
export class Toolbar {
  #tabs;
  #run;
  #options = "";

  /** Takes actions, setView(name), setRun(name), toggleRail(), refresh(), help(), and the finder's element. */
  constructor(actions, finder) {
    this.#tabs = VIEW_NAMES.map(([name, title, key]) =>
      el("button", {
        class: "ap-tab", type: "button", role: "tab", testid: `view-${name}`, title: `${title} (${key})`, text: title,
        data: { view: name }, on: { click: () => actions.setView(name) },
      }),
    );
    this.#run = el("select", { class: "ap-select ap-run", testid: "run", aria: { label: "Run" }, on: { change: () => actions.setRun(this.#run.value) } });
    this.refresh = iconButton("refresh", "Refresh (R)", actions.refresh, "refresh");
    this.node = el(
      "header",
      { class: "ap-toolbar" },
      iconButton("rail", "Show or hide the legend", actions.toggleRail, "toggle-rail"),
      el("div", { class: "ap-tabs", role: "tablist", aria: { label: "View" } }, ...this.#tabs),
      el("label", { class: "ap-inline" }, el("span", { text: "Run" }), this.#run),
      finder,
      el("div", { class: "ap-buttons" }, this.refresh, iconButton("help", "Help (?)", actions.help, "help")),
    );
  }

  /** Show which runs there are, and what is chosen. */
  update(names, chosen, view) {
    const options = JSON.stringify(names);
    if (options !== this.#options) {
      this.#options = options;
      clear(this.#run).append(...names.map((name) => el("option", { value: name, text: name })));
    }
    this.#run.disabled = !names.length;
    this.#run.value = this.#run.title = chosen ?? "";
    for (const tab of this.#tabs) tab.setAttribute("aria-selected", String(tab.dataset.view === view));
  }
}
