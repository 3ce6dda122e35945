// Search by name, with a list of results, and the filter.

import { el, clear } from "./dom.js";
import { formatCount } from "./format.js";
import { shortName } from "./graphlabels.js";

let finders = 0;
const MOST_HITS = 60;

/** The two fields and the counts beside them. */
export class Finder {
  #actions;
  #run = null;
  #hits = [];
  #active = 0;

  /** @param {Object} actions search(text), filter(text), select(kind, name) */
  constructor(actions) {
    this.#actions = actions;
    finders += 1;
    const id = `ap-results-${finders}`;
    this.search = el("input", {
      class: "ap-input ap-search", type: "search", placeholder: "Search", testid: "search", autocomplete: "off", spellcheck: "false",
      title: "Search agents and channels by name (/)", role: "combobox",
      aria: { label: "Search agents and channels by name", expanded: "false", controls: id, autocomplete: "list" },
      on: { input: () => this.#look(), keydown: (event) => this.#key(event), focus: () => this.#look(), blur: () => this.#close() },
    });
    this.filter = el("input", {
      class: "ap-input ap-filter", type: "search", placeholder: "Filter, e.g. value<0", testid: "filter", autocomplete: "off",
      spellcheck: "false", title: "Filter: coupling:decoupled  role:readout  from:a00  to:a01  period:4  value<0",
      aria: { label: "Filter agents and channels" },
      on: { input: () => this.#actions.filter(this.filter.value) },
    });
    this.#list = el("ul", { class: "ap-results", id, role: "listbox", hidden: true, aria: { label: "Found" } });
    this.#note = el("div", { class: "ap-filter-error", role: "status", testid: "filter-error", hidden: true });
    this.node = el("div", { class: "ap-find" }, el("div", { class: "ap-field" }, this.search, this.#list), el("div", { class: "ap-field" }, this.filter, this.#note));
    this.counts = el("span", { class: "ap-counts", testid: "counts", role: "status" });
  }

  #list;
  #note;

  /** Show how many there are and how many are left by search and filter. */
  update(run, masks, error) {
    this.#run = run;
    this.#note.textContent = error;
    this.#note.hidden = !error;
    this.filter.setAttribute("aria-invalid", String(Boolean(error)));
    if (!run) {
      this.counts.textContent = "";
      return;
    }
    const agents = run.agents.length;
    const channels = run.channels.length;
    if (!masks) {
      this.counts.textContent = `${formatCount(agents, "agent")}, ${formatCount(channels, "channel")}`;
      return;
    }
    const left = (mask) => mask.reduce((sum, one) => sum + one, 0).toLocaleString("en-US");
    this.counts.textContent = `${left(masks.agent)} of ${formatCount(agents, "agent")}, ${left(masks.channel)} of ${formatCount(channels, "channel")}`;
  }

  /** Put a word into the filter, in the place of others; or take it out where it is there. */
  toggleWord(word, others) {
    const words = this.filter.value.split(/\s+/).filter(Boolean);
    const left = words.filter((one) => one !== word && !others.includes(one));
    this.filter.value = (words.includes(word) ? left : [...left, word]).join(" ");
    this.#actions.filter(this.filter.value);
  }

  /** Empty the search. */
  reset() {
    this.search.value = "";
    this.#look();
    this.#close();
  }

  #look() {
    const text = this.search.value;
    this.#actions.search(text);
    this.#hits = this.#run && text ? hitsOf(this.#run, text) : [];
    this.#active = 0;
    this.#show(text);
  }

  #show(text) {
    clear(this.#list);
    const open = Boolean(text) && document.activeElement === this.search;
    this.#list.hidden = !open;
    this.search.setAttribute("aria-expanded", String(open));
    if (!open) return;
    this.#hits.slice(0, MOST_HITS).forEach(({ kind, name }, index) => {
      const choose = (event) => {
        event.preventDefault();
        this.#choose(index);
      };
      this.#list.append(
        el(
          "li",
          { role: "option", id: `${this.#list.id}-${index}`, class: "ap-result", title: name, on: { mousedown: choose } },
          el("span", { class: "ap-result-name", text: shortName(name, 40) }),
          el("span", { class: "ap-result-kind", text: kind }),
        ),
      );
    });
    const more = this.#hits.length - MOST_HITS;
    if (!this.#hits.length) this.#list.append(el("li", { class: "ap-result-none", text: "nothing of that name" }));
    else if (more > 0) this.#list.append(el("li", { class: "ap-result-none", text: `and ${more.toLocaleString("en-US")} more` }));
    this.#mark();
  }

  #mark() {
    [...this.#list.children].forEach((item, index) => {
      const active = index === this.#active && Boolean(this.#hits.length);
      item.classList.toggle("ap-active", active);
      item.setAttribute("aria-selected", String(active));
      if (active) {
        this.search.setAttribute("aria-activedescendant", item.id);
        item.scrollIntoView({ block: "nearest" });
      }
    });
  }

  #key(event) {
    const shown = Math.min(this.#hits.length, MOST_HITS);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (shown) this.#active = (this.#active + (event.key === "ArrowDown" ? 1 : shown - 1)) % shown;
      this.#mark();
    } else if (event.key === "Enter") {
      if (shown) this.#choose(this.#active);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #choose(index) {
    const { kind, name } = this.#hits[index];
    this.#actions.select(kind, name);
    this.#close();
  }

  #close() {
    this.#list.hidden = true;
    this.search.setAttribute("aria-expanded", "false");
  }
}

/** Agents first; names that begin with the text before those that only hold it. */
function hitsOf(run, text) {
  const wanted = text.toLowerCase();
  const hits = [];
  for (const kind of ["agent", "channel"]) {
    const items = kind === "agent" ? run.agents : run.channels;
    const found = items.map((item) => item.name).filter((name) => name.toLowerCase().includes(wanted));
    const first = found.filter((name) => name.toLowerCase().startsWith(wanted));
    const rest = found.filter((name) => !name.toLowerCase().startsWith(wanted));
    for (const name of [...first, ...rest]) hits.push({ kind, name });
  }
  return hits;
}
