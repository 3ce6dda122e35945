// All channels in a table, and where a run is in parts its parts: a click on a heading sorts, one on a row selects.

import { clear, el, sortable } from "../drawing/dom.js";
import { formatBytes, formatInterval, formatNumber, formatStep } from "../drawing/format.js";

/** More rows would be slow. */
const MOST_ROWS = 1000;
const BYTES = ["bytes_sent", "bytes_received"];

/** The table view; its interface is that of all views. */
export class TableView {
  #host;
  #context;
  #drawn = "";
  #run = null;

  constructor(host, context) {
    this.#host = host;
    this.#context = context;
  }

  /** Show the numbers at a step. */
  setData(data) {
    const { run, step, found } = data;
    const metrics = this.#context.columns().filter((metric) => run.peek("channel", metric));
    const chosen = this.#context.selection();
    const state = JSON.stringify([run.fetched, step, metrics, found && [...found.channel], chosen]);
    if (state === this.#drawn && run === this.#run) return;
    [this.#drawn, this.#run] = [state, run];
    const sorted = this.#host.querySelector("[data-testid=channels] [aria-sort]");
    const [column, way] = [sorted?.cellIndex, sorted?.ariaSort];
    const channels = this.#channels(run, step, metrics, found, chosen);
    const tables = run.parts ? [this.#parts(run, step), channels] : [channels];
    const { scrollTop, scrollLeft } = this.#host.firstElementChild ?? {};
    clear(this.#host).append(el("div", { class: "ap-tables" }, ...tables));
    Object.assign(this.#host.firstElementChild, { scrollTop, scrollLeft });
    // The order that was chosen stays.
    const head = column === undefined ? null : channels.querySelector("thead tr").cells[column];
    head?.click();
    if (head && head.ariaSort !== way) head.click();
  }

  #channels(run, step, metrics, found, chosen) {
    const items = [...run.channels.keys()].filter((item) => !found || found.channel[item]);
    const first = items.map((item) => [item, run.numberAt("channel", metrics[0], item, step).value]).sort(([, one], [, other]) => (Number.isNaN(one) - Number.isNaN(other)) || other - one);
    const rows = first.slice(0, MOST_ROWS).map(([item]) => {
      const numbers = metrics.map((metric) => run.numberAt("channel", metric, item, step));
      const cells = numbers.map(({ value, low, high, word, of }, at) => {
        const bounded = formatInterval(value, low, high);
        const late = of !== step && !Number.isNaN(value);
        return el("td", { class: late ? "ap-earlier" : null, title: late ? `of step ${formatStep(of)}` : null, data: { metric: metrics[at], value: String(value) } }, bounded, word && el("span", { class: "ap-word", data: { word }, text: word }));
      });
      const { name, coupling } = run.channels[item];
      const picked = chosen?.kind === "channel" && chosen.index === item;
      const press = () => this.#context.select("channel", item);
      return el("tr", { aria: { selected: String(picked) }, on: { click: press } }, el("th", { scope: "row" }, el("button", { class: "ap-link", type: "button", text: name })), el("td", { text: coupling }), ...cells);
    });
    const heads = [["channel", ""], ["coupling", ""], ...metrics.map((metric) => run.info("channel", metric)).map(({ title, says }) => [title, says])];
    const more = items.length > MOST_ROWS ? el("p", { class: "ap-says", text: `The first ${formatNumber(MOST_ROWS)} of ${formatNumber(items.length)} channels.` }) : null;
    return el("section", {}, this.#table("channels", heads, rows), more);
  }

  #parts(run, step) {
    const metrics = run.metrics("part");
    const text = (metric, value) => (BYTES.includes(metric) ? formatBytes(value) : formatNumber(value));
    const rows = Array.from({ length: run.parts }, (_, part) => {
      const cells = metrics.map((metric) => el("td", { data: { metric }, text: text(metric, run.numberAt("part", metric, part, step).value) }));
      const agents = run.agents.filter((agent) => agent.part === part).length;
      return el("tr", {}, el("th", { scope: "row", text: String(part) }), el("td", { text: run.machines[part] ?? "" }), el("td", { text: String(agents) }), ...cells);
    });
    return this.#table("parts", [["part", ""], ["machine", ""], ["agents", ""], ...metrics.map((metric) => run.info("part", metric)).map(({ title, says }) => [title, says])], rows);
  }

  #table(testid, heads, rows) {
    const head = el("tr", {}, ...heads.map(([text, says]) => el("th", { scope: "col", title: says || null, text })));
    return sortable(el("table", { class: "ap-table", testid }, el("thead", {}, head), el("tbody", {}, ...rows)));
  }
}
