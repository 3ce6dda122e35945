// What is shown: metrics of one or two runs on one scale, at one step.

import { LEVELS, levelColour, levelOf, rangeFor, warped } from "../drawing/colours.js";
import { endsOf, formatInterval, formatNumber, formatResult, formatStep } from "../drawing/format.js";
import { columnOf, extremesOf, itemAt, rowAt, valuesAt } from "./source.js";

const FIRST_CHOICE = {
  // After what a channel is worth: what its signal does, which can be compared, before what it carries: normalised ports hold the energy of messages at 1.
  channel: ["cosine", "injection_norm", "message_std", "message_energy"],
  agent: ["loss"],
};

/** The metric that the widths of lines show. */
export const ENERGY = "message_energy";

/** Return the metric shown first: the most telling one that all runs have logged, else the first run, of measures of worth one that was ever defined, of several seeds of each of them; "" where nothing was. */
export function defaultMetric(runs, kind) {
  const logged = runs[0].metrics(kind);
  const shared = logged.filter((metric) => runs.every((run) => run.metrics(kind).includes(metric)));
  const worth = kind === "channel" ? measuresOf(runs[0]).filter(({ metric, measured }) => measured && runs.some((run) => !run.isEmpty(metric))).map(({ metric }) => metric) : [];
  // A measurement of a few of the seeds does not hide what is known of all.
  const whole = worth.filter((metric) => runs.every((run) => !(Math.max(...run.shownAt("channel", metric, Infinity)?.counts ?? [Infinity]) < run.seeds.length)));
  return [...whole, FIRST_CHOICE[kind][0], ...worth, ...FIRST_CHOICE[kind]].find((metric) => shared.includes(metric)) ?? shared[0] ?? logged[0] ?? "";
}

/**
 * Return the headline of a run: the first of its scores that has a number at or before the step, if there is one in all `runs` that are shown.
 * @returns {Object|null} scenario, seeds (names), title, share (whether it is one), the names of the `readouts` that it is the mean of (none: all agents), steps and
 *   values of the curve, value, half its interval, low and high at the step, the step `of` it, of a run that loses messages what it is `over` and that over its `own` links, and of a later test the `final` one; null: no run
 */
export function headlineAt(run, step, runs = [run]) {
  if (!run) return null;
  const readouts = run.agents.filter(({ role }) => role === "readout").map(({ name }) => name);
  const found = { scenario: run.graph.scenario ?? "", seeds: run.seeds, readouts, agents: run.agents.length, title: "", share: false, steps: [], values: [], value: NaN };
  const there = run.metrics("headline").filter((one) => run.peek("headline", one) && !one.endsWith("_as_run"));
  const reached = (of, one) => of.peek("headline", one)?.steps[0] <= step;
  const metric = there.find((one) => runs.every((of) => reached(of, one))) ?? there.find((one) => reached(run, one)) ?? there.at(-1);
  if (!metric) return found;
  const series = run.peek("headline", metric);
  const curve = { steps: Array.from(series.steps), values: Array.from(columnOf(series, 0)) };
  const over = /^(test|validation)_/.test(metric) && run.channels.some(({ drop }) => drop > 0) ? ", over perfect links" : "";
  const score = scoreOf(run, metric, step);
  const own = over ? scoreOf(run, metric, step, "_as_run") : {};
  const last = there.find((one) => one.startsWith("test_") && !reached(run, one));
  // Of another step, or of fewer seeds, it would not be the same runs.
  return { ...found, ...curve, over, ...score, own: own.of === score.of && own.count === score.count ? own : null, final: last && scoreOf(run, last, Infinity) };
}

/** A score of a run at a step. */
function scoreOf(run, metric, step, ending = "") {
  const info = run.info("agent", metric);
  const series = run.peek("headline", metric + ending);
  const [value, half, count] = [0, 1, 2].map((part) => itemAt(series, step, part));
  const [low, high] = endsOf(info, value, half);
  return { title: info.title, good: info.good, share: info.scale === "share", value, half, low, high, count, of: series?.steps[rowAt(series, step)] };
}

