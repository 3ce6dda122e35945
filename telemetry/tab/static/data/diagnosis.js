// Why a channel is as it is: hints at the cause where it is bad, its learning signal, the way to a readout, how often messages arrive.

import { formatInterval, formatNumber, formatStep, ofStep } from "../drawing/format.js";
import { medianOf } from "./shown.js";

/**
 * Say it for a step, in the order of importance; nothing where neither the worth (`judged`) nor the signal is known.
 * @param {string} bad "it harms", or another clause that asks for the cause; "": none does; `names`: its verdicts; `reasons`: its flags of the server's `causes`
 * @returns {Object} causes: what may be the cause and what to try, the best hint first, {flag, says, fix}, the last one not if `compared`; rows: measure, number, meaning; more: sentences; ask: what the `command` tells that measures its value
 */
export function diagnosisOf(run, channel, step, judged, bad, names, reasons, compared) {
  const { name, size } = run.channels[channel];
  const { signals = [], causes = [], no_fork: noFork, one: [command, cost] = [] } = run.catalog.verdicts ?? {};
  const known = signals.map((signal) => ({ ...signal, ...run.numberAt(signal.metric, channel, step) })).filter(({ value }) => !Number.isNaN(value));
  const [sent, ...arrival] = arrivalOf(run, channel);
  const arrivals = arrival.length ? [["messages", arrival.join(", "), sent]] : [];
  const way = wayOf(run, channel);
  const asked = causes.filter(({ flag, also, always, alone, texts, of }) => ((bad && !alone) || always || also.some((name) => names.includes(name))) && (!flag || reasons & flag) && texts[of[channel] ?? 0]);
  if (bad && (compared || asked.length > 1)) asked.pop(); // the last one stands where there is no other
  const told = asked.map(({ flag, texts, of }) => {
    const [says, fix] = texts[of[channel] ?? 0].map((clause) => filled(run, channel, step, clause));
    return { flag, says, fix };
  }).filter(({ says }, at, all) => all.findIndex((one) => one.says === says) === at);
  if (!judged && !known.length) return { causes: told, rows: arrivals, more: [], ask: "" };
  const rows = known.map((signal) => signalOf(run, signal, step));
  const [reached, ceiling] = ["true_cosine", "cosine_ceiling"].map((metric) => run.numberAt(metric, channel, step));
  if (reached.value + ceiling.value) rows.push([run.info("channel", "true_cosine").title, formatNumber(reached.value) + ofStep(reached.of, step), `at best ${formatNumber(ceiling.value)} from its message and context`]);
  rows.push(...arrivals);
  const more = [`${[way, arrival.length ? "" : way ? sent : capital(sent)].filter(Boolean).join("; ")}.`].filter((clause) => clause.length > 1);
  if (size === 1) more.push(...known.map(({ single }) => single).filter(Boolean));
  const along = known[0]?.low > 0 && known[0].value >= known[0].grades.at(-2)[0];
  if (bad && judged && along) more.push(`That ${bad} although its ${run.info("channel", known[0].metric).title} is ${formatNumber(known[0].value)} is no contradiction: its size and its noise count too.`);
  const unmeasured = bad && !noFork && !run.metrics("channel").includes("cosine_ceiling");
  return { causes: told, rows, more, command: command?.replace("{channel}", () => name), ask: unmeasured ? `Next: measure how well its gradient can be predicted at all${judged ? "" : ", and what its signal is worth"}, in at least ${cost}:` : "" };
}

/** Where a number stands in a sentence of the server's. */
export const PLACE = /\{(1\/)?(\w+)( median)?\}/g;

/** Put numbers of a channel at a step into a sentence: "{metric}", that of the median channel "{metric median}", its inverse "{1/metric}". */
export function filled(run, channel, step, says) {
  const number = (metric) => run.numberAt(metric, channel, step);
  const text = ({ value, low, high, of }) => formatInterval(value, low, high) + ofStep(of, step);
  const inverse = (metric) => formatNumber(Number((1 / number(metric).value).toPrecision(1)));
  return says.replace("evaluate --links as_run", () => run.catalog.verdicts?.as_run || "evaluate --links as_run").replace(PLACE, (_, over, name, median) => (over ? inverse(name) : median ? formatNumber(medianOf(run, name, step)) : text(number(name))));
}

/** Return the reason of a missing result, and what it says of one channel alone, in brackets at its end. */
export function reasonOf(why) {
  return /^(.*?)(?: \(([^()]*)\))?$/s.exec(why).slice(1);
}

/** The same with a capital letter. */
export function capital(text) {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

/** Say of how many entries a number is the mean, and of which step, where it is not the one shown; "": of one of this step. */
export function sourceOf(run, { count, of }, shown) {
  return run.meanOf(count) ? `, ${run.meanOf(count)}${of === shown ? "" : ` until step ${formatStep(of)}`}` : ofStep(of, shown);
}

/** A measure of a signal: its name, its number, and what that means. */
function signalOf(run, { metric, grades, unclear, value, low, high, ...from }, step) {
  const [, graded] = grades.findLast(([least]) => value >= least) ?? grades[0];
  const means = low > 0 || high < 0 ? graded : unclear;
  return [run.info("channel", metric).title, formatInterval(value, low, high) + sourceOf(run, from, step), `${means}; median of all channels ${formatNumber(medianOf(run, metric, step))}`];
}

/** Say where the receiver of a channel stands; "": nothing is to be said. */
export function wayOf(run, channel) {
  return run.catalog.verdicts?.ways[channel] ?? "";
}

/** Say how often messages are sent; then how many are lost, and how often they are read where that is at another rate. */
export function arrivalOf(run, channel) {
  const { from, to, drop } = run.channels[channel];
  const [sent, read] = [from, to].map((agent) => run.agents[agent].period).map((period) => (period === 1 ? "every step" : `every ${period} steps`));
  return [`a message ${sent}`, drop > 0 && `${formatNumber(100 * drop)} % are lost`, read !== sent && `read ${read}`].filter(Boolean);
}
