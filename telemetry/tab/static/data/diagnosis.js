// Why a channel is as it is: its worth, its learning signal, the way to a readout, how often messages arrive; and what may be wrong.

import { formatCount, formatNumber } from "../drawing/format.js";
import { columnOf, itemAt, valuesAt } from "./source.js";

/** So few values of a measure are seldom, and so much less of a learning rate is hardly any. */
const SELDOM = 5;
const HARDLY = 0.1;

/**
 * Say it for a step; nothing where neither the worth nor the signal is known.
 *
 * @param {Run} run
 * @param {number} channel
 * @param {number} step
 * @param {string} worth what is known of the worth, e.g. "harms: value −0.8 [−1.1, −0.5]"; "": nothing
 * @returns {{sentences: string[], ask: string}} sentences: why, and of a signal that is bad what may be the cause; ask: what the
 *   command that measures the value tells of a bad signal, where it was not measured
 */
export function diagnosisOf(run, channel, step, worth) {
  const { size } = run.channels[channel];
  const known = (run.catalog.verdicts?.signals ?? []).map((signal) => ({ ...signal, ...numberOf(run, signal.metric, channel, step) })).filter(({ value }) => !Number.isNaN(value));
  if (!worth && !known.length) return { sentences: [], ask: "" };
  const clauses = [worth, signalOf(run, known), wayOf(run, channel), arrivalOf(run, channel)].filter(Boolean);
  const [first, ...rest] = clauses.join("; ");
  const sentences = [`${worth ? first : first.toUpperCase()}${rest.join("")}.`, ...(size === 1 ? known.map(({ single }) => single).filter(Boolean) : [])];
  const bad = known.some(({ value, grades }) => value < grades.at(-1)[0]);
  const causes = bad ? causesOf(run, channel, step, known[0].grades.at(-1)[0]) : [];
  if (causes.length) sentences.push(`Possible causes: ${causes.join("; ")}.`);
  const unmeasured = bad && !run.catalog.verdicts.no_fork && !run.metrics("channel").includes("cosine_ceiling");
  return { sentences, ask: unmeasured ? "How well its gradient can be predicted at all (cosine ceiling), and what its signal is worth, is measured by:" : "" };
}

/** What may be wrong with a signal, and what to try: only what the run itself tells; `follows`: the cosine from which it is none. */
function causesOf(run, channel, step, follows) {
  const { size, about = {} } = run.channels[channel];
  const { batch } = run.graph;
  const number = (metric) => itemAt(run.peek("channel", metric), step, channel);
  const column = (metric) => columnOf(run.peek("channel", metric) ?? { steps: [] }, channel).filter(Number.isFinite);
  const [cosine, found, ceiling, ratio] = ["cosine", "true_cosine", "cosine_ceiling", "norm_ratio"].map(number);
  const chance = batch ? 2 / Math.sqrt(batch * size) : 0;
  const [{ length: values }, rates] = [column("cosine"), column("sg_learning_rate")];
  return [
    found >= follows && cosine < follows && `one batch misleads: over many batches its cosine with the true gradient is ${formatNumber(found)} (true cosine)`,
    ceiling < follows && `even the best linear prediction reaches a cosine of ${formatNumber(ceiling)} only: its predictor lacks context (gradient.context)`,
    ceiling >= follows && found < ceiling / 2 && `a linear prediction from the same message and context could reach a cosine of ${formatNumber(ceiling)}, and it reaches ${formatNumber(found)}: its predictor has not learned enough (its learning rate, more steps)`,
    Number.isNaN(ceiling) && about.gradient && !/\bgiven /.test(about.gradient) && "its predictor sees the message alone, no context (gradient.context)",
    Math.abs(cosine) < chance && `few samples: of ${batch} messages of ${size} components a cosine within ±${formatNumber(chance)} may be chance`,
    values > 0 && values < SELDOM && `seldom measured: ${formatCount(values, "cosine")} so far (telemetry.period)`,
    rates.at(-1) < HARDLY * rates[0] && `its predictor's learning rate has fallen to ${formatNumber((100 * rates.at(-1)) / rates[0])} % of its first`,
    ratio > 2 && `it is ${formatNumber(ratio)} times as large as the returned gradient (gradient.scale)`,
  ].filter(Boolean);
}

/** A channel's number, and the median of all channels'. */
function numberOf(run, metric, channel, step) {
  const series = run.peek("channel", metric);
  const values = (series && valuesAt(series, step)) ?? [];
  const sorted = Float32Array.from(values).filter(Number.isFinite).sort();
  return { value: values[channel] ?? NaN, median: sorted[sorted.length >> 1] };
}

/** What the measure that says most says, with the numbers of all. */
function signalOf(run, known) {
  if (!known.length) return "";
  const [{ grades, value }] = known;
  const [, says] = grades.findLast(([from]) => value >= from) ?? grades[0];
  const numbers = known.map(({ metric, value: own, median }) => `${run.info("channel", metric).title} ${formatNumber(own)}, median ${formatNumber(median)}`);
  return `${says} (${numbers.join("; ")})`;
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
