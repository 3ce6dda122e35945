// Why a channel is as it is: its worth, hints at the cause where it is bad, its learning signal, the way to a readout, how often messages arrive.

import { formatCount, formatInterval, formatNumber, formatStep, ofStep } from "../drawing/format.js";

/**
 * Say it for a step; nothing where neither the worth nor the signal is known.
 *
 * @param {string[]} worths what is known of the worth, e.g. "harms: value −0.8 [−1.1, −0.5]"
 * @param {string} bad "it harms", or another clause that asks for the cause; "": none does
 * @param {number} reasons its flags of the server's `causes`
 * @param {boolean} compared whether rows beside it tell in what it differs from another
 * @returns {{sentences: string[], ask: string}} sentences: its worth, of one that is bad what may be the cause, and why; ask: what the
 *   command that measures the value tells of a bad signal, where it was not measured
 */
export function diagnosisOf(run, channel, step, worths, bad, reasons, compared) {
  const { size } = run.channels[channel];
  const { signals = [], causes = [], conclusions = [], no_fork: noFork, cost } = run.catalog.verdicts ?? {};
  const known = signals.map((signal) => ({ ...signal, ...run.numberAt(signal.metric, channel, step) })).filter(({ value }) => !Number.isNaN(value));
  if (!worths.length && !known.length) return { sentences: [], ask: "" };
  const hints = bad ? causes.filter(({ flag }) => reasons & flag) : [];
  // A hint that has the number of a measure says what the measure's own sentence would.
  const untold = known.filter(({ metric }) => !hints.some(({ says }) => says.includes(`{${metric}}`)));
  const told = hints.map(({ says, of, texts }) => filled(run, channel, step, says, { text: texts[of[channel]], way: wayOf(run, channel) }));
  const way = [hints.some(({ says }) => says.includes("{way}")) ? "" : wayOf(run, channel), arrivalOf(run, channel)].filter(Boolean).join("; ");
  const concluded = conclusions.filter(({ flag }) => reasons & flag).map(({ says }) => filled(run, channel, step, says));
  const clauses = [...[...concluded, ...signalOf(run, untold, step)].map(capital), way].filter(Boolean);
  const nothing = bad && !compared && !hints.length ? ["No setting and no metric in which it differs from the other channels names a cause"] : [];
  const sentences = [...worths, ...told.map((cause, place) => `${place ? "Another hint" : "Best hint at the cause"}: ${cause}`), ...nothing, ...clauses].map((clause) => `${clause}.`);
  if (size === 1) sentences.push(...known.map(({ single }) => single).filter(Boolean));
  const along = known[0]?.low > 0 && known[0].value >= known[0].grades.at(-1)[0];
  if (bad && worths.length && along) sentences.push(`That ${bad} although its ${run.info("channel", known[0].metric).title} is ${formatNumber(known[0].value)} is no contradiction: its size and its noise count too.`);
  const unmeasured = bad && !noFork && !run.metrics("channel").includes("cosine_ceiling");
  return { sentences, ask: unmeasured ? `Next, how well its gradient can be predicted at all (cosine ceiling)${worths.length ? "" : ", and what its signal is worth,"} is measured, of the run's newest checkpoint, in roughly ${cost} by:` : "" };
}

/** Put numbers of a channel at a step into a sentence: "{metric}", that of the median channel "{metric median}", its inverse "{1/metric}"; and `texts`. */
export function filled(run, channel, step, says, texts = {}) {
  const number = (metric) => run.numberAt(metric, channel, step);
  const text = ({ value, low, high, of }) => formatInterval(value, low, high) + ofStep(of, step);
  const inverse = (metric) => formatNumber(Number((1 / number(metric).value).toPrecision(1)));
  return says.replace(/\{(1\/)?(\w+)( median)?\}/g, (_, over, name, median) => texts[name] ?? (over ? inverse(name) : median ? formatNumber(medianOf(run, name, step)) : text(number(name))));
}

/** The same with a capital letter. */
export function capital(text) {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
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

/** Say where the receiver of a channel stands; "": nothing is to be said. */
export function wayOf(run, channel) {
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

/** Say how often messages arrive. */
export function arrivalOf(run, channel) {
  const { from, drop } = run.channels[channel];
  const { period } = run.agents[from];
  return `a message every ${period === 1 ? "step" : `${period} steps`}${drop > 0 ? `, ${formatNumber(100 * drop)} % are lost` : ""}`;
}
