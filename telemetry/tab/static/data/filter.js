// What is found: agents and channels by parts of what they are called or are, or by a metric: "n0", "decoupled", "helps", "cosine<0".

import { valuesAt } from "./source.js";

const OPERATORS = {
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
};

/** Read what is asked for: words that all must hold. */
export function parseFilter(text) {
  return text.split(/\s+/).filter(Boolean).map((word) => {
    const [, metric, operator, number] = /^([\w.]+)([<>])(-?[\d.]+(?:e-?\d+)?)$/.exec(word) ?? [];
    return metric ? { metric, operator, number: Number(number) } : { text: word.toLowerCase() };
  });
}

/** Find what is left of a run at a step, 1 by agent and by channel. A word that is of channels alone leaves the agents at their ends, one of agents alone the channels that they send or receive on. */
export function maskOf(run, tests, step, textsOf) {
  const masks = { agent: new Uint8Array(run.agents.length).fill(1), channel: new Uint8Array(run.channels.length).fill(1) };
  for (const test of tests) {
    const found = Object.fromEntries(Object.keys(masks).map((kind) => [kind, passes(run, kind, test, step, textsOf)]));
    const [agents, channels] = ["agent", "channel"].map((kind) => found[kind].includes(1));
    if (channels && !agents) run.channels.forEach(({ from, to }, channel) => found.channel[channel] && (found.agent[from] = found.agent[to] = 1));
    if (agents && !channels) run.channels.forEach(({ from, to }, channel) => (found.channel[channel] = found.agent[from] | found.agent[to]));
    for (const kind in masks) masks[kind].forEach((_, item) => (masks[kind][item] &= found[kind][item]));
  }
  return masks;
}

/** Which items pass a test, by its metric or by one of their texts. */
function passes(run, kind, { metric, operator, number, text }, step, textsOf) {
  const items = Uint8Array.from(run[`${kind}s`], () => 0);
  if (!metric) return items.map((_, item) => Number(textsOf(kind, item).some((one) => one.toLowerCase().includes(text))));
  const series = run.peek(kind, metric);
  const values = series && valuesAt(series, step);
  return values ? items.map((_, item) => Number(OPERATORS[operator](values[item], Math.fround(number)))) : items;
}
