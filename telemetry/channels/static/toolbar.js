// The bar on top: views, runs, search, and buttons.

import { el, clear, svgIcon } from "./dom.js";

const VIEW_NAMES = [
  ["graph", "Graph", "G"],
  ["matrix", "Matrix", "M"],
  ["timeline", "Timeline", "T"],
  ["parts", "Parts", "A"],
];
const NO_RUN = "";

/** Views, runs, search and filter, theme, refresh, export, help. */
export class Toolbar {
  #tabs;
  #run;
  #beside;
  #difference = el("input", { type: "checkbox", testid: "difference" });
  #differing;
  #export;
  #menu;
  #options = "";

  /**
   * @param {Object} actions setView(name), setRun(side, name), setDifference(on), toggleRail(), toggleTheme(), refresh(), exportAs(what), help()
   * @param {HTMLElement} finder search and filter
   */
  constructor(actions, finder) {
    this.#tabs = VIEW_NAMES.map(([name, title, key]) =>
      el("button", {
        class: "ap-tab", type: "button", role: "tab", testid: `view-${name}`, title: `${title} (${key})`, text: title,
        data: { view: name }, on: { click: () => actions.setView(name) },
      }),
    );
    this.#run = el("select", { class: "ap-select ap-run", testid: "run", aria: { label: "Run" }, on: { change: () => actions.setRun(0, this.#run.value) } });
    this.#beside = el("select", {
      class: "ap-select ap-run", testid: "beside", aria: { label: "Run beside it" }, on: { change: () => actions.setRun(1, this.#beside.value || null) },
    });
    this.#difference.addEventListener("change", () => actions.setDifference(this.#difference.checked));
    const says = "One picture: the first run minus the second";
    this.#differing = el("label", { class: "ap-labelled ap-check", title: says }, this.#difference, "difference");
    this.refresh = iconButton("refresh", "Fetch what is new (R)", "refresh", actions.refresh);
    this.#export = iconButton("export", "Export", "export", () => this.#toggle());
    this.#export.setAttribute("aria-haspopup", "menu");
    this.#export.setAttribute("aria-expanded", "false");
    this.#menu = el(
      "div",
      { class: "ap-menu", role: "menu", hidden: true },
      ...[
        ["csv-channel", "Channels' figure as CSV"],
        ["csv-agent", "Agents' figure as CSV"],
        ["json", "This step as JSON"],
        ["svg", "Picture as SVG"],
      ].map(([what, text]) =>
        el("button", {
          class: "ap-menu-item", type: "button", role: "menuitem", testid: `export-${what}`, text,
          on: {
            click: () => {
              this.closeMenu();
              actions.exportAs(what);
            },
          },
        }),
      ),
    );
    this.#menu.addEventListener("keydown", (event) => this.#arrows(event));
    this.node = el(
      "header",
      { class: "ap-toolbar" },
      iconButton("rail", "Show or hide the key", "toggle-rail", actions.toggleRail),
      el("div", { class: "ap-tabs", role: "tablist", aria: { label: "View" } }, ...this.#tabs),
      el("label", { class: "ap-labelled" }, el("span", { text: "Run" }), this.#run),
      el("label", { class: "ap-labelled" }, el("span", { text: "beside" }), this.#beside),
      this.#differing,
      finder,
      el(
        "div",
        { class: "ap-buttons" },
        iconButton("theme", "Light or dark", "theme", actions.toggleTheme),
        this.refresh,
        el("div", { class: "ap-field" }, this.#export, this.#menu),
        el("button", {
          class: "ap-button ap-icon", type: "button", testid: "help", title: "Help (?)", text: "?", aria: { label: "Help" }, on: { click: actions.help },
        }),
      ),
    );
  }

  /** Show which runs there are, and what is chosen; `parts`: whether a run shown is in parts; `difference`: of the two runs. */
  update(names, chosen, view, parts, difference) {
    this.#differing.hidden = !chosen[1];
    this.#difference.checked = difference;
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
    this.#run.value = chosen[0] ?? NO_RUN;
    this.#beside.value = chosen[1] ?? NO_RUN;
    this.#run.title = chosen[0] ?? "";
    this.#beside.title = chosen[1] ?? "";
    for (const tab of this.#tabs) {
      tab.setAttribute("aria-selected", String(tab.dataset.view === view));
      if (tab.dataset.view === "parts") tab.hidden = !parts;
    }
  }

  /** Close the export menu; whether it was open. */
  closeMenu() {
    const open = !this.#menu.hidden;
    this.#menu.hidden = true;
    this.#export.setAttribute("aria-expanded", "false");
    return open;
  }

  #toggle() {
    if (this.closeMenu()) return;
    this.#menu.hidden = false;
    this.#export.setAttribute("aria-expanded", "true");
    this.#menu.firstChild.focus();
    const away = (event) => {
      if (this.#menu.parentNode.contains(event.target)) return;
      this.closeMenu();
      document.removeEventListener("pointerdown", away, true);
    };
    document.addEventListener("pointerdown", away, true);
  }

  #arrows(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") {
      this.closeMenu();
      this.#export.focus();
    } else if (by) {
      const items = [...this.#menu.children];
      items[(items.indexOf(document.activeElement) + by + items.length) % items.length].focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function iconButton(icon, title, testid, action) {
  return el("button", { class: "ap-button ap-icon", type: "button", testid, title, aria: { label: title }, on: { click: () => action() } }, svgIcon(icon));
}
