// Parts of the side panel: sentences, facts, which metrics belong together, and what all channels together do.

import { el } from "../drawing/dom.js";
import { formatCount, formatInterval, formatStep, ofStep } from "../drawing/format.js";
import { ENERGY, quantileOf } from "../data/shown.js";
import { columnOf, itemAt, rowAt } from "../data/source.js";

const PANEL_ROWS = 64;
const PANEL_FEWEST = 4;
const PANEL_GROUND = new WeakMap();

/** Return the metrics to show of those that were logged, in groups with a heading. */
export function panelGroups(run, kind, metrics) {
  const there = new Set(metrics);
  const groups = run.catalog.groups[kind].map(([heading, names]) => ({ heading, metrics: names.filter((name) => there.delete(name)) }));
  for (const edge of kind === "channel" ? run.ends : []) there.delete(edge);
  groups.push({ heading: "Other metrics", metrics: [...there] });
  return groups.filter((group) => group.metrics.length);
}

/** Return what a channel is called: sender, receiver and key. */
export function panelChannel(run, index) {
  const { name, from, to } = run.channels[index];
  const [sender, receiver] = [run.agents[from].name, run.agents[to].name];
  const start = `${sender}->${receiver}:`;
  return { sender, receiver, key: name.startsWith(start) ? name.slice(start.length) : "" };
}

/** Return "sender → receiver"; a name written from right to left turns only itself. */
export function panelPair(sender, receiver) {
  return el("span", {}, el("bdi", { text: sender }), " → ", el("bdi", { text: receiver }));
}

/** Say in a sentence when an agent ticks and may learn, and how often it did by a step; steps are counted from 1, phases from 0. */
export function panelClock(run, agent, step) {
  const { period, phase, role, about: { learns } = {} } = run.agents[agent];
  const first = (((phase % period) + period) % period) + 1;
  const ticks = period === 1 ? "Ticks at every step" : `Ticks every ${period} steps, from step ${first}`;
  if (role === "frozen") return `${ticks}; frozen: it does not learn.`;
  const { value: updates, of } = run.numberAt("updates", agent, step, "agent");
  const ticked = Math.max(Math.floor((of - first) / period) + 1, 0);
  const learned = updates >= 0 ? `${formatCount(updates, "update")} in ${formatCount(ticked, "tick")}${ofStep(of, step) && ` until step ${formatStep(of)}`}` : "";
  return [ticks, [learns && `may learn ${learns}`, learned].filter(Boolean).join(": ")].filter(Boolean).join("; ") + ".";
}

/** List facts: [name, anything]. Empty ones are left out. */
export function panelFacts(entries) {
  const list = el("dl", { class: "ap-facts" });
  for (const [name, value] of entries) {
    const text = panelText(value);
    if (text !== "") list.append(el("dt", { dir: "auto", text: name.replaceAll("_", " ") }), el("dd", { dir: "auto", text }));
  }
  return list;
}

/** Say anything in words; "": nothing. */
export function panelText(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return value.toLocaleString("en-US", { maximumSignificantDigits: 6 });
  if (Array.isArray(value)) return value.map(panelText).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Return what all `items` do together: their median and the middle half, at some 60 of the rows, of which each begins with their numbers; null for few items. */
export function panelGround(series, items) {
  if (PANEL_GROUND.has(series)) return PANEL_GROUND.get(series);
  const { steps, values, items: width } = series;
  const every = Math.max(Math.ceil(steps.length / PANEL_ROWS), 1);
  const rows = [...steps.keys()].filter((row) => row % every === 0 || row === steps.length - 1);
  const ground = { steps: Float64Array.from(rows, (row) => steps[row]) };
  for (const part of ["values", "low", "high"]) ground[part] = new Float32Array(rows.length).fill(NaN);
  let most = 0;
  rows.forEach((row, at) => {
    const sorted = values.slice(row * width, row * width + items).filter(Number.isFinite).sort();
    most = Math.max(most, sorted.length);
    if (!sorted.length) return;
    [ground.low[at], ground.values[at], ground.high[at]] = [0.25, 0.5, 0.75].map((share) => quantileOf(sorted, share));
  });
  const found = most >= PANEL_FEWEST ? ground : null;
  PANEL_GROUND.set(series, found);
  return found;
}

/** Return the one number that some columns have over and over; NaN: they have none; null: they have several, or one a single time. */
export function panelConstant(columns) {
  const found = columns.map((column) => column.filter(Number.isFinite)).filter((column) => column.length);
  if (!found.length) return NaN;
  const only = found[0][0];
  return found.every((column) => column.length > 1 && column.every((value) => value === only)) ? only : null;
}

/** Say in words what was measured a single time on `lines` (of a run each, `named` after it): "0.0976 [0.064, 0.131] at step 600"; "": a line has several numbers. */
export function panelOnce(lines, named) {
  const rowsOf = ({ values }) => [...values.keys()].filter((row) => Number.isFinite(values[row]));
  const measured = lines.map((line) => ({ ...line, rows: rowsOf(line) })).filter(({ rows }) => rows.length);
  if (measured.some(({ rows }) => rows.length > 1)) return "";
  return measured.map(({ name, steps, values, low, high, rows: [row] }) => `${named ? `${name}: ` : ""}${formatInterval(values[row], low?.[row], high?.[row])} at step ${formatStep(steps[row])}`).join("; ");
}

/** Say of what the points of a channel's alignment are, and at which log entries there are none, and why; "": it was not logged. */
export function panelEntries(run, channel, { start, episode_ends: [end] = [], channels = [] }) {
  const [cosine, loss, energy] = ["cosine", "sg_loss", ENERGY].map((metric) => run.peek("channel", metric));
  if (!cosine || !energy || run.seeds.length) return "";
  const { coupling, predictor } = run.channels[channel];
  const empty = !columnOf(cosine, channel).some(Number.isFinite);
  if (empty && !predictor && !(loss && columnOf(loss, channel).some(Number.isFinite))) return `No alignment: ${coupling} predicts no gradient.`;
  const { batch, every } = run.graph;
  const sentences = empty ? ["No alignment at any log entry."] : batch ? [`Each log entry is of one batch of ${formatCount(batch, "sample")}: the newest messages whose gradients had returned. Cosine, norm ratio and R² are means over the newest entries.`] : [];
  const entries = [...energy.steps];
  const length = end + 1 - start;
  const phases = new Set(entries.filter((step) => step % every === 0).map((step) => step % length)).size;
  if (length > 1 && phases > 1) sentences.push(`Log entries fall on ${phases} of the ${length} steps of an episode in turn: neighbours may differ by that alone.`);
  // Entries that were left out of the page or by TensorBoard are not missing.
  const whole = !run.catalog.sampled && entries.slice(2, -1).every((step, row) => step - entries[row + 1] === every);
  const lacks = (series) => (step) => Number.isNaN(series?.steps[rowAt(series, step)] === step ? itemAt(series, step, channel) : NaN);
  const missing = whole ? entries.filter(lacks(cosine)) : [];
  const why = (steps, reason) => (steps.length ? [`None at ${steps.slice(0, 4).map(formatStep).join(", ")}${steps.length > 4 ? ` and ${steps.length - 4} more` : ""}: ${reason}.`] : []);
  const idle = missing.filter(lacks(loss));
  const unread = channels[channel]?.cells.some(([, text]) => text.includes("x"));
  sentences.push(...why(missing.filter((step) => !idle.includes(step)), "the gradients that returned there were 0"), ...why(idle, `no gradient returned there${unread ? " (messages that are never read, as the last of an episode)" : ""}`));
  return sentences.join(" ");
}
