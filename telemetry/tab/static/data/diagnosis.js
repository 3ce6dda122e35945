// Why a channel is as it is: its worth, its learning signal, the way to a readout, how often messages arrive; and what may be wrong.

import { formatCount, formatInterval, formatNumber, formatStep, ofStep } from "../drawing/format.js";
import { columnOf } from "./source.js";

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
 * @param {boolean} bad whether its signal is off, or the channel harms
 * @returns {{sentences: string[], ask: string}} sentences: why, and of one that is bad what may be the cause; ask: what the
 *   command that measures the value tells of a bad signal, where it was not measured
 */
export function diagnosisOf(run, channel, step, worth, bad) {
  const { size } = run.channels[channel];
  const known = (run.catalog.verdicts?.signals ?? []).map((signal) => ({ ...signal, ...run.numberAt(signal.metric, channel, step) })).filter(({ value }) => !Number.isNaN(value));
  if (!worth && !known.length) return { sentences: [], ask: "" };
  const clauses = [worth, conclusionOf(run, channel, step), signalOf(run, known, step), wayOf(run, channel), arrivalOf(run, channel)].filter(Boolean);
  const said = clauses.join("; ");
  const sentences = [`${worth ? said : capital(said)}.`, ...(size === 1 ? known.map(({ single }) => single).filter(Boolean) : [])];
  const causes = bad ? causesOf(run, channel, step, known[0]?.grades.at(-1)[0] ?? 0) : [];
  if (bad) sentences.push(`Possible causes: ${causes.join("; ") || "what the log has names none"}.`);
  const unmeasured = bad && !run.catalog.verdicts.no_fork && !run.metrics("channel").includes("cosine_ceiling");
  return { sentences, ask: unmeasured ? `How well its gradient can be predicted at all (cosine ceiling)${worth ? "" : ", and what its signal is worth,"} is measured by:` : "" };
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

/** What may be wrong with a signal, and what to try: only what the run itself tells; `follows`: the cosine from which it is none. */
function causesOf(run, channel, step, follows) {
  const { about = {} } = run.channels[channel];
  const column = (metric) => columnOf(run.peek("channel", metric) ?? { steps: [] }, channel).filter(Number.isFinite);
  const [{ value: cosine }, { value: found }, { value: ceiling }, { value: ratio, ...ratios }] = ["cosine", "true_cosine", "cosine_ceiling", "norm_ratio"].map((metric) => run.numberAt(metric, channel, step));
  const given = ({ about: { gradient = "" } = {} }) => /\bgiven (.*)/.exec(gradient)?.[1] ?? "";
  const more = run.channels.filter((other) => given(other) && given(other) !== given(run.channels[channel]));
  const [{ length: values }, rates] = [column("cosine"), column("sg_learning_rate")];
  return [
    found >= follows && cosine < follows && `single batches mislead: over many batches its cosine with the true gradient is ${formatNumber(found)} (true cosine)`,
    Number.isNaN(ceiling) && about.gradient && !/\bgiven /.test(about.gradient) && "its predictor sees the message alone, no context (gradient.context)",
    Number.isNaN(ceiling) && given(run.channels[channel]) && more.length && `its predictor is given ${given(run.channels[channel])} alone; ${formatCount(more.length, "other")} are given ${[...new Set(more.map(given))].join(" or ")} (gradient.context)`,
    values > 0 && values < SELDOM && `seldom measured: ${formatCount(values, "cosine")} so far (telemetry.period)`,
    rates.at(-1) < HARDLY * rates[0] && `its predictor's learning rate has fallen to ${formatNumber((100 * rates.at(-1)) / rates[0])} % of its first`,
    ratio > 2 && `it is ${formatNumber(ratio)} times as large as the returned gradient${sourceOf(ratios, step)} (gradient.scale)`,
  ].filter(Boolean);
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

/** What the measure that says most says, with the numbers of all. */
function signalOf(run, known, step) {
  if (!known.length) return "";
  const [{ grades, unclear, value, low: least, high: most }] = known;
  const [, graded] = grades.findLast(([from]) => value >= from) ?? grades[0];
  const says = least > 0 || most < 0 ? graded : unclear;
  const numbers = known.map(({ metric, value: own, low, high, ...from }) => `${run.info("channel", metric).title} ${formatInterval(own, low, high)}${sourceOf(from, step)}, median ${formatNumber(medianOf(run, metric, step))}`);
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
