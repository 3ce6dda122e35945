// Why a channel is as it is: its worth, its learning signal, the way to a readout, how often messages arrive; and what may be wrong.

import { formatCount, formatInterval, formatNumber, formatStep, ofStep } from "../drawing/format.js";
import { columnOf } from "./source.js";

/** So few channels of a context tell nothing, and so much less of a learning rate is hardly any. */
const GROUPED = 3;
const HARDLY = 0.1;

/**
 * Say it for a step; nothing where neither the worth nor the signal is known.
 *
 * @param {string[]} worths what is known of the worth, e.g. "harms: value −0.8 [−1.1, −0.5]"
 * @param {string} bad "harms" or "off": its signal is; "": neither
 * @returns {{sentences: string[], ask: string}} sentences: why, and of one that is bad what may be the cause; ask: what the
 *   command that measures the value tells of a bad signal, where it was not measured
 */
export function diagnosisOf(run, channel, step, worths, bad) {
  const { size } = run.channels[channel];
  const known = (run.catalog.verdicts?.signals ?? []).map((signal) => ({ ...signal, ...run.numberAt(signal.metric, channel, step) })).filter(({ value }) => !Number.isNaN(value));
  if (!worths.length && !known.length) return { sentences: [], ask: "" };
  const way = [wayOf(run, channel), arrivalOf(run, channel)].filter(Boolean).join("; ");
  const clauses = [conclusionOf(run, channel, step), ...signalOf(run, known, step)].filter(Boolean).map(capital);
  const sentences = [...[...worths, ...clauses, way].filter(Boolean).map((clause) => `${clause}.`), ...(size === 1 ? known.map(({ single }) => single).filter(Boolean) : [])];
  const along = known[0]?.low > 0 && known[0].value >= known[0].grades.at(-1)[0];
  const joined = bad === "harms" && along ? `That it harms although its ${run.info("channel", known[0].metric).title} is ${formatNumber(known[0].value)} is no contradiction: its size and its noise count too.` : "";
  const causes = bad ? causesOf(run, channel, step, known[0]) : [];
  if (joined) sentences.push(joined);
  if (bad) sentences.push(...(causes.length ? causes.map((cause) => `Possible cause: ${cause}.`) : ["Nothing that was measured names a cause."]));
  const unmeasured = bad && !run.catalog.verdicts.no_fork && !run.metrics("channel").includes("cosine_ceiling");
  return { sentences, ask: unmeasured ? `How well its gradient can be predicted at all (cosine ceiling)${worths.length ? "" : ", and what its signal is worth,"} is measured, of the run's newest checkpoint, by:` : "" };
}

