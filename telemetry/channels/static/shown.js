// What is shown: figures of one or two runs on one scale, at one step.

import { rangeFor, scaleFor, warped } from "./colours.js";
import { differenceInfo, differenceOf } from "./difference.js";
import { spreadOf } from "./run.js";
import { rowAt, valuesAt } from "./source.js";

const FIRST_CHOICE = {
  channel: ["value", "ablation", "message_energy", "message_std", "sg_loss"],
  agent: ["loss"],
};

/** Return the figure shown first: the most telling one that was logged; "" where nothing was. */
export function defaultMetric(run, kind) {
  const logged = run.metrics(kind);
  return FIRST_CHOICE[kind].find((metric) => logged.includes(metric)) ?? logged[0] ?? "";
}

/** Return the measures of worth of a run's channels: {metric, title, bounds, measured, by}, first choice first. */
export function measuresOf(run) {
  return run.catalog.verdicts?.measures ?? [];
}

/** Return the metrics of the ends of a figure's interval; none where it has no interval. */
export function boundsOf(run, metric) {
  return measuresOf(run).find((one) => one.metric === metric && one.measured)?.bounds ?? [];
}

/** Return the bit of a verdict: of a measure of worth ("": none is measured), or of one that needs none; 0: not given. */
export function verdictBit({ flags }, measure) {
  return flags[""] ?? flags[measure] ?? 0;
}

/** Return the figures a run's message energy is made from; none where it was not logged. */
export function energyMetrics(run) {
  const logged = run.metrics("channel");
  if (logged.includes("message_energy")) return ["message_energy"];
  return logged.includes("message_mean") && logged.includes("message_std") ? ["message_mean", "message_std"] : [];
}

/** Return the figures of the runs shown, sorted by title, with the number of runs that have them. */
export function metricsOf(runs, kind) {
  const titles = new Map();
  for (const run of runs) {
    for (const metric of run.metrics(kind)) if (!titles.has(metric)) titles.set(metric, run.info(kind, metric).title);
  }
  // The ends of intervals stand beside their middle.
  if (kind === "channel") for (const run of runs) for (const { bounds } of measuresOf(run)) for (const bound of bounds) titles.delete(bound);
  return [...titles].map(([metric, title]) => ({ metric, title })).sort((a, b) => a.title.localeCompare(b.title));
}

/** Return all steps at which one of the figures was logged in one of the runs, ascending. */
export function stepsOf(runs, metrics) {
  const steps = new Set();
  for (const run of runs) {
    for (const [kind, metric] of metrics) {
      const series = run.peek(kind, metric);
      if (series) for (const step of series.steps) steps.add(step);
    }
  }
  return Float64Array.from(steps).sort();
}

/**
 * Return a figure of a run as the views take it.
 *
 * @param {Run} run
 * @param {Run[]} runs all that are shown: their numbers set the scale
 * @param {string} kind "agent" or "channel"
 * @param {string} metric
 * @param {number} step
 * @param {{near: boolean, curve: string}} how whether the scale reaches over the numbers of this step only, not over all steps; "linear",
 *   "log", or "" for whichever tells more numbers apart
 */
export function figureAt(run, runs, kind, metric, step, { near, curve }) {
  const info = run.info(kind, metric);
  const base = scaleFor(info);
  const series = run.peek(kind, metric);
  const ends = scaleEnds(runs, kind, metric, base, info.limit, near ? step : null);
  const bendable = base !== "share" && !(base === "diverging" && info.limit > 0) && ends.only === null;
  const spreads = bendable ? runs.map((one) => one.spread(kind, metric, ends.low, ends.high, near ? step : null)) : [];
  const log = bendable && (curve ? curve === "log" : spreads.some(({ crowded }) => crowded));
  const bend = Math.max(...spreads.map((spread) => spread.bend));
  return { kind, metric, info, series, ...rowOf(series, step), scale: log ? warped(base, bend) : base, bendable, ...ends };
}

/**
 * Return the difference of a figure of two runs as the views take it.
 *
 * @returns {Object} as figureAt; with an interval its ends by item, and where it holds 0: lower, upper, unresolved
 */
