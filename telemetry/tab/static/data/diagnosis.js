// Why a channel is as it is, in one sentence: its worth, its learning signal, the way to a readout, and how often messages arrive.

import { formatCount, formatNumber } from "../drawing/format.js";
import { valuesAt } from "./source.js";

/**
 * Say it for a step; "" where neither the worth nor the signal is known.
 *
 * @param {Run} run
 * @param {number} channel
 * @param {number} step
 * @param {string} worth what is known of the worth, e.g. "harms: value −0.8 [−1.1, −0.5]"; "": nothing
 * @returns {string[]} the sentence, and another one where messages have one component
 */
export function diagnosisOf(run, channel, step, worth) {
  const { size } = run.channels[channel];
  const known = (run.catalog.verdicts?.signals ?? []).map((signal) => ({ ...signal, ...numberOf(run, signal.metric, channel, step) })).filter(({ value }) => !Number.isNaN(value));
  if (!worth && !known.length) return [];
  const clauses = [worth, signalOf(run, known), wayOf(run, channel), arrivalOf(run, channel)].filter(Boolean);
  const [first, ...rest] = clauses.join("; ");
  return [`${worth ? first : first.toUpperCase()}${rest.join("")}.`, ...(size === 1 ? known.map(({ single }) => single) : [])].filter(Boolean);
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