/** Return the scores by which two runs are compared, and over which links: each over its own where a run loses messages and both are known so. */
export function comparedScores(runs, step) {
  const scores = runs.map((run) => headlineAt(run, step, runs));
  const own = scores.map((one) => (one?.over ? one.own && { ...one, ...one.own } : one));
  if (!scores.some((one) => one?.over)) return [...scores, ""];
  return own.every(Boolean) ? [...own, ", each over its own links"] : [...scores, ", over perfect links, without what lost messages cost"];
}

/** Say how far the headlines of two runs are apart at a step, of seeds with an interval, unless they are of steps that differ; "": they have none alike. */
export function scoresApart(runs, step) {
  const [one, other, over] = comparedScores(runs, step);
  if (!one.title || one.title !== other.title) return "";
  const both = `${one.title}${over}: ${formatResult(one)} | ${formatResult(other)}`;
  if (one.of !== other.of) return `${both} at step ${formatStep(one.of)} | ${formatStep(other.of)}: the steps differ, so this is no effect of the settings; compare at step ${formatStep(Math.min(one.of, other.of))}.`;
  const [value, half] = [one.value - other.value, Math.hypot(one.half, other.half)];
  const unknown = Number.isNaN(half) ? " (single runs: no interval)" : "";
  return `${both}, difference ${formatResult({ ...one, value, low: value - half, high: value + half }).replace(" %", " points")}${unknown}.`;
}

/** Return which of two runs, 0 or 1, has the better headline at a step; -1: neither, or they have different ones, or of different steps. */
export function aheadOf(runs, step) {
  const [one, other] = comparedScores(runs, step);
  const by = one?.title === other?.title && one?.of === other?.of && one?.good ? badnessOf(one, other.value) - badnessOf(one, one.value) : 0;
  return by > 0 ? 0 : by < 0 ? 1 : -1;
}

/** Say that what is shown of their channels does not rank two runs, where that with the worse score looks better: by its median, by counts of verdicts; "": it does not. */
export function looksMislead(runs, data, step) {
  const ahead = aheadOf(runs, step);
  const { title, good } = data[0].metric.info;
  const looks = data.map(({ metric: { info, name, words = [] } }, side) => ({ median: good ? -badnessOf(info, medianOf(runs[side], name, step)) : 0, sound: words.filter((word) => word?.side > 0).length }));
  const better = (by) => ahead >= 0 && looks[1 - ahead][by] > looks[ahead][by];
  const median = better("median") ? `The run with the worse score looks better by its median ${title}: scores rank runs, ${title} does not. ` : "";
  return median + (better("sound") ? "The run with the worse score has more channels that help or matter: scores rank runs, counts of verdicts do not." : "");
}

/** Say how many verdicts are expected by chance. */
export function chanceOf(expected) {
  return expected < 1 ? "under 1" : `about ${Math.round(expected)}`;
}

/** In so many ways a setting of channels is told. */
const WAYS = 3;

/** Say in which settings two runs differ, how most channels and agents of the same name do (count; 0: the run; and their names), and in how many other ways: [{name, first, second, count, names, more}]. */
export function settingsApart([run, other]) {
  const found = new Map();
  const compare = (first, second, item) => {
    for (const name of Object.keys({ ...first, ...second }).filter((key) => first[key] !== second[key])) {
      const key = JSON.stringify([name, first[name], second[name]]);
      const names = [...(found.get(key)?.names ?? []), ...item];
      found.set(key, { name, first: first[name] ?? "none", second: second[name] ?? "none", count: names.length, names });
    }
  };
  for (const kind of ["channel", "agent"]) {
    for (const item of run[`${kind}s`]) {
      const same = other[`${kind}s`][other.find(kind, item.name)];
      const settings = ({ coupling, about }) => ({ ...(coupling && { coupling }), ...about });
      if (same) compare(settings(item), settings(same), [item.name]);
    }
  }
  const whole = ({ graph }) => ({ ...(graph.scenario && { scenario: graph.scenario }), ...graph.settings });
  compare(whole(run), whole(other), []);
  const every = [...found.values()].sort((one, other) => other.count - one.count);
  const alike = ({ name }, others) => others.filter((one) => one.name === name).length;
  const named = every.filter((one, at) => alike(one, every.slice(0, at)) < WAYS).map((one, at, shown) => ({ ...one, more: alike(one, shown.slice(0, at)) ? 0 : alike(one, every) - alike(one, shown) }));
  return named.reduce((told, one) => (one.count ? [...told, one] : withoutRepeats(told, one)), []);
}

