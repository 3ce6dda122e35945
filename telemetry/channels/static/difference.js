// The difference of two runs: the figures of the first minus those of the second, by the names of agents and channels.

import { rowAt, valuesAt } from "./source.js";
import { formatCount, titleOf } from "./format.js";

const differences = new WeakMap();

/**
 * Return the difference of a figure of two runs, in the order of the first one's items.
 *
 * At a step each run counts with its newest row; NaN where one of them has none, or no item of that name. Where both logged the
 * ends of an interval, the difference has one: that of two independent estimates, whose distances to their
 * ends add in squares (Zou and Donner, Statistics in Medicine 27, 2008). Runs that share their seeds are not independent; for them
 * the interval is, as a rule, too wide.
 *
 * @param {Run} run
 * @param {Run} other
 * @param {string} kind "agent" or "channel"
 * @param {string} metric
 * @param {string[]} bounds metrics of the ends of its interval, lower and upper; empty: it has none
 * @returns {{series: Object|null, low: Object|null, high: Object|null}} series as of Run.peek; low and high: none without intervals
 */
export function differenceOf(run, other, kind, metric, bounds = []) {
  const names = [metric, ...bounds];
  const [mine, theirs] = [run, other].map((one) => names.map((name) => one.peek(kind, name)));
  const [first, second] = [mine[0], theirs[0]];
  if (!first || !second) return { series: null, low: null, high: null };
  const [[, firstLow, firstHigh], [, secondLow, secondHigh]] = [mine, theirs];
  const sources = [first, firstLow, firstHigh, second, secondLow, secondHigh, run, other];
  const known = differences.get(first);
  if (known && known.sources.every((source, at) => source === sources[at])) return known;
  const partner = run[`${kind}s`].map(({ name }) => other.find(kind, name));
  const steps = Float64Array.from(new Set([...first.steps, ...second.steps]))
    .sort()
    .filter((step) => rowAt(first, step) >= 0 && rowAt(second, step) >= 0);
  const made = { sources, partner, series: differenceRows(steps, sources, partner, 0), low: null, high: null };
  if (sources.every(Boolean)) {
    made.low = differenceRows(steps, sources, partner, -1);
    made.high = differenceRows(steps, sources, partner, 1);
  }
  differences.set(first, made);
  return made;
}

/** What is known of the difference of a figure. */
export function differenceInfo(run, other, info, metric, low) {
  const title = titleOf(info, metric);
  const words = `${title[0].toUpperCase()}${title.slice(1)} of ${run.name} minus that of ${other.name}: orange is higher in the first.`;
  const interval = low
    ? "Its 95 % interval is that of two independent measurements; faint where it holds 0."
    : "One run each, without an interval: other seeds may give another sign.";
  return { ...info, title: `${title}, difference`, says: `${words} ${interval}`, scale: "diverging", limit: null };
}

/** A sentence on agents and channels that have no difference, since one of the runs lacks them; empty where there are none. */
export function differenceNote(run, other) {
  const lacking = (kind) => {
    const [ours, theirs] = [[run, other], [other, run]].map(([one, two]) => one[`${kind}s`].filter(({ name }) => two.find(kind, name) < 0).length);
    return ours + theirs ? formatCount(ours + theirs, kind) : "";
  };
  const found = ["agent", "channel"].map(lacking).filter(Boolean).join(" and ");
  return found && `${found} of only one of the runs: no difference.`;
}

/** Rows of the difference, or with a sign of the lower (-1) or upper (1) end of its interval. */
function differenceRows(steps, [first, firstLow, firstHigh, second, secondLow, secondHigh], partner, sign) {
  const { items } = first;
  const values = new Float32Array(steps.length * items).fill(NaN);
  const [firstEnd, secondEnd] = sign < 0 ? [firstLow, secondHigh] : [firstHigh, secondLow];
  steps.forEach((step, row) => {
    const [one, two] = [valuesAt(first, step), valuesAt(second, step)];
    const [oneEnd, twoEnd] = sign ? [valuesAt(firstEnd, step), valuesAt(secondEnd, step)] : [null, null];
    if (sign && !(oneEnd && twoEnd)) return;
    for (let item = 0; item < items; item++) {
      const place = partner[item];
      if (place < 0) continue;
      const away = sign ? sign * Math.hypot(one[item] - oneEnd[item], two[place] - twoEnd[place]) : 0;
      values[row * items + item] = one[item] - two[place] + away;
    }
  });
  return { steps, values, items };
}
