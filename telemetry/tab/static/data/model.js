// What is chosen: runs, metrics, selection, search and filter; and what follows for the stages at a step.

import { PLACE, capital, diagnosisOf, filled, reasonOf, sourceOf } from "./diagnosis.js";
import { filterMoves, maskOf, parseFilter } from "./filter.js";
import { endsOf, formatInterval, formatResult, formatStep, ofStep } from "../drawing/format.js";
import { MATRIX_FROM } from "../matrix/order.js";
import { ENERGY, apartIn, brokenOf, chanceOf, comparedScores, defaultMetric, doubtIn, energyAt, faultsOf, judgementOf, metricAt, measuresOf, metricsOf, partMetrics, partsAt, stepsOf, verdictBit, wordOf, wordWith } from "./shown.js";
import { definedSteps, rowAt, valuesAt } from "./source.js";

const VERDICTS = ["verdict", "channel"];
const REASONS = ["verdict", "reasons"];
const LOST_SIGNALS = ["verdict", "signals"];
const OWN_GAIN = "own_gain";
const GAIN = ["loss_zero", "loss_true"];
/** So many channels of a verdict are named. */
const NAMED = 12;
/** Messages mislead little by less than this part of the largest effect. */
const LITTLE = 5;
/** Verdicts that ask for the cause, and the same as a clause; worse than none asks where the true gradient loses less than no signal. */
const BAD = [["harms", "it harms"], ["worse", "it is worse than none"], ["broken", "its predictor is broken"], ["against", "it points against the gradient"]];

/** The state of the page; knows nothing of elements. */
export class Model {
  #tests = [];
  #masks = [null, null];
  #delays = [];
  #worth = "";
  filterError = "";
  names = [];
  runs = [null, null];
  metric = { channel: "", agent: "" };
  #wished = { channel: "", agent: "" };
  /** Of the item chosen: kind, name, and the name of another one `beside` it; the same name may be in both runs. */
  selection = null;
  view = "graph";

  #viewed = false;

  /** Choose a view; from then on none is chosen by itself. */
  setView(view) {
    this.view = view;
    this.#viewed = true;
  }

  /** The runs on the stages. */
  shown() {
    return this.runs.filter(Boolean);
  }