/** Add a setting of the run: one that another has in its words, or a parameter as its number, is left out, one with the same numbers stands beside its name. */
function withoutRepeats(told, one) {
  const ends = ["first", "second"];
  const alike = told.find((other) => !other.count && ends.every((end) => other[end] === one[end] || Number(other[end]) === Number(one[end])));
  // A parameter of the template stands for the setting that has its number.
  if (alike?.name.includes(".")) alike.name += `, ${one.name}`;
  const said = told.some((other) => ends.some((end) => other[end].split(", ").includes(`${one.name} ${one[end]}`)));
  return alike || said ? told : [...told, one];
}

/**
 * Return the `metric` in which most channels of two runs differ, of none that has intervals the one `shown`, and what it `says`;
 * `rows`: of each channel its name, how far it is apart (`by`), whether by numbers with intervals (`bounded`) that do not overlap (`apart`), and both numbers as text; those of steps that differ are left out.
 */
export function apartIn(runs, step, shown) {
  const rowsOf = (metric) => runs[0].channels.map(({ name }) => {
    const [one, other] = runs.map((run) => run.numberAt(metric, run.find("channel", name), step));
    return { name, alike: one.of === other.of, by: one.value - other.value, bounded: Number.isFinite(one.low + other.low), apart: one.low > other.high || other.low > one.high, text: `${formatNumber(one.value)} | ${formatNumber(other.value)}` };
  }).filter(({ alike }) => alike);
  const count = (rows, key) => rows.filter((row) => row[key]).length;
  const known = (runs[0].catalog.verdicts?.signals ?? []).concat(measuresOf(runs[0]));
  const found = known.map(({ metric }) => ({ metric, rows: rowsOf(metric) })).filter(({ rows }) => count(rows, "bounded"));
  // What all channels differ in a little may be beyond the interval of none.
  const medians = found.map(({ metric }) => `${runs[0].info("channel", metric).title} ${runs.map((run) => formatNumber(medianOf(run, metric, step))).join(" | ")}`).join(", ");
  const [most] = found.sort((one, other) => count(other.rows, "apart") - count(one.rows, "apart"));
  if (!most || !count(most.rows, "apart")) return { metric: shown, rows: rowsOf(shown), says: most ? `No channel differs beyond the intervals in value, ablation or cosine. Medians: ${medians}.` : "" };
  return { ...most, says: `Channels differ most in ${runs[0].info("channel", most.metric).title}: ${count(most.rows, "apart")} of ${count(most.rows, "bounded")} beyond the intervals (below). Medians: ${medians}.` };
}

/** The number below which a share of sorted ones lie, between two in proportion: the median of an even count is the mean of its middle two. */
export function quantileOf(sorted, share) {
  const place = share * (sorted.length - 1);
  const below = sorted[Math.floor(place)];
  return below + (place % 1) * (sorted[Math.ceil(place)] - below);
}

/** The median of all channels' numbers as they are shown. */
export function medianOf(run, metric, step) {
  return quantileOf(Float32Array.from(run.channels, (_, channel) => run.numberAt(metric, channel, step).value).filter(Number.isFinite).sort(), 0.5);
}

/** Return the measures of worth of a run's channels: {metric, title, bounds, measured, step, reasons, again}, that of most channels first. */
export function measuresOf(run) {
  return run.catalog.verdicts?.measures ?? [];
}