export function differenceFigure([run, other], kind, metric, step, { near, curve }) {
  const bounds = kind === "channel" ? boundsOf(run, metric).filter((bound) => boundsOf(other, metric).includes(bound)) : [];
  const { series, low, high } = differenceOf(run, other, kind, metric, bounds);
  const info = differenceInfo(run, other, run.info(kind, metric), metric, low);
  const row = rowOf(series, step);
  const [lower, upper] = [low, high].map((ends) => (ends && row.at !== null ? valuesAt(ends, step) : null));
  const unresolved = lower && Uint8Array.from(lower, (end, item) => (end <= 0 && upper[item] >= 0 ? 1 : 0));
  const values = (near ? row.values : series?.values) ?? [];
  let most = 0;
  for (const value of values) if (Math.abs(value) > most && Math.abs(value) < Infinity) most = Math.abs(value);
  const [least, highest] = rangeFor("diverging", -most, most);
  const { crowded, bend } = spreadOf(values, least, highest);
  const log = most > 0 && (curve ? curve === "log" : crowded);
  const scale = log ? warped("diverging", bend) : "diverging";
  const ends = { low: least, high: highest, below: false, above: false, only: most ? null : 0 };
  return { kind, metric, info, series, ...row, scale, bendable: most > 0, ...ends, lower, upper, unresolved };
}

/** The ends of a figure's scale over the runs shown, and whether there are numbers beyond them. */
function scaleEnds(runs, kind, metric, scale, limit, step) {
  let min = Infinity;
  let max = -Infinity;
  for (const run of runs) {
    const ends = run.extremes(kind, metric, step);
    if (!ends) continue;
    min = Math.min(min, ends[0]);
    max = Math.max(max, ends[1]);
  }
  const [low, high] = rangeFor(scale, min, max, limit);
  return { low, high, below: min < low, above: max > high, only: min === max ? min : null };
}

/** Return the message energies of a run at a step, and the most of all runs shown; null where there are none. */
export function energyAt(run, runs, step) {
  const series = energySeries(run);
  if (!series) return null;
  let high = 0;
  for (const other of runs) high = Math.max(high, energySeries(other)?.most ?? 0);
  return { kind: "channel", metric: "message_energy", info: run.info("channel", "message_energy"), series, ...rowOf(series, step), low: 0, high };
}

/** Return the figures of a run's parts that a view needs: whether they run, and in their own view all. */
export function partMetrics(run, view) {
  if (!run.parts) return [];
  return view === "parts" ? run.metrics("part") : ["alive", "heartbeat_age"];
}

/**
 * Return the figures of a run's parts at a step.
 *
 * @returns {Object|null} value(metric, part), NaN where there is none; gone(part): whether it does not run; null: no parts
 */
export function partsAt(run, step) {
  if (!run.parts) return null;
  const rows = new Map();
  const value = (metric, part) => {
    if (!rows.has(metric)) rows.set(metric, rowOf(run.peek("part", metric), step).values);
    return rows.get(metric)?.[part] ?? NaN;
  };
  return { value, gone: (part) => value("alive", part) === 0 };
}

const combined = new WeakMap();

function energySeries(run) {
  const [first, second] = energyMetrics(run).map((metric) => run.peek("channel", metric));
  if (!first) return null;
  if (!combined.has(first)) combined.set(first, {});
  const made = combined.get(first);
  if (made.second !== second || !made.series) {
    made.second = second;
    made.series = second ? hypotenuse(first, second) : { ...first };
    made.series.most = made.series.values.reduce((most, value) => (value > most && value < Infinity ? value : most), 0);
  }
  return made.series;
}

/** The root mean square from mean and spread, at the steps both have. */
function hypotenuse(mean, spread) {
  const { items } = mean;
  const values = new Float32Array(mean.values.length).fill(NaN);
  mean.steps.forEach((step, row) => {
    const other = rowAt(spread, step);
    if (other < 0) return;
    for (let item = 0; item < items; item++) {
      values[row * items + item] = Math.hypot(mean.values[row * items + item], spread.values[other * items + item]);
    }
  });
  return { steps: mean.steps, values, items };
}

function rowOf(series, step) {
  const row = series ? rowAt(series, step) : -1;
  if (row < 0) return { values: null, at: null };
  return { values: series.values.subarray(row * series.items, (row + 1) * series.items), at: series.steps[row] };
}