  /** Put a run on a stage; metrics that no run has are replaced by the most telling ones. */
  setRun(side, run) {
    this.runs[side] = run;
    this.forget();
    const runs = this.shown();
    this.#delays = [...new Set(runs.flatMap((one) => one.channels.map((channel) => channel.delay)))].sort((a, b) => a - b);
    if (this.view === "parts" && !runs.some((one) => one.parts)) this.view = "graph";
    if (!runs.length) return;
    if (!this.#viewed) this.view = runs.some((one) => one.agents.length > MATRIX_FROM) ? "matrix" : "graph";
    for (const kind of ["channel", "agent"]) {
      // What was chosen comes back with the next run that has it.
      const kept = metricsOf(runs, kind).find(({ metric }) => metric === this.#wished[kind]);
      this.metric[kind] = kept?.metric ?? defaultMetric(runs, kind);
    }
  }

  /** Show, unless a metric was chosen, what tells most, whatever was shown before: of two runs that in which they differ most at a step, of one what is broken at its end; whether that changed it. */
  settle(step) {
    const { channel } = this.metric;
    const [run, other] = this.shown();
    if (!channel || channel === this.#wished.channel) return false;
    const first = defaultMetric(this.shown(), "channel");
    if (other) this.metric.channel = apartIn(this.shown(), step, first).metric;
    else if (this.#lost(run, Infinity).length) this.metric.channel = "cosine";
    else this.metric.channel = first !== "value" && brokenOf(run, this.#flags(run, Infinity) ?? []).length ? "norm_ratio" : first;
    return this.metric.channel !== channel;
  }

  /** Choose the metric of the lines ("channel") or of the rings ("agent"); verdicts stay those of the measure of worth before. */
  setMetric(kind, metric) {
    if (this.runs[0]) this.#worth = this.measure(this.runs[0]);
    this.metric[kind] = this.#wished[kind] = metric;
  }

  /** The metrics a picture needs, as [kind, metric]: those chosen, the message energy, and those of parts. */
  needed(run) {
    // Verdicts first: the slider does not stand at steps whose other rows are still to come.
    const chosen = [VERDICTS, REASONS, LOST_SIGNALS, ["channel", this.metric.channel], ["agent", this.metric.agent], ["channel", ENERGY]];
    chosen.push(...["headline", "seeds"].flatMap((kind) => run.metrics(kind).map((metric) => [kind, metric])));
    const measured = measuresOf(run).filter((one) => one.measured);
    for (const { metric } of [...measured, ...(run.catalog.verdicts?.signals ?? []), ...[OWN_GAIN, ...GAIN].map((metric) => ({ metric }))]) chosen.push(...[metric, ...run.boundsOf("channel", metric)].map((one) => ["channel", one]));
    chosen.push(...["value", ...run.boundsOf("run", "value")].map((metric) => ["run", metric]));
    chosen.push(...partMetrics(run, this.view).map((metric) => ["part", metric]));
    const logged = chosen.filter(([kind, metric]) => run.metrics(kind).includes(metric));
    return logged.filter(([kind, metric], at) => logged.findIndex((other) => other[0] === kind && other[1] === metric) === at);
  }

  /** The metrics that hints at causes name, as [kind, metric]. */
  hinted(run) {
    const clauses = (run.catalog.verdicts?.causes ?? []).flatMap(({ texts }) => texts.flatMap((text) => text ?? []));
    const names = clauses.flatMap((clause) => [...clause.matchAll(PLACE)].map(([, , name]) => name));
    const metrics = [...new Set(names)].filter((name) => run.metrics("channel").includes(name));
    return metrics.flatMap((name) => [name, ...run.boundsOf("channel", name)]).map((name) => ["channel", name]);
  }

  steps(runs = this.shown()) {
    return stepsOf(runs, runs.flatMap((run) => this.needed(run)));
  }

  /** The name of one of two runs, its result beside that of the other, its verdicts, and the step of its values, where it ended before. */
  heading(side, step) {
    const [run, last] = [this.runs[side], this.steps([this.runs[side]]).at(-1)];
    const [found, other, over] = comparedScores(this.runs, step);
    const [own, { words = [] }] = [side ? other : found, this.verdicts(side, step)];
    const counts = words.filter(({ count }) => count).map(({ counted, one, count }) => `${count} ${(count === 1 && one) || counted}`);
    const result = (found.title === other.title || found.scenario !== other.scenario) && own.title && `${own.title} ${formatResult(own)}${over.replace(/^, (each )?([^,]*).*/, " $2")}`;
    return [run.name, result, counts.join(", "), last < step && `values of its last step, ${formatStep(last)}`].filter(Boolean).join(" · ");
  }

  /** What the view of a side is given. */
  data(side, step, playing) {
    const run = this.runs[side];
    const runs = this.shown();
    const faults = faultsOf(run, this.#flags(run, step) ?? []);
    return {
      run, step, playing, faults, against: this.#againstFirst(run, step),
      loading: this.#loads(run),
      delays: this.#delays,
      metric: { ...this.#metric(run, runs, "channel", step), faults },
      ring: this.#metric(run, runs, "agent", step),
      width: energyAt(run, runs, step),
      parts: partsAt(run, step),
    };
  }

  #metric(run, runs, kind, step) {
    const chosen = this.metric[kind];
    const worth = kind === "channel" && measuresOf(run).some(({ metric }) => metric === chosen);
    const name = worth ? this.measure(run, step) || chosen : chosen;
    const metric = metricAt(run, runs, kind, name, step);
    if (kind === "agent") return metric;
    const [title, missing] = [name, chosen].map((one) => run.info("channel", one).title);
    const instead = name === chosen ? this.#instead(run) : `Shown: ${title}, as no ${missing} is ${this.#measuredAt(run, chosen, step) ? "defined at" : "measured by"} this step.`;
    return { ...metric, ...this.#interval(run, metric), instead };
  }

  /** Say for which measure of worth the lines show another metric, as it has no number at any step; "": for none. */
  #instead(run) {
    const { channel } = this.metric;
    const empty = measuresOf(run).find(({ metric, measured }) => measured && run.isEmpty(metric));
    return empty && channel !== this.#wished.channel ? `Shown: ${run.info("channel", channel).title}, as no channel has a ${empty.title} at any step.` : "";
  }

  /**
   * Of a metric with intervals their ends at a step, and which are `unresolved`; whether it is `signed`: good above 0, bad below; of a measure of worth the `words` of the verdicts by channel (undefined: none),
   * where there is no value also of own gain, and the values with which such channels are `coloured`; of another measure what is told of it.
   */
  #interval(run, { name, info, values, at, high, halves }) {
    const aligned = info.limit === 1 && halves?.some(Number.isFinite) && [0, 1].map((end) => values.map((value, channel) => endsOf(info, value, halves[channel])[end]));
    const ends = run.boundsOf("channel", name).map((metric) => run.peek("channel", metric)).map((bound) => bound && valuesAt(bound, at));
    const [lower, upper] = ends.length ? ends : aligned || [];
    const flags = values && this.#flags(run, at);
    if (!lower || !upper || !flags) return {};
    const unresolved = Uint8Array.from(lower, (low, channel) => low <= 0 && upper[channel] >= 0);
    if (!measuresOf(run).some(({ metric }) => metric === name)) return { lower, upper, unresolved, signed: name === OWN_GAIN };
    const others = measuresOf(run).filter(({ metric, measured }) => measured && metric !== name);
    const [unsure, { slight, broken }] = [doubtIn(run, flags, name, at), run.catalog.verdicts.doubts];
    const found = Array.from(flags, (flag, channel) => this.#worse(run, name, flag, channel, at) ?? wordWith(unsure(channel), judgementOf(run, flag, name)) ?? this.#other(run, others, flag, channel, at));
    const words = found.map((word, channel) => word && { ...word, little: Math.abs(values[channel]) < high / LITTLE, idle: [slight, broken].includes(word.chance) });
    // A ratio of tiny numbers, or what a broken predictor does, has no colour.
    const coloured = values.map((value, channel) => (words[channel]?.idle ? 0 : (Number.isNaN(value) || words[channel]?.first) && words[channel]?.side ? (words[channel].side * high) / 2 : value));
    return { lower, upper, unresolved: unresolved.map((open, channel) => (open && !words[channel]?.first) || words[channel]?.idle), signed: true, words, coloured };
  }

  /** The verdict of value, where that is bad, on a channel that has another measure too: of worth, signals come `first`. */
  #worse(run, name, flag, channel, at) {
    const word = name !== "value" && measuresOf(run).some(({ metric, measured }) => metric === "value" && measured) ? judgementOf(run, flag, "value") : null;
    if (!(word?.side < 0) || flag & run.catalog.verdicts.doubts.slight_flag) return undefined;
    const by = word.beside ? OWN_GAIN : "value";
    return { ...word, first: true, beside: "value", told: () => `${run.info("channel", by).title} ${this.#number(run, by, channel, at)} ${word.one || word.name}` };
  }

  /** What another measure found of a channel at a step, beside those of the measure shown, as `told` where it is pointed at; undefined: nothing. */
  #other(run, measures, flag, channel, at) {
    const found = measures.map(({ metric, title }) => ({ metric, title, word: wordOf(run, flag, metric) })).find(({ word }) => word);
    if (!found) return undefined;
    const { metric, title, word } = found;
    const told = () => `none; ${title} ${this.#number(run, metric, channel, at)} ${word.name}`;
    return { name: "", side: 0, beside: metric, told }; // a picture is of one measure: it has no colour
  }

  /** A number of a channel at a step with its interval, and what each of several seeds finds by itself. */
  #number(run, metric, channel, step) {
    const { value, low, high, of } = run.numberAt(metric, channel, step);
    const seeds = run.agreement(metric, channel, of);
    return formatInterval(value, low, high) + (seeds && ` (seeds: ${seeds})`);
  }

  /** The verdicts on a run's channels at a step, as sums of bits; null: none. */
  #flags(run, step, key = VERDICTS) {
    const series = run.peek(...key);
    return series && valuesAt(series, step);
  }

  /** The step at which a measure was measured last by a step; 0: it was not. */
  #measuredAt(run, measure, step) {
    const series = run.peek("channel", run.boundsOf("channel", measure)[0]);
    return series?.steps[rowAt(series, step)] ?? 0;
  }

  /** The step that the page opens at: that of the newest results of the first run's measure; 0: the last. */
  get opens() {
    const [run] = this.runs;
    return (run && measuresOf(run).find(({ metric }) => metric === this.measure(run, Infinity))?.opens) || 0;
  }

  /** The step nearest to one at which the first run's lines have numbers; that one itself where they have some, or never any. */
  near(step) {
    const { values, series } = this.data(0, step, false).metric;
    if (!series || values?.some(Number.isFinite)) return step;
    return definedSteps(series).reduce((best, at) => (best === step || Math.abs(at - step) < Math.abs(best - step) ? at : best), step);
  }

  /**
   * The measure of worth that verdicts are of: the metric of the lines, or of those before, where it is one; else the one that most channels have; of these the first
   * that has a number at the step, or was chosen; else that was measured by the step; "": none.
   */
  measure(run, step = this.step) {
    const measured = measuresOf(run).filter((one) => one.measured).map(({ metric }) => metric);
    const known = [this.metric.channel, this.#worth, ...measured].filter((metric) => measured.includes(metric));
    const reached = known.filter((metric) => run.peek("channel", metric)?.steps[0] <= step);
    const defined = (metric) => metric === this.#wished.channel || (Number.isFinite(step) ? run.shownAt("channel", metric, step).values.some(Number.isFinite) : !run.isEmpty(metric));
    return reached.find(defined) ?? reached[0] ?? known[0] ?? "";
  }

  /** Whether something that a run's picture needs is still to come. */
  #loads(run) {
    return this.needed(run).some((names) => !run.peek(...names));
  }

  /** What holds of the runs shown by their signals, by their settings, and of fast predictors by the median cosine too; what is not of both of two with the run's name, and its command in full. */
  #common(step) {
    const known = this.shown().map((run) => ({ run, first: [], common: [], if_poor: [], ...run.catalog.verdicts }));
    const told = known.map(({ run, first, common, if_poor, if_poor_flag: bit }) => [...first, ...this.#lost(run, step, [0]), ...common, ...(this.#flags(run, step, REASONS)?.some((flag) => flag & bit) ? if_poor : []), ...this.#lost(run, step, [1])]);
    const shared = told[0]?.filter((line) => told.every((lines) => lines.includes(line))) ?? [];
    const own = told.map((lines, side) => lines.filter((line) => !shared.includes(line)).map((line) => line.replaceAll("evaluate --links as_run", known[side].as_run || "$&")));
    return [...shared, ...own.flatMap(([line, ...more], side) => (line ? [`${this.shown()[side].name}: ${line}`, ...more] : []))];
  }

  /** That the signals of a run do not (0), or may not (1), as is asked for, follow the returned gradients at a step, with their medians; none: they do, or it is not known. */
  #lost(run, step, asked = [0, 1]) {
    const numbers = this.#flags(run, step, LOST_SIGNALS) ?? [];
    const [cosine, r2] = [0, 3].map((at) => formatInterval(...numbers.slice(at, at + 3)));
    return !asked.includes(numbers[6]) ? [] : [run.catalog.verdicts.lost[numbers[6]].replace("{cosine}", cosine).replace("{r2}", r2)];
  }

  /** How many channels of a side's run have each verdict at a step; null: no run. */
  verdicts(side, step) {
    const run = this.runs[side];
    if (!run) return null;
    const { measures = [], words = [], causes = [], few = "", by, takes, no_fork: noFork, quick_by: quick, quick_takes: quickly, short, one: [one = "", oneTakes] = [] } = run.catalog.verdicts ?? {};
    const [common, { as_run }] = [this.#common(step), run.catalog.verdicts ?? {}];
    if (this.#loads(run)) return { loading: run.name, common, as_run };
    const measure = this.measure(run, step);
    const flags = this.#flags(run, step) ?? new Float32Array(run.channels.length);
    const known = words.filter((word) => verdictBit(word, measure) && (!word.beside || word.beside === measure));
    const found = known.map((word) => {
      const bit = verdictBit(word, measure);
      const older = word.name === "against" ? this.#older(run, step) : "";
      const found = [...run.channels.keys()].filter((channel) => flags[channel] & bit);
      if (word.name === "against") found.splice(0, found.length, ...this.#againstFirst(run, step));
      const names = found.map((channel) => run.nameOf("channel", channel));
      const { texts = [], of = [] } = causes.find(({ alone, also }) => alone && also.includes(word.name)) ?? {};
      return { ...word, fix: found.length ? texts[of[found[0]] ?? 0]?.[1] ?? "" : "", older, count: names.length, names: names.slice(0, NAMED) };
    });
    const suspect = found.find(({ name }) => name === "against")?.names[0] ?? run.nameOf("channel", 0);
    const missing = run.channels.flatMap(({ name }, channel) => this.#missing(run, channel, flags[channel], step).map((why) => ({ name, why })));
    const { at, first } = this.#measurement(run, step);
    const together = this.#together(run, step, measure);
    const every = measure || run.metrics("run").includes("value") ? 0 : run.graph.values_every ?? 0;
    const due = every <= (this.steps([run]).at(-1) ?? 0);
    const sure = found.some(({ name, flags: { [measure]: bit }, count }) => bit && name !== "unresolved" && count);
    const finding = measures.find(({ metric, says, shown }) => says && (metric === measure ? !sure && shown !== at : metric === "value"));
    return { name: run.name, common, as_run, few, measure, measures, links: this.#undefined(run, measure, at).links, measuring: run.catalog.measuring, says: run.info("channel", measure).says, by, takes, noFork, quick, quickly, short, single: [suspect, oneTakes, one.replace("{channel}", () => suspect)], words: found, total: run.channels.length, missing, together, at, early: at ? 0 : first, finding, harmed: this.#harmed(run, finding ?? { metric: measure, shown: at }), step, every, due };
  }

  /** The channels that a measure found bad at a step, with their words, the worst first. */
  #harmed(run, { metric, shown }) {
    const [flags, values] = [VERDICTS, ["channel", metric]].map((key) => run.peek(...key)).map((series) => (series && valuesAt(series, shown)) ?? []);
    const unsure = doubtIn(run, flags, metric, shown);
    const found = [...values.keys()].map((channel) => ({ name: run.nameOf("channel", channel), word: wordWith(unsure(channel), judgementOf(run, flags[channel], metric)), value: values[channel] }));
    return found.filter(({ word }) => word?.side < 0).sort((one, other) => Boolean(one.word.chance) - Boolean(other.word.chance) || Boolean(one.word.beside) - Boolean(other.word.beside) || one.value - other.value);
  }

  /** The value of all channels together, or why it has none; "": it was not measured; beside another measure, what is resolved alone. */
  #together(run, step, measure) {
    const { value, low, high, of } = run.numberAt("value", 0, step, "run");
    const other = measure && measure !== "value";
    if (Number.isFinite(value)) return other && low <= 0 && high >= 0 ? "" : formatInterval(value, low, high) + ofStep(of, step);
    const why = this.#undefined(run, "value", this.#measuredAt(run, "value", step)).reasons?.["all channels"];
    return why && !(other && !/^\w+ than none/.test(why)) ? `undefined: ${why}` : "";
  }

  /** What is said of channels without a result of a measure of worth at a step at which it was measured: `reasons` by name. */
  #undefined(run, metric, at) {
    const measure = measuresOf(run).find((one) => one.metric === metric);
    return [measure, ...(measure?.earlier ?? [])].find((one) => one?.step === at) ?? {};
  }

  /** Say which measure of signals that point against the gradient is of an earlier step; "": none. */
  #older(run, step) {
    const found = run.catalog.verdicts.signals.map(({ metric }) => ({ metric, series: run.peek("channel", metric) })).filter(({ series }) => series && rowAt(series, step) >= 0);
    const old = found.map((one) => ({ ...one, of: one.series.steps[rowAt(one.series, step)] })).filter(({ of, series }) => of !== step && valuesAt(series, step).some((value) => value < 0));
    return old.map(({ metric, of }) => `${run.info("channel", metric).title}${ofStep(of, step)}`).join(", ");
  }

  /** Of the measure of worth: the step `at` which it was measured last by a step, and `first` at all; 0: none. */
  #measurement(run, step) {
    const measure = this.measure(run, step);
    const series = run.peek("channel", run.boundsOf("channel", measure)[0]);
    return { at: this.#measuredAt(run, measure, step), first: series?.steps[0] ?? 0 };
  }

  /** Why a channel has no verdict of worth, as a list of one; an empty list: it has one, or nothing is measured. */
  #missing(run, channel, flags, step) {
    const measure = measuresOf(run).find(({ metric }) => metric === this.measure(run, step));
    if (!measure || wordOf(run, flags, measure.metric)) return [];
    const { at, first } = this.#measurement(run, step);
    if (!at && first) return [`it was measured at step ${formatStep(first)}`];
    return [this.#undefined(run, measure.metric, at).reasons?.[run.nameOf("channel", channel)] ?? "not measured, or undefined"];
  }

  /** The verdicts of worth on a channel: of each measure that of the step, else of the step that it `shown` first; that of the page first. */
  #worths(run, channel, step) {
    const [own, at] = [this.measure(run, step), (measure) => this.#measuredAt(run, measure, step)];
    const measured = measuresOf(run).filter((one) => one.measured).sort((one, other) => (other.metric === own) - (one.metric === own));
    return measured.flatMap((measure) => [at(measure.metric), measure.shown].map((of) => ({ ...measure, of, word: of && this.#judged(run, measure.metric, channel, of) })).filter(({ word }) => word).slice(0, 1));
  }

  /** The verdict of a measure on a channel at a step, with its doubt. */
  #judged(run, metric, channel, step) {
    const flags = this.#flags(run, step);
    return flags && wordWith(doubtIn(run, flags, metric, step)(channel), wordOf(run, flags[channel], metric));
  }

  /**
   * Say why a channel is as it is at a step: its verdicts, {name, text, says}; of the first the `lead`, its word and evidence, and of how many such verdicts `chance` is enough; what may be the
   * `cause`, {says, fix}, if it is bad; `rows` of what was measured, its number and meaning; why it has no result (`none`); `more`: sentences
   * on its other verdicts, and on what its metrics mean together; `again`: the command that tells more; `compared`: with another.
   */
  verdictsOn(run, channel, step, compared = false) {
    const { words = [], remarks = [] } = run.catalog.verdicts ?? {};
    const [flags, measure] = [this.#flags(run, step)?.[channel] ?? 0, this.measure(run, step)];
    const { title, again, instead, cost, step: newest } = measuresOf(run).find(({ metric }) => metric === measure) ?? {};
    const { at } = this.#measurement(run, step);
    const value = (metric, of = step) => this.#number(run, metric, channel, of);
    const worths = this.#worths(run, channel, step);
    const now = worths.filter(({ metric, of }) => of === this.#measuredAt(run, metric, step));
    const others = words.filter((word) => word.flags[""] & flags);
    const verdicts = [
      ...worths.map((one) => ({ ...one.word, text: `${one.subject} ${one.subject === "signal" ? one.word.one || one.word.name : one.word.counted}${one.word.chance && one.subject !== "signal" ? `, ${one.word.chance}` : ""}${now.includes(one) ? "" : ` at step ${formatStep(one.of)}`}` })),
      ...others.map((word) => ({ ...word, text: word.one || word.name })),
    ];
    const over = (metric, of) => [this.#undefined(run, metric, of).links].filter(Boolean).map((links) => ` over ${links}`).join("");
    const evidence = [
      ...worths.map(({ metric, title: by, word, of }) => [by, value(metric, of) + ofStep(of, step), word.name + over(metric, of) + (word.chance ? `, ${word.chance}` : "")]),
      ...others.filter(({ beside }) => beside).map((word) => wordWith(doubtIn(run, this.#flags(run, step), "value", step)(channel), word)).map(({ one }) => [run.info("channel", OWN_GAIN).title, value(OWN_GAIN) + ofStep(run.numberAt(OWN_GAIN, channel, step).of, step), one]),
    ];
    const reasons = this.#flags(run, step, REASONS)?.[channel] ?? 0;
    const [none, best] = GAIN.map((metric) => run.numberAt(metric, channel, step).value);
    const names = [...now.map(({ word }) => word), ...others].map(({ name }) => name);
    const bad = BAD.find(([name]) => (name !== "worse" || best < none) && names.includes(name))?.[1] ?? "";
    const { causes: [cause, ...causes], rows, more, ask, command } = diagnosisOf(run, channel, step, evidence.length > 0, bad, names, reasons, compared);
    const told = others.filter(({ beside }) => !beside).map(({ name, one, says }) => [name === "against" ? this.#against(run, channel, step) : says, "", one || name]);
    const said = remarks.filter(({ flag, beside }) => reasons & flag && ![cause, ...causes].some((one) => one?.flag === flag) && (!beside.length || (beside.includes(measure) && now.some(({ metric, word }) => metric === measure && word.side > 0))));
    const [lead, ...rest] = evidence.length ? evidence : told.splice(0, 1);
    const found = now.find(({ word }) => word.name !== "unresolved");
    const judged = found ? Array.from(this.#flags(run, step), (flag) => wordOf(run, flag, found.metric)).filter(Boolean).length : 0;
    const chance = judged >= 20 ? `; expect ${chanceOf(judged / 20)} of ${judged} by chance` : "";
    const sentences = [
      ...causes.map(({ says, fix }) => `${capital(says)}${fix && `; try ${fix}`}.`),
      ...told.map(([says, , name]) => `${capital(name)}: ${says}`), ...said.map(({ says }) => filled(run, channel, step, says)), ...more,
    ];
    const missing = this.#missing(run, channel, flags, step).map((why) => {
      const [reason, own] = reasonOf(why.replace(/(?<=[ [(])-(?=\d)/g, "−"));
      if (own) sentences.unshift(`${capital(own)}.`);
      return `No ${title} at this step${at && at !== step ? ` (measured at step ${formatStep(at)})` : ""}: ${reason}.`;
    });
    const late = missing.length > 0 && at > 0;
    const last = at === newest; // advice is of the newest measurement
    const next = !last && late ? [] : late && instead ? [`${capital(instead)}.`] : late && cost ? [`To measure again takes ${cost}:`] : ask && !late ? [ask] : [];
    return { verdicts, lead, chance, cause, rows: [...rest, ...rows], more: sentences, none: [...missing, ...next], again: late ? last && again : ask && command };
  }

  /** The measures of a channel's signal that are below 0. */
  #below(run, channel, step) {
    return run.catalog.verdicts.signals.map(({ metric }) => ({ title: run.info("channel", metric).title, ...run.numberAt(metric, channel, step) })).filter(({ high }) => high < 0);
  }

  /** The channels whose signals point against the gradient at a step, the lowest first. */
  #againstFirst(run, step) {
    const lowest = new Map(brokenOf(run, this.#flags(run, step) ?? [], ["against"]).map(([channel]) => [channel, Math.min(...this.#below(run, channel, step).map(({ value }) => value))]));
    return [...lowest.keys()].sort((one, other) => lowest.get(one) - lowest.get(other));
  }

  /** Say which they are, with their numbers. */
  #against(run, channel, step) {
    return this.#below(run, channel, step).map(({ title, value, low, high, ...from }) => `${title} ${formatInterval(value, low, high)}${sourceOf(run, from, step)}`).join("; ");
  }

  /** The verdicts that the filter asks for. */
  get askedVerdicts() {
    return this.#tests.filter((test) => test.on === "verdict").map((test) => test.value);
  }

  /** The chosen item of a side as {kind, index, both}, or null; both: its number and that of the one beside it. */
  chosen(side) {
    const run = this.runs[side];
    if (!run || !this.selection) return null;
    const { kind, name, beside } = this.selection;
    const [index, other] = [run.find(kind, name), run.find(kind, beside)];
    return index < 0 ? null : { kind, index, both: other < 0 ? [index] : [index, other] };
  }

  /** Choose an item, or nothing; `also`: beside the one chosen before, if it is of that kind. */
  select(kind, name, also = false) {
    const before = this.selection;
    if (also && before?.kind === kind && before.name !== name) this.selection = { ...before, beside: name };
    else this.selection = kind ? { kind, name, beside: "" } : null;
  }

  /** The item after the chosen one, of those found. */
  next(kind, by) {
    const run = this.runs[0];
    if (!run) return "";
    const masks = this.masks(0);
    const left = [...run[`${kind}s`].keys()].filter((index) => !masks || masks[kind][index]);
    if (!left.length) return "";
    const chosen = this.chosen(0);
    const at = chosen && chosen.kind === kind ? left.indexOf(chosen.index) : by > 0 ? -1 : 0;
    return run.nameOf(kind, left[(at + by + left.length) % left.length]);
  }

  /** The first that is found, as {kind, name}: of what was asked for, else agents first, names that begin with it first; null: none. */
  firstFound() {
    const [run] = this.runs;
    const masks = run && this.masks(0);
    if (!masks) return null;
    const asked = this.#tests.find((test) => test.on === "name")?.value ?? "";
    const of = this.#tests.map((test) => this.#valuesOf(run, test, this.step)?.kind ?? test.on);
    const channels = of.includes("channel") && !of.includes("agent");
    for (const kind of channels ? ["channel", "agent"] : ["agent", "channel"]) {
      const names = run[`${kind}s`].map(({ name }) => name).filter((_, index) => masks[kind][index]);
      const name = names.find((one) => one.toLowerCase().startsWith(asked)) ?? names[0];
      if (name !== undefined) return { kind, name };
    }
    return null;
  }

  get filtering() {
    return this.#tests.length > 0;
  }

  /** What is asked in the words of the page, as the filter takes it: metrics by their titles, verdicts and couplings without their field. */
  #inNames(text) {
    const [run] = this.runs;
    if (!run) return text;
    const of = (kind) => [this.metric[kind], ...run.metrics(kind)].map((metric) => [run.info(kind, metric).title, metric]);
    const full = [...of("channel"), ...of("agent")];
    const titles = [...full, ...full.map(([title, metric]) => [title.replace(/ \(.*\)$/, ""), metric])];
    titles.sort(([one], [other]) => other.length - one.length);
    const replaced = (found, [title, metric]) => found.replace(new RegExp(`(^|\\s)"?${title.replace(/[^\w\s]/g, "\\$&")}"?\\s*([:=<>]=?)\\s*`, "gi"), `$1${metric}$2`);
    const words = (run.catalog.verdicts?.words ?? []).flatMap(({ name, counted, one }) => [name, counted, one].filter(Boolean).map((word) => [word, `verdict:${name}`]));
    const fields = new Map([...words, ...run.channels.map(({ coupling }) => [coupling, `coupling:${coupling}`])]);
    const named = (word) => run.agents.some(({ name }) => name.toLowerCase().includes(word));
    const asked = (word) => (named(word.toLowerCase()) ? word : fields.get(word.toLowerCase()) ?? word);
    const whole = words.filter(([word]) => word.includes(" ")).reduce((found, [word, verdict]) => found.replace(new RegExp(`(^|\\s)${word}(?=\\s|$)`, "gi"), `$1${verdict}`), text);
    return titles.reduce(replaced, whole).split(" ").map(asked).join(" ");
  }

  setFilter(text) {
    const { tests, error } = parseFilter(this.#inNames(text));
    this.#tests = tests;
    this.filterError = error;
    this.forget();
  }

  /** Metrics a filter asks for by name that are still to be fetched. */
  asked(run) {
    const kinds = ["channel", "agent"];
    const named = this.#tests.filter((test) => test.on === "metric").flatMap((test) => kinds.map((kind) => [kind, test.key]));
    return named.filter(([kind, metric]) => run.metrics(kind).includes(metric) && !run.peek(kind, metric));
  }

  /** Forget what was found: what is asked, the metrics or the runs are others now. */
  forget() {
    this.#masks = [null, null];
  }

  /** Forget it where it depends on the step. */
  moved() {
    if (filterMoves(this.#tests)) this.forget();
  }

  /** What is found of a side's run: {agent, channel, error}; null where nothing is asked. */
  masks(side, step = this.step) {
    const run = this.runs[side];
    this.step = step;
    if (!run || !this.filtering) return null;
    this.#masks[side] ??= maskOf(run, this.#tests, (test) => this.#valuesOf(run, test, step));
    return this.#masks[side];
  }

  #valuesOf(run, { on, key, value }, step) {
    if (on === "verdict") {
      const word = run.catalog.verdicts?.words.find(({ name, counted }) => name === value || counted === value);
      const others = measuresOf(run).filter(({ measured }) => measured).map(({ metric }) => metric);
      const bit = word ? [this.measure(run, step), ...others].map((measure) => verdictBit(word, measure)).find(Boolean) ?? 0 : 0;
      return bit ? { kind: "channel", values: this.#flags(run, step), bit } : null;
    }
    const wanted = { metric: ["channel", this.metric.channel], ring: ["agent", this.metric.agent] }[key];
    const found = wanted ?? ["channel", "agent"].map((kind) => [kind, key]).find(([kind, metric]) => run.metrics(kind).includes(metric));
    if (!found) return null;
    return { kind: found[0], values: run.shownAt(...found, step)?.values ?? null };
  }
}
