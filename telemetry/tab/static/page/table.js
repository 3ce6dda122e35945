// All channels in a table that a click on a heading sorts.

import { clear, el, iconButton, sortable } from "../drawing/dom.js";
import { formatCount, formatInterval, formatStep } from "../drawing/format.js";
import { measuresOf } from "../data/shown.js";

/** More rows would be slow. */
const TABLE_ROWS = 500;

/** Show in a dialog what is known of the channels found: verdicts, numbers, and of a bad one what to try, where that is not said once for all; a click on a name selects it. */
export function showTable(dialog, model, select) {
  const { runs: [run], step } = model;
  const mask = model.masks(0, step)?.channel;
  const { common } = model.verdicts(0, step);
  const known = [...measuresOf(run), ...(run.catalog.verdicts?.signals ?? [])].map(({ metric }) => metric);
  const metrics = [...new Set([model.metric.channel, ...known])].filter((metric) => run.peek("channel", metric));
  const least = run.channels.map((_, item) => run.numberAt(metrics[0], item, step).value).map((value) => (Number.isNaN(value) ? Infinity : value));
  const found = [...run.channels.keys()].filter((item) => !mask || mask[item]).sort((one, other) => least[one] - least[other] || one - other);
  const row = (item) => {
    const { verdicts, cause: best } = model.verdictsOn(run, item, step);
    const cause = common.some((line) => line.includes(`: ${best?.says}`)) ? null : best;
    const name = run.nameOf("channel", item);
    const seeds = (metric, of) => [run.agreement(metric, item, of)].filter(Boolean).map((text) => ` (seeds: ${text})`).join("");
    const numbers = metrics.map((metric) => [metric, run.numberAt(metric, item, step)]).map(([metric, { value, low, high, of }]) => formatInterval(value, low, high) + seeds(metric, of));
    const texts = [verdicts.map(({ text }) => text).join(", "), ...numbers, cause?.says ?? "", cause?.fix ?? ""];
    return { texts, link: el("th", { scope: "row" }, el("button", { class: "ap-link", type: "button", text: name, on: { click: () => (dialog.close(), select("channel", name)) } })) };
  };
  const rows = found.slice(0, TABLE_ROWS).map(row);
  const titles = ["verdicts", ...metrics.map((metric) => run.info("channel", metric).title), "hint at the cause", "try"];
  // A column in which no channel has anything is not shown.
  const kept = [...titles.keys()].filter((at) => !at || rows.some(({ texts }) => !["", "–"].includes(texts[at])));
  const heads = ["channel", ...kept.map((at) => titles[at])];
  const title = `${formatCount(found.length, "channel")} at step ${formatStep(step)}${found.length > TABLE_ROWS ? `, the first ${TABLE_ROWS}` : ""}; a click on a heading sorts`;
  const table = el("table", { class: "ap-table" }, el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col", text })))), el("tbody", {}, ...rows.map(({ texts, link }) => el("tr", {}, link, ...kept.map((at) => el("td", { text: texts[at] }))))));
  const head = el("div", { class: "ap-panel-split" }, el("h2", { class: "ap-heading", text: title }), iconButton("close", "Close (Esc)", () => dialog.close()));
  clear(dialog).append(el("div", { class: "ap-all", testid: "table" }, head, ...(common.length ? [el("p", { class: "ap-caution", text: common.join(". ") })] : []), sortable(table)));
  dialog.showModal();
}
