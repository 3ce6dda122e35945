// What is chosen: run, metrics, selection, view and filter; and what follows for the views at a step.

import { maskOf, parseFilter } from "./filter.js";
import { rowAt, valuesAt } from "./source.js";
import { wordOf } from "./run.js";

/** The metric that the widths of lines show. */
const ENERGY = "message_energy";
/** Metrics of channels in the order of what they tell: what a channel is worth, whether it carries anything, what its signal does. */
const TELLING = ["ablation_zero", "ablation_resample", ENERGY, "cosine", "skill", "injection_norm", "message_std"];
const FIRST_CHOICE = { channel: TELLING, agent: ["loss", "return"] };
/** Runs with more agents open in the matrix: a graph of more is a thicket. */
const MATRIX_FROM = 200;

/** The state of the page; knows nothing of elements. */
export class Choices {
  #tests = [];
  #wished = { channel: "", agent: "" };
  #viewed = false;
  names = [];
  run = null;
  step = 0;
  view = "graph";
  metric = { channel: "", agent: "" };
  /** Of the item chosen: kind and name; the same name may be in another run. */
  selection = null;

  /** Choose a view; from then on none is chosen by itself. */
  setView(view) {
    this.view = view;
    this.#viewed = true;
  }

  /** Show a run; a metric that it has not is replaced by the most telling one, until a run has it again. */
  setRun(run) {
    this.run = run;
    if (!run) return;
    if (!this.#viewed) this.view = run.agents.length > MATRIX_FROM ? "matrix" : "graph";
    for (const kind of ["channel", "agent"]) {
      const logged = run.shownMetrics(kind);
      this.metric[kind] = [this.#wished[kind], ...FIRST_CHOICE[kind], ...logged].find((metric) => logged.includes(metric)) ?? "";
    }
  }

  /** Choose the metric of the lines ("channel") or of the rings ("agent"). */
  setMetric(kind, metric) {
    this.metric[kind] = this.#wished[kind] = metric;
  }

  /** The metrics that the page needs, as [kind, metric], each with the ends of its interval. */
  needed() {
    const { run, metric } = this;
    if (!run) return [];
    const columns = this.view === "table" ? this.columns() : [];
    const channels = [...new Set([metric.channel, ENERGY, ...columns, ...this.#asked("channel")])];
    const agents = [...new Set([metric.agent, ...run.headlines, ...this.#asked("agent")])];
    const named = [...channels.map((one) => ["channel", one]), ...agents.map((one) => ["agent", one]), ...(this.view === "table" ? run.metrics("part").map((one) => ["part", one]) : [])];
    return named.flatMap(([kind, one]) => [one, ...run.boundsOf(kind, one)].map((part) => [kind, part])).filter(([kind, one]) => run.metrics(kind).includes(one));
  }

  /** Metrics that a filter asks for. */
  #asked(kind) {
    return this.#tests.flatMap(({ metric }) => (metric && this.run.metrics(kind).includes(metric) ? [metric] : []));
  }

  /** The metrics of channels in the table, that of the lines first. */
  columns() {
    const logged = this.run.shownMetrics("channel");
    return [...new Set([this.metric.channel, ...TELLING.filter((metric) => logged.includes(metric))])].filter(Boolean);
  }

  /** All steps at which one of the metrics of the picture was logged, ascending. */
  steps() {
    const found = this.needed().flatMap(([kind, metric]) => [...(this.run.peek(kind, metric)?.steps ?? [])]);
    return Float64Array.from(new Set(found)).sort();
  }

  /** What the views are given. */
  data() {
    const { run, step } = this;
    const energy = run.peek("channel", ENERGY);
    const delays = [...new Set(run.channels.map(({ delay }) => delay))].sort((a, b) => a - b);
    const width = energy && { values: valuesAt(energy, step), high: run.range("channel", ENERGY).high };
    return { run, step, delays, width, metric: this.#shown("channel"), ring: this.#shown("agent"), found: this.masks() };
  }

  /** A chosen metric at the step: values (null: none yet), and where it has intervals their ends `lower` and `upper`, the `words` for them, and which are `unresolved`. */
  #shown(kind) {
    const { run, step } = this;
    const name = this.metric[kind];
    const series = run.peek(kind, name);
    const info = run.info(kind, name);
    const row = series ? rowAt(series, step) : -1;
    const shown = { kind, name, info, series, scale: info.scale, ...run.range(kind, name), values: row < 0 ? null : valuesAt(series, step), at: row < 0 ? NaN : series.steps[row] };
    const [lower, upper] = run.boundsOf(kind, name).map((bound) => run.peek(kind, bound)).map((bound) => bound && valuesAt(bound, shown.at));
    if (!shown.values || !lower || !upper) return shown;
    const words = Array.from(lower, (low, item) => wordOf(info, low, upper[item]));
    return { ...shown, lower, upper, words, unresolved: Uint8Array.from(words, (word) => Number(word === "unresolved")) };
  }

  /** How many channels have each word by the metric of the lines: [word, count]. */
  counts() {
    const { words = [], info } = this.#shown("channel");
    return [...info.words, "unresolved"].map((word) => [word, words.filter((one) => one === word).length]).filter(([, count]) => count);
  }

  /** The chosen item as {kind, index}, or null. */
  get chosen() {
    if (!this.run || !this.selection) return null;
    const { kind, name } = this.selection;
    const index = this.run.find(kind, name);
    return index < 0 ? null : { kind, index };
  }

  select(kind, name) {
    this.selection = kind ? { kind, name } : null;
  }

  setFilter(text) {
    this.#tests = parseFilter(text);
  }

  /** What is found: 1 by agent and by channel; null where nothing is asked. */
  masks() {
    if (!this.run || !this.#tests.length) return null;
    const { words = [] } = this.#shown("channel");
    const textsOf = (kind, item) => {
      const { name, role, coupling, about = {} } = this.run[`${kind}s`][item];
      return kind === "agent" ? [name, role, about.network ?? ""] : [name, coupling, words[item] ?? ""];
    };
    return maskOf(this.run, this.#tests, this.step, textsOf);
  }

  /** The first that is found, as {kind, name}: of what is called so, agents before channels, else of all; null: none. */
  firstFound() {
    const masks = this.masks();
    if (!masks) return null;
    const named = ["agent", "channel"].flatMap((kind) => this.run[`${kind}s`].map(({ name }) => ({ kind, name })).filter((_, index) => masks[kind][index]));
    const { text = "" } = this.#tests[0];
    return named.find(({ name }) => name.toLowerCase().includes(text)) ?? named[0] ?? null;
  }
}
