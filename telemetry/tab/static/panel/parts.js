// The parts of a run: where each runs, how far it is, whom it waits for, and whether it is gone.

import { el, clear } from "../drawing/dom.js";
import { categoryColour } from "../drawing/colours.js";
import { formatBytes, formatCount, formatNumber, formatStep } from "../drawing/format.js";

/** Names of gone parts that a sentence has room for. */
const PARTS_NAMED = 4;
const PARTS_AGENTS_NAMED = 12;

/** Return what a part is called: its number, and where it runs if that is known. */
export function partName(run, part) {
  const machine = run.machines[part];
  return `part ${part}${machine ? ` (${machine})` : ""}`;
}

/** Return one sentence on the parts that do not run at the step shown; "": all do, or there are none. */
export function partsNote(run, parts) {
  const gone = parts ? partNumbers(run).filter((part) => parts.gone(part)) : [];
  if (!gone.length) return "";
  const names = gone.slice(0, PARTS_NAMED).map((part) => `${partName(run, part)}, last heartbeat ${partAge(parts, part)}`);
  const more = gone.length > PARTS_NAMED ? `; and ${gone.length - PARTS_NAMED} more` : "";
  return `Gone: ${names.join("; ")}${more}.`;
}

function partNumbers(run) {
  return Array.from({ length: run.parts }, (_, part) => part);
}

function partAge(parts, part) {
  const seconds = parts.value("heartbeat_age", part);
  if (Number.isNaN(seconds)) return "–";
  return seconds < 1 && !parts.gone(part) ? "now" : `${formatNumber(seconds)} s ago`;
}

/** The columns: heading, the metric that explains it (null: none), whether it holds numbers, and the text of a part's cell. */
const PARTS_COLUMNS = [
  ["part", null, false, (run, parts, part) => String(part)],
  ["machine", null, false, (run, parts, part) => run.machines[part] || "–"],
  ["agents", null, true, (run, parts, part, agents) => formatNumber(agents[part].length)],
  ["", "steps_taken", true, (run, parts, part) => formatStep(parts.value("steps_taken", part))],
  ["computing s", "computing", true, (run, parts, part) => formatNumber(parts.value("computing", part))],
  ["waiting s (mostly for)", "waiting", true, (run, parts, part) => partWaiting(parts, part)],
  ["", "bytes_sent", true, (run, parts, part) => formatBytes(parts.value("bytes_sent", part))],
  ["", "bytes_received", true, (run, parts, part) => formatBytes(parts.value("bytes_received", part))],
  ["", "staleness", true, (run, parts, part) => formatNumber(parts.value("staleness", part))],
  ["", "blocked_on", true, (run, parts, part) => partOf(parts.value("blocked_on", part))],
  ["", "restarts", true, (run, parts, part) => formatNumber(parts.value("restarts", part))],
  ["", "heartbeat_age", true, (run, parts, part) => partAge(parts, part) + (parts.gone(part) ? ", gone" : "")],
];

function partOf(number) {
  return Number.isNaN(number) ? "–" : `part ${number}`;
}

function partWaiting(parts, part) {
  const other = parts.value("waiting_for", part);
  return formatNumber(parts.value("waiting", part)) + (Number.isNaN(other) ? "" : ` (part ${other})`);
}

/** A view (see the contract of views) of a run's parts as a table. */
export class PartsView {
  #context;
  #run = null;
  #parts = null;
  #agents = [];
  #rows = [];
  #says = el("p", { class: "ap-says" });
  #body = el("tbody");
  #head = el("tr");
  #table = el("table", { class: "ap-table", testid: "parts" }, el("thead", {}, this.#head), this.#body);
  #node = el("div", { class: "ap-parts", tabindex: "0" }, this.#says, this.#table);

  constructor(host, context) {
    this.#context = context;
    host.append(this.#node);
  }

  /** Show the metrics at a step. */
  setData({ run, parts }) {
    if (run !== this.#run) this.#build(run);
    this.#parts = parts;
    this.#table.hidden = !parts;
    this.redraw();
  }

  /** Write the cells anew: another step or theme. */
  redraw() {
    const parts = this.#parts;
    if (!parts) return;
    for (const [part, row] of this.#rows.entries()) this.#write(row, part, parts);
  }

  #write({ node, swatch, cells }, part, parts) {
    swatch.style.background = categoryColour(part, this.#context.theme());
    node.classList.toggle("ap-parts-gone", parts.gone(part));
    cells.forEach((cell, at) => (cell.textContent = PARTS_COLUMNS[at][3](this.#run, parts, part, this.#agents)));
  }

  #build(run) {
    this.#run = run;
    this.#agents = partNumbers(run).map(() => []);
    if (run.parts) run.agents.forEach((agent) => this.#agents[agent.part].push(agent.name));
    const cut = run.channels.filter((_, channel) => run.isCut(channel)).length;
    this.#says.textContent = run.parts
      ? `${formatCount(run.parts, "part")}; ${cut.toLocaleString("en-US")} of ${formatCount(run.channels.length, "channel")} ${cut === 1 ? "is" : "are"} cut. Totals of the session up to the step shown.`
      : "This run is not in parts.";
    const headings = PARTS_COLUMNS.map(([heading, metric]) => heading || run.info("part", metric).title);
    const title = (metric) => (metric ? run.info("part", metric).says : null);
    const cells = PARTS_COLUMNS.map(([, metric, numbers], at) => el("th", { scope: "col", class: numbers ? "ap-number" : null, title: title(metric), text: headings[at] }));
    clear(this.#head).append(...cells);
    this.#rows = partNumbers(run).map((part) => this.#row(part));
    clear(this.#body).append(...this.#rows.map(({ node }) => node));
  }

  #row(part) {
    const swatch = el("span", { class: "ap-swatch", aria: { hidden: "true" } });
    const cells = PARTS_COLUMNS.map(([heading, metric]) => el("span", { dir: "auto", testid: `part-${part}-${metric ?? heading}` }));
    const columns = cells.map((cell, at) => {
      const props = { class: PARTS_COLUMNS[at][2] ? "ap-number" : null };
      return at ? el("td", props, cell) : el("th", { scope: "row", ...props }, swatch, " ", cell);
    });
    const named = this.#agents[part];
    const title = named.slice(0, PARTS_AGENTS_NAMED).join(", ") + (named.length > PARTS_AGENTS_NAMED ? ", …" : "");
    return { swatch, cells, node: el("tr", { title }, ...columns) };
  }
}
