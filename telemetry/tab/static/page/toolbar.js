// The bar on top: views, runs, the field that finds, and buttons.

import { el, clear, iconButton } from "../drawing/dom.js";

const VIEW_NAMES = [
  ["graph", "Graph", "G"],
  ["matrix", "Matrix", "M"],
  ["timeline", "Timeline", "T"],
  ["parts", "Parts", "A"],
];
const NO_RUN = "";

/** Views, runs, the finder, theme, refresh, help. */
export class Toolbar {
  #tabs;
  #run;
  #beside;
  #options = "";

  /** Takes actions, setView(name), setRun(side, name), toggleRail(), toggleTheme(), refresh(), help(), and the finder's element. */
  constructor(actions, finder) {
    this.#tabs = VIEW_NAMES.map(([name, title, key]) =>
      el("button", {
        class: "ap-tab", type: "button", role: "tab", testid: `view-${name}`, title: `${title} (${key})`, text: title,
        data: { view: name }, on: { click: () => actions.setView(name) },
      }),
    );
    const select = (testid, label, side) =>
      el("select", { class: "ap-select ap-run", testid, aria: { label }, on: { change: (event) => actions.setRun(side, event.target.value || null) } });
    this.#run = select("run", "Run", 0);
    this.#beside = select("beside", "Run to compare", 1);
    this.refresh = iconButton("refresh", "Refresh (R)", actions.refresh, "refresh");
    this.node = el(
      "header",
      { class: "ap-toolbar" },
      iconButton("rail", "Show or hide the legend", actions.toggleRail, "toggle-rail"),
      el("div", { class: "ap-tabs", role: "tablist", aria: { label: "View" } }, ...this.#tabs),
      el("label", { class: "ap-inline" }, el("span", { text: "Run" }), this.#run),
      el("label", { class: "ap-inline" }, el("span", { text: "compare" }), this.#beside),
      finder,
      el("div", { class: "ap-buttons" }, iconButton("theme", "Light or dark theme", actions.toggleTheme, "theme"), this.refresh, iconButton("help", "Help (?)", actions.help, "help")),
    );
  }

  /** Show which runs there are, and what is chosen; `parts`: whether a run shown is in parts. */
  update(names, chosen, view, parts) {
    const options = JSON.stringify(names);
    if (options !== this.#options) {
      this.#options = options;
      const all = () => names.map((name) => el("option", { value: name, text: name }));
      clear(this.#run).append(...all());
      clear(this.#beside).append(el("option", { value: NO_RUN, text: "none" }), ...all());
      if (!names.length) this.#run.append(el("option", { value: NO_RUN, text: "none yet" }));
    }
    this.#run.disabled = !names.length;
    this.#beside.disabled = names.length < 2;
    for (const [side, list] of [this.#run, this.#beside].entries()) {
      list.value = chosen[side] ?? NO_RUN;
      list.title = chosen[side] ?? (list.disabled ? "There is no other run to compare with" : "");
    }
    for (const tab of this.#tabs) {
      tab.setAttribute("aria-selected", String(tab.dataset.view === view));
      if (tab.dataset.view === "parts") tab.hidden = !parts;
    }
  }
}