/** Return a number of a metric (`metricAt`) with its interval and verdict, where it has them: "0.9 [0.7, 1.1] helps"; of several seeds how many find it by themselves. */
export function resultText({ run, info, name, at, values, lower, upper, counts, halves, words }, index) {
  const { name: verdict, beside, one, told, chance } = words?.[index] ?? {};
  if (beside) return told?.() ?? one;
  const value = values?.[index] ?? NaN;
  const half = halves?.[index] ?? NaN;
  const text = formatInterval(value, ...(lower ? [lower[index], upper[index]] : endsOf(info, value, half)));
  const [mean, seeds] = counts && !Number.isNaN(value) ? [run.meanOf(counts[index]), run.agreement(name, index, at)] : ["", ""];
  return text + (verdict ? ` ${chance ? one : verdict}` : "") + (mean && `, ${mean}`) + (seeds && ` (${seeds})`);
}

/** Whether a verdict is that messages mislead (1; by `little`: 2); it has a colour of its own, as a loss by ablation near 0 would be grey. */
export function misleads(word) {
  return word?.name === "misleads" && !word.chance ? 1 + Boolean(word.little) : 0;
}

/** Return why a measure's verdict on a channel is doubted, "": it is not. Of a signal its predictor is broken, or its gain tiny; else no more lie on that side of 0 than by chance, or no seed finds it by itself. */
export function doubtIn(run, flags, measure, step) {
  const { chance: { most, unfound }, doubts } = run.catalog.verdicts;
  const words = Array.from(flags, (flag) => wordOf(run, flag, measure));
  const few = [-1, 1].filter((side) => words.filter((word) => word?.side === side).length <= most[words.filter(Boolean).length]);
  const broken = new Map(brokenOf(run, flags));
  return (channel) => {
    const side = judgementOf(run, flags[channel], measure)?.side;
    const ofValue = side && measure === "value";
    if (ofValue && side > 0 && broken.has(channel)) return doubts.broken;
    if (ofValue && flags[channel] & doubts.slight_flag) return doubts.slight;
    return words[channel]?.side && (few.includes(side) || new RegExp(unfound).test(run.agreement(measure, channel, step))) ? doubts.chance : "";
  };
}

/** Return a channel's word where it has one, with its doubt as `chance`. */
export function wordWith(chance, word) {
  return word && chance ? { ...word, one: `${word.one || word.name}, ${chance}`, chance } : word;
}

/** Return the channels with one of some verdicts by their flags, each with its word. */
export function brokenOf(run, flags, names = ["broken"]) {
  const words = run.catalog.verdicts?.words.filter(({ name }) => names.includes(name)) ?? [];
  return words.flatMap(({ one, flags: { "": bit } }) => [...flags.keys()].filter((channel) => flags[channel] & bit).map((channel) => [channel, one]));
}

/** Return the channels that are at fault by their settings, or by their flags broken, each with what it is in a few words; none where most are: that is said of the run. */
export function faultsOf(run, flags) {
  const { culprits = [] } = run.catalog.verdicts ?? {};
  const broken = brokenOf(run, flags, ["broken", "misguessed"]);
  const found = new Map([...broken, ...culprits]);
  return new Map([...culprits, ...broken].filter(() => 2 * found.size < run.channels.length).map(([channel]) => [channel, found.get(channel)]));
}

/** Return which of the colours of its scale an item's number of a metric (`metricAt`) is shown in, without a number that of a fault; -1: it has none. */
export function shownLevel({ scale, low, high, values, coloured = values, words, faults }, index) {
  if (faults?.has(index) && Number.isNaN(coloured?.[index] ?? NaN)) return LEVELS;
  return misleads(words?.[index]) ? LEVELS - 1 + misleads(words[index]) : levelOf(scale, coloured?.[index] ?? NaN, low, high);
}

/** Return that colour. */
export function shownColour(metric, index, theme) {
  return levelColour(metric.scale, shownLevel(metric, index), theme);
}

