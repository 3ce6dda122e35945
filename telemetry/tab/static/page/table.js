// All channels in a table that a click on a heading sorts.

import { clear, el, iconButton, sortable } from "../drawing/dom.js";
import { formatCount, formatInterval, formatStep } from "../drawing/format.js";
import { measuresOf } from "../data/shown.js";

/** More rows would be slow. */
const TABLE_ROWS = 500;

/** Show in a dialog what is known of the channels found: verdicts, numbers, and of a bad one what to try; a click on a name selects it. */
export function showTable(dialog, model, select) {
  const { runs: [run], step } = model;
  const mask = model.masks(0, step)?.channel;
  const known = [model.metric.channel, ...[...measuresOf(run), ...(run.catalog.verdicts?.signals ?? [])].map(({ metric }) => metric)];
  const metrics = [...new Set(known)].filter((metric) => run.peek("channel", metric));
  const least = run.channels.map((_, item) => run.numberAt(metrics[0], item, step).value).map((value) => (Number.isNaN(value) ? Infinity : value));
  const found = [...run.channels.keys()].filter((item) => !mask || mask[item]).sort((one, other) => least[one] - least[other] || one - other);
  const row = (item) => {
    const { verdicts, cause } = model.verdictsOn(run, item, step);
    const name = run.nameOf("channel", item);
    const seeds = (metric, of) => [run.agreement(metric, item, of)].filter(Boolean).map((text) => ` (seeds: ${text})`).join("");
    const numbers = metrics.map((metric) => [metric, run.numberAt(metric, item, step)]).map(([metric, { value, low, high, of }]) => formatInterval(value, low, high) + seeds(metric, of));
    const texts = [verdicts.map(({ text }) => text).join(", "), ...numbers, cause?.says ?? "", cause?.fix ?? ""];
    const choose = () => (dialog.close(), select("channel", name));
    return el("tr", {}, el("th", { scope: "row" }, el("button", { class: "ap-link", type: "button", text: name, on: { click: choose } })), ...texts.map((text) => el("td", { text })));
  };
  const heads = ["channel", "verdicts", ...metrics.map((metric) => run.info("channel", metric).title), "hint at the cause", "try"];
  const title = `${formatCount(found.length, "channel")} at step ${formatStep(step)}${found.length > TABLE_ROWS ? `, the first ${TABLE_ROWS}` : ""}; a click on a heading sorts`;
  const table = el("table", { class: "ap-table" }, el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col", text })))), el("tbody", {}, ...found.slice(0, TABLE_ROWS).map(row)));
  const head = el("div", { class: "ap-panel-split" }, el("h2", { class: "ap-heading", text: title }), iconButton("close", "Close (Esc)", () => dialog.close()));
  clear(dialog).append(el("div", { class: "ap-all", testid: "table" }, head, sortable(table)));
  dialog.showModal();
}
