// One run: its graph, what was logged, and the series fetched so far.

import { endsOf, withinLimits } from "../drawing/format.js";
import { columnOf, extremesOf, itemAt, rowAt, valuesAt } from "./source.js";

/** A run as the views see it. `kind` is "agent", "channel" or "part"; items are numbers in the graph's order. */
export class Run {
  #source;
  #series = new Map();
  #places = { agent: new Map(), channel: new Map() };
  #extras = new Map();
  #sent;
  #received;
  #extremes = new WeakMap();
  #spreads = new WeakMap();

  constructor(name, source, graph, catalog, machines) {
    this.name = name;
    this.#source = source;
    this.graph = graph;
    this.catalog = catalog;
    /** The machine of each part; empty where none is known. */
    this.machines = machines;
    this.agents = graph.agents;
    this.channels = graph.channels;
    for (const kind of ["agent", "channel"]) this[`${kind}s`].forEach(({ name: item }, index) => this.#places[kind].set(item, index));
    [this.#sent, this.#received] = [0, 1].map(() => this.agents.map(() => []));
    this.channels.forEach(({ from, to }, index) => {
      this.#sent[from].push(index);
      this.#received[to].push(index);
    });
  }

  /** Fetch the documents of a run; its numbers are fetched when they are asked for. */
  static async open(name, source) {
    return new Run(name, source, ...(await documentsOf(name, source)));
  }

  /** How many parts compute the run; 0: it is not in parts. */
  get parts() {
    return this.graph.parts ?? 0;
  }

  /** Whether the ends of a channel are in different parts. */
  isCut(channel) {
    const { from, to } = this.channels[channel];
    return this.parts > 0 && this.agents[from].part !== this.agents[to].part;
  }

  /**
   * A metric's numbers at a step, as all views show them: of single batches the mean of the newest entries, of others those of the newest entry.
   * @returns {Object|null} values, the step `at` of the newest entry, of means their `counts` and the `halves` of their intervals
   */
  shownAt(kind, metric, step) {
    const series = this.peek(kind, metric);
    const row = series ? rowAt(series, step) : -1;
    if (row < 0) return null;
    const means = this.means(kind, metric);
    const [values, halves, counts] = means ? [0, 1, 2].map((part) => valuesAt(means, step).subarray(part * series.items, (part + 1) * series.items)) : [valuesAt(series, step)];
    return { at: series.steps[row], values, ...(means && { halves, counts }) };
  }

  /** The means of a metric over the newest entries, with half their intervals and their counts, one after another; null: it is shown as it was logged. */
  means(kind, metric) {
    return this.peek("mean", meansOf(kind, metric));
  }

  /** An item's number of a metric at a step: {value, low, high: its interval, of: its step, count: of how many entries it is the mean}; NaN where there is none. */
  numberAt(metric, item, step, kind = "channel") {
    const { values, at = NaN, counts, halves } = this.shownAt(kind, metric, step) ?? {};
    const value = values?.[item] ?? NaN;
    const info = this.info(kind, metric);
    const ends = this.boundsOf(kind, metric).map((bound) => itemAt(this.peek(kind, bound), at, item));
    const [low, high] = ends.length ? withinLimits(info, ends) : endsOf(info, value, halves?.[item]);
    return { value, low, high, of: at, count: counts?.[item] ?? 1 };
  }

  /** The names of the runs of several seeds that this one is the mean of; none: it is one run. */
  get seeds() {
    return Object.keys(this.graph.seeds ?? {});
  }

  /** Say of how many log entries, or of how many seeds, a number is the mean; "": of one entry. */
  meanOf(count) {
    if (!(count > 1)) return this.seeds.length && count ? "of 1 seed" : "";
    return this.seeds.length ? `mean of ${count} seeds` : `mean of the last ${count} entries`;
  }

  /** Say what the seeds find of a channel by a measure of worth at a step, each by itself: "2 harm, 1 unresolved"; "": it is one run. */
  agreement(measure, channel, step) {
    const found = this.peek("seeds", measure);
    const words = this.catalog.verdicts?.words.filter(({ flags }) => flags[measure]) ?? [];
    const counted = ({ counted: several, one }, side) => [itemAt(found, step, side * this.channels.length + channel), several, one];
    return words.map(counted).filter(([count]) => count > 0).map(([count, several, one]) => `${count} ${(count === 1 && one) || several}`).join(", ");
  }

  /** An item's curve, of the numbers that are shown: steps, values, and the ends of its interval, where it has one; null: the metric was not fetched. */
  curve(kind, metric, item) {
    const series = this.peek(kind, metric);
    if (!series) return null;
    const means = this.means(kind, metric);
    const values = columnOf(means ?? series, item);
    const [sure, counts] = means ? [1, 2].map((part) => columnOf(means, part * series.items + item)) : [];
    // The interval of two entries is so wide that beside it nothing else is seen.
    const halves = sure?.map((half, row) => (counts[row] > 2 || this.seeds.length ? half : NaN));
    const ends = this.boundsOf(kind, metric).map((bound) => this.peek(kind, bound)).filter((end) => end?.steps.length === values.length);
    const [low, high] = halves ? [0, 1].map((end) => values.map((value, row) => endsOf(this.info(kind, metric), value, halves[row])[end])) : ends.map((end) => columnOf(end, item));
    return { steps: series.steps, values, ...(high && { low, high }) };
  }

  /** The metrics of the ends of a metric's interval; none where it has no interval. */
  boundsOf(kind, metric) {
    const { bounds = [] } = kind === "agent" ? {} : this.#intervals.find((one) => one.metric === metric) ?? {};
    return bounds.filter((bound) => this.metrics(kind).includes(bound));
  }

  /** Names of the metrics that were logged. */
  metrics(kind) {
    return this.catalog[kind] ?? [];
  }

  /** What is known of a metric, always with a title and a scale. */
  info(kind, metric) {
    const known = this.graph.figures?.[kind]?.[metric];
    return { title: metric, says: "", scale: "sequential", caution: "", ...known };
  }

  /** The number of the item of that name, or -1. */
  find(kind, name) {
    return this.#places[kind].get(name) ?? -1;
  }

  nameOf(kind, index) {
    return (kind === "agent" ? this.agents : this.channels)[index]?.name ?? "";
  }

  /** Numbers of the channels an agent sends on. */
  outgoing(agent) {
    return this.#sent[agent];
  }

  /** Numbers of the channels an agent receives on. */
  incoming(agent) {
    return this.#received[agent];
  }

  /** Whether an agent's clock ticks at a step; steps are counted from 1. */
  ticks(agent, step) {
    const { period, phase } = this.agents[agent];
    const since = step - 1 - phase;
    return since >= 0 && since % period === 0;
  }

  /** A metric fetched before, or null. */
  peek(kind, metric) {
    return this.#series.get(`${kind}/${metric}`) ?? null;
  }

  /** All rows of a metric, fetched once; null where it was not logged. */
  async series(kind, metric) {
    const key = `${kind}/${metric}`;
    if (!this.metrics(kind).includes(metric)) return null;
    const fetched = async () => {
      await this.series("mean", meansOf(kind, metric));
      this.#series.set(key, await this.#source.series(this.name, kind, metric));
      return this.#series.get(key);
    };
    return this.#series.get(key) ?? this.#once(key, fetched);
  }

  /** First and last step of all that was fetched. */
  span() {
    const found = [...this.#series.values()].map(({ steps }) => steps).filter((steps) => steps.length);
    return [Math.min(...found.map((steps) => steps[0])), Math.max(...found.map((steps) => steps.at(-1)))];
  }

  /** What happens in the first steps, or null where it was not written. */
  async timeline() {
    return this.#once("timeline", () => (this.catalog.timeline ? this.#source.document(this.name, "timeline") : null));
  }

  /** The messages of a channel as points, or null where none were kept. */
  async cloud(channel) {
    const kept = (this.catalog.messages ?? []).includes(channel);
    return this.#once(`cloud/${channel}`, () => (kept ? this.#source.cloud(this.name, channel) : null));
  }

  async #once(key, ask) {
    if (!this.#extras.has(key)) {
      const request = Promise.resolve(ask());
      this.#extras.set(key, request);
      request.catch(() => this.#extras.delete(key));
    }
    return this.#extras.get(key);
  }

  /** Lowest and highest finite number of a metric at all steps; null where there is none. */
  extremes(kind, metric) {
    const series = this.peek(kind, metric);
    if (!series) return null;
    if (!this.#extremes.has(series)) this.#extremes.set(series, extremesOf(series.values));
    return this.#extremes.get(series);
  }

  /** The metrics of the ends of intervals, which stand beside their middle. */
  get ends() {
    return this.#intervals.flatMap(({ bounds }) => bounds);
  }

  /** The metrics that have intervals, with those of their `bounds`. */
  get #intervals() {
    const { measures = [], signals = [], own_gain: bounds = [] } = this.catalog.verdicts ?? {};
    return [...measures, ...signals, { metric: "own_gain", bounds }];
  }

  /** Whether a metric of channels was fetched and has no number at any step. */
  isEmpty(metric) {
    return Boolean(this.peek("channel", metric)) && !this.extremes("channel", metric);
  }

  /**
   * Return how the numbers of a metric at all steps are spread over a scale from low to high.
   * @returns {{crowded: boolean, bend: number}} crowded: a few numbers eat the scale, three quarters lie in a tenth of it; bend: of a
   *   log scale that tells those apart
   */
  spread(kind, metric, low, high) {
    const series = this.peek(kind, metric);
    if (!series) return { crowded: false, bend: LEAST_BEND };
    const key = `${low}/${high}`;
    if (this.#spreads.get(series)?.key !== key) this.#spreads.set(series, { key, ...spreadOf(series.values, low, high) });
    return this.#spreads.get(series);
  }

  /** Fetch what is new; return this run, or a fresh one where its graph has changed or it was resumed. */
  async refresh() {
    const [graph, catalog, machines] = await documentsOf(this.name, this.#source);
    const resumed = catalog.session !== this.catalog.session; // rows may have been taken back
    if (resumed || JSON.stringify(graph) !== JSON.stringify(this.graph)) {
      return new Run(this.name, this.#source, graph, catalog, machines);
    }
    this.catalog = catalog;
    this.machines = machines;
    this.#extras.clear();
    const grown = await Promise.all([...this.#series].map(([key, series]) => this.#extend(key, series)));
    // Rows of a session that began while they were fetched do not go with those from before it.
    if (grown.some(Boolean) && (await this.#source.document(this.name, "catalog")).session !== catalog.session) return Run.open(this.name, this.#source);
    return this;
  }

  /** Fetch the new rows of a metric; whether there were any. */
  async #extend(key, series) {
    const [kind, metric] = key.split(/\/(.*)/);
    const last = series.steps.at(-1) ?? -1;
    // The newest row may be written anew, by a part that waits or by a measurement; verdicts follow from all metrics, at any step, and seeds run
    // one after another.
    const more = await this.#source.series(this.name, kind, metric, kind === "verdict" || this.seeds.length ? -1 : last - 1);
    if (more.steps.length) this.#series.set(key, joined(series, more));
    return (more.steps.at(-1) ?? -1) > last;
  }
}

/** The name of the means of a metric; undefined: it has none. */
function meansOf(kind, metric) {
  return { channel: metric, agent: `agent/${metric}` }[kind];
}

/** Rows and those that came since; of two rows at one step the later counts. */
function joined(series, more) {
  const kept = rowAt(series, more.steps[0] - 1) + 1;
  const joint = (one, other) => {
    const all = new one.constructor(one.length + other.length);
    all.set(one);
    all.set(other, one.length);
    return all;
  };
  const values = joint(series.values.subarray(0, kept * series.items), more.values);
  return { steps: joint(series.steps.subarray(0, kept), more.steps), values, items: series.items };
}

async function documentsOf(name, source) {
  const [graph, catalog] = await Promise.all(["graph", "catalog"].map((one) => source.document(name, one)));
  return [graph, catalog, catalog.parts ? (await source.document(name, "parts")).machines : []];
}

/** A sample of the numbers is enough to tell. */
const SAMPLED = 10000;
const LEAST_BEND = 10;
const MOST_BEND = 1e7;

/** How numbers are spread over a scale: see Run.spread. */
function spreadOf(values, low, high) {
  const every = Math.max(Math.floor(values.length / SAMPLED), 1);
  const base = low < 0 && high > 0 ? 0 : low;
  const far = [];
  for (let at = 0; at < values.length; at += every) {
    const away = Math.abs(values[at] - base) / (high - base);
    if (Number.isFinite(away)) far.push(away);
  }
  far.sort((a, b) => a - b);
  const middle = far[far.length >> 1] ?? 1;
  const bend = Math.min(Math.max(LEAST_BEND / middle, LEAST_BEND), MOST_BEND);
  return { crowded: far.length > 3 && far[Math.floor(0.75 * (far.length - 1))] < 0.1, bend };
}