/** The same with a capital letter. */
export function capital(text) {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

/** What the true cosine and its ceiling say of the predictor, by the rule of the server's `conclusion`; "": they were not measured. */
function conclusionOf(run, channel, step) {
  const found = Object.fromEntries(["true_cosine", "cosine_ceiling"].map((metric) => [metric, run.numberAt(metric, channel, step)]));
  const [own, most] = [found.true_cosine.value, found.cosine_ceiling.value];
  const { conclusions, thresholds } = run.catalog.verdicts;
  if (Number.isNaN(own + most)) return "";
  const says = conclusions[most < thresholds.follows ? "lacking" : own >= thresholds.share * most ? "learned" : "unlearned"];
  return says.replace(/\{(\w+)\}/g, (_, metric) => formatNumber(found[metric].value) + ofStep(found[metric].of, step));
}

/** What may be wrong with a signal, and what to try: only what intervals, or channels that do better, tell; `signal`: what is known of it first. */
function causesOf(run, channel, step, signal) {
  const follows = signal?.grades.at(-1)[0] ?? 0;
  const [{ value: cosine }, { value: found }, { value: ratio, low, high, ...ratios }] = ["cosine", "true_cosine", "norm_ratio"].map((metric) => run.numberAt(metric, channel, step));
  const scale = Number(/\bscale (\S+?)(?:,|$)/.exec(run.channels[channel].about?.gradient)?.[1] ?? 1);
  const rates = columnOf(run.peek("channel", "sg_learning_rate") ?? { steps: [] }, channel).filter(Number.isFinite);
  return [
    found >= follows && cosine < follows && `single batches mislead: over many batches its cosine with the true gradient is ${formatNumber(found)} (true cosine)`,
    contextOf(run, channel, step, signal?.metric),
    rates.at(-1) < HARDLY * rates[0] && `its predictor's learning rate has fallen to ${formatNumber((100 * rates.at(-1)) / rates[0])} % of its first`,
    ratio * scale > 2 && low * scale > 1 && `it is ${formatInterval(ratio, low, high)} times as large as the returned gradient${sourceOf(ratios, step)} (try gradient.scale: ${formatNumber(Number((1 / ratio).toPrecision(1)))})`,
  ].filter(Boolean);
}

/** That another context may be better: where channels that have it, as far from a readout, do better by more than chance in this run; else "". */
function contextOf(run, channel, step, metric) {
  const { hops, quantiles } = run.catalog.verdicts;
  const given = (other) => /\bgiven (.*)/.exec(run.channels[other].about.gradient)?.[1] ?? "no context";
  const alike = [...run.channels.keys()].filter((other) => hops[run.channels[other].to] === hops[run.channels[channel].to] && run.channels[other].about?.gradient);
  if (!metric || !alike.includes(channel)) return "";
  const of = (context) => {
    const found = alike.filter((other) => given(other) === context).map((other) => run.numberAt(metric, other, step).value).filter(Number.isFinite);
    const mean = found.reduce((sum, value) => sum + value, 0) / found.length;
    return { context, count: found.length, mean, variance: found.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (found.length - 1) / found.length };
  };
  const mine = of(given(channel));
  const apart = (few, { mean, variance }) => few >= GROUPED && mean - mine.mean > quantiles[Math.min(few - 2, quantiles.length - 1)] * Math.sqrt(variance + mine.variance);
  const better = [...new Set(alike.map(given))].map(of).filter((other) => apart(Math.min(other.count, mine.count), other));
  return better.map(({ context, count, mean }) => `its predictor is given ${mine.context}, and the ${count} that are given ${context} have a ${run.info("channel", metric).title} of ${formatNumber(mean)}, those like it of ${formatNumber(mine.mean)} (gradient.context)`)[0];
}

/** The median of all channels' numbers. */
function medianOf(run, metric, step) {
  const sorted = Float32Array.from(run.channels, (_, channel) => run.numberAt(metric, channel, step).value).filter(Number.isFinite).sort();
  return sorted[sorted.length >> 1];
}

/** Say of how many entries a number is the mean, and of which step, where it is not the one shown; "": of one of this step. */
export function sourceOf({ count, of }, shown) {
  return count > 1 ? `, mean of the last ${count} entries${of === shown ? "" : ` until step ${formatStep(of)}`}` : ofStep(of, shown);
}

/** What the measure that says most says, with its number; and the numbers of others. */
function signalOf(run, known, step) {
  if (!known.length) return [];
  const [{ grades, unclear, value, low: least, high: most }] = known;
  const [, graded] = grades.findLast(([from]) => value >= from) ?? grades[0];
  const says = least > 0 || most < 0 ? graded : unclear;
  const numbers = known.map(({ metric, value: own, low, high, ...from }) => `${run.info("channel", metric).title} ${formatInterval(own, low, high)}${sourceOf(from, step)}, median ${formatNumber(medianOf(run, metric, step))}`);
  return [`${says} (${numbers[0]})`, ...numbers.slice(1)];
}

function wayOf(run, channel) {
  const { from, to } = run.channels[channel];
  const { hops = [] } = run.catalog.verdicts;
  const [sender, receiver] = [from, to].map((agent) => run.agents[agent].name);
  if (from === to || !hops.some((far) => far !== null)) return "";
  if (hops[to] === 0) return `${receiver} is a readout`;
  if (hops[to] === null) return `no path leads from ${receiver} to a readout`;
  const far = `${formatCount(hops[to], "channel")} from a readout`;
  const back = run.outgoing(to).every((next) => [from, to].includes(run.channels[next].to));
  return back ? `${receiver}, ${far}, sends only back to ${sender}` : `${receiver} is ${far}`;
}

function arrivalOf(run, channel) {
  const { from, drop } = run.channels[channel];
  const { period } = run.agents[from];
  return `a message every ${period === 1 ? "step" : `${period} steps`}${drop > 0 ? `, ${formatNumber(100 * drop)} % are lost` : ""}`;
}
