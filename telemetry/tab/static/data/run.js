// One run: its graph, what was logged, and the series fetched so far.

import { columnOf, itemAt, rowAt, valuesAt } from "./source.js";

/** Share of the numbers that lie within a scale: a few far ones shall not make all others look alike. */
const WITHIN = 0.98;
/** A sample of so many numbers is enough to tell. */
const SAMPLED = 10000;
/** Metrics of agents that say how well a run does, by the split of an evaluation, the most telling first. */
const SPLITS = ["test_", "validation_", ""];
const SCORES = ["accuracy", "error", "bits", "return", "loss"];

/** A run as the views see it. `kind` is "agent", "channel" or "part"; items are numbers in the graph's order. */
export class Run {
  #source;
  #series = new Map();
  #places = { agent: new Map(), channel: new Map() };
  #extras = new Map();
  #sent;
  #received;
  #ranges = new WeakMap();

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

  /** Names of the metrics that were logged. */
  metrics(kind) {
    return this.catalog[kind] ?? [];
  }

  /** Names of those that are shown by themselves: the ends of an interval stand beside their middle. */
  shownMetrics(kind) {
    const logged = this.metrics(kind);
    const ends = new Set(logged.flatMap((metric) => this.boundsOf(kind, metric)));
    return logged.filter((metric) => !ends.has(metric));
  }

  /** The metrics of the ends of a metric's interval; none where it has no interval. */
  boundsOf(kind, metric) {
    const ends = [`${metric}_low`, `${metric}_high`];
    return ends.every((end) => this.metrics(kind).includes(end)) ? ends : [];
  }

  /** What is known of a metric, with a title, a scale and words. */
  info(kind, metric) {
    const known = this.graph.explanations[kind]?.[metric];
    return { title: metric.replaceAll("_", " "), says: "", scale: "sequential", limit: null, positive: false, words: [], ...known };
  }

  /** An item's number of a metric at a step: {value, low, high: its interval, word: what that says, of: its step}; NaN where there is none. */
  numberAt(kind, metric, item, step) {
    const series = this.peek(kind, metric);
    const row = series ? rowAt(series, step) : -1;
    if (row < 0) return { value: NaN, low: NaN, high: NaN, word: "", of: step };
    const of = series.steps[row];
    const [low = NaN, high = NaN] = this.boundsOf(kind, metric).map((bound) => itemAt(this.peek(kind, bound), of, item));
    return { value: series.values[row * series.items + item], low, high, word: wordOf(this.info(kind, metric), low, high), of };
  }

  /** An item's curve: steps, values, and the ends of its interval, where it has one; null: the metric was not fetched. */
  curve(kind, metric, item) {
    const series = this.peek(kind, metric);
    if (!series) return null;
    const ends = this.boundsOf(kind, metric).map((bound) => this.peek(kind, bound));
    const [low, high] = ends.every((end) => end?.steps.length === series.steps.length) ? ends.map((end) => columnOf(end, item)) : [];
    return { steps: series.steps, values: columnOf(series, item), ...(high && { low, high }) };
  }

  /** The scale of a metric over all steps: its ends {low, high}; numbers beyond them have the colours of the ends. */
  range(kind, metric) {
    const series = this.peek(kind, metric);
    if (!series) return { low: 0, high: 1 };
    if (!this.#ranges.has(series)) this.#ranges.set(series, rangeOf(series.values, this.info(kind, metric)));
    return this.#ranges.get(series);
  }

  /** The metrics of agents that say how well the run does: one of each split. */
  get headlines() {
    return SPLITS.flatMap((split) => SCORES.map((score) => split + score).find((metric) => this.metrics("agent").includes(metric)) ?? []);
  }

  /** The curve of a headline: the mean over readouts, or over all agents where none is a readout. */
  score(metric) {
    const series = this.peek("agent", metric);
    const readouts = [...this.agents.keys()].filter((agent) => this.agents[agent].role === "readout");
    const chosen = readouts.length ? readouts : [...this.agents.keys()];
    const values = Array.from(series.steps, (_, row) => {
      const known = chosen.map((agent) => series.values[row * series.items + agent]).filter(Number.isFinite);
      return known.reduce((sum, value) => sum + value, 0) / known.length;
    });
    const rows = [...values.keys()].filter((row) => Number.isFinite(values[row]));
    return { steps: rows.map((row) => series.steps[row]), values: rows.map((row) => values[row]) };
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
      this.#series.set(key, await this.#source.series(this.name, kind, metric));
      return this.#series.get(key);
    };
    return this.#series.get(key) ?? this.#once(key, fetched);
  }

  /** How many metrics were fetched. */
  get fetched() {
    return this.#series.size;
  }

  /** First and last step of all that was fetched. */
  span() {
    const found = [...this.#series.values()].map(({ steps }) => steps).filter((steps) => steps.length);
    return [Math.min(...found.map((steps) => steps[0])), Math.max(...found.map((steps) => steps.at(-1)))];
  }

  /** The lines of what happens in the first steps, or null where they were not written. */
  async timeline() {
    return this.#once("timeline", async () => (this.catalog.timeline ? (await this.#source.document(this.name, "timeline")).lines : null));
  }

  /** The messages of a channel as points, or null where none were kept. */
  async cloud(channel) {
    const kept = this.catalog.messages.includes(channel);
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
}

/** The word for an interval: of what lies above 0, below 0, or around it; "": there is none. */
export function wordOf({ words: [above, below] }, low, high) {
  if (!above || !(low <= high)) return "";
  return low > 0 ? above : high < 0 ? below : "unresolved";
}

/** The number below which a share of sorted ones lie, between two in proportion: the median of an even count is the mean of its middle two. */
export function quantileOf(sorted, share) {
  const place = share * (sorted.length - 1);
  const below = sorted[Math.floor(place)];
  return below + (place % 1) * (sorted[Math.ceil(place)] - below);
}

/** The ends of a scale: of a diverging one the same on both sides. */
function rangeOf(values, { scale, limit }) {
  if (scale === "share") return { low: 0, high: 1 };
  const every = Math.max(Math.floor(values.length / SAMPLED), 1);
  const sample = values.filter((value, at) => at % every === 0 && Number.isFinite(value)).sort();
  if (!sample.length) return { low: scale === "diverging" ? -1 : 0, high: 1 };
  if (scale === "diverging") {
    const most = quantileOf(sample.map(Math.abs).sort(), WITHIN) || 1;
    const end = limit ? Math.min(limit, most) : most;
    return { low: -end, high: end };
  }
  const [low, high] = [sample[0], quantileOf(sample, WITHIN)];
  return low < high ? { low, high } : { low: Math.min(low, 0), high: Math.max(low, 0) || 1 };
}

async function documentsOf(name, source) {
  const [graph, catalog] = await Promise.all(["graph", "catalog"].map((one) => source.document(name, one)));
  return [graph, catalog, catalog.parts ? (await source.document(name, "parts")).machines : []];
}