/** Return how bad a number of a metric is, from good to bad; of a metric without a direction from high to low. */
export function badnessOf({ good }, value) {
  if (good === "one") return Math.abs(Math.log(Math.max(value, 0)));
  return good === "low" ? value : -value;
}

/** Return the verdict of a measure of worth among flags; undefined: they have none. */
export function wordOf(run, flags, measure) {
  return run.catalog.verdicts?.words.find((word) => word.flags[measure] & flags);
}

/** Return the same, of a channel without one the verdict that stands beside those of the measure: by own gain. */
export function judgementOf(run, flags, measure) {
  return wordOf(run, flags, measure) ?? run.catalog.verdicts?.words.find((word) => word.beside === measure && word.flags[""] & flags);
}

/** Return the bit of a verdict: of a measure of worth ("": none is measured), or of one that needs none; 0: not given. */
export function verdictBit({ flags }, measure) {
  return flags[""] ?? flags[measure] ?? 0;
}

/** Return the metrics of the runs shown, sorted by title, with the number of runs that have them. */
export function metricsOf(runs, kind) {
  const titles = new Map();
  for (const run of runs) {
    for (const metric of run.metrics(kind)) if (!titles.has(metric)) titles.set(metric, run.info(kind, metric).title);
  }
  if (kind === "channel") for (const run of runs) for (const bound of run.ends) titles.delete(bound);
  return [...titles].map(([metric, title]) => ({ metric, title })).sort((a, b) => a.title.localeCompare(b.title));
}

/** Return all steps at which one of the metrics was logged in one of the runs, ascending. */
export function stepsOf(runs, metrics) {
  const found = runs.flatMap((run) => metrics.flatMap(([kind, metric]) => [...(run.peek(kind, metric)?.steps ?? [])]));
  return Float64Array.from(new Set(found)).sort();
}

/** Return a metric of a run at a step as the views take it; the numbers of all `runs` that are shown set the scale. */
export function metricAt(run, runs, kind, metric, step) {
  const info = run.info(kind, metric);
  const base = info.scale;
  const series = run.peek(kind, metric);
  const ends = scaleEnds(runs, kind, metric, base, info.limit);
  const bendable = base !== "share" && !(base === "diverging" && info.limit > 0) && ends.only === null;
  const spreads = bendable ? runs.map((one) => one.spread(kind, metric, ends.low, ends.high)) : [];
  const bent = spreads.some(({ crowded }) => crowded);
  const bend = Math.max(...spreads.map((spread) => spread.bend));
  const shown = run.shownAt(kind, metric, step);
  return { run, kind, name: metric, info, series, ...shown, scale: bent ? warped(base, bend) : base, ...ends };
}

/** The ends of a metric's scale over the runs shown, and whether there are numbers beyond them. */
function scaleEnds(runs, kind, metric, scale, limit) {
  const [min, max] = extremesOf(runs.flatMap((run) => run.extremes(kind, metric) ?? [])) ?? [Infinity, -Infinity];
  const [low, high] = rangeFor(scale, min, max, limit);
  return { low, high, below: min < low, above: max > high, only: min === max ? min : null };
}

/** Return the message energies of a run at a step, and the most of all runs shown; null where there are none. */
export function energyAt(run, runs, step) {
  const series = run.peek("channel", ENERGY);
  if (!series) return null;
  const high = Math.max(...runs.map((one) => one.extremes("channel", ENERGY)?.[1] ?? 0), 0);
  return { values: valuesAt(series, step), high };
}

/** Return the metrics of a run's parts that a view needs: whether they run, and in their own view all. */
export function partMetrics(run, view) {
  if (!run.parts) return [];
  return view === "parts" ? run.metrics("part") : ["alive", "heartbeat_age"];
}

/** Return the metrics of a run's parts at a step: value(metric, part), NaN where there is none; gone(part): it does not run; null: no parts. */
export function partsAt(run, step) {
  if (!run.parts) return null;
  const value = (metric, part) => itemAt(run.peek("part", metric), step, part);
  return { value, gone: (part) => value("alive", part) === 0 };
}
